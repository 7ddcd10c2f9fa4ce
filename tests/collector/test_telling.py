import time
from collections.abc import Iterator

import pytest

from collector.rows import Gap
from collector.telling import FRESH, tell_found, tell_given_up
from market.timeframe import MICROSECONDS
from storage.database import Connection, connect
from storage.holes import list_holes
from storage.ledger import add_gap
from storage.outbox import list_alerts
from storage.routes import TO_CONSOLE

NOW = time.time_ns() // 1000


@pytest.fixture
def session(database: str) -> Iterator[Connection]:
    with connect(database, autocommit=True) as connection:
        yield connection


def gap(end: int = NOW, status: str = "confirmed") -> Gap:
    return Gap(
        symbol="BTC/USD",
        stream="trades",
        from_timestamp=end - 5 * MICROSECONDS,
        to_timestamp=end,
        cause="ids_missing",
        status="confirmed" if status == "confirmed" else "suspected",
        proof="ids",
        from_id="11",
        to_id="63",
        missing_count=53,
    )


def test_a_hole_is_told_of_once_with_what_is_missing(session: Connection) -> None:
    for _ in range(2):
        tell_found(session, TO_CONSOLE, "kraken", gap(), NOW)
    (alert,) = list_alerts(session)
    assert (alert.alert_type, alert.severity) == ("data_gap", "info")
    assert alert.title == "a hole in trades of BTC/USD on kraken"
    assert "53 trades are missing" in alert.message
    assert alert.payload["from_id"] == "11"


def test_what_is_old_or_only_suspected_is_put_on_record_in_silence(session: Connection) -> None:
    tell_found(session, TO_CONSOLE, "kraken", gap(NOW - FRESH - 1), NOW)
    tell_found(session, TO_CONSOLE, "kraken", gap(status="suspected"), NOW)
    assert list_alerts(session) == []


def test_a_hole_that_stays_is_a_warning(session: Connection) -> None:
    add_gap(
        session,
        "kraken",
        "BTC/USD",
        "trades",
        NOW - 5,
        NOW,
        cause="disconnect",
        status="suspected",
        proof="connection",
    )
    (hole,) = list_holes(session)
    tell_found(session, TO_CONSOLE, "kraken", gap(), NOW)
    tell_given_up(session, TO_CONSOLE, hole, "kraken gives no past trades over REST")
    warned, found = list_alerts(session)
    assert (warned.severity, found.severity) == ("warning", "info")
    assert warned.message.endswith("trades are missing for good: kraken gives no past trades over REST")
