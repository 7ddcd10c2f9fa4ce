from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from market import MICROSECONDS
from storage.database import Connection, connect
from storage.outbox import Alert, AlertType, Event, Severity, alert_rows, list_alerts, write_alerts
from storage.sending import (
    LEASE,
    claim,
    lock_channel,
    mark_dead,
    mark_failed,
    mark_sent,
    mark_suppressed,
    waiting,
)

T = 1_772_323_200_000_000


def put(
    connection: Connection, *keys: str, channel: str = "console", severity: Severity = Severity.INFO
) -> None:
    for key in keys:
        event = Event(
            alert_type=AlertType.SIGNAL_GENERATED,
            timestamp=T,
            title="BUY BTC/USDT",
            message="RSI 25 is below 30",
            dedupe_key=key,
            severity=severity,
        )
        write_alerts(connection, alert_rows(event, (channel,)))
    connection.commit()


def claim_due(connection: Connection, channel: str, now: int, limit: int) -> list[Alert]:
    due = [row.id for row in waiting(connection, channel, 100) if row.due <= now]
    return claim(connection, due[:limit], now)


def keys(alerts: list[Alert]) -> list[str]:
    return [alert.dedupe_key for alert in alerts]


def only(connection: Connection) -> Alert:
    (alert,) = list_alerts(connection)
    return alert


def test_what_waits_is_listed_in_order(connection: Connection) -> None:
    put(connection, "a")
    put(connection, "b", severity=Severity.CRITICAL)
    put(connection, "c", "d", "e")
    put(connection, "f", channel="mail")
    mark_sent(connection, [3], T)
    mark_suppressed(connection, [4], "muted")
    claim(connection, [5], T)
    found = waiting(connection, "console", 9)
    assert {(each.channel, each.alert_type) for each in found} == {("console", "signal_generated")}
    assert [(each.id, each.severity, each.attempts, each.due) for each in found] == [
        (1, "info", 0, 0),
        (2, "critical", 0, 0),
        (5, "info", 1, T + LEASE),
    ]
    assert waiting(connection, "console", 1) == found[:1]
    assert waiting(connection, "console", 9, is_critical=True) == found[1:2]
    assert [each.id for each in waiting(connection, "mail", 9)] == [6]


def test_one_session_sends_on_a_channel(connection: Connection, database: str) -> None:
    assert lock_channel(connection, "console")
    with connect(database) as other:
        assert not lock_channel(other, "console")
        assert lock_channel(other, "mail")


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
        second = claim_due(other, "console", T, 3)
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
    mark_sent(connection, [alert.id], T + 5)
    assert claim_due(connection, "console", T + 10 * LEASE, 1) == []
    sent = only(connection)
    assert (sent.status, sent.sent_timestamp, sent.next_attempt_timestamp) == ("sent", T + 5, None)


def test_a_failure_is_tried_again_when_it_is_due(connection: Connection) -> None:
    put(connection, "a")
    (alert,) = claim_due(connection, "console", T, 1)
    mark_failed(connection, [alert.id], "429", T + 30 * MICROSECONDS)
    assert only(connection).error == "429"
    assert claim_due(connection, "console", T + 30 * MICROSECONDS - 1, 1) == []
    (again,) = claim_due(connection, "console", T + 30 * MICROSECONDS, 1)
    assert (again.attempts, again.is_possible_duplicate) == (2, False)


def test_a_lost_answer_makes_a_possible_duplicate(connection: Connection) -> None:
    put(connection, "a")
    (alert,) = claim_due(connection, "console", T, 1)
    mark_failed(connection, [alert.id], "timed out", T, is_answer_lost=True)
    (again,) = claim_due(connection, "console", T, 1)
    mark_failed(connection, [again.id], "429", T)
    assert again.is_possible_duplicate
    assert only(connection).is_possible_duplicate


def test_the_dead_stay_dead(connection: Connection) -> None:
    put(connection, "a")
    mark_dead(connection, [claim_due(connection, "console", T, 1)[0].id], "no such chat")
    assert claim_due(connection, "console", T + 10 * LEASE, 1) == []
    assert (only(connection).status, only(connection).error) == ("dead", "no such chat")


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
            mark_sent(connection, [alert.id], now)
        elif outcome in ("refuse", "time out"):
            lost = outcome == "time out"
            mark_failed(connection, [alert.id], outcome, now, is_answer_lost=lost)


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
