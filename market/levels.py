"""Levels of an order book on their way from an exchange's message into the book."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from struct import Struct

PackedLevels = bytes
"""Book levels as doubles, price and size by turns."""
Texts = Sequence[tuple[str, str]]
"""Book levels as (price, size) texts, as the exchange sent them: what checksums are made of."""
Levels = PackedLevels | Texts


def numbers(levels: Levels) -> Iterator[tuple[float, float]]:
    """The levels as numbers."""
    if isinstance(levels, bytes):
        return Struct("dd").iter_unpack(levels)
    return ((float(price), float(size)) for price, size in levels)


def packed(levels: Iterable[tuple[float, float]]) -> PackedLevels:
    """Levels as an order book takes them."""
    return array("d", chain.from_iterable(levels)).tobytes()
