"""Which days of a hypertable the database holds, instrument by instrument, without reading their rows."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from msgspec import Struct
from psycopg import sql

from market import Timeframe, Unavailable
from market.timeframe import DAY, from_datetime, to_datetime
from storage.database import Connection
from storage.past import DayKey, PastTable

__all__ = ["Chunk", "alone", "chunks", "days_in", "series"]


class Chunk(Struct, frozen=True):
    """A chunk of a hypertable: its rows have begin <= timestamp < end, microseconds UTC, whole days."""

    name: str
    begin: int
    end: int


Series = tuple[str, str, str]
"""Exchange id, unified symbol, interval: empty but for candles."""


@contextmanager
def alone(connection: Connection) -> Iterator[None]:
    """Nobody else moves, drops or restores days meanwhile.

    Raises:
        Unavailable: somebody does.
    """
    row = connection.execute("SELECT pg_try_advisory_lock(hashtextextended('past days', 0))").fetchone()
    if row is None or not row[0]:
        raise Unavailable("days are being moved or dropped already: wait until that is done")
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(hashtextextended('past days', 0))")


def series(connection: Connection, table: PastTable) -> list[Series]:
    """Everything that the table may hold rows of."""
    intervals = tuple(Timeframe) if table == "candles" else ("",)
    rows = connection.execute(
        """
        SELECT exchange, symbol FROM instruments
        UNION SELECT exchange, symbol FROM stream_coverage
        UNION SELECT exchange, symbol FROM stream_gaps ORDER BY 1, 2
        """
    )
    return [(exchange, symbol, interval) for exchange, symbol in rows for interval in intervals]


def chunks(connection: Connection, table: PastTable, before: int) -> list[Chunk]:
    """The chunks with days before this time, oldest first."""
    rows = connection.execute(
        """
        SELECT format('%%I.%%I', chunk_schema, chunk_name), range_start, range_end
        FROM timescaledb_information.chunks
        WHERE hypertable_name = %s AND range_start < %s ORDER BY range_start
        """,
        (table, to_datetime(before)),
    )
    return [Chunk(name, from_datetime(begin), from_datetime(end)) for name, begin, end in rows]


def days_in(
    connection: Connection, table: PastTable, chunk: Chunk, until: Sequence[tuple[Series, int]]
) -> list[DayKey]:
    """The days of a chunk that hold rows, of these series and before the time that stands by each."""
    rows = connection.execute(
        sql.SQL("""
            SELECT wanted.exchange, wanted.symbol, wanted.interval, day
            FROM unnest(%(exchanges)s::text[], %(symbols)s::text[], %(intervals)s::text[],
                    %(until)s::timestamptz[]) AS wanted (exchange, symbol, interval, until)
                CROSS JOIN generate_series(%(begin)s, %(last)s, '1 day'::interval) AS day
            WHERE day < until AND EXISTS (
                SELECT FROM {table} AS stored
                WHERE stored.exchange = wanted.exchange AND stored.symbol = wanted.symbol {of_interval}
                    AND stored.timestamp >= day AND stored.timestamp < day + '1 day'::interval
                    AND stored.timestamp >= %(begin)s AND stored.timestamp < %(end)s)
            ORDER BY 1, 2, 3, 4
        """).format(table=sql.Identifier(table), of_interval=_OF_INTERVAL[table == "candles"]),
        {
            "exchanges": [exchange for (exchange, _, _), _ in until],
            "symbols": [symbol for (_, symbol, _), _ in until],
            "intervals": [interval for (_, _, interval), _ in until],
            "until": [to_datetime(time) for _, time in until],
            "begin": to_datetime(chunk.begin),
            "last": to_datetime(chunk.end - DAY),
            "end": to_datetime(chunk.end),
        },
    )
    return [
        DayKey(table, exchange, symbol, interval, from_datetime(day))
        for exchange, symbol, interval, day in rows
    ]


_OF_INTERVAL = {False: sql.SQL(""), True: sql.SQL("AND stored.interval = wanted.interval")}


def remove_days(connection: Connection, chunk: Chunk, table: PastTable, days: Collection[DayKey]) -> None:
    """Remove the rows of these days: the whole chunk where it holds no others.

    Raises:
        psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected: others work on it; some of the rows
            may be there still.
    """
    if not days:
        return
    with connection.transaction():
        connection.execute(_SHORT_WAIT)
        # Nobody adds a row between the look and the drop.
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.SQL(chunk.name)))
        if not _has_others(connection, chunk, table, days):
            connection.execute(
                "SELECT drop_chunks(%s::regclass, %s::timestamptz, newer_than => %s::timestamptz)",
                (table, to_datetime(chunk.end), to_datetime(chunk.begin)),
            )
            return
    delete = sql.SQL("""
        DELETE FROM {table}
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s {of_interval}
            AND timestamp >= %(day)s AND timestamp < %(end)s
    """).format(
        table=sql.Identifier(table),
        of_interval=sql.SQL("AND interval = %(interval)s") if table == "candles" else sql.SQL(""),
    )
    for key in days:
        with connection.transaction():
            connection.execute(_SHORT_WAIT)
            scope = {**key._asdict(), "day": to_datetime(key.day), "end": to_datetime(key.day + DAY)}
            connection.execute(delete, scope)


_SHORT_WAIT = "SET LOCAL lock_timeout = '2s'"
"""Whoever works in an old chunk for longer is not waited for, since all others would wait behind."""


def _has_others(connection: Connection, chunk: Chunk, table: PastTable, days: Collection[DayKey]) -> bool:
    interval = sql.SQL("interval" if table == "candles" else "''")
    row = connection.execute(
        sql.SQL("""
            SELECT EXISTS (
                SELECT FROM {table} WHERE timestamp >= %(begin)s AND timestamp < %(end)s
                    AND (exchange, symbol, {interval}, date_bin('1 day', timestamp, 'epoch')) NOT IN (
                        SELECT * FROM unnest(%(exchanges)s::text[], %(symbols)s::text[],
                            %(intervals)s::text[], %(days)s::timestamptz[])))
        """).format(table=sql.Identifier(table), interval=interval),
        {
            "begin": to_datetime(chunk.begin),
            "end": to_datetime(chunk.end),
            "exchanges": [key.exchange for key in days],
            "symbols": [key.symbol for key in days],
            "intervals": [key.interval for key in days],
            "days": [to_datetime(key.day) for key in days],
        },
    ).fetchone()
    return row is not None and bool(row[0])
