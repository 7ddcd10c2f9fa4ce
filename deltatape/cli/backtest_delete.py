"""`deltatape backtest delete`: runs, with everything that belongs to them."""

from typing import Annotated

import typer

from deltatape import settings
from deltatape.cli import output


def delete(
    backtest_ids: Annotated[list[str], typer.Argument(help="Runs, or their beginnings.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, only show what would go.")] = False,
) -> None:
    """Delete runs.

    Their fills, positions and curves go too. All of them or, where one is not there, none.
    """
    from backtest import history
    from deltatape.cli.runs import run_table
    from storage.database import connect, require_schema

    with connect(settings.load().database()) as connection:
        require_schema(connection)
        rows = [history.run(connection, each) for each in backtest_ids]
        if yes:
            history.delete(connection, [row["backtest_id"] for row in rows])
    run_table("deleted" if yes else "would be deleted", rows, empty="")
    if not yes:
        output.say("nothing is deleted yet: add --yes")
