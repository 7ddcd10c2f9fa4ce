"""How much room each table takes, and how much it will take."""

from collections.abc import Mapping, Sequence

from msgspec import Struct
from psycopg import sql

from market import DAY
from market.timeframe import from_datetime, to_datetime
from storage.coverage import Stream
from storage.database import Connection, edition
from storage.overview import count_rows
from storage.tables import metadata

__all__ = ["TableSize", "table_sizes"]

YEAR = 365
_WINDOW = 14 * DAY
"""The growth is that of the newest chunks that end in this time."""
_LEAST = DAY // 24
"""Of rows of less time nothing is foretold: it would be the room that every chunk takes."""
_STREAMS: Mapping[str, Sequence[Stream]] = {
    "trades": ("trades",),
    "orderbook_snapshots": ("book",),
    "cvd_snapshots": ("trades",),
    "candles": ("trades", "candles"),
    "indicators": ("trades", "candles"),
}
"""Whose coverage tells how much time a table's rows are of; of the others their own times do."""


class TableSize(Struct, frozen=True, kw_only=True):
    """What a table takes on disk, with its indexes.

    Attributes:
        table: its name.
        rows: how many; of a large table an estimate.
        bytes: as it lies there now.
        ratio: how many times smaller compression made the chunks that are compressed; None without any.
        bytes_per_day: what one more day of tape takes, once it is compressed where others are; None where
            the rows are of less than an hour, or nothing says of how much time they are.
        bytes_in_a_year: what it takes then, if it goes on like that and nothing is dropped.
    """

    table: str
    rows: int
    bytes: int
    ratio: float | None
    bytes_per_day: float | None
    bytes_in_a_year: float


class _Chunk(Struct, frozen=True):
    """A chunk's time in microseconds UTC and its sizes; the last two only where it is compressed."""

    begin: int
    end: int
    bytes: int
    before: int | None
    after: int | None


def table_sizes(connection: Connection) -> list[TableSize]:
    """Every table of Deltatape, the largest first."""
    can_compress = edition(connection) == "timescale"
    found = [_measure(connection, name, can_compress=can_compress) for name in metadata.tables]
    return sorted(found, key=lambda size: (-size.bytes, size.table))


def _measure(connection: Connection, name: str, *, can_compress: bool) -> TableSize:
    chunks = _chunks(connection, name, can_compress=can_compress)
    packed = [(chunk.before, chunk.after) for chunk in chunks if chunk.before and chunk.after]
    ratio = sum(before for before, _ in packed) / sum(after for _, after in packed) if packed else None
    growth = _growth(connection, name, chunks, ratio or 1.0)
    size = _total(connection, name)
    return TableSize(
        table=name,
        rows=count_rows(connection, name),
        bytes=size,
        ratio=ratio,
        bytes_per_day=growth,
        bytes_in_a_year=size + YEAR * (growth or 0.0),
    )


def _total(connection: Connection, name: str) -> int:
    row = connection.execute(
        "SELECT coalesce(hypertable_size(to_regclass(%(name)s)), pg_total_relation_size(%(name)s::regclass))",
        {"name": name},
    ).fetchone()
    return 0 if row is None else int(row[0])


def _chunks(connection: Connection, name: str, *, can_compress: bool) -> list[_Chunk]:
    """The chunks of a hypertable, oldest first; none of another table."""
    # Only the Community edition has the function.
    stats = sql.SQL(
        "SELECT * FROM chunk_compression_stats(%(name)s::regclass)"
        if can_compress
        else "SELECT chunk_schema, chunk_name, NULL::bigint AS before_compression_total_bytes,"
        " NULL::bigint AS after_compression_total_bytes FROM timescaledb_information.chunks"
    )
    query = sql.SQL("""
        SELECT range_start, range_end, total_bytes, before_compression_total_bytes,
            after_compression_total_bytes
        FROM timescaledb_information.chunks
        JOIN chunks_detailed_size(%(name)s::regclass) USING (chunk_schema, chunk_name)
        LEFT JOIN ({}) AS stats USING (chunk_schema, chunk_name)
        ORDER BY range_start
    """).format(stats)
    if not _is_hypertable(connection, name):
        return []
    return [
        _Chunk(from_datetime(begin), from_datetime(end), size, before, after)
        for begin, end, size, before, after in connection.execute(query, {"name": name})
    ]


def _is_hypertable(connection: Connection, name: str) -> bool:
    found = connection.execute(
        "SELECT FROM timescaledb_information.hypertables WHERE hypertable_name = %s", [name]
    )
    return found.fetchone() is not None


def _growth(connection: Connection, name: str, chunks: list[_Chunk], ratio: float) -> float | None:
    if not chunks:
        return None
    newest = [chunk for chunk in chunks if chunk.end > chunks[-1].end - _WINDOW]
    time = _time(connection, name, newest[0].begin, newest[-1].end)
    plain = sum(chunk.before or chunk.bytes for chunk in newest)
    return plain / ratio / (time / DAY) if time >= _LEAST else None


def _time(connection: Connection, name: str, begin: int, end: int) -> int:
    """How many microseconds of [begin, end) a table's rows are of, whatever the number of instruments."""
    span = {"from": to_datetime(begin), "to": to_datetime(end)}
    if name in _STREAMS:
        found = connection.execute(
            """
            SELECT sum(upper(part) - lower(part)) FROM unnest((
                SELECT range_agg(tstzrange(
                    greatest(from_timestamp, %(from)s), least(to_timestamp, %(to)s), '[)'))
                FROM stream_coverage
                WHERE stream = ANY (%(streams)s) AND from_timestamp < %(to)s AND to_timestamp > %(from)s
            )) AS part
            """,
            {**span, "streams": list(_STREAMS[name])},
        )
    else:
        query = sql.SQL("""
            SELECT max(timestamp) - min(timestamp) FROM {} WHERE timestamp >= %(from)s AND timestamp < %(to)s
        """).format(sql.Identifier(name))
        found = connection.execute(query, span)
    row = found.fetchone()
    return round(row[0].total_seconds() * 1e6) if row and row[0] else 0
