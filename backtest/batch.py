"""The kernel over a whole tape: candles and signals walked in order of time, what happens written down.

The events are merged while walking and never stored: at one instant the close comes first, then the
signal, then the next open. A candle that is missing simply gives no event.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from numba import types

from backtest.compiled import compiled
from backtest.kernel import equity, step
from backtest.policies import ON_EVENT, POLICY_TYPE
from backtest.state import (
    CLOSE,
    END,
    ERRORS,
    FILL,
    FILL_TYPE,
    NO_ERROR,
    OPEN,
    SIGNAL,
    STATE_TYPE,
    TOO_MANY_FILLS,
    Event,
    State,
    tuple_type,
)
from market.errors import DeltatapeError
from market.timeframe import DAY

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Records = npt.NDArray[np.void]


class Candles(NamedTuple):
    """The columns that the kernel walks.

    Attributes:
        timestamp: open times in ascending order, µs; at least one.
        open, high, low, close: prices.
        length: of a candle, µs.
    """

    timestamp: Integers
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    length: int


class Signals(NamedTuple):
    """Changes of a signal's type.

    Attributes:
        candle: ascending numbers of the candles at whose close they happen.
        kind: the new types, -2 … 2.
    """

    candle: Integers
    kind: Integers


class Tally(NamedTuple):
    """What the walk writes: the arrays of `Record`, and one record of `COUNTS`."""

    fills: Records
    daily: Floats
    timestamp: Integers
    cash: Floats
    value: Floats
    counts: Any


COUNTS = np.dtype(
    [
        ("events", np.int64),
        ("fills", np.int64),
        ("points", np.int64),
        ("held", np.int64),
        ("day", np.int64),
        ("day_end", np.int64),
        ("peak", np.float64),
        ("drawdown", np.float64),
    ],
    align=True,
)


@dataclass(frozen=True, slots=True)
class Record:
    """What happened.

    Attributes:
        fills: records of `FILL`, in order.
        daily: equity at the end of each UTC day from the first candle's to the last one's; a day
            without a candle carries the last on.
        timestamp, cash, value: a point at each candle close and each fill, one an instant (the last
            state of it counts); equity is cash + value. Empty where no curve was asked for.
        events: how many the kernel saw.
        held: candle closes with an open position.
        drawdown: the largest fraction below an earlier peak, over candle closes.
        fees: paid in all.
        rejected: orders that could not be filled at all.
    """

    fills: Records
    daily: Floats
    timestamp: Integers
    cash: Floats
    value: Floats
    events: int
    held: int
    drawdown: float
    fees: float
    rejected: int


def walk(
    state: Records, policy: Any, on_event: Any, candles: Candles, signals: Signals, *, curve: bool
) -> Record:
    """Run the kernel from the first candle to the last one's close.

    Args:
        state: one fresh record of `STATE`, which is used up.
        policy: the callback's parameters, one record of `POLICY`.
        on_event: a callback compiled to `ON_EVENT`.
        candles: the tape.
        signals: what the policy trades.
        curve: whether to keep the points of the equity curve.

    Raises:
        DeltatapeError: the kernel's own checks failed.
    """
    first, last = int(candles.timestamp[0]), int(candles.timestamp[-1])
    points = 3 * len(candles.timestamp) + 1 if curve else 0
    counts = np.zeros(1, dtype=COUNTS)
    counts["day_end"] = (first // DAY + 1) * DAY
    counts["peak"] = state["initial"]
    tally = Tally(
        # A signal closes and opens at most one position each, and each one opened closes once.
        fills=np.empty(2 * len(signals.candle), dtype=FILL),
        daily=np.empty(last // DAY - first // DAY + 1),
        # Memory that is never written to is never taken.
        timestamp=np.empty(points, dtype=np.int64),
        cash=np.empty(points),
        value=np.empty(points),
        counts=counts[0],
    )
    _walk(state[0], on_event, policy, candles, signals, tally)
    if error := int(state["error"][0]):
        raise DeltatapeError(f"the backtest kernel stopped: {ERRORS[error]}")
    count = counts[0]
    end = int(count["points"])
    return Record(
        fills=tally.fills[: int(count["fills"])],
        daily=tally.daily,
        timestamp=tally.timestamp[:end],
        cash=tally.cash[:end],
        value=tally.value[:end],
        events=int(count["events"]),
        held=int(count["held"]),
        drawdown=float(count["drawdown"]),
        fees=float(state["fees"][0]),
        rejected=int(state["rejected"][0]),
    )


@compiled(inline=True)
def advance(state: State, event: Event, on_event: Any, policy: Any) -> None:
    """One event: the kernel's step, then the policy on signals and fills."""
    step(state, event)
    if event.kind == SIGNAL or state.fill_count > 0:
        on_event(state, event, policy)


