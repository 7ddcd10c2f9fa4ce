"""Sizes: rows and bytes as they are, and a growth that goes by the time that the rows are of."""

import pytest
from streaming import EXCHANGE, HOUR, MIDNIGHT, SECOND, SYMBOL, Span, Streaming

from market import DAY, Side, Trade
from market.timeframe import to_datetime
from storage import ledger
from storage.compression import compress_settled
from storage.database import Connection, connect
from storage.sizes import YEAR, TableSize, table_sizes
from storage.tables import metadata

DERIVED = ("trades", "candles", "cvd_snapshots")


def write(connection: Connection, begin: int, end: int) -> None:
    trades = [
        Trade(SYMBOL, moment, str(moment), 0, 100.0, 0.5, Side.BUY)
        for moment in range(begin, end, 60 * SECOND)
    ]
    Streaming().run([Span(trades, end)], []).write(connection)
    connection.commit()


def sizes_of(connection: Connection) -> dict[str, TableSize]:
    found = table_sizes(connection)
    assert [each.bytes for each in found] == sorted((each.bytes for each in found), reverse=True)
    sizes = {each.table: each for each in found}
    assert sizes.keys() == metadata.tables.keys()
    return sizes


def hypertable_size(connection: Connection, name: str) -> int:
    row = connection.execute("SELECT hypertable_size(%s::regclass)", [name]).fetchone()
    assert row is not None
    return int(row[0])


def test_an_empty_database_grows_by_nothing(connection: Connection) -> None:
    for size in sizes_of(connection).values():
        assert (size.rows, size.ratio, size.bytes_per_day) == (0, None, None)
        assert size.bytes_in_a_year == size.bytes


def test_growth_goes_by_the_time_that_is_covered(connection: Connection) -> None:
    write(connection, MIDNIGHT - 6 * HOUR, MIDNIGHT + DAY)
    sizes = sizes_of(connection)
    assert sizes["trades"].rows == 30 * 60
    for name in DERIVED:
        size = sizes[name]
        assert size.bytes == hypertable_size(connection, name) > 100_000
        assert size.ratio is None
        assert size.bytes_per_day == pytest.approx(size.bytes / 1.25, rel=0.15)
        assert size.bytes_in_a_year == size.bytes + YEAR * size.bytes_per_day
    covered = sizes["stream_coverage"]
    assert (covered.rows, covered.bytes_per_day) == (1, None)
    assert covered.bytes > 0

    # A second instrument of the same time makes no more time of it.
    ledger.add_coverage(
        connection, EXCHANGE, "ETH/USDT", "trades", MIDNIGHT, MIDNIGHT + DAY, None, None, "ids", "live", 0
    )
    assert sizes_of(connection)["trades"] == sizes["trades"]


def test_growth_is_that_of_the_newest_chunks(connection: Connection) -> None:
    write(connection, MIDNIGHT, MIDNIGHT + HOUR)
    early = sizes_of(connection)["trades"].bytes_per_day
    begin = MIDNIGHT + 30 * DAY
    trades = [Trade(SYMBOL, begin + n * SECOND, str(n), n, 1.0, 1.0, None) for n in range(3600)]
    Streaming().run([Span(trades, begin + HOUR)], []).write(connection)
    late = sizes_of(connection)["trades"].bytes_per_day
    assert early is not None
    assert late is not None
    assert late > 5 * early


def test_nothing_is_foretold_of_a_moment(connection: Connection) -> None:
    write(connection, MIDNIGHT, MIDNIGHT + HOUR // 2)
    size = sizes_of(connection)["trades"]
    assert size.rows == 30
    assert size.bytes_per_day is None
    assert size.bytes_in_a_year == size.bytes


def test_rows_without_coverage_are_of_their_own_time(connection: Connection) -> None:
    connection.execute(
        "INSERT INTO funding_rates (timestamp, exchange, symbol, rate)"
        " SELECT moment, 'binanceusdm', 'BTC/USDT:USDT', 0.0001"
        " FROM generate_series(%s::timestamptz, %s, '8 hours') AS moment",
        (to_datetime(MIDNIGHT), to_datetime(MIDNIGHT + 2 * DAY)),
    )
    size = sizes_of(connection)["funding_rates"]
    assert size.rows == 7
    assert size.bytes_per_day is not None
    assert 0 < size.bytes_per_day <= size.bytes / 2


def test_what_is_compressed_shrinks_the_growth(community_database: str) -> None:
    with connect(community_database) as connection:
        write(connection, MIDNIGHT, MIDNIGHT + DAY)
        plain = sizes_of(connection)
        connection.commit()
        assert compress_settled(community_database, MIDNIGHT + 60 * DAY)
        packed = sizes_of(connection)
    for name in DERIVED:
        before, after = plain[name], packed[name]
        assert before.bytes_per_day is not None
        assert after.bytes_per_day is not None
        assert after.ratio is not None
        assert after.ratio > 1.5
        assert after.bytes < before.bytes / 1.5
        assert after.bytes_per_day == pytest.approx(before.bytes_per_day / after.ratio, rel=0.01)
        assert after.rows == before.rows
