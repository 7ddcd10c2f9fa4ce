"""How far the price swings."""

from typing import Annotated

import numpy as np

from signals.frame import Array
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
