"""Policies: when a signal, a fill or the time becomes an order. As data, run by one compiled callback.

A policy of one's own is a function of the same shape over a record of one's own type: see
`backtest.batch.walk`.
"""

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numba import types

from backtest.compiled import compiled
from backtest.ledger import equity
from backtest.orders import cancel, remove, submit, submit_trailing
from backtest.state import (
    BY_DAILY_LIMIT,
    BY_POLICY,
    BY_SIGNAL,
    BY_STOP,
    BY_TARGET,
    CLOSE,
    DEPTH,
    END,
    EVENT_TYPE,
    FOREVER,
    LIMIT,
    LOWER_TIMEFRAME,
    MARKET,
    OF_EQUITY,
    QUANTITY,
    QUOTE,
    SIGNAL,
    STATE_TYPE,
    STOP,
    TAKE_PROFIT,
    TRAILING,
    Event,
    State,
)
from market.errors import WrongUse
from market.timeframe import DAY

PLANS = ("signals", "grid", "dca")
SIGNALS, GRID, DCA = range(3)

POLICY = np.dtype(
    [
        ("wakes", np.int64),  # 1: hears of every event from the first on
        ("plan", np.int64),
        ("enter_at", np.int64),
        ("exit_at", np.int64),
        ("fraction", np.float64),
        ("quantity", np.float64),
        ("volatility", np.float64),
        ("span", np.int64),
        ("stop", np.float64),
        ("target", np.float64),
        ("trail", np.float64),
        ("trail_on_close", np.int64),
        ("shorts", np.int64),
        ("daily_loss", np.float64),
        ("daily_target", np.float64),
        ("most_trades", np.int64),
        ("cooldown", np.int64),
        ("amount", np.float64),
        ("every", np.int64),
        ("levels", np.int64),
        ("step", np.float64),
        # What it remembers.
        ("day", np.int64),
        ("day_equity", np.float64),
        ("entries", np.int64),
        ("left_at", np.int64),
        ("blocked", np.int64),
        ("next_at", np.int64),
    ],
    align=True,
)
POLICY_TYPE = numba.from_dtype(POLICY)


def on_event_type(policy: Any) -> Any:
    """What a policy over this numba record type is to the kernel.

    It reads the state after an event, gives its orders with `submit`, and keeps in its record what it
    wants to remember.
    """
    return types.void(STATE_TYPE, EVENT_TYPE, policy)


ON_EVENT = on_event_type(POLICY_TYPE)