@compiled()
def _write_fills(state: State, time: int, tally: Tally) -> None:
    counts = tally.counts
    if counts.fills + state.fill_count > tally.fills.size:
        state.error = TOO_MANY_FILLS
        return
    for index in range(state.fill_count):
        tally.fills[counts.fills] = state.fills[index]
        counts.fills += 1
    if tally.timestamp.size > 0:
        _write_point(state, time, tally)


@compiled(inline=True)
def _write_close(state: State, time: int, tally: Tally) -> None:
    counts = tally.counts
    now = equity(state)
    if time > counts.day_end:
        days = (time - counts.day_end - 1) // DAY + 1
        tally.daily[counts.day + 1 : counts.day + days] = tally.daily[counts.day]
        counts.day += days
        counts.day_end += days * DAY
    tally.daily[counts.day] = now
    if now > counts.peak:
        counts.peak = now
    elif now < counts.peak * (1.0 - counts.drawdown):
        counts.drawdown = 1.0 - now / counts.peak
    if state.quantity != 0.0:
        counts.held += 1
    if tally.timestamp.size > 0:
        _write_point(state, time, tally)


@compiled(inline=True)
def _write_point(state: State, time: int, tally: Tally) -> None:
    point = tally.counts.points
    if point > 0 and tally.timestamp[point - 1] == time:
        point -= 1
    tally.timestamp[point] = time
    tally.cash[point] = state.cash
    tally.value[point] = state.quantity * (state.mark - state.basis)
    tally.counts.points = point + 1


_INTEGERS = types.int64[::1]
_FLOATS = types.float64[::1]
_FILLS = types.Array(FILL_TYPE, 1, "C")
_CANDLES = tuple_type(Candles, _INTEGERS, _FLOATS, _FLOATS, _FLOATS, _FLOATS, types.int64)
_SIGNALS = tuple_type(Signals, _INTEGERS, _INTEGERS)
_COUNTS = numba.from_dtype(COUNTS)
_TALLY = tuple_type(Tally, _FILLS, _FLOATS, _INTEGERS, _FLOATS, _FLOATS, _COUNTS)
_WALK = types.void(STATE_TYPE, types.FunctionType(ON_EVENT), POLICY_TYPE, _CANDLES, _SIGNALS, _TALLY)


@compiled(_WALK)
def _walk(state: State, on_event: Any, policy: Any, candles: Candles, signals: Signals, tally: Tally) -> None:
    following = 0
    time, price = candles.timestamp[0], candles.open[0]
    for index in range(candles.timestamp.size):
        price, time = candles.open[index], candles.timestamp[index]
        advance(state, Event(OPEN, time, price, price, price, 0), on_event, policy)
        if state.fill_count > 0:
            _write_fills(state, time, tally)
        price, time = candles.close[index], time + candles.length
        high, low = candles.high[index], candles.low[index]
        advance(state, Event(CLOSE, time, price, high, low, 0), on_event, policy)
        if state.fill_count > 0:
            _write_fills(state, time - 1, tally)
        _write_close(state, time, tally)
        if following < signals.candle.size and signals.candle[following] == index:
            kind = signals.kind[following]
            advance(state, Event(SIGNAL, time, price, price, price, kind), on_event, policy)
            following += 1
        if state.error != NO_ERROR:
            return
    step(state, Event(END, time, price, price, price, 0))
    if state.fill_count > 0:
        _write_fills(state, time, tally)
        tally.daily[tally.counts.day] = equity(state)
    tally.counts.events = 2 * candles.timestamp.size + following + 1
