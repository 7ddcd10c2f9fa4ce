"""All channels at once, each in its thread."""

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from alerts.dispatcher import Counts, Outlet
from alerts.plan import Failure, Policy
from alerts.run import run
from market.errors import Unavailable
from market.timeframe import MICROSECONDS
from storage.database import Connection, connect
from storage.outbox import Alert, AlertType, Event, alert_rows, list_alerts, write_alerts
from tests.alerts.test_dispatcher import Clock, Recorder

PATIENCE = 60.0


@pytest.fixture
def session(database: str) -> Iterator[Connection]:
    with connect(database, autocommit=True) as connection:
        yield connection


def tell(connection: Connection, key: str, *channels: str) -> None:
    event = Event(alert_type=AlertType.TEST, timestamp=1, title=key, message="why", dedupe_key=key)
    with connection.transaction():
        write_alerts(connection, alert_rows(event, channels))


class Waking(Recorder):
    """A channel that says when it was given something."""

    def __init__(self, answer: Callable[[Sequence[Alert]], Failure | None] = lambda _: None) -> None:
        super().__init__(answer)
        self.called = threading.Semaphore(0)

    def send(self, alerts: Sequence[Alert]) -> Failure | None:
        try:
            return super().send(alerts)
        finally:
            self.called.release()

    def wait(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.called.acquire(timeout=PATIENCE)


class Running:
    def __init__(self, url: str, outlets: dict[str, Outlet]) -> None:
        self.stop = threading.Event()
        self.counts: list[Counts] = []
        self._thread = threading.Thread(target=self._run, args=(url, outlets), daemon=True)
        self._thread.start()

    def _run(self, url: str, outlets: dict[str, Outlet]) -> None:
        self.counts.append(run(url, outlets, Clock(), self.stop))

    def end(self) -> Counts:
        self.stop.set()
        self._thread.join(PATIENCE)
        return self.counts[0]


def test_it_wakes_for_new_alerts_and_ends_when_told(database: str, session: Connection) -> None:
    tell(session, "a", "one", "two")
    one, two = Waking(), Waking()
    running = Running(database, {"one": Outlet(one), "two": Outlet(two)})
    one.wait()
    two.wait()
    tell(session, "b", "one")
    one.wait()
    assert running.end() == Counts(sent=3)
    assert (one.taken, two.taken) == ([[1], [3]], [[2]])
    assert one.is_closed
    assert two.is_closed


def test_a_channel_that_hangs_delays_no_other(database: str, session: Connection) -> None:
    free = threading.Event()

    def hang(_: Sequence[Alert]) -> None:
        free.wait(PATIENCE)

    stuck, well = Waking(hang), Waking()
    running = Running(database, {"stuck": Outlet(stuck), "well": Outlet(well)})
    for key in "abc":
        tell(session, key, "stuck", "well")
    well.wait(3)
    assert {row.status for row in list_alerts(session, channel="stuck")} == {"pending"}
    free.set()
    stuck.wait()
    running.end()


def test_a_channel_that_breaks_is_begun_again(
    database: str, session: Connection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("alerts.run.RESTART_SECONDS", 0.01)

    def breaks(alerts: Sequence[Alert]) -> None:
        if alerts[0].title == "bad" and alerts[0].attempts == 1:
            raise RuntimeError("a defect")

    channel = Waking(breaks)
    # Its lease ends at once: the clock stands still.
    running = Running(database, {"one": Outlet(channel, lease=0)})
    tell(session, "bad", "one")
    tell(session, "good", "one")
    channel.wait(3)
    running.end()
    assert channel.taken == [[1], [1], [2]]
    assert channel.marked == [False, True, False]
    assert "alerts on one: begun again" in caplog.text


def test_once_it_ends_when_nothing_more_is_due(database: str, session: Connection) -> None:
    tell(session, "a", "one")
    tell(session, "b", "one")
    answers = iter([None, Failure("down")])
    channel = Recorder(lambda _: next(answers))
    outlet = Outlet(channel, policy=Policy(first_delay=3600 * MICROSECONDS))
    assert run(database, {"one": outlet}, Clock(), threading.Event(), is_once=True) == Counts(1, 1)


def test_a_database_without_tables_is_said_so(empty_database: str) -> None:
    with pytest.raises(Unavailable, match="deltatape db upgrade"):
        run(empty_database, {}, Clock(), threading.Event())
