"""What a channel sends next, and when: a pure function of rows, calls so far, the clock and limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from market.timeframe import DAY
from storage.turns import WINDOW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storage.routes import Rule
    from storage.sending import Waiting

CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a channel bears; times in microseconds.

    Attributes:
        gap: from the end of a call to the next one, at least.
        per_minute: calls in any minute at most; None: no matter how many.
        digest_from: so many that wait become one message; None: each is sent by itself.
        most: alerts in one message at most.
        quiet: from when to when of each day, UTC, only what is critical is sent; what else comes waits.
    """

    gap: int = 0
    per_minute: int | None = None
    digest_from: int | None = None
    most: int = 1_000
    quiet: tuple[int, int] | None = None

    @property
    def counted(self) -> int:
        """How many of the last minute's calls say when the next may be."""
        return self.per_minute or (1 if self.gap else 0)

    def quiet_until(self, now: int) -> int | None:
        """The end of the quiet hours that `now` lies in."""
        if self.quiet is None:
            return None
        begin, end = self.quiet
        of_day = now % DAY
        length, since = (end - begin) % DAY, (of_day - begin) % DAY
        return now - since + length if since < length else None


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is to be done before `until`, microseconds UTC; None: before something new comes."""

    until: int | None


@dataclass(frozen=True, slots=True)
class Send:
    """Send these now, in one message."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Suppress:
    """Do not send these at all."""

    ids: tuple[int, ...]
    reason: str


Step = Wait | Send | Suppress


def next_step(
    rows: Sequence[Waiting], calls: Sequence[int], now: int, limits: Limits, silent: Sequence[Rule] = ()
) -> Step:
    """What to do now.

    The order is kept: as long as the oldest row waits for its next attempt, so do those after it. In quiet
    hours what is critical goes first.

    Args:
        rows: what waits on the channel, oldest first.
        calls: when calls of the last minute ended, in rising order, microseconds UTC.
        now: microseconds UTC.
        limits: what the channel bears.
        silent: what fits one of these is not sent, unless it is critical.
    """
    # A row that has a lease may be on its way just now.
    due_rows = [row for row in rows if row.due <= now and row.severity != CRITICAL] if silent else []
    if silenced := tuple(row.id for row in due_rows if any(rule.fits(row) for rule in silent)):
        return Suppress(silenced, "muted")
    quiet_until = limits.quiet_until(now)
    if quiet_until is not None:
        rows = [row for row in rows if row.severity == CRITICAL]
    if not rows:
        return Wait(quiet_until)
    at = max(rows[0].due, free_at(calls, limits))
    if at > now:
        return Wait(at)
    due = [row.id for row in rows[: _due(rows, now)]][: limits.most]
    is_digest = limits.digest_from is not None and len(due) >= limits.digest_from
    return Send(tuple(due if is_digest else due[:1]))


def free_at(calls: Sequence[int], limits: Limits) -> int:
    """From when on the channel bears another call."""
    at = calls[-1] + limits.gap if calls else 0
    if limits.per_minute is not None and len(calls) >= limits.per_minute:
        at = max(at, calls[-limits.per_minute] + WINDOW)
    return at


def _due(rows: Sequence[Waiting], now: int) -> int:
    """How many rows there are before the first that is not due."""
    return next((place for place, row in enumerate(rows) if row.due > now), len(rows))
