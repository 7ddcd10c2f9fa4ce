"""Numbers and times as exchanges write them: decimal texts to doubles, time texts to microseconds UTC."""

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from functools import cache, lru_cache
from itertools import chain
from typing import Annotated, Any

from msgspec import Meta, Raw
from msgspec.json import Decoder

from market.levels import PackedLevels, Texts, packed
from market.timeframe import MICROSECONDS, from_datetime

MAX_SECONDS = 253_402_300_799
"""9999-12-31T23:59:59Z: no later time is one."""
LARGEST = 1e30
"""No price and no size is so large; sums and products of what is below stay far from infinity."""
SMALLEST = 1e-30
"""No price, and no size but zero, is so small."""
_NUMBER = "0123456789.eE+-"
_is_plain = re.compile("[0-9.]+").fullmatch
_SURE_LENGTH = 16
"""A text this short (15 digits and a point) is always the shortest decimal of some double."""
_has_long = re.compile(rb'"[^"]{%d}' % (_SURE_LENGTH + 1)).search
MAX_PLAIN = 20_000
"""Levels of one message that are read in machine code."""
_Price = Annotated[float, Meta(gt=SMALLEST, lt=LARGEST)]
_Size = Annotated[float, Meta(ge=0.0, lt=LARGEST)]
_read_levels = Decoder(list[tuple[_Price, _Size]], strict=False).decode
_read_texts = Decoder(list[tuple[str, str]]).decode


def _read_amount(text: str) -> float:
    # float() also takes "nan", "1_0" and " 1": stripping leaves nothing of a text of these characters.
    if text.strip(_NUMBER):
        raise ValueError(f"not a number: {_short(text)}")
    value = float(text)
    if not (SMALLEST < value < LARGEST or value == 0.0):
        raise ValueError(f"out of range: {_short(text)}")
    return value


# Prices recur: looking one up costs a third of reading it.
@lru_cache(maxsize=4096)
def _read_price(text: str) -> float:
    value = _read_amount(text)
    if value == 0.0:
        raise ValueError(f"not above zero: {text!r}")
    return value


@cache
def _plain_reader() -> tuple[Callable[[bytes, bytes, Any], tuple[int, int]], Any, memoryview]:
    """What reads plain levels, and where to, twice over."""
    # Imported here: numba takes longer than all that a command needs which reads no book.
    import numpy as np

    from collector.exchanges.level_reader import read

    values: Any = np.empty(2 * MAX_PLAIN)
    return read, values, memoryview(values)


def _is_inexact(text: str) -> bool:
    """Whether no double holds the number exactly; of a text that is none, it is not for here to say."""
    return Decimal(repr(_read_amount(text))) != Decimal(text)


class Numbers:
    """Turns decimal texts into doubles and counts those that no double holds exactly.

    Every method raises ValueError for what is no such number.
    """

    __slots__ = ("inexact",)

    def __init__(self) -> None:
        self.inexact = 0

    def price(self, text: str) -> float:
        """A number above zero."""
        if len(text) > _SURE_LENGTH:
            self.inexact += _is_inexact(text)
        return _read_price(text)

    def amount(self, text: str) -> float:
        """A number that is not below zero."""
        if len(text) > _SURE_LENGTH:
            self.inexact += _is_inexact(text)
        return _read_amount(text)

    def read_sides(self, bids: Raw, asks: Raw) -> tuple[PackedLevels, PackedLevels]:
        """The levels in two JSON lists of [price, size] texts: prices above zero, sizes not below."""
        read, values, view = _plain_reader()
        middle, end = read(bids, asks, values)
        if end < 0:
            return self._read_levels(bids), self._read_levels(asks)
        return view[:middle].tobytes(), view[middle:end].tobytes()

    def _read_levels(self, raw: Raw) -> PackedLevels:
        """The same of one list, whatever its numbers are."""
        levels = packed(_read_levels(raw))
        if _has_long(raw):
            self.levels(_read_texts(raw))
        return levels

    def levels(self, levels: Texts) -> Texts:
        """The same book levels, once every price is above zero and every size is not below."""
        texts = list(chain.from_iterable(levels))
        if not texts:
            return levels
        joined = "".join(texts)
        # Digits and points need no closer look, which would take three times as long.
        if not _is_plain(joined) and joined.strip(_NUMBER):
            raise ValueError("not a number in a book level")
        values = list(map(float, texts))
        if not (min(values[::2]) > SMALLEST and min(values) >= 0.0 and max(values) < LARGEST):
            raise ValueError(f"out of range: {_first_bad(levels)}")
        if max(map(len, texts)) > _SURE_LENGTH:
            self.inexact += sum(
                Decimal(repr(value)) != Decimal(text)
                for value, text in zip(values, texts, strict=True)
                if len(text) > _SURE_LENGTH
            )
        return levels

    def candle(self, prices: Iterable[str]) -> tuple[float, float, float, float]:
        """Open, high, low and close, in this order, once they make a candle."""
        first, high, low, last = map(self.price, prices)
        if not (low <= first <= high and low <= last <= high):
            raise ValueError("open and close are not between low and high")
        return first, high, low, last


def iso_microseconds(text: str) -> int:
    """Microseconds UTC of an RFC 3339 time with any number of decimals; what is finer is cut off.

    Raises:
        ValueError: `text` is no such time.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or len(text) < 20:
        raise ValueError(f"not a full time with its zone: {_short(text)}")
    return from_datetime(moment)


def seconds_microseconds(text: str) -> int:
    """Microseconds UTC of decimal unix seconds; what is finer is cut off.

    Raises:
        ValueError: `text` is no such time.
    """
    whole, _, fraction = text.partition(".")
    digits = whole + fraction
    if not (digits.isascii() and digits.isdigit() and whole) or int(whole) > MAX_SECONDS:
        raise ValueError(f"not unix seconds: {_short(text)}")
    return int(whole) * MICROSECONDS + int(fraction[:6].ljust(6, "0"))


def _first_bad(levels: Texts) -> str:
    """The first level whose price is not above zero, or whose size is below, or that is absurdly large."""
    for price, size in levels:
        if not (SMALLEST < float(price) < LARGEST and 0.0 <= float(size) < LARGEST):
            return f"level {_short(price)}, {_short(size)}"
    raise AssertionError("every level is in range")


def _short(text: str) -> str:
    return repr(text[:40])
