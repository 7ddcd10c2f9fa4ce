"""A sweep over stored candles: `deltatape sweep run` does it, `deltatape up` each day, and the demo."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING

from market import MarketType, Timeframe, WrongUse
from storage.routes import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from backtest.outcomes import Runner
    from backtest.stored_setup import Costs
    from backtest.strategies import Number
    from backtest.sweep import Sweep
    from deltatape.settings import SweepOptions
    from signals.options import SignalOptions
    from storage.routes import Routes


def run_sweep(
    url: str,
    options: SweepOptions,
    *,
    fixed: Mapping[str, Number] | None = None,
    since: int | None = None,
    until: int | None = None,
    progress: Callable[[int, int], None] = lambda _, __: None,
    signals: SignalOptions | None = None,
    routes: Routes = SILENT,
) -> Sweep | None:
    """Backtest the grid over the closed candles stored, and store the runs; None without candles.

    Args:
        url: the database.
        options: what to sweep.
        fixed: parameters that are the same in every run.
        since: candles that open from then on, microseconds UTC; None: from the first one.
        until: candles that open before then; None: to the last one.
        progress: told how many runs are finished, and of how many.
        signals: the settings of signals, which may name strategies of one's own.
        routes: told how it ended.

    Raises:
        WrongUse: the options name what does not exist, or make no sense.
        Unavailable: the database does not answer, or the cluster.
    """
    from backtest import grid as grids
    from backtest.run import checked
    from backtest.store import Market
    from backtest.stored_feeds import Wanted, facts_of, read_sources
    from backtest.stored_setup import sources_of
    from backtest.strategies import find
    from backtest.sweep import sweep
    from storage import read
    from storage.database import connect, require_schema

    axes = dict(grids.axis(f"{name}={values}") for name, values in options.grid.items())
    if both := axes.keys() & (fixed or {}).keys():
        raise WrongUse(f"{min(both)} is given in --grid and in --param: leave one out")
    strategy, timeframe = find(options.strategy, signals), Timeframe.parse(options.timeframe)
    with connect(url, application_name="deltatape sweep") as connection:
        require_schema(connection)
        facts = facts_of(connection, options.exchange, [options.symbol])
        account, origin = _costs(options).account(options.exchange, facts)
        inputs = Wanted(funding=options.funding and account.market_type is MarketType.LINEAR)
        fed = sources_of(inputs, facts, origin)
        setups, left_out = grids.setups(strategy, axes, fixed, account, fed)
        candles = read.candles(url, options.exchange, options.symbol, timeframe, since, until)
        if candles.is_empty():
            return None
        frames = {options.symbol: checked(candles, timeframe)}
        (source,) = read_sources(url, options.exchange, frames, inputs, facts)
        total = max(1, options.folds) * len(setups) + options.folds
        with _runner(options.cluster) as runner:
            return sweep(
                connection,
                source,
                setups,
                Market(options.exchange, options.symbol),
                definition=options.model_dump(exclude={"at"}) | {"grid": axes, "fixed": dict(fixed or {})},
                left_out=left_out,
                rank_by=options.rank_by,
                keep=options.keep,
                folds=options.folds,
                runner=runner,
                progress=lambda finished: progress(finished, total),
                routes=routes,
            )


def _costs(options: SweepOptions) -> Costs:
    from backtest.costs import RECORDED
    from backtest.stored_setup import Costs

    if options.latency == RECORDED:
        raise WrongUse("recorded latency is drawn from trades, a sweep reads candles alone: say milliseconds")
    asked = options.model_dump()
    return Costs(**{each.name: asked[each.name] for each in fields(Costs) if each.name in asked})


@contextmanager
def _runner(address: str | None) -> Iterator[Runner]:
    """What runs the combinations: this machine's threads, or the cluster at an address."""
    from backtest.outcomes import results

    if address is None:
        yield results
        return
    from backtest import cluster

    with cluster.runner(address) as runner:
        yield runner
