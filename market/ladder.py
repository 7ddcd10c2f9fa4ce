"""The levels of a book in machine code: sorted arrays, and changes to them.

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

_LADDER, _COUNTS = types.float64[:, :, ::1], types.int64[::1]
_LEVELS = types.Bytes(types.uint8, 1, "C", readonly=True)


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
