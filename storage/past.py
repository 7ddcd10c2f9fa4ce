"""Days of a table that have left the database: moved to a tier of files, or dropped for good.

A day whose trades have left is frozen: coverage and holes say of it what they said, its candles and CVD stay
as they are, and nobody takes it for lost. Days are 00:00 UTC in microseconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from psycopg.types.json import Jsonb

from market.timeframe import DAY, from_datetime, to_datetime
from storage.coverage import STREAM_TABLES
from storage.database import Connection
from storage.fingerprint import Fingerprint

__all__ = [
    "TABLES",
    "Copy",
    "DayKey",
    "Past",
    "PastTable",
    "copies",
    "forget_drop",
    "has_rows",
    "past",
    "record_copy",
    "record_drop",
]

PastTable = Literal["trades", "orderbook_snapshots", "cvd_snapshots", "candles"]
TABLES: tuple[PastTable, ...] = ("trades", "orderbook_snapshots", "cvd_snapshots", "candles")
"""The tables of which a ledger is kept when days leave."""


class DayKey(NamedTuple):
    """An instrument's day in a table; `interval` is empty but for candles."""

    table: PastTable
    exchange: str
    symbol: str
    interval: str
    day: int

    def __str__(self) -> str:
        interval = f" {self.interval}" if self.interval else ""
        return f"{self.exchange} {self.symbol} {self.table}{interval} {to_datetime(self.day):%Y-%m-%d}"


@dataclass(frozen=True, slots=True)
class Copy:
    """A day's file in the tier.

    Attributes:
        url: where it lies, as fsspec reads it.
        digest: of its bytes.
        fingerprint: of its rows.
        bytes: how long it is.
        revision: the newest revision of any tape when its rows were read.
        is_dropped: whether the day is nowhere else any more.
    """

    url: str
    digest: str
    fingerprint: Fingerprint
    bytes: int
    revision: int
    is_dropped: bool


@dataclass(frozen=True, slots=True)
class Past:
    """What of one instrument has left the database, by table.

    Attributes:
        trades: the days; each says whether the tier has it.
        books: days without book snapshots.
        cvd: days without CVD points.
        candles: (interval, day) without candles.
    """

    trades: Mapping[int, bool]
    books: Sequence[int]
    cvd: Sequence[int]
    candles: Sequence[tuple[str, int]]

    def present(self, begin: int, end: int) -> list[tuple[int, int]]:
        """The parts of whole days [begin, end) whose trades are there."""
        parts: list[tuple[int, int]] = []
        for day in range(begin, end, DAY):
            if day in self.trades:
                continue
            if parts and parts[-1][1] == day:
                parts[-1] = (parts[-1][0], day + DAY)
            else:
                parts.append((day, day + DAY))
        return parts


def past(
    connection: Connection, exchange: str, symbol: str, begin: int | None = None, end: int | None = None
) -> Past:
    """What of an instrument's [begin, end) has left the database; all of it where they are not given."""
    rows = connection.execute(
        """
        SELECT table_name, interval, day, url IS NOT NULL FROM past_days
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND dropped_timestamp IS NOT NULL
            AND (%(from)s::timestamptz IS NULL OR day > %(from)s - '1 day'::interval)
            AND (%(to)s::timestamptz IS NULL OR day < %(to)s)
        ORDER BY day
        """,
        {
            "exchange": exchange,
            "symbol": symbol,
            "from": None if begin is None else to_datetime(begin),
            "to": None if end is None else to_datetime(end),
        },
    )
    found = [(table, interval, from_datetime(day), is_moved) for table, interval, day, is_moved in rows]
    return Past(
        trades={day: is_moved for table, _, day, is_moved in found if table == "trades"},
        books=[day for table, _, day, _ in found if table == "orderbook_snapshots"],
        cvd=[day for table, _, day, _ in found if table == "cvd_snapshots"],
        candles=[(interval, day) for table, interval, day, _ in found if table == "candles"],
    )


def has_rows(
    connection: Connection, table: PastTable, exchange: str, symbol: str, begin: int | None, end: int | None
) -> bool:
    """Whether the database holds rows of an instrument's [begin, end)."""
    row = connection.execute(
        f"""
        SELECT EXISTS (
            SELECT FROM {table} WHERE exchange = %s AND symbol = %s AND timestamp >= %s AND timestamp < %s)
        """.encode(),  # noqa: S608 - names of our own
        (
            exchange,
            symbol,
            "-infinity" if begin is None else to_datetime(begin),
            "infinity" if end is None else to_datetime(end),
        ),
    ).fetchone()
    return row is not None and bool(row[0])


# The ledger


