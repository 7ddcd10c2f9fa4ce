"""What a walk writes down: fills, the equity curve, the day's ends, the deepest fall."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numba
import numpy as np
import numpy.typing as npt
from numba import types, uint64

from backtest.compiled import compiled
from backtest.exits import recheck
from backtest.kernel import step
from backtest.ledger import equity
from backtest.state import (
    CLOSE,
    ERRORS,
    FILL,
    FILL_TYPE,
    MAX_FILLS,
    SIGNAL,
    Event,
    State,
    tuple_type,
)
from market.errors import DeltatapeError
from market.timeframe import DAY

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Records = npt.NDArray[np.void]

ROOM = 2 * MAX_FILLS
"""Fills that one event, the recheck after it and the end can have at most."""

COUNTS = np.dtype(
    [
        ("index", np.int64),  # where the walk stands
        ("following", np.int64),
        ("opened", np.int64),
        ("events", np.int64),
        ("fills", np.int64),
        ("points", np.int64),
        ("held", np.int64),
        ("closes", np.int64),
        ("day", np.int64),
        ("day_end", np.int64),
        ("peak", np.float64),
        ("drawdown", np.float64),
    ],
    align=True,
)


class Tally(NamedTuple):
    """The arrays of `Record`, and one record of `COUNTS`."""

    fills: Records
    daily: Floats
    timestamp: Integers
    cash: Floats
    value: Floats
    counts: Any


@dataclass(frozen=True, slots=True)
class Record:
    """What happened.

    Attributes:
        fills: records of `FILL`, in order.
        daily: equity at the end of each UTC day from the first event's to the last one's; a day
            without one carries the last on.
        timestamp, cash, value: a point at each candle close and each fill, one an instant (the last
            state of it counts); equity is cash + value. Empty where no curve was kept: see `with_curve`.
        events: how many the kernel saw.
        held: candle closes with an open position.
        drawdown: the largest fraction below an earlier peak, over candle closes and trades.
        fees: paid in all.
        rejected: orders that could not be filled at all.
        funding: received in all, less what was paid.
        closes: candle closes.
        again: walks once more, and keeps the curve.
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
    funding: float = 0.0
    closes: int = 0
    again: Callable[[], Self] | None = field(default=None, repr=False, compare=False)

    def with_curve(self) -> Self:
        """It with its curve, which is as much to write as all the rest and looked at by few."""
        return self if self.again is None else self.again()


