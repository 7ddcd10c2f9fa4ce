"""A local copy of closed days, one Parquet file each, never believed without a look at the ledger.

A day is closed once the tape goes on after it: from then on whoever changes it leaves a revision. A file's
name holds the newest revision of the instrument's tape when it was read, and the hash of its bytes. So a file
that is damaged or of another time is not used, and a day that a later revision touches is read anew.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl

from market import DAY
from market.timeframe import from_datetime, to_datetime
from storage.amend import lock_tapes
from storage.database import Connection, connect

__all__ = ["DayCache", "Read"]

Read = Callable[[int | None, int | None], pl.DataFrame]
"""Reads [begin, end) from the database, microseconds UTC; None: from or to where the tape ends."""
SETTLED = 60_000_000
"""How far the tape must have come after a day: books and late trades of its end are stored by then."""
_PARTS = 4
"""Of a file's name, between its dots."""

_IDENTITY = """
    SELECT (SELECT value FROM _timescaledb_catalog.metadata WHERE key = 'uuid') || '-' || oid
    FROM pg_database WHERE datname = current_database()"""
_CLOSED = """
    SELECT min(from_timestamp), max(to_timestamp) FROM stream_coverage
    WHERE exchange = %s AND symbol = %s AND stream = 'trades'"""
_GONE = """
    SELECT day FROM past_days
    WHERE exchange = %s AND symbol = %s AND table_name = %s AND interval = '' AND url IS NULL"""
_REVISIONS = """
    SELECT id, created_timestamp, from_timestamp, to_timestamp FROM tape_revisions
    WHERE exchange = %s AND symbol = %s ORDER BY id"""


@dataclass(frozen=True, slots=True)
class _Revision:
    """A change of an instrument's tape; `name` is unique over all times, also after a restored backup."""

    name: str
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class _Ledger:
    """What the database says of an instrument: when its tape begins and has come to, and its revisions.

    Rows of the days `gone` were dropped for good: nothing of them may be kept.
    """

    identity: str
    begin: int
    end: int
    revisions: list[_Revision]
    gone: frozenset[int]

    @property
    def newest(self) -> str:
        return self.revisions[-1].name if self.revisions else "0"

    @property
    def closed_until(self) -> int:
        """The midnight up to which no change of the tape goes without a revision."""
        settled = max(self.end - SETTLED, 0)
        return settled - settled % DAY

    def is_fresh(self, name: str, day: int) -> bool:
        """Whether the day is still as it was at the revision `name`."""
        names = ["0", *(revision.name for revision in self.revisions)]
        if name not in names:
            return False
        later = self.revisions[names.index(name) :]
        return not any(each.begin < day + DAY and each.end > day for each in later)


class DayCache:
    """Days of one instrument's trades or book snapshots; whatever befalls the files, the rows are right.

    Args:
        folder: where the files lie; made when the first one is written.
        url: the database.
        table: what is kept: part of the files' place.
        exchange: exchange id.
        symbol: unified symbol.
    """

    def __init__(self, folder: Path, url: str, table: str, exchange: str, symbol: str) -> None:
        self._url = url
        self._table = table
        self._key = exchange, symbol
        self._place = folder / table / quote(exchange, safe="") / quote(symbol, safe="")

    def frames(self, begin: int | None, end: int | None, read: Read) -> Iterator[pl.DataFrame]:
        """The rows of [begin, end), microseconds UTC: closed days one by one, the rest as `read` gives it.

        A day that is kept does not touch its table; one that is not is read and kept.

        Raises:
            Unavailable: the database does not answer: nobody knows whether what is kept still holds.
        """
        ledger = self._ledger()
        place = self._place / ledger.identity
        first = _midnight_from(ledger.begin if begin is None else begin)
        last = ledger.closed_until if end is None else min(end - end % DAY, ledger.closed_until)
        if last <= first:
            yield read(begin, end)
            return
        if begin != first:
            yield read(begin, first)
        for is_gone, run in groupby(range(first, last, DAY), ledger.gone.__contains__):
            days = [_Day(place, day) for day in run]
            if is_gone:
                for day in days:
                    day.forget()
                yield read(days[0].begin, days[-1].begin + DAY)
            else:
                yield from (day.frame(ledger, read) for day in days)
        if end != last:
            yield read(last, end)

    def _ledger(self) -> _Ledger:
        with connect(self._url, application_name="deltatape read") as connection:
            # Whoever changes this tape now is waited for: its revision must not come to light later.
            lock_tapes(connection, self._key[0], [self._key[1]], is_shared=True)
            (identity,) = _row(connection, _IDENTITY)
            begin, end = _row(connection, _CLOSED, self._key)
            revisions = connection.execute(_REVISIONS, self._key).fetchall()
            gone = connection.execute(_GONE, (*self._key, self._table)).fetchall()
            connection.rollback()
        return _Ledger(
            str(identity),
            from_datetime(begin) if begin else 0,
            from_datetime(end) if end else 0,
            [
                _Revision(f"{row[0]}-{from_datetime(row[1])}", from_datetime(row[2]), from_datetime(row[3]))
                for row in revisions
            ],
            frozenset(from_datetime(day) for (day,) in gone),
        )


def _midnight_from(timestamp: int) -> int:
    """The first midnight at or after `timestamp`."""
    return timestamp + -timestamp % DAY


def _row(connection: Connection, query: str, parameters: tuple[str, ...] = ()) -> tuple[Any, ...]:
    row = connection.execute(query.encode(), parameters).fetchone()
    assert row is not None  # noqa: S101 - each of the queries always has a row
    return row


class _Day:
    """One day's file: `2026-03-01.<revision>.<hash>.parquet`."""

    def __init__(self, place: Path, begin: int) -> None:
        self.begin = begin
        self._place = place
        self._name = to_datetime(begin).date().isoformat()

    def frame(self, ledger: _Ledger, read: Read) -> pl.DataFrame:
        for path in self._place.glob(f"{self._name}.*.parquet"):
            name = path.name.split(".")
            if len(name) != _PARTS or not ledger.is_fresh(name[1], self.begin):
                continue
            if (kept := _kept(path, name[2])) is not None:
                return kept
        self.forget()
        found = read(self.begin, self.begin + DAY)
        self._keep(found, ledger.newest)
        return found

    def forget(self) -> None:
        """Delete what there is of the day, also what a reader left that was killed while it wrote."""
        for path in self._place.glob(f"{self._name}.*"):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _keep(self, frame: pl.DataFrame, revision: str) -> None:
        buffer = BytesIO()
        frame.write_parquet(buffer, compression="zstd")
        body = buffer.getvalue()
        partial = self._place / f"{self._name}.{os.getpid()}.partial"
        try:
            self._place.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(body)
            partial.rename(self._place / f"{self._name}.{revision}.{_digest(body)}.parquet")
        except OSError:
            # A full disk costs the next read some time, and nothing else.
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def _kept(path: Path, digest: str) -> pl.DataFrame | None:
    """What the file holds; None where it is not what was written."""
    try:
        body = path.read_bytes()
    except OSError:
        return None
    return pl.read_parquet(BytesIO(body)) if _digest(body) == digest else None


def _digest(body: bytes) -> str:
    return blake2b(body, digest_size=16).hexdigest()
