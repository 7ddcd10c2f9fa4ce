"""Candles that were just read, kept in memory until the tape under them changes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from signals.frame import COLUMNS
from signals.reading import Tape, read_since

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from signals.frame import CandleFrame, Indices, Memory
    from signals.target import Target
    from storage.database import Connection

MOST_KEPT = 1_000
"""Frames; each takes half a megabyte."""
MOST_NEW = 10_000
"""So many new candles are not read together any more."""
_ROOM = 256
_ARRAYS = ("timestamp", *COLUMNS, "is_whole")


@dataclass(slots=True)
class _Kept:
    """All closed candles of a target from `start` on, as its tape was at a revision; with room for more.

    Attributes:
        revision: which.
        start: microseconds UTC.
        asked: the earliest start asked for since older candles were last let go, microseconds UTC.
        frame: the candles, and behind them room, which opens later than all of them.
        count: how many candles there are.
        memory: of indicators over them.
    """

    revision: int
    start: int
    asked: int
    frame: CandleFrame
    count: int
    memory: Memory = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The close of the last candle, microseconds UTC; with none, where the first one can open."""
        length = self.frame.timeframe.microseconds
        if not self.count:
            return -(-self.start // length) * length
        return int(self.frame.timestamp[self.count - 1]) + length

    def part(self, start: int, end: int) -> CandleFrame:
        """The candles that open in [start, end)."""
        stop = min(self.frame.find(end), self.count)
        return self.frame.part(min(self.frame.find(start), stop), stop).remembering(self.memory)

    def add(self, more: CandleFrame) -> None:
        """Put newer candles behind those that are there."""
        if not len(more):
            return
        if len(self.frame) < self.count + len(more):
            self._make_room(len(more))
        place = slice(self.count, self.count + len(more))
        for name in _ARRAYS:
            getattr(self.frame, name)[place] = getattr(more, name)
        self.count = place.stop
        self.frame.timestamp[place.stop :] = self._later(len(self.frame) - place.stop)

    def _make_room(self, wanted: int) -> None:
        self.start, self.asked = max(self.start, self.asked), self.end
        kept = self.frame.part(min(self.frame.find(self.start), self.count), self.count)
        room = wanted + _ROOM
        longer: dict[str, Any] = {
            name: np.concatenate((values, np.empty(room, dtype=values.dtype)))
            for name in _ARRAYS
            for values in [getattr(kept, name)]
        }
        longer["timestamp"][len(kept) :] = self._later(room)
        self.frame, self.count = replace(kept, **longer), len(kept)

    def _later(self, count: int) -> Indices:
        """The open times of so many candles after the last one."""
        return self.end + self.frame.timeframe.microseconds * np.arange(count)


class Recent:
    """Keeps the newest candles for who asks for them again and again.

    What is kept is right as long as the instrument has no newer tape revision: then only candles that have
    closed since are read.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[Target, _Kept] = OrderedDict()

    def tape(
        self, connection: Connection, targets: Iterable[Target], revisions: Mapping[tuple[str, str], int]
    ) -> Tape:
        """The tape as it is now; what is new of `targets` is read at once.

        Args:
            connection: the database.
            targets: those whose newest candles will be asked for.
            revisions: of their instruments, as `newest_revisions` found them before: what is revised
                later is read again the next time.
        """
        tape = _RecentTape(connection, self._kept, revisions)
        tape.fetch(targets)
        return tape


class _RecentTape(Tape):
    def __init__(
        self,
        connection: Connection,
        kept: OrderedDict[Target, _Kept],
        revisions: Mapping[tuple[str, str], int],
    ) -> None:
        super().__init__(connection)
        self._kept = kept
        self._revisions = revisions
        self._fetched: set[Target] = set()

    def fetch(self, targets: Iterable[Target]) -> None:
        since = {target: kept.end for target in targets if (kept := self._valid(target))}
        found = read_since(self._connection, since, MOST_NEW) if since else None
        if found is None:
            # With too many of them each target is read by itself.
            return
        for target, more in found.items():
            self._kept[target].add(more)
        self._fetched.update(since)

    def read(self, target: Target, start: int, end: int) -> CandleFrame:
        """As `Tape.read`."""
        kept = self._valid(target)
        if kept is None or kept.start > start:
            frame = super().read(target, start, end)
            kept = _Kept(self._revision(target), start, start, frame, len(frame))
            self._kept[target] = kept
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        elif target not in self._fetched and kept.end < end:
            kept.add(super().read(target, kept.end, end))
        kept.asked = min(kept.asked, start)
        self._kept.move_to_end(target)
        return kept.part(start, end)

    def first_from(self, target: Target, start: int) -> int | None:
        """As `Tape.first_from`."""
        kept = self._valid(target)
        if kept is None or target not in self._fetched or start < kept.start:
            return super().first_from(target, start)
        place = kept.frame.find(start)
        return int(kept.frame.timestamp[place]) if place < kept.count else None

    def _revision(self, target: Target) -> int:
        return self._revisions.get(target.instrument, 0)

    def _valid(self, target: Target) -> _Kept | None:
        kept = self._kept.get(target)
        return kept if kept is not None and kept.revision == self._revision(target) else None
