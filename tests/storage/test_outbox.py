from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market import MICROSECONDS
from storage.database import Connection, connect
from storage.outbox import (
    LEASE,
    Alert,
    AlertType,
    Event,
    Severity,
    alert_rows,
    claim_due,
    list_alerts,
    mark_dead,
    mark_failed,
    mark_sent,
    write_alerts,
)

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


def test_claims_go_oldest_first_and_only_once(connection: Connection) -> None:
    put(connection, "a", "b", "c")
    put(connection, "d", channel="mail")
    assert keys(claim_due(connection, "console", T, 2)) == ["a", "b"]
    assert keys(claim_due(connection, "console", T, 9)) == ["c"]
    assert claim_due(connection, "console", T, 9) == []


def test_two_dispatchers_never_claim_the_same(connection: Connection, database: str) -> None:
    put(connection, "a", "b", "c")
    with connect(database) as other:
        first = claim_due(connection, "console", T, 2)
        second = claim_due(other, "console", T, 2)
        assert (keys(first), keys(second)) == (["a", "b"], ["c"])


def test_a_claim_that_nobody_finishes_comes_back_as_a_possible_duplicate(
    connection: Connection,
) -> None:
    put(connection, "a")
    (alert,) = claim_due(connection, "console", T, 1)
    assert (alert.attempts, alert.is_possible_duplicate) == (1, False)
    connection.commit()
    assert claim_due(connection, "console", T + LEASE - 1, 1) == []
    (again,) = claim_due(connection, "console", T + LEASE, 1)
    assert (again.id, again.attempts, again.is_possible_duplicate) == (alert.id, 2, True)


def test_a_claim_that_is_rolled_back_never_was(connection: Connection) -> None:
    put(connection, "a")
    claim_due(connection, "console", T, 1)
    connection.rollback()
    (alert,) = claim_due(connection, "console", T, 1)
    assert (alert.attempts, alert.is_possible_duplicate) == (1, False)


def test_what_was_sent_stays_sent(connection: Connection) -> None:
    put(connection, "a")
    (alert,) = claim_due(connection, "console", T, 1)
    mark_sent(connection, alert.id, T + 5)
    assert claim_due(connection, "console", T + 10 * LEASE, 1) == []
    sent = only(connection)
    assert (sent.status, sent.sent_timestamp, sent.next_attempt_timestamp) == ("sent", T + 5, None)


def test_a_failure_is_tried_again_when_it_is_due(connection: Connection) -> None:
    put(connection, "a")
    (alert,) = claim_due(connection, "console", T, 1)
    mark_failed(connection, alert.id, "429", T + 30 * MICROSECONDS)
    assert only(connection).error == "429"
    assert claim_due(connection, "console", T + 30 * MICROSECONDS - 1, 1) == []
    (again,) = claim_due(connection, "console", T + 30 * MICROSECONDS, 1)
    assert (again.attempts, again.is_possible_duplicate) == (2, False)


def test_a_lost_answer_makes_a_possible_duplicate(connection: Connection) -> None:
    put(connection, "a")
    (alert,) = claim_due(connection, "console", T, 1)
    mark_failed(connection, alert.id, "timed out", T, is_answer_lost=True)
    (again,) = claim_due(connection, "console", T, 1)
    mark_failed(connection, again.id, "429", T)
    assert again.is_possible_duplicate
    assert only(connection).is_possible_duplicate


def test_the_dead_stay_dead(connection: Connection) -> None:
    put(connection, "a")
    mark_dead(connection, claim_due(connection, "console", T, 1)[0].id, "no such chat")
    assert claim_due(connection, "console", T + 10 * LEASE, 1) == []
    assert (only(connection).status, only(connection).error) == ("dead", "no such chat")


def test_a_list_is_newest_first_and_filtered(connection: Connection) -> None:
    put(connection, "a", "b", "c")
    put(connection, "d", channel="mail")
    mark_sent(connection, claim_due(connection, "console", T, 1)[0].id, T)
    assert keys(list_alerts(connection)) == ["d", "c", "b", "a"]
    assert keys(list_alerts(connection, limit=2)) == ["d", "c"]
    assert keys(list_alerts(connection, status="sent")) == ["a"]
    assert keys(list_alerts(connection, channel="console", status="pending")) == ["c", "b"]


@dataclass
class Channel:
    """A channel that takes, refuses, times out, or kills its dispatcher, as told."""

    outcomes: list[str]
    taken: list[int] = field(default_factory=list)

    def send(self, connection: Connection, alert: Alert, now: int) -> None:
        outcome = self.outcomes.pop() if self.outcomes else "take"
        if outcome in ("take", "time out", "die after"):
            self.taken.append(alert.id)
        if outcome == "take":
            mark_sent(connection, alert.id, now)
        elif outcome in ("refuse", "time out"):
            lost = outcome == "time out"
            mark_failed(connection, alert.id, outcome, now, is_answer_lost=lost)


OUTCOMES = st.lists(st.sampled_from(["take", "refuse", "time out", "die before", "die after"]))


def test_every_alert_is_sent_at_least_once_and_duplicates_are_marked(connection: Connection) -> None:
    @given(OUTCOMES)
    def check(outcomes: list[str]) -> None:
        connection.execute("DELETE FROM alerts")
        put(connection, "a", "b")
        channel, now = Channel(list(outcomes)), T
        while due := claim_due(connection, "console", now, 1):
            connection.commit()
            channel.send(connection, due[0], now)
            connection.commit()
            now += LEASE
        for alert in list_alerts(connection):
            assert alert.status == "sent"
            times = channel.taken.count(alert.id)
            assert times == 1 or (times > 1 and alert.is_possible_duplicate)

    check()
