"""The simulated order book: its state at each whole second, and what changes from one to the next.

Each side holds `DEPTH` neighbouring levels from the touch outwards. A level's size is a hash of its price and
of an epoch of its own, 16 to 64 seconds long, weighted by who was eager when the epoch began: so sizes change
slowly, at different moments, and the book leans the way the price tends to go.
"""

from collections.abc import Iterator

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from collector.simulator.market import SimulatedMarket, recent
from collector.simulator.noise import Floats, Integers, bits_at, gauss, key_of
from collector.simulator.path import HOUR, pressure

DEPTH = 120
"""Levels a side."""
UPDATES_PER_SECOND = 64
"""Update ids that one second's delta covers."""
_BLOCK = 600
"""Seconds that are computed together."""
_LONGEST_EPOCH = 64
_LEAN = 0.7
_SIZES = 1024

Levels = list[tuple[int, int]]
"""(price in ticks, size in lots; 0: the level is gone)."""


class BookState(Struct, frozen=True):
    """The whole book from `second` on, until the next. `update_id` is its newest update; best level first."""

    second: int
    update_id: int
    bids: Levels
    asks: Levels


class BookChange(Struct, frozen=True):
    """What turns the book of the second before into that of `second`: updates `first_id`…`last_id`."""

    second: int
    first_id: int
    last_id: int
    bids: Levels
    asks: Levels


class _Side(Struct, frozen=True):
    """One side over a block and the second before it: [second, level from the touch] → price and size."""

    sign: int  # of the way outwards from the touch
    level: Integers
    size: Integers


class SimulatedBook:
    """The order book of one simulated market. Pure, as the market is."""

    def __init__(self, market: SimulatedMarket) -> None:
        self._market = market
        # Normal sizes around 15,000 USDT a level, by the quantile that ten bits of a hash pick.
        draws = np.sort(gauss(bits_at(key_of("sizes"), np.arange(_SIZES))))
        self._sizes: Floats = market.lots(15_000.0) * np.exp(0.9 * draws)
        self._block = recent(self._make_block)

    def state(self, second: int) -> BookState:
        """The whole book at `second` (since 1970)."""
        block, row = second // _BLOCK, second % _BLOCK + 1
        bids, asks = (self._levels(side, side.level[row], side.size[row]) for side in self._block(block))
        return BookState(second, _update_id(second), bids, asks)

    def changes(self, block: int) -> Iterator[BookChange]:
        """The change of each of the seconds `block * 600` … `block * 600 + 599`, in order."""
        sides = [self._changes(side) for side in self._block(block)]
        for offset, (bids, asks) in enumerate(zip(*sides, strict=True)):
            last = _update_id(block * _BLOCK + offset)
            yield BookChange(block * _BLOCK + offset, last - UPDATES_PER_SECOND + 1, last, bids, asks)

    def _levels(self, side: _Side, level: Integers, size: Integers) -> Levels:
        return list(zip((level * self._market.ticks_a_level).tolist(), size.tolist(), strict=True))

    def _changes(self, side: _Side) -> list[Levels]:
        """Per second: levels that went, then levels whose size is new, from the touch outwards."""
        level, size = side.level, side.size
        shift = side.sign * (level[1:, 0] - level[:-1, 0])
        columns = np.arange(DEPTH)
        # A level at column c now was at column c + shift a second ago, where that exists.
        before = columns + shift[:, None]
        known = (before >= 0) & (before < DEPTH)
        old = np.take_along_axis(size[:-1], np.clip(before, 0, DEPTH - 1), axis=1)
        is_new = np.where(known, old != size[1:], True)
        after = columns - shift[:, None]
        is_gone = (after < 0) | (after >= DEPTH)
        gone = _rows(is_gone, self._levels(side, level[:-1][is_gone], np.zeros(is_gone.sum(), np.int64)))
        new = _rows(is_new, self._levels(side, level[1:][is_new], size[1:][is_new]))
        return [[*first, *second] for first, second in zip(gone, new, strict=True)]

    def _make_block(self, block: int) -> tuple[_Side, _Side]:
        begin = block * _BLOCK
        first = begin - 1
        hour = begin // HOUR
        offset = begin % HOUR
        current = self._market.top(hour)
        before = current if offset else self._market.top(hour - 1)
        bid, ask = (
            np.concatenate((old[offset - 1 :][:1], new[offset : offset + _BLOCK]))
            for old, new in ((before.bid, current.bid), (before.ask, current.ask))
        )
        seconds = np.arange(first, begin + _BLOCK)
        eager = pressure(self._market.key, first - _LONGEST_EPOCH, _BLOCK + 1 + _LONGEST_EPOCH)
        return self._side(-1, bid, seconds, eager), self._side(1, ask, seconds, eager)

    def _side(self, sign: int, touch: Integers, seconds: Integers, eager: Floats) -> _Side:
        level = touch[:, None] + sign * np.arange(DEPTH)
        nature = bits_at(key_of(self._market.key, "levels", sign), level)
        length = (nature & np.uint64(0xFF)) % np.uint64(3) + np.uint64(4)  # epochs of 16, 32 or 64 seconds
        length = length.astype(np.int64)
        phase = (nature >> np.uint64(8)).astype(np.int64) & (_LONGEST_EPOCH - 1)
        epoch = (seconds[:, None] + phase) >> length
        began = (epoch << length) - phase - (int(seconds[0]) - _LONGEST_EPOCH)
        draw = bits_at(key_of(self._market.key, "sizes", sign), level * 2**33 + epoch)
        weight = np.exp(-sign * _LEAN * eager)
        size = self._sizes[(draw >> np.uint64(54)).astype(np.int64)] * weight[began]
        return _Side(sign, level, np.maximum(np.rint(size), 1).astype(np.int64))


def _rows(mask: NDArray[np.bool_], values: Levels) -> list[Levels]:
    """`values`, picked by `mask` row after row, as one list a row."""
    ends = np.cumsum(mask.sum(axis=1)).tolist()
    return [values[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _update_id(second: int) -> int:
    """The newest update id at `second`: positive and in step with time."""
    return second * UPDATES_PER_SECOND