def copies(
    connection: Connection,
    table: PastTable,
    exchange: str,
    symbol: str,
    begin: int | None = None,
    end: int | None = None,
) -> dict[int, Copy]:
    """The days of [begin, end) that the tier has a file of, oldest first; dropped or not."""
    rows = connection.execute(
        """
        SELECT day, url, digest, fingerprint::text, bytes, revision, dropped_timestamp IS NOT NULL
        FROM past_days
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND table_name = %(table)s
            AND interval = '' AND url IS NOT NULL
            AND (%(from)s::timestamptz IS NULL OR day > %(from)s - '1 day'::interval)
            AND (%(to)s::timestamptz IS NULL OR day < %(to)s)
        ORDER BY day
        """,
        {
            "exchange": exchange,
            "symbol": symbol,
            "table": table,
            "from": None if begin is None else to_datetime(begin),
            "to": None if end is None else to_datetime(end),
        },
    )
    return {
        from_datetime(day): Copy(url, digest, Fingerprint.from_json(rows), size, revision, is_dropped)
        for day, url, digest, rows, size, revision, is_dropped in rows
    }


def record_copy(connection: Connection, key: DayKey, copy: Copy) -> None:
    """The tier has a proven file of this day; one that was recorded before counts no more."""
    connection.execute(
        """
        INSERT INTO past_days (exchange, symbol, table_name, interval, day, row_count, url, digest,
            fingerprint, bytes, revision, copied_timestamp)
        VALUES (%(exchange)s, %(symbol)s, %(table)s, %(interval)s, %(day)s, %(rows)s, %(url)s, %(digest)s,
            %(fingerprint)s, %(bytes)s, %(revision)s, now())
        ON CONFLICT (exchange, symbol, table_name, interval, day) DO UPDATE SET
            (row_count, url, digest, fingerprint, bytes, revision, copied_timestamp)
            = ROW (excluded.row_count, excluded.url, excluded.digest, excluded.fingerprint, excluded.bytes,
                excluded.revision, excluded.copied_timestamp)
        """,
        {
            **_parameters(key),
            "rows": copy.fingerprint.rows,
            "url": copy.url,
            "digest": copy.digest,
            "fingerprint": copy.fingerprint.to_json(),
            "bytes": copy.bytes,
            "revision": copy.revision,
        },
    )


def record_drop(connection: Connection, key: DayKey, row_count: int) -> None:
    """From the commit on this day is no longer in the database; its rows may be removed then."""
    connection.execute(
        """
        INSERT INTO past_days (exchange, symbol, table_name, interval, day, row_count, coverage,
            dropped_timestamp)
        VALUES (%(exchange)s, %(symbol)s, %(table)s, %(interval)s, %(day)s, %(rows)s, %(coverage)s, now())
        ON CONFLICT (exchange, symbol, table_name, interval, day) DO UPDATE SET
            row_count = excluded.row_count, coverage = excluded.coverage,
            dropped_timestamp = excluded.dropped_timestamp
        WHERE past_days.dropped_timestamp IS NULL
        """,
        {**_parameters(key), "rows": row_count, "coverage": Jsonb(_covered(connection, key))},
    )


def forget_drop(connection: Connection, key: DayKey) -> None:
    """The day is in the database again."""
    connection.execute(
        """
        UPDATE past_days SET dropped_timestamp = NULL, coverage = '[]'
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND table_name = %(table)s
            AND interval = %(interval)s AND day = %(day)s AND url IS NOT NULL
        """,
        _parameters(key),
    )


def _covered(connection: Connection, key: DayKey) -> list[list[int]]:
    """[from, to, rows] of each span's part of the day: what its `row_count` goes on to be made of."""
    stream = next((stream for stream, table in STREAM_TABLES.items() if table == key.table), None)
    if stream is None:
        return []
    rows = connection.execute(
        f"""
        SELECT from_timestamp, to_timestamp, (
            SELECT count(*) FROM {key.table}
            WHERE exchange = %(exchange)s AND symbol = %(symbol)s
                AND timestamp >= greatest(from_timestamp, %(day)s)
                AND timestamp < least(to_timestamp, %(end)s)
                AND timestamp >= %(day)s AND timestamp < %(end)s {_OF_INTERVAL[bool(key.interval)]})
        FROM stream_coverage
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND stream = %(stream)s
            AND from_timestamp < %(end)s AND to_timestamp > %(day)s
        ORDER BY from_timestamp
        """.encode(),  # noqa: S608 - names of our own
        {**_parameters(key), "stream": stream, "end": to_datetime(key.day + DAY)},
    )
    return [
        [max(from_datetime(begin), key.day), min(from_datetime(end), key.day + DAY), count]
        for begin, end, count in rows
    ]


_OF_INTERVAL = {False: "", True: "AND interval = %(interval)s"}


def _parameters(key: DayKey) -> dict[str, object]:
    return {**key._asdict(), "day": to_datetime(key.day)}
