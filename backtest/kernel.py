"""The kernel: one event in, what fills, and both equity identities checked after it.

The rules of filling:
- A market order fills at the first open after it was given: the open ± slippage, as taker.
- A stop fills as taker once the price touches it, at its price or, where the market is already
  beyond it (a gap, a hole in the data), at the market: min(open, stop) for longs, the mirror for
  shorts; slippage on top.
- A take-profit is a limit order that rests in the book: it fills as maker at its own price once the
  market trades *through* it; touched is not filled, and a gap gives no better price.
- Stop and target inside one candle: the stop first (`candle_pessimistic`).
- Of stops that one candle reaches, the nearest fills.
- What happened inside a candle bears its last microsecond; what happened at its open, its open time.

Where constants are passed, signatures are written out: numba would compile a version for each constant.
"""

import math

from numba import float64, int64, void

from backtest.compiled import compiled
from backtest.state import (
    AT_CLOSE,
    BY_END,
    BY_LIQUIDATION,
    CANDLE,
    CANDLE_PESSIMISTIC,
    CLOSE,
    END,
    EQUITY_DISAGREES,
    FILL_TYPE,
    MAKER,
    MARKET,
    MAX_ORDERS,
    NEXT_OPEN,
    OPEN,
    SIGNAL,
    STATE_TYPE,
    STOP,
    TAKE_PROFIT,
    TAKER,
    TIME_WENT_BACK,
    TOO_MANY_ORDERS,
    Event,
    State,
)

TOLERANCE = 1e-9
"""The identities round differently: they may differ by this share of the amounts in them."""


@compiled(void(STATE_TYPE, int64, int64))
def _move(state: State, source: int, target: int) -> None:
    if source == target:
        return
    moved, order = state.orders[source], state.orders[target]
    order.kind = moved.kind
    order.side = moved.side
    order.reduces = moved.reduces
    order.reason = moved.reason
    order.price = moved.price
    order.fraction = moved.fraction


@compiled(void(STATE_TYPE, int64))
def _remove(state: State, index: int) -> None:
    for later in range(index + 1, state.order_count):
        _move(state, later, later - 1)
    state.order_count -= 1


@compiled(void(STATE_TYPE))
def _cancel_reducing(state: State) -> None:
    kept = 0
    for index in range(state.order_count):
        if not state.orders[index].reduces:
            _move(state, index, kept)
            kept += 1
    state.order_count = kept


@compiled(void(STATE_TYPE, int64, int64, int64, int64, float64, float64))
def submit(
    state: State, kind: int, side: int, reduces: int, reason: int, price: float, fraction: float
) -> None:
    """Give an order; it can fill from the next event on.

    Args:
        state: of the run.
        kind: MARKET, STOP or TAKE_PROFIT.
        side: +1 buys, -1 sells.
        reduces: 1 closes the position and is cancelled with it, 0 opens one.
        reason: what a fill of it will say.
        price: of a stop or target.
        fraction: of the equity at the fill, of an order that opens.
    """
    if state.order_count == MAX_ORDERS:
        state.error = TOO_MANY_ORDERS
        return
    order = state.orders[state.order_count]
    order.kind = kind
    order.side = side
    order.reduces = reduces
    order.reason = reason
    order.price = price
    order.fraction = fraction
    state.order_count += 1


@compiled(void(STATE_TYPE, int64))
def cancel(state: State, kind: int) -> None:
    """Withdraw every order of this kind."""
    kept = 0
    for index in range(state.order_count):
        if state.orders[index].kind != kind:
            _move(state, index, kept)
            kept += 1
    state.order_count = kept


@compiled(inline=True)
def equity(state: State) -> float:
    """Cash and the position at its last mark."""
    return float(state.cash + state.quantity * (state.mark - state.basis))


@compiled(float64(STATE_TYPE, int64))
def _level(state: State, kind: int) -> float:
    """The price of the policy's first order of this kind, 0 without one."""
    for index in range(state.order_count):
        order = state.orders[index]
        if order.kind == kind and order.reason != BY_LIQUIDATION:
            return float(order.price)
    return 0.0


