from collections.abc import Callable, Iterator, Sequence
from threading import Event
from typing import Any

import pytest

from alerts.dispatcher import Counts, Dispatcher, Outlet
from alerts.pace import Limits
from alerts.plan import Failure, Policy
from market.timeframe import MICROSECONDS
from storage.database import Connection, connect
from storage.mutes import Mute, mute
from storage.outbox import Alert, AlertType, Severity, alert_rows, list_alerts, write_alerts
from storage.outbox import Event as Told
from storage.sending import LEASE

START = 1_800_000_000_000_000
SECOND = MICROSECONDS


class Clock:
    """A clock that is put forward by hand."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


class Recorder:
    """A channel that notes what it was given, and answers as it is told."""

    def __init__(self, answer: Callable[[Sequence[Alert]], Failure | None] = lambda _: None) -> None:
        self.taken: list[list[int]] = []
        self.marked: list[bool] = []
        self.is_closed = False
        self._answer = answer

    def send(self, alerts: Sequence[Alert]) -> Failure | None:
        self.taken.append([alert.id for alert in alerts])
        self.marked.append(any(alert.is_possible_duplicate for alert in alerts))
        return self._answer(alerts)

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def session(database: str) -> Iterator[Connection]:
    with connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def clock() -> Clock:
    return Clock()


def tell(
    connection: Connection, count: int, channel: str = "console", severity: Severity = Severity.INFO
) -> None:
    for number in range(count):
        event = Told(
            alert_type=AlertType.SIGNAL_GENERATED,
            timestamp=START + number,
            title=f"BUY {number}",
            message="why",
            dedupe_key=f"signal:{channel}:{severity}:{number}",
            severity=severity,
        )
        write_alerts(connection, alert_rows(event, [channel]))


def stored(connection: Connection) -> list[Alert]:
    return list_alerts(connection, limit=10_000)[::-1]


def dispatcher(session: Connection, clock: Clock, channel: Any, **more: Any) -> Dispatcher:
    return Dispatcher(session, "console", Outlet(channel, **more), clock)


def test_everything_due_is_sent_once_in_order(session: Connection, clock: Clock) -> None:
    tell(session, 130)
    channel = Recorder()
    sending = dispatcher(session, clock, channel)
    assert sending.send_due() is None
    assert channel.taken == [[alert.id] for alert in stored(session)]
    assert {(a.status, a.attempts, a.sent_timestamp) for a in stored(session)} == {("sent", 1, START)}
    sending.send_due()
    assert sending.counts == Counts(sent=130)


def test_a_channel_sends_only_its_own(session: Connection, clock: Clock) -> None:
    tell(session, 2)
    tell(session, 3, channel="telegram")
    channel = Recorder()
    dispatcher(session, clock, channel).send_due()
    assert len(channel.taken) == 2
    assert {a.status for a in stored(session) if a.channel == "telegram"} == {"pending"}


def test_a_failure_is_tried_again_when_it_is_due_and_holds_up_what_follows(
    session: Connection, clock: Clock
) -> None:
    tell(session, 2)
    answers = iter([Failure("down"), Failure("busy", retry_after=100 * SECOND), None, None])
    channel = Recorder(lambda _: next(answers))
    sending = dispatcher(session, clock, channel)
    until = sending.send_due()
    alert = stored(session)[0]
    assert (alert.status, alert.error, alert.attempts) == ("failed", "down", 1)
    assert until == alert.next_attempt_timestamp
    assert until is not None
    clock.now = until - 1
    assert sending.send_due() == until
    clock.now += 1
    assert sending.send_due() == clock.now + 100 * SECOND
    assert channel.taken == [[1], [1]]
    clock.now += 100 * SECOND
    assert sending.send_due() is None
    assert channel.taken == [[1], [1], [1], [2]]
    alert = stored(session)[0]
    assert (alert.status, alert.error, alert.attempts, alert.is_possible_duplicate) == (
        "sent",
        None,
        3,
        False,
    )
    assert sending.counts == Counts(sent=2, failed=2)


def test_what_never_works_dies_and_the_next_has_its_turn(session: Connection, clock: Clock) -> None:
    tell(session, 2)
    channel = Recorder(lambda alerts: Failure("down") if alerts[0].id == 1 else None)
    sending = dispatcher(session, clock, channel)
    while (until := sending.send_due()) is not None:
        clock.now = until
    first, second = stored(session)
    assert (first.status, first.attempts) == ("dead", 10)
    assert first.error == "given up after 10 attempts: down"
    assert second.status == "sent"
    assert sending.counts == Counts(sent=1, failed=9, dead=1)


def test_a_lost_answer_is_said_to_be_a_possible_duplicate(session: Connection, clock: Clock) -> None:
    tell(session, 1)
    answers = iter([Failure("time-out", is_answer_lost=True), None])
    channel = Recorder(lambda _: next(answers))
    sending = dispatcher(session, clock, channel)
    sending.send_due()
    clock.now += 60 * SECOND
    sending.send_due()
    assert channel.marked == [False, True]


def test_a_dispatcher_that_dies_while_sending_leaves_the_alert_to_the_next(
    database: str, session: Connection, clock: Clock
) -> None:
    tell(session, 2)

    def die(_: Sequence[Alert]) -> None:
        raise RuntimeError("power cut")

    with connect(database, autocommit=True) as other, pytest.raises(RuntimeError, match="power cut"):
        dispatcher(other, clock, Recorder(die)).send_due()
    channel = Recorder()
    heir = dispatcher(session, clock, channel)
    while (until := heir.send_due()) != START + LEASE:
        # The server may take a while to notice that the other session is over.
        assert until is None
    clock.now += LEASE
    assert heir.send_due() is None
    assert (channel.taken, channel.marked) == ([[1], [2]], [True, False])


def test_of_two_dispatchers_one_sends(database: str, session: Connection, clock: Clock) -> None:
    tell(session, 3)
    first, second = Recorder(), Recorder()
    with connect(database, autocommit=True) as other:
        sending, standby = dispatcher(session, clock, first), dispatcher(other, clock, second)
        sending.send_due()
        tell(session, 1, severity=Severity.WARNING)
        assert standby.send_due() is None
        assert (first.taken, second.taken) == ([[1], [2], [3]], [])
        sending.send_due()
        assert second.taken == []


def test_many_become_one_message_that_fails_and_arrives_as_one(session: Connection, clock: Clock) -> None:
    tell(session, 1_000)
    answers = iter([Failure("time-out", is_answer_lost=True), None])
    channel = Recorder(lambda _: next(answers))
    sending = dispatcher(session, clock, channel, limits=Limits(digest_from=5))
    until = sending.send_due()
    assert until is not None
    clock.now = until
    assert sending.send_due() is None
    assert channel.taken == [list(range(1, 1_001))] * 2
    assert channel.marked == [False, True]
    assert {(a.status, a.sent_timestamp) for a in stored(session)} == {("sent", until)}


def test_what_was_tried_longer_dies_alone(session: Connection, clock: Clock) -> None:
    tell(session, 1)
    channel = Recorder(lambda _: Failure("down"))
    sending = dispatcher(session, clock, channel, limits=Limits(digest_from=2), policy=Policy(attempts=2))
    until = sending.send_due()
    assert until is not None
    tell(session, 2, severity=Severity.WARNING)
    clock.now = until
    until = sending.send_due()
    assert channel.taken == [[1], [1, 2, 3]]
    assert [(a.status, a.next_attempt_timestamp) for a in stored(session)] == [
        ("dead", None),
        ("failed", until),
        ("failed", until),
    ]


def test_the_limits_hold_over_a_restart(database: str, session: Connection, clock: Clock) -> None:
    tell(session, 3)
    limits = Limits(gap=10 * SECOND, per_minute=2)
    with connect(database, autocommit=True) as other:
        first = dispatcher(other, clock, Recorder(), limits=limits)
        assert first.send_due() == START + 10 * SECOND
        clock.now += 10 * SECOND
        assert first.send_due() == START + 60 * SECOND
    second = dispatcher(session, clock, Recorder(), limits=limits)
    while (until := second.send_due()) is None:
        pass
    assert until == START + 60 * SECOND


def test_a_muted_channel_holds_back_all_but_what_is_critical(session: Connection, clock: Clock) -> None:
    tell(session, 2)
    tell(session, 1, severity=Severity.CRITICAL)
    mute(session, Mute(channel="console", until=START + SECOND))
    mute(session, Mute(channel="mail", until=START + 9 * SECOND))
    channel = Recorder()
    sending = dispatcher(session, clock, channel)
    assert sending.send_due() is None
    assert [(a.status, a.error) for a in stored(session)] == [
        ("suppressed", "muted"),
        ("suppressed", "muted"),
        ("sent", None),
    ]
    clock.now += SECOND
    tell(session, 1, severity=Severity.WARNING)
    sending.send_due()
    assert channel.taken == [[3], [4]]


def test_what_is_muted_is_held_back_and_nothing_else(session: Connection, clock: Clock) -> None:
    for symbol in ("BTC/USD", "ETH/USD", "BTC/USD"):
        event = Told(
            alert_type=AlertType.SIGNAL_GENERATED,
            timestamp=START,
            title=symbol,
            message="why",
            dedupe_key=str(len(stored(session))),
            payload={"exchange": "kraken", "symbol": symbol, "strategy": "trend"},
        )
        write_alerts(session, alert_rows(event, ["console"]))
    mute(session, Mute(channel="console", symbol="BTC/USD", strategy="trend", until=START + SECOND))
    channel = Recorder()
    dispatcher(session, clock, channel).send_due()
    assert channel.taken == [[2]]
    assert [alert.status for alert in stored(session)] == ["suppressed", "sent", "suppressed"]


def test_quiet_hours_are_waited_for(session: Connection, clock: Clock) -> None:
    tell(session, 1)
    # START lies at 8 in the morning.
    channel = Recorder()
    hour = 3600 * SECOND
    sending = dispatcher(session, clock, channel, limits=Limits(quiet=(22 * hour, 9 * hour)))
    assert sending.send_due() == START + hour
    tell(session, 1, severity=Severity.CRITICAL)
    assert sending.send_due() == START + hour
    assert channel.taken == [[2]]
    clock.now += hour
    assert sending.send_due() is None
    assert channel.taken == [[2], [1]]


def test_it_ends_between_two_calls(session: Connection, clock: Clock) -> None:
    tell(session, 3)
    stop = Event()
    channel = Recorder(lambda _: stop.set())
    assert dispatcher(session, clock, channel).send_due(stop) is None
    assert channel.taken == [[1]]


def test_what_follows_a_message_comes_after_it_is_noted_and_counts_as_a_call(
    session: Connection, clock: Clock
) -> None:
    tell(session, 2)
    seen: list[str] = []

    def follow(alerts: Sequence[Alert]) -> bool:
        seen.append(stored(session)[alerts[0].id - 1].status)
        clock.now += 3 * SECOND
        return True

    answers = iter([None, Failure("down")])
    sending = dispatcher(
        session, clock, Recorder(lambda _: next(answers)), limits=Limits(gap=SECOND), follow_up=follow
    )
    assert sending.send_due() == START + 4 * SECOND
    assert seen == ["sent"]
    clock.now += SECOND
    sending.send_due()
    assert seen == ["sent"]
