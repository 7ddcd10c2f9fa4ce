"""Anchored blocks: why a value does not depend on when a computation began.

TA-Lib's rolling sums and every recursive average depend, in their last bits, on the bar they start
from. So everything is computed in blocks of `BLOCK` candles whose edges depend on a candle's own
open time only. A pass over a block reads a warm-up before it, and never crosses a missing candle.
A live process, a restarted one and a batch thus compute a candle from the very same inputs in the
same order: the results are equal bit for bit. Indicators get their values here and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from signals.frame import COLUMNS, Array, CandleFrame, Remembered
from signals.registry import Bound, find, locate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from market.timeframe import Timeframe
    from signals.frame import Indices, Memory

BLOCK = 4096


def anchor(timeframe: Timeframe, timestamp: int, warmup: int) -> int:
    """Open time of the first candle that the candle at `timestamp` depends on, microseconds UTC.

    A frame that starts here, or anywhere before, gives that candle and all later ones their values.

    Args:
        timeframe: the candles' interval.
        timestamp: the candle's open time, microseconds UTC.
        warmup: candles read before a block.
    """
    length = timeframe.microseconds
    return timestamp - timestamp % (BLOCK * length) - warmup * length


class Pass:
    """Candles of one block with what they depend on; gives columns and indicators by name.

    `pass_["close"]`, `pass_["rsi_14"]` and `pass_["macd_12_26_9.signal"]` are arrays over all of them. All
    look-back of a candle comes from its own pass.

    Attributes:
        frame: candles without a hole: the warm-up before the block, and the block.
        lead: how many of them come before those that are covered.
        start: index, in the whole frame, of the first that is covered.
    """

    def __init__(self, frame: CandleFrame, warmup: int, lead: int, start: int, memory: Memory) -> None:
        self.frame = frame
        self.lead = lead
        self.start = start
        # No candle is missing: the others' times follow from one.
        self._length = frame.timeframe.microseconds
        self._begin = int(frame.timestamp[0])
        self._since = self._begin + lead * self._length
        self._until = self._begin + (len(frame) - 1) * self._length
        self._warmup = warmup
        self._memory = memory
        self._whole: dict[str, Mapping[str, Array]] = {}

    def __getitem__(self, name: str) -> Array:
        if name in COLUMNS:
            return self.frame.column(name)
        bound, output = locate(name)
        if bound.name not in self._whole:
            self._whole[bound.name] = bound.compute(self._inputs(self._first(bound)))
        values = self._whole[bound.name][output]
        missing = len(self.frame) - len(values)
        return np.concatenate((np.full(missing, np.nan), values)) if missing else values

    def outputs(self, bound: Bound) -> Mapping[str, Array]:
        """All outputs of an indicator over the candles that are covered."""
        first, since, until = self._first(bound), self._since, self._until
        begin = self._begin + first * self._length
        known = self._memory.get(bound.name)
        if known is not None and known.begin != begin:
            known = None
        if known is not None and known.until == until and known.since == since:
            return known.outputs
        state = None
        if bound.indicator.is_windowed:
            first = max(self.lead - bound.warmup, 0)
        elif known is not None and known.state is not None and known.until == since - self._length:
            first, state = self.lead, known.state.copy()
        elif bound.has_state:
            state = bound.fresh_state()
        outputs = bound.compute(self._inputs(first), state)
        if first < self.lead:
            outputs = {name: values[self.lead - first :].copy() for name, values in outputs.items()}
        self._memory[bound.name] = Remembered(begin, since, until, outputs, state)
        return outputs

    def _first(self, bound: Bound) -> int:
        """The candle that an indicator starts at.

        Each has its own distance from the block, whatever else the pass holds, so that one name means one
        value in every strategy.
        """
        return max(self._warmup - bound.warmup, 0)

    def _inputs(self, start: int) -> Callable[[str], Any]:
        return lambda name: self.frame.input(name)[start:]


class Covered(dict[str, Array]):
    """What a pass gives, over the candles that are covered alone: for what looks at one at a time.

    Attributes:
        part: the pass.
    """

    def __init__(self, part: Pass) -> None:
        super().__init__()
        self.part = part

    def __missing__(self, name: str) -> Array:
        part = self.part
        if name in COLUMNS:
            values = part.frame.column(name)[part.lead :]
        else:
            bound, output = locate(name)
            values = part.outputs(bound)[output]
        self[name] = values
        return values


def passes(frame: CandleFrame, warmup: int, start: int = 0) -> Iterator[Pass]:
    """The passes that cover the candles of `frame` from index `start` on, in order.

    Args:
        frame: candles; their first must lie at or before `anchor` of the candle at `start` (unless
            there are none before it), or the first block's values depend on where the frame begins.
        warmup: candles to read before each block, where the segment has them.
        start: candles before this index are read, not covered.
    """
    times, length = frame.timestamp, frame.timeframe.microseconds
    while start < len(frame):
        opened = int(times[start]) // (BLOCK * length) * BLOCK * length
        block = _run_begin(times, frame.find(opened), start, length)
        begin = _run_begin(times, max(block - warmup, 0), block, length)
        stop = _run_end(times, start, frame.find(opened + BLOCK * length), length)
        memory = {} if frame.memory is None else frame.memory
        yield Pass(frame.part(begin, stop), block - begin, start - begin, start, memory)
        start = stop


def _run_begin(times: Indices, low: int, last: int, length: int) -> int:
    """The first candle from `low` on from which none is missing up to `last`."""
    if times[last] - times[low] == (last - low) * length:
        return low
    return low + int(np.flatnonzero(np.diff(times[low : last + 1]) != length)[-1]) + 1


def _run_end(times: Indices, first: int, stop: int, length: int) -> int:
    """Where the first candle is missing after `first`; at `stop` at the latest."""
    if times[stop - 1] - times[first] == (stop - 1 - first) * length:
        return stop
    return first + int(np.flatnonzero(np.diff(times[first:stop]) != length)[0]) + 1


def compute(frame: CandleFrame, name: str, start: int = 0) -> dict[str, Array]:
    """The outputs of one indicator for the candles of `frame` from index `start` on.

    Args:
        frame: candles, beginning at or before `anchor` of the candle at `start`.
        name: indicator and parameters, such as rsi_14.
        start: index of the first candle wanted.

    Raises:
        WrongUse: there is no such indicator.
    """
    return compute_all(frame, (name,), start)[name]


def compute_all(frame: CandleFrame, names: Sequence[str], start: int) -> dict[str, dict[str, Array]]:
    """As `compute`, for several indicators, by name."""
    wanted = {name: find(name) for name in names}
    results = {
        name: {output: np.full(len(frame), np.nan) for output in bound.indicator.outputs}
        for name, bound in wanted.items()
    }
    warmup = max((bound.warmup for bound in wanted.values()), default=0)
    for part in passes(frame, warmup, start):
        for name, bound in wanted.items():
            for output, values in part.outputs(bound).items():
                results[name][output][part.start : part.start + len(values)] = values
    return {
        name: {output: values[start:] for output, values in outputs.items()}
        for name, outputs in results.items()
    }
