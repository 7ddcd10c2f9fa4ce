"""`deltatape backtest report` and `export`: a stored run as files."""

from pathlib import Path
from typing import Annotated, Any

import typer

from deltatape import settings
from deltatape.cli import output
from market import WrongUse

RunId = Annotated[str, typer.Argument(help="The run's id, or its beginning.")]


def report(
    backtest_id: RunId,
    to: Annotated[
        Path | None, typer.Option("--to", help="The HTML file; else one below the home's reports.")
    ] = None,
) -> None:
    """Write a run's report, one HTML file.

    It opens offline. A run of a sweep that kept only its figures is made anew for it.
    """
    from backtest import history
    from backtest.files import write
    from backtest.report import html, of_result
    from backtest.reproduce import reproduce
    from backtest.stored import stored_report
    from storage.database import connect, require_schema

    wanted = settings.load()
    url = wanted.database()
    with connect(url) as connection:
        require_schema(connection)
        row = _completed(history.run(connection, backtest_id))
        if row["daily_results"] is None:
            made = reproduce(url, row, wanted.signals)
            if not made.is_same:
                raise WrongUse(
                    "only figures are kept of this run, and it comes out differently today:"
                    f" deltatape backtest reproduce {str(row['backtest_id'])[:8]}"
                )
            page = of_result(made.result)
        else:
            page = stored_report(connection, url, row)
    path = to or wanted.home / "reports" / f"backtest-{row['backtest_id']}.html"
    output.console.print(str(write(path, html(page).encode())), markup=False, soft_wrap=True)


def export(
    backtest_id: RunId,
    to: Annotated[
        Path | None, typer.Option("--to", help="A folder; else one below the home's reports.")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="parquet or csv.")] = "parquet",
) -> None:
    """Write a run's tables as files.

    Fills, positions, equity, days, months, profit by reason, and its figures. Of a run of a sweep that kept
    only its figures there are no more than these.
    """
    from backtest import history
    from backtest.export import export_stored
    from storage.database import connect, require_schema

    wanted = settings.load()
    url = wanted.database()
    with connect(url) as connection:
        require_schema(connection)
        row = _completed(history.run(connection, backtest_id))
        folder = to or wanted.home / "reports" / f"backtest-{row['backtest_id']}"
        paths = export_stored(connection, row, folder, form)
    for path in paths:
        output.console.print(str(path), markup=False, soft_wrap=True)


def _completed(row: dict[str, Any]) -> dict[str, Any]:
    if row["status"] != "completed":
        raise WrongUse(f"this run is {row['status']}: only a completed one has results")
    return row
