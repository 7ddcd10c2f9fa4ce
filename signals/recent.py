"""Candles that were just read, kept in memory until the tape under them changes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from signals.reading import read_frame
from signals.store import newest_revision

if TYPE_CHECKING:
    from signals.frame import CandleFrame
    from signals.target import Target
    from storage.database import Connection

MOST_KEPT = 1_000
"""Frames; each takes half a megabyte."""


class _Kept(NamedTuple):
    """All closed candles that open at `start` or later, as the tape was at a revision."""

    revision: int
    start: int
    frame: CandleFrame


class Recent:
    """Reads frames as `signals.reading.read_frame` does, for who asks for the newest candles again and again.

    What is kept is right as long as the instrument has no newer tape revision: then only candles that have
    closed since are read.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[Target, _Kept] = OrderedDict()

    def read(self, connection: Connection, target: Target, start: int, end: int) -> CandleFrame:
        """The stored closed candles of `target` that open in [start, end), microseconds UTC."""
        # Before the candles: what is revised after it is read again the next time.
        revision = newest_revision(connection, target)
        kept = self._kept.pop(target, None)
        if kept is None or kept.revision != revision or kept.start > start or not len(kept.frame):
            frame = read_frame(connection, target, start, end)
        else:
            since = max(int(kept.frame.timestamp[-1]) + target.timeframe.microseconds, start)
            known = kept.frame.part(kept.frame.find(start), len(kept.frame))
            frame = _joined(known, read_frame(connection, target, since, max(since, end)))
        self._kept[target] = _Kept(revision, start, frame)
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return frame.part(0, frame.find(end))


def _joined(one: CandleFrame, other: CandleFrame) -> CandleFrame:
    if not len(other):
        return one
    arrays = [each.name for each in fields(one) if isinstance(getattr(one, each.name), np.ndarray)]
    joined: dict[str, Any] = {
        name: np.concatenate((getattr(one, name), getattr(other, name))) for name in arrays
    }
    return replace(one, **joined)
