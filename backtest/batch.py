"""The kernel over candles of one instrument and a signal's changes: what most backtests are.

The events are merged while walking and never stored: at one instant the close comes first, then the
signal, then the next open. A candle that is missing simply gives no event. Candles that can do nothing to
any order are only marked, in tight loops.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import types, uint64

from backtest.compiled import compiled
from backtest.kernel import step
from backtest.ledger import check, equity, ruin
from backtest.orders import bounds
from backtest.policies import POLICY_TYPE, follow_signals
from backtest.prefetch import prefetch
from backtest.state import (
    CANDLE,
    CLOSE,
    END,
    EQUITY_DISAGREES,
    NO_ERROR,
    OPEN,
    SIGNAL,
    STATE_TYPE,
    TIME_WENT_BACK,
    Event,
    State,
    tuple_type,
)
from backtest.tally import (
    ROOM,
    TALLY_TYPE,
    Floats,
    Integers,
    Record,
    Records,
    Tally,
    advance,
    begin,
    climb,
    climbs,
    grown,
    has_room,
    record_of,
    turn_day,
    write_close,
    write_day,
    write_fills,
)
from backtest.turns import only_turns, turn

__all__ = ["Candles", "Floats", "Integers", "Record", "Records", "Signals", "walk"]


class Candles(NamedTuple):
    """The columns that the kernel walks.

    Attributes:
        timestamp: open times in ascending order, µs; at least one.
        open, high, low, close: prices.
        length: of a candle, µs.
        volume: traded in each; looked at where a participation is set, else it may be empty.
    """

    timestamp: Integers
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    length: int
    volume: Floats = np.empty(0)


class Signals(NamedTuple):
    """Changes of a signal's type.

    Attributes:
        candle: ascending numbers of the candles at whose close they happen.
        kind: the new types, -2 … 2.
    """

    candle: Integers
    kind: Integers


def walk(state: Records, policy: Any, candles: Candles, signals: Signals, *, curve: bool) -> Record:
    """Run the kernel under the shipped policy, from the first candle to the last one's close.

    Args:
        state: one fresh record of `STATE`, which is used up.
        policy: its parameters and memory, one record of `POLICY`.
        candles: the tape.
        signals: what the policy trades.
        curve: whether to keep the points of the equity curve.

    Raises:
        DeltatapeError: the kernel's own checks failed.
    """
    first, last = int(candles.timestamp[0]), int(candles.timestamp[-1])
    # One for each close and at most one for each fill, which grow together.
    points = len(candles.timestamp) + 2 * len(signals.candle) + ROOM if curve else 0
    tally = begin(first, last, float(state["initial"][0]), 2 * len(signals.candle), points)
    if policy["wakes"]:
        state["wake_at"] = 0
    while not _walk(state[0], policy, candles, signals, tally):
        tally = grown(tally)
    return record_of(state, tally)


_INTEGERS = types.int64[::1]
_FLOATS = types.float64[::1]
_CANDLES = tuple_type(Candles, _INTEGERS, _FLOATS, _FLOATS, _FLOATS, _FLOATS, types.int64, _FLOATS)
_SIGNALS = tuple_type(Signals, _INTEGERS, _INTEGERS)


@compiled()
def quiet_range(state: State) -> tuple[float, float]:
    """Prices strictly between these two do nothing to orders or the position of the only instrument."""
    floor, ceiling = bounds(state)
    ruined = ruin(state, 0)
    if ruined > 0.0:
        if state.instruments[0].quantity > 0.0:
            floor = max(floor, ruined)
        else:
            ceiling = min(ceiling, ruined)
    return floor, ceiling


@compiled()
def _until(times: Integers, index: int, end: int, limit: int) -> int:
    """The first place of `index` … `end` whose time is not below the limit; times ascend."""
    if index == end or times[end - 1] < limit:
        return end
    if times[index] >= limit:
        return index
    while end - index > 1:
        middle = (index + end) // 2
        if times[middle] < limit:
            index = middle
        else:
            end = middle
    return end


@compiled()
def _untouched(candles: Candles, index: int, end: int, floor: float, ceiling: float) -> int:
    """The first candle from `index` on whose range does not lie inside the quiet one."""
    low, high = candles.low, candles.high
    while index < end and low[index] > floor and high[index] < ceiling:
        index += 1
    return index


@compiled(inline=True)
def _points(
    candles: Candles, index: int, end: int, quantity: float, basis: float, cash: float, tally: Tally
) -> None:
    """The points of the curve at the closes of these candles."""
    # Unsigned, so that no place is looked at for counting from the end: then this is a loop of vectors.
    counts = tally.counts
    point, first = uint64(counts.points), uint64(index)
    for place in range(uint64(end - index)):
        tally.timestamp[point + place] = candles.timestamp[first + place] + candles.length
        tally.cash[point + place] = cash
        tally.value[point + place] = quantity * (candles.close[first + place] - basis)
    counts.points += end - index


@compiled(inline=True)
def _are_in_order(candles: Candles, index: int, end: int, before: int) -> bool:
    """Whether no candle opens before the one before it has closed."""
    times = candles.timestamp
    ordered = times[index] >= before
    first, count = uint64(index), uint64(end - index)
    for place in range(uint64(1), count):
        ordered &= times[first + place] - times[first + place - uint64(1)] >= candles.length
    return bool(ordered)


@compiled(inline=True)
def _prefetch_candle(candles: Candles, index: int) -> None:
    """Ask for what the next signal fills at, and a position's first range: nothing has read near them."""
    prefetch(candles.open, index)
    prefetch(candles.high, index)
    prefetch(candles.low, index)
    prefetch(candles.timestamp, index)


