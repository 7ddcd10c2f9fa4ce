"""A configured sweep over stored candles: what `deltatape up` schedules and the demo shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from market import Timeframe
from storage.routes import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable

    from backtest.sweep import Sweep
    from deltatape.settings import SweepOptions
    from signals.options import SignalOptions
    from storage.routes import Routes


def run_sweep(
    url: str,
    options: SweepOptions,
    progress: Callable[[int], None] = lambda _: None,
    signals: SignalOptions | None = None,
    routes: Routes = SILENT,
) -> Sweep | None:
    """Backtest the grid over every closed candle stored, and store the runs; None without candles.

    Args:
        url: the database.
        options: what to sweep.
        progress: told how many combinations are finished.
        signals: the settings of signals, which may name strategies of one's own.
        routes: told how it ended.

    Raises:
        WrongUse: the options name what does not exist.
        Unavailable: the database does not answer.
    """
    from backtest import grid as grids
    from backtest.account import Account
    from backtest.run import checked
    from backtest.store import Market
    from backtest.strategies import find
    from backtest.sweep import sweep
    from storage import read
    from storage.database import connect

    timeframe = Timeframe.parse(options.timeframe)
    candles = read.candles(url, options.exchange, options.symbol, timeframe)
    if candles.is_empty():
        return None
    axes = dict(grids.axis(f"{name}={values}") for name, values in options.grid.items())
    account = Account(options.capital, options.fee_bps, options.fee_bps, options.slippage_bps)
    setups, left_out = grids.setups(find(options.strategy, signals), axes, {}, account)
    with connect(url, application_name="deltatape sweep") as connection:
        return sweep(
            connection,
            checked(candles, timeframe),
            setups,
            Market(options.exchange, options.symbol),
            definition=options.model_dump(exclude={"at"}) | {"grid": axes, "fixed": {}},
            left_out=left_out,
            rank_by=options.rank_by,
            keep=options.keep,
            progress=progress,
            routes=routes,
        )
