from datetime import datetime
from decimal import Decimal

import pytest
from recordings import expected_trades, messages, paths

from collector.replay import replay
from market.timeframe import from_datetime
from storage import rebuild

TABLES = (
    "trades",
    "candles",
    "cvd_snapshots",
    "orderbook_snapshots",
    "stream_coverage",
    "stream_gaps",
    "tape_revisions",
    "instruments",
    "rejected_messages",
    "stream_state",
)
EXCHANGES = ("binance", "binanceusdm", "coinbase", "htx", "kraken_v1", "okx")


def contents(connection, table):
    rows = connection.execute(f"SELECT to_jsonb(t)::text FROM {table} AS t").fetchall()
    return sorted(text for (text,) in rows)


def stored_trades(connection, exchange):
    return connection.execute(
        """
        SELECT i.exchange_symbol, t.trade_id, t.timestamp, t.side, t.price, t.size
        FROM trades AS t JOIN instruments AS i USING (exchange, symbol) WHERE exchange = %s
        """,
        [exchange],
    ).fetchall()


def as_time(exchange, text):
    """Microseconds UTC of the file's text."""
    match exchange:
        case "binance" | "binanceusdm" | "htx" | "okx":
            return int(text) * 1000
        case "coinbase":
            return from_datetime(datetime.fromisoformat(text))
        case "kraken_v1":
            return int(Decimal(text) * 1_000_000)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_stored_trades_are_those_in_the_files(exchange, database, connection, shared_data):
    report = replay(paths(shared_data, exchange), exchange, database)
    expected = expected_trades(shared_data, exchange)
    stored = stored_trades(connection, exchange)
    assert report.counts["trades"] == len(expected) == len(stored)
    assert {(s, from_datetime(t), side, p, z) for s, _, t, side, p, z in stored} == {
        (s, as_time(exchange, t), side, p, z) for s, _, t, side, p, z in expected
    }
    if exchange != "kraken_v1":
        assert {(s, i) for s, i, *_ in stored} == {(s, i) for s, i, *_ in expected}


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_nothing_is_unhandled_and_every_message_counts(exchange, database, shared_data):
    report = replay(paths(shared_data, exchange), exchange, database)
    assert report.counts["messages"] == len(messages(shared_data, exchange))
    assert report.counts["unhandled"] == report.counts["rejected"] == report.counts["gaps"] == 0
    assert report.unresolved == []


@pytest.mark.parametrize(("exchange", "checksums"), [("kraken_v1", 4269), ("okx", 290)])
def test_all_checksums_verify(exchange, checksums, database, shared_data):
    assert replay(paths(shared_data, exchange), exchange, database).counts["checksums"] == checksums


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_a_second_replay_changes_no_row(exchange, database, connection, shared_data):
    replay(paths(shared_data, exchange), exchange, database)
    before = {table: contents(connection, table) for table in TABLES}
    connection.commit()
    replay(paths(shared_data, exchange), exchange, database)
    assert {table: contents(connection, table) for table in TABLES} == before
    assert before["trades"]
    assert before["candles"]
    assert before["cvd_snapshots"]
    assert before["orderbook_snapshots"]


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_candles_and_cvd_are_what_sql_makes_of_the_trades(exchange, database, connection, shared_data):
    replay(paths(shared_data, exchange), exchange, database)
    spans = connection.execute(
        """
        SELECT symbol, (extract(epoch FROM min(from_timestamp)) * 1e6)::bigint,
            (extract(epoch FROM max(to_timestamp)) * 1e6)::bigint
        FROM stream_coverage WHERE exchange = %s AND stream = 'trades' GROUP BY symbol
        """,
        [exchange],
    ).fetchall()
    assert spans
    for symbol, start, end in spans:
        assert rebuild.differences(connection, exchange, symbol, start, end) == []
