"""The tier's files, on a folder or an object store, and reading rows across the database and them.

A file that is missing, cut or changed is an error that names it, never other rows.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b

import polars as pl
from psycopg.errors import UndefinedTable

from market import Unavailable, WrongUse
from market.timeframe import DAY, to_datetime
from storage.database import connect, require_schema
from storage.past import Copy, DayKey, PastTable, copies, has_rows
from storage.tier_file import decode

__all__ = ["ReadRows", "digest", "fetch", "load", "read_across", "remove", "store", "url_of"]

ReadRows = Callable[[int | None, int | None, int | None], pl.DataFrame]
"""Reads begin, end, limit from the database: the newest `limit` rows of [begin, end), in order of time."""


def url_of(folder: str, key: DayKey, name: str) -> str:
    """Where a day's file lies: below the tier's folder, by table, exchange and symbol."""
    symbol = key.symbol.replace("/", "-").replace(":", "_")
    place = f"{folder.rstrip('/')}/{key.table}/{key.exchange}/{symbol}"
    return f"{place}/{to_datetime(key.day):%Y-%m-%d}.{name}.parquet"


def digest(body: bytes) -> str:
    """What a file's bytes are known by."""
    return blake2b(body, digest_size=16).hexdigest()


def store(url: str, body: bytes) -> None:
    """Write a file; it is on the disk, where it is one, when this returns.

    Raises:
        Unavailable: the place takes no file.
        WrongUse: nothing here speaks such an address.
    """
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    try:
        system, path = fsspec.core.url_to_fs(url)
        system.makedirs(path.rpartition("/")[0], exist_ok=True)
        with system.open(path, "wb") as file:
            file.write(body)
            if isinstance(system, LocalFileSystem):
                file.flush()
                os.fsync(file.fileno())
    except (ImportError, ValueError) as error:
        raise WrongUse(f"the tier's address {url}: {error}") from error
    except Exception as error:  # each store has errors of its own
        raise Unavailable(f"cannot write {url}: {_reason(error)}") from error


def fetch(url: str, known: str) -> bytes:
    """A file's bytes, which are those that were written.

    Raises:
        Unavailable: the file is missing, damaged, or its place does not answer.
    """
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(url)
        body = bytes(system.cat_file(path))
    except FileNotFoundError as error:
        raise Unavailable(f"the tier's file {url} is missing") from error
    except Exception as error:  # each store has errors of its own
        raise Unavailable(f"cannot read the tier's file {url}: {_reason(error)}") from error
    if digest(body) != known:
        raise Unavailable(f"the tier's file {url} is damaged: its bytes are not those that were written")
    return body


def remove(url: str) -> None:
    """Delete a file that no day needs any more; one that cannot be deleted does no harm."""
    import fsspec

    # Each store has errors of its own.
    with suppress(Exception):
        system, path = fsspec.core.url_to_fs(url)
        system.rm_file(path)


def load(copy: Copy) -> pl.DataFrame:
    """A day's rows.

    Raises:
        Unavailable: the file is missing or damaged.
    """
    try:
        return decode(fetch(copy.url, copy.digest))
    except ValueError as error:
        raise Unavailable(f"the tier's file {copy.url} cannot be read: {error}") from error


def read_across(
    url: str,
    table: PastTable,
    exchange: str,
    symbol: str,
    begin: int | None,
    end: int | None,
    limit: int | None,
    read: ReadRows,
) -> pl.DataFrame:
    """The rows of [begin, end), or the newest of them, whether a day lies in the database or in the tier.

    Args:
        url: the database.
        table: what is read.
        exchange: exchange id.
        symbol: unified symbol.
        begin: microseconds UTC; None: from where the tape begins.
        end: microseconds UTC, exclusive; None: to where it ends.
        limit: how many rows of the end are wanted.
        read: reads the days that are in the database.

    Raises:
        Unavailable: a file of the tier is missing or damaged.
    """
    with connect(url, application_name="deltatape read", autocommit=True) as connection:

        def moved() -> dict[int, Copy]:
            try:
                days = copies(connection, table, exchange, symbol, begin, end)
            except UndefinedTable:
                require_schema(connection)
                raise
            return {day: copy for day, copy in days.items() if copy.is_dropped}

        def read_present(since: int | None, until: int | None, rows: int | None) -> pl.DataFrame | None:
            # To connect for a read takes longer than a look, and mostly nothing lies before moved days.
            is_all = (since, until) == (begin, end)
            is_there = is_all or has_rows(connection, table, exchange, symbol, since, until)
            return read(since, until, rows) if is_there else None

        days = moved()
        while True:
            found = _read(days, begin, end, limit, read_present)
            # A day that was moved meanwhile may have been missed at both places.
            before, days = days, moved()
            if days == before:
                return found


def _read(
    days: dict[int, Copy],
    begin: int | None,
    end: int | None,
    limit: int | None,
    read: Callable[[int | None, int | None, int | None], pl.DataFrame | None],
) -> pl.DataFrame:
    """The newest part first, as far back as the limit asks for."""
    parts: list[pl.DataFrame] = []
    left, until = limit, end

    def take(part: pl.DataFrame | None) -> None:
        nonlocal left
        if part is not None:
            parts.append(part)
            left = None if left is None else left - len(part)

    for day in sorted(days, reverse=True):
        if left != 0 and (until is None or until > day + DAY):
            take(read(day + DAY, until, left))
        if left != 0:
            take(_cut(load(days[day]), begin, end, left))
        until = day
    if left != 0 and (until is None or begin is None or begin < until or not parts):
        take(read(begin, until, left))
    return pl.concat(parts[::-1]) if len(parts) > 1 else parts[0]


def _cut(frame: pl.DataFrame, begin: int | None, end: int | None, limit: int | None) -> pl.DataFrame:
    times = pl.col("timestamp").to_physical()
    if begin is not None:
        frame = frame.filter(times >= begin)
    if end is not None:
        frame = frame.filter(times < end)
    return frame if limit is None else frame.tail(limit)


def _reason(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
