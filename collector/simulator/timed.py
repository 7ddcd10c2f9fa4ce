"""Texts in the order of time, made a period at a time as they are asked for."""

from bisect import bisect_left
from collections.abc import Callable, Iterator

from msgspec import Struct

from collector.simulator.market import recent


class Timed(Struct, frozen=True):
    """Texts and their times (milliseconds UTC), ascending."""

    times: list[int]
    texts: list[str]

    def between(self, begin: int, end: int) -> Iterator[tuple[int, str]]:
        """Those with begin <= time < end."""
        low, high = bisect_left(self.times, begin), bisect_left(self.times, end)
        return zip(self.times[low:high], self.texts[low:high], strict=True)


class Periodic:
    """An endless `Timed`: `make(i)` makes its part from i * length to (i + 1) * length milliseconds."""

    def __init__(self, length: int, make: Callable[[int], Timed]) -> None:
        self._length = length
        self._make = recent(make)

    def between(self, begin: int, end: int) -> list[tuple[int, str]]:
        """(time, text) of all with begin <= time < end."""
        if end <= begin:
            return []
        periods = range(begin // self._length, (end - 1) // self._length + 1)
        return [found for period in periods for found in self._make(period).between(begin, end)]
