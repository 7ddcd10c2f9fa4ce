"""The levels of a book in machine code: sorted arrays, changes to them, and what is said of the best ones.

A ladder is an array of [side, level, (price, size)]; beside it stands how many levels each side has. The best
level of a side comes last, so that a change near the top of the book moves few others.
"""

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numba import types
from numba.extending import intrinsic

from market.compiled import compiled

if TYPE_CHECKING:
    from collections.abc import Callable

BID, ASK = 0, 1
NO_ROOM, SOUND, ONE_SIDED, CROSSED = -1, 0, 1, 2
"""What is found after a change. NO_ROOM: the ladder is too small for it, and as it was."""

_DOUBLE = 8
_LEVEL = 2 * _DOUBLE
_LEVEL_LENGTH = 48
"""Bytes that one level takes at most as JSON."""

_LADDER, _COUNTS = types.float64[:, :, ::1], types.int64[::1]
_LEVELS = types.Bytes(types.uint8, 1, "C", readonly=True)
_NUMBERS, _TEXT = types.float64[::1], types.uint8[::1]
_PLACES = types.UniTuple(types.int64, 2)  # type: ignore[no-untyped-call]

_POWERS = 10.0 ** np.arange(23)
"""Those that a double holds exactly."""
_SCALES = (2, 5, 8, 12, 16, 20)
_SURE = 1e15
"""A decimal of fewer digits than this has is the shortest one of the double that is nearest to it."""
_PLAIN_FROM = 1e-5
"""What is smaller is written with an exponent."""
_ZERO, _POINT, _COMMA, _OPEN, _CLOSE = b"0.,[]"


def empty(room: int) -> Any:
    """A ladder for so many levels a side."""
    return np.zeros((2, room, 2))


def no_levels() -> Any:
    """How many levels a new ladder has a side."""
    return np.zeros(2, np.int64)


def widened(ladder: Any) -> Any:
    """The same ladder with twice the room."""
    wider = empty(2 * ladder.shape[1])
    wider[:, : ladder.shape[1]] = ladder
    return wider


def whole(levels: bytes, side: int) -> Any:
    """One side of a whole book, best level last; of several of a price the last counts, of no size none."""
    found = np.frombuffer(bytearray(levels)).reshape(-1, 2)
    found = found[found[:, 1] > 0.0]
    found = found[np.argsort(found[:, 0] if side == BID else -found[:, 0], kind="stable")]
    is_last = np.ones(len(found), np.bool_)
    is_last[:-1] = found[1:, 0] != found[:-1, 0]
    return found[is_last]


def answer(depth: int) -> tuple[Any, Any]:
    """The arrays that `summary` answers in, for at most `depth` levels a side."""
    return np.empty(5 + depth), np.empty(2 * (depth + 1) * _LEVEL_LENGTH, np.uint8)


@compiled()
def _place(side: Any, count: int, price: float, sign: float) -> int:
    """Where `price` stands, or belongs: looked for from the best level on, in steps that double."""
    low, high, step = count - 1, count, 1
    while low >= 0 and sign * side[low, 0] >= sign * price:
        high = low
        low -= step
        step *= 2
    low = max(low, -1)
    while high - low > 1:
        middle = (low + high) // 2
        if sign * side[middle, 0] >= sign * price:
            high = middle
        else:
            low = middle
    return high


@compiled(types.float64(_LADDER, _COUNTS, types.int64, types.float64))
def size_at(ladder: Any, counts: Any, side: int, price: float) -> float:
    """The size at a price of one side, 0 where there is no level."""
    levels, count = ladder[side], counts[side]
    at = _place(levels, count, price, 1.0 if side == BID else -1.0)
    return float(levels[at, 1]) if at < count and levels[at, 0] == price else 0.0


@compiled()
def _change(side: Any, count: int, price: float, size: float, sign: float) -> int:
    """Set one level, or remove it; how many there are then."""
    at = _place(side, count, price, sign)
    is_known = at < count and side[at, 0] == price
    if size == 0.0:
        if is_known:
            for place in range(at, count - 1):
                side[place, 0], side[place, 1] = side[place + 1, 0], side[place + 1, 1]
            count -= 1
        return count
    if not is_known:
        for place in range(count, at, -1):
            side[place, 0], side[place, 1] = side[place - 1, 0], side[place - 1, 1]
        side[at, 0] = price
        count += 1
    side[at, 1] = size
    return count


