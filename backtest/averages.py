"""Exponential averages, and where two of them cross: apart, so that many crosses share an average."""

import numpy as np
import numpy.typing as npt

from backtest.compiled import compiled

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_BUY, _SELL = 1, -1


def stretches(timestamp: Integers, length: int) -> Integers:
    """Where stretches without a missing candle begin, and the end of the last one."""
    holes = np.flatnonzero(np.diff(timestamp) != length) + 1
    return np.concatenate([[0], holes, [len(timestamp)]])


@compiled(allocates=True)
def ema(begins: Integers, close: Floats, period: int) -> Floats:
    """The exponential average of `backtest.strategies.ema_crosses`, begun anew with each stretch."""
    average = np.empty(close.size)
    weight = 2.0 / (period + 1.0)
    keep = 1.0 - weight
    for stretch in range(begins.size - 1):
        value = close[begins[stretch]]
        average[begins[stretch]] = value
        for candle in range(begins[stretch] + 1, begins[stretch + 1]):
            value = weight * close[candle] + keep * value
            average[candle] = value
    return average


@compiled(allocates=True)
def crosses(begins: Integers, fast: Floats, slow: Floats, warm: int) -> tuple[Integers, Integers]:
    """What `backtest.strategies.ema_crosses` gives, of averages that are there already.

    Args:
        begins: see `stretches`.
        fast: the average that crosses.
        slow: the one that is crossed.
        warm: how many candles of each stretch come before anything is said.
    """
    count = 0
    index = np.empty(fast.size, dtype=np.int64)
    kind = np.empty(fast.size, dtype=np.int64)
    for stretch in range(begins.size - 1):
        candle, end = begins[stretch] + warm - 1, begins[stretch + 1]
        while candle < end and fast[candle] == slow[candle]:
            candle += 1
        above = candle < end and fast[candle] > slow[candle]
        while candle < end:
            # Two loops rather than one that asks each candle which way it would be.
            if above:
                while candle < end and not fast[candle] < slow[candle]:
                    candle += 1
            else:
                while candle < end and not fast[candle] > slow[candle]:
                    candle += 1
            if candle < end:
                above = not above
                index[count] = candle
                kind[count] = _BUY if above else _SELL
                count += 1
    return index[:count].copy(), kind[:count].copy()
