"""How far the price swings."""

import math
from typing import Annotated

import numpy as np

from signals.frame import Array
from signals.kernel import compiled
from signals.registry import Bounds, Period, indicator

Deviations = Annotated[float, Bounds(0.1, 10)]


@indicator(warmup=lambda period, deviations: period, outputs=("upper", "middle", "lower"))
def bbands(close: Array, *, period: Period = 20, deviations: Deviations = 2.0) -> tuple[Array, Array, Array]:
    """Bollinger Bands: SMA of the close, plus and minus so many standard deviations (TA-Lib)."""
    import talib

    upper, middle, lower = talib.BBANDS(close, period, deviations, deviations)
    return np.asarray(upper), np.asarray(middle), np.asarray(lower)


@indicator(warmup=lambda period: 32 * period)
def atr(high: Array, low: Array, close: Array, *, period: Period = 14) -> Array:
    """Wilder's average true range, in quote units (TA-Lib ATR)."""
    import talib

    return np.asarray(talib.ATR(high, low, close, period))


@indicator(warmup=lambda period: period + 1)
def realised_volatility(close: Array, *, period: Period = 20) -> Array:
    """Root of the summed squared log returns of the last `period` candles, percent, not annualised."""
    return window_volatility(close, period)


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
