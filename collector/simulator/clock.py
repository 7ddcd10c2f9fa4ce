"""Real time as the simulator sees it, and the simulated time that follows from it."""

import asyncio
import time
from typing import Protocol

from market import DAY
from storage.clock import wall_clock

WARM_UP = 1.0
"""Seconds at real speed at the beginning: at a thousand times that, hours would be over before a subscriber
could have its first book over REST."""


class Clock(Protocol):
    """Where real time comes from; tests bring their own."""

    def now(self) -> int:
        """The wall clock in microseconds UTC."""

    def elapsed(self) -> float:
        """Seconds since some fixed moment; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Wait that long."""


class RealClock:
    """The machine's time."""

    def now(self) -> int:
        """The wall clock in microseconds UTC."""
        return wall_clock()

    def elapsed(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait that long."""
        await asyncio.sleep(seconds)


class Pace:
    """How far simulated time may have come: from `start` at `speed`, once begun.

    Its first second runs at real speed. A market that starts in the past never overtakes the wall clock:
    having reached it, it keeps up with it.
    """

    def __init__(self, start: int | None, speed: float, clock: Clock) -> None:
        self.start = start
        """Microseconds UTC; None: the moment of beginning."""
        self._speed = speed
        self._clock = clock
        self._began: float | None = None
        self._is_capped = False

    def begin(self) -> int:
        """Simulated time runs from now on; gives its first moment."""
        now = self._clock.now()
        if self.start is None:
            self.start = now
        self._is_capped = self.start <= now
        self._began = self._clock.elapsed()
        return self.start

    def target(self) -> int:
        """The simulated time (microseconds UTC) that real time allows for now."""
        now = self._clock.now()
        if self._began is None or self.start is None:
            return now if self.start is None else self.start
        elapsed = self._clock.elapsed() - self._began
        if self._speed > 1:
            warm = min(elapsed, WARM_UP)
            elapsed = (elapsed - warm) + warm / self._speed
        reached = self.start + int(self._speed * elapsed * 1_000_000)
        return min(reached, now) if self._is_capped else reached

    def seconds(self, microseconds: int) -> float:
        """How many real seconds such a span of simulated time takes, as long as it hurries."""
        return microseconds / self._speed / 1_000_000

    def is_live(self, reached: int) -> bool:
        """Whether simulated time `reached` has caught up with the wall clock, within two seconds."""
        return self._began is not None and self._is_capped and reached > self._clock.now() - 2_000_000


def default_start(speed: float, clock: Clock) -> int | None:
    """Where a simulation starts unless told: in real time now, faster at yesterday's midnight (UTC)."""
    if speed <= 1:
        return None
    now = clock.now()
    return now - now % DAY - DAY