def _read_double(_typing: Any, raw: Any, _at: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_helper(builder, raw, arguments[0]).data
        place = builder.gep(data, [arguments[1]])
        return builder.load(
            builder.bitcast(place, context.get_value_type(types.float64).as_pointer()), align=1
        )

    return types.float64(raw, types.int64), code


_double = cast("Callable[[bytes, int], float]", intrinsic(_read_double))
"""The double that the eight bytes from a place on are."""


@compiled()
def _change_side(ladder: Any, counts: Any, place: int, changes: bytes) -> None:
    side, count, sign = ladder[place], counts[place], 1.0 if place == BID else -1.0
    for at in range(0, len(changes), _LEVEL):
        count = _change(side, count, _double(changes, at), _double(changes, at + _DOUBLE), sign)
    counts[place] = count


@compiled(types.int64(_LADDER, _COUNTS, _LEVELS, _LEVELS))
def apply(ladder: Any, counts: Any, bids: bytes, asks: bytes) -> int:
    """Set levels, each a price and a size as doubles, in order; what the book then is."""
    room = ladder.shape[1]
    if counts[BID] + len(bids) // _LEVEL > room or counts[ASK] + len(asks) // _LEVEL > room:
        return NO_ROOM
    _change_side(ladder, counts, BID, bids)
    _change_side(ladder, counts, ASK, asks)
    if counts[BID] == 0 or counts[ASK] == 0:
        return ONE_SIDED
    return CROSSED if ladder[BID, counts[BID] - 1, 0] >= ladder[ASK, counts[ASK] - 1, 0] else SOUND


@compiled()
def _exact_sum(side: Any, begin: int, end: int, partials: Any) -> float:
    """What `math.fsum` gives for the sizes: Shewchuk's partial sums, rounded once, half to even."""
    count = 0
    for level in range(begin, end):
        value, kept = side[level, 1], 0
        for k in range(count):
            other = partials[k]
            if abs(value) < abs(other):
                value, other = other, value
            high = value + other
            low = other - (high - value)
            if low != 0.0:
                partials[kept] = low
                kept += 1
            value = high
        partials[kept] = value
        count = kept + 1
    total, low = 0.0, 0.0
    while count > 0 and low == 0.0:
        count -= 1
        value = total
        total = value + partials[count]
        low = partials[count] - (total - value)
    if count > 0 and low * partials[count - 1] > 0.0:
        twice = 2.0 * low
        if (total + twice) - total == twice:
            total += twice
    return total


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
    whole, length = rest // np.int64(_POWERS[scale]), 1
    while whole >= 10:
        whole //= 10
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
def _write_levels(text: Any, at: int, side: Any, count: int, depth: int) -> int:
    """Write the best levels as JSON, best first; where it ends, 0 where a number is not sure."""
    text[at] = _OPEN
    at += 1
    for level in range(count - 1, max(count - depth, 0) - 1, -1):
        text[at] = _OPEN
        at = _write_number(text, at + 1, side[level, 0])
        if at == 0:
            return 0
        text[at] = _COMMA
        at = _write_number(text, at + 1, side[level, 1])
        if at == 0:
            return 0
        text[at], text[at + 1] = _CLOSE, _COMMA
        at += 2
    text[at - 1] = _CLOSE
    return at


@compiled(_PLACES(_LADDER, _COUNTS, types.int64, types.int64, _NUMBERS, _TEXT))
def summary(ladder: Any, counts: Any, depth: int, summed: int, numbers: Any, text: Any) -> Any:
    """What a snapshot holds of a book with two sides.

    Args:
        ladder: the levels.
        counts: how many there are a side.
        depth: how many are written as JSON, at most, a side.
        summed: how many are summed.
        numbers: takes best bid, best ask, their difference, and the sums of the bids' and the asks' sizes.
        text: takes the bids' JSON and then the asks'.

    Returns:
        Where the two end in `text`; the latter is 0 where a number is not for here to write.
    """
    for place in (BID, ASK):
        side, count = ladder[place], counts[place]
        numbers[place] = side[count - 1, 0]
        numbers[3 + place] = _exact_sum(side, max(count - summed, 0), count, numbers[5:])
    numbers[2] = _difference(numbers[ASK], numbers[BID])
    middle = _write_levels(text, 0, ladder[BID], counts[BID], depth)
    if middle == 0 or np.isnan(numbers[2]):
        return 0, 0
    return middle, _write_levels(text, middle, ladder[ASK], counts[ASK], depth)
