from collections.abc import Iterator

import pytest

from alerts.watching import tell_of_collectors
from storage.database import Connection, connect
from storage.outbox import list_alerts
from storage.routes import SILENT, TO_CONSOLE


@pytest.fixture
def session(database: str) -> Iterator[Connection]:
    with connect(database, autocommit=True) as connection:
        yield connection


def stream(
    connection: Connection,
    symbol: str,
    seconds: float,
    *,
    status: str = "live",
    exchange: str = "kraken",
    kind: str = "trades",
) -> None:
    """A stream whose collector said something for the last time so many seconds ago."""
    connection.execute(
        "INSERT INTO stream_state (exchange, symbol, stream, watermark, watermark_timestamp, epoch, status,"
        " updated_timestamp) VALUES (%s, %s, %s, '1', now(), 1, %s, now() - %s * interval '1 s')",
        (exchange, symbol, kind, status, seconds),
    )


def test_a_collector_that_fell_silent_is_told_of_once(session: Connection) -> None:
    stream(session, "BTC/USD", 900)
    stream(session, "ETH/USD", 901)
    stream(session, "BTC/USDT", 0, exchange="binance")
    assert tell_of_collectors(session, TO_CONSOLE, 300) == 1
    assert tell_of_collectors(session, TO_CONSOLE, 300) == 0
    (alert,) = list_alerts(session)
    assert (alert.alert_type, alert.severity) == ("collector_down", "critical")
    assert alert.title == "the collector of kraken is down"
    assert alert.message.endswith(": BTC/USD, ETH/USD")


def test_its_next_silence_is_another_one(session: Connection) -> None:
    stream(session, "BTC/USD", 900)
    tell_of_collectors(session, TO_CONSOLE, 300)
    session.execute("UPDATE stream_state SET updated_timestamp = now() - interval '800 s'")
    assert tell_of_collectors(session, TO_CONSOLE, 300) == 1


def test_who_said_so_is_slow_or_went_long_ago_is_not_missed(session: Connection) -> None:
    stream(session, "A/USD", 900, status="down")
    stream(session, "B/USD", 10)
    stream(session, "C/USD", 90_000)
    stream(session, "D/USD", 900, kind="book")
    assert tell_of_collectors(session, TO_CONSOLE, 300) == 0
    stream(session, "E/USD", 900)
    assert tell_of_collectors(session, SILENT, 300) == 0
