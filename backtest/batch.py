"""The kernel over candles of one instrument and a signal's changes: what most backtests are.

The events are merged while walking and never stored: at one instant the close comes first, then the
signal, then the next open. A candle that is missing simply gives no event. Candles that can do nothing to
any order are only marked, in one tight loop; both identities are checked at each of them as well.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import types

from backtest.compiled import compiled
from backtest.kernel import step
from backtest.ledger import TOLERANCE, equity, ruin
from backtest.orders import bounds
from backtest.policies import ON_EVENT, POLICY_TYPE
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
    TALLY_TYPE,
    Floats,
    Integers,
    Record,
    Records,
    Tally,
    advance,
    begin,
    grown,
    has_room,
    record_of,
    write_close,
    write_day,
    write_fills,
)

__all__ = ["Candles", "Floats", "Integers", "Record", "Records", "Signals", "walk"]


class Candles(NamedTuple):
    """The columns that the kernel walks.

    Attributes:
        timestamp: open times in ascending order, µs; at least one.
        open, high, low, close: prices.
        length: of a candle, µs.
        volume: traded in each; needed where a participation is set, else it may be empty.
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


def walk(
    state: Records, policy: Any, on_event: Any, candles: Candles, signals: Signals, *, curve: bool
) -> Record:
    """Run the kernel from the first candle to the last one's close.

    Args:
        state: one fresh record of `STATE`, which is used up.
        policy: the callback's parameters and memory, one record of `POLICY`.
        on_event: a callback compiled to `ON_EVENT`.
        candles: the tape.
        signals: what the policy trades.
        curve: whether to keep the points of the equity curve.

    Raises:
        DeltatapeError: the kernel's own checks failed.
    """
    first, last = int(candles.timestamp[0]), int(candles.timestamp[-1])
    points = 3 * len(candles.timestamp) + 1 if curve else 0
    tally = begin(first, last, float(state["initial"][0]), 2 * len(signals.candle), points)
    if policy["wakes"]:
        state["wake_at"] = 0
    while not _walk(state[0], on_event, policy, candles, signals, tally):
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
def _idle(state: State, candles: Candles, index: int, end: int, tally: Tally) -> int:
    """As `_mark`, where nothing is held or ordered: the equity is the cash, whatever the prices."""
    counts, cash, before = tally.counts, state.cash, state.timestamp
    settled = state.initial + state.realised - state.fees + state.funding
    if not abs(cash - settled) <= TOLERANCE * (state.initial + abs(cash) + state.fees):
        state.error = EQUITY_DISAGREES
    point, day_end = counts.points, counts.day_end
    curve = tally.timestamp.size > 0
    until = state.wake_at - candles.length
    begun = index
    while index < end:
        opens = candles.timestamp[index]
        if opens >= until:
            break
        if opens < before:
            state.error = TIME_WENT_BACK
            break
        before = opens + candles.length
        if before > day_end:
            if index > begun:
                tally.daily[counts.day] = cash
            write_day(cash, before, tally)
            day_end = counts.day_end
        if curve:
            tally.timestamp[point] = before
            tally.cash[point] = cash
            tally.value[point] = 0.0
            point += 1
        index += 1
    if index > begun:
        write_day(cash, before, tally)
        state.timestamp = before
        state.instruments[0].mark = candles.close[index - 1]
        counts.points = point
        counts.closes += index - begun
        counts.events += 2 * (index - begun)
    return index


