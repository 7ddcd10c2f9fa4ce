"""Orders: given, withdrawn, looked up; and what an event would do to one."""

import numpy as np
from numba import int64, uint64

from backtest.compiled import compiled
from backtest.state import (
    BOOK,
    BY_TRAILING,
    CANDLE,
    CLOSE,
    FOREVER,
    FROM_BOOK,
    FROM_TRADE,
    LIMIT,
    MARKET,
    MAX_ORDERS,
    NEXT_OPEN,
    OF_EQUITY,
    SPREAD,
    STOP,
    TAKE_PROFIT,
    TOO_MANY_ORDERS,
    TRADE,
    TRAILING,
    Event,
    State,
)

NOTHING, TRIGGERED, PASSED, TAKEN, QUEUED = range(5)
"""What an event does to an order: nothing, reach a stop, trade through a limit, meet one that takes, come to
the turn of one in line."""

_NEAR = 1e-15
"""A multiple that misses a whole number by no more than rounding errors is that number."""


@compiled()
def rounded_down(value: float, digits: int, scale: int) -> float:
    """`value` as a multiple of digits / scale that is not above it; the double nearest to that decimal."""
    if digits == 0:
        return value
    multiple = value * scale / digits
    nearest = np.floor(multiple + 0.5)
    if abs(multiple - nearest) > _NEAR * abs(multiple):
        nearest = np.floor(multiple)
    return float(nearest * digits / scale)


@compiled()
def rounded_up(value: float, digits: int, scale: int) -> float:
    """As `rounded_down`, but not below `value`."""
    return -rounded_down(-value, digits, scale)


@compiled()
def rounded(value: float, digits: int, scale: int) -> float:
    """The multiple of digits / scale nearest to `value`: of sums and differences of such multiples."""
    if digits == 0:
        return value
    return float(np.floor(value * scale / digits + 0.5) * digits / scale)


@compiled()
def _latency(state: State, fixed: int) -> int:
    """`fixed`, or a draw from the recorded lags by splitmix64.

    Source: G. Steele, D. Lea, C. Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.
    """
    if state.lag_count == 0:
        return fixed
    state.random += uint64(0x9E3779B97F4A7C15)
    mixed = state.random
    mixed = (mixed ^ (mixed >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> uint64(27))) * uint64(0x94D049BB133111EB)
    mixed = mixed ^ (mixed >> uint64(31))
    return int(state.lags[int64(mixed % uint64(state.lag_count))])


@compiled()
def _arrival(state: State) -> int:
    """When what the policy says now reaches the exchange: it heard of the market, or of its fill, late."""
    heard = _latency(state, state.response if state.fill_count > 0 else state.feed)
    return int(state.timestamp + heard + _latency(state, state.order))


@compiled()
def submit(
    state: State,
    instrument: int,
    kind: int,
    side: int,
    reduces: int,
    reason: int,
    price: float,
    sizing: int,
    size: float,
) -> int:
    """Give an order; it can fill from the next event on that comes after its latency.

    Prices are rounded to the tick, away from where they would be better: purchases by limit and sales by
    stop down, the others up.

    Args:
        state: of the run.
        instrument: its number.
        kind: one of ORDER_KINDS.
        side: +1 buys, -1 sells.
        reduces: 1 never does more than close the position and is cancelled with it.
        reason: what a fill of it will say.
        price: of a limit, stop or target.
        sizing: one of SIZINGS, what `size` counts; of an order that reduces base units.
        size: how much; 0 of an order that reduces: all of the position.

    Returns:
        Its place in `state.orders` until the next event, where more can be said of it: until, at_once,
        group, confidence. An instrument that is delisted rejects it.
    """
    index = state.order_count
    if index == MAX_ORDERS:
        state.error = TOO_MANY_ORDERS
        return MAX_ORDERS - 1
    one = state.instruments[instrument]
    if one.is_delisted:
        state.rejected += 1
        return int(index)
    state.order_count = index + 1
    state.order_number += 1
    order = state.orders[index]
    order.number = state.order_number
    order.instrument = instrument
    order.kind = kind
    order.side = side
    order.reduces = reduces
    order.reason = reason
    order.price = price
    if one.tick_digits > 0 and kind in (STOP, TAKE_PROFIT, LIMIT):
        if (side > 0) != (kind == STOP):
            order.price = rounded_down(price, one.tick_digits, one.tick_scale)
        else:
            order.price = rounded_up(price, one.tick_digits, one.tick_scale)
    order.sizing = sizing
    order.size = size
    order.trail = 0.0
    order.on_close = 0
    order.since = _arrival(state)
    order.until = FOREVER
    order.at_once = 0
    order.group = 0
    order.confidence = 0.0
    order.fresh = 1
    order.tried = 0
    order.triggered = 0
    order.begun = 0
    order.left = 0.0
    order.due = 0
    order.ahead = -1.0
    order.given = 0.0
    return int(index)


@compiled()
def submit_trailing(state: State, instrument: int, side: int, trail: float, on_close: int) -> int:
    """Give a stop of the whole position that follows the market at a fraction `trail` of its best price.

    It begins at the last price seen, and follows highs (a purchase's: lows) or closes. A candle's high
    moves it for what comes after that candle.
    """
    price = state.instruments[instrument].mark * (1.0 + side * trail)
    index = submit(state, instrument, TRAILING, side, 1, BY_TRAILING, price, OF_EQUITY, 0.0)
    state.orders[index].trail = trail
    state.orders[index].on_close = on_close
    return int(index)


