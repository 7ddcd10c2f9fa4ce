"""The kernel over a merged tape: several instruments, trades, books, funding, candles inside candles."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from numba import int64, types, uint64

from backtest.batch import quiet_range
from backtest.compiled import compiled
from backtest.entries import settle
from backtest.kernel import step
from backtest.ledger import check, equity
from backtest.policies import on_event_type
from backtest.queue import line_up
from backtest.state import (
    BOOK,
    CLOSE,
    END,
    LOWER_TIMEFRAME,
    MAX_LEVELS,
    NO_ERROR,
    NO_QUEUE,
    STATE_TYPE,
    TIME_WENT_BACK,
    TRADE,
    Event,
    State,
    tuple_type,
)
from backtest.tally import (
    TALLY_TYPE,
    Record,
    Records,
    Tally,
    advance,
    after_candle,
    begin,
    climb,
    climbs,
    grown,
    has_room,
    record_of,
    write_close,
    write_day,
    write_fills,
)
from backtest.tape import Tape

_ARRAYS = {"b": types.int8, "h": types.int16, "i": types.int32, "l": types.int64, "d": types.float64}
_TAPE = tuple_type(
    Tape,
    *(types.Array(_ARRAYS[code], 1, "C") for code in "bhlldddd" + "bbi"),
    types.Array(types.float64, 3, "C"),
    types.Array(types.float64, 3, "C"),
    types.int64[::1],
)


def walk_tape(state: Records, policy: Any, on_event: Any, tape: Tape, *, curve: bool) -> Record:
    """Run the kernel over every event of a tape, then close what is left.

    Args:
        state: one fresh record of `STATE` with as many instruments as the tape, which is used up.
        policy: the callback's parameters and memory: one record of `POLICY`, or of a type of your own.
        on_event: a callback compiled to `on_event_type` of that record's type. It hears of signals and
            fills, and of every event from `state.wake_at` on, which it may set.
        tape: see `backtest.tape.merge`.
        curve: whether to keep the points of the equity curve: at closes of candles and at fills.

    Raises:
        DeltatapeError: the kernel's own checks failed.
    """
    # What happens at midnight is of the day that ends there.
    first = int(tape.start[tape.kind == CLOSE].min(initial=tape.timestamp[0]))
    last = max(first, int(tape.timestamp[-1]) - 1)
    points = 2 * len(tape.kind) + 2 if curve else 0
    tally = begin(first, last, float(state["initial"][0]), 0, points)
    if "wakes" in (policy.dtype.names or ()) and policy["wakes"]:
        state["wake_at"] = 0
    walker = _walker(policy.dtype)
    while not walker(state[0], on_event, policy, tape, tally):
        tally = grown(tally)
    return record_of(state, tally)


@compiled()
def _mark(state: State, tape: Tape, index: int, floor: float, ceiling: float, tally: Tally) -> int:
    """Mark trades from `index` on whose prices are quiet; gives the first event that is not one.

    What the two identities differ by is the same at every price, so that the check before the first trade
    is one at each of them.
    """
    one, counts = state.instruments[0], tally.counts
    check(state)
    begun, time = index, state.timestamp
    limit = min(counts.day_end, state.wake_at - 1)
    high, low = -np.inf, np.inf
    for place in range(uint64(index), uint64(tape.kind.size)):
        price, stamp = tape.price[place], tape.timestamp[place]
        if tape.kind[place] != TRADE or not (floor < price < ceiling and time <= stamp <= limit):
            break
        time = stamp
        high, low = max(high, price), min(low, price)
        index += 1
    if index < tape.kind.size and tape.timestamp[index] < time:
        state.error = TIME_WENT_BACK
    if index > begun:
        counts.events += index - begun
        if climbs(state, low, high, tally):
            climb(state, tape.price, begun, index, tally)
        state.timestamp = time
        one.mark = tape.price[index - 1]
        one.available = state.participation * tape.size[index - 1]
        tally.daily[counts.day] = equity(state)
        if one.quantity != 0.0:
            one.high, one.low = max(one.high, high), min(one.low, low)
    return index


@compiled()
def _event(state: State, tape: Tape, index: int) -> Event:
    """The event at this place; of a book its levels are put where the kernel walks them."""
    number = int64(tape.instrument[index])
    if tape.kind[index] == BOOK:
        one, place = state.instruments[number], tape.book[index]
        for side in range(2):
            for level in range(MAX_LEVELS):
                one.bids[side, level] = tape.bids[place, side, level]
                one.asks[side, level] = tape.asks[place, side, level]
    return Event(
        int64(tape.kind[index]),
        number,
        tape.timestamp[index],
        tape.start[index],
        tape.price[index],
        tape.high[index],
        tape.low[index],
        tape.size[index],
        int64(tape.signal[index]),
        int64(tape.source[index]),
    )


@compiled()
def _ends(tape: Tape, index: int) -> bool:
    """Whether what comes next is of another instant or kind."""
    following = index + 1
    same_time = tape.timestamp[following] == tape.timestamp[index]
    return not (same_time and tape.kind[following] == tape.kind[index])


@compiled(inline=True)
def _settle(state: State, event: Event, on_event: Any, policy: Any, tally: Tally) -> None:
    """After the events of an instant and kind: the entries of several instruments, and the equity."""
    if state.due_count > 0:
        state.fill_count = 0
        settle(state)
        if state.fill_count > 0:
            on_event(state, event, policy)
            write_fills(state, tally)
            if event.kind == CLOSE:
                after_candle(state, event, on_event, policy, tally)
    if event.kind == CLOSE and event.source != LOWER_TIMEFRAME:
        write_close(state, event.timestamp, tally)
    elif event.kind == TRADE or state.fill_count > 0:
        write_day(equity(state), event.timestamp, tally)


def _walk(state: State, on_event: Any, policy: Any, tape: Tape, tally: Tally) -> bool:
    """Walk on from where the counts say; False where the fills need more room."""
    counts = tally.counts
    count = tape.kind.size
    alone = state.instrument_count == 1
    floor, ceiling = -np.inf, np.inf
    if alone:
        floor, ceiling = quiet_range(state)
    while counts.index < count:
        index = counts.index
        if alone and floor < ceiling and tape.kind[index] == TRADE:
            index = _mark(state, tape, index, floor, ceiling, tally)
            counts.index = index
        if state.error != NO_ERROR or index == count:
            break
        if not has_room(tally):
            return False
        if state.queue != NO_QUEUE:
            line_up(state, tape, index)
        event = _event(state, tape, index)
        advance(state, event, on_event, policy, tally)
        counts.index = index + 1
        if index + 1 == count or _ends(tape, index):
            _settle(state, event, on_event, policy, tally)
        if alone:
            floor, ceiling = quiet_range(state)
    if state.error != NO_ERROR:
        return True
    end = state.timestamp
    step(state, Event(END, 0, end, end, 0.0, 0.0, 0.0, 0.0, 0, 0))
    counts.events += 1
    if state.fill_count > 0:
        write_fills(state, tally)
    write_day(equity(state), end, tally)
    return True


@cache
def _walker(policy: np.dtype[np.void]) -> Callable[..., bool]:
    """The walk for policies over this type of record."""
    kind = numba.from_dtype(policy)
    callback = types.FunctionType(on_event_type(kind))
    return compiled(types.boolean(STATE_TYPE, callback, kind, _TAPE, TALLY_TYPE))(_walk)
