"""`deltatape db check`: the integrity of the whole database."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import structs

from deltatape import settings
from deltatape.cli import output
from deltatape.cli.verify import parse_range
from market import format_time

if TYPE_CHECKING:
    from storage.check import Checked


def check(
    begin: Annotated[
        str | None, typer.Option("--from", help="Market data from the UTC day of this date or time on.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="Market data before this date or time (UTC).")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="All of the tape, and the levels of every book snapshot.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check that the rows of all tables fit together.

    Nothing is written. Looked at: references that lead nowhere, constraints, spans and holes, the order of
    trades and CVD, each candle against itself and the next lower timeframe, books, and the money of positions
    and backtests. Market data of the last 7 days of the tape, and the levels of one book snapshot in 61,
    unless --from or --full say otherwise. That the tape is whole and its sums right is proven by deltatape
    verify.

    Exit code 1 when something is wrong. A live collector may run meanwhile.
    """
    from storage import check as checks
    from storage import database

    first, last = parse_range(begin, end)
    url = settings.load().database()
    with (
        database.connect(url, application_name="deltatape db check", read_only=True) as connection,
        output.steps("questions", "reading the ledger") as progress,
    ):
        database.require_schema(connection)
        connection.rollback()
        found = checks.check(connection, first, last, full=full, progress=progress)
    if as_json:
        output.print_json(_record(found))
    else:
        _show(found)
    if found.broken:
        raise typer.Exit(1)


def _record(found: "Checked") -> dict[str, Any]:
    return {
        "ok": not found.broken,
        "from": None if found.begin is None else format_time(found.begin),
        "to": None if found.end is None else format_time(found.end),
        "rules": found.rules,
        "broken": [structs.asdict(one) for one in found.broken],
    }


def _show(found: "Checked") -> None:
    for one in found.broken:
        output.console.print(f"✗ {one.rule}: {one.count:,}", style="red", markup=False, soft_wrap=True)
        more = ", …" if one.count > len(one.examples) else ""
        output.console.print(f"  {'; '.join(one.examples)}{more}", markup=False, soft_wrap=True)
        output.console.print(f"  → {one.fix}", markup=False, soft_wrap=True)
    span = "no market data is there"
    if found.begin is not None and found.end is not None:
        span = f"market data from {format_time(found.begin)[:10]} to {format_time(found.end)[:10]}"
    if found.broken:
        text = f"✗ {len(found.broken):,} of {found.rules:,} rules do not hold; {span}"
        output.console.print(text, style="red", soft_wrap=True)
    else:
        output.console.print(f"✓ all {found.rules:,} rules hold; {span}", style="green", soft_wrap=True)
