"""Compressing settled chunks; all but the Apache edition's refusal needs a server of the Community edition."""

from collections.abc import Iterator
from random import Random

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from streaming import (
    EXCHANGE,
    HOUR,
    MIDNIGHT,
    MINUTE,
    SECOND,
    SYMBOL,
    Span,
    Streaming,
    random_book,
)

from market import DAY, Side, Trade, Unavailable
from storage import read, verify
from storage.compression import compress_settled
from storage.database import Connection, connect

DAYS = 3
END = MIDNIGHT + DAYS * DAY
STEP = 30 * SECOND
NOW = END + 9 * DAY
HOLE = MIDNIGHT + DAY + 5 * HOUR, MIDNIGHT + DAY + 6 * HOUR


def trade_at(moment: int) -> Trade:
    number = (moment - MIDNIGHT) // STEP + 1000
    side = Side.BUY if number % 3 else Side.SELL
    return Trade(SYMBOL, moment, str(number), number, 100 + number % 11 / 8, 0.125 * (1 + number % 7), side)


TRADES = [trade_at(moment) for moment in range(MIDNIGHT, END, STEP)]
MISSING = [trade for trade in TRADES if HOLE[0] <= trade.timestamp < HOLE[1]]


@pytest.fixture
def connection(community_database: str) -> Iterator[Connection]:
    """A tape of three days in the middle of an old week."""
    random = Random(7)
    books = [random_book(random, moment) for moment in range(MIDNIGHT, END, 10 * MINUTE)]
    with connect(community_database) as connection:
        Streaming().run([Span(TRADES, END)], books).write(connection)
        connection.commit()
        yield connection


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


def assert_verified(connection: Connection) -> None:
    with verify.snapshot(connection, EXCHANGE, SYMBOL) as tape:
        assert [proof for day in tape.days if not (proof := tape.prove(day)).ok] == []


def test_the_apache_edition_says_what_is_missing(database: str) -> None:
    with pytest.raises(Unavailable, match=r"Apache edition.*docker compose up -d db"):
        compress_settled(database, NOW)


def test_settled_chunks_are_compressed_and_nothing_else_changes(
    connection: Connection, community_database: str
) -> None:
    before = frames(community_database)
    due = compress_settled(community_database, NOW, is_dry_run=True)
    assert {each.outcome for each in due} == {"due"}
    counts = compressed(community_database)
    assert counts["trades"] == DAYS
    assert set(counts) == {"trades", "orderbook_snapshots", "candles", "cvd_snapshots"}
    for old, new in zip(before, frames(community_database), strict=True):
        assert len(new)
        assert_frame_equal(old, new)
    rows = connection.execute("SELECT table_name, outcome, row_count FROM compressions").fetchall()
    assert {(table, outcome) for table, outcome, _ in rows} == {(table, "compressed") for table in counts}
    assert len(rows) == len(due)
    assert sum(count for table, _, count in rows if table == "trades") == len(TRADES)
