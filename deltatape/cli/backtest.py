"""`deltatape backtest`: run a strategy over stored candles, and what can be done with the runs."""

from typing import Annotated

import typer

from deltatape import settings
from deltatape.cli import (
    backtest_compare,
    backtest_delete,
    backtest_files,
    backtest_reproduce,
    backtest_run,
    output,
)
from deltatape.cli.backtest_options import AsJson
from deltatape.cli.runs import run_table, show_run

app = typer.Typer(
    epilog="Example: deltatape backtest run --exchange kraken --symbol BTC/USD"
    " --timeframe 5m --strategy ema_cross"
)

app.command(
    epilog="Example: deltatape backtest run --exchange binance --symbol BTC/USDT --timeframe 1m"
    " --strategy ema_cross --param fast=12 --param slow=26 --stop 0.02"
)(backtest_run.run)


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
