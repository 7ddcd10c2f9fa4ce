"""The price weighed by volume, over a window and since an anchor, with bands."""

import math
from typing import Annotated

import numpy as np

from signals.frame import Array, Indices
from signals.kernel import compiled
from signals.registry import Bounds, Period, indicator

Deviations = Annotated[float, Bounds(0, 10)]
Hours = Annotated[int, Bounds(1, 168)]
_HOUR = 3_600_000_000
_MONDAY = 4 * 24 * _HOUR
"""1970-01-05 00:00 UTC, microseconds: weeks are counted from a Monday."""


@indicator(warmup=lambda period, deviations: period, outputs=("vwap", "upper", "lower"))
def rolling_vwap(
    high: Array, low: Array, close: Array, volume: Array, *, period: Period = 20, deviations: Deviations = 2.0
) -> tuple[Array, Array, Array]:
    """Volume-weighted average price over `period` candles, plus and minus so many deviations.

    A candle's price is (high + low + close) / 3; the deviation is the prices', weighed by volume.
    Without volume there is none.
    """
    middle, spread = window_average((high + low + close) / 3.0, volume, period)
    return middle, middle + deviations * spread, middle - deviations * spread


# The finest candles are minutes: so many reach back to the anchor on every timeframe.
@indicator(warmup=lambda hours, deviations: 60 * hours, outputs=("vwap", "upper", "lower"))
def anchored_vwap(
    timestamp: Indices,
    high: Array,
    low: Array,
    close: Array,
    volume: Array,
    *,
    hours: Hours = 24,
    deviations: Deviations = 2.0,
) -> tuple[Array, Array, Array]:
    """Volume-weighted average price since an anchor each so many hours UTC: 24 midnight, 168 Monday.

    Bands and prices are those of `rolling_vwap`. After a hole it is unknown until the next anchor.
    """
    length = hours * _HOUR
    middle, spread = running_average(
        (high + low + close) / 3.0, volume, (timestamp - _MONDAY) // length, bool(_opens(timestamp, length))
    )
    return middle, middle + deviations * spread, middle - deviations * spread


def _opens(timestamp: Indices, length: int) -> bool:
    """Whether the first candle opens at an anchor."""
    return len(timestamp) > 0 and (int(timestamp[0]) - _MONDAY) % length == 0


@compiled
def window_average(values: Array, weights: Array, period: int) -> tuple[Array, Array]:
    """Weighted mean and standard deviation of the last `period` values; NaN before, and without weight."""
    mean, spread = np.full(len(values), np.nan), np.full(len(values), np.nan)
    for i in range(period - 1, len(values)):
        weight = 0.0
        total = 0.0
        for j in range(i - period + 1, i + 1):
            weight += weights[j]
            total += weights[j] * values[j]
        if weight > 0.0:
            square = 0.0
            for j in range(i - period + 1, i + 1):
                square += weights[j] * (values[j] - total / weight) ** 2
            mean[i] = total / weight
            spread[i] = math.sqrt(square / weight)
    return mean, spread


@compiled
def running_average(values: Array, weights: Array, groups: Indices, is_whole: bool) -> tuple[Array, Array]:
    """Weighted mean and standard deviation since each group began (West, CACM 22 (1979) 532).

    NaN in the first group unless it is whole, and until there is weight.
    """
    mean, spread = np.full(len(values), np.nan), np.full(len(values), np.nan)
    is_known = is_whole
    weight = 0.0
    middle = 0.0
    square = 0.0
    for i in range(len(values)):
        if i > 0 and groups[i] != groups[i - 1]:
            is_known = True
            weight = 0.0
            middle = 0.0
            square = 0.0
        if weights[i] > 0.0:
            weight += weights[i]
            step = (values[i] - middle) * (weights[i] / weight)
            square += (weight - weights[i]) * step * (values[i] - middle)
            middle += step
        if is_known and weight > 0.0:
            mean[i] = middle
            spread[i] = math.sqrt(square / weight)
    return mean, spread
