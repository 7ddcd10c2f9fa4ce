"""A signal and the open after it as one step, where orders are nothing but market orders between the two.

So it is of a policy that trades the signal's changes, protects nothing and keeps to no limits, for an account
without latency that takes what it wants. What comes of it is bit for bit what the kernel makes of the two
events one after the other, in a fraction of the time: no order is written down, looked for and taken away.
"""

from typing import Any

from backtest.compiled import compiled
from backtest.entries import can_open, sized
from backtest.ledger import decrease, increase, worsened
from backtest.policies import SIGNALS
from backtest.state import BY_SIGNAL, MARKET, NEXT_OPEN, OF_EQUITY, QUANTITY, TAKER, State


@compiled()
def only_turns(state: State, policy: Any) -> bool:
    """Whether whatever this policy asks for fills, or is refused, at the next open."""
    protects = policy.stop > 0.0 or policy.target > 0.0 or policy.trail > 0.0
    limits = policy.wakes > 0 or policy.most_trades > 0 or policy.cooldown > 0
    late = state.feed > 0 or state.order > 0 or state.response > 0 or state.lag_count > 0
    partly = state.participation > 0.0
    return bool(policy.plan == SIGNALS and not (protects or limits or late or partly))


@compiled()
def _open(state: State, policy: Any, side: int, price: float) -> None:
    """Enter on this side, as the policy sizes it, or count what is refused."""
    one = state.instruments[0]
    state.order_number += 1
    at = worsened(state, one, price, side)
    sizing, size = (QUANTITY, policy.quantity) if policy.quantity > 0.0 else (OF_EQUITY, policy.fraction)
    quantity = sized(state, one, sizing, size, at)
    if can_open(state, one, side, quantity, quantity, at):
        number, time = state.order_number, state.timestamp
        increase(state, 0, number, MARKET, BY_SIGNAL, NEXT_OPEN, TAKER, time, side, quantity, at)
    else:
        state.rejected += 1


@compiled()
def turn(state: State, policy: Any, kind: int, time: int, price: float) -> bool:
    """A signal of this type, and the open of this time and price; False where the signal asks for nothing.

    No order may stand, and the open may not lie where the position is liquidated.
    """
    one = state.instruments[0]
    state.fill_count = 0
    side = 1 if kind >= policy.enter_at else -1 if kind <= policy.exit_at else 0
    leaves = one.quantity * side < 0.0
    enters = one.quantity * side <= 0.0 and (side > 0 or (side < 0 and policy.shorts > 0))
    if not (leaves or enters):
        return False
    state.timestamp = time
    if leaves:
        state.order_number += 1
        number, held, at = state.order_number, abs(one.quantity), worsened(state, one, price, side)
        decrease(state, 0, number, MARKET, BY_SIGNAL, NEXT_OPEN, TAKER, time, held, at)
    one.mark = price
    if enters:
        _open(state, policy, side, price)
        one.high, one.low = max(one.high, price), min(one.low, price)
    return True
