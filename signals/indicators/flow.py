"""Order flow from each candle's own volumes; never from the CVD that restarts at midnight.

Windows are summed afresh for every candle, oldest first, so that a value depends on its window alone
and one candle without sides (NaN) spoils only the windows that hold it.
"""

import math

import numpy as np

from signals.frame import Array
from signals.kernel import compiled
from signals.registry import Period, indicator


@indicator(warmup=lambda: 0)
def delta(buy_volume: Array, sell_volume: Array) -> Array:
    """Aggressive buying minus selling inside the candle, base units."""
    return buy_volume - sell_volume


@indicator(warmup=lambda period: period)
def delta_slope(buy_volume: Array, sell_volume: Array, *, period: Period = 20) -> Array:
    """Least-squares slope of delta over `period` candles, base units a candle."""
    return window_slope(buy_volume - sell_volume, period)


@indicator(warmup=lambda period: period)
def cvd(buy_volume: Array, sell_volume: Array, *, period: Period = 20) -> Array:
    """Delta accumulated over the last `period` candles, base units."""
    return window_sum(buy_volume - sell_volume, period)


@indicator(warmup=lambda period: period)
def cvd_slope(buy_volume: Array, sell_volume: Array, *, period: Period = 20) -> Array:
    """Least-squares slope of the CVD accumulated inside the last `period` candles, base units."""
    return window_walk_slope(buy_volume - sell_volume, period)


@indicator(warmup=lambda period: period)
def cvd_trend(buy_volume: Array, sell_volume: Array, volume: Array, *, period: Period = 20) -> Array:
    """CVD's slope over `period` candles as a share of their mean volume; NaN without volume."""
    traded = window_sum(volume, period) / period
    traded[traded == 0.0] = np.nan
    return window_walk_slope(buy_volume - sell_volume, period) / traded


@indicator(warmup=lambda period: period)
def cvd_divergence(close: Array, buy_volume: Array, sell_volume: Array, *, period: Period = 20) -> Array:
    """Half of CVD's trend minus the price's over `period` candles, -1 … 1: above 0, bought while it falls.

    A trend is the correlation with time. Where the price stands still it has none; without flow, NaN.
    """
    return window_divergence(close, buy_volume - sell_volume, period)


@indicator(warmup=lambda period: period + 1)
def relative_volume(volume: Array, *, period: Period = 20) -> Array:
    """Volume over the mean volume of the `period` candles before; NaN where those had none."""
    result = np.full(len(volume), np.nan)
    before = window_sum(volume, period)[:-1] / period
    before[before == 0.0] = np.nan
    result[1:] = volume[1:] / before
    return result


@compiled
def window_sum(values: Array, period: int) -> Array:
    """Sum of the last `period` values, added from the oldest; NaN until there are so many."""
    result = np.full(len(values), np.nan)
    for i in range(period - 1, len(values)):
        total = 0.0
        for j in range(i - period + 1, i + 1):
            total += values[j]
        result[i] = total
    return result


@compiled
def window_slope(values: Array, period: int) -> Array:
    """Least-squares slope, a step, of the last `period` values over their positions."""
    result = np.full(len(values), np.nan)
    middle = (period - 1) / 2.0
    spread = period * (period * period - 1.0) / 12.0
    for i in range(period - 1, len(values)):
        total = 0.0
        for j in range(period):
            total += (j - middle) * values[i - period + 1 + j]
        result[i] = total / spread
    return result


@compiled
def window_walk_slope(values: Array, period: int) -> Array:
    """Least-squares slope of the running sum of the last `period` values, started at each window."""
    result = np.full(len(values), np.nan)
    middle = (period - 1) / 2.0
    spread = period * (period * period - 1.0) / 12.0
    for i in range(period - 1, len(values)):
        total = 0.0
        walk = 0.0
        for j in range(period):
            walk += values[i - period + 1 + j]
            total += (j - middle) * walk
        result[i] = total / spread
    return result


@compiled
def trend(values: Array) -> float:
    """Pearson's correlation of values with their positions, -1 … 1; NaN where they are all the same."""
    count = len(values)
    # From the first on, so that equal values are 0 without any rounding.
    mean = 0.0
    for j in range(count):
        mean += values[j] - values[0]
    mean /= count
    middle = (count - 1) / 2.0
    shared = 0.0
    square = 0.0
    for j in range(count):
        off = values[j] - values[0] - mean
        shared += (j - middle) * off
        square += off * off
    if square == 0.0:
        return np.nan
    found = shared / math.sqrt(square * (count * (count * count - 1.0) / 12.0))
    return min(max(found, -1.0), 1.0)


@compiled
def window_divergence(values: Array, steps: Array, period: int) -> Array:
    """Half of: the trend of the steps' running sum minus the values', over the last `period` items.

    Values that are all the same have the trend 0; for a running sum that does not change there is no
    result.
    """
    result = np.full(len(values), np.nan)
    walk = np.empty(period)
    for i in range(period - 1, len(values)):
        first = i - period + 1
        total = 0.0
        for j in range(period):
            total += steps[first + j]
            walk[j] = total
        price = trend(values[first : i + 1])
        # Not a number although the values are: they are all the same.
        if price != price and values[first] == values[i]:
            price = 0.0
        result[i] = (trend(walk) - price) / 2.0
    return result
