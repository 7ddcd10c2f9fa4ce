"""What a fill does to cash and position, what it costs, and both identities of the equity.

Several instruments share the cash. A position's price is the mean of what was paid for it. Whole prices
are paid on spot and margin markets; on linear ones only profits are settled, as they are realised.
"""

from backtest.compiled import compiled
from backtest.orders import cancel_reducing, level, rounded, rounded_down, rounded_up
from backtest.state import (
    EQUITY_DISAGREES,
    FIXED,
    MAKER,
    MAX_FILLS,
    MAX_LEVELS,
    STOP,
    TAKE_PROFIT,
    TOO_MANY_FILLS,
    TRAILING,
    WALK,
    State,
)

TOLERANCE = 1e-9
"""The identities round differently: they may differ by this share of the amounts in them."""


@compiled(inline=True)
def equity(state: State) -> float:
    """Cash and every position at its last mark."""
    value = state.cash
    for number in range(state.instrument_count):
        one = state.instruments[number]
        value += one.quantity * (one.mark - one.basis)
    return float(value)


@compiled()
def buying_power(state: State) -> float:
    """What may still be bought or sold short: spot's cash, else what the leverage leaves of the equity."""
    if not state.shorts:
        return float(state.cash)
    power = state.leverage * equity(state)
    for number in range(state.instrument_count):
        one = state.instruments[number]
        power -= abs(one.quantity) * one.mark
    return float(power)


@compiled()
def ruin(state: State, number: int) -> float:
    """The price at which the equity falls to the maintenance of this position; 0 where none can.

    With equity(p) = rest + quantity · (p − basis), equity(p) = maintenance · |quantity| · p.
    """
    one = state.instruments[number]
    if one.quantity == 0.0 or (one.quantity > 0.0 and state.leverage <= 1.0):
        return 0.0
    rest = state.cash
    for other in range(state.instrument_count):
        if other != number:
            each = state.instruments[other]
            rest += each.quantity * (each.mark - each.basis)
    sign = 1.0 if one.quantity > 0.0 else -1.0
    return float((one.basis - rest / one.quantity) / (1.0 - state.maintenance * sign))


@compiled()
def on_tick(one: State, price: float, side: int) -> float:
    """A taker's price on the tick, against the taker."""
    if one.tick_digits == 0:
        return price
    if side > 0:
        return float(rounded_up(price, one.tick_digits, one.tick_scale))
    return float(rounded_down(price, one.tick_digits, one.tick_scale))


@compiled()
def worsened(state: State, one: State, price: float, side: int) -> float:
    """What a taker gets: slippage, or half the last known spread, against it; on the tick against it."""
    if state.slippage == FIXED or one.ask == 0.0 or state.slippage == WALK:
        price *= 1.0 + side * one.slippage
    else:
        price += side * (0.5 * (one.ask - one.bid))
    return on_tick(one, price, side)


@compiled()
def has_book(state: State, one: State, time: int) -> bool:
    """Whether there is a snapshot to walk that is not too old."""
    return bool(state.slippage == WALK and one.ask > 0.0 and time - one.book_time <= state.book_age)


@compiled()
def walked(one: State, side: int, quantity: float, takes: bool) -> tuple[float, float]:
    """The mean price and quantity of walking the snapshot's levels; `takes` leaves that much less in them.

    The price is 0 where nothing is left.
    """
    levels = one.asks if side > 0 else one.bids
    amount = 0.0
    left = quantity
    for place in range(MAX_LEVELS):
        part = min(left, levels[1, place])
        if part <= 0.0:
            continue
        amount += part * levels[0, place]
        left -= part
        if takes:
            levels[1, place] -= part
    taken = quantity - left
    return (amount / taken if taken > 0.0 else 0.0), taken


@compiled()
def _fill(
    state: State,
    number: int,
    order: int,
    kind: int,
    reason: int,
    source: int,
    liquidity: int,
    timestamp: int,
    quantity: float,
    price: float,
    fee: float,
    gross: float,
) -> State:
    """The next fill of this event, filled in as far as every fill is."""
    one = state.instruments[number]
    if state.fill_count == MAX_FILLS:
        state.error = TOO_MANY_FILLS
        state.fill_count = 0
    fill = state.fills[state.fill_count]
    state.fill_count += 1
    fill.timestamp = timestamp
    fill.position = one.position
    fill.instrument = number
    fill.order = order
    fill.kind = kind
    fill.reason = reason
    fill.source = source
    fill.liquidity = liquidity
    fill.quantity = quantity
    fill.price = price
    fill.fee = fee
    fill.gross = gross
    fill.held = one.quantity
    fill.high = price
    fill.low = price
    fill.stop = 0.0
    fill.trail = 0.0
    fill.target = 0.0
    fill.funding = 0.0
    return fill


