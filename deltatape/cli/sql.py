"""`deltatape sql`: one SQL statement, its rows as table, JSON or CSV."""

import csv
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from psycopg import Error

app = typer.Typer()

_WIDEST = 100_000
"""Columns of a terminal that would hold any row."""


class Format(StrEnum):
    """How rows are shown."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


@app.command(
    "sql",
    epilog='Example: deltatape sql "SELECT exchange, count(*) FROM trades GROUP BY 1" --format json',
    # A statement may begin with an SQL comment, which looks like an option.
    context_settings={"ignore_unknown_options": True},
)
def sql(
    query: Annotated[str, typer.Argument(help="One SQL statement.")],
    form: Annotated[Format, typer.Option("--format", help="How the rows are shown.")] = Format.TABLE,
    write: Annotated[bool, typer.Option("--write", help="Let the statement change data.")] = False,
) -> None:
    """Run one SQL statement on the database.

    Read-only unless --write is given: the server itself refuses to change anything. Rows that are wider than
    the terminal are shown one below the other, with a line for each column.
    """
    from deltatape import settings

    current = settings.load()
    url = current.database() if write else current.reading()
    names, rows, done = _run(url, query, write=write)
    if form is Format.JSON:
        _print_json(names, rows)
    elif form is Format.CSV:
        _print_csv(names, rows)
    else:
        _print_table(names, rows, done)


def _run(url: str, query: str, *, write: bool) -> tuple[list[str], list[Sequence[Any]], str]:
    """Run `query`: the columns' names, the rows, and what the server calls what it did."""
    from psycopg import Error
    from psycopg.errors import UndefinedTable
    from psycopg.pq import ExecStatus, TransactionStatus

    from market.errors import WrongUse
    from storage.database import connect, require_schema

    with connect(url, application_name="deltatape sql", read_only=not write) as connection:
        try:
            # The first query fixes the transaction's mode: no statement can lift READ ONLY then.
            connection.execute("SELECT 1")
            # Preparing takes one statement only, so none can hide behind another's semicolon.
            cursor = connection.execute(query.encode(), prepare=True)
            if cursor.pgresult is None or cursor.pgresult.status == ExecStatus.EMPTY_QUERY:
                raise WrongUse("no SQL statement given; try: deltatape sql 'SELECT 1'")
            if cursor.description is None:
                return [], [], cursor.statusmessage or ""
            names = [column.name for column in cursor.description]
            return names, list(cursor.fetchall()), cursor.statusmessage or ""
        except UndefinedTable as error:
            connection.rollback()
            require_schema(connection)
            raise _explained(error, write=write) from error
        except Error as error:
            if connection.info.transaction_status == TransactionStatus.ACTIVE:
                connection.close()  # nobody goes on with the COPY that has begun
                raise WrongUse("COPY is not for this: write the query alone, with --format csv") from None
            raise _explained(error, write=write) from error


def _explained(error: "Error", *, write: bool) -> Exception:
    """What went wrong with a statement, in one line."""
    from psycopg import OperationalError, errors

    from market.errors import Unavailable, WrongUse
    from storage.database import reason

    if isinstance(error, errors.ReadOnlySqlTransaction):
        remedy = "this role may only read" if write else "add --write to let it"
        return WrongUse(f"{reason(error)}: {remedy}")
    if isinstance(error, OperationalError) and error.sqlstate is None:
        return Unavailable(f"lost the database: {reason(error)}")
    hint = f" ({error.diag.message_hint})" if error.diag.message_hint else ""
    return WrongUse(f"{reason(error)}{hint}")


def _print_json(names: list[str], rows: list[Sequence[Any]]) -> None:
    from deltatape.cli.output import print_json
    from market.errors import WrongUse

    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise WrongUse(f"two columns are named {twice!r}: name them apart with AS")
    print_json([{name: _plain(cell) for name, cell in zip(names, row, strict=True)} for row in rows])


def _print_csv(names: list[str], rows: list[Sequence[Any]]) -> None:
    if not names:
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_text(cell) for cell in row] for row in rows)


def _print_table(names: list[str], rows: list[Sequence[Any]], done: str) -> None:
    from deltatape.cli.output import console, grid, table

    if not names:
        console.print(done, markup=False)
        return
    cells = [[_text(cell) for cell in row] for row in rows]
    needed = console.measure(
        grid("", names, cells), options=console.options.update(max_width=_WIDEST)
    ).maximum
    if cells and len(names) > 1 and needed > console.width:
        _print_blocks(names, cells)
    else:
        table("", names, cells, empty="no rows")


def _print_blocks(names: list[str], rows: list[list[str]]) -> None:
    """Each row by itself, a line for each column: what as a table would be columns of a few letters."""
    from deltatape.cli.output import console

    width = max(map(len, names))
    for number, row in enumerate(rows, 1):
        console.rule(f"row {number:,}", align="left", style="dim", characters="─")
        for name, cell in zip(names, row, strict=True):
            console.print(f"{name:<{width}}  {cell}".rstrip(), markup=False, soft_wrap=True)


def _plain(cell: Any) -> Any:
    """A cell as JSON has it: what JSON lacks (ranges, addresses, durations) is text."""
    from datetime import date, time
    from decimal import Decimal
    from uuid import UUID

    if isinstance(cell, dict):
        return {str(key): _plain(value) for key, value in cell.items()}
    if isinstance(cell, list | tuple):
        return [_plain(each) for each in cell]
    known = bool | int | float | str | Decimal | datetime | date | time | UUID | None
    return cell if isinstance(cell, known) else _text(cell)


def _text(cell: Any) -> str:
    """A cell as people and CSV see it; NULL is empty, times are ISO 8601 in UTC."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, datetime):
        return cell.isoformat().replace("+00:00", "Z")
    if isinstance(cell, bytes):
        return f"\\x{cell.hex()}"
    if isinstance(cell, dict | list):
        return json.dumps(_plain(cell), default=_text, ensure_ascii=False)
    return str(cell)
