"""`deltatape backtest`: run a strategy over stored candles, and what can be done with the runs."""

from typing import Annotated

import typer

from deltatape import settings
from deltatape.cli import backtest_compare, backtest_delete, backtest_files, backtest_reproduce, output
from deltatape.cli.runs import account_of, by_name, run_table, show_run, stored_candles

app = typer.Typer(
    epilog="Example: deltatape backtest run --exchange kraken --symbol BTC/USD"
    " --timeframe 5m --strategy ema_cross"
)

Exchange = Annotated[str, typer.Option(help="The exchange's id, such as binance.")]
Symbol = Annotated[str, typer.Option(help="The symbol, such as BTC/USDT.")]
Interval = Annotated[str, typer.Option(help="1m 5m 15m 1h 4h or 1d.")]
StrategyName = Annotated[str, typer.Option(help="ema_cross, rsi_reversal, composite, …")]
From = Annotated[str | None, typer.Option("--from", help="First open time, ISO 8601; all there is.")]
To = Annotated[str | None, typer.Option("--to", help="Open times before this; all there is.")]
Params = Annotated[
    list[str] | None,
    typer.Option("--param", help="name=value of the strategy, or fraction, stop, target, shorts; again."),
]
Capital = Annotated[float, typer.Option(help="In quote units.")]
Fee = Annotated[float, typer.Option(help="Taker's fee, basis points.")]
MakerFee = Annotated[float | None, typer.Option(help="Maker's fee, basis points; else the taker's.")]
Slippage = Annotated[float, typer.Option(help="Of market orders and stops, basis points.")]
MarketKind = Annotated[str, typer.Option(help="spot (long only), margin or linear.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(
    epilog="Example: deltatape backtest run --exchange binance --symbol BTC/USDT --timeframe 1m"
    " --strategy ema_cross --param fast=12 --param slow=26 --param stop=0.02"
)
def run(
    exchange: Exchange,
    symbol: Symbol,
    timeframe: Interval,
    strategy: StrategyName,
    start: From = None,
    end: To = None,
    param: Params = None,
    capital: Capital = 10_000.0,
    fee_bps: Fee = 10.0,
    maker_bps: MakerFee = None,
    slippage_bps: Slippage = 1.0,
    market_type: MarketKind = "spot",
    as_json: AsJson = False,
) -> None:
    """Backtest a strategy over stored candles.

    The run is stored and shown.
    """
    wanted = settings.load()
    from backtest.grid import parameter
    from backtest.run import run as backtest
    from backtest.run import setup
    from backtest.store import Market, running
    from backtest.strategies import find
    from storage.database import connect

    account = account_of(capital, fee_bps, maker_bps, slippage_bps, market_type)
    parameters = by_name("--param", map(parameter, param or []))
    found = find(strategy, wanted.signals)
    chosen = setup(found, parameters, account)
    url = wanted.database()
    frame = stored_candles(url, exchange, symbol, timeframe, start, end)
    with connect(url) as connection:
        with running(connection, chosen, frame, Market(exchange, symbol)) as begun:
            begun.complete(backtest(frame, found, parameters, account=account))
        show_run(connection, str(begun.run_id), wanted.home, as_json=as_json)


@app.command("list", epilog="Example: deltatape backtest list --strategy ema_cross --limit 5")
def list_(
    strategy: Annotated[str | None, typer.Option(help="Only of this strategy.")] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=output.MOST_LISTED, help="At most so many, the newest.")
    ] = 20,
    as_json: AsJson = False,
) -> None:
    """List the newest runs."""
    from backtest import history
    from backtest.claims import mark_killed
    from storage.database import connect, require_schema

    with connect(settings.load().database()) as connection:
        require_schema(connection)
        mark_killed(connection)
        rows = history.runs(connection, limit, strategy=strategy)
    if as_json:
        output.print_json(rows)
    else:
        run_table("runs, the newest first", rows, "no runs yet: deltatape backtest run --help")


@app.command(epilog="Example: deltatape backtest show 3f2a91c0")
def show(
    backtest_id: Annotated[str, typer.Argument(help="The run's id, or its beginning.")],
    as_json: AsJson = False,
) -> None:
    """Show a run: its figures, its last positions, its equity."""
    from backtest.claims import mark_killed
    from storage.database import connect, require_schema

    wanted = settings.load()
    with connect(wanted.database()) as connection:
        require_schema(connection)
        mark_killed(connection)
        show_run(connection, backtest_id, wanted.home, as_json=as_json)


app.command(epilog="Example: deltatape backtest compare 3f2a91c0 81bd00e7")(backtest_compare.compare)
app.command(epilog="Example: deltatape backtest reproduce 3f2a91c0")(backtest_reproduce.reproduce)
app.command(epilog="Example: deltatape backtest report 3f2a91c0 --to report.html")(backtest_files.report)
app.command(epilog="Example: deltatape backtest export 3f2a91c0 --format csv")(backtest_files.export)
app.command(epilog="Example: deltatape backtest delete 3f2a91c0 --yes")(backtest_delete.delete)
