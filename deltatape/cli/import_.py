"""`deltatape import`: trades and candles of others' files onto the tape."""

from pathlib import Path
from typing import Annotated

import typer

from deltatape import settings
from deltatape.cli import output
from deltatape.cli.stopping import Stopped, stop_event

app = typer.Typer()


@app.command(
    "import",
    epilog="Example: deltatape import BTCUSDT-trades-2026-01-*.zip;"
    " deltatape import my.csv --exchange kraken --symbol BTC/USD --column price=px --column timestamp=at:ms",
)
def import_(
    files: Annotated[list[Path], typer.Argument(help="Files in the order of time, also .gz and .zip.")],
    exchange: Annotated[
        str | None, typer.Option(help="The exchange's id, where the file does not say it.")
    ] = None,
    symbol: Annotated[
        str | None, typer.Option(help="Such as BTC/USDT, where the file does not say it.")
    ] = None,
    timeframe: Annotated[
        str | None, typer.Option(help="How long the candles are, where the file does not say it.")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="binance, tardis, freqtrade, csv or parquet; else told by the file."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="FIELD=COLUMN, and :UNIT for a time (s, ms, us, ns, iso), of a CSV or Parquet file."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Write trades and candles of files onto the tape.

    Doing it again changes no row. Exit code 1: some rows were refused, the rest is stored.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from collector.imports.generic import parse_columns
    from collector.imports.load import load
    from collector.imports.source import Hints
    from market import Timeframe

    hints = Hints(
        exchange=exchange,
        symbol=symbol,
        timeframe=None if timeframe is None else Timeframe.parse(timeframe),
        columns=parse_columns(column or []),
    )
    size = sum(path.stat().st_size for path in files if path.is_file())
    is_quiet = as_json or not output.errors.is_terminal
    bar = (TextColumn("importing"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    url = settings.load().database()
    with (
        stop_event(None) as stop,
        Progress(*bar, console=output.errors, transient=True, disable=is_quiet) as progress,
    ):
        task = progress.add_task("importing", total=size)

        def show(done: int) -> None:
            progress.update(task, completed=done)
            if stop.is_set():
                raise Stopped("what came so far is stored, and doing it again goes on")

        report = load(files, url, hints, form, show)
    if as_json:
        output.print_json({**report.counts, "refused_rows": report.refused})
    else:
        output.counts("imported", report.counts)
    for line in report.refused:
        output.say(f"refused: {line}")
    left = report.counts["refused"] - len(report.refused)
    if left > 0:
        output.say(f"refused: {left} more")
    if report.counts["holes"]:
        output.say("ids are missing inside of the files: `deltatape gaps` lists the holes")
    if report.counts["refused"]:
        raise typer.Exit(1)
