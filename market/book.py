"""The level-2 order book of one instrument, and what is kept of it each second."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from math import fsum

from msgspec import Struct

from market.decimals import ExactSum, scaled

Levels = Sequence[tuple[str, str]]
"""Book levels as (price, size) texts, as the exchange sent them."""
SNAPSHOT_DEPTH = 10
"""Levels a side in a snapshot, and the levels that volumes and imbalance are taken over."""
DEEP_SNAPSHOT_DEPTH = 100
"""Levels a side in the snapshot of each whole minute."""
_MINUTE = 60_000_000


class BookSnapshot(Struct, frozen=True, gc=False):
    """The book of one instrument just before `timestamp` (whole seconds, in microseconds UTC).

    Volumes and `imbalance` (percent: (bid - ask) / (bid + ask) * 100) are over the top 10 levels;
    `bids` and `asks` are ((price, size), …), best first, at most `depth` a side.
    """

    # Tuples of numbers, which the garbage collector soon leaves alone: a busy stream holds many thousands.

    symbol: str
    timestamp: int
    best_bid: float
    best_ask: float
    mid: float
    spread: float
    spread_bps: float
    bid_volume: float
    ask_volume: float
    imbalance: float
    depth: int
    bids: tuple[tuple[float, float], ...]
    asks: tuple[tuple[float, float], ...]
    sequence: int | None = None


class _BookSide:
    """One side: the text of each level by price, and the prices in rising order of `sign * price`."""

    __slots__ = ("levels", "order", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.levels: dict[float, tuple[str, str]] = {}
        self.order: list[float] = []

    def replace(self, levels: Iterable[tuple[str, str]]) -> None:
        self.levels = {self.sign * float(price): (price, size) for price, size in levels if float(size)}
        self.order = sorted(self.levels)

    def apply(self, levels: Iterable[tuple[str, str]]) -> None:
        known, order, sign = self.levels, self.order, self.sign
        for level in levels:
            key = sign * float(level[0])
            if float(level[1]):
                if key not in known:
                    insort(order, key)
                known[key] = level
            elif known.pop(key, None) is not None:
                del order[bisect_left(order, key)]

    def cut(self, depth: int) -> None:
        for key in self.order[depth:]:
            del self.levels[key]
        del self.order[depth:]

    def top(self, depth: int) -> list[tuple[str, str]]:
        levels = self.levels
        return [levels[key] for key in self.order[:depth]]

    def numbers(self, depth: int) -> tuple[tuple[float, float], ...]:
        """The best `depth` levels as (price, size), best first."""
        levels, sign = self.levels, self.sign
        return tuple([(sign * key, float(levels[key][1])) for key in self.order[:depth]])


class OrderBook:
    """Both sides of one instrument's book, with the text of every level as the exchange sent it.

    Levels are (price, size) texts; sizes are absolute and zero in any spelling removes the level.
    """

    __slots__ = ("_asks", "_bids")

    def __init__(self) -> None:
        self._bids = _BookSide(-1)
        self._asks = _BookSide(1)

    def replace(self, bids: Levels, asks: Levels) -> None:
        """Forget everything and start from a full snapshot."""
        self._bids.replace(bids)
        self._asks.replace(asks)

    def apply(self, bids: Levels, asks: Levels) -> None:
        """Set the named levels, in order; a later one of the same price wins."""
        self._bids.apply(bids)
        self._asks.apply(asks)

    def cut(self, depth: int) -> None:
        """Keep the best `depth` levels a side."""
        self._bids.cut(depth)
        self._asks.cut(depth)

    def top(self, depth: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """The best `depth` levels of (bids, asks), best first, as texts."""
        return self._bids.top(depth), self._asks.top(depth)

    @property
    def best_bid(self) -> float | None:
        """The highest bid, None without bids."""
        return -self._bids.order[0] if self._bids.order else None

    @property
    def best_ask(self) -> float | None:
        """The lowest ask, None without asks."""
        return self._asks.order[0] if self._asks.order else None

    @property
    def is_crossed(self) -> bool:
        """Whether the best bid is at or above the best ask: a sound book never is."""
        bid, ask = self.best_bid, self.best_ask
        return bid is not None and ask is not None and bid >= ask

    def __len__(self) -> int:
        return len(self._bids.order) + len(self._asks.order)

    def snapshot(self, symbol: str, timestamp: int, sequence: int | None = None) -> BookSnapshot | None:
        """What is kept of the book at `timestamp`; None for a one-sided or crossed book."""
        bid, ask = self.best_bid, self.best_ask
        if bid is None or ask is None or bid >= ask:
            return None
        depth = SNAPSHOT_DEPTH if timestamp % _MINUTE else DEEP_SNAPSHOT_DEPTH
        bids, asks = self._bids.numbers(depth), self._asks.numbers(depth)
        bid_volume = fsum(size for _, size in bids[:SNAPSHOT_DEPTH])
        ask_volume = fsum(size for _, size in asks[:SNAPSHOT_DEPTH])
        mid = (bid + ask) / 2
        spread = _difference(ask, bid)
        return BookSnapshot(
            symbol=symbol,
            timestamp=timestamp,
            best_bid=bid,
            best_ask=ask,
            mid=mid,
            spread=spread,
            spread_bps=spread / mid * 10_000,
            bid_volume=bid_volume,
            ask_volume=ask_volume,
            imbalance=(bid_volume - ask_volume) / (bid_volume + ask_volume) * 100,
            depth=depth,
            bids=bids,
            asks=asks,
            sequence=sequence,
        )


def _difference(high: float, low: float) -> float:
    """High - low as decimals: 0.3529 - 0.352 is 0.0009, not 0.0009000000000000119."""
    total = ExactSum(*scaled(high))
    digits, scale = scaled(low)
    total.add(-digits, scale)
    return float(total)
