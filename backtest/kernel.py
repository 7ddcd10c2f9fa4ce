"""The kernel: one event in, what fills, and both equity identities checked after it.

The rules of filling are the page docs/fills.md; each of its rows is a test of this code and of the slow
reference engine. At one event what reduces a position comes first: stops, the nearest before the others
(the liquidation among them), then limits and targets, the nearest first, then market orders as they were
given. What opens or adds comes after: as their confidence ranks them, then by instrument, then as given.
With several instruments `settle` does that once all events of an instant and kind have happened; with
one, `step` does.
"""

from backtest.compiled import compiled
from backtest.ledger import (
    buying_power,
    check,
    decrease,
    equity,
    has_book,
    increase,
    on_tick,
    pay_funding,
    ruin,
    walked,
    worsened,
)
from backtest.orders import (
    NOTHING,
    PASSED,
    TAKEN,
    TRIGGERED,
    cancel_group,
    is_seen,
    market_for,
    place_of,
    reaction,
    remove,
    rounded,
    rounded_down,
)
from backtest.state import (
    AT_CLOSE,
    BOOK,
    BY_DELISTING,
    BY_END,
    BY_LIQUIDATION,
    CANDLE,
    CANDLE_PESSIMISTIC,
    CLOSE,
    DELISTED,
    END,
    FROM_BOOK,
    FROM_TRADE,
    FUNDING,
    LIMIT,
    LOWER_TIMEFRAME,
    MAKER,
    MARKET,
    NEXT_OPEN,
    NOT_SETTLED,
    OF_EQUITY,
    QUANTITY,
    SIGNAL,
    SPREAD,
    STOP,
    TAKER,
    TIME_WENT_BACK,
    TRADE,
    TRAILING,
    Event,
    State,
)

_ROOM = 1e-9
"""A cost that the buying power misses by no more than rounding errors is paid."""


@compiled()
def _source(event: Event, opens_candle: bool) -> int:
    """Where a price of this event comes from; `opens_candle`: it is what a market order gets."""
    if event.kind == TRADE:
        return FROM_TRADE
    if event.kind == BOOK:
        return FROM_BOOK
    return NEXT_OPEN if opens_candle and event.source == CANDLE else event.source


@compiled()
def _taken_at(state: State, event: Event, market: float, side: int) -> float:
    """What a taker's price is reckoned from; half the spread is added to a book's middle."""
    if event.kind == BOOK and state.slippage == SPREAD:
        return float(event.price)
    return float(market_for(event, market, side))


@compiled()
def _allowed(state: State, one: State, quantity: float) -> float:
    """As much of it as the volume still gives."""
    if state.participation == 0.0 or quantity <= one.available:
        return quantity
    return float(rounded_down(one.available, one.lot_digits, one.lot_scale))


@compiled()
def _after_fill(state: State, number: int, wanted: float, quantity: float) -> None:
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


@compiled()
def _next_exit(state: State, event: Event, market: float, how: int) -> int:
    """The order that reduces the position and to which this happens first; -1 where there is none."""
    one = state.instruments[event.instrument]
    found = -1
    for index in range(state.order_count):
        order = state.orders[index]
        if order.instrument != event.instrument or not order.reduces or order.tried == state.matching:
            continue
        if order.side * one.quantity >= 0.0 or reaction(order, event, market) != how:
            continue
        if found < 0:
            found = index
        elif how == TRIGGERED:
            # A sale's stops lie below the market: the highest is met first; a purchase's the lowest.
            if order.side * order.price < order.side * state.orders[found].price:
                found = index
        elif how == PASSED and order.side * order.price > order.side * state.orders[found].price:
            # A sale's targets lie above it: the lowest is met first.
            found = index
    return found


@compiled()
def _bounded(order: State, price: float) -> float:
    """A limit order that takes pays no more than its limit."""
    if order.kind != LIMIT:
        return price
    return float(min(price, order.price) if order.side > 0 else max(price, order.price))


@compiled()
def _exit(
    state: State, index: int, event: Event, how: int, market: float, source: int, timestamp: int
) -> bool:
    """Fill an order that reduces the position; False where no volume is left for it."""
    order = state.orders[index]
    number, group = order.number, order.group
    one = state.instruments[order.instrument]
    held = abs(one.quantity)
    wanted = held
    if order.begun:
        wanted = min(order.left, held)
    elif order.size > 0.0:
        wanted = min(rounded_down(order.size, one.lot_digits, one.lot_scale), held)
    quantity = _allowed(state, one, wanted)
    liquidity = MAKER if how == PASSED else TAKER
    price = order.price
    if how != PASSED:
        if order.kind != LIMIT and has_book(state, one, timestamp):
            found = walked(one, order.side, quantity, False)[1]
            quantity = rounded_down(found, one.lot_digits, one.lot_scale)
            price, source = on_tick(one, walked(one, order.side, quantity, True)[0], order.side), FROM_BOOK
        else:
            price = _bounded(order, worsened(state, one, market, order.side))
    if quantity <= 0.0:
        return False
    one.available -= quantity
    decrease(
        state,
        order.instrument,
        number,
        order.kind,
        order.reason,
        source,
        liquidity,
        timestamp,
        quantity,
        price,
    )
    if one.quantity == 0.0:
        if group != 0:
            cancel_group(state, group)
    else:
        _after_fill(state, number, wanted, quantity)
    return True


