"""Old days as Parquet files outside of the database: copied, proven, found again, and brought back.

A day is copied once it is settled: its rows are written to a file, the file is read again, and only where
every value is the same is it recorded. `storage.retention` drops from the database what is due, and of the
tier's tables only days whose file gives the very rows that the database holds at that moment.
"""

from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import Struct

from market import Unavailable, WrongUse
from market.timeframe import DAY, to_datetime
from storage import read
from storage.amend import last_revision, lock_tapes
from storage.database import Connection, connect, require_schema
from storage.fingerprint import of_frame
from storage.past import Copy, DayKey, PastTable, copies, forget_drop, record_copy
from storage.settled import Settled, changed_days
from storage.stored_days import alone, chunks, days_in, series
from storage.tier_file import encode
from storage.tier_files import digest, load, remove, store, url_of

__all__ = ["TIERED", "Copied", "check_copies", "copy_old_days", "prove", "restore_day"]

TIERED: tuple[PastTable, ...] = ("trades", "orderbook_snapshots", "cvd_snapshots")
"""What can be moved. Candles are few, and signals, views and whoever asks by SQL go on from them."""

Outcome = Literal["copied", "due", "waiting", "refused"]
Progress = Callable[[int, int, str], None]
"""Told how many days are done, of how many, and which is next."""


class Copied(Struct, frozen=True, kw_only=True):
    """What became of a day.

    Attributes:
        key: which one.
        outcome: `copied`; `due`: it would be, and this is a dry run; `waiting`: something may still come to
            it; `refused`: its file would not give the same rows.
        rows: how many it holds; 0 where it was not read.
        bytes: how long its file is.
        note: why it was not copied.
    """

    key: DayKey
    outcome: Outcome
    rows: int = 0
    bytes: int = 0
    note: str | None = None


def copy_old_days(
    url: str,
    folder: str,
    tables: Sequence[PastTable],
    days: int,
    now: int,
    *,
    is_dry_run: bool = False,
    progress: Progress = lambda *_: None,
) -> list[Copied]:
    """Copy every settled day that is older than so many days, and has no file yet or has changed since.

    Each day is recorded by itself, so a run may be ended at any time.

    Args:
        url: the database.
        folder: where files go: a path, or an address that fsspec knows.
        tables: which, of TIERED.
        days: how old a day must be.
        now: microseconds UTC.
        is_dry_run: only say what would be done.
        progress: told how far it is.

    Raises:
        WrongUse: nothing here speaks such an address.
        Unavailable: the database or the folder does not answer, or another run is on.
    """
    before = now - now % DAY - days * DAY
    done: list[Copied] = []
    with connect(url, application_name="deltatape tier", autocommit=True) as connection:
        require_schema(connection)
        with alone(connection):
            waiting = [key for table in tables for key in _uncopied(connection, table, before)]
            for number, key in enumerate(waiting):
                progress(number, len(waiting), str(key))
                reason = Settled(connection, key.exchange, key.symbol, now).why_not(key.day)
                if reason is not None:
                    done.append(Copied(key=key, outcome="waiting", note=reason))
                elif is_dry_run:
                    done.append(Copied(key=key, outcome="due"))
                else:
                    done.append(_copy(connection, url, folder, key))
    return done


def _uncopied(connection: Connection, table: PastTable, before: int) -> list[DayKey]:
    """The days with rows of which the tier has no file, or one of another time."""
    until = [(each, before) for each in series(connection, table)]
    found = [
        key for chunk in chunks(connection, table, before) for key in days_in(connection, table, chunk, until)
    ]
    current = {
        (exchange, symbol): _current(connection, table, exchange, symbol)
        for exchange, symbol in {(key.exchange, key.symbol) for key in found}
    }
    return [key for key in found if key.day not in current[key.exchange, key.symbol]]


def _current(connection: Connection, table: PastTable, exchange: str, symbol: str) -> set[int]:
    """The days that did not change after they were copied; one that is dropped cannot."""
    known = copies(connection, table, exchange, symbol)
    present = {day: copy.revision for day, copy in known.items() if not copy.is_dropped}
    return set(known) - changed_days(connection, exchange, symbol, present)


def _is_changed(connection: Connection, key: DayKey, since: int) -> bool:
    return bool(changed_days(connection, key.exchange, key.symbol, {key.day: since}))


def _copy(connection: Connection, url: str, folder: str, key: DayKey) -> Copied:
    with connection.transaction():
        # Whoever changes this tape now is waited for: its revision must not come to light later.
        lock_tapes(connection, key.exchange, [key.symbol], is_shared=True)
        revision = last_revision(connection)
    rows = read.stored(url, key.table, key.exchange, key.symbol, key.day, key.day + DAY)
    known = of_frame(rows)
    body = encode(rows)
    name = digest(body)
    copy = Copy(url_of(folder, key, name[:16]), name, known, len(body), revision, is_dropped=False)
    store(copy.url, body)
    if of_frame(load(copy)) != known:
        remove(copy.url)
        note = "its file would not give the same rows: nothing was copied"
        return Copied(key=key, outcome="refused", rows=len(rows), note=note)
    with connection.transaction():
        lock_tapes(connection, key.exchange, [key.symbol], is_shared=True)
        if _is_changed(connection, key, revision):
            return Copied(key=key, outcome="waiting", rows=len(rows), note="it changed while it was copied")
        before = _copy_of(connection, key)
        record_copy(connection, key, copy)
    if before is not None and before.url != copy.url:
        remove(before.url)
    return Copied(key=key, outcome="copied", rows=len(rows), bytes=len(body))


