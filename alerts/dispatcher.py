"""Sends what is due on one channel: in order, at least once, and within its limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from alerts.pace import WINDOW, Limits, Send, Step, Suppress, Wait, next_step
from alerts.plan import Dead, Decision, Policy, Retry, Sent, decide_together
from storage import mutes, sending

if TYPE_CHECKING:
    from threading import Event

    from alerts.channels import Channel
    from alerts.plan import Failure
    from storage.database import Connection
    from storage.outbox import Alert
    from storage.sending import Waiting

BATCH = 100
"""Rows that are looked at together, on a channel that makes no digest."""

Clock = Callable[[], int]


@dataclass(slots=True)
class Counts:
    """What became of alerts; one that failed before it was sent counts as both."""

    sent: int = 0
    failed: int = 0
    dead: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.sent + other.sent, self.failed + other.failed, self.dead + other.dead)

    def add(self, decision: Decision, count: int = 1) -> None:
        """Count an attempt to send so many."""
        self.sent += count * isinstance(decision, Sent)
        self.failed += count * isinstance(decision, Retry)
        self.dead += count * isinstance(decision, Dead)


@dataclass(frozen=True, slots=True)
class Outlet:
    """A channel, and how it is to be treated.

    Attributes:
        channel: makes the calls.
        limits: how many, when.
        policy: how patiently it is tried again.
        lease: microseconds for which a row is nobody else's; a call takes less than half of it.
        follow_up: does what may follow a message that was taken and noted; says whether that made a call.
    """

    channel: Channel
    limits: Limits = field(default_factory=Limits)
    policy: Policy = field(default_factory=Policy)
    lease: int = sending.LEASE
    follow_up: Callable[[Sequence[Alert]], bool] | None = None


class Dispatcher:
    """Sends the rows of one channel.

    Args:
        connection: in autocommit mode.
        name: the channel's, as it stands in the outbox.
        outlet: the channel.
        clock: gives the time in microseconds UTC.
        counts: is added to.
    """

    def __init__(
        self, connection: Connection, name: str, outlet: Outlet, clock: Clock, counts: Counts | None = None
    ) -> None:
        self.counts = counts or Counts()
        self._connection = connection
        self._name = name
        self._outlet = outlet
        self._clock = clock
        self._calls: list[int] = []
        self._is_ours = False

    def send_due(self, stop: Event | None = None) -> int | None:
        """Send all that may be sent now, unless another dispatcher sends on this channel.

        Args:
            stop: set to end between two calls.

        Returns:
            When there is more to do, in microseconds UTC; None: when something new comes.
        """
        if not self._is_ours and not self._take_over():
            return None
        while not (stop and stop.is_set()):
            now = self._clock()
            match self._next_step(now):
                case Wait(until):
                    return until
                case Suppress(ids, reason):
                    sending.mark_suppressed(self._connection, ids, reason)
                case Send(ids):
                    # Committed at once: from here until the lease is over these rows are ours alone.
                    alerts = sending.claim(self._connection, ids, now, lease=self._outlet.lease)
                    if alerts:
                        self._attempt(alerts)
        return None

    def _take_over(self) -> bool:
        self._is_ours = sending.lock_channel(self._connection, self._name)
        if self._is_ours:
            now = self._clock()
            self._calls = sending.sent_since(self._connection, self._name, now - WINDOW)
            if any(row.attempts for row in self._waiting(now)):
                # Somebody has tried, and nothing says when.
                self._calls.append(now)
        return self._is_ours

    def _next_step(self, now: int) -> Step:
        self._calls = [at for at in self._calls if at > now - WINDOW]
        muted_until = mutes.muted(self._connection, now).get(self._name, 0)
        return next_step(self._waiting(now), self._calls, now, self._outlet.limits, muted_until)

    def _waiting(self, now: int) -> list[Waiting]:
        limits = self._outlet.limits
        room = BATCH if limits.digest_from is None else limits.most
        is_quiet = limits.quiet_until(now) is not None
        return sending.waiting(self._connection, self._name, room, is_critical=is_quiet)

    def _attempt(self, alerts: Sequence[Alert]) -> None:
        failure = self._outlet.channel.send(alerts)
        now = self._clock()
        self._calls.append(now)
        for decision, ids in decide_together(failure, alerts, now=now, policy=self._outlet.policy).items():
            self._record(ids, decision, failure, now)
            self.counts.add(decision, len(ids))
        if failure is None and self._outlet.follow_up is not None and self._outlet.follow_up(alerts):
            self._calls.append(self._clock())

    def _record(self, ids: Sequence[int], decision: Decision, failure: Failure | None, now: int) -> None:
        is_lost = failure is not None and failure.is_answer_lost
        match decision:
            case Sent():
                sending.mark_sent(self._connection, ids, now)
            case Retry(at, failed):
                sending.mark_failed(self._connection, ids, failed.reason, at, is_answer_lost=is_lost)
            case Dead(reason):
                sending.mark_dead(self._connection, ids, reason, is_answer_lost=is_lost)