@compiled()
def _stopped(state: State, event: Event, market: float, stop: int, timestamp: int) -> bool:
    """Fill the nearest stop, or liquidate where that is nearer; False where neither is reached."""
    one = state.instruments[event.instrument]
    side = -1 if one.quantity > 0.0 else 1
    ruined = ruin(state, event.instrument)
    is_ruin = ruined > 0.0 and (event.high >= ruined if side > 0 else event.low <= ruined)
    if stop >= 0 and is_ruin:
        is_ruin = side * ruined < side * state.orders[stop].price
    if stop < 0 and not is_ruin:
        return False
    source = _source(event, False)
    if event.kind == CLOSE and _next_exit(state, event, market, PASSED) >= 0:
        source = CANDLE_PESSIMISTIC
    meets = _taken_at(state, event, market, side)
    if is_ruin:
        price = max(meets, ruined) if side > 0 else min(meets, ruined)
        price = worsened(state, one, price, side)
        decrease(
            state,
            event.instrument,
            0,
            STOP,
            BY_LIQUIDATION,
            source,
            TAKER,
            timestamp,
            abs(one.quantity),
            price,
        )
        return True
    order = state.orders[stop]
    order.tried = state.matching
    if event.kind == CLOSE and order.since > event.start:
        source = CANDLE_PESSIMISTIC
    # Never better than the market at which it is found: min for a sale, max for a purchase.
    price = max(meets, order.price) if side > 0 else min(meets, order.price)
    order.triggered = 1
    _exit(state, stop, event, TRIGGERED, price, source, timestamp)
    return True


@compiled()
def _exits(state: State, event: Event, market: float, timestamp: int) -> None:
    one = state.instruments[event.instrument]
    while one.quantity != 0.0:
        stop = _next_exit(state, event, market, TRIGGERED)
        if not _stopped(state, event, market, stop, timestamp):
            break
    for how in (PASSED, TAKEN):
        while one.quantity != 0.0:
            index = _next_exit(state, event, market, how)
            if index < 0:
                break
            order = state.orders[index]
            order.tried = state.matching
            meets = _taken_at(state, event, market, order.side)
            source = _source(event, how == TAKEN and order.kind != LIMIT)
            _exit(state, index, event, how, meets, source, timestamp)


@compiled()
def _mark_due(state: State, event: Event, market: float, timestamp: int) -> None:
    """Mark the orders that open or add and that this event fills."""
    for index in range(state.order_count):
        order = state.orders[index]
        if order.instrument != event.instrument or order.reduces or order.due:
            continue
        how = reaction(order, event, market)
        if how == NOTHING:
            continue
        meets = _taken_at(state, event, market, order.side)
        order.market = meets
        if how == TRIGGERED:
            order.market = max(meets, order.price) if order.side > 0 else min(meets, order.price)
            order.triggered = 1
        order.source = _source(event, how == TAKEN and order.kind != LIMIT)
        order.liquidity = MAKER if how == PASSED else TAKER
        order.filled_at = timestamp
        order.due = 1
        state.due_count += 1


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
    one = state.instruments[order.instrument]
    if wanted <= 0.0:
        return False
    if opening <= 0.0:
        return True
    if order.side < 0 and not state.shorts:
        return False
    if opening * price < one.least or (one.quantity == 0.0 and _is_full(state)):
        return False
    return bool(opening * price * (1.0 + one.taker) <= buying_power(state) * (1.0 + _ROOM))


@compiled()
def _wanted(state: State, index: int, price: float) -> float:
    """How much an order that opens or adds is for, in whole lots."""
    order = state.orders[index]
    one = state.instruments[order.instrument]
    if order.begun:
        return float(order.left)
    quantity = order.size
    if order.sizing == OF_EQUITY:
        quantity = min(order.size * (state.leverage * equity(state)), buying_power(state)) / (
            price * (1.0 + one.taker)
        )
    elif order.sizing != QUANTITY:
        quantity = order.size / (price * (1.0 + one.taker))
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
        price = _bounded(order, worsened(state, one, order.market, side))
    wanted = _wanted(state, index, price)
    quantity = _allowed(state, one, wanted)
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
        _trade(state, index, source, closing, opening, price)
    place = place_of(state, number)
    if place < 0:
        return
    at_once = order.at_once
    if quantity > 0.0:
        at_once = state.orders[place].at_once
        _after_fill(state, number, wanted, quantity)
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


@compiled()
def recheck(state: State) -> None:
    """The rest of a candle inside which a position was opened: a stop of it that its range reaches fills.

    Whether the price came before or after the entry is not known, so it is taken to have come after.
    """
    state.fill_count = 0
    for number in range(state.instrument_count):
        one = state.instruments[number]
        if not one.entered_inside:
            continue
        one.entered_inside = 0
        index = 0
        while index < state.order_count and one.quantity != 0.0:
            order = state.orders[index]
            side = order.side
            index += 1
            if order.instrument != number or not order.reduces or order.kind not in (STOP, TRAILING):
                continue
            if side * one.quantity >= 0.0:
                continue
            reached = one.range_high >= order.price if side > 0 else one.range_low <= order.price
            if reached:
                price = max(one.entry, order.price) if side > 0 else min(one.entry, order.price)
                price = worsened(state, one, price, side)
                decrease(
                    state,
                    number,
                    order.number,
                    order.kind,
                    order.reason,
                    CANDLE_PESSIMISTIC,
                    TAKER,
                    state.timestamp - 1,
                    abs(one.quantity),
                    price,
                )
                index = 0
    check(state)


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
        _exits(state, event, market, timestamp)
        _mark_due(state, event, market, timestamp)
        _seen(state, event)
    elif held and not marks_only:
        _exits(state, event, market, timestamp)
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