@compiled()
def _mark(
    state: State, candles: Candles, index: int, end: int, floor: float, ceiling: float, tally: Tally
) -> int:
    """Mark candles from `index` on whose range lies inside the quiet one; gives the first that does not."""
    one = state.instruments[0]
    quantity, basis, entry, cash = one.quantity, one.basis, one.entry, state.cash
    settled = state.initial + state.realised - state.fees + state.funding
    amounts = state.initial + abs(cash) + abs(state.realised) + state.fees + abs(state.funding)
    high, low, before = one.high, one.low, state.timestamp
    counts = tally.counts
    point, peak, drawdown = counts.points, counts.peak, counts.drawdown
    day_end = counts.day_end
    curve = tally.timestamp.size > 0
    begun = index
    now = tally.daily[counts.day]
    wrong = False
    until = state.wake_at - candles.length
    while index < end:
        if not (candles.low[index] > floor and candles.high[index] < ceiling):
            break
        opens = candles.timestamp[index]
        if opens >= until:
            break
        if opens < before:
            state.error = TIME_WENT_BACK
            break
        before = opens + candles.length
        at_open, price = candles.open[index], candles.close[index]
        value = quantity * (price - basis)
        last, now = now, cash + value
        # Written so that a NaN fails them.
        one_way = cash + quantity * (at_open - basis) - (settled + quantity * (at_open - entry))
        other_way = now - (settled + quantity * (price - entry))
        wrong |= not (max(abs(one_way), abs(other_way)) <= TOLERANCE * (amounts + abs(value)))
        high, low = max(high, candles.high[index]), min(low, candles.low[index])
        if before > day_end:
            tally.daily[counts.day] = last
            counts.peak, counts.drawdown = peak, drawdown
            write_day(now, before, tally)
            day_end = counts.day_end
        if now > peak:
            peak = now
        elif now < peak * (1.0 - drawdown):
            drawdown = 1.0 - now / peak
        if curve:
            tally.timestamp[point] = before
            tally.cash[point] = cash
            tally.value[point] = value
            point += 1
        index += 1
    if wrong:
        state.error = EQUITY_DISAGREES
    if index == begun:
        return index
    counts.peak, counts.drawdown, counts.points = peak, drawdown, point
    tally.daily[counts.day] = now
    state.timestamp = before
    one.mark = candles.close[index - 1]
    counts.closes += index - begun
    counts.events += 2 * (index - begun)
    if quantity != 0.0:
        one.high, one.low = high, low
        counts.held += index - begun
    return index


@compiled(
    types.boolean(STATE_TYPE, types.FunctionType(ON_EVENT), POLICY_TYPE, _CANDLES, _SIGNALS, TALLY_TYPE)
)
def _walk(state: State, on_event: Any, policy: Any, candles: Candles, signals: Signals, tally: Tally) -> bool:
    """Walk on from where the counts say; False where the fills need more room."""
    counts = tally.counts
    count = candles.timestamp.size
    floor, ceiling = quiet_range(state)
    while counts.index < count:
        following = counts.following
        stop = signals.candle[following] if following < signals.candle.size else count
        index = counts.index
        if floor < ceiling:
            until = min(stop + 1, count)
            if state.instruments[0].quantity == 0.0 and state.order_count == 0:
                index = _idle(state, candles, index, until, tally)
            else:
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
                size = candles.volume[index] if candles.volume.size > 0 else 0.0
                event = Event(OPEN, 0, time, time, price, price, price, size, 0, CANDLE)
                advance(state, event, on_event, policy, tally)
                counts.opened = 1
                floor, ceiling = quiet_range(state)
                continue
            end = time + candles.length
            high, low, price = candles.high[index], candles.low[index], candles.close[index]
            advance(
                state, Event(CLOSE, 0, end, time, price, high, low, 0.0, 0, CANDLE), on_event, policy, tally
            )
            write_close(state, end, tally)
            counts.opened = 0
            counts.index = index + 1
        if counts.index == stop + 1:
            time, price = state.timestamp, candles.close[stop]
            kind = signals.kind[following]
            event = Event(SIGNAL, 0, time, time, price, price, price, 0.0, kind, CANDLE)
            advance(state, event, on_event, policy, tally)
            counts.following += 1
        floor, ceiling = quiet_range(state)
    price = candles.close[count - 1]
    end = state.timestamp
    step(state, Event(END, 0, end, end, price, price, price, 0.0, 0, CANDLE))
    counts.events += 1
    if state.fill_count > 0:
        write_fills(state, tally)
        tally.daily[counts.day] = equity(state)
    return True
