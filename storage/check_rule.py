"""What a rule of the database is."""

from typing import NamedTuple

from psycopg import sql

from storage.database import Connection

EXAMPLES = 3
"""Rows that are named of those that break a rule."""


class Rule(NamedTuple):
    """A sentence that says what is wrong where rows break it, the query that lists them, and the remedy.

    The query has one column, `example`: a text that names the row. Rules of market data take the parameters
    `from`, `to` (UTC days) and `sample`.
    """

    name: str
    query: sql.SQL | sql.Composed
    fix: str


def ask(connection: Connection, rule: Rule, scope: dict[str, object]) -> tuple[int, list[str]]:
    """How many rows break a rule, and the first of them.

    Args:
        connection: its transaction is the caller's.
        rule: what to ask.
        scope: the parameters of its query.
    """
    query = sql.SQL(
        "WITH bad AS MATERIALIZED ({}) SELECT (SELECT count(*) FROM bad), example FROM bad LIMIT {}"
    ).format(rule.query, sql.Literal(EXAMPLES))
    rows = connection.execute(query, scope).fetchall()
    return (int(rows[0][0]), [str(example) for _, example in rows]) if rows else (0, [])
