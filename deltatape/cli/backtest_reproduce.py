"""`deltatape backtest reproduce`: a stored run made anew, and compared bit by bit."""

from typing import TYPE_CHECKING, Annotated

import typer

from deltatape import settings
from deltatape.cli import output

if TYPE_CHECKING:
    from backtest.reproduce import Difference, Reproduction


def reproduce(
    backtest_id: Annotated[str, typer.Argument(help="The run's id, or its beginning.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run a stored run again and compare.

    Every fill and every day's equity must be the same, bit by bit, or the exit code is 1. Nothing is stored.
    What the run rests on (data, code, machine) is compared as well.
    """
    from backtest import history
    from backtest.reproduce import reproduce as again
    from deltatape.recordings import recorded_again
    from storage.database import connect, require_schema

    wanted = settings.load()
    url = wanted.database()
    with connect(url) as connection:
        require_schema(connection)
        row = history.run(connection, backtest_id)
    made = again(url, row, wanted.signals, recorded_again)
    if as_json:
        document = {
            "backtest_id": row["backtest_id"],
            "is_same": made.is_same,
            "causes": [_plain(each) for each in made.causes],
            "effects": [_plain(each) for each in made.effects],
        }
        output.print_json(document)
    else:
        _show(str(row["backtest_id"]), made)
    if not made.is_same:
        raise typer.Exit(1)


def _plain(difference: "Difference") -> dict[str, str]:
    return {"what": difference.what, "stored": difference.stored, "now": difference.now}


def _show(run_id: str, made: "Reproduction") -> None:
    fills = len(made.result.record.fills)
    if made.is_same:
        output.console.print(
            f"run {run_id}: all {fills:,} fills and every day's equity are the same, bit by bit"
        )
    else:
        output.console.print(f"run {run_id} came out differently")
    for title, differences, empty in (
        ("what it rests on, as it was and is", made.causes, "data, code and machine are the same"),
        ("what came out", made.effects, ""),
    ):
        rows = [(each.what, each.stored, each.now) for each in differences]
        if rows or empty:
            output.table(title, ["", "stored", "now"], rows, empty)