@compiled()
def decrease(
    state: State,
    number: int,
    order: int,
    kind: int,
    reason: int,
    source: int,
    liquidity: int,
    timestamp: int,
    quantity: float,
    price: float,
) -> None:
    """Give back `quantity` of the position; when it is gone, what was to reduce it is cancelled."""
    one = state.instruments[number]
    rate = one.maker if liquidity == MAKER else one.taker
    held = one.quantity
    whole = quantity >= abs(held)
    part = held if whole else (quantity if held > 0.0 else -quantity)
    fee = abs(part) * price * rate
    gross = part * (price - one.entry)
    state.cash = state.cash + part * (price - one.basis) - fee
    state.realised += gross
    state.fees += fee
    one.quantity = 0.0 if whole else rounded(held - part, one.lot_digits, one.lot_scale)
    fill = _fill(
        state, number, order, kind, reason, source, liquidity, timestamp, abs(part), price, fee, gross
    )
    fill.opens = 0
    fill.side = -1 if held > 0.0 else 1
    fill.high = max(one.high, price)
    fill.low = min(one.low, price)
    fill.stop = level(state, number, STOP)
    fill.trail = level(state, number, TRAILING)
    fill.target = level(state, number, TAKE_PROFIT)
    if whole:
        fill.funding = one.funding
        one.entry = 0.0
        one.basis = 0.0
        cancel_reducing(state, number)


@compiled()
def increase(
    state: State,
    number: int,
    order: int,
    kind: int,
    reason: int,
    source: int,
    liquidity: int,
    timestamp: int,
    side: int,
    quantity: float,
    price: float,
) -> None:
    """Open a position on this side, or add to it."""
    one = state.instruments[number]
    rate = one.maker if liquidity == MAKER else one.taker
    fee = quantity * price * rate
    if one.quantity == 0.0:
        state.position += 1
        one.position = state.position
        one.entry = price
        one.basis = price if state.linear else 0.0
        one.high = price
        one.low = price
        one.funding = 0.0
        one.quantity = side * quantity
        state.cash = state.cash - side * quantity * (price - one.basis) - fee
    else:
        held = abs(one.quantity)
        one.entry = (held * one.entry + quantity * price) / (held + quantity)
        state.cash = state.cash - fee
        if state.linear:
            one.basis = one.entry
        else:
            state.cash = state.cash - side * quantity * price
        one.quantity = side * rounded(held + quantity, one.lot_digits, one.lot_scale)
        one.high = max(one.high, price)
        one.low = min(one.low, price)
    state.fees += fee
    fill = _fill(state, number, order, kind, reason, source, liquidity, timestamp, quantity, price, fee, 0.0)
    fill.opens = 1
    fill.side = side


@compiled()
def pay_funding(state: State, number: int, price: float, rate: float) -> None:
    """Longs pay `rate` of the position's value at `price`, shorts get it; a negative rate the other way."""
    one = state.instruments[number]
    payment = one.quantity * price * rate
    state.cash -= payment
    state.funding -= payment
    one.funding -= payment


@compiled(inline=True)
def check(state: State) -> None:
    """Equity as cash + marked positions, and as initial + realised + unrealised − fees + funding."""
    cash = state.cash
    one = cash
    unrealised = 0.0
    amounts = state.initial + abs(cash) + abs(state.realised) + state.fees + abs(state.funding)
    for number in range(state.instrument_count):
        each = state.instruments[number]
        value = each.quantity * (each.mark - each.basis)
        one += value
        amounts += abs(value)
        unrealised += each.quantity * (each.mark - each.entry)
    other = state.initial + state.realised + unrealised - state.fees + state.funding
    # Written so that a NaN fails it.
    if not abs(one - other) <= TOLERANCE * amounts:
        state.error = EQUITY_DISAGREES
