from datetime import UTC, datetime, timedelta

import pytest

from storage.database import Connection
from storage.lately import (
    alert_counts,
    find_signal,
    known_markets,
    latest_markets,
    newest_signals,
    signal_outcomes,
)

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
KRAKEN, OKX = ("kraken", "BTC/USD"), ("okx", "BTC/USDT")


@pytest.fixture
def tape(connection: Connection) -> Connection:
    for exchange, symbol in (KRAKEN, OKX):
        connection.execute(
            "INSERT INTO stream_coverage (exchange, symbol, stream, from_timestamp, to_timestamp, row_count,"
            " proof, origin) VALUES (%s, %s, 'trades', %s, %s, 1, 'ids', 'live')",
            (exchange, symbol, NOON - timedelta(days=2), NOON),
        )
    connection.execute(
        "INSERT INTO trades (timestamp, exchange, symbol, trade_id, trade_seq, price, size, cvd_at_trade)"
        " SELECT %s, 'kraken', 'BTC/USD', n::text, n, 100 + n, 1, 0 FROM generate_series(1, 3) AS n",
        [NOON],
    )
    for hours, close in ((25, 80), (24, 90), (30, 70)):
        connection.execute(
            "INSERT INTO candles (timestamp, exchange, symbol, interval, open, high, low, close, volume,"
            " is_closed, is_whole, source)"
            " VALUES (%(t)s, 'kraken', 'BTC/USD', '1h', 60, 200, 1, %(c)s, 1, true, true, 'exchange')",
            {"t": NOON - timedelta(hours=hours), "c": close},
        )
    return connection


def test_the_last_of_each_market_and_its_price_a_day_before(tape: Connection) -> None:
    assert known_markets(tape) == [KRAKEN, OKX]
    (kraken, okx) = latest_markets(tape, [OKX, KRAKEN])
    assert (kraken.symbol, kraken.price, kraken.trade_timestamp) == ("BTC/USD", 103, NOON)
    # The candle that closed a day before the last trade, not the one that opened then.
    assert kraken.price_before == 80
    assert (okx.price, okx.price_before, okx.best_bid) == (None, None, None)
    assert latest_markets(tape, []) == []


def write_signal(connection: Connection, hours: int, revision: int = 0, *, is_withdrawn: bool = False) -> int:
    row = connection.execute(
        """
        INSERT INTO signals (timestamp, exchange, symbol, interval, strategy_name, config_hash, revision,
            is_withdrawn, signal_type, confidence_score, confidence_level, score, price)
        VALUES (%s, 'kraken', 'BTC/USD', '1h', 'trend', 'a', %s, %s, 'BUY', 1, 'LOW', 0.5, 1) RETURNING id
        """,
        (NOON - timedelta(hours=hours), revision, is_withdrawn),
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_signals_are_those_of_todays_tape(connection: Connection) -> None:
    oldest = write_signal(connection, 9)
    revised, newer = write_signal(connection, 5), write_signal(connection, 5, 1)
    gone = write_signal(connection, 3)
    write_signal(connection, 3, 1, is_withdrawn=True)
    newest = write_signal(connection, 1)
    assert [each.id for each in newest_signals(connection, 9)] == [newest, newer, oldest]
    assert [each.id for each in newest_signals(connection, 1, 1)] == [newer]
    assert [each.id for each in newest_signals(connection, 9, markets=[KRAKEN])] == [newest, newer, oldest]
    assert newest_signals(connection, 9, markets=[OKX]) == newest_signals(connection, 9, markets=[]) == []
    for number in (revised, gone):
        found = find_signal(connection, number)
        assert found is not None
        assert found.id == number
    assert find_signal(connection, 10**17) is None


def test_what_became_of_a_signal(connection: Connection) -> None:
    number = write_signal(connection, 9)
    for hours, net in ((4, -0.01), (1, 0.02)):
        connection.execute(
            "INSERT INTO signal_outcomes (signal_id, horizon, outcome_timestamp, return_net, is_right)"
            " VALUES (%s, %s, %s, %s, %s)",
            (number, timedelta(hours=hours), NOON, net, net > 0),
        )
    assert signal_outcomes(connection, number) == [("01:00:00", 0.02, True), ("04:00:00", -0.01, False)]


def test_alerts_that_were_sent_count_for_a_while_only(connection: Connection) -> None:
    for number, (status, sent) in enumerate(
        [("sent", NOON), ("sent", NOON - timedelta(days=9)), ("dead", None), ("pending", None)]
    ):
        connection.execute(
            "INSERT INTO alerts (timestamp, alert_type, severity, title, message, channel, status,"
            " dedupe_key, sent_timestamp) VALUES (%s, 'data_gap', 'info', '', '', 'console', %s, %s, %s)",
            (NOON, status, str(number), sent),
        )
    counted = alert_counts(connection, NOON - timedelta(days=1))
    assert counted == {"sent": 1, "dead": 1, "pending": 1}
