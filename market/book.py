"""The level-2 order book of one instrument, and what is kept of it each second."""

from math import fsum
from typing import Any

from msgspec import Struct
from msgspec.json import Encoder

from market.decimals import scaled
from market.levels import Levels, PackedLevels, Texts, packed

SNAPSHOT_DEPTH = 10
"""Levels a side in a snapshot, and the levels that volumes and imbalance are taken over."""
DEEP_SNAPSHOT_DEPTH = 100
"""Levels a side in the snapshot of each whole minute."""
_MINUTE = 60_000_000
_ROOM = 2048
"""Levels a side that a new book has room for."""
_encode = Encoder().encode


class BookSnapshot(Struct, frozen=True, gc=False):
    """The book of one instrument just before `timestamp` (whole seconds, in microseconds UTC).

    `fields` are what is stored, from the best prices to the levels, as `market.book_fields` writes them: one
    object, as a busy stream holds many thousands. `spread_bps` is in ten thousandths of the middle,
    `imbalance` in percent: (bid - ask) / (bid + ask) * 100 of the volumes of the top 10 levels.
    """

    symbol: str
    timestamp: int
    spread_bps: float
    imbalance: float
    fields: bytes
    sequence: int | None = None


class OrderBook:
    """Both sides of one instrument's book.

    Sizes are absolute, and zero removes the level. Where levels come as texts, these are kept as well.
    """

    __slots__ = ("_counts", "_fields", "_ladder", "_machine", "_row", "_state", "_texts", "_written")

    def __init__(self) -> None:
        # Imported here: numba takes longer than all that a command needs which keeps no book.
        from market import book_fields, ladder

        self._machine, self._fields = ladder, book_fields
        self._ladder, self._counts = ladder.empty(_ROOM), ladder.no_levels()
        self._row = book_fields.row(DEEP_SNAPSHOT_DEPTH)
        self._written = memoryview(self._row)
        self._texts: tuple[dict[float, tuple[str, str]], ...] = ({}, {})
        self._state = ladder.ONE_SIDED

    def replace(self, bids: Levels, asks: Levels) -> None:
        """Forget everything and start from a full snapshot."""
        self._texts = ({}, {})
        for side, levels in enumerate((bids, asks)):
            if not isinstance(levels, bytes):
                levels = self._keep_texts(side, [level for level in levels if float(level[1])])
            self._set(side, self._machine.whole(levels, side))

    def apply(self, bids: Levels, asks: Levels) -> None:
        """Set the named levels, in order; a later one of the same price wins."""
        if not isinstance(bids, bytes):
            bids = self._keep_texts(0, bids)
        if not isinstance(asks, bytes):
            asks = self._keep_texts(1, asks)
        state = self._machine.apply(self._ladder, self._counts, bids, asks)
        if state < 0:
            self._ladder = self._machine.widened(self._ladder)
            self.apply(bids, asks)
        else:
            self._state = state

    def _keep_texts(self, side: int, levels: Texts) -> PackedLevels:
        """Keep the texts of levels; the same levels as numbers."""
        texts, numbers = self._texts[side], [(float(price), float(size)) for price, size in levels]
        for (price, size), text in zip(numbers, levels, strict=True):
            if size:
                texts[price] = text
            else:
                texts.pop(price, None)
        return packed(numbers)

    def _set(self, side: int, levels: Any) -> None:
        """Make these the levels of a side, best last."""
        while len(levels) > self._ladder.shape[1]:
            self._ladder = self._machine.widened(self._ladder)
        self._ladder[side, : len(levels)] = levels
        self._counts[side] = len(levels)
        self.apply(b"", b"")

    def _best(self, side: int, depth: int) -> Any:
        """The best `depth` levels, best last."""
        count = int(self._counts[side])
        return self._ladder[side, max(count - depth, 0) : count]

    def cut(self, depth: int) -> None:
        """Keep the best `depth` levels a side."""
        for side, texts in enumerate(self._texts):
            dropped = int(self._counts[side]) - depth
            if dropped > 0:
                for price in self._ladder[side, :dropped, 0].tolist():
                    texts.pop(price, None)
                self._set(side, self._best(side, depth))

    def top(self, depth: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """The best `depth` levels of (bids, asks), best first, of a book that came as texts."""
        bids, asks = (
            [texts[price] for price in self._best(side, depth)[::-1, 0].tolist()]
            for side, texts in enumerate(self._texts)
        )
        return bids, asks

    def side(self, *, is_bid: bool) -> list[tuple[float, float]]:
        """The levels of one side, best first."""
        return [(price, size) for price, size in self._best(int(not is_bid), len(self))[::-1].tolist()]

    def size_at(self, price: float, *, is_bid: bool) -> float:
        """The size of one level, 0 where there is none."""
        return self._machine.size_at(self._ladder, self._counts, int(not is_bid), price)

    def deepest(self, *, is_bid: bool) -> float | None:
        """The worst price of one side, None without levels."""
        side = int(not is_bid)
        return float(self._ladder[side, 0, 0]) if self._counts[side] else None

    def count(self, *, is_bid: bool) -> int:
        """How many levels one side has."""
        return int(self._counts[int(not is_bid)])

    @property
    def best_bid(self) -> float | None:
        """The highest bid, None without bids."""
        return next(iter(self._best(0, 1)[:, 0].tolist()), None)

    @property
    def best_ask(self) -> float | None:
        """The lowest ask, None without asks."""
        return next(iter(self._best(1, 1)[:, 0].tolist()), None)

    @property
    def is_crossed(self) -> bool:
        """Whether the best bid is at or above the best ask: a sound book never is."""
        return self._state == self._machine.CROSSED

    def __len__(self) -> int:
        return int(self._counts.sum())

    def snapshot(self, symbol: str, timestamp: int, sequence: int | None = None) -> BookSnapshot | None:
        """What is kept of the book at `timestamp`; None for a one-sided or crossed book."""
        if self._state:
            return None
        depth = SNAPSHOT_DEPTH if timestamp % _MINUTE else DEEP_SNAPSHOT_DEPTH
        end, spread_bps, imbalance = self._fields.write(
            self._ladder, self._counts, depth, SNAPSHOT_DEPTH, self._row
        )
        if not end:
            end, spread_bps, imbalance = self._write_odd(depth)
        # By position: a busy stream makes many thousands, and each name would be looked up again.
        fields = self._written[:end].tobytes()
        return BookSnapshot(symbol, timestamp, spread_bps, imbalance, fields, sequence)

    def _write_odd(self, depth: int) -> tuple[int, float, float]:
        """The same of a book that has numbers of more than 15 digits, or below 0.00001."""
        bids, asks = (self._best(side, depth)[::-1].tolist() for side in (0, 1))
        bid, ask = bids[0][0], asks[0][0]
        bid_volume, ask_volume = (fsum([size for _, size in side[:SNAPSHOT_DEPTH]]) for side in (bids, asks))
        spread = _difference(ask, bid)
        written: tuple[int, float, float] = self._fields.write_given(
            bid, ask, spread, bid_volume, ask_volume, depth, _encode(bids), _encode(asks), self._row
        )
        return written


def _difference(high: float, low: float) -> float:
    """High - low as decimals: 0.3529 - 0.352 is 0.0009, not 0.0009000000000000119."""
    digits, scale = scaled(high)
    lower, lower_scale = scaled(low)
    finest = max(scale, lower_scale)
    difference: int = digits * 10 ** (finest - scale) - lower * 10 ** (finest - lower_scale)
    divisor: int = 10**finest
    return difference / divisor
