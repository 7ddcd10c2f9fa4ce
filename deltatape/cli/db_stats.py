"""`deltatape db stats`: the room that each table takes, and will take."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from deltatape import settings
from deltatape.cli import output

if TYPE_CHECKING:
    from storage.sizes import TableSize


def stats(
    as_json: Annotated[bool, typer.Option("--json", help="Print every table as JSON.")] = False,
) -> None:
    """Show each table's rows and bytes, and how they grow.

    What one more day of tape takes is measured on the newest two weeks, and counted as compressed where older
    chunks are.
    """
    from storage import database, sizes

    url = settings.load().database()
    with database.connect(url, application_name="deltatape db stats", read_only=True) as connection:
        database.require_schema(connection)
        found = sizes.table_sizes(connection)
        can_compress = database.edition(connection) == "timescale"
    if as_json:
        output.print_json({"tables": found, "bytes": sum(each.bytes for each in found)})
        return
    _show(found)
    if can_compress and any(each.ratio is None and each.bytes_per_day for each in found):
        output.console.print("what is not compressed yet: deltatape db compress", style="dim", soft_wrap=True)


def _show(found: "list[TableSize]") -> None:
    held = [each for each in found if each.rows]
    growth = [each.bytes_per_day for each in held if each.bytes_per_day is not None]
    total = (
        "all of them",
        "",
        output.size(sum(each.bytes for each in held)),
        "",
        output.size(sum(growth)) if growth else "–",
        output.size(sum(each.bytes_in_a_year for each in held)),
    )
    output.table(
        "tables, the largest first",
        ["table", "rows", "size", "compressed", "a day takes", "in a year"],
        [list(map(_right, row)) for row in [*map(_row, held), total]] if held else [],
        empty="nothing stored yet: deltatape collect, deltatape replay or make run fills it",
    )


def _row(size: "TableSize") -> tuple[str, ...]:
    return (
        size.table,
        f"{size.rows:,}",
        output.size(size.bytes),
        "–" if size.ratio is None else f"{size.ratio:.1f} ×",
        "–" if size.bytes_per_day is None else output.size(size.bytes_per_day),
        output.size(size.bytes_in_a_year),
    )


def _right(cell: str) -> Text:
    return Text(cell, justify="left" if cell[:1].isalpha() else "right")
