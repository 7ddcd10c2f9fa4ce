"""What a year of a busy symbol takes: rows, compressed chunks, and the files of the tier.

A month (DELTATAPE_BENCHMARK_DAYS says how many days instead) of ten trades and one book a second, with all
candles and CVD points, goes into the server in force by binary COPY. Where that is TimescaleDB's Community
edition, everything is compressed then. Every day is also encoded as the tier's files. Bytes are extrapolated
to 365 days, and split into columns.
"""

import os
from collections.abc import Iterator
from io import BytesIO

import pyarrow.parquet as pq
from psycopg import sql

from benchmarks import Figure, Figures
from benchmarks.busy_symbol import SYMBOL, BusySymbol, Minute
from benchmarks.databases import TABLES, fresh_database
from market import DAY, MICROSECONDS, parse_time
from market.book import SNAPSHOT_DEPTH
from storage import read, tape, tier_file
from storage.compression import compress_settled
from storage.coverage import Stream, add_coverage
from storage.database import Connection, connect, edition
from storage.sizes import table_sizes

DAYS = int(os.environ.get("DELTATAPE_BENCHMARK_DAYS", "30"))
# A Thursday, on which chunks of seven days begin.
START = parse_time("2026-01-01T00:00:00Z")
EXCHANGE = "binance"
_YEAR = 365
_GB = 1e9
_HOUR = 60
"""Minutes that are written at a time."""
_LEVEL = 16
"""Bytes of a price and a size."""


def run(days: int = DAYS) -> Figures:
    """Gigabytes a year as bare values and of each table and way of keeping it; bytes a row of each column."""
    symbol = BusySymbol(START)
    with fresh_database() as url:
        with connect(url) as connection:
            for _ in range(days):
                _write_day(connection, symbol)
            connection.execute("ANALYZE")
            connection.commit()
            counts, sizes = _sizes(connection)
            stored = _stored_columns(connection)
            figures = [_bare(stored, counts, days), *_yearly("rows", sizes, days)]
            figures += _columns("rows", stored, counts)
            can_compress = edition(connection) == "timescale"
            connection.commit()
        files, columns = _files(url, days)
        if can_compress:
            compress_settled(url, START + (days + 30) * DAY)
            with connect(url) as connection:
                figures += _yearly("compressed", _sizes(connection)[1], days, sum(sizes.values()))
                figures += _columns("compressed", _compressed_columns(connection), counts)
    figures += _yearly("files", files, days, sum(sizes.values()))
    return figures + _columns("files", columns, counts)


def _write_day(connection: Connection, symbol: BusySymbol) -> None:
    minutes: list[Minute] = []
    for minute in symbol.day():
        minutes.append(minute)
        if len(minutes) == _HOUR:
            _write(connection, minutes)
            minutes.clear()


def _write(connection: Connection, minutes: list[Minute]) -> None:
    """As the collector does."""
    trades = [trade for minute in minutes for trade in minute.trades]
    received = [at for minute in minutes for at in minute.received]
    tape.write_trades(connection, EXCHANGE, trades, received)
    tape.write_books(connection, EXCHANGE, [book for minute in minutes for book in minute.books])
    tape.write_candles(connection, EXCHANGE, [candle for minute in minutes for candle in minute.candles])
    tape.write_cvd(connection, EXCHANGE, [point for minute in minutes for point in minute.points])
    begin, end = minutes[0].books[0].timestamp, minutes[-1].books[-1].timestamp + MICROSECONDS
    counts: dict[Stream, int] = {"trades": len(trades), "book": 60 * len(minutes)}
    for stream, count in counts.items():
        add_coverage(
            connection, EXCHANGE, SYMBOL, stream, begin, end, None, None, "connection", "live", count
        )
    connection.commit()


def _sizes(connection: Connection) -> tuple[dict[str, int], dict[str, int]]:
    """Rows and bytes of each table."""
    found = {size.table: size for size in table_sizes(connection)}
    return {name: found[name].rows for name in TABLES}, {name: found[name].bytes for name in TABLES}


def _bare(stored: dict[str, dict[str, int]], counts: dict[str, int], days: int) -> Figure:
    """What one would reckon with: the values of the two largest tables alone, a level as two doubles."""
    levels = ("bids_json", "asks_json")
    left_out = ("exchange", "symbol", "(indexes)", *levels)
    size = sum(
        bytes_ for columns in stored.values() for name, bytes_ in columns.items() if name not in left_out
    )
    size += counts["orderbook_snapshots"] * len(levels) * SNAPSHOT_DEPTH * _LEVEL
    return Figure("a year as bare values, trades and books", size / days * _YEAR / _GB, "GB")


