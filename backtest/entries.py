"""What opens a position or adds to it: marked when an event fills it, filled when the instant is settled."""

import numpy as np

from backtest.compiled import compiled
from backtest.ledger import (
    buying_power,
    check,
    decrease,
    equity,
    has_book,
    increase,
    on_tick,
    walked,
    worsened,
)
from backtest.orders import (
    NOTHING,
    PASSED,
    QUEUED,
    TAKEN,
    TRIGGERED,
    after_fill,
    allowed,
    bounded,
    place_of,
    reaction,
    remove,
    rounded,
    rounded_down,
    source_of,
    taken_at,
)
from backtest.queue import served
from backtest.state import FROM_BOOK, FROM_QUEUE, LIMIT, MAKER, OF_EQUITY, QUANTITY, TAKER, Event, State

_ROOM = 1e-9
"""A cost that the buying power misses by no more than rounding errors is paid."""


@compiled()
def mark_due(state: State, event: Event, market: float, timestamp: int) -> None:
    """Mark the orders that open or add and that this event fills."""
    for index in range(state.order_count):
        order = state.orders[index]
        if order.instrument != event.instrument or order.reduces or order.due:
            continue
        how = reaction(order, event, market)
        if how == NOTHING:
            continue
        meets = taken_at(state, event, market, order.side)
        order.market = meets
        if how == TRIGGERED:
            order.market = max(meets, order.price) if order.side > 0 else min(meets, order.price)
            order.triggered = 1
        order.source = source_of(event, how == TAKEN and order.kind != LIMIT)
        order.liquidity = MAKER if how == PASSED else TAKER
        if how == QUEUED:
            order.source, order.liquidity = FROM_QUEUE, MAKER
        order.filled_at = timestamp
        order.due = 1
        state.due_count += 1


@compiled()
def _is_full(state: State) -> bool:
    """Whether there are as many positions as there may be."""
    if state.most_open == 0:
        return False
    count = 0
    for number in range(state.instrument_count):
        count += state.instruments[number].quantity != 0.0
    return bool(count >= state.most_open)


@compiled()
def _is_possible(state: State, index: int, wanted: float, opening: float, price: float) -> bool:
    """Whether the market, its rules and the buying power allow what an order opens."""
    order = state.orders[index]
    if wanted <= 0.0:
        return False
    if opening <= 0.0:
        return True
    asked = opening
    if order.source == FROM_QUEUE:
        # It was accepted as a whole; its parts are as small as trades make them.
        asked = np.inf if order.begun else wanted
    return can_open(state, state.instruments[order.instrument], order.side, asked, opening, price)


@compiled()
def can_open(state: State, one: State, side: int, asked: float, opening: float, price: float) -> bool:
    """Whether so much may be opened on this side at this price, by an order that asked for so much."""
    if opening <= 0.0 or (side < 0 and not state.shorts):
        return False
    if asked * price < one.least or (one.quantity == 0.0 and _is_full(state)):
        return False
    return bool(opening * price * (1.0 + one.taker) <= buying_power(state) * (1.0 + _ROOM))


@compiled()
def _wanted(state: State, index: int, price: float) -> float:
    """How much an order that opens or adds is for, in whole lots."""
    order = state.orders[index]
    if order.begun:
        return float(order.left)
    return sized(state, state.instruments[order.instrument], order.sizing, order.size, price)


@compiled()
def sized(state: State, one: State, sizing: int, size: float, price: float) -> float:
    """How much a size is at this price, in whole lots."""
    quantity = size
    if sizing == OF_EQUITY:
        quantity = min(size * (state.leverage * equity(state)), buying_power(state)) / (
            price * (1.0 + one.taker)
        )
    elif sizing != QUANTITY:
        quantity = size / (price * (1.0 + one.taker))
    return float(rounded_down(quantity, one.lot_digits, one.lot_scale))


@compiled()
def _trade(state: State, index: int, source: int, closing: float, opening: float, price: float) -> None:
    order = state.orders[index]
    number, kind, reason, side = order.number, order.kind, order.reason, order.side
    instrument, liquidity, timestamp = order.instrument, order.liquidity, order.filled_at
    if closing > 0.0:
        decrease(state, instrument, number, kind, reason, source, liquidity, timestamp, closing, price)
    if opening > 0.0:
        one = state.instruments[instrument]
        if timestamp < state.timestamp and one.quantity == 0.0:
            one.entered_inside = 1
        increase(state, instrument, number, kind, reason, source, liquidity, timestamp, side, opening, price)


@compiled()
def _enter(state: State, index: int) -> None:
    """Fill an order that opens or adds, or turns a position; what cannot be is rejected."""
    order = state.orders[index]
    number, side, source = order.number, order.side, order.source
    one = state.instruments[order.instrument]
    price = order.price
    if order.liquidity == TAKER:
        price = bounded(order, worsened(state, one, order.market, side))
    wanted = _wanted(state, index, price)
    quantity = allowed(state, one, wanted)
    if source == FROM_QUEUE:
        quantity = min(quantity, served(one, order))
    walks = order.liquidity == TAKER and order.kind != LIMIT and has_book(state, one, order.filled_at)
    if walks and quantity > 0.0:
        price, found = walked(one, side, quantity, False)
        price = on_tick(one, price, side)
        quantity = rounded_down(found, one.lot_digits, one.lot_scale)
    if order.sizing == OF_EQUITY and (walks or order.begun) and quantity > 0.0:
        most = max(buying_power(state), 0.0) / (price * (1.0 + one.taker))
        wanted = min(wanted, rounded_down(most, one.lot_digits, one.lot_scale))
        quantity = min(quantity, wanted)
    against = abs(one.quantity) if one.quantity * side < 0.0 else 0.0
    closing = min(quantity, against)
    opening = (
        quantity - closing if against == 0.0 else rounded(quantity - closing, one.lot_digits, one.lot_scale)
    )
    refused = order.sizing != QUANTITY and against > 0.0
    if refused or not _is_possible(state, index, wanted, opening, price):
        state.rejected += 1
        remove(state, index)
        return
    order.due = 0
    state.due_count -= 1
    order.fresh = 0
    if quantity > 0.0:
        if walks:
            price, source = on_tick(one, walked(one, side, quantity, True)[0], side), FROM_BOOK
        one.available -= quantity
        if source == FROM_QUEUE:
            one.taken += quantity
        _trade(state, index, source, closing, opening, price)
    place = place_of(state, number)
    if place < 0:
        return
    at_once = order.at_once
    if quantity > 0.0:
        at_once = state.orders[place].at_once
        after_fill(state, number, wanted, quantity)
        place = place_of(state, number)
    if at_once and place >= 0:
        remove(state, place)


@compiled()
def settle(state: State) -> None:
    """Fill what opens or adds: by confidence, then by instrument, then as given."""
    while state.due_count > 0:
        best = -1
        for index in range(state.order_count):
            order = state.orders[index]
            if not order.due:
                continue
            if best < 0:
                best = index
                continue
            other = state.orders[best]
            tied = order.confidence == other.confidence and order.instrument < other.instrument
            if tied or order.confidence > other.confidence:
                best = index
        _enter(state, best)
    check(state)
