"""Who works on a run or sweep right now; what was killed is marked, and never passes for one at work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from uuid import UUID

    from storage.database import Connection

_ENDINGS = (
    ("backtest_runs", "backtest_id", "error = 'its process was killed'"),
    ("sweeps", "id", "statistics = jsonb_build_object('error', 'its process was killed')"),
)
_MARK = """
    UPDATE {table} SET status = 'failed', {ending} WHERE status = 'running' AND NOT EXISTS (
        SELECT FROM pg_locks AS lock
        WHERE lock.locktype = 'advisory' AND lock.granted AND lock.objsubid = 1
            AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND ((lock.classid::bigint << 32) | lock.objid::bigint) = hashtextextended({key}::text, 0))
"""


def claim(connection: Connection, id_: UUID) -> None:
    """Show that a run or sweep is at work for as long as this session lasts."""
    connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (str(id_),))


def mark_killed(connection: Connection) -> None:
    """Mark every run and sweep that stands there as running though its session is gone as failed; commits."""
    for table, key, ending in _ENDINGS:
        names = {"table": sql.Identifier(table), "key": sql.Identifier(key), "ending": sql.SQL(ending)}
        connection.execute(sql.SQL(_MARK).format(**names))
    connection.commit()
