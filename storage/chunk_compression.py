"""Compressing one chunk so that no value is lost.

It is read before and after, in the transaction that compresses it. Unless every value of every row is the
same, the transaction is rolled back.
"""

from collections.abc import Mapping

import adbc_driver_manager
import adbc_driver_postgresql.dbapi as adbc
import polars as pl
from msgspec import Struct
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sqlalchemy.dialects.postgresql import JSONB

from market import Unavailable
from market.timeframe import DAY, to_datetime
from storage.chunks import COLUMNSTORE, LOCK_WAIT, Chunk
from storage.fingerprint import Fingerprint, of_frame
from storage.tables import metadata

__all__ = ["Busy", "Proof", "compress"]

_BUSY = ("40P01", "55P03", "42P01")
"""What the server says where two wait for each other, one waited for too long, or the chunk was dropped."""
_CONNECT_SECONDS = 10

_Day = tuple[str, str, int]
"""Exchange id, unified symbol, 00:00 UTC in microseconds: what is read at a time."""


class Busy(Exception):
    """Others work on a chunk; nothing was done."""


class Proof(Struct, frozen=True):
    """How many rows a chunk holds, and what would not have been the same: then it is as it was."""

    rows: int
    difference: str | None


def compress(url: str, chunk: Chunk) -> Proof:
    """Compress a chunk, unless its rows would not be the same.

    Nobody writes into it meanwhile, and everybody can read it; a transaction that has read it must end first.
    `reclaim` its room afterwards.

    Raises:
        Busy: somebody works on it.
        Unavailable: the server fails, or has no room left.
    """
    info = make_conninfo(url, connect_timeout=_CONNECT_SECONDS, application_name="deltatape compress")
    try:
        # It all happens in one transaction, which closing ends without a trace.
        with adbc.connect(info) as session, session.cursor() as cursor:
            _rows(cursor, _settings(chunk))
            cursor.execute(f"LOCK TABLE {chunk.name} IN EXCLUSIVE MODE")
            before = _fingerprints(cursor, chunk)
            _rows(cursor, sql.SQL("SELECT compress_chunk({})::text").format(chunk.name))
            difference = _difference(before, _fingerprints(cursor, chunk))
            if difference is None:
                # A statement that was planned on the rows must not find them gone.
                cursor.execute(f"LOCK TABLE {chunk.name} IN ACCESS EXCLUSIVE MODE")
                session.commit()
    except adbc_driver_manager.Error as error:
        if error.sqlstate in _BUSY:
            raise Busy from error
        said = str(error).strip().splitlines()[0].removeprefix("IO: [libpq] ")
        raise Unavailable(f"cannot compress {chunk.name} of {chunk.table}: {said}") from error
    return Proof(sum(each.rows for each in before.values()), difference)


def _settings(chunk: Chunk) -> sql.Composed:
    """Sets what holds for this transaction; an older TimescaleDB does not know all of it."""
    settings = {
        "lock_timeout": LOCK_WAIT,
        "timescaledb.compression_batch_size_limit": str(COLUMNSTORE[chunk.table].batch),
        # They would find a trade by its id alone, and take a tenth of the room.
        "timescaledb.auto_sparse_indexes": "off",
        # To cut the rows off would shut out every reader until the proof is done.
        "timescaledb.compress_truncate_behaviour": "truncate_disabled",
    }
    rows = [sql.SQL("({}, {})").format(name, value) for name, value in settings.items()]
    return sql.SQL("""
        SELECT set_config(name, value, true) FROM (VALUES {}) AS wanted (name, value)
        JOIN pg_settings USING (name)
    """).format(sql.SQL(", ").join(rows))


def _fingerprints(cursor: adbc.Cursor, chunk: Chunk) -> dict[_Day, Fingerprint]:
    """The rows of a chunk, instrument by instrument and day by day, as everybody reads them."""
    span = sql.SQL("timestamp >= {} AND timestamp < {}")
    table = sql.Identifier(chunk.table)
    days = _rows(
        cursor,
        sql.SQL("""
            SELECT DISTINCT exchange, symbol, date_bin('1 day', timestamp, 'epoch') AS day FROM {} WHERE {}
            ORDER BY exchange, symbol, day
        """).format(table, span.format(to_datetime(chunk.begin), to_datetime(chunk.end))),
    )
    found = {}
    for exchange, symbol, day in days.with_columns(pl.col("day").to_physical()).iter_rows():
        begin, end = max(day, chunk.begin), min(day + DAY, chunk.end)
        rows = sql.SQL("SELECT {} FROM {} WHERE exchange = {} AND symbol = {} AND {} ORDER BY {}").format(
            _columns(chunk.table),
            table,
            exchange,
            symbol,
            span.format(*map(to_datetime, (begin, end))),
            _order(chunk.table),
        )
        found[exchange, symbol, day] = of_frame(_rows(cursor, rows))
    return found


def _columns(table: str) -> sql.Composed:
    """Every column, as a type that Arrow knows."""
    return sql.SQL(", ").join(
        sql.SQL("{0}::text AS {0}" if isinstance(column.type, JSONB) else "{0}").format(
            sql.Identifier(column.name)
        )
        for column in metadata.tables[table].columns
    )


def _order(table: str) -> sql.Composed:
    """Tape order; where that leaves two rows equal, the key."""
    layout = COLUMNSTORE[table]
    key = [column.name for column in metadata.tables[table].primary_key]
    return sql.SQL(", ").join(map(sql.Identifier, dict.fromkeys((*layout.segments, *layout.order, *key))))


def _rows(cursor: adbc.Cursor, query: sql.Composed) -> pl.DataFrame:
    cursor.execute(query.as_string())
    frame = pl.from_arrow(cursor.fetch_arrow_table())
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - a table becomes a frame
    return frame


def _difference(before: Mapping[_Day, Fingerprint], after: Mapping[_Day, Fingerprint]) -> str | None:
    """The first instrument and day whose rows differ, in words."""
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        exchange, symbol, day = key
        counts = [0 if each is None else each.rows for each in (old, new)]
        what = "other values" if counts[0] == counts[1] else f"{counts[1]:,} of {counts[0]:,} rows"
        return f"compressed, {exchange} {symbol} {to_datetime(day):%Y-%m-%d} would have {what}"
    return None
