from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.database import Connection
from storage.outbox import (
    Alert,
    AlertType,
    Event,
    Severity,
    alert_rows,
    find_alert,
    list_alerts,
    retry,
    write_alerts,
)
from storage.sending import mark_dead, mark_sent, mark_suppressed

T = 1_772_323_200_000_000


def event(key: str = "k", **changes: Any) -> Event:
    given: dict[str, Any] = {
        "alert_type": AlertType.SIGNAL_GENERATED,
        "timestamp": T,
        "title": "BUY BTC/USDT",
        "message": "RSI 25 is below 30",
        "dedupe_key": key,
        "payload": {"rsi": 25.5, "reasons": ["RSI"], "price": 0.1 + 0.2},
    }
    return Event(**{**given, **changes})


def put(connection: Connection, *keys: str, channel: str = "console") -> None:
    for key in keys:
        write_alerts(connection, alert_rows(event(key), (channel,)))
    connection.commit()


def keys(alerts: list[Alert]) -> list[str]:
    return [alert.dedupe_key for alert in alerts]


def only(connection: Connection) -> Alert:
    (alert,) = list_alerts(connection)
    return alert


@given(st.lists(st.sampled_from(["console", "telegram", "mail"])))
def test_one_row_per_channel_in_their_order(channels: list[str]) -> None:
    rows = alert_rows(event(), channels)
    assert [row.channel for row in rows] == list(dict.fromkeys(channels))
    assert {row.dedupe_key for row in rows} <= {"k"}


def test_the_console_is_told_unless_something_else_is_said() -> None:
    assert [row.channel for row in alert_rows(event())] == ["console"]


@pytest.mark.parametrize("kind", AlertType)
def test_severity_follows_the_type_unless_given(kind: AlertType) -> None:
    expected = {
        AlertType.SYSTEM_ERROR: Severity.CRITICAL,
        AlertType.DATA_GAP: Severity.WARNING,
        AlertType.STOP_LOSS: Severity.WARNING,
        AlertType.COLLECTOR_DOWN: Severity.CRITICAL,
    }.get(kind, Severity.INFO)
    assert alert_rows(event(alert_type=kind))[0].severity == expected
    told = alert_rows(event(alert_type=kind, severity=Severity.CRITICAL))
    assert told[0].severity == Severity.CRITICAL


def test_what_is_written_is_read_back_whole(connection: Connection) -> None:
    signal = connection.execute(
        "INSERT INTO signals (timestamp, exchange, symbol, interval, strategy_name, config_hash,"
        " signal_type, confidence_score, confidence_level, score, price)"
        " VALUES (now(), 'x', 'y', '1m', 's', 'c', 'BUY', 60, 'LOW', 0.6, 1) RETURNING id"
    ).fetchone()
    assert signal
    sent = event(signal_id=signal[0], timestamp=T + 1)
    assert write_alerts(connection, alert_rows(sent)) == 1
    assert only(connection) == Alert(
        id=1,
        timestamp=T + 1,
        alert_type="signal_generated",
        severity="info",
        title=sent.title,
        message=sent.message,
        payload=sent.payload,
        channel="console",
        status="pending",
        attempts=0,
        is_possible_duplicate=False,
        next_attempt_timestamp=None,
        sent_timestamp=None,
        dedupe_key="k",
        error=None,
        signal_id=signal[0],
        position_id=None,
    )


def test_an_event_is_told_once_on_each_channel(connection: Connection) -> None:
    assert write_alerts(connection, alert_rows(event(), ("console",))) == 1
    assert write_alerts(connection, alert_rows(event(title="again"), ("console", "mail"))) == 1
    assert write_alerts(connection, []) == 0
    rows = list_alerts(connection)
    assert {(row.channel, row.title) for row in rows} == {
        ("console", "BUY BTC/USDT"),
        ("mail", "again"),
    }


def test_an_alert_lives_and_dies_with_its_transaction(connection: Connection) -> None:
    write_alerts(connection, alert_rows(event()))
    connection.rollback()
    assert list_alerts(connection) == []


def test_a_list_is_newest_first_and_filtered(connection: Connection) -> None:
    put(connection, "a", "b", "c")
    put(connection, "d", channel="mail")
    mark_sent(connection, [1], T)
    assert keys(list_alerts(connection)) == ["d", "c", "b", "a"]
    assert keys(list_alerts(connection, limit=2)) == ["d", "c"]
    assert keys(list_alerts(connection, status="sent")) == ["a"]
    assert keys(list_alerts(connection, channel="console", status="pending")) == ["c", "b"]


def test_a_suppressed_row_says_why(connection: Connection) -> None:
    (row,) = alert_rows(event())
    write_alerts(connection, [row.suppressed("rule 3")])
    assert (only(connection).status, only(connection).error) == ("suppressed", "rule 3")


def test_an_alert_is_found_by_its_id(connection: Connection) -> None:
    put(connection, "a", "b")
    found = find_alert(connection, 2)
    assert found is not None
    assert found.dedupe_key == "b"
    assert find_alert(connection, 3) is None


def test_the_dead_are_sent_after_all_when_they_are_told_to(connection: Connection) -> None:
    put(connection, "a", "b")
    put(connection, "c", channel="mail")
    mark_dead(connection, [1, 3], "no such chat")
    assert retry(connection, channel="mail") == 1
    assert retry(connection) == 1
    assert retry(connection) == 0
    assert {(row.status, row.attempts) for row in list_alerts(connection)} == {("failed", 0), ("pending", 0)}
    mark_suppressed(connection, [2], "muted")
    assert retry(connection) == 0
    assert retry(connection, [2, 9]) == 1