@compiled(float64(STATE_TYPE, float64))
def _whole_lots(state: State, quantity: float) -> float:
    """`quantity` rounded down to the lot; the result is the double nearest to that decimal."""
    if state.lot_digits == 0:
        return quantity
    lots = math.floor(quantity * state.lot_scale / state.lot_digits)
    return float(lots * state.lot_digits / state.lot_scale)


@compiled(FILL_TYPE(STATE_TYPE, *(int64,) * 5, *(float64,) * 3, int64))
def _fill(
    state: State,
    side: int,
    kind: int,
    reason: int,
    source: int,
    liquidity: int,
    quantity: float,
    price: float,
    fee: float,
    timestamp: int,
) -> State:
    """The next fill of this event, filled in as far as every fill is."""
    fill = state.fills[state.fill_count]
    state.fill_count += 1
    fill.timestamp = timestamp
    fill.position = state.position
    fill.side = side
    fill.kind = kind
    fill.reason = reason
    fill.source = source
    fill.liquidity = liquidity
    fill.quantity = quantity
    fill.price = price
    fill.fee = fee
    fill.high = price
    fill.low = price
    fill.stop = 0.0
    fill.target = 0.0
    return fill


@compiled(void(STATE_TYPE, int64, int64, int64, int64, float64, int64))
def _close(
    state: State,
    kind: int,
    reason: int,
    source: int,
    liquidity: int,
    price: float,
    timestamp: int,
) -> None:
    """Close the position at `price` and cancel the orders that went with it."""
    held = state.quantity
    rate = state.maker if liquidity == MAKER else state.taker
    fee = abs(held) * price * rate
    gross = held * (price - state.entry)
    state.cash = state.cash + held * (price - state.basis) - fee
    state.realised += gross
    state.fees += fee
    side = -1 if held > 0.0 else 1
    fill = _fill(state, side, kind, reason, source, liquidity, abs(held), price, fee, timestamp)
    fill.opens = 0
    fill.gross = gross
    fill.high = max(state.high, price)
    fill.low = min(state.low, price)
    fill.stop = _level(state, STOP)
    fill.target = _level(state, TAKE_PROFIT)
    state.quantity = 0.0
    state.entry = 0.0
    state.basis = 0.0
    _cancel_reducing(state)


@compiled()
def _open(state: State, side: int, reason: int, fraction: float, price: float, timestamp: int) -> None:
    """Open a position with a share of the equity, its fee included; what cannot be is rejected."""
    quantity = _whole_lots(state, fraction * state.cash / (price * (1.0 + state.taker)))
    if state.quantity != 0.0 or quantity <= 0.0 or (side < 0 and not state.shorts):
        state.rejected += 1
        return
    fee = quantity * price * state.taker
    state.basis = price if state.linear else 0.0
    state.cash = state.cash - side * quantity * (price - state.basis) - fee
    state.fees += fee
    state.position += 1
    state.quantity = side * quantity
    state.entry = price
    state.high = price
    state.low = price
    fill = _fill(state, side, MARKET, reason, NEXT_OPEN, TAKER, quantity, price, fee, timestamp)
    fill.opens = 1
    fill.gross = 0.0
    if side < 0:
        # Where the equity would be gone; spot and unlevered longs never get there.
        ruin = state.basis - state.cash / state.quantity
        submit(state, STOP, 1, 1, BY_LIQUIDATION, ruin, 0.0)


@compiled()
def _nearest_stop(state: State, side: float, low: float, high: float) -> int:
    """The stop reached that the price met first; -1 if none is."""
    found = -1
    for index in range(state.order_count):
        order = state.orders[index]
        if order.kind != STOP:
            continue
        reached = order.price <= high if side > 0.0 else order.price >= low
        # A sale's stops lie below the market: the highest is met first; a purchase's the lowest.
        if reached and (found < 0 or side * order.price < side * state.orders[found].price):
            found = index
    return found


