"""The level-2 order book of one instrument, and what is kept of it each second."""

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from math import fsum
from typing import cast

from msgspec import Struct
from msgspec.json import Encoder

from market.decimals import scaled

Numbers = Sequence[tuple[float, float]]
"""Book levels as (price, size)."""
Texts = Sequence[tuple[str, str]]
"""Book levels as (price, size) texts, as the exchange sent them: what checksums are made of."""
Levels = Numbers | Texts
SNAPSHOT_DEPTH = 10
"""Levels a side in a snapshot, and the levels that volumes and imbalance are taken over."""
DEEP_SNAPSHOT_DEPTH = 100
"""Levels a side in the snapshot of each whole minute."""
_MINUTE = 60_000_000
_encode = Encoder().encode


class BookSnapshot(Struct, frozen=True, gc=False):
    """The book of one instrument just before `timestamp` (whole seconds, in microseconds UTC).

    Volumes and `imbalance` (percent: (bid - ask) / (bid + ask) * 100) are over the top 10 levels;
    `bids` and `asks` are [[price, size], …] as JSON, best first, at most `depth` a side: what is stored, and
    one object each for a busy stream, which holds many thousands.
    """

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
    bids: bytes
    asks: bytes
    sequence: int | None = None


class _BookSide:
    """One side: the level of each price, the prices in rising order, and the texts where levels are texts."""

    __slots__ = ("is_bid", "levels", "order", "texts")

    def __init__(self, *, is_bid: bool) -> None:
        self.is_bid = is_bid
        self.levels: dict[float, tuple[float, float]] = {}
        self.order: list[float] = []
        self.texts: dict[float, tuple[str, str]] = {}

    def replace(self, levels: Levels) -> None:
        numbers, self.texts = _numbers(levels), {}
        self.levels = {level[0]: level for level in numbers if level[1]}
        self.order = sorted(self.levels)
        if numbers is not levels:
            self._keep_texts(numbers, levels)

    def apply(self, levels: Levels) -> None:
        known, order, numbers = self.levels, self.order, _numbers(levels)
        count = len(known)
        for level in numbers:
            price, size = level
            if size:
                known[price] = level
                # One look-up for both, as this is done for each level that changes.
                if len(known) != count:
                    insort(order, price)
                    count += 1
            elif known.pop(price, None) is not None:
                del order[bisect_left(order, price)]
                count -= 1
        if numbers is not levels:
            self._keep_texts(numbers, levels)

    def _keep_texts(self, numbers: Numbers, levels: Levels) -> None:
        for (price, size), text in zip(numbers, cast("Texts", levels), strict=True):
            if size:
                self.texts[price] = text
            elif price not in self.levels:
                self.texts.pop(price, None)

    def cut(self, depth: int) -> None:
        dropped = self.order[: -depth or None] if self.is_bid else self.order[depth:]
        for price in dropped:
            del self.levels[price]
            self.texts.pop(price, None)
        if dropped:
            self.order = self.best(depth)[:: -1 if self.is_bid else 1]

    def best(self, depth: int) -> list[float]:
        """The best `depth` prices, best first."""
        return self.order[: -depth - 1 : -1] if self.is_bid else self.order[:depth]

    def top(self, depth: int) -> list[tuple[str, str]]:
        texts = self.texts
        return [texts[price] for price in self.best(depth)]

    def best_levels(self, depth: int) -> list[tuple[float, float]]:
        return [*map(self.levels.__getitem__, self.best(depth))]


class OrderBook:
    """Both sides of one instrument's book.

    Sizes are absolute, and zero removes the level. Where levels come as texts, these are kept as well.
    """

    __slots__ = ("_asks", "_bids")

    def __init__(self) -> None:
        self._bids = _BookSide(is_bid=True)
        self._asks = _BookSide(is_bid=False)

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
        """The best `depth` levels of (bids, asks), best first, of a book that came as texts."""
        return self._bids.top(depth), self._asks.top(depth)

    def side(self, *, is_bid: bool) -> tuple[Mapping[float, tuple[float, float]], Sequence[float]]:
        """Of one side the level of each price, and the prices in rising order: to be read at once."""
        one = self._bids if is_bid else self._asks
        return one.levels, one.order

    @property
    def best_bid(self) -> float | None:
        """The highest bid, None without bids."""
        return self._bids.order[-1] if self._bids.order else None

    @property
    def best_ask(self) -> float | None:
        """The lowest ask, None without asks."""
        return self._asks.order[0] if self._asks.order else None

    @property
    def is_crossed(self) -> bool:
        """Whether the best bid is at or above the best ask: a sound book never is."""
        bids, asks = self._bids.order, self._asks.order
        return bool(bids and asks) and bids[-1] >= asks[0]

    def __len__(self) -> int:
        return len(self._bids.order) + len(self._asks.order)

    def snapshot(self, symbol: str, timestamp: int, sequence: int | None = None) -> BookSnapshot | None:
        """What is kept of the book at `timestamp`; None for a one-sided or crossed book."""
        if not (self._bids.order and self._asks.order) or self.is_crossed:
            return None
        depth = SNAPSHOT_DEPTH if timestamp % _MINUTE else DEEP_SNAPSHOT_DEPTH
        bids, asks = self._bids.best_levels(depth), self._asks.best_levels(depth)
        bid, ask = bids[0][0], asks[0][0]
        bid_volume = fsum([size for _, size in bids[:SNAPSHOT_DEPTH]])
        ask_volume = fsum([size for _, size in asks[:SNAPSHOT_DEPTH]])
        mid = (bid + ask) / 2
        spread = _difference(ask, bid)
        # By position: a busy stream makes many thousands, and each name would be looked up again.
        return BookSnapshot(
            symbol,
            timestamp,
            bid,
            ask,
            mid,
            spread,
            spread / mid * 10_000,
            bid_volume,
            ask_volume,
            (bid_volume - ask_volume) / (bid_volume + ask_volume) * 100,
            depth,
            _encode(bids),
            _encode(asks),
            sequence,
        )


def _difference(high: float, low: float) -> float:
    """High - low as decimals: 0.3529 - 0.352 is 0.0009, not 0.0009000000000000119."""
    digits, scale = scaled(high)
    lower, lower_scale = scaled(low)
    finest = max(scale, lower_scale)
    difference: int = digits * 10 ** (finest - scale) - lower * 10 ** (finest - lower_scale)
    divisor: int = 10**finest
    return difference / divisor


def _numbers(levels: Levels) -> Numbers:
    """The levels as numbers, which they may be already."""
    if levels and isinstance(levels[0][0], str):
        return [(float(price), float(size)) for price, size in levels]
    return cast("Numbers", levels)
