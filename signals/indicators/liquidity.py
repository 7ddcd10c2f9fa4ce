"""How much the market takes: the book's two sides, its spread, and what volume moves."""

from typing import Annotated

import numpy as np

from signals.frame import Array
from signals.indicators.flow import window_sum
from signals.kernel import compiled
from signals.registry import Bounds, Period, indicator

Candles = Annotated[int, Bounds(1, 1000)]


@indicator(warmup=lambda period: period, is_windowed=True)
def book_imbalance(imbalance_mean: Array, *, period: Candles = 1) -> Array:
    """Mean imbalance of the book over `period` candles, percent: 100 all bids, -100 all asks."""
    return window_sum(imbalance_mean, period) / period


@indicator(warmup=lambda period: period, is_windowed=True)
def spread(spread_bps_mean: Array, *, period: Candles = 1) -> Array:
    """Mean spread of the book over `period` candles, basis points."""
    return window_sum(spread_bps_mean, period) / period


@indicator(warmup=lambda period: period + 1, is_windowed=True)
def amihud(close: Array, volume: Array, *, period: Period = 20) -> Array:
    """Amihud's illiquidity: mean |return| in percent a million of quote units traded.

    Over those of the last `period` candles that have volume; the return is from the candle before.
    """
    return window_illiquidity(close, volume, period)


@compiled
def window_illiquidity(close: Array, volume: Array, period: int) -> Array:
    """Mean of |return| over quote volume (Amihud, Journal of Financial Markets 5 (2002) 31).

    In percent a million; NaN where no candle of the window has volume.
    """
    result = np.full(len(close), np.nan)
    for i in range(period, len(close)):
        total = 0.0
        count = 0
        for j in range(i - period + 1, i + 1):
            traded = close[j] * volume[j]
            if traded > 0.0:
                total += abs(close[j] / close[j - 1] - 1.0) / traded
                count += 1
        if count:
            result[i] = 1e8 * total / count
    return result
