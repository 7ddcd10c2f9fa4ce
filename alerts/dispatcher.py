"""Sends what is due in the outbox: at least once, and never one row by two dispatchers at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from alerts.plan import Dead, Decision, Policy, Retry, Sent, decide
from storage import outbox
from storage.database import connect, require_schema
from storage.notify import listen
from storage.reconnect import reconnecting

if TYPE_CHECKING:
    from threading import Event

    from alerts.channels import Channel
    from storage.database import Connection
    from storage.outbox import Alert

CHANNEL = "alerts"
POLL_SECONDS = 1.0
BATCH = 20
"""Alerts claimed at once: few enough to be sent well within their lease."""

Clock = Callable[[], int]


@dataclass(slots=True)
class Counts:
    """What a dispatcher did."""

    sent: int = 0
    failed: int = 0
    dead: int = 0

    def add(self, decision: Decision) -> None:
        """Count one attempt."""
        self.sent += isinstance(decision, Sent)
        self.failed += isinstance(decision, Retry)
        self.dead += isinstance(decision, Dead)


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """Sends the outbox through `channels`.

    Attributes:
        connection: in autocommit mode.
        channels: by the name that stands in the outbox.
        clock: gives the time in microseconds UTC.
        policy: how patient it is with a failing channel.
        counts: what it did so far.
    """

    connection: Connection
    channels: Mapping[str, Channel]
    clock: Clock
    policy: Policy = field(default_factory=Policy)
    counts: Counts = field(default_factory=Counts)

    def send_due(self) -> int:
        """Send all that is due on every channel; says how many attempts that took."""
        return sum(self._send_channel(name, channel) for name, channel in self.channels.items())

    def _send_channel(self, name: str, channel: Channel) -> int:
        attempts = 0
        while True:
            began = self.clock()
            # Committed at once: from here until the lease is over these rows are ours alone.
            claimed = outbox.claim_due(self.connection, name, began, BATCH)
            for alert in claimed:
                # Half a lease is left for the sending itself. What is not begun stays pending, and is
                # claimed again, by whomever, when the lease is over.
                if self.clock() - began > outbox.LEASE // 2:
                    return attempts
                self._attempt(alert, channel)
                attempts += 1
            if len(claimed) < BATCH:
                return attempts

    def _attempt(self, alert: Alert, channel: Channel) -> None:
        failure = channel.send(alert)
        now = self.clock()
        decision = decide(
            failure,
            attempts=alert.attempts,
            dedupe_key=alert.dedupe_key,
            now=now,
            policy=self.policy,
        )
        self._record(alert.id, decision, now)
        self.counts.add(decision)

    def _record(self, number: int, decision: Decision, now: int) -> None:
        match decision:
            case Sent():
                outbox.mark_sent(self.connection, number, now)
            case Retry(at, failure):
                lost = failure.is_answer_lost
                outbox.mark_failed(self.connection, number, failure.reason, at, is_answer_lost=lost)
            case Dead(reason):
                outbox.mark_dead(self.connection, number, reason)


def run(url: str, channels: Mapping[str, Channel], clock: Clock, stop: Event) -> Iterator[Counts]:
    """Send until `stop` is set, waiting while the database is away; yields the counts after each wake.

    Args:
        url: the database.
        channels: by the name that stands in the outbox.
        clock: gives the time in microseconds UTC.
        stop: set to end between two batches.

    Raises:
        Unavailable: the database does not answer, or has no tables.
    """
    counts = Counts()
    return reconnecting(url, lambda: _run(url, channels, clock, stop, counts), stop)


def _run(
    url: str, channels: Mapping[str, Channel], clock: Clock, stop: Event, counts: Counts
) -> Iterator[Counts]:
    with connect(url, application_name="deltatape alerts", autocommit=True) as connection:
        require_schema(connection)
        dispatcher = Dispatcher(connection, channels, clock, counts=counts)
        for _ in listen(url, [CHANNEL], timeout=POLL_SECONDS):
            dispatcher.send_due()
            yield counts
            if stop.is_set():
                return