def begin(first: int, last: int, initial: float, fills: int, points: int) -> Tally:
    """Room for what happens from `first` to `last`: so many fills for a start, so many points at most."""
    counts = np.zeros(1, dtype=COUNTS)
    counts["day_end"] = (first // DAY + 1) * DAY
    counts["peak"] = initial
    # In one piece: the system clears few large pages sooner than many small ones.
    time, cash, value = np.empty((3, points))
    return Tally(
        # Memory that is never written to is never taken.
        fills=np.empty(fills + ROOM, dtype=FILL),
        daily=np.full(last // DAY - first // DAY + 1, initial),
        timestamp=time.view(np.int64),
        cash=cash,
        value=value,
        counts=counts[0],
    )


def grown(tally: Tally) -> Tally:
    """The same with twice the room for fills, and as many points more."""
    more = len(tally.fills)
    columns = {"fills": np.concatenate([tally.fills, np.empty(more, dtype=FILL)])}
    if len(tally.timestamp):
        for name in ("timestamp", "cash", "value"):
            column = getattr(tally, name)
            columns[name] = np.concatenate([column, np.empty(more, dtype=column.dtype)])
    return tally._replace(**columns)


def record_of(state: Records, tally: Tally) -> Record:
    """What was written, once the walk is over.

    Raises:
        DeltatapeError: the kernel's own checks failed.
    """
    if error := int(state["error"][0]):
        raise DeltatapeError(f"the backtest kernel stopped: {ERRORS[error]}")
    count = tally.counts
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
        funding=float(state["funding"][0]),
        closes=int(count["closes"]),
    )


_FLOATS = types.float64[::1]
_INTEGERS = types.int64[::1]
TALLY_TYPE = tuple_type(
    Tally,
    types.Array(FILL_TYPE, 1, "C"),
    _FLOATS,
    _INTEGERS,
    _FLOATS,
    _FLOATS,
    numba.from_dtype(COUNTS),
)


@compiled(inline=True)
def has_room(tally: Tally) -> bool:
    """Whether the fills of one more event have room."""
    return bool(tally.counts.fills + ROOM <= tally.fills.size)


@compiled(inline=True)
def advance(state: State, event: Event, on_event: Any, policy: Any, tally: Tally) -> None:
    """One event: the kernel's step, the policy where it is to hear of it, and what filled written down."""
    step(state, event)
    if event.kind == SIGNAL or state.fill_count > 0 or event.timestamp >= state.wake_at:
        on_event(state, event, policy)
    if state.fill_count > 0:
        write_fills(state, tally)
        if event.kind == CLOSE:
            after_candle(state, event, on_event, policy, tally)
    tally.counts.events += 1


@compiled(inline=True)
def after_candle(state: State, event: Event, on_event: Any, policy: Any, tally: Tally) -> None:
    """What the rest of a candle does to positions that were opened inside it."""
    recheck(state)
    if state.fill_count > 0:
        on_event(state, event, policy)
        write_fills(state, tally)


@compiled()
def _write_point(state: State, time: int, tally: Tally) -> None:
    point = tally.counts.points
    if point > 0 and tally.timestamp[point - 1] == time:
        point -= 1
    value = 0.0
    for number in range(state.instrument_count):
        one = state.instruments[number]
        value += one.quantity * (one.mark - one.basis)
    tally.timestamp[point] = time
    tally.cash[point] = state.cash
    tally.value[point] = value
    tally.counts.points = point + 1


@compiled()
def write_fills(state: State, tally: Tally) -> None:
    """Keep the fills of this event, and where they leave the account."""
    counts = tally.counts
    for index in range(state.fill_count):
        tally.fills[counts.fills] = state.fills[index]
        counts.fills += 1
    if tally.timestamp.size > 0 and state.fill_count > 0:
        _write_point(state, state.fills[state.fill_count - 1].timestamp, tally)


@compiled()
def turn_day(time: int, tally: Tally) -> None:
    """Go on to the day of this time; days without an event carry the last equity on."""
    counts = tally.counts
    days = (time - counts.day_end - 1) // DAY + 1
    for day in range(counts.day + 1, counts.day + days):
        tally.daily[day] = tally.daily[counts.day]
    counts.day += days
    counts.day_end += days * DAY


@compiled()
def write_day(now: float, time: int, tally: Tally) -> None:
    """The equity as it is now: of its day, and against the highest before."""
    counts = tally.counts
    if time > counts.day_end:
        turn_day(time, tally)
    tally.daily[counts.day] = now
    if now > counts.peak:
        counts.peak = now
    elif now < counts.peak * (1.0 - counts.drawdown):
        counts.drawdown = 1.0 - now / counts.peak


@compiled(inline=True)
def climbs(state: State, low: float, high: float, tally: Tally) -> bool:
    """Whether the equity passes its peak between these prices of the only instrument; else its fall is noted.

    It is highest and lowest where the price is, the other way round for a short position.
    """
    one, counts = state.instruments[0], tally.counts
    worst = state.cash + one.quantity * (low - one.basis)
    best = state.cash + one.quantity * (high - one.basis)
    if one.quantity < 0.0:
        best, worst = worst, best
    if best > counts.peak:
        return True
    if worst < counts.peak * (1.0 - counts.drawdown):
        counts.drawdown = 1.0 - worst / counts.peak
    return False


@compiled()
def climb(state: State, prices: Floats, index: int, end: int, tally: Tally) -> None:
    """The equity's peak and deepest fall over prices of the only instrument, one after the other."""
    one, counts, cash = state.instruments[0], tally.counts, state.cash
    quantity, basis = one.quantity, one.basis
    peak, drawdown = counts.peak, counts.drawdown
    fall = peak * (1.0 - drawdown)
    for place in range(uint64(index), uint64(end)):
        now = cash + quantity * (prices[place] - basis)
        if fall <= now <= peak:
            continue
        if now > peak:
            peak = now
        else:
            drawdown = 1.0 - now / peak
        fall = peak * (1.0 - drawdown)
    counts.peak, counts.drawdown = peak, drawdown


@compiled()
def write_close(state: State, time: int, tally: Tally) -> None:
    """Keep the equity at a close."""
    counts = tally.counts
    write_day(equity(state), time, tally)
    counts.closes += 1
    for number in range(state.instrument_count):
        if state.instruments[number].quantity != 0.0:
            counts.held += 1
            break
    if tally.timestamp.size > 0:
        _write_point(state, time, tally)
