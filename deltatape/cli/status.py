"""`deltatape status`: what is stored, how fresh it is, and what runs."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from msgspec import structs

from deltatape import settings
from deltatape.cli import output
from storage import database, overview

app = typer.Typer()


@app.command(epilog="Example: deltatape status --json")
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the rows of each table, each instrument's tape with its age and holes, and what runs."""
    with database.connect(settings.load().database()) as connection:
        database.require_schema(connection)
        rows = overview.row_counts(connection)
        tapes = overview.instrument_tapes(connection)
        workers = overview.workers(connection)
        size = overview.database_bytes(connection)
    now = datetime.now(UTC)
    if as_json:
        output.print_json(
            {
                "rows": rows,
                "instruments": [
                    structs.asdict(tape) | {"age_seconds": (now - tape.to_timestamp).total_seconds()}
                    for tape in tapes
                ],
                "running": workers,
                "bytes": size,
            }
        )
        return
    output.table(
        f"stored ({size / 1e6:,.0f} MB)",
        ["table", "rows"],
        [(n, f"{c:,}") for n, c in rows.items()],
        empty="",
    )
    output.table(
        "tape",
        ["exchange", "symbol", "source", "price", "trades", "from", "to", "age", "spans", "open gaps"],
        [
            (
                tape.exchange,
                tape.symbol,
                "+".join(tape.origins),
                tape.last_price,
                f"{tape.rows:,}",
                f"{tape.from_timestamp:%Y-%m-%d %H:%M:%S}",
                f"{tape.to_timestamp:%Y-%m-%d %H:%M:%S}",
                output.age((now - tape.to_timestamp).total_seconds()),
                tape.spans,
                tape.open_gaps,
            )
            for tape in tapes
        ],
        empty="nothing on the tape yet: deltatape collect, deltatape replay or make run fills it",
    )
    output.console.print("running: " + (", ".join(workers) or "nothing; deltatape up starts everything"))
