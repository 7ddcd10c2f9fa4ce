"""Policies: when a signal becomes an order. As data, run by one compiled callback."""

from dataclasses import asdict, dataclass
from typing import Any

import numba
import numpy as np
from numba import types

from backtest.compiled import compiled
from backtest.kernel import cancel, submit
from backtest.state import (
    BY_SIGNAL,
    BY_STOP,
    BY_TARGET,
    EVENT_TYPE,
    MARKET,
    SIGNAL,
    STATE_TYPE,
    STOP,
    TAKE_PROFIT,
    Event,
    State,
)
from market.errors import WrongUse

POLICY = np.dtype(
    [
        ("enter_at", np.int64),
        ("exit_at", np.int64),
        ("fraction", np.float64),
        ("stop", np.float64),
        ("target", np.float64),
        ("shorts", np.int64),
    ],
    align=True,
)
POLICY_TYPE = numba.from_dtype(POLICY)
ON_EVENT = types.void(STATE_TYPE, EVENT_TYPE, POLICY_TYPE)
"""What a policy is to the kernel: reads the state after an event, gives its orders with `submit`."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Entries and exits by the signal's type (-2 STRONG_SELL … 2 STRONG_BUY), size and protection.

    Attributes:
        enter_at: a type of at least this enters long (and ends a short).
        exit_at: a type of at most this ends a long (and enters short, where shorts are wanted).
        fraction: of the equity in each position, above 0 and at most 1; the fee is inside it.
        stop: the stop-loss's distance from the entry price as a fraction of it, 0 for none.
        target: the take-profit's, likewise.
        shorts: whether sales enter short; needs a margin or linear market.
    """

    enter_at: int = 1
    exit_at: int = -1
    fraction: float = 1.0
    stop: float = 0.0
    target: float = 0.0
    shorts: bool = False

    def __post_init__(self) -> None:
        if not -2 <= self.exit_at < self.enter_at <= 2:
            raise WrongUse("a policy enters at a higher signal type than it exits at (-2 … 2)")
        if not 0 < self.fraction <= 1:
            raise WrongUse(f"the fraction of equity must lie above 0 and up to 1, not {self.fraction:g}")
        if not (0 <= self.stop < 1 and 0 <= self.target < 1):
            raise WrongUse("stop and target are fractions of the entry price: at least 0, below 1")

    def record(self) -> Any:
        """It as the one record that the compiled callback reads."""
        record = np.zeros(1, dtype=POLICY)
        for name, value in asdict(self).items():
            record[name] = value
        return record[0]


@compiled(types.void(STATE_TYPE, POLICY_TYPE, types.int64))
def _turn(state: State, policy: Any, side: int) -> None:
    """Be on this side of the market, or out of it where that side is not wanted."""
    if state.quantity * side > 0.0:
        return
    if state.quantity != 0.0:
        submit(state, MARKET, side, 1, BY_SIGNAL, 0.0, 0.0)
    if side > 0 or policy.shorts:
        submit(state, MARKET, side, 0, BY_SIGNAL, 0.0, policy.fraction)


@compiled()
def _protect(state: State, policy: Any) -> None:
    side = 1.0 if state.quantity > 0.0 else -1.0
    if policy.stop > 0.0:
        price = state.entry * (1.0 - side * policy.stop)
        submit(state, STOP, int(-side), 1, BY_STOP, price, 0.0)
    if policy.target > 0.0:
        price = state.entry * (1.0 + side * policy.target)
        submit(state, TAKE_PROFIT, int(-side), 1, BY_TARGET, price, 0.0)


@compiled(ON_EVENT)
def follow_signals(state: State, event: Event, policy: Any) -> None:
    """The shipped policy: trade the signal's changes, protect each position when it opens."""
    if event.kind == SIGNAL:
        # A newer signal replaces what an older one asked for and did not get.
        cancel(state, MARKET)
        if event.signal >= policy.enter_at:
            _turn(state, policy, 1)
        elif event.signal <= policy.exit_at:
            _turn(state, policy, -1)
    elif state.fill_count > 0 and state.fills[state.fill_count - 1].opens:
        _protect(state, policy)
