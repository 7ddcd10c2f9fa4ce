"""Anchored blocks: why a value does not depend on when a computation began.

TA-Lib's rolling sums and every recursive average depend, in their last bits, on the bar they start
from. So everything is computed in blocks of `BLOCK` candles whose edges depend on a candle's own
open time only. A pass over a block reads a warm-up before it, and never crosses a missing candle.
A live process, a restarted one and a batch thus compute a candle from the very same inputs in the
same order: the results are equal bit for bit. Indicators get their values here and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from signals.frame import COLUMNS, Array, CandleFrame
from signals.registry import Bound, find, locate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from market.timeframe import Timeframe

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
    """One block of candles with its warm-up; gives columns and indicators by name.

    `pass_["close"]`, `pass_["rsi_14"]` and `pass_["macd_12_26_9.signal"]` are arrays over the
    warm-up (`lead` candles) and the block. All look-back of a candle comes from its own pass.

    Attributes:
        frame: the candles of warm-up and block, without a hole.
        lead: how many of them are warm-up.
        start: index, in the whole frame, of the block's first candle.
    """

    def __init__(self, frame: CandleFrame, lead: int, start: int) -> None:
        self.frame = frame
        self.lead = lead
        self.start = start
        self._computed: dict[str, tuple[int, Mapping[str, Array]]] = {}

    def __getitem__(self, name: str) -> Array:
        if name in COLUMNS:
            return self.frame.column(name)
        bound, output = locate(name)
        return self.outputs(bound)[output]

    def outputs(self, bound: Bound) -> Mapping[str, Array]:
        """All outputs of an indicator over warm-up and block; NaN before its own warm-up."""
        skipped, outputs = self._compute(bound)
        if not skipped:
            return outputs
        blank = np.full(skipped, np.nan)
        return {name: np.concatenate((blank, values)) for name, values in outputs.items()}

    def block(self, name: str) -> Array:
        """As `pass_[name]`, over the block alone."""
        if name in COLUMNS:
            return self.frame.column(name)[self.lead :]
        bound, output = locate(name)
        skipped, outputs = self._compute(bound)
        return outputs[output][self.lead - skipped :]

    def _compute(self, bound: Bound) -> tuple[int, Mapping[str, Array]]:
        """How many candles of the warm-up an indicator leaves out, and its outputs from there on."""
        # Each indicator starts at its own distance from the block, whatever else the pass holds,
        # so that one name means one value in every strategy.
        if bound.name not in self._computed:
            skipped = max(self.lead - bound.warmup, 0)
            outputs = bound.compute(lambda name: self.frame.input(name)[skipped:])
            self._computed[bound.name] = skipped, outputs
        return self._computed[bound.name]


class Block:
    """The block of a pass, for what looks at one candle at a time; gives what the pass does, without lead."""

    def __init__(self, part: Pass) -> None:
        self._part = part

    def __getitem__(self, name: str) -> Array:
        return self._part.block(name)


def passes(frame: CandleFrame, warmup: int, start: int = 0) -> Iterator[Pass]:
    """The passes that cover the candles of `frame` from index `start` on, in order.

    Args:
        frame: candles; their first must lie at or before `anchor` of the candle at `start` (unless
            there are none before it), or the first block's values depend on where the frame begins.
        warmup: candles to read before each block, where the segment has them.
        start: candles before this index are read, not covered.
    """
    if start >= len(frame):
        return
    length = frame.timeframe.microseconds
    is_segment = np.diff(frame.timestamp) != length
    is_block = np.diff(frame.timestamp // (BLOCK * length)) != 0
    segments = np.concatenate(([0], np.flatnonzero(is_segment) + 1))
    edges = np.concatenate(([0], np.flatnonzero(is_segment | is_block) + 1, [len(frame)]))
    for first, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if stop <= start:
            continue
        segment = int(segments[np.searchsorted(segments, first, side="right") - 1])
        begin = max(segment, first - warmup)
        yield Pass(frame.part(begin, stop), first - begin, first)


def compute(frame: CandleFrame, name: str, start: int = 0) -> dict[str, Array]:
    """The outputs of one indicator for the candles of `frame` from index `start` on.

    Args:
        frame: candles, beginning at or before `anchor` of the candle at `start`.
        name: indicator and parameters, such as rsi_14.
        start: index of the first candle wanted.

    Raises:
        WrongUse: there is no such indicator.
    """
    bound = find(name)
    results = {output: np.full(len(frame), np.nan) for output in bound.indicator.outputs}
    for part in passes(frame, bound.warmup, start):
        for output, values in part.outputs(bound).items():
            block = values[part.lead :]
            results[output][part.start : part.start + len(block)] = block
    return {output: values[start:] for output, values in results.items()}
