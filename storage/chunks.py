"""Chunks of hypertables: how they are compressed, which are not yet, and the room that they take."""

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec import Struct
from psycopg import errors, sql

from market.timeframe import from_datetime, to_datetime
from storage.database import Connection

__all__ = [
    "COLUMNSTORE",
    "LOCK_WAIT",
    "Chunk",
    "Columnstore",
    "reclaim",
    "size",
    "uncompressed",
    "unreclaimed",
]

LOCK_WAIT = "2s"
"""For so long a lock is waited for, since others wait for whoever waits."""
_LITTLE = 128 * 1024
"""Bytes of an empty chunk's indexes, at most."""
_COMPRESSED, _UNORDERED, _PARTIAL = 1, 2, 8
"""What TimescaleDB's status of a chunk is made of: the latter two say that rows came in since."""


@dataclass(frozen=True, slots=True)
class Columnstore:
    """How a table is compressed: rows of equal `segments` lie together in `order`, so many in a `batch`.

    A larger batch takes less room. A single row of it unpacks the whole batch, which tells with JSON only.
    """

    segments: tuple[str, ...]
    order: tuple[str, ...] = ("timestamp",)
    batch: int = 10_000


_INSTRUMENT = ("exchange", "symbol")
COLUMNSTORE: Mapping[str, Columnstore] = {
    "trades": Columnstore(_INSTRUMENT, ("timestamp", "trade_seq"), batch=30_000),
    "orderbook_snapshots": Columnstore(_INSTRUMENT, batch=4_000),
    "candles": Columnstore((*_INSTRUMENT, "interval")),
    "cvd_snapshots": Columnstore(_INSTRUMENT),
    "indicators": Columnstore((*_INSTRUMENT, "interval", "name")),
}
"""The tables that are compressed. Funding rates are few, and metrics are dropped soon: both stay plain."""


class Chunk(Struct, frozen=True):
    """A chunk of a hypertable: its rows have begin <= timestamp < end, microseconds UTC."""

    table: str
    name: str
    begin: int
    end: int
    bytes: int


def uncompressed(connection: Connection, before: int) -> list[Chunk]:
    """The chunks that end by `before` and are not compressed, or not any more since rows came in."""
    rows = connection.execute(
        """
        SELECT hypertable_name, name, range_start, range_end, total_bytes
        FROM timescaledb_information.chunks
        JOIN (
            SELECT size.* FROM unnest(%(tables)s::text[]) AS tables (name)
                CROSS JOIN chunks_detailed_size(name::regclass) AS size
        ) AS sizes USING (chunk_schema, chunk_name)
        CROSS JOIN format('%%I.%%I', chunk_schema, chunk_name) AS name
        WHERE range_end <= %(before)s AND hypertable_name = ANY (%(tables)s)
            AND _timescaledb_functions.chunk_status(name::regclass) & %(mask)s <> %(compressed)s
        ORDER BY array_position(%(tables)s, hypertable_name::text), range_start
        """,
        {
            "tables": list(COLUMNSTORE),
            "before": to_datetime(before),
            "mask": _COMPRESSED | _UNORDERED | _PARTIAL,
            "compressed": _COMPRESSED,
        },
    )
    return [Chunk(row[0], row[1], from_datetime(row[2]), from_datetime(row[3]), row[4]) for row in rows]


def size(connection: Connection, chunk: Chunk) -> int:
    """The bytes that a chunk takes on disk now, with its indexes."""
    row = connection.execute(
        """
        SELECT total_bytes FROM chunks_detailed_size(%s::regclass)
        WHERE format('%%I.%%I', chunk_schema, chunk_name) = %s
        """,
        (chunk.table, chunk.name),
    ).fetchone()
    return 0 if row is None else int(row[0])


def reclaim(connection: Connection, chunk: str) -> None:
    """Give back the room that the rows of a compressed chunk took, unless somebody could still see them.

    Args:
        connection: with autocommit.
        chunk: its name.
    """
    connection.execute(sql.SQL("SET lock_timeout = {}").format(LOCK_WAIT))
    try:
        connection.execute(f"VACUUM {chunk}".encode())
        row = connection.execute("SELECT pg_relation_size(%s::regclass)", [chunk]).fetchone()
        # Of no rows an index is made at once.
        if row is not None and row[0] == 0:
            connection.execute(f"REINDEX TABLE {chunk}".encode())
    except (errors.LockNotAvailable, errors.DeadlockDetected):
        pass  # the next run tries again
    finally:
        connection.execute("RESET lock_timeout")


def unreclaimed(connection: Connection) -> list[str]:
    """The names of compressed chunks that still have the room of their rows."""
    rows = connection.execute(
        """
        SELECT name FROM timescaledb_information.chunks
        CROSS JOIN format('%%I.%%I', chunk_schema, chunk_name) AS name
        WHERE hypertable_name = ANY (%(tables)s)
            AND _timescaledb_functions.chunk_status(name::regclass) & %(mask)s = %(compressed)s
            AND pg_relation_size(name::regclass) + pg_indexes_size(name::regclass) > %(little)s
        """,
        {
            "tables": list(COLUMNSTORE),
            "mask": _COMPRESSED | _UNORDERED | _PARTIAL,
            "compressed": _COMPRESSED,
            "little": _LITTLE,
        },
    )
    return [name for (name,) in rows]
