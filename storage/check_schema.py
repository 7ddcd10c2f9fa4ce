"""What the tables themselves promise: that each constraint is there, and that references lead somewhere."""

from collections.abc import Iterator

from psycopg import sql
from sqlalchemy import ForeignKey

from storage.check_rule import Rule
from storage.copy import names
from storage.database import Connection
from storage.tables import metadata

_GONE = "delete those rows: deltatape sql --write, or take them from a backup: deltatape db restore"


def missing_constraints(connection: Connection) -> list[str]:
    """Every constraint of the tables that the database has not, or has not checked on all rows."""
    rows = connection.execute(
        "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE convalidated"
    ).fetchall()
    present = set(rows)
    return [
        f"{table.name}: {constraint.name}"
        for table in metadata.sorted_tables
        for constraint in sorted(table.constraints, key=lambda one: str(one.name))
        if (table.name, str(constraint.name)) not in present
    ]


def references() -> Iterator[Rule]:
    """For each foreign key, the rows whose other end is not there.

    The database refuses them, but not while a restore or a replica has its triggers off.
    """
    for table in metadata.sorted_tables:
        for key in sorted(table.foreign_keys, key=lambda one: one.parent.name):
            yield _reference(key)


def _reference(key: ForeignKey) -> Rule:
    parent, child = key.column.table.name, key.parent.table.name
    query = sql.SQL("""
        SELECT format('{column} %%s', child.{column}) AS example FROM {child} AS child
        WHERE child.{column} IS NOT NULL
            AND NOT EXISTS (SELECT FROM {parent} AS parent WHERE parent.{other} = child.{column})
    """).format(
        child=sql.Identifier(child),
        parent=sql.Identifier(parent),
        column=names([key.parent.name]),
        other=names([key.column.name]),
    )
    return Rule(f"{child} name {parent} that are not there", query, _GONE)
