"""Sends what is due on one channel: in order, at least once, and within its limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from alerts.pace import Limits, Send, Step, Suppress, Wait, next_step
from alerts.plan import Dead, Decision, Policy, Retry, Sent, decide_together
from market.timeframe import MICROSECONDS
from storage import mutes, sending, turns

if TYPE_CHECKING:
    from threading import Event

    from alerts.channels import Channel
    from alerts.plan import Failure
    from storage.database import Connection
    from storage.outbox import Alert
    from storage.sending import Waiting

BUSY = MICROSECONDS // 20
"""How long it takes until it is looked again whether another program's call there is over."""
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
        place: where calls are counted together with those of other programs; the channel's name without one.
        follow_up: does what may follow a message that was taken and noted; says whether that made a call.
    """

    channel: Channel
    limits: Limits = field(default_factory=Limits)
    policy: Policy = field(default_factory=Policy)
    lease: int = sending.LEASE
    place: str | None = None
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
        self._place = outlet.place or name
        self._is_ours = False

    def send_due(self, stop: Event | None = None) -> int | None:
        """Send all that may be sent now, unless another dispatcher sends on this channel.

        Args:
            stop: set to end between two calls.

        Returns:
            When there is more to do, in microseconds UTC; None: when something new comes.
        """
        self._is_ours = self._is_ours or sending.lock_channel(self._connection, self._name)
        if not self._is_ours:
            return None
        while not (stop and stop.is_set()):
            now = self._clock()
            with self._turn(now) as calls:
                if calls is None:
                    return now + BUSY
                match self._next_step(calls, now):
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

    def _turn(self, now: int) -> AbstractContextManager[list[int] | None]:
        """When the calls that count ended, and nobody else's meanwhile; None: somebody else calls."""
        count = self._outlet.limits.counted
        return turns.turn(self._connection, self._place, now, count) if count else nullcontext([])

    def _next_step(self, calls: Sequence[int], now: int) -> Step:
        silent = [each.rule() for each in mutes.muted(self._connection, now, channel=self._name)]
        return next_step(self._waiting(now), calls, now, self._outlet.limits, silent)

    def _waiting(self, now: int) -> list[Waiting]:
        limits = self._outlet.limits
        room = BATCH if limits.digest_from is None else limits.most
        is_quiet = limits.quiet_until(now) is not None
        return sending.waiting(self._connection, self._name, room, is_critical=is_quiet)

    def _attempt(self, alerts: Sequence[Alert]) -> None:
        self._note(turns.begin)
        failure = self._outlet.channel.send(alerts)
        now = self._note(turns.end)
        for decision, ids in decide_together(failure, alerts, now=now, policy=self._outlet.policy).items():
            self._record(ids, decision, failure, now)
            self.counts.add(decision, len(ids))
        if failure is None and self._outlet.follow_up is not None:
            self._note(turns.begin)
            if self._outlet.follow_up(alerts):
                self._note(turns.end)
            else:
                turns.forget(self._connection, self._place)

    def _note(self, what: Callable[[Connection, str, int], None]) -> int:
        """Put a call on record where calls count; gives the time."""
        now = self._clock()
        if self._outlet.limits.counted:
            what(self._connection, self._place, now)
        return now

    def _record(self, ids: Sequence[int], decision: Decision, failure: Failure | None, now: int) -> None:
        is_lost = failure is not None and failure.is_answer_lost
        match decision:
            case Sent():
                sending.mark_sent(self._connection, ids, now)
            case Retry(at, failed):
                sending.mark_failed(self._connection, ids, failed.reason, at, is_answer_lost=is_lost)
            case Dead(reason):
                sending.mark_dead(self._connection, ids, reason, is_answer_lost=is_lost)