@dataclass(frozen=True, slots=True)
class Policy:
    """Entries and exits by the signal's type (-2 STRONG_SELL … 2 STRONG_BUY), size, protection, limits.

    Attributes:
        enter_at: a type of at least this enters long (and ends a short).
        exit_at: a type of at most this ends a long (and enters short, where shorts are wanted).
        fraction: of the equity (times the leverage) in each position, above 0 and at most 1; the fee is
            inside it.
        stop: the stop-loss's distance from the mean entry price as a fraction of it, 0 for none.
        target: the take-profit's, likewise.
        shorts: whether sales enter short; needs a margin or linear market.
        trail: the trailing stop's distance as a fraction of the best price, 0 for none.
        trail_on_close: whether that is the best close, not the best high.
        quantity: base units of each entry instead of a fraction, 0 for none.
        volatility: the yearly volatility that a position shall have: the fraction is what that makes it,
            at most `fraction`; 0 for none.
        span: of the exponential mean of squared returns from close to close that tells the volatility.
        daily_loss: a loss of this fraction since the UTC day's begin closes everything until the next day.
        daily_target: a profit, likewise.
        most_trades: entries a UTC day, 0 for any number.
        cooldown: seconds after a position's end before the next entry.
        most_open: positions at once, 0 for any number.
        plan: signals; grid: buys at `levels` steps below the first open, sells each a step higher; dca:
            buys every `every` seconds.
        amount: quote units of each purchase of grid or dca, the fee in them.
        every: seconds between the purchases of dca.
        levels: of a grid.
        step: of a grid, as a fraction of the price.
    """

    enter_at: int = 1
    exit_at: int = -1
    fraction: float = 1.0
    stop: float = 0.0
    target: float = 0.0
    shorts: bool = False
    trail: float = 0.0
    trail_on_close: bool = False
    quantity: float = 0.0
    volatility: float = 0.0
    span: int = 50
    daily_loss: float = 0.0
    daily_target: float = 0.0
    most_trades: int = 0
    cooldown: float = 0.0
    most_open: int = 0
    plan: str = "signals"
    amount: float = 0.0
    every: float = 0.0
    levels: int = 0
    step: float = 0.0

    def __post_init__(self) -> None:
        if not -2 <= self.exit_at < self.enter_at <= 2:
            raise WrongUse("a policy enters at a higher signal type than it exits at (-2 … 2)")
        if not 0 < self.fraction <= 1:
            raise WrongUse(f"the fraction of equity must lie above 0 and up to 1, not {self.fraction:g}")
        if not (0 <= self.stop < 1 and 0 <= self.target < 1 and 0 <= self.trail < 1):
            raise WrongUse("stop, target and trail are fractions of a price: at least 0, below 1")
        if not (0 <= self.daily_loss < 1 and 0 <= self.daily_target < float("inf")):
            raise WrongUse("daily_loss and daily_target are fractions of the equity, at least 0")
        for name in ("quantity", "volatility", "most_trades", "cooldown", "most_open", "amount", "every"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise WrongUse(f"{name} must be at least 0, not {getattr(self, name):g}")
        self._check_plan()

    def _check_plan(self) -> None:
        if self.plan not in PLANS:
            raise WrongUse(f"unknown plan {self.plan!r}: use {', '.join(PLANS)}")
        if self.volatility and self.span < 2:
            raise WrongUse(f"the span of a volatility must be at least 2 candles, not {self.span}")
        if self.plan != "signals" and not self.amount:
            raise WrongUse(f"the plan {self.plan} needs an amount: quote units of each purchase")
        if self.plan == "dca" and not self.every:
            raise WrongUse("the plan dca needs every: seconds between purchases")
        if self.plan == "grid" and not (1 <= self.levels <= 50 and 0 < self.step < 1):
            raise WrongUse("the plan grid needs levels (1 … 50) and a step (a fraction of the price)")

    @property
    def wakes(self) -> bool:
        """Whether it must see every event from the first one on, not only signals and fills."""
        return self.plan != "signals" or bool(self.daily_loss or self.daily_target or self.volatility)

    def record(self) -> Any:
        """It as the one record that the compiled callback reads and writes."""
        return _record(self).copy()[0]


@lru_cache(maxsize=1024)
def _record(policy: Policy) -> npt.NDArray[np.void]:
    """What runs of one policy begin with: filled in once, copied by each."""
    record = np.zeros(1, dtype=POLICY)
    seconds = {"cooldown": round(policy.cooldown * 1e6), "every": round(policy.every * 1e6)}
    plain = asdict(policy) | seconds | {"plan": PLANS.index(policy.plan), "wakes": policy.wakes}
    for name in POLICY.names or ():
        record[name] = plain.get(name, 0)
    record["left_at"] = np.iinfo(np.int64).min // 2
    record["day"] = -1
    return record


@compiled()
def _may_enter(state: State, policy: Any) -> bool:
    if policy.blocked or (policy.most_trades > 0 and policy.entries >= policy.most_trades):
        return False
    return bool(state.timestamp >= policy.left_at + policy.cooldown)


@compiled()
def _targeted(one: State, policy: Any, leverage: float) -> float:
    """The fraction of the equity whose yearly volatility is the target; notes: see `_note_close`."""
    if one.notes[2] < policy.span:
        return 0.0
    yearly = math.sqrt(one.notes[1] / one.notes[3] * (365.0 * DAY))
    return float(min(policy.fraction, policy.volatility / yearly / leverage)) if yearly > 0.0 else 0.0


@compiled()
def _turn(state: State, policy: Any, instrument: int, side: int, confidence: float) -> None:
    """Be on this side of the market, or out of it where that side is not wanted."""
    one = state.instruments[instrument]
    if one.quantity * side > 0.0:
        return
    if one.quantity != 0.0:
        submit(state, instrument, MARKET, side, 1, BY_SIGNAL, 0.0, QUANTITY, 0.0)
    if (side < 0 and not policy.shorts) or not _may_enter(state, policy):
        return
    policy.entries += 1
    sizing, size = OF_EQUITY, policy.fraction
    if policy.quantity > 0.0:
        sizing, size = QUANTITY, policy.quantity
    elif policy.volatility > 0.0:
        size = _targeted(one, policy, state.leverage)
    index = submit(state, instrument, MARKET, side, 0, BY_SIGNAL, 0.0, sizing, size)
    state.orders[index].confidence = confidence


@compiled()
def _note_close(one: State, event: Event, policy: Any) -> None:
    """Keep the last close, the mean of squared returns, how many they are, and a candle's length."""
    if one.notes[2] > 0.0:
        change = event.price / one.notes[0] - 1.0
        weight = 2.0 / (policy.span + 1.0) if one.notes[2] > 1.0 else 1.0
        one.notes[1] = weight * change * change + (1.0 - weight) * one.notes[1]
    one.notes[0] = event.price
    one.notes[2] += 1.0
    one.notes[3] = event.timestamp - event.start


@compiled()
def _protect(state: State, policy: Any, instrument: int) -> None:
    """Stop, target and trailing stop of a position, from its mean price; those from before go."""
    one = state.instruments[instrument]
    if one.quantity == 0.0:
        return
    side = 1 if one.quantity > 0.0 else -1
    if policy.stop > 0.0:
        cancel(state, instrument, STOP)
        price = one.entry * (1.0 - side * policy.stop)
        submit(state, instrument, STOP, -side, 1, BY_STOP, price, QUANTITY, 0.0)
    if policy.target > 0.0:
        cancel(state, instrument, TAKE_PROFIT)
        price = one.entry * (1.0 + side * policy.target)
        submit(state, instrument, TAKE_PROFIT, -side, 1, BY_TARGET, price, QUANTITY, 0.0)
    if policy.trail > 0.0:
        cancel(state, instrument, TRAILING)
        submit_trailing(state, instrument, -side, policy.trail, policy.trail_on_close)


@compiled()
def _new_day(state: State, policy: Any, event: Event) -> None:
    """A UTC day begins with its first event; the close at midnight is of the day before."""
    time = event.timestamp - 1 if event.kind in (CLOSE, SIGNAL) else event.timestamp
    if time // DAY != policy.day:
        policy.day = time // DAY
        policy.day_equity = equity(state)
        policy.entries = 0
        policy.blocked = 0


@compiled()
def _daily_limits(state: State, policy: Any) -> None:
    """Beyond the day's loss or profit: close everything, and no entry until the next day."""
    if policy.blocked:
        return
    change = equity(state) / policy.day_equity - 1.0 if policy.day_equity > 0.0 else 0.0
    loses = policy.daily_loss > 0.0 and change <= -policy.daily_loss
    gains = policy.daily_target > 0.0 and change >= policy.daily_target
    if not (loses or gains):
        return
    policy.blocked = 1
    index = 0
    while index < state.order_count:
        if state.orders[index].reduces:
            index += 1
        else:
            remove(state, index)
    for instrument in range(state.instrument_count):
        held = state.instruments[instrument].quantity
        if held != 0.0:
            side = -1 if held > 0.0 else 1
            submit(state, instrument, MARKET, side, 1, BY_DAILY_LIMIT, 0.0, QUANTITY, 0.0)


@compiled()
def _begin_grid(state: State, policy: Any, event: Event) -> None:
    price = event.price
    for _ in range(policy.levels):
        price /= 1.0 + policy.step
        submit(state, event.instrument, LIMIT, 1, 0, BY_POLICY, price, QUOTE, policy.amount)


@compiled()
def _next_of_grid(state: State, policy: Any, place: int) -> None:
    """A purchase is to be sold a step higher, a sale to be bought back a step lower."""
    fill = state.fills[place]
    if fill.kind != LIMIT:
        return
    if fill.side > 0:
        price = fill.price * (1.0 + policy.step)
        submit(state, fill.instrument, LIMIT, -1, 1, BY_POLICY, price, QUANTITY, fill.quantity)
    else:
        price = fill.price / (1.0 + policy.step)
        submit(state, fill.instrument, LIMIT, 1, 0, BY_POLICY, price, QUOTE, policy.amount)


@compiled()
def _plan(state: State, policy: Any, event: Event) -> None:
    """Begin a grid, or buy again; and hear of the market again when that is next due."""
    if event.timestamp >= policy.next_at:
        if policy.plan == GRID:
            _begin_grid(state, policy, event)
            policy.next_at = FOREVER
        else:
            policy.next_at = event.timestamp + policy.every
            if _may_enter(state, policy):
                policy.entries += 1
                submit(state, event.instrument, MARKET, 1, 0, BY_POLICY, 0.0, QUOTE, policy.amount)
    if not (policy.daily_loss > 0.0 or policy.daily_target > 0.0):
        state.wake_at = policy.next_at


@compiled()
def _after_fills(state: State, policy: Any) -> None:
    for place in range(state.fill_count):
        fill = state.fills[place]
        if fill.opens:
            _protect(state, policy, fill.instrument)
        elif fill.held == 0.0:
            policy.left_at = fill.timestamp
        if policy.plan == GRID:
            _next_of_grid(state, policy, place)


@compiled(ON_EVENT)
def follow_signals(state: State, event: Event, policy: Any) -> None:
    """The shipped policy: trade the signal's changes or a plan, protect positions, keep to the limits."""
    if event.kind in (END, DEPTH) or (event.kind == SIGNAL and policy.plan != SIGNALS):
        return
    _new_day(state, policy, event)
    if event.kind == SIGNAL:
        # A newer signal replaces what an older one asked for and did not get.
        cancel(state, event.instrument, MARKET)
        if event.signal >= policy.enter_at:
            _turn(state, policy, event.instrument, 1, event.size)
        elif event.signal <= policy.exit_at:
            _turn(state, policy, event.instrument, -1, event.size)
        return
    if state.fill_count > 0:
        _after_fills(state, policy)
    if policy.volatility > 0.0 and event.kind == CLOSE and event.source != LOWER_TIMEFRAME:
        _note_close(state.instruments[event.instrument], event, policy)
    if policy.daily_loss > 0.0 or policy.daily_target > 0.0:
        _daily_limits(state, policy)
    if policy.plan != SIGNALS:
        _plan(state, policy, event)
