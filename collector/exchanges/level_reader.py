"""Book levels out of an exchange's JSON, in machine code."""

from typing import Any

import numpy as np
from numba import types

from market.compiled import compiled

UNSURE = -1
"""It is not the plain JSON that exchanges send, or has a number that is not for here to round."""

_PLACES = types.UniTuple(types.int64, 2)  # type: ignore[no-untyped-call]
_JSON = types.Bytes(types.uint8, 1, "C", readonly=True)
_POWERS = 10.0 ** np.arange(19)
_MAX_DIGITS = 18
"""What an integer of 64 bits holds, whatever they are."""
_SURE = 10**15
"""Fewer digits than this has, by a power of ten: both are doubles, and so is their nearest quotient."""
_QUOTE, _POINT, _COMMA, _OPEN, _CLOSE, _ZERO, _NINE = b'".,[]09'


@compiled()
def _number(raw: bytes, at: int) -> Any:
    """The number in quotes that begins at `at`, below zero where it is not sure; what follows it is where."""
    if raw[at] != _QUOTE:
        return -1.0, at
    begin = at = at + 1
    digits = 0
    while _ZERO <= raw[at] <= _NINE:
        digits = 10 * digits + (raw[at] - _ZERO)
        at += 1
    length, scale = at - begin, 0
    if length == 0 or length > _MAX_DIGITS or (length > 1 and raw[begin] == _ZERO):
        return -1.0, at
    if raw[at] == _POINT:
        point, longer = at, digits
        at += 1
        while _ZERO <= raw[at] <= _NINE:
            longer = 10 * longer + (raw[at] - _ZERO)
            # Zeros at the end are no digits of the number.
            if raw[at] != _ZERO:
                if at - begin > _MAX_DIGITS:
                    return -1.0, at
                digits, scale = longer, at - point
            at += 1
        if at == point + 1:
            return -1.0, at
    if raw[at] != _QUOTE or digits >= _SURE:
        return -1.0, at
    return digits / _POWERS[scale], at + 1


@compiled()
def _levels(raw: bytes, values: Any, count: int) -> int:
    size, at = len(raw), 1
    # Nothing below runs over the end: the last byte is none of those that reading goes on from.
    if size < 2 or raw[0] != _OPEN or raw[size - 1] != _CLOSE:
        return UNSURE
    if size == 2:
        return count
    while raw[at] == _OPEN and count + 2 <= len(values):
        price, at = _number(raw, at + 1)
        if not price > 0.0 or raw[at] != _COMMA:
            return UNSURE
        amount, at = _number(raw, at + 1)
        if not amount >= 0.0 or raw[at] != _CLOSE:
            return UNSURE
        values[count], values[count + 1] = price, amount
        count += 2
        if at == size - 2:
            return count
        if at > size - 2 or raw[at + 1] != _COMMA:
            return UNSURE
        at += 2
    return UNSURE


@compiled(_PLACES(_JSON, _JSON, types.float64[::1]))
def read(bids: bytes, asks: bytes, values: Any) -> Any:
    """Read two lists [["price","size"],…] of plain decimals, all prices above zero.

    Args:
        bids: the JSON of the one.
        asks: of the other.
        values: takes price and size by turns.

    Returns:
        Where the bids end among the values, and where the asks do; the latter is UNSURE where one of the
        lists must be read, or refused, elsewhere.
    """
    middle = _levels(bids, values, 0)
    return middle, (UNSURE if middle < 0 else _levels(asks, values, middle))
