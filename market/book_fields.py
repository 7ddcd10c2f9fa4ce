"""What is stored of a book, in machine code: fields of a row as PostgreSQL's binary COPY takes them.

Each field is its length in four bytes and its value, all big-endian; JSON has a byte before it, its version.
"""

from typing import Any

import numpy as np
from numba import types

from market.compiled import compiled
from market.ladder import ASK, BID

_LADDER, _COUNTS, _ROW = types.float64[:, :, ::1], types.int64[::1], types.uint8[::1]
_TEXT = types.Bytes(types.uint8, 1, "C", readonly=True)
_WRITTEN = types.Tuple((types.int64, types.float64, types.float64))  # type: ignore[no-untyped-call]

_LEVEL_LENGTH = 52
"""Bytes that one level takes at most as JSON."""
_FIXED_LENGTH = 9 * 12
_JSON_HEAD = 5
_POWERS = 10.0 ** np.arange(23)
"""Those that a double holds exactly."""
_SCALES = (2, 5, 8, 12, 16, 20)
_SURE = 1e15
"""A decimal of fewer digits than this has is the shortest one of the double that is nearest to it."""
_PLAIN_FROM = 1e-5
"""What is smaller is written with an exponent."""
_ZERO, _POINT, _COMMA, _OPEN, _CLOSE = b"0.,[]"


def row(depth: int) -> Any:
    """Room for the fields of a book of at most `depth` levels a side."""
    return np.empty(_FIXED_LENGTH + 2 * (_JSON_HEAD + 2 + depth * _LEVEL_LENGTH), np.uint8)


@compiled()
def _exact_sum(side: Any, count: int, summed: int) -> float:
    """The best levels' sizes added and rounded once, NaN where two doubles do not hold what is to be rounded.

    The error of each addition is exact too (Knuth, TAOCP 2, 4.2.2, theorem B).
    """
    high, low, lost = 0.0, 0.0, 0.0
    for level in range(count - 1, max(count - summed, 0) - 1, -1):
        size = side[level, 1]
        total = high + size
        grown = total - high
        error = (high - (total - grown)) + (size - grown)
        both = low + error
        grown = both - low
        lost += abs((low - (both - grown)) + (error - grown))
        high, low = total, both
    return high + low if lost == 0.0 else np.nan


@compiled()
def _scaled(value: float) -> Any:
    """The shortest decimal of `value` as (digits, scale), zeros behind it or not; scale 0 if not sure."""
    if _PLAIN_FROM <= value < _SURE:
        for scale in _SCALES:
            digits = np.rint(value * _POWERS[scale])
            if digits >= _SURE:
                break
            if digits / _POWERS[scale] == value:
                return np.int64(digits), scale
    return np.int64(0), 0


@compiled()
def _difference(high: float, low: float) -> float:
    """The difference of two decimals, NaN where that is not sure."""
    digits, scale = _scaled(high)
    lower, lower_scale = _scaled(low)
    finest = max(scale, lower_scale)
    more, lower_more = _POWERS[finest - scale], _POWERS[finest - lower_scale]
    if scale == 0 or lower_scale == 0 or digits * more >= _SURE or lower * lower_more >= _SURE:
        return np.nan
    return float((digits * more - lower * lower_more) / _POWERS[finest])


@compiled()
def _write_number(text: Any, at: int, value: float) -> int:
    """Write the shortest decimal of `value` as msgspec does; where it ends, 0 where that is not sure."""
    rest, scale = _scaled(value)
    if scale == 0:
        return 0
    while scale > 1 and rest % 10 == 0:
        rest //= 10
        scale -= 1
    length = 1
    while value >= _POWERS[length]:
        length += 1
    end = at + length + 1 + scale
    for place in range(end - 1, at - 1, -1):
        if place == at + length:
            text[place] = _POINT
        else:
            text[place] = _ZERO + rest % 10
            rest //= 10
    return int(end)