def _copy_of(connection: Connection, key: DayKey) -> Copy | None:
    found = copies(connection, key.table, key.exchange, key.symbol, key.day, key.day + DAY)
    return found.get(key.day)


def prove(connection: Connection, url: str, key: DayKey) -> Copy | str:
    """The file that holds exactly what the database holds of this day now; else why there is none.

    Raises:
        Unavailable: the file is missing or damaged.
    """
    copy = _copy_of(connection, key)
    if copy is None:
        return "the tier has no file of it yet: deltatape db tier"
    if _is_changed(connection, key, copy.revision):
        return "it has changed since it was copied: deltatape db tier"
    rows = of_frame(read.stored(url, key.table, key.exchange, key.symbol, key.day, key.day + DAY))
    if rows != copy.fingerprint or rows != of_frame(load(copy)):
        raise Unavailable(f"{copy.url} does not hold what the database holds: {_difference(rows.rows, copy)}")
    return copy


def _difference(rows: int, copy: Copy) -> str:
    if rows != copy.fingerprint.rows:
        return f"{copy.fingerprint.rows:,} rows instead of {rows:,}"
    return f"{rows:,} rows, but not the same values"


def check_copies(url: str, progress: Progress = lambda *_: None) -> tuple[int, list[str]]:
    """Read every file of the tier again: how many there are, and a line for each that is not as it was."""
    wrong: list[str] = []
    with connect(url, application_name="deltatape tier", autocommit=True, read_only=True) as connection:
        require_schema(connection)
        known = [
            (DayKey(table, exchange, symbol, "", day), copy)
            for table in TIERED
            for exchange, symbol, _ in series(connection, table)
            for day, copy in copies(connection, table, exchange, symbol).items()
        ]
    for number, (key, copy) in enumerate(known):
        progress(number, len(known), str(key))
        try:
            found = of_frame(load(copy))
        except Unavailable as error:
            wrong.append(f"{key}: {error}")
        else:
            if found != copy.fingerprint:
                wrong.append(f"{key}: {copy.url} holds other rows than were written")
    return len(known), wrong


def restore_day(url: str, exchange: str, symbol: str, day: int) -> dict[str, int]:
    """Bring an instrument's day back into the database, from all of the tier's tables that have it.

    The files stay; a day that does not change afterwards is dropped again when retention says so.

    Returns:
        How many rows came back into each table.

    Raises:
        WrongUse: the tier has nothing of that day that is not in the database.
        Unavailable: a file is missing or damaged.
    """
    done: dict[str, int] = {}
    with connect(url, application_name="deltatape tier", autocommit=True) as connection:
        require_schema(connection)
        with alone(connection):
            keys = [DayKey(table, exchange, symbol, "", day) for table in TIERED]
            # The CVD point at the end of the day lies in the day after.
            for key in (*keys, DayKey("cvd_snapshots", exchange, symbol, "", day + DAY)):
                copy = _copy_of(connection, key)
                if copy is not None and copy.is_dropped:
                    done[key.table] = done.get(key.table, 0) + _restore(connection, url, key, copy)
    if not done:
        what = f"{exchange} {symbol} {to_datetime(day):%Y-%m-%d}"
        raise WrongUse(f"the tier has nothing of {what} that is not in the database")
    return done


def _restore(connection: Connection, url: str, key: DayKey, copy: Copy) -> int:
    """Until the rows are proven to be the same, readers find the day in its file."""
    rows = load(copy)
    scope = {**key._asdict(), "from": to_datetime(key.day), "to": to_datetime(key.day + DAY)}
    with connection.transaction():
        connection.execute(_CLEAR.format(key.table).encode(), scope)
        columns = ", ".join(rows.columns)
        with connection.cursor().copy(f"COPY {key.table} ({columns}) FROM STDIN".encode()) as copying:
            for row in rows.iter_rows():
                copying.write_row(row)
    found = of_frame(read.stored(url, key.table, key.exchange, key.symbol, key.day, key.day + DAY))
    if found != copy.fingerprint:
        connection.execute(_CLEAR.format(key.table).encode(), scope)
        raise Unavailable(f"{key} did not come back as it was: {_difference(found.rows, copy)}")
    with connection.transaction():
        lock_tapes(connection, key.exchange, [key.symbol])
        forget_drop(connection, key)
    return len(rows)


_CLEAR = """
    DELETE FROM {} WHERE exchange = %(exchange)s AND symbol = %(symbol)s
        AND timestamp >= %(from)s AND timestamp < %(to)s"""
