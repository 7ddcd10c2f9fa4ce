"""A whole database into another one: between servers of any version and edition that Deltatape knows.

Rows go from COPY to COPY in PostgreSQL's binary format, as one state of the source, and stand in the target
all or not at all. Then each table of both is counted and hashed, row by row.
"""

from collections.abc import Callable
from contextlib import ExitStack

from msgspec import Struct
from psycopg import IsolationLevel, sql

from market.errors import Unavailable, WrongUse
from storage.copy import names
from storage.database import Connection, connect, describe, require_schema
from storage.streams import lock_holders
from storage.tables import metadata

# A sweep names its best run, and the run its sweep: the name follows once both are there.
_LATER = ("sweeps", "best_backtest_id", "id")


class Moved(Struct, frozen=True):
    """A table that stands in the target with as many rows as in the source, each the same."""

    table: str
    rows: int


def copy_database(source: str, target: str, report: Callable[[str], None]) -> list[Moved]:
    """Copy every row of one database into an empty one at the same schema revision.

    Raises:
        WrongUse: a collector writes the source, or the target holds rows.
        Unavailable: one does not answer, or has other tables; or a row differs, and nothing was copied.
    """
    with ExitStack() as stack:
        here = stack.enter_context(connect(source, application_name="deltatape db copy", read_only=True))
        there = stack.enter_context(connect(target, application_name="deltatape db copy"))
        here.isolation_level = IsolationLevel.REPEATABLE_READ
        for connection in (here, there):
            require_schema(connection)
        if writers := lock_holders(here):
            who = f"{writers[0].exchange} {writers[0].symbol}"
            raise WrongUse(
                f"a collector writes {who}: stop it first, or what it still writes would be missing"
            )
        tables = [table.name for table in metadata.sorted_tables]
        if full := next((table for table in tables if _has_rows(there, table)), None):
            raise WrongUse(f"{describe(target)} has rows in {full}: name an empty one")
        for table in tables:
            report(f"Copying {table} …")
            _copy(here, there, table)
        _copy_later(here, there)
        moved = []
        report("Comparing each row …")
        for table in tables:
            moved.append(_compared(here, there, table))
            _set_sequence(there, table)
    return moved


def _has_rows(connection: Connection, table: str) -> bool:
    query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(table))
    row = connection.execute(query).fetchone()
    return bool(row and row[0])


def _columns(table: str) -> list[str]:
    """The columns that are not computed from others."""
    return [
        column.name
        for column in metadata.tables[table].c
        if column.computed is None and (table, column.name) != _LATER[:2]
    ]


def _copy(here: Connection, there: Connection, table: str) -> None:
    columns, name = names(_columns(table)), sql.Identifier(table)
    # A hypertable itself holds nothing: its chunks are read by a query.
    read = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT BINARY)").format(columns, name)
    write = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(name, columns)
    with (
        here.cursor() as reader,
        there.cursor() as writer,
        reader.copy(read) as rows,
        writer.copy(write) as into,
    ):
        for piece in rows:
            into.write(piece)


def _copy_later(here: Connection, there: Connection) -> None:
    table, column, key = map(sql.Identifier, _LATER)
    chosen = here.execute(
        sql.SQL("SELECT {0}, {1} FROM {2} WHERE {0} IS NOT NULL").format(column, key, table)
    ).fetchall()
    update = sql.SQL("UPDATE {} SET {} = %s WHERE {} = %s").format(table, column, key)
    with there.cursor() as cursor:
        cursor.executemany(update, chosen)


def _compared(here: Connection, there: Connection, table: str) -> Moved:
    """How many rows the table has on both sides.

    Raises:
        Unavailable: a row differs.
    """
    columns = names([column.name for column in metadata.tables[table].c])
    query = sql.SQL(
        "SELECT count(*), coalesce(sum(hashtextextended(ROW ({})::text, 0)::numeric), 0) FROM {}"
    ).format(columns, sql.Identifier(table))
    ours, theirs = here.execute(query).fetchone(), there.execute(query).fetchone()
    if ours is None or ours != theirs:
        raise Unavailable(f"the copy of {table} is not what was read: nothing was copied")
    return Moved(table, int(ours[0]))


def _set_sequence(connection: Connection, table: str) -> None:
    """Let new rows be numbered after those that came along."""
    if metadata.tables[table].c.get("id") is None or not metadata.tables[table].c.id.identity:
        return
    connection.execute(
        sql.SQL("SELECT setval(pg_get_serial_sequence(%s, 'id'), max(id)) FROM {} HAVING max(id) > 0").format(
            sql.Identifier(table)
        ),
        [table],
    )
