"""The door for people: candles of any make, and arrays, a class or a name that say what to trade."""

from __future__ import annotations

from dataclasses import fields
from hashlib import sha256
from inspect import getsource
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from backtest.account import Account
from backtest.batch import Signals
from backtest.frames import candles_of
from backtest.run import Result, run
from backtest.strategies import Strategy, find, live
from market.errors import WrongUse
from market.instrument import MarketType
from market.timeframe import Timeframe, format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backtest.strategies import Number
    from signals.frame import CandleFrame

Flags = npt.NDArray[np.bool_]

_ACCOUNT = tuple(each.name for each in fields(Account))
_FROM_ARRAYS = "entries"


def backtest(
    frame: Any,
    strategy: Any,
    exits: Any = None,
    *,
    timeframe: Timeframe | str | None = None,
    exchange: str = "",
    symbol: str = "",
    **options: Any,
) -> Result:
    """Backtest over candles of any make; nothing is stored, no database is needed.

    A signal at a candle's close fills at the next candle's open.

    Args:
        frame: see `backtest.frames.candles_of`: polars, pandas or numpy.
        strategy: the name of one that ships, one of `backtest.strategies`, a class with `cites`, `score`
            and `reason` as for live signals, or the entries: a truth value for each candle.
        exits: the same for the exits, where `strategy` are entries; where there is none, a position is
            left by `stop`, `target` or the end of the data. With shorts=True an exit enters short too.
        timeframe: of the candles; else the shortest time between two of them.
        exchange: whose candles they are, for titles and stored runs.
        symbol: likewise.
        **options: capital and costs (capital, fee_bps, maker_bps, slippage_bps, lot, market_type), the
            policy (fraction, stop, target, shorts, enter_at, exit_at) and the strategy's parameters.

    Raises:
        WrongUse: the candles cannot have been, or what was asked for makes no sense.
    """
    candles = candles_of(frame, timeframe)
    costs = {name: options.pop(name) for name in _ACCOUNT if name in options}
    if "market_type" in costs:
        costs["market_type"] = _market_type(costs["market_type"])
    chosen = _strategy(strategy, exits, candles)
    return run(candles, chosen, options, account=Account(**costs), exchange=exchange, symbol=symbol)


def _market_type(name: str) -> MarketType:
    try:
        return MarketType(name)
    except ValueError:
        raise WrongUse(f"unknown market type {name!r}: use spot, margin or linear") from None


def _strategy(strategy: Any, exits: Any, candles: CandleFrame) -> Strategy:
    if isinstance(strategy, str | Strategy | type) or hasattr(strategy, "score"):
        if exits is not None:
            raise WrongUse("exits belong to entries: a strategy has its own")
        if isinstance(strategy, str):
            return find(strategy)
        return strategy if isinstance(strategy, Strategy) else of_class(strategy)
    count = len(candles)
    entering = _flags("entries", strategy, count)
    leaving = np.zeros(count, dtype=np.bool_) if exits is None else _flags("exits", exits, count)
    both = entering & leaving
    if both.any():
        first = format_time(int(candles.timestamp[int(np.argmax(both))]))
        raise WrongUse(f"{both.sum():,} candles both enter and leave, the first {first}: say which it is")
    return of_arrays(entering, leaving)


def of_arrays(entries: Flags, exits: Flags) -> Strategy:
    """A strategy that buys at the close of each candle of `entries` and sells at that of `exits`."""
    candle = np.flatnonzero(entries | exits)
    signals = Signals(candle, np.where(entries[candle], 1, -1).astype(np.int64))

    def given(_frame: CandleFrame, _values: Mapping[str, Number]) -> Signals:
        return signals

    return Strategy(_FROM_ARRAYS, "Entries and exits as given.", {}, given)


def of_class(strategy: Any) -> Strategy:
    """A class as the live signals know them (see `signals.own`), or an object of one, as a strategy.

    Raises:
        WrongUse: it lacks what such a class has, or cannot be made without arguments.
    """
    from signals.own import own
    from signals.strategies import Strategy as Live
    from signals.strategies import Weighted

    made = strategy if isinstance(strategy, type) else type(strategy)
    try:
        text = getsource(made)
    except (OSError, TypeError):
        # Of a class that was typed in, the name must do.
        text = made.__qualname__
    found = own(made.__name__, strategy, sha256(text.encode()).hexdigest()[:16])
    return live(
        Live(
            found.rule.kind,
            (Weighted(found.rule, 1.0),),
            confirm=found.confirm,
            timeframes=found.timeframes,
            source=found.source,
            policy=found.policy,
        )
    )


def _flags(name: str, given: Any, count: int) -> Flags:
    values = np.asarray(given)
    if values.shape != (count,):
        size = f"{values.size:,} values" if values.ndim == 1 else f"the shape {values.shape}"
        raise WrongUse(f"the {name} have {size}, the candles are {count:,}: one value for each candle")
    if values.dtype == np.bool_:
        return values
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError):
        raise WrongUse(f"the {name} must be true or false, not {values.dtype}") from None
    if not np.isin(numbers, (0.0, 1.0)).all():
        raise WrongUse(f"the {name} must be true or false for each candle, and nothing else (no NaN)")
    return np.asarray(numbers, dtype=np.bool_)
