"""A sweep over stored candles: `deltatape sweep run` does it, `deltatape up` each day, and the demo."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING

import psycopg

from deltatape import upkeep
from market import DeltatapeError, MarketType, Timeframe, WrongUse
from storage.clock import wall_clock
from storage.database import connect, require_schema
from storage.routes import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from backtest.outcomes import Runner
    from backtest.stored_setup import Costs
    from backtest.strategies import Number
    from backtest.sweep import Sweep
    from deltatape.settings import Settings, SweepOptions
    from signals.options import SignalOptions
    from storage.routes import Routes

log = logging.getLogger(__name__)


def sweep_of_the_day(url: str, options: SweepOptions, settings: Settings) -> None:
    """Run a sweep of the settings; where it comes to nothing, that is logged and goes to the outbox.

    Args:
        url: the database.
        options: what to sweep.
        settings: of signals, whose strategies may be named, and of alerts.
    """
    market = f"{options.symbol} {options.timeframe} on {options.exchange}"
    what = f"sweep of {options.strategy} on {market}"
    try:
        done = run_sweep(url, options, signals=settings.signals, routes=settings.alerts.routes())
        if done is not None:
            log.info("%s: %s runs", what, done.total)
            return
        wrong = f"no closed candles of {market} are stored: collect, backfill or import them"
    except Exception as error:
        log.warning("%s failed", what, exc_info=not isinstance(error, DeltatapeError))
        wrong = str(error) or type(error).__name__
    log.error("%s: %s", what, wrong)
    try:
        with connect(url, application_name="deltatape sweep", autocommit=True) as connection:
            upkeep.tell(connection, settings, what, [wrong], wall_clock())
    except (DeltatapeError, psycopg.Error) as error:
        log.warning("%s: cannot tell: %s", what, error)


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
