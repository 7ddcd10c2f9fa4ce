"""Where a resting limit order stands in the queue of its price, reckoned from every change of the book.

Orders at one price are filled first come, first served. A book says how much stands at each price, not whose
it is, so that the place of one's own order is an estimate. It joins the queue behind all that is shown there
when it arrives. Trades at its price whose taker is on the other side consume what stands before it, then fill
it. Where a level shrinks by more than was traded there the rest was cancelled, and nobody says where:

- pessimistic: behind the order as far as possible, which never stands behind more than the level shows;
- pro rata: everywhere alike: of what stands before it the same share is cancelled as of the level.

hftbacktest calls them RiskAdverseQueueModel and ProbQueueModel with the identity f(x) = x: see
https://hftbacktest.readthedocs.io/en/latest/order_fill.html and, for the latter's formula,
https://quant.stackexchange.com/questions/3782 (How do we estimate position of our order in order book?).
"""

from typing import Any

from backtest.compiled import compiled
from backtest.orders import rounded_down
from backtest.state import DEPTH, EDGE, LIMIT, PRO_RATA, TAKE_PROFIT, TRADE, Event, State


@compiled()
def _size_at(tape: Any, index: int, number: int, side: int, price: float) -> float:
    """What a level of the book holds before the event at this place of the tape; see `Tape.levels`."""
    low, high = 0, tape.levels.size
    while low < high:
        middle = (low + high) // 2
        place = tape.levels[middle]
        if tape.instrument[place] != number:
            is_before = tape.instrument[place] < number
        elif tape.signal[place] != side:
            is_before = tape.signal[place] < side
        elif tape.price[place] != price:
            is_before = tape.price[place] < price
        else:
            is_before = place < index
        if is_before:
            low = middle + 1
        else:
            high = middle
    if low == 0:
        return 0.0
    place = tape.levels[low - 1]
    is_it = tape.instrument[place] == number and tape.signal[place] == side and tape.price[place] == price
    return float(tape.size[place]) if is_it else 0.0


@compiled()
def _is_in_sight(one: State, side: int, price: float) -> bool:
    """Whether the book shows its side as deep as this price."""
    return bool(price >= one.deepest_bid if side > 0 else price <= one.deepest_ask)


@compiled()
def _may_rest(one: State, side: int, price: float) -> bool:
    """Whether an order at this price takes nothing of the other side, and its level is in sight."""
    if not _is_in_sight(one, side, price):
        return False
    return bool(price < one.ask if side > 0 else price > one.bid)


@compiled()
def line_up(state: State, tape: Any, index: int) -> None:
    """Before the event at this place: limit orders that have arrived join the queues of their prices.

    While the book is not whole, in the midst of an instant's changes, and where it does not show their level,
    they wait, and fill on trade-through alone.
    """
    number, time = tape.instrument[index], tape.timestamp[index]
    one = state.instruments[number]
    if not one.is_whole or (tape.kind[index] == DEPTH and time == one.changed_at):
        return
    for place in range(state.order_count):
        order = state.orders[place]
        if order.ahead >= 0.0 or order.kind not in (LIMIT, TAKE_PROFIT) or order.instrument != number:
            continue
        if order.since > time or not _may_rest(one, order.side, order.price):
            continue
        join(order, _size_at(tape, index, number, order.side, order.price))


@compiled()
def join(order: State, size: float) -> None:
    """An order stands behind so much now: it rests, and does not take any more."""
    order.ahead = size
    order.shown = size
    order.traded = 0.0
    order.fresh = 0


@compiled()
def serve(state: State, event: Event) -> None:
    """A trade consumes what stands before orders at its price; what is left of it is there for them."""
    if event.kind != TRADE:
        return
    one = state.instruments[event.instrument]
    one.taken = 0.0
    for index in range(state.order_count):
        order = state.orders[index]
        if order.instrument != event.instrument or order.due:
            continue
        order.given = 0.0
        in_line = one.is_whole and order.ahead >= 0.0 and order.price == event.price
        if not in_line or event.signal != -order.side:
            continue
        order.traded += event.size
        order.given = max(event.size - order.ahead, 0.0)
        order.ahead = max(order.ahead - event.size, 0.0)


@compiled()
def served(one: State, order: State) -> float:
    """How much of the last trade is there for an order in line, after what one's others had of it."""
    left = max(order.given - one.taken, 0.0)
    return float(rounded_down(left, one.lot_digits, one.lot_scale))


@compiled()
def show(state: State, event: Event) -> None:
    """A change of the book: what it shows, and what that says of orders in line."""
    one = state.instruments[event.instrument]
    one.changed_at = event.timestamp
    if event.signal == 0:
        one.is_whole = event.size > 0.0
        return
    if event.low > 0.0 and event.high > 0.0:
        one.bid, one.ask = event.low, event.high
    if event.signal == EDGE:
        one.deepest_bid = event.price
    elif event.signal == -EDGE:
        one.deepest_ask = event.price
    elif _is_in_sight(one, event.signal, event.price):
        # A level that goes out of sight is not empty.
        for index in range(state.order_count):
            order = state.orders[index]
            mine = order.instrument == event.instrument and order.side == event.signal
            if mine and order.ahead >= 0.0 and order.price == event.price:
                _shrink(state.queue == PRO_RATA and one.is_whole, order, event.size)


@compiled()
def _shrink(pro_rata: bool, order: State, size: float) -> None:
    """The level holds `size` now: what is gone but was not traded was cancelled."""
    expected = max(order.shown - order.traded, 0.0)
    if pro_rata and size < expected:
        order.ahead *= size / expected
    order.ahead = min(order.ahead, size)
    order.shown = size
    order.traded = 0.0
