from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock

import pytest

from alerts.dispatcher import BATCH, Counts, Dispatcher, run
from alerts.plan import Failure
from market.errors import Unavailable
from market.timeframe import MICROSECONDS
from storage.database import Connection, connect
from storage.notify import notify
from storage.outbox import LEASE, Alert, AlertType, alert_rows, list_alerts, write_alerts
from storage.outbox import Event as Told

START = 1_800_000_000_000_000


class Clock:
    """A clock that is put forward by hand."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


class Recorder:
    """A channel that notes what it was given, and answers as it is told."""

    def __init__(self, answer: Callable[[Alert], Failure | None] = lambda _: None) -> None:
        self.taken: list[int] = []
        self.marked: list[bool] = []
        self._answer = answer
        self._lock = Lock()

    def send(self, alert: Alert) -> Failure | None:
        with self._lock:
            self.taken.append(alert.id)
            self.marked.append(alert.is_possible_duplicate)
        return self._answer(alert)


@pytest.fixture
def session(database: str) -> Iterator[Connection]:
    with connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def clock() -> Clock:
    return Clock()


def tell(connection: Connection, count: int, channel: str = "console") -> None:
    for number in range(count):
        event = Told(
            alert_type=AlertType.SIGNAL_GENERATED,
            timestamp=START + number,
            title=f"BUY {number}",
            message="why",
            dedupe_key=f"signal:{channel}:{number}",
        )
        write_alerts(connection, alert_rows(event, [channel]))


def stored(connection: Connection) -> list[Alert]:
    return list_alerts(connection, limit=1000)[::-1]


def test_everything_due_is_sent_once_in_order(session: Connection, clock: Clock) -> None:
    tell(session, 2 * BATCH + 3)
    channel = Recorder()
    dispatcher = Dispatcher(session, {"console": channel}, clock)
    assert dispatcher.send_due() == 2 * BATCH + 3
    assert channel.taken == [alert.id for alert in stored(session)]
    assert {(a.status, a.attempts, a.sent_timestamp) for a in stored(session)} == {("sent", 1, START)}
    assert dispatcher.send_due() == 0
    assert dispatcher.counts == Counts(sent=2 * BATCH + 3)


def test_a_channel_sends_only_its_own(session: Connection, clock: Clock) -> None:
    tell(session, 2)
    tell(session, 3, channel="telegram")
    channel = Recorder()
    Dispatcher(session, {"console": channel}, clock).send_due()
    assert len(channel.taken) == 2
    assert {a.status for a in stored(session) if a.channel == "telegram"} == {"pending"}


def test_a_failure_is_tried_again_when_it_is_due(session: Connection, clock: Clock) -> None:
    tell(session, 1)
    answers = iter([Failure("down"), Failure("busy", retry_after=100 * MICROSECONDS), None])
    channel = Recorder(lambda _: next(answers))
    dispatcher = Dispatcher(session, {"console": channel}, clock)
    dispatcher.send_due()
    (alert,) = stored(session)
    assert (alert.status, alert.error, alert.attempts) == ("failed", "down", 1)
    assert alert.next_attempt_timestamp is not None
    clock.now = alert.next_attempt_timestamp - 1
    assert dispatcher.send_due() == 0
    clock.now += 1
    assert dispatcher.send_due() == 1
    (alert,) = stored(session)
    assert alert.next_attempt_timestamp == clock.now + 100 * MICROSECONDS
    clock.now = alert.next_attempt_timestamp
    assert dispatcher.send_due() == 1
    (alert,) = stored(session)
    assert (alert.status, alert.error, alert.attempts, alert.is_possible_duplicate) == (
        "sent",
        None,
        3,
        False,
    )
    assert dispatcher.counts == Counts(sent=1, failed=2)


def test_what_never_works_dies(session: Connection, clock: Clock) -> None:
    tell(session, 1)
    channel = Recorder(lambda _: Failure("down"))
    dispatcher = Dispatcher(session, {"console": channel}, clock)
    for _ in range(50):
        dispatcher.send_due()
        clock.now += 3600 * MICROSECONDS
    (alert,) = stored(session)
    assert (alert.status, alert.attempts) == ("dead", 10)
    assert alert.error == "given up after 10 attempts: down"
    assert dispatcher.counts == Counts(failed=9, dead=1)


def test_a_lost_answer_is_said_to_be_a_possible_duplicate(session: Connection, clock: Clock) -> None:
    tell(session, 1)
    answers = iter([Failure("time-out", is_answer_lost=True), None])
    channel = Recorder(lambda _: next(answers))
    dispatcher = Dispatcher(session, {"console": channel}, clock)
    dispatcher.send_due()
    clock.now += 60 * MICROSECONDS
    dispatcher.send_due()
    assert channel.marked == [False, True]


def test_a_dispatcher_that_dies_while_sending_leaves_the_alert_to_the_next(
    session: Connection, clock: Clock
) -> None:
    tell(session, 1)

    def die(_: Alert) -> None:
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        Dispatcher(session, {"console": Recorder(die)}, clock).send_due()
    channel = Recorder()
    heir = Dispatcher(session, {"console": channel}, clock)
    assert heir.send_due() == 0
    clock.now += LEASE
    assert heir.send_due() == 1
    assert channel.marked == [True]
    assert [alert.status for alert in stored(session)] == ["sent"]


def test_a_slow_channel_stops_before_its_lease_is_over(session: Connection, clock: Clock) -> None:
    tell(session, 5)

    def dawdle(_: Alert) -> None:
        clock.now += LEASE // 3

    channel = Recorder(dawdle)
    dispatcher = Dispatcher(session, {"console": channel}, clock)
    assert dispatcher.send_due() == 2
    clock.now += LEASE
    dispatcher.send_due()
    assert len(channel.taken) == len(set(channel.taken)) == 4


def test_two_dispatchers_never_send_one_row_twice(database: str, session: Connection, clock: Clock) -> None:
    tell(session, 100)
    channel = Recorder()

    def work(_: int) -> int:
        with connect(database, autocommit=True) as connection:
            return Dispatcher(connection, {"console": channel}, clock).send_due()

    with ThreadPoolExecutor() as pool:
        total = sum(pool.map(work, range(3)))
    # One that finds less than a batch stops; what the others held back is sent by them.
    assert total == len(channel.taken) == len(set(channel.taken)) == 100


def test_run_wakes_for_new_alerts(database: str, session: Connection, clock: Clock) -> None:
    tell(session, 1)
    channel, stop = Recorder(), Event()
    running = run(database, {"console": channel}, clock, stop)
    assert next(running).sent == 1
    tell(session, 2)
    notify(session, "alerts")
    assert next(running).sent == 2
    stop.set()
    assert list(running) == []


def test_a_database_without_tables_is_said_so(empty_database: str, clock: Clock) -> None:
    with pytest.raises(Unavailable, match="deltatape db upgrade"):
        next(run(empty_database, {}, clock, Event()))
