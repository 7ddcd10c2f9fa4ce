"""Volume by price and side: footprints of candles, stacked imbalances, volume profiles.

Price levels are as wide as the largest round number (1, 2 or 5 times a power of ten) that is no more than
`bps` basis points of the candle's close; level k holds the prices from k widths up to the next.
"""

from typing import Annotated

import numpy as np

from signals.candle_trades import CandleTrades, Sides
from signals.frame import Array, Flags, Indices
from signals.kernel import compiled
from signals.registry import Bounds, indicator

Bps = Annotated[float, Bounds(0.1, 1000)]
Ratio = Annotated[float, Bounds(1, 100)]
Candles = Annotated[int, Bounds(1, 1000)]

VALUE_AREA = 0.7
MOST_LEVELS = 65_536
"""Prices that are further apart, a fat finger among them, have no footprint."""
_WIDTHS = np.array([float(f"{digit}e{power}") for power in range(-18, 18) for digit in (1, 2, 5)])
_HIGHEST = 2.0**52
# A price on a level's edge must not fall below it by rounding.
_NUDGE = 1e-6


def level_widths(close: Array, bps: float) -> Array:
    """How wide the levels of candles are, in quote units."""
    found = np.searchsorted(_WIDTHS, close * (bps / 1e4), side="right") - 1
    widths: Array = _WIDTHS[np.maximum(found, 0)]
    return widths


@indicator(warmup=lambda bps, ratio: 0, outputs=("balance", "buy", "sell"))
def stacked_imbalance(
    close: Array, trades: CandleTrades, *, bps: Bps = 5.0, ratio: Ratio = 3.0
) -> tuple[Array, Array, Array]:
    """Most adjoining price levels of the candle where buying outweighs selling, and the other way round.

    A level is one of buying where its buys are at least `ratio` times the sells one level below, one of
    selling where its sells are that many times the buys one level above; nothing outweighs none.
    """
    widths = level_widths(close, bps)
    buy, sell = stacks(trades.edges, trades.is_known, trades.price, trades.size, trades.side, widths, ratio)
    return buy - sell, buy, sell


@indicator(warmup=lambda period, bps: period, outputs=("poc", "area_low", "area_high"))
def volume_profile(
    close: Array, trades: CandleTrades, *, period: Candles = 20, bps: Bps = 5.0
) -> tuple[Array, Array, Array]:
    """The last `period` candles' price of most volume (point of control), and where 70% of it lies.

    The point of control is the middle of its level, the value area goes from edge to edge.
    """
    widths = level_widths(close, bps)
    return profiles(trades.edges, trades.is_known, trades.price, trades.size, trades.side, widths, period)


@compiled
def level_volumes(
    price: Array, size: Array, side: Sides, start: int, stop: int, width: float
) -> tuple[int, Array]:
    """Volume by price level and side of the trades [start, stop).

    Returns:
        The lowest level, and an array of three rows (bought, sold, of unknown side) with an item for each
        level from there to the highest; no item without trades, or if they are too far apart.
    """
    # Floats until they are known to be near each other: a level may be too high for an integer.
    low, high = np.inf, -np.inf
    for i in range(start, stop):
        level = np.floor(price[i] / width + _NUDGE)
        low = min(low, level)
        high = max(high, level)
    if start >= stop or high - low >= MOST_LEVELS or high > _HIGHEST:
        return 0, np.zeros((3, 0))
    lowest = int(low)
    volumes = np.zeros((3, int(high) - lowest + 1))
    for i in range(start, stop):
        row = 0 if side[i] > 0 else 1 if side[i] < 0 else 2
        volumes[row, int(np.floor(price[i] / width + _NUDGE)) - lowest] += size[i]
    return lowest, volumes


@compiled
def imbalances(volumes: Array, ratio: float) -> tuple[Flags, Flags]:
    """Which levels of `level_volumes` are ones of buying, and which of selling."""
    count = volumes.shape[1]
    buy, sell = np.zeros(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_)
    for i in range(1, count):
        bought, sold = volumes[0, i], volumes[1, i - 1]
        buy[i] = sold > 0.0 and bought >= ratio * sold
        sell[i - 1] = bought > 0.0 and sold >= ratio * bought
    return buy, sell


@compiled
def longest_run(flags: Flags) -> int:
    """The most adjoining items that are true."""
    most = 0
    run = 0
    for flag in flags:
        run = run + 1 if flag else 0
        most = max(most, run)
    return most


@compiled
def value_area(volume: Array, share: float) -> tuple[int, int, int]:
    """Level of most volume, and the lowest and highest level of the value area.

    From the level of most volume on, the neighbour with more volume joins until `share` of the whole is
    inside (the rule that the Chicago Board of Trade's Market Profile came with, a level at a time). Of
    equal neighbours the upper joins; of equal levels the one nearest to the middle is the point of
    control, of two such the lower.
    """
    count = len(volume)
    poc = 0
    for i in range(1, count):
        is_nearer = abs(2 * i - (count - 1)) < abs(2 * poc - (count - 1))
        if volume[i] > volume[poc] or (volume[i] == volume[poc] and is_nearer):
            poc = i
    low = poc
    high = poc
    inside = volume[poc]
    wanted = share * volume.sum()
    while inside < wanted and (low > 0 or high < count - 1):
        if low == 0 or (high < count - 1 and volume[high + 1] >= volume[low - 1]):
            high += 1
            inside += volume[high]
        else:
            low -= 1
            inside += volume[low]
    return poc, low, high


@compiled
def stacks(
    edges: Indices, is_known: Flags, price: Array, size: Array, side: Sides, widths: Array, ratio: float
) -> tuple[Array, Array]:
    """The longest runs of buying and of selling levels of each candle; NaN where its trades are unknown."""
    count = len(is_known)
    buy, sell = np.full(count, np.nan), np.full(count, np.nan)
    for i in range(count):
        if is_known[i]:
            _, volumes = level_volumes(price, size, side, edges[i], edges[i + 1], widths[i])
            if volumes.shape[1] or edges[i] == edges[i + 1]:
                buying, selling = imbalances(volumes, ratio)
                buy[i], sell[i] = longest_run(buying), longest_run(selling)
    return buy, sell


@compiled
def profiles(
    edges: Indices, is_known: Flags, price: Array, size: Array, side: Sides, widths: Array, period: int
) -> tuple[Array, Array, Array]:
    """Point of control and value area of the last `period` candles, each in its last one's levels.

    NaN where there are not so many, the trades of one are unknown, or there is none.
    """
    count = len(is_known)
    poc, bottom, top = np.full(count, np.nan), np.full(count, np.nan), np.full(count, np.nan)
    for i in range(period - 1, count):
        first = i - period + 1
        if not is_known[first : i + 1].all():
            continue
        low, volumes = level_volumes(price, size, side, edges[first], edges[i + 1], widths[i])
        if volumes.shape[1]:
            most, lowest, highest = value_area(volumes[0] + volumes[1] + volumes[2], VALUE_AREA)
            poc[i] = (low + most + 0.5) * widths[i]
            bottom[i] = (low + lowest) * widths[i]
            top[i] = (low + highest + 1) * widths[i]
    return poc, bottom, top
