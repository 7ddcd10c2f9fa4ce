"""Compressing settled chunks; all but what the Apache edition says needs a server of the Community one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from streaming import EXCHANGE, HOUR, MIDNIGHT, MINUTE, SECOND, SYMBOL, Span, Streaming, random_book

from market import DAY, Instrument, Side, Trade, Unavailable
from storage import ledger, read, rebuild, repair, verify
from storage.amend import amend
from storage.chunks import unreclaimed
from storage.compression import compress_settled
from storage.coverage import Span as Covered
from storage.database import Connection, connect, edition
from storage.instruments import write_instruments

DAYS = 3
END = MIDNIGHT + DAYS * DAY
STEP = 30 * SECOND
NOW = MIDNIGHT + 60 * DAY
HOLE = MIDNIGHT + DAY + 5 * HOUR, MIDNIGHT + DAY + 6 * HOUR


def trade_at(moment: int) -> Trade:
    number = (moment - MIDNIGHT) // STEP + 1000
    side = Side.BUY if number % 3 else Side.SELL
    return Trade(SYMBOL, moment, str(number), number, 100 + number % 11 / 8, 0.125 * (1 + number % 7), side)


TRADES = [trade_at(moment) for moment in range(MIDNIGHT, END, STEP)]
MISSING = [trade for trade in TRADES if HOLE[0] <= trade.timestamp < HOLE[1]]


@pytest.fixture
def connection(community_database: str) -> Iterator[Connection]:
    with connect(community_database) as connection:
        instrument = Instrument(
            exchange=EXCHANGE,
            symbol=SYMBOL,
            exchange_symbol="BTCUSDT",
            base="BTC",
            quote="USDT",
            trade_ids_consecutive=True,
        )
        write_instruments(connection, [instrument])
        connection.commit()
        yield connection


def write(connection: Connection, trades: list[Trade]) -> None:
    """What a collector writes of these trades, and that it missed none."""
    random = Random(7)
    books = [random_book(random, moment) for moment in range(MIDNIGHT, END, 10 * MINUTE)]
    Streaming().run([Span(trades, END)], books).write(connection)
    connection.commit()


def frames(url: str) -> list[pl.DataFrame]:
    """Everything that people read of the tape."""
    found = [function(url, EXCHANGE, SYMBOL) for function in (read.trades, read.books, read.cvd)]
    return found + [read.candles(url, EXCHANGE, SYMBOL, timeframe) for timeframe in ("1m", "15m", "1d")]


def compressed(url: str) -> dict[str, int]:
    """How many chunks of each table are compressed now; every one that was due must be."""
    done = compress_settled(url, NOW)
    assert {each.outcome for each in done} <= {"compressed"}, done
    assert compress_settled(url, NOW) == []
    with connect(url) as connection:
        return dict(
            connection.execute(
                "SELECT hypertable_name, count(*) FROM timescaledb_information.chunks"
                " WHERE is_compressed GROUP BY 1"
            ).fetchall()
        )


def proofs(connection: Connection) -> list[verify.DayProof]:
    with verify.snapshot(connection, EXCHANGE, SYMBOL) as tape:
        return [tape.prove(day) for day in tape.days]


def assert_verified(connection: Connection) -> None:
    assert [proof for proof in proofs(connection) if not proof.ok] == []


def assert_same(before: list[pl.DataFrame], after: list[pl.DataFrame]) -> None:
    for old, new in zip(before, after, strict=True):
        assert len(old)
        assert_frame_equal(old, new)


def test_the_apache_edition_says_what_is_missing(database: str) -> None:
    with connect(database) as connection:
        if edition(connection) != "apache":
            pytest.skip("the tests' own server is not of the Apache edition")
    with pytest.raises(Unavailable, match=r"Apache edition.*docker compose up -d db"):
        compress_settled(database, NOW)


def test_settled_chunks_are_compressed_and_nothing_else_changes(
    connection: Connection, community_database: str
) -> None:
    write(connection, TRADES)
    before = frames(community_database)
    due = compress_settled(community_database, NOW, is_dry_run=True)
    assert {each.outcome for each in due} == {"due"}
    counts = compressed(community_database)
    assert counts["trades"] == DAYS
    assert set(counts) == {"trades", "orderbook_snapshots", "candles", "cvd_snapshots"}
    assert_verified(connection)
    assert_same(before, frames(community_database))
    rows = connection.execute("SELECT table_name, outcome, row_count FROM compressions").fetchall()
    assert {(table, outcome) for table, outcome, _ in rows} == {(table, "compressed") for table in counts}
    assert len(rows) == len(due)
    assert sum(count for table, _, count in rows if table == "trades") == len(TRADES)


def test_a_hole_in_a_compressed_day_is_found_and_healed(
    connection: Connection, community_database: str
) -> None:
    write(connection, [trade for trade in TRADES if trade not in MISSING])
    counts = compressed(community_database)
    (damaged,) = [proof for proof in proofs(connection) if not proof.ok]
    assert damaged.ids_missing == len(MISSING)
    assert repair.record_holes(connection, EXCHANGE, SYMBOL, damaged.missing_runs) == 1
    connection.commit()

    left = compress_settled(community_database, NOW)
    assert {each.outcome for each in left} == {"waiting"}
    assert {each.chunk.table for each in left} >= {"candles", "cvd_snapshots"}

    first, last = MISSING[0], MISSING[-1]
    span = Covered(HOLE[0] - STEP, HOLE[1], first.trade_id, last.trade_id, "rest", "healed", 0)
    assert amend(connection, EXCHANGE, SYMBOL, MISSING, None, [span], "healed") == len(MISSING)
    connection.commit()
    assert_verified(connection)
    healed = frames(community_database)
    assert list(healed[0]["trade_id"]) == [trade.trade_id for trade in TRADES]
    assert rebuild.differences(connection, EXCHANGE, SYMBOL, MIDNIGHT, END) == []
    connection.commit()

    assert compressed(community_database) == counts
    assert_same(healed, frames(community_database))
    assert_verified(connection)


def test_a_whole_day_is_rewritten_inside_its_chunk(connection: Connection, community_database: str) -> None:
    # More rows than TimescaleDB unpacks for one statement by itself, and each of them changes.
    connection.execute(
        """
        INSERT INTO trades (timestamp, exchange, symbol, trade_id, trade_seq, price, size, side, cvd_at_trade)
        SELECT to_timestamp(%s / 1e6) + n * '0.7 s'::interval, %s, %s, n::text, n, 100, 1, 'buy', n
        FROM generate_series(1, 110000) AS n
        """,
        (MIDNIGHT, EXCHANGE, SYMBOL),
    )
    ledger.add_coverage(
        connection, EXCHANGE, SYMBOL, "trades", MIDNIGHT, MIDNIGHT + DAY, "0", "110000", "ids", "live", 0
    )
    rebuild.rebuild(connection, EXCHANGE, SYMBOL, MIDNIGHT, MIDNIGHT + DAY, "repair")
    connection.commit()
    compressed(community_database)
    late = Trade(SYMBOL, MIDNIGHT, "0", 0, 100.0, 0.5, Side.BUY)
    assert amend(connection, EXCHANGE, SYMBOL, [late], None, [], "late_trade") == 1
    connection.commit()
    row = connection.execute("SELECT count(*), sum(cvd_at_trade - trade_seq) FROM trades").fetchone()
    assert row == (110_001, 110_001 * late.size)
    connection.commit()
    compressed(community_database)


def test_a_day_is_repaired_inside_its_chunk(connection: Connection, community_database: str) -> None:
    write(connection, TRADES)
    right = frames(community_database)
    compressed(community_database)
    connection.execute("UPDATE trades SET cvd_at_trade = 7 WHERE trade_seq % 100 = 0")
    connection.execute("UPDATE candles SET close = high WHERE interval = '5m'")
    connection.execute("DELETE FROM candles WHERE interval = '15m'")
    connection.execute("UPDATE cvd_snapshots SET cvd = 3 WHERE cvd > 2")
    connection.commit()
    for proof in proofs(connection):
        assert not proof.ok
        repair.recompute(connection, EXCHANGE, SYMBOL, proof.day)
    connection.commit()
    assert_verified(connection)
    assert_same(right[:3], frames(community_database)[:3])
    compressed(community_database)
    assert_verified(connection)


def test_a_chunk_with_an_open_hole_waits(connection: Connection, community_database: str) -> None:
    write(connection, TRADES)
    hole = (MIDNIGHT + DAY + HOUR, MIDNIGHT + DAY + 2 * HOUR)
    ledger.add_gap(
        connection, EXCHANGE, SYMBOL, "trades", *hole, cause="x", status="suspected", proof="connection"
    )
    connection.commit()
    found = {(each.chunk.table, each.chunk.begin): each for each in compress_settled(community_database, NOW)}
    assert found["trades", MIDNIGHT].outcome == "compressed"
    waiting = found["trades", MIDNIGHT + DAY]
    assert (waiting.outcome, waiting.bytes) == ("waiting", waiting.chunk.bytes)
    assert "1 open hole" in str(waiting.note)
    assert {each.outcome for (table, _), each in found.items() if table == "candles"} == {"waiting"}
    connection.execute("UPDATE stream_gaps SET status = 'unhealable'")
    connection.commit()
    compressed(community_database)


def test_young_chunks_are_left_alone(connection: Connection, community_database: str) -> None:
    write(connection, TRADES)
    end = MIDNIGHT + DAY
    assert compress_settled(community_database, end + 2 * DAY - 1, is_dry_run=True) == []
    (first,) = compress_settled(community_database, end + 2 * DAY, is_dry_run=True)
    assert (first.chunk.table, first.chunk.begin) == ("trades", MIDNIGHT)


# What a compression that is not faithful would do, by a function of its name that comes first.
FAULTS = {
    "1,440 of 2,880 rows": "DELETE FROM trades WHERE trade_seq % 2 = 0",
    "other values": "UPDATE trades SET size = size + 1e-12 WHERE trade_id = '1000'",
    "0 of 2,880 rows": "DELETE FROM trades",
}


@pytest.mark.parametrize("said", FAULTS)
def test_a_chunk_whose_rows_would_not_be_the_same_is_refused(
    connection: Connection, community_database: str, said: str
) -> None:
    write(connection, TRADES)
    before = frames(community_database)
    connection.execute("CREATE SCHEMA fault")
    connection.execute(f"""
        CREATE FUNCTION fault.compress_chunk(chunk regclass) RETURNS regclass LANGUAGE plpgsql AS $$
        BEGIN
            IF chunk::text ~ 'hyper_1_' THEN
                {FAULTS[said]};
            END IF;
            RETURN public.compress_chunk(chunk);
        END $$
    """)
    name = connection.info.dbname
    connection.execute(f"ALTER DATABASE {name} SET search_path = fault, public")
    connection.commit()
    done = compress_settled(community_database, NOW)
    refused = [each for each in done if each.chunk.table == "trades"]
    assert refused[0].outcome == "refused"
    assert f"{EXCHANGE} {SYMBOL} 2024-10-04 would have {said}" in str(refused[0].note)
    assert_same(before, frames(community_database))
    row = connection.execute(
        "SELECT outcome, note FROM compressions WHERE from_timestamp = to_timestamp(%s)", [MIDNIGHT / 1e6]
    ).fetchone()
    assert row == ("refused", refused[0].note)


def test_a_chunk_that_is_written_is_left_for_the_next_run(
    connection: Connection, community_database: str
) -> None:
    write(connection, TRADES)
    assert compress_settled(community_database, MIDNIGHT) == []
    connection.execute("DELETE FROM trades WHERE timestamp = to_timestamp(%s)", [MIDNIGHT / 1e6])
    done = {(each.chunk.table, each.chunk.begin): each for each in compress_settled(community_database, NOW)}
    assert done["trades", MIDNIGHT].outcome == "busy"
    assert done["trades", END - DAY].outcome == "compressed"
    connection.rollback()
    compressed(community_database)


def test_a_transaction_that_reads_a_chunk_sees_it_whole(
    connection: Connection, community_database: str
) -> None:
    write(connection, TRADES)
    assert compress_settled(community_database, MIDNIGHT) == []
    first = "SELECT count(*) FROM trades WHERE timestamp < to_timestamp(%s)"
    assert connection.execute(first, [(MIDNIGHT + DAY) / 1e6]).fetchone() == (len(TRADES) // DAYS,)
    done = {(each.chunk.table, each.chunk.begin): each for each in compress_settled(community_database, NOW)}
    assert done["trades", MIDNIGHT].outcome == "busy"
    assert done["trades", MIDNIGHT + DAY].outcome == "compressed"
    assert connection.execute("SELECT count(*) FROM trades").fetchone() == (len(TRADES),)
    connection.commit()
    compressed(community_database)


def test_a_tape_is_verified_while_compression_waits(connection: Connection, community_database: str) -> None:
    write(connection, TRADES)
    assert compress_settled(community_database, MIDNIGHT) == []
    with verify.snapshot(connection, EXCHANGE, SYMBOL) as tape:
        assert {each.outcome for each in compress_settled(community_database, NOW)} == {"busy"}
        assert all(tape.prove(day).ok for day in tape.days)
    compressed(community_database)


def test_room_is_given_back_once_nobody_could_see_the_rows(
    connection: Connection, community_database: str
) -> None:
    write(connection, TRADES)
    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    connection.execute("SELECT count(*) FROM instruments")
    assert {each.outcome for each in compress_settled(community_database, NOW)} == {"compressed"}
    connection.commit()
    assert len(unreclaimed(connection)) >= DAYS
    connection.commit()
    assert compress_settled(community_database, NOW) == []
    assert unreclaimed(connection) == []
    assert connection.execute("SELECT count(*) FROM trades").fetchone() == (len(TRADES),)


def test_what_is_healed_meanwhile_is_not_lost(connection: Connection, community_database: str) -> None:
    write(connection, TRADES)
    late = [
        Trade(SYMBOL, trade.timestamp + SECOND, f"x{n}", n, 100.0, 1.0, None)
        for n, trade in enumerate(MISSING)
    ]
    connection.execute("UPDATE instruments SET trade_ids_consecutive = false")
    connection.commit()
    with ThreadPoolExecutor(1) as pool:
        compressing = pool.submit(compress_settled, community_database, NOW)
        for begin in range(0, len(late), 10):
            amend(connection, EXCHANGE, SYMBOL, late[begin : begin + 10], None, [], "late_trade")
            connection.commit()
        assert {each.outcome for each in compressing.result(60)} <= {"compressed", "busy"}
    assert len(read.trades(community_database, EXCHANGE, SYMBOL)) == len(TRADES) + len(late)
    assert_verified(connection)
    connection.commit()
    compressed(community_database)
    assert_verified(connection)


def test_only_one_run_at_a_time(connection: Connection, community_database: str) -> None:
    connection.execute("SELECT pg_advisory_lock(hashtextextended('compress', 0))")
    with pytest.raises(Unavailable, match="already"):
        compress_settled(community_database, NOW)


def test_a_server_that_fails_is_said_in_one_line(connection: Connection, community_database: str) -> None:
    write(connection, TRADES)
    connection.execute("CREATE SCHEMA fault")
    connection.execute("""
        CREATE FUNCTION fault.compress_chunk(chunk regclass) RETURNS regclass LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full';
        END $$
    """)
    connection.execute(f"ALTER DATABASE {connection.info.dbname} SET search_path = fault, public")
    connection.commit()
    with pytest.raises(Unavailable, match=r"^cannot compress \S+ of trades: .*no space left on device"):
        compress_settled(community_database, NOW)
