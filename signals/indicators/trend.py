"""Averages of the close, and what is made of them."""

import numpy as np

from signals.frame import Array
from signals.kernel import compiled
from signals.registry import Period, indicator


def _ema_warmup(period: int) -> int:
    # (1 - 2 / (period + 1)) ** (16 * period) is below 1e-13: where it began is forgotten.
    return 16 * period


@indicator(warmup=lambda period: period)
def sma(close: Array, *, period: Period = 20) -> Array:
    """Simple moving average of the close over `period` candles (TA-Lib SMA)."""
    import talib

    return np.asarray(talib.SMA(close, period))


@indicator(warmup=_ema_warmup)
def ema(close: Array, *, period: Period = 20) -> Array:
    """Exponential moving average of the close, seeded by the mean of the first `period` closes."""
    return exponential_average(close, period)


@indicator(
    warmup=lambda fast, slow, signal: _ema_warmup(max(fast, slow)) + _ema_warmup(signal),
    outputs=("macd", "signal", "histogram"),
)
def macd(
    close: Array, *, fast: Period = 12, slow: Period = 26, signal: Period = 9
) -> tuple[Array, Array, Array]:
    """MACD: fast EMA minus slow EMA of the close, its signal line, their difference (TA-Lib)."""
    import talib

    line, average, histogram = talib.MACD(close, fast, slow, signal)
    return np.asarray(line), np.asarray(average), np.asarray(histogram)


@compiled
def exponential_average(values: Array, period: int) -> Array:
    """EMA with the factor 2 / (period + 1), in TA-Lib's order of operations.

    NaN for the first period - 1 values; the next is the plain mean of the first `period`.
    """
    result = np.full(len(values), np.nan)
    if len(values) < period:
        return result
    total = 0.0
    for i in range(period):
        total += values[i]
    average = total / period
    result[period - 1] = average
    factor = 2.0 / (period + 1)
    for i in range(period, len(values)):
        average = (values[i] - average) * factor + average
        result[i] = average
    return result
