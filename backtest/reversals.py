"""Signals against the market: at Bollinger's bands, and where the flow of orders contradicts the price.

As all that ships: each stretch without a hole by itself, silent until it is warm.
"""

import math

import numpy as np
import numpy.typing as npt

from backtest.compiled import compiled

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_BUY, _SELL = 1, -1


@compiled(allocates=True)
def band_reversals(
    timestamp: Integers, close: Floats, length: int, period: int, deviations: float
) -> tuple[Integers, Integers]:
    """Where the close comes back above the lower band (+1) or back below the upper one (-1).

    The bands lie `deviations` standard deviations (ddof 0) beside the mean of the last `period` closes,
    this one among them. Source: J. Bollinger, Bollinger on Bollinger Bands (2001).
    """
    count = 0
    index = np.empty(close.size, dtype=np.int64)
    kind = np.empty(close.size, dtype=np.int64)
    age = before = 0
    for candle in range(close.size):
        if candle == 0 or timestamp[candle] - timestamp[candle - 1] != length:
            age = before = 0
        age += 1
        if age < period:
            continue
        # Summed anew each time: a running sum would depend on where the candles begin.
        total = 0.0
        for place in range(candle - period + 1, candle + 1):
            total += close[place]
        mean = total / period
        squares = 0.0
        for place in range(candle - period + 1, candle + 1):
            squares += (close[place] - mean) ** 2
        width = deviations * math.sqrt(squares / period)
        outside = _SELL if close[candle] < mean - width else _BUY if close[candle] > mean + width else 0
        if before != 0 and outside == 0:
            index[count] = candle
            kind[count] = -before
            count += 1
        before = outside
    return index[:count].copy(), kind[:count].copy()


@compiled(allocates=True)
def flow_divergences(
    timestamp: Integers,
    close: Floats,
    volume: Floats,
    delta: Floats,
    length: int,
    period: int,
    share: float,
) -> tuple[Integers, Integers]:
    """Where CVD begins to rise against a falling price (+1), or to fall against a rising one (-1).

    Both over the last `period` candles; CVD counts from `share` of their volume on, and is the sum of
    each candle's delta (bought less sold by takers), never the one that restarts at midnight. A candle
    whose delta is not known makes the candles after it a stretch of their own. Source: the divergence of
    volume and price, e.g. A. H. Coulling, A Complete Guide to Volume Price Analysis (2013), ch. 7.
    """
    count = 0
    index = np.empty(close.size, dtype=np.int64)
    kind = np.empty(close.size, dtype=np.int64)
    age = before = 0
    for candle in range(close.size):
        if candle == 0 or timestamp[candle] - timestamp[candle - 1] != length:
            age = before = 0
        if math.isnan(delta[candle]):
            age = before = 0
            continue
        age += 1
        if age <= period:
            continue
        flow = traded = 0.0
        for place in range(candle - period + 1, candle + 1):
            flow += delta[place]
            traded += volume[place]
        change = close[candle] - close[candle - period]
        said = 0
        if traded > 0.0 and abs(flow) >= share * traded:
            said = _BUY if change < 0.0 < flow else _SELL if flow < 0.0 < change else 0
        if said not in (0, before):
            index[count] = candle
            kind[count] = said
            count += 1
        before = said
    return index[:count].copy(), kind[:count].copy()
