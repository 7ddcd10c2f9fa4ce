"""The kernel: one event in, what fills, and both equity identities checked after it.

The rules of filling are the page docs/fills.md; each of its rows is a test of this code and of the slow
reference engine. At one event what reduces a position comes first: stops, the nearest before the others
(the liquidation among them), then limits and targets, the nearest first, then market orders as they were
given (`backtest.exits`). What opens or adds comes after: as their confidence ranks them, then by
instrument, then as given (`backtest.entries`).
With several instruments `settle` does that once all events of an instant and kind have happened; with
one, `step` does.
"""

from backtest.compiled import compiled
from backtest.entries import mark_due, settle
from backtest.exits import exits
from backtest.ledger import check, decrease, pay_funding, worsened
from backtest.orders import is_seen, remove
from backtest.queue import serve, show
from backtest.state import (
    AT_CLOSE,
    BOOK,
    BY_DELISTING,
    BY_END,
    CLOSE,
    DELISTED,
    DEPTH,
    END,
    FUNDING,
    LOWER_TIMEFRAME,
    MARKET,
    NO_QUEUE,
    NOT_SETTLED,
    SIGNAL,
    TAKER,
    TIME_WENT_BACK,
    TRAILING,
    Event,
    State,
)


@compiled()
def _seen(state: State, event: Event) -> None:
    """What this event was held against is no longer fresh; what wanted to fill at once goes."""
    index = 0
    while index < state.order_count:
        order = state.orders[index]
        if order.instrument != event.instrument or order.due or not is_seen(order, event):
            index += 1
            continue
        order.fresh = 0
        # What reduces nothing any more is gone with its position, or never had one.
        idle = order.reduces and order.kind == MARKET and state.instruments[event.instrument].quantity == 0.0
        if order.at_once or idle:
            remove(state, index)
        else:
            index += 1


@compiled()
def _expire(state: State, number: int, timestamp: int) -> None:
    index = 0
    while index < state.order_count:
        order = state.orders[index]
        if order.instrument == number and order.until <= timestamp:
            remove(state, index)
        else:
            index += 1


@compiled()
def _trail(state: State, event: Event) -> None:
    """Move trailing stops for what comes after this event."""
    main_close = event.kind == CLOSE and event.source != LOWER_TIMEFRAME
    for index in range(state.order_count):
        order = state.orders[index]
        if order.kind != TRAILING or order.instrument != event.instrument:
            continue
        if order.on_close and not main_close:
            continue
        best = event.price
        if not order.on_close:
            best = event.low if order.side > 0 else event.high
        follows = best * (1.0 + order.side * order.trail)
        order.price = min(order.price, follows) if order.side > 0 else max(order.price, follows)


@compiled()
def _market(state: State, event: Event) -> None:
    """An open, close, trade or book: hold it against every order of its instrument."""
    one = state.instruments[event.instrument]
    inside = event.kind == CLOSE
    marks_only = inside and event.source == AT_CLOSE
    timestamp = event.timestamp - 1 if inside else event.timestamp
    market = one.mark if inside else event.price
    if event.kind == BOOK:
        one.bid, one.ask, one.book_time = event.low, event.high, event.timestamp
    elif not inside or event.size > 0.0:
        one.available = state.participation * event.size
    held, position = one.quantity != 0.0, one.position
    if state.order_count > 0 and not marks_only:
        state.matching += 1
        _expire(state, event.instrument, timestamp)
        if state.queue != NO_QUEUE:
            serve(state, event)
        exits(state, event, market, timestamp)
        mark_due(state, event, market, timestamp)
        _seen(state, event)
    elif held and not marks_only:
        exits(state, event, market, timestamp)
    if inside:
        one.range_low, one.range_high = event.low, event.high
    one.mark = event.price
    if state.due_count > 0 and state.instrument_count == 1:
        settle(state)
    if one.quantity != 0.0:
        ranged = held and one.position == position and event.kind != BOOK
        one.high = max(one.high, event.high if ranged else event.price)
        one.low = min(one.low, event.low if ranged else event.price)
    if state.order_count > 0 and event.kind != BOOK:
        _trail(state, event)


@compiled()
def _leave(state: State, number: int, reason: int, timestamp: int) -> None:
    """Close what is held of an instrument at the last price seen, and drop its orders."""
    one = state.instruments[number]
    if one.quantity != 0.0:
        side = -1 if one.quantity > 0.0 else 1
        price = worsened(state, one, one.mark, side)
        decrease(state, number, 0, MARKET, reason, AT_CLOSE, TAKER, timestamp, abs(one.quantity), price)
    index = 0
    while index < state.order_count:
        if state.orders[index].instrument == number:
            remove(state, index)
        else:
            index += 1


@compiled(inline=True)
def step(state: State, event: Event) -> None:
    """Let one event happen: orders that it fills stand in `state.fills[:state.fill_count]` after it.

    Sets `state.error`, one of `state.ERRORS`, where something is wrong; the state is then worthless.
    """
    state.fill_count = 0
    if event.timestamp < state.timestamp:
        state.error = TIME_WENT_BACK
        return
    if state.due_count > 0 and event.timestamp > state.timestamp:
        state.error = NOT_SETTLED
        return
    state.timestamp = event.timestamp
    if event.kind == SIGNAL:
        return
    if event.kind == DEPTH:
        _expire(state, event.instrument, event.timestamp)
        show(state, event)
        return
    if event.kind == FUNDING:
        one = state.instruments[event.instrument]
        pay_funding(state, event.instrument, event.price if event.price > 0.0 else one.mark, event.size)
    elif event.kind == DELISTED:
        _leave(state, event.instrument, BY_DELISTING, event.timestamp)
        state.instruments[event.instrument].is_delisted = 1
    elif event.kind == END:
        for number in range(state.instrument_count):
            _leave(state, number, BY_END, event.timestamp)
    else:
        _market(state, event)
    check(state)
