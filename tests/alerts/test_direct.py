"""What goes past the outbox keeps the limits of its place, counted with everybody's calls or alone."""

from itertools import pairwise

from alerts.channels import Channel
from alerts.direct import send_directly
from alerts.dispatcher import Outlet
from alerts.pace import Limits
from alerts.plan import Failure
from market.timeframe import from_datetime
from storage import turns
from storage.clock import wall_clock
from storage.outbox import AlertType, Event, alert_rows

GAP = 300_000
AWAY = "postgresql://127.0.0.1:1/none"


class Timed(Channel):
    """Notes when it was called, and how that ended."""

    def __init__(self, *failures: Failure | None) -> None:
        self.called: list[int] = []
        self._failures = list(failures)

    def send(self, alerts):
        self.called.append(wall_clock())
        return self._failures.pop(0) if self._failures else None

    def close(self):
        """Nothing is open."""


def say(channel, url, place, *, gap=GAP):
    event = Event(alert_type=AlertType.TEST, timestamp=1, title="a test", message="", dedupe_key="1")
    outlets = {"phone": Outlet(channel, Limits(gap=gap), place=place)}
    return send_directly(outlets, alert_rows(event, outlets), url)


def test_a_direct_call_waits_for_what_others_sent_and_is_counted(database, connection):
    connection.commit()
    connection.autocommit = True
    turns.begin(connection, "chat", wall_clock())
    ended = wall_clock()
    turns.end(connection, "chat", ended)
    channel = Timed()
    assert say(channel, database, "chat") == {"phone": None}
    (called,) = channel.called
    assert called >= ended + GAP
    # Nobody has the turn any more, and the call is known.
    assert turns.take(connection, "chat", wall_clock(), 5) is not None
    (last,) = connection.execute("SELECT max(ended_timestamp) FROM channel_calls").fetchone()
    assert from_datetime(last) >= called


def test_each_attempt_is_counted(database, monkeypatch):
    monkeypatch.setattr("alerts.direct.PAUSE_SECONDS", 0.0)
    channel = Timed(Failure("busy"), Failure("busy"))
    assert say(channel, database, "chat") == {"phone": None}
    assert all(later - sooner >= GAP for sooner, later in pairwise(channel.called))


def test_without_the_database_the_process_counts_alone():
    channel = Timed()
    assert say(channel, AWAY, "a place") == say(channel, AWAY, "a place") == {"phone": None}
    first, second = channel.called
    assert second - first >= GAP


def test_what_bears_any_number_of_calls_asks_nobody():
    channel = Timed()
    assert say(channel, "no URL at all", "anywhere", gap=0) == {"phone": None}
