"""One backtest: candles and a strategy in, a result out. Nothing is stored here."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from backtest.feeds import Source
from backtest.portfolio import Inside, check, figures_of, run_sources, walk_sources
from backtest.result import Result
from backtest.setup import Setup, setup
from market.errors import WrongUse
from market.timeframe import Timeframe, format_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from backtest.account import Account
    from backtest.batch import Record, Signals
    from backtest.metrics import Metrics
    from backtest.strategies import Number, Strategy
    from signals.frame import CandleFrame


def run(
    frame: CandleFrame | pl.DataFrame,
    strategy: str | Strategy,
    parameters: Mapping[str, Number] | None = None,
    *,
    account: Account | None = None,
    timeframe: Timeframe | str | None = None,
    exchange: str = "",
    symbol: str = "",
) -> Result:
    """Backtest a strategy.

    Args:
        frame: closed candles, or a table of them with the columns timestamp, open, high, low, close
            and volume (then `timeframe` says their interval).
        strategy: the name of one that ships, or one of your own.
        parameters: the strategy's, and the policy's: fraction, stop, target, shorts, enter_at, exit_at.
        account: capital and costs.
        timeframe: of a table.
        exchange: where the candles come from, for the titles and the tables.
        symbol: likewise.

    Raises:
        WrongUse: what was asked for makes no sense, or the candles do not.
    """
    source = Source(symbol, _frame(frame, timeframe))
    return run_markets(setup(strategy, parameters, account), [source], exchange=exchange)


def run_markets(
    wanted: Setup, sources: Sequence[Source], inside: Inside | None = None, exchange: str = ""
) -> Result:
    """Run over one instrument or several that share the cash.

    Args:
        wanted: what to run; see `setup`.
        sources: at least one; candles are checked here.
        inside: looks into candles that do not say what came first; see `backtest.portfolio.run_sources`.
        exchange: for the titles and the tables.

    Raises:
        WrongUse: the candles cannot have been, or the instruments cannot trade together.
    """
    begun = perf_counter()
    ordered = sorted(sources, key=lambda source: source.symbol)
    for source in ordered:
        checked(source.frame)
    record, used = run_sources(wanted, ordered, inside)
    metrics = figures_of(wanted, used, record)
    first = used[0]
    return Result(
        wanted,
        first.frame,
        metrics,
        record,
        exchange,
        first.symbol,
        perf_counter() - begun,
        () if len(used) == 1 and first.is_plain else tuple(used),
    )


def execute(
    wanted: Setup, source: Source, *, curve: bool, signals: Signals | None = None
) -> tuple[Record, Metrics]:
    """Signals (unless they are given), kernel and metrics over one instrument, whose candles are checked.

    `curve` keeps the equity's points.
    """
    check(wanted, [source])
    if signals is None:
        signals = wanted.strategy.signals(source.frame, wanted.values)
    record = walk_sources(wanted, [source], [signals], curve=curve)
    return record, figures_of(wanted, [source], record)


def checked(frame: CandleFrame | pl.DataFrame, timeframe: Timeframe | str | None = None) -> CandleFrame:
    """The candles as a frame, refused where no market can have had them.

    Raises:
        WrongUse: there is none, or a price is not above 0, or outside its candle's range.
    """
    frame = _frame(frame, timeframe)
    if not len(frame):
        raise WrongUse("there are no candles to backtest on")
    if wrong := _impossible(frame):
        place, why = wrong
        when = format_time(int(frame.timestamp[place]))
        raise WrongUse(f"the candle of {when} has impossible prices: {why}")
    return frame


def _frame(frame: CandleFrame | pl.DataFrame, timeframe: Timeframe | str | None) -> CandleFrame:
    from signals.frame import CandleFrame

    if isinstance(frame, CandleFrame):
        return frame
    if timeframe is None:
        raise WrongUse("say the timeframe of a table of candles: timeframe='1m'")
    return CandleFrame.from_polars(frame, Timeframe.parse(timeframe))


def _impossible(frame: CandleFrame) -> tuple[int, str] | None:
    """The first candle that no market can have had, and why."""
    low, high = frame.low, frame.high
    inside = (np.minimum(frame.open, frame.close) >= low) & (np.maximum(frame.open, frame.close) <= high)
    prices = {name: frame.column(name) for name in ("open", "high", "low", "close")}
    if ((low > 0) & inside & (high < np.inf)).all():
        return None
    # Only now does it matter which, and why.
    faults = [
        *((f"{name} is not a number", np.isnan(values)) for name, values in prices.items()),
        *((f"{name} is not above 0", ~(values > 0)) for name, values in prices.items()),
        *((f"{name} is infinite", np.isinf(values)) for name, values in prices.items()),
        ("high lies below low", high < low),
        ("open or close lies outside of low and high", ~inside),
    ]
    place, _, why = min(
        (int(np.argmax(where)), i, why) for i, (why, where) in enumerate(faults) if where.any()
    )
    return place, why
