"""Compressing settled chunks, where the server is TimescaleDB's Community edition.

TimescaleDB's own policy goes by age alone; here a chunk waits until no hole of its time is open any more.
Healing and rebuilding work inside compressed chunks as everywhere: what they change is unpacked, and the next
run compresses it again.
"""

from collections.abc import Callable
from typing import Literal

from msgspec import Struct
from psycopg import errors, sql

from market import DAY, Unavailable
from market.timeframe import to_datetime
from storage.chunk_compression import Busy, compress
from storage.chunks import (
    COLUMNSTORE,
    LOCK_WAIT,
    Chunk,
    reclaim,
    size,
    uncompressed,
    unreclaimed,
)
from storage.database import Connection, connect, edition, require_schema
from storage.holes import OPEN, list_holes

__all__ = ["Compression", "compress_settled"]

SETTLED = 2 * DAY
"""Microseconds after its end for which a chunk is left alone."""

Outcome = Literal["compressed", "due", "waiting", "busy", "refused"]
Progress = Callable[[int, int, str], None]
"""Told how many chunks are done, of how many, and which is next."""


class Compression(Struct, frozen=True, kw_only=True):
    """What became of a chunk.

    Attributes:
        chunk: which one, as it was.
        outcome: `compressed`; `due`: it would be, and this is a dry run; `waiting`: a hole of its time is
            open; `busy`: others work on it, the next run tries again; `refused`: its rows would not have been
            the same, so it is as it was.
        rows: how many it holds; None where it was not read.
        bytes: its size on disk afterwards, with its indexes.
        note: why it was not compressed.
    """

    chunk: Chunk
    outcome: Outcome
    rows: int | None = None
    bytes: int
    note: str | None = None


def compress_settled(
    url: str, now: int, *, is_dry_run: bool = False, progress: Progress = lambda *_: None
) -> list[Compression]:
    """Compress every chunk that ended 48 hours ago and in whose time no hole is open.

    Each chunk is a transaction of its own, so a run may be ended at any time.

    Args:
        url: the database.
        now: microseconds UTC.
        is_dry_run: only say what would be done.
        progress: told how far it is.

    Returns:
        The chunks that were not compressed, or not any more, by table and time, and what became of each.

    Raises:
        Unavailable: the database does not answer or is not of the Community edition, or another run is on.
    """
    with connect(url, application_name="deltatape compress", autocommit=True) as connection:
        require_schema(connection)
        _require_community(connection)
        _require_alone(connection)
        if not is_dry_run:
            _prepare(connection)
            for name in unreclaimed(connection):
                reclaim(connection, name)
        chunks = uncompressed(connection, now - SETTLED)
        done = []
        for number, chunk in enumerate(chunks):
            progress(number, len(chunks), f"{chunk.table} {to_datetime(chunk.begin):%Y-%m-%d}")
            done.append(_handle(connection, url, chunk, is_dry_run=is_dry_run))
        progress(len(chunks), len(chunks), "done")
    return done


def _require_community(connection: Connection) -> None:
    if edition(connection) == "apache":
        raise Unavailable(
            "this server is TimescaleDB's Apache edition, which cannot compress; its Community edition can:"
            " docker compose up -d db, and point DELTATAPE_DATABASE_URL at it"
        )


def _require_alone(connection: Connection) -> None:
    row = connection.execute("SELECT pg_try_advisory_lock(hashtextextended('compress', 0))").fetchone()
    if row is None or not row[0]:
        raise Unavailable("chunks are being compressed already: wait for the end of that")


def _prepare(connection: Connection) -> None:
    """Say to TimescaleDB how each table is to be compressed, where it does not know that yet."""
    rows = connection.execute(
        "SELECT hypertable::text, segmentby FROM timescaledb_information.hypertable_columnstore_settings"
    )
    known: dict[str, str] = dict(rows.fetchall())
    for table, layout in COLUMNSTORE.items():
        segments, order = ",".join(layout.segments), ",".join(layout.order)
        if known.get(table) == segments:
            continue
        settings = sql.SQL(
            "ALTER TABLE {} SET (timescaledb.compress, timescaledb.compress_segmentby = {},"
            " timescaledb.compress_orderby = {})"
        ).format(sql.Identifier(table), segments, order)
        try:
            with connection.transaction():
                connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_WAIT))
                connection.execute(settings)
        except (errors.LockNotAvailable, errors.DeadlockDetected):
            raise Unavailable(f"{table} is in use, its first compression needs a moment: try again") from None


def _handle(connection: Connection, url: str, chunk: Chunk, *, is_dry_run: bool) -> Compression:
    holes = list_holes(connection, begin=chunk.begin, end=chunk.end, statuses=OPEN)
    if holes:
        note = f"{len(holes):,} open hole{'s' * (len(holes) > 1)} in its time: deltatape gaps"
        return Compression(chunk=chunk, outcome="waiting", bytes=chunk.bytes, note=note)
    if is_dry_run:
        return Compression(chunk=chunk, outcome="due", bytes=chunk.bytes)
    try:
        proof = compress(url, chunk)
    except Busy:
        note = "others work on it: the next run tries again"
        return Compression(chunk=chunk, outcome="busy", bytes=chunk.bytes, note=note)
    if proof.difference is None:
        reclaim(connection, chunk.name)
    done = Compression(
        chunk=chunk,
        outcome="compressed" if proof.difference is None else "refused",
        rows=proof.rows,
        bytes=size(connection, chunk),
        note=proof.difference,
    )
    _record(connection, done)
    return done


def _record(connection: Connection, done: Compression) -> None:
    chunk = done.chunk
    connection.execute(
        """
        INSERT INTO compressions (table_name, chunk_name, from_timestamp, to_timestamp, outcome, row_count,
            bytes_before, bytes_after, note)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
        """,
        (
            chunk.table,
            chunk.name,
            to_datetime(chunk.begin),
            to_datetime(chunk.end),
            done.outcome,
            done.rows,
            chunk.bytes,
            done.bytes,
            done.note,
        ),
    )