@compiled()
def _target_passed(state: State, low: float, high: float) -> int:
    """The take-profit that was traded through; -1 if none was."""
    for index in range(state.order_count):
        order = state.orders[index]
        if order.kind == TAKE_PROFIT:
            passed = order.price > low if order.side > 0 else order.price < high
            if passed:
                return index
    return -1


@compiled()
def _protect(state: State, market: float, low: float, high: float, timestamp: int) -> None:
    """Fill the stop or target that prices from `low` to `high` reach, starting at `market`."""
    if state.quantity == 0.0:
        return
    side = -1.0 if state.quantity > 0.0 else 1.0
    stop = _nearest_stop(state, side, low, high)
    target = _target_passed(state, low, high)
    if stop >= 0:
        level, reason = state.orders[stop].price, state.orders[stop].reason
        # Never better than the market at which it is found: min for a sale, max for a purchase.
        price = max(market, level) if side > 0.0 else min(market, level)
        source = CANDLE_PESSIMISTIC if target >= 0 else CANDLE
        price *= 1.0 + side * state.slippage
        _close(state, STOP, reason, source, TAKER, price, timestamp)
    elif target >= 0:
        order = state.orders[target]
        _close(state, TAKE_PROFIT, order.reason, CANDLE, MAKER, order.price, timestamp)


@compiled()
def _at_open(state: State, event: Event) -> None:
    """What the open gapped through, then the market orders as they were given."""
    _protect(state, event.price, event.price, event.price, event.timestamp)
    index = 0
    while index < state.order_count:
        order = state.orders[index]
        if order.kind != MARKET:
            index += 1
            continue
        side, reduces, reason, fraction = order.side, order.reduces, order.reason, order.fraction
        _remove(state, index)
        price = event.price * (1.0 + side * state.slippage)
        if reduces:
            if state.quantity * side < 0.0:
                _close(state, MARKET, reason, NEXT_OPEN, TAKER, price, event.timestamp)
                index = 0
        else:
            _open(state, side, reason, fraction, price, event.timestamp)


@compiled()
def _inside(state: State, event: Event) -> None:
    """What the candle's range reached after its open."""
    _protect(state, state.mark, event.low, event.high, event.timestamp - 1)


@compiled()
def _end(state: State, event: Event) -> None:
    """No more data: what is open closes at the last price."""
    if state.quantity != 0.0:
        side = -1.0 if state.quantity > 0.0 else 1.0
        price = event.price * (1.0 + side * state.slippage)
        _close(state, MARKET, BY_END, AT_CLOSE, TAKER, price, event.timestamp)
    state.order_count = 0


@compiled(inline=True)
def _check(state: State) -> None:
    """Equity as cash + marked position, and as initial + realised + unrealised − fees."""
    value = state.quantity * (state.mark - state.basis)
    one = state.cash + value
    unrealised = state.quantity * (state.mark - state.entry)
    other = state.initial + state.realised + unrealised - state.fees
    amounts = state.initial + abs(state.cash) + abs(value) + abs(state.realised) + state.fees
    # Written so that a NaN fails it.
    if not abs(one - other) <= TOLERANCE * amounts:
        state.error = EQUITY_DISAGREES


@compiled(inline=True)
def step(state: State, event: Event) -> None:
    """Let one event happen: orders that it fills stand in `state.fills[:state.fill_count]` after it.

    Sets `state.error`, one of `state.ERRORS`, where something is wrong; the state is then worthless.
    """
    state.fill_count = 0
    if event.timestamp < state.timestamp:
        state.error = TIME_WENT_BACK
        return
    state.timestamp = event.timestamp
    if event.kind == SIGNAL:
        return
    if state.order_count > 0:
        if event.kind == OPEN:
            _at_open(state, event)
        elif event.kind == CLOSE:
            _inside(state, event)
    if event.kind == END:
        _end(state, event)
    if state.quantity != 0.0:
        state.high = max(state.high, event.high)
        state.low = min(state.low, event.low)
    state.mark = event.price
    _check(state)
