"""What reduces a position: its stops and liquidation, its limits and targets, then market orders."""

from backtest.compiled import compiled
from backtest.ledger import check, decrease, has_book, on_tick, ruin, walked, worsened
from backtest.orders import (
    PASSED,
    QUEUED,
    TAKEN,
    TRIGGERED,
    after_fill,
    allowed,
    bounded,
    cancel_group,
    reaction,
    rounded_down,
    source_of,
    taken_at,
)
from backtest.queue import served
from backtest.state import (
    BY_LIQUIDATION,
    CANDLE_PESSIMISTIC,
    CLOSE,
    FROM_BOOK,
    FROM_QUEUE,
    LIMIT,
    MAKER,
    NO_QUEUE,
    STOP,
    TAKER,
    TRAILING,
    Event,
    State,
)


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
    quantity = allowed(state, one, wanted)
    liquidity = TAKER
    if how == QUEUED:
        liquidity, quantity = MAKER, min(quantity, served(one, order))
    elif how == PASSED:
        liquidity = MAKER
    price = order.price
    if liquidity == TAKER:
        if order.kind != LIMIT and has_book(state, one, timestamp):
            found = walked(one, order.side, quantity, False)[1]
            quantity = rounded_down(found, one.lot_digits, one.lot_scale)
            price, source = on_tick(one, walked(one, order.side, quantity, True)[0], order.side), FROM_BOOK
        else:
            price = bounded(order, worsened(state, one, market, order.side))
    if quantity <= 0.0:
        return False
    one.available -= quantity
    if how == QUEUED:
        one.taken += quantity
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
        after_fill(state, number, wanted, quantity)
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
    source = source_of(event, False)
    if event.kind == CLOSE and _next_exit(state, event, market, PASSED) >= 0:
        source = CANDLE_PESSIMISTIC
    meets = taken_at(state, event, market, side)
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
def exits(state: State, event: Event, market: float, timestamp: int) -> None:
    """Fill what this event meets of that: stops first, then limits, then what takes."""
    one = state.instruments[event.instrument]
    while one.quantity != 0.0:
        stop = _next_exit(state, event, market, TRIGGERED)
        if not _stopped(state, event, market, stop, timestamp):
            break
    for how in (PASSED, QUEUED, TAKEN):
        if how == QUEUED and state.queue == NO_QUEUE:
            continue
        while one.quantity != 0.0:
            index = _next_exit(state, event, market, how)
            if index < 0:
                break
            order = state.orders[index]
            order.tried = state.matching
            meets = taken_at(state, event, market, order.side)
            source = FROM_QUEUE if how == QUEUED else source_of(event, how == TAKEN and order.kind != LIMIT)
            _exit(state, index, event, how, meets, source, timestamp)


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