@compiled(inline=True)
def _marked(state: State, candles: Candles, index: int, end: int, tally: Tally) -> bool:
    """Mark the position at each of these closes: its range, and the equity's peak and deepest fall.

    False where a price is no number.
    """
    one = state.instruments[0]
    high, low = one.high, one.low
    top, bottom = -np.inf, np.inf
    sound = True
    for place in range(uint64(index), uint64(end)):
        price = candles.close[place]
        sound &= not np.isnan(price)
        top, bottom = max(top, price), min(bottom, price)
        high, low = max(high, candles.high[place]), min(low, candles.low[place])
    one.high, one.low = high, low
    if climbs(state, bottom, top, tally):
        climb(state, candles.close, index, end, tally)
    return sound


@compiled()
def _mark(
    state: State, candles: Candles, index: int, end: int, floor: float, ceiling: float, tally: Tally
) -> int:
    """Mark candles from `index` on whose range lies inside the quiet one; gives the first that does not.

    What the two identities differ by is the same at every price, so that the check before the first
    candle is one at each of their events.
    """
    one, counts = state.instruments[0], tally.counts
    begun, held, cash = index, one.quantity != 0.0, state.cash
    check(state)
    end = _until(candles.timestamp, index, end, state.wake_at - candles.length)
    if floor > -np.inf or ceiling < np.inf:
        end = _untouched(candles, index, end, floor, ceiling)
    while index < end:
        place = _until(candles.timestamp, index, end, counts.day_end - candles.length + 1)
        if place == index:
            turn_day(candles.timestamp[index] + candles.length, tally)
            continue
        if not _are_in_order(candles, index, place, state.timestamp):
            state.error = TIME_WENT_BACK
            break
        if held and not _marked(state, candles, index, place, tally):
            state.error = EQUITY_DISAGREES
        if tally.timestamp.size > 0:
            _points(candles, index, place, one.quantity, one.basis, cash, tally)
        index = place
        state.timestamp = candles.timestamp[index - 1] + candles.length
        one.mark = candles.close[index - 1]
        write_day(cash + one.quantity * (one.mark - one.basis), state.timestamp, tally)
    counts.closes += index - begun
    counts.events += 2 * (index - begun)
    if held:
        counts.held += index - begun
    return index


@compiled(inline=True)
def _opens_quietly(candles: Candles, signals: Signals, counts: Any, floor: float, ceiling: float) -> bool:
    """Whether what comes next is no signal but an open, and of a price between these."""
    index, following = counts.index, counts.following
    if index == candles.open.size or (following < signals.candle.size and signals.candle[following] < index):
        return False
    return bool(floor < candles.open[index] < ceiling)


@compiled(inline=True)
def _signal(
    state: State,
    policy: Any,
    candles: Candles,
    signals: Signals,
    turns: bool,
    floor: float,
    ceiling: float,
    tally: Tally,
) -> None:
    """The next signal, and where orders only turn the position the open after it."""
    counts, kind = tally.counts, signals.kind[tally.counts.following]
    counts.following += 1
    if counts.following < signals.candle.size:
        _prefetch_candle(candles, signals.candle[counts.following] + 1)
    if turns and _opens_quietly(candles, signals, counts, floor, ceiling):
        counts.events += 1
        if turn(state, policy, kind, candles.timestamp[counts.index], candles.open[counts.index]):
            counts.opened = 1
            counts.events += 1
            write_fills(state, tally)
        return
    time, price = state.timestamp, candles.close[counts.index - 1]
    event = Event(SIGNAL, 0, time, time, price, price, price, 0.0, kind, CANDLE)
    advance(state, event, follow_signals, policy, tally)


@compiled(types.boolean(STATE_TYPE, POLICY_TYPE, _CANDLES, _SIGNALS, TALLY_TYPE))
def _walk(state: State, policy: Any, candles: Candles, signals: Signals, tally: Tally) -> bool:
    """Walk on from where the counts say; False where the fills need more room."""
    counts = tally.counts
    count = candles.timestamp.size
    turns = only_turns(state, policy)
    floor, ceiling = quiet_range(state)
    while counts.index < count:
        following = counts.following
        stop = signals.candle[following] if following < signals.candle.size else count
        index = counts.index
        if floor < ceiling:
            until = min(stop + 1, count)
            index = _mark(state, candles, index, until, floor, ceiling, tally)
            if index > counts.index:
                counts.events -= counts.opened
                counts.opened = 0
                counts.index = index
        if state.error != NO_ERROR:
            return True
        if not has_room(tally):
            return False
        if index <= stop and index < count:
            time = candles.timestamp[index]
            if not counts.opened:
                price = candles.open[index]
                # Looked up only where it counts: what is far away in memory takes its time.
                size = candles.volume[index] if state.participation > 0.0 else 0.0
                event = Event(OPEN, 0, time, time, price, price, price, size, 0, CANDLE)
                advance(state, event, follow_signals, policy, tally)
                counts.opened = 1
                floor, ceiling = quiet_range(state)
                continue
            end = time + candles.length
            high, low, price = candles.high[index], candles.low[index], candles.close[index]
            event = Event(CLOSE, 0, end, time, price, high, low, 0.0, 0, CANDLE)
            advance(state, event, follow_signals, policy, tally)
            write_close(state, end, tally)
            counts.opened = 0
            counts.index = index + 1
        if counts.index == stop + 1:
            _signal(state, policy, candles, signals, turns, floor, ceiling, tally)
        floor, ceiling = quiet_range(state)
    price = candles.close[count - 1]
    end = state.timestamp
    step(state, Event(END, 0, end, end, price, price, price, 0.0, 0, CANDLE))
    counts.events += 1
    if state.fill_count > 0:
        write_fills(state, tally)
        tally.daily[counts.day] = equity(state)
    return True