@compiled()
def remove(state: State, index: int) -> None:
    """Take an order out of the list, which keeps its order."""
    state.due_count -= state.orders[index].due
    for later in range(index + 1, state.order_count):
        state.orders[later - 1] = state.orders[later]
    state.order_count -= 1


@compiled()
def cancel(state: State, instrument: int, kind: int) -> None:
    """Withdraw every order of this kind; where there is latency they can fill until the word arrives."""
    index = 0
    until = -1
    while index < state.order_count:
        order = state.orders[index]
        if order.instrument != instrument or order.kind != kind:
            index += 1
            continue
        if until < 0:
            until = _arrival(state)
        if until > state.timestamp:
            order.until = min(order.until, until)
            index += 1
        else:
            remove(state, index)


@compiled()
def cancel_group(state: State, group: int) -> None:
    """Withdraw at once what stands in this group."""
    index = 0
    while index < state.order_count:
        if state.orders[index].group == group:
            remove(state, index)
        else:
            index += 1


@compiled()
def cancel_reducing(state: State, instrument: int) -> None:
    """Withdraw at once what was to reduce a position that is gone."""
    index = 0
    while index < state.order_count:
        order = state.orders[index]
        if order.reduces and order.instrument == instrument:
            remove(state, index)
        else:
            index += 1


@compiled()
def place_of(state: State, number: int) -> int:
    """Where the order of this number stands; -1 where it is gone."""
    for index in range(state.order_count):
        if state.orders[index].number == number:
            return int(index)
    return -1


@compiled()
def level(state: State, instrument: int, kind: int) -> float:
    """The price of the first order of this kind that reduces this position, 0 without one."""
    for index in range(state.order_count):
        order = state.orders[index]
        if order.instrument == instrument and order.reduces and order.kind == kind:
            return float(order.price)
    return 0.0


@compiled()
def market_for(event: Event, market: float, side: int) -> float:
    """Where this side meets the market at an event: the ask or bid of a book, else its price."""
    if event.kind == BOOK:
        return event.high if side > 0 else event.low
    return market


@compiled()
def is_seen(order: State, event: Event) -> bool:
    """Whether an order is at the exchange for all of this event, and an event of this kind can fill it."""
    if order.since > event.start:
        return False
    return not (event.kind == CLOSE and (order.kind == MARKET or order.triggered))


@compiled()
def reaction(order: State, event: Event, market: float) -> int:
    """What this event does to this order; `market` is the price that it begins with."""
    stops = order.kind in (STOP, TRAILING)
    if not is_seen(order, event):
        # A stop that arrived inside the candle may have been there for its worst price.
        late = event.kind == CLOSE and stops and order.reduces and not order.triggered
        if not (late and order.since < event.timestamp):
            return NOTHING
    if order.kind == MARKET or order.triggered:
        return TAKEN
    low, high = event.low, event.high
    if stops:
        reached = high >= order.price if order.side > 0 else low <= order.price
        return TRIGGERED if reached else NOTHING
    meets = market_for(event, market, order.side)
    if order.fresh and order.kind == LIMIT and order.side * (order.price - meets) > 0.0:
        return TAKEN
    if event.kind == BOOK:
        low, high = high, low
    passed = low < order.price if order.side > 0 else high > order.price
    if passed:
        return PASSED
    return QUEUED if order.given > 0.0 and event.kind == TRADE else NOTHING


@compiled()
def bounds(state: State) -> tuple[float, float]:
    """Prices strictly between these two, of the only instrument, do nothing to any order."""
    floor, ceiling = -np.inf, np.inf
    for index in range(state.order_count):
        order = state.orders[index]
        unseen = order.at_once or (order.fresh and order.kind == LIMIT)
        if unseen or order.triggered or order.kind in (MARKET, TRAILING):
            return np.inf, -np.inf
        if (order.side > 0) == (order.kind == STOP):
            ceiling = min(ceiling, order.price)
        else:
            floor = max(floor, order.price)
    return floor, ceiling


@compiled()
def source_of(event: Event, opens_candle: bool) -> int:
    """Where a price of this event comes from; `opens_candle`: it is what a market order gets."""
    if event.kind == TRADE:
        return FROM_TRADE
    if event.kind == BOOK:
        return FROM_BOOK
    return NEXT_OPEN if opens_candle and event.source == CANDLE else event.source


@compiled()
def taken_at(state: State, event: Event, market: float, side: int) -> float:
    """What a taker's price is reckoned from; half the spread is added to a book's middle."""
    if event.kind == BOOK and state.slippage == SPREAD:
        return float(event.price)
    return float(market_for(event, market, side))


@compiled()
def bounded(order: State, price: float) -> float:
    """A limit order that takes pays no more than its limit."""
    if order.kind != LIMIT:
        return price
    return float(min(price, order.price) if order.side > 0 else max(price, order.price))


@compiled()
def allowed(state: State, one: State, quantity: float) -> float:
    """As much of it as the volume still gives."""
    if state.participation == 0.0 or quantity <= one.available:
        return quantity
    return float(rounded_down(one.available, one.lot_digits, one.lot_scale))


@compiled()
def after_fill(state: State, number: int, wanted: float, quantity: float) -> None:
    """What is left of an order: nothing (then its group goes too), or the rest of it."""
    index = place_of(state, number)
    if index < 0:
        return
    order = state.orders[index]
    one = state.instruments[order.instrument]
    left = rounded(wanted - quantity, one.lot_digits, one.lot_scale)
    if left > 0.0:
        order.begun = 1
        order.left = left
        return
    group = order.group
    remove(state, index)
    if group != 0:
        cancel_group(state, group)
