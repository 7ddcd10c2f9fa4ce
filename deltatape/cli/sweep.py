"""`deltatape sweep`: backtest a grid of parameters on all cores."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from deltatape import settings
from deltatape.cli import output
from deltatape.cli.backtest_options import (
    AsJson,
    Capital,
    Exchange,
    FeeBps,
    From,
    Funding,
    Interval,
    Latency,
    Leverage,
    Maintenance,
    MakerBps,
    MarketKind,
    Params,
    Participation,
    SlippageBps,
    StrategyName,
    Symbol,
    To,
)
from deltatape.cli.runs import by_name, none_stored, run_table
from market import parse_time

app = typer.Typer(
    epilog="Example: deltatape sweep run --exchange kraken --symbol BTC/USD"
    " --timeframe 5m --strategy ema_cross --grid fast=5:30:5"
)

_BEST_SHOWN = 10


@app.command(
    epilog="Example: deltatape sweep run --exchange binance --symbol BTC/USDT --timeframe 1m"
    " --strategy ema_cross --grid fast=5:50:5 --grid slow=20:200:20"
)
def run(
    exchange: Exchange,
    symbol: Symbol,
    timeframe: Interval,
    strategy: StrategyName,
    grid: Annotated[list[str], typer.Option(help="name=first:last:step or name=a,b,c; again.")],
    start: From = None,
    end: To = None,
    param: Params = None,
    capital: Capital = 10_000.0,
    fee_bps: FeeBps = None,
    maker_bps: MakerBps = None,
    slippage_bps: SlippageBps = None,
    latency: Latency = None,
    participation: Participation = 0.0,
    market_type: MarketKind = None,
    leverage: Leverage = 1.0,
    maintenance: Maintenance = None,
    funding: Funding = True,
    rank_by: Annotated[str, typer.Option(help="The metric whose highest is best.")] = "sharpe_ratio",
    keep: Annotated[int, typer.Option(min=0, help="Runs that keep fills, positions, curve.")] = 3,
    folds: Annotated[
        int, typer.Option(min=0, max=100, help="Steps that choose in one span and judge in the next.")
    ] = 0,
    cluster: Annotated[str | None, typer.Option(help="A Dask scheduler's address: tcp://host:port.")] = None,
    as_json: AsJson = False,
) -> None:
    """Backtest every combination of a grid.

    On all cores, or on a Dask cluster; each is stored as a run, and costs what `backtest run` does.
    """
    wanted = settings.load()
    from backtest.grid import parameter
    from deltatape.sweeps import run_sweep
    from storage.database import connect

    asked: dict[str, Any] = {"exchange": exchange, "symbol": symbol, "timeframe": timeframe}
    asked |= {"strategy": strategy, "grid": by_name("--grid", map(_axis, grid)), "capital": capital}
    asked |= {"fee_bps": fee_bps, "maker_bps": maker_bps, "slippage_bps": slippage_bps, "latency": latency}
    asked |= {"participation": participation, "market_type": market_type, "leverage": leverage}
    asked |= {"maintenance": maintenance, "funding": funding, "rank_by": rank_by, "keep": keep}
    fixed = by_name("--param", map(parameter, param or []))
    since, until = (None if text is None else parse_time(text) for text in (start, end))
    url = wanted.database()
    with _progress() as progress:
        done = run_sweep(
            url,
            settings.sweep_options(asked | {"folds": folds, "cluster": cluster}),
            fixed=fixed,
            since=since,
            until=until,
            progress=progress,
            signals=wanted.signals,
            routes=wanted.alerts.routes(),
        )
    if done is None:
        raise none_stored(exchange, symbol, timeframe, start, end)
    with connect(url) as connection:
        _show(connection, str(done.sweep_id), as_json=as_json)


def _axis(text: str) -> tuple[str, str]:
    name, _, values = text.partition("=")
    return name, values


@app.command("list", epilog="Example: deltatape sweep list --json")
def list_(
    limit: Annotated[
        int, typer.Option(min=1, max=output.MOST_LISTED, help="At most so many, the newest.")
    ] = 20,
    as_json: AsJson = False,
) -> None:
    """List the newest sweeps."""
    from backtest import history
    from backtest.claims import mark_killed
    from storage.database import connect, require_schema

    with connect(settings.load().database()) as connection:
        require_schema(connection)
        mark_killed(connection)
        rows = history.sweeps(connection, limit)
    if as_json:
        output.print_json(rows)
        return
    output.table(
        "sweeps, the newest first",
        ["sweep", "strategy", "market", "grid", "runs", "status", "started"],
        [
            (
                str(row["id"])[:8],
                row["name"],
                _market(row),
                _grid(row),
                f"{row['finished_runs']:,} of {row['total_runs']:,}",
                row["status"],
                f"{row['started_timestamp']:%Y-%m-%d %H:%M:%S}",
            )
            for row in rows
        ],
        "no sweeps yet: deltatape sweep run --help",
    )


@app.command(epilog="Example: deltatape sweep show 5b01c2aa")
def show(
    sweep_id: Annotated[str, typer.Argument(help="The sweep's id, or its beginning.")],
    as_json: AsJson = False,
) -> None:
    """Show a sweep and its best runs."""
    from backtest.claims import mark_killed
    from storage.database import connect, require_schema

    with connect(settings.load().database()) as connection:
        require_schema(connection)
        mark_killed(connection)
        _show(connection, sweep_id, as_json=as_json)


def _show(connection: Any, sweep_id: str, *, as_json: bool) -> None:
    from backtest import history

    row = history.sweep(connection, sweep_id)
    best = history.best(connection, row["id"], row["definition"]["rank_by"], _BEST_SHOWN)
    if as_json:
        output.print_json({**row, "best_runs": best})
        return
    statistics = row["statistics"] or {}
    left_out = statistics.get("left_out", 0)
    output.console.print(
        f"sweep {row['id']} ({row['status']}): {row['name']} over {_market(row)}, {_grid(row)};"
        f" {row['finished_runs']:,} of {row['total_runs']:,} runs"
        + (f", {left_out:,} combinations make no sense" if left_out else "")
        + (f", {statistics['seconds']:.2f} s" if "seconds" in statistics else ""),
        markup=False,
        soft_wrap=True,
    )
    if folds := statistics.get("folds"):
        _show_folds(folds, row["definition"]["rank_by"])
        total = statistics["out_of_sample_return_pct"]
        output.console.print(f"out of sample, one fold after the other: {total:+.2f} %", markup=False)
    else:
        run_table(f"the best by {row['definition']['rank_by']}", best, "no run finished")
    if row["best_backtest_id"]:
        output.console.print(
            f"the best one: deltatape backtest show {str(row['best_backtest_id'])[:8]}", markup=False
        )


def _show_folds(folds: list[dict[str, Any]], rank_by: str) -> None:
    output.table(
        f"chosen by {rank_by} in sample, judged out of sample",
        ["fold", "judged from", "to", "parameters", "in sample", "out of sample", "return %", "run"],
        [
            (
                str(fold["fold"]),
                fold["out_of_sample_from"],
                fold["out_of_sample_to"],
                fold["parameters"],
                f"{fold['in_sample']:.4g}",
                f"{fold['out_of_sample']:.4g}",
                f"{fold['return_pct']:+.2f}",
                fold["out_of_sample_id"][:8],
            )
            for fold in folds
        ],
        "no fold finished",
    )


def _market(row: Any) -> str:
    definition = row["definition"]
    return f"{definition['exchange']} {definition['symbol']} {definition['timeframe']}"


def _grid(row: Any) -> str:
    axes = row["definition"]["grid"].items()
    return " ".join(
        f"{name}={values[0]:g}…{values[-1]:g} ({len(values)})" if len(values) > 1 else f"{name}={values[0]:g}"
        for name, values in axes
    )


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr while a terminal looks; gives what moves it to a count of a total."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output.errors, transient=True) as bar:
        task = bar.add_task("backtests", total=None)
        yield lambda finished, total: bar.update(task, completed=finished, total=total)
