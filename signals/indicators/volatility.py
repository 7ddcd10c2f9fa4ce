"""How far the price swings."""

import math
from typing import Annotated

import numpy as np

from signals.frame import Array
from signals.kernel import compiled, fused
from signals.registry import Bounds, Period, indicator

Deviations = Annotated[float, Bounds(0.1, 10)]


@indicator(warmup=lambda period, deviations: period, outputs=("upper", "middle", "lower"))
def bbands(close: Array, *, period: Period = 20, deviations: Deviations = 2.0) -> tuple[Array, Array, Array]:
    """Bollinger Bands: SMA of the close, plus and minus so many standard deviations (TA-Lib)."""
    import talib

    upper, middle, lower = talib.BBANDS(close, period, deviations, deviations)
    return np.asarray(upper), np.asarray(middle), np.asarray(lower)


@indicator(warmup=lambda period: 32 * period, state=lambda period: 3)
def atr(high: Array, low: Array, close: Array, state: Array, *, period: Period = 14) -> Array:
    """Wilder's average true range, in quote units (TA-Lib ATR)."""
    return average_range(high, low, close, state, period)


@indicator(warmup=lambda period: period + 1)
def realised_volatility(close: Array, *, period: Period = 20) -> Array:
    """Root of the summed squared log returns of the last `period` candles, percent, not annualised."""
    return window_volatility(close, period)


@compiled
def average_range(high: Array, low: Array, close: Array, state: Array, period: int) -> Array:
    """Wilder's ATR (New Concepts in Technical Trading Systems, 1978), bit for bit as TA-Lib's.

    The first `period` values are NaN; the next is the plain mean of the ranges since the first close.

    Args:
        high: of each candle.
        low: of each candle.
        close: of each candle.
        state: 3 numbers, zeros at first: how many candles there were, the last close, and the sum or average
            of the true ranges.
        period: candles.
    """
    result = np.full(len(close), np.nan)
    kept = (period - 1) / period
    seen, last, average = int(state[0]), state[1], state[2]
    for i in range(len(close)):
        reach = max(high[i] - low[i], abs(last - high[i]), abs(last - low[i]))
        if seen > period:
            average = fused(average, kept, reach * (1.0 - kept))
        elif seen > 0:
            average += reach
            if seen == period:
                average /= period
        if seen >= period:
            result[i] = average
        last = close[i]
        seen += 1
    state[0], state[1], state[2] = seen, last, average
    return result


@compiled
def window_volatility(close: Array, period: int) -> Array:
    """Realised volatility (Andersen and Bollerslev, International Economic Review 39 (1998) 885), percent."""
    steps = np.full(len(close), np.nan)
    for i in range(1, len(close)):
        steps[i] = math.log(close[i] / close[i - 1])
    result = np.full(len(close), np.nan)
    for i in range(period, len(close)):
        total = 0.0
        for j in range(i - period + 1, i + 1):
            total += steps[j] * steps[j]
        result[i] = 100.0 * math.sqrt(total)
    return result
