"""Averages of the close, and what is made of them."""

import numpy as np

from signals.frame import Array
from signals.kernel import compiled, fused
from signals.registry import Period, indicator


def _ema_warmup(period: int) -> int:
    # (1 - 2 / (period + 1)) ** (16 * period) is below 1e-13: where it began is forgotten.
    return 16 * period


@indicator(warmup=lambda period: period)
def sma(close: Array, *, period: Period = 20) -> Array:
    """Simple moving average of the close over `period` candles."""
    return moving_average(close, period)


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
    """MACD: fast EMA minus slow EMA of the close, its signal line, their difference."""
    return convergence(close, min(fast, slow), max(fast, slow), signal)


@compiled
def moving_average(values: Array, period: int) -> Array:
    """Mean of the last `period` values from a rolling sum, bit for bit as TA-Lib's; NaN before."""
    result = np.full(len(values), np.nan)
    total = 0.0
    for i in range(len(values)):
        total += values[i]
        if i >= period - 1:
            result[i] = total / period
            total -= values[i - period + 1]
    return result


@compiled
def exponential_average(values: Array, period: int) -> Array:
    """EMA with the factor 2 / (period + 1), bit for bit as TA-Lib's.

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
        average = fused(values[i] - average, factor, average)
        result[i] = average
    return result


def convergence(values: Array, fast: int, slow: int, signal: int) -> tuple[Array, Array, Array]:
    """MACD's line, signal and histogram, bit for bit as TA-Lib's: all begin where the slow average does."""
    line = np.full(len(values), np.nan)
    average = line.copy()
    line[slow - 1 :] = exponential_average(values[slow - fast :], fast)[fast - 1 :]
    line[slow - 1 :] -= exponential_average(values, slow)[slow - 1 :]
    average[slow - 1 :] = exponential_average(line[slow - 1 :], signal)
    line[: slow + signal - 2] = np.nan
    return line, average, line - average
