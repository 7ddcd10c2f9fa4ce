"""Order flow from each candle's own volumes; never from the CVD that restarts at midnight.

Windows are summed afresh for every candle, oldest first, so that a value depends on its window alone
and one candle without sides (NaN) spoils only the windows that hold it.
"""

import math

import numpy as np

from signals.frame import Array
from signals.kernel import compiled
from signals.registry import Period, indicator


@indicator(warmup=lambda: 0, is_windowed=True)
def delta(buy_volume: Array, sell_volume: Array) -> Array:
    """Aggressive buying minus selling inside the candle, base units."""
    return buy_volume - sell_volume


@indicator(warmup=lambda period: period, is_windowed=True)
def delta_slope(buy_volume: Array, sell_volume: Array, *, period: Period = 20) -> Array:
    """Least-squares slope of delta over `period` candles, base units a candle."""
    return window_slope(buy_volume - sell_volume, period)


@indicator(warmup=lambda period: period, is_windowed=True)
def cvd(buy_volume: Array, sell_volume: Array, *, period: Period = 20) -> Array:
    """Delta accumulated over the last `period` candles, base units."""
    return window_sum(buy_volume - sell_volume, period)


@indicator(warmup=lambda period: period, is_windowed=True)
def cvd_slope(buy_volume: Array, sell_volume: Array, *, period: Period = 20) -> Array:
    """Least-squares slope of the CVD accumulated inside the last `period` candles, base units."""
    return window_walk_slope(buy_volume - sell_volume, period)


@indicator(warmup=lambda period: period, is_windowed=True)
def cvd_trend(buy_volume: Array, sell_volume: Array, volume: Array, *, period: Period = 20) -> Array:
    """CVD's slope over `period` candles as a share of their mean volume; NaN without volume."""
    traded = window_sum(volume, period) / period
    traded[traded == 0.0] = np.nan
    return window_walk_slope(buy_volume - sell_volume, period) / traded


@indicator(warmup=lambda period: period, is_windowed=True)
def cvd_divergence(close: Array, buy_volume: Array, sell_volume: Array, *, period: Period = 20) -> Array:
    """Half of CVD's trend minus the price's over `period` candles, -1 … 1: above 0, bought while it falls.

    A trend is the correlation with time. Where the price stands still it has none; without flow, NaN.
    """
    return window_divergence(close, buy_volume - sell_volume, period)


@indicator(warmup=lambda period: period + 1, is_windowed=True)
def relative_volume(volume: Array, *, period: Period = 20) -> Array:
    """Volume over the mean volume of the `period` candles before; NaN where those had none."""
    result = np.full(len(volume), np.nan)
    before = window_sum(volume, period)[:-1] / period
    before[before == 0.0] = np.nan
    result[1:] = volume[1:] / before
    return result


# Windows are computed side by side, each in its own order: so many have room in the fastest cache.
_TILE = 256


@compiled
def window_sum(values: Array, period: int) -> Array:
    """Sum of the last `period` values, added from the oldest; NaN until there are so many."""
    result = np.full(len(values), np.nan)
    for begin in range(period - 1, len(values), _TILE):
        total = result[begin : begin + _TILE]
        total[:] = 0.0
        for first in range(begin - period + 1, begin + 1):
            step = values[first : first + len(total)]
            for i in range(len(total)):
                total[i] += step[i]
    return result


@compiled
def window_slope(values: Array, period: int) -> Array:
    """Least-squares slope, a step, of the last `period` values over their positions."""
    result = np.full(len(values), np.nan)
    middle = (period - 1) / 2.0
    spread = period * (period * period - 1.0) / 12.0
    for begin in range(period - 1, len(values), _TILE):
        total = result[begin : begin + _TILE]
        total[:] = 0.0
        for j in range(period):
            first = begin - period + 1 + j
            step = values[first : first + len(total)]
            for i in range(len(total)):
                total[i] += (j - middle) * step[i]
        total /= spread
    return result


@compiled
def window_walk_slope(values: Array, period: int) -> Array:
    """Least-squares slope of the running sum of the last `period` values, started at each window."""
    result = np.full(len(values), np.nan)
    middle = (period - 1) / 2.0
    spread = period * (period * period - 1.0) / 12.0
    for begin in range(period - 1, len(values), _TILE):
        total = result[begin : begin + _TILE]
        total[:] = 0.0
        walk = np.zeros(len(total))
        for j in range(period):
            first = begin - period + 1 + j
            step = values[first : first + len(total)]
            for i in range(len(total)):
                walk[i] += step[i]
                total[i] += (j - middle) * walk[i]
        total /= spread
    return result


@compiled
def window_divergence(values: Array, steps: Array, period: int) -> Array:
    """Half of: the trend of the steps' running sum minus the values', over the last `period` items.

    A trend is Pearson's correlation with the positions. Values that are all the same have the trend 0; for
    a running sum that does not change there is no result.
    """
    result = np.full(len(values), np.nan)
    middle = (period - 1) / 2.0
    for begin in range(period - 1, len(values), _TILE):
        found = result[begin : begin + _TILE]
        walk = np.zeros(len(found))
        # Both counted from the window's first item on, so that equal ones are 0 without any rounding: sum,
        # sum of squares, and sum weighed by position of each.
        flow, price = np.zeros((3, len(found))), np.zeros((3, len(found)))
        start = values[begin - period + 1 : begin - period + 1 + len(found)]
        for j in range(1, period):
            first = begin - period + 1 + j
            step, value = steps[first : first + len(found)], values[first : first + len(found)]
            for i in range(len(found)):
                walk[i] += step[i]
                flow[0, i] += walk[i]
                flow[1, i] += walk[i] * walk[i]
                flow[2, i] += (j - middle) * walk[i]
                off = value[i] - start[i]
                price[0, i] += off
                price[1, i] += off * off
                price[2, i] += (j - middle) * off
        for i in range(len(found)):
            falling = 0.0 if price[1, i] == 0.0 else correlation(price[:, i], period)
            found[i] = (correlation(flow[:, i], period) - falling) / 2.0
    return result


@compiled
def correlation(sums: Array, count: int) -> float:
    """Pearson's correlation, -1 … 1, of `count` values with their positions; NaN where all are the same.

    Args:
        sums: of the values, of their squares, and of the values times their distance from the middle one.
        count: how many values.
    """
    square = sums[1] - sums[0] * sums[0] / count
    if not square > 0.0:
        return np.nan
    found: float = sums[2] / math.sqrt(square * (count * (count * count - 1.0) / 12.0))
    return min(max(found, -1.0), 1.0)