def _yearly(how: str, sizes: dict[str, int], days: int, bound: int | None = None) -> Figures:
    def year(size: int | None) -> float | None:
        return None if size is None else size / days * _YEAR / _GB

    each = [
        Figure(f"a year as {how}, {name}", size / days * _YEAR / _GB, "GB") for name, size in sizes.items()
    ]
    total = sum(sizes.values()) / days * _YEAR / _GB
    return [*each, Figure(f"a year as {how}", total, "GB", year(bound))]


def _columns(how: str, columns: dict[str, dict[str, int]], counts: dict[str, int]) -> Figures:
    """Bytes a row of the two tables that take the most."""
    return [
        Figure(f"{table}.{name} as {how}", size / counts[table], "B/row")
        for table in TABLES[:2]
        for name, size in columns[table].items()
    ]


def _stored_columns(connection: Connection) -> dict[str, dict[str, int]]:
    """The bytes of each column in plain rows; what is left of a table's are row headers and indexes."""
    found = {}
    for table in TABLES[:2]:
        found[table] = _column_bytes(connection, [table], _names(connection, table))
        row = connection.execute("SELECT index_bytes FROM hypertable_detailed_size(%s)", [table]).fetchone()
        found[table]["(indexes)"] = row[0] if row else 0
    return found


def _compressed_columns(connection: Connection) -> dict[str, dict[str, int]]:
    """The bytes of each column's arrays in the tables behind compressed chunks; indexes with them."""
    found = {}
    for table in TABLES[:2]:
        chunks = connection.execute(
            """
            SELECT settings.compress_relid::text FROM _timescaledb_catalog.compression_settings AS settings
            JOIN timescaledb_information.chunks
                ON settings.relid = format('%%I.%%I', chunk_schema, chunk_name)::regclass
            WHERE hypertable_name = %s AND settings.compress_relid IS NOT NULL
            """,
            [table],
        ).fetchall()
        relations = [relation for (relation,) in chunks]
        found[table] = _column_bytes(connection, relations, _names(connection, relations[0]))
        sizes = connection.execute(
            "SELECT sum(pg_indexes_size(name)) FROM unnest(%s::regclass[]) AS name", [relations]
        )
        found[table]["(indexes)"] = int((sizes.fetchone() or (0,))[0])
    return found


def _names(connection: Connection, relation: str) -> list[str]:
    rows = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
        " ORDER BY attnum",
        [relation],
    )
    return [name for (name,) in rows]


def _column_bytes(connection: Connection, relations: list[str], columns: list[str]) -> dict[str, int]:
    sums = sql.SQL(", ").join(
        sql.SQL("coalesce(sum(pg_column_size({})), 0)").format(sql.Identifier(column)) for column in columns
    )
    total = dict.fromkeys(columns, 0)
    for relation in relations:
        row = connection.execute(sql.SQL("SELECT {} FROM " + relation).format(sums)).fetchone()
        for column, size in zip(columns, row or (), strict=True):
            total[column] += int(size)
    return total


def _files(url: str, days: int) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """The bytes of each table's files, and of their columns."""
    sizes = dict.fromkeys(TABLES, 0)
    columns: dict[str, dict[str, int]] = {table: {} for table in TABLES}
    for table, body in _encoded(url, days):
        sizes[table] += len(body)
        group = pq.ParquetFile(BytesIO(body)).metadata
        for at in range(group.num_row_groups):
            for number in range(group.num_columns):
                column = group.row_group(at).column(number)
                found = columns[table]
                found[column.path_in_schema] = (
                    found.get(column.path_in_schema, 0) + column.total_compressed_size
                )
    return sizes, columns


def _encoded(url: str, days: int) -> Iterator[tuple[str, bytes]]:
    for day in range(START, START + days * DAY, DAY):
        span = (day, day + DAY)
        yield "trades", tier_file.encode(read.trades(url, EXCHANGE, SYMBOL, *span))
        yield "orderbook_snapshots", tier_file.encode(read.books(url, EXCHANGE, SYMBOL, *span))
        yield "cvd_snapshots", tier_file.encode(read.cvd(url, EXCHANGE, SYMBOL, *span))
        for timeframe in ("1m", "5m", "15m", "1h", "4h", "1d"):
            yield "candles", tier_file.encode(read.candles(url, EXCHANGE, SYMBOL, timeframe, *span))
