"""Higher timeframes: which of their candles a lower one sees, and candles made of lower ones. Pure.

A candle becomes known when it closes. One that closes at T sees the higher candle that closed last, at T or
before; where that very candle is missing it sees none, never an older one, and never one that is still open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from signals.frame import EXTRAS, Array, CandleFrame, Indices
from signals.kernel import compiled

if TYPE_CHECKING:
    from market.timeframe import Timeframe

Higher = Mapping["Timeframe", CandleFrame]
"""Closed candles of the same instrument by higher timeframe."""


def seen_at(lower: Timeframe, timestamp: int, higher: Timeframe) -> int:
    """Open time of the higher candle that the candle opening at `timestamp` sees, microseconds UTC."""
    return higher.open_of(timestamp + lower.microseconds) - higher.microseconds


def seen(frame: CandleFrame, start: int, higher: CandleFrame, since: int, values: Array) -> Array:
    """The `values` of the candles of `higher` from index `since` on as those of `frame` see them.

    Those of `frame` from index `start` on; NaN where there is none.
    """
    closes, length = frame.timestamp[start:] + frame.timeframe.microseconds, higher.timeframe.microseconds
    return _seen(closes, higher.timestamp[since:], length, values)


@compiled
def _seen(closes: Indices, opens: Indices, length: int, values: Array) -> Array:
    result = np.full(len(closes), np.nan)
    place = 0
    for i in range(len(closes)):
        wanted = closes[i] // length * length - length
        while place < len(opens) and opens[place] < wanted:
            place += 1
        if place < len(opens) and opens[place] == wanted:
            result[i] = values[place]
    return result


def resampled(frame: CandleFrame, timeframe: Timeframe) -> CandleFrame:
    """The higher candles that have closed by the end of `frame`, made of its candles.

    For candles without a database; the tape's own may differ in the last bits of volumes, which are summed
    exactly there. `imbalance_mean` and `spread_bps_mean` are means of means.
    """
    length = timeframe.microseconds
    last = frame.close_time[-1] if len(frame) else 0
    frame = frame.part(0, int(np.searchsorted(frame.timestamp, last // length * length)))
    buckets = frame.timestamp // length
    starts = np.flatnonzero(np.diff(buckets, prepend=-1))
    if not len(starts):
        return replace(frame.part(0, 0), timeframe=timeframe)
    ends = np.append(starts[1:], len(frame)) - 1
    counts = ends - starts + 1
    columns = {name: np.add.reduceat(frame.column(name), starts) for name in ("volume", *EXTRAS)}
    columns |= {"open": frame.open[starts], "close": frame.close[ends]}
    columns |= {
        "high": np.maximum.reduceat(frame.high, starts),
        "low": np.minimum.reduceat(frame.low, starts),
    }
    columns |= {name: frame.column(name)[ends] for name in ("cvd_close", "imbalance_last")}
    columns |= {name: columns[name] / counts for name in ("imbalance_mean", "spread_bps_mean")}
    is_whole = np.logical_and.reduceat(frame.is_whole, starts)
    is_whole &= counts == length // frame.timeframe.microseconds
    return CandleFrame(timeframe, buckets[starts] * length, **columns, is_whole=is_whole)