@compiled()
def _write_length(row: Any, at: int, length: int) -> int:
    for place in range(4):
        row[at + place] = length >> (24 - 8 * place) & 0xFF
    return at + 4


@compiled()
def _write_integer(row: Any, at: int, value: int) -> int:
    at = _write_length(row, at, 8)
    for place in range(8):
        row[at + place] = value >> (56 - 8 * place) & 0xFF
    return at + 8


@compiled()
def _write_double(row: Any, at: int, value: float) -> int:
    bits: Any = np.float64(value).view(np.int64)
    return _write_integer(row, at, bits)


@compiled()
def _write_levels(row: Any, at: int, side: Any, count: int, depth: int) -> int:
    """Write the best levels as a field of JSON, best first; where it ends, 0 where a number is not sure."""
    begin, at = at, at + 4
    row[at], row[at + 1] = 1, _OPEN
    at += 2
    for level in range(count - 1, max(count - depth, 0) - 1, -1):
        row[at] = _OPEN
        at = _write_number(row, at + 1, side[level, 0])
        if at == 0:
            return 0
        row[at] = _COMMA
        at = _write_number(row, at + 1, side[level, 1])
        if at == 0:
            return 0
        row[at], row[at + 1] = _CLOSE, _COMMA
        at += 2
    row[at - 1] = _CLOSE
    _write_length(row, begin, at - begin - 4)
    return at


@compiled()
def _write_json(row: Any, at: int, json: bytes) -> int:
    at = _write_length(row, at, len(json) + 1)
    row[at] = 1
    for place in range(len(json)):
        row[at + 1 + place] = json[place]
    return at + 1 + len(json)


@compiled()
def _write_numbers(
    row: Any, bid: float, ask: float, spread: float, bids: float, asks: float, depth: int
) -> Any:
    """Write all but the levels; spread in basis points of the middle, and imbalance in percent."""
    middle = (bid + ask) / 2
    points, imbalance = spread / middle * 10_000, (bids - asks) / (bids + asks) * 100
    at = 0
    for value in (bid, ask, middle, spread, points, bids, asks, imbalance):
        at = _write_double(row, at, value)
    return _write_integer(row, at, depth), points, imbalance


@compiled(_WRITTEN(_LADDER, _COUNTS, types.int64, types.int64, _ROW))
def write(ladder: Any, counts: Any, depth: int, summed: int, row: Any) -> Any:
    """Write what is stored of a book with two sides.

    Args:
        ladder: the levels.
        counts: how many there are a side.
        depth: how many are written as JSON, at most, a side.
        summed: over how many the volumes are taken.
        row: takes the fields.

    Returns:
        Where they end, 0 where a number is not for here to write; the spread in basis points; the imbalance.
    """
    bids, asks = ladder[BID], ladder[ASK]
    bid, ask = bids[counts[BID] - 1, 0], asks[counts[ASK] - 1, 0]
    spread = _difference(ask, bid)
    bid_volume, ask_volume = (_exact_sum(bids, counts[BID], summed), _exact_sum(asks, counts[ASK], summed))
    at, points, imbalance = _write_numbers(row, bid, ask, spread, bid_volume, ask_volume, depth)
    if np.isnan(spread + bid_volume + ask_volume):
        return 0, 0.0, 0.0
    at = _write_levels(row, at, bids, counts[BID], depth)
    if at > 0:
        at = _write_levels(row, at, asks, counts[ASK], depth)
    return at, points, imbalance


_NUMBERS = (types.float64,) * 5


@compiled(_WRITTEN(*_NUMBERS, types.int64, _TEXT, _TEXT, _ROW))
def write_given(
    bid: float,
    ask: float,
    spread: float,
    bid_volume: float,
    ask_volume: float,
    depth: int,
    bids: bytes,
    asks: bytes,
    row: Any,
) -> Any:
    """The same of numbers and JSON that were made elsewhere."""
    at, points, imbalance = _write_numbers(row, bid, ask, spread, bid_volume, ask_volume, depth)
    return _write_json(row, _write_json(row, at, bids), asks), points, imbalance
