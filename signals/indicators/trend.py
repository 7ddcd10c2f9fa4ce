"""Averages of the close, and what is made of them."""

import numpy as np

from signals.frame import Array
from signals.kernel import compiled, fused
from signals.registry import Period, indicator

_ZERO = 1e-14
"""What TA-Lib takes for nothing."""


def _ema_warmup(period: int) -> int:
    # (1 - 2 / (period + 1)) ** (16 * period) is below 1e-13: where it began is forgotten.
    return 16 * period


@indicator(warmup=lambda period: period)
def sma(close: Array, *, period: Period = 20) -> Array:
    """Simple moving average of the close over `period` candles."""
    return moving_average(close, period)


@indicator(warmup=_ema_warmup, state=lambda period: 2)
def ema(close: Array, state: Array, *, period: Period = 20) -> Array:
    """Exponential moving average of the close, seeded by the mean of the first `period` closes."""
    return exponential_average(close, state, period)


@indicator(
    warmup=lambda fast, slow, signal: _ema_warmup(max(fast, slow)) + _ema_warmup(signal),
    outputs=("macd", "signal", "histogram"),
    state=lambda fast, slow, signal: 4,
)
def macd(
    close: Array, state: Array, *, fast: Period = 12, slow: Period = 26, signal: Period = 9
) -> tuple[Array, Array, Array]:
    """MACD: fast EMA minus slow EMA of the close, its signal line, their difference."""
    return convergence(close, state, min(fast, slow), max(fast, slow), signal)


@indicator(warmup=lambda period: 32 * (period + 2), state=lambda period: 7)
def plus_di(high: Array, low: Array, close: Array, state: Array, *, period: Period = 14) -> Array:
    """Plus directional indicator: upward movement as a share of the true range, 0 … 100 (TA-Lib PLUS_DI)."""
    return directional(high, low, close, state, period)[0]


@indicator(warmup=lambda period: 32 * (period + 2), state=lambda period: 7)
def minus_di(high: Array, low: Array, close: Array, state: Array, *, period: Period = 14) -> Array:
    """Minus directional indicator: downward movement as a share of the true range (TA-Lib MINUS_DI)."""
    return directional(high, low, close, state, period)[1]


@indicator(warmup=lambda period: 64 * period, state=lambda period: 8)
def adx(high: Array, low: Array, close: Array, state: Array, *, period: Period = 14) -> Array:
    """Average directional index: how one-sided the movement is, 0 … 100 (TA-Lib ADX)."""
    return directional_average(high, low, close, state, period)


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
def exponential_average(values: Array, state: Array, period: int) -> Array:
    """EMA with the factor 2 / (period + 1), bit for bit as TA-Lib's.

    NaN for the first period - 1 values; the next is the plain mean of the first `period`.

    Args:
        values: of which.
        state: 2 numbers, zeros at first: how many values there were, and their sum or average.
        period: candles.
    """
    result = np.full(len(values), np.nan)
    factor = 2.0 / (period + 1)
    seen, average = int(state[0]), state[1]
    for i in range(len(values)):
        average = _averaged(values[i], average, seen, period, factor)
        seen += 1
        if seen >= period:
            result[i] = average
    state[0], state[1] = seen, average
    return result


@compiled
def _averaged(value: float, average: float, seen: int, period: int, factor: float) -> float:
    """The average after `seen` values and this one; their sum, until there are `period` of them."""
    if seen >= period:
        return fused(value - average, factor, average)
    return (average + value) / period if seen == period - 1 else average + value


@compiled
def convergence(values: Array, state: Array, fast: int, slow: int, signal: int) -> tuple[Array, Array, Array]:
    """MACD's line, signal and histogram, bit for bit as TA-Lib's: all begin where the slow average does.

    Args:
        values: of which.
        state: 4 numbers, zeros at first: how many values there were, and the sum or average of each EMA.
        fast: candles, fewer than `slow`.
        slow: candles.
        signal: candles.
    """
    lines, averages = np.full(len(values), np.nan), np.full(len(values), np.nan)
    factors = 2.0 / (fast + 1), 2.0 / (slow + 1), 2.0 / (signal + 1)
    seen, low, high, smooth = int(state[0]), state[1], state[2], state[3]
    for i in range(len(values)):
        if seen >= slow - fast:
            low = _averaged(values[i], low, seen - slow + fast, fast, factors[0])
        high = _averaged(values[i], high, seen, slow, factors[1])
        seen += 1
        if seen >= slow:
            smooth = _averaged(low - high, smooth, seen - slow, signal, factors[2])
        if seen >= slow + signal - 1:
            lines[i], averages[i] = low - high, smooth
    state[0], state[1], state[2], state[3] = seen, low, high, smooth
    return lines, averages, lines - averages


@compiled
def directional(high: Array, low: Array, close: Array, state: Array, period: int) -> tuple[Array, Array]:
    """Wilder's +DI and -DI (New Concepts in Technical Trading Systems, 1978), bit for bit as TA-Lib's.

    Args:
        high: of each candle.
        low: of each candle.
        close: of each candle.
        state: 7 numbers, zeros at first: how many candles there were, the last one's high, low and close,
            and the smoothed rise, fall and true range.
        period: candles.
    """
    rises, falls = np.full(len(close), np.nan), np.full(len(close), np.nan)
    seen, old_high, old_low, old_close = int(state[0]), state[1], state[2], state[3]
    up, down, reach = state[4], state[5], state[6]
    for i in range(len(close)):
        rise, fall = high[i] - old_high, old_low - low[i]
        if seen >= period:
            up, down, reach = up - up / period, down - down / period, reach - reach / period
        if seen > 0:
            up += rise if rise > 0.0 and rise > fall else 0.0
            down += fall if fall > 0.0 and rise < fall else 0.0
            reach += max(high[i] - low[i], abs(old_close - high[i]), abs(old_close - low[i]))
        if seen >= period:
            has_moved = abs(reach) >= _ZERO
            rises[i] = 100.0 * (up / reach) if has_moved else 0.0
            falls[i] = 100.0 * (down / reach) if has_moved else 0.0
        old_high, old_low, old_close = high[i], low[i], close[i]
        seen += 1
    state[0], state[1], state[2], state[3] = seen, old_high, old_low, old_close
    state[4], state[5], state[6] = up, down, reach
    return rises, falls


@compiled
def directional_average(high: Array, low: Array, close: Array, state: Array, period: int) -> Array:
    """Wilder's ADX, bit for bit as TA-Lib's.

    Args:
        high: of each candle.
        low: of each candle.
        close: of each candle.
        state: 8 numbers, zeros at first: those of `directional`, and the sum or average of what DI say.
        period: candles.
    """
    result = np.full(len(close), np.nan)
    seen, average = int(state[0]), state[7]
    rises, falls = directional(high, low, close, state, period)
    for i in range(len(close)):
        total = rises[i] + falls[i]
        if seen >= period and abs(total) >= _ZERO:
            share = 100.0 * (abs(falls[i] - rises[i]) / total)
            average = average + share if seen < 2 * period else (average * (period - 1) + share) / period
        if seen == 2 * period - 1:
            average /= period
        if seen >= 2 * period - 1:
            result[i] = average
        seen += 1
    state[7] = average
    return result
