"""Dropping what is older than it is to be kept, by table, instrument and interval, on both editions.

Nothing is dropped unless a rule says so. A day is dropped as a whole, once it is settled; one of the tier's
tables once its file is proven to hold the same rows. First the ledger says that the day has left, then its
rows are removed: a run that is killed in between leaves rows that count no more, and the next removes them.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Literal

from msgspec import Struct
from psycopg import errors

from market import Unavailable
from market.timeframe import DAY, to_datetime
from storage.amend import last_revision, lock_tapes
from storage.database import Connection, connect, require_schema
from storage.past import TABLES, Copy, DayKey, PastTable, past, record_drop
from storage.settled import Settled, changed_days
from storage.stored_days import Chunk, Series, alone, chunks, days_in, remove_days, series
from storage.tiers import prove

__all__ = ["Dropped", "Rule", "drop_expired"]

Outcome = Literal["dropped", "due", "kept", "refused"]
Progress = Callable[[str], None]
"""Told which day is looked at."""


class Rule(Struct, frozen=True, kw_only=True):
    """For how long something is kept; what is None stands for all.

    Attributes:
        table: which table.
        days: for how many days; None: for ever.
        exchange: only this exchange.
        symbol: only this symbol.
        interval: only candles of this timeframe.
    """

    table: PastTable
    days: int | None
    exchange: str | None = None
    symbol: str | None = None
    interval: str | None = None

    def speaks_of(self, one: Series) -> bool:
        """Whether it is about these rows of its table."""
        wanted = (self.exchange, self.symbol, self.interval)
        return all(word in (None, name) for word, name in zip(wanted, one, strict=True))


class Dropped(Struct, frozen=True, kw_only=True):
    """What became of a day that is older than it is to be kept.

    Attributes:
        key: which one.
        outcome: `dropped`; `due`: it would be, and this is a dry run; `kept`: it may not go yet; `refused`:
            its file in the tier is not what the database holds.
        rows: how many it holds; 0 where they were not counted.
        note: why it stays.
    """

    key: DayKey
    outcome: Outcome
    rows: int = 0
    note: str | None = None


def drop_expired(
    url: str,
    rules: Sequence[Rule],
    tiered: Collection[PastTable],
    now: int,
    *,
    is_dry_run: bool = False,
    progress: Progress = lambda _: None,
) -> list[Dropped]:
    """Drop each day that is older than the last rule that speaks of it allows.

    Args:
        url: the database.
        rules: for how long what is kept; what none speaks of stays.
        tiered: tables of which a day goes only once the tier is proven to have it.
        now: microseconds UTC.
        is_dry_run: only say what would be done.
        progress: told how far it is.

    Returns:
        Every day that is older than it is to be kept and was not dropped before, and what became of it.

    Raises:
        Unavailable: the database does not answer, or another run is on.
    """
    with connect(url, application_name="deltatape retain", autocommit=True) as connection:
        require_schema(connection)
        with alone(connection):
            run = _Run(connection, url, tiered, now, is_dry_run=is_dry_run, progress=progress)
            return [
                each
                for table in TABLES
                if (until := _expiries(rules, table, series(connection, table), now))
                for chunk in chunks(connection, table, max(time for _, time in until))
                for each in run.chunk(table, chunk, until)
            ]


def _expiries(
    rules: Iterable[Rule], table: PastTable, known: Iterable[Series], now: int
) -> list[tuple[Series, int]]:
    """Before which midnight each series of the table is to go; those that stay for ever are left out."""
    own = [rule for rule in rules if rule.table == table]
    found = []
    for one in known:
        days = next((rule.days for rule in reversed(own) if rule.speaks_of(one)), None)
        if days is not None:
            found.append((one, now - now % DAY - days * DAY))
    return found


class _Run:
    """One run over the chunks."""

    def __init__(
        self,
        connection: Connection,
        url: str,
        tiered: Collection[PastTable],
        now: int,
        *,
        is_dry_run: bool,
        progress: Progress,
    ) -> None:
        self._connection = connection
        self._url = url
        self._tiered = tiered
        self._now = now
        self._is_dry_run = is_dry_run
        self._progress = progress

    def chunk(self, table: PastTable, chunk: Chunk, until: Sequence[tuple[Series, int]]) -> list[Dropped]:
        """Drop what is due of a chunk."""
        done: list[Dropped] = []
        gone: list[DayKey] = []
        for key in days_in(self._connection, table, chunk, until):
            self._progress(str(key))
            if self._is_gone(key):
                # Its rows were left by a run that was ended.
                gone.append(key)
                continue
            done.append(self._drop(key))
            if done[-1].outcome == "dropped":
                gone.append(key)
        if not self._is_dry_run:
            # What cannot be removed counts no more, and the next run tries again.
            with suppress(errors.LockNotAvailable, errors.DeadlockDetected):
                remove_days(self._connection, chunk, table, gone)
        return done

    def _is_gone(self, key: DayKey) -> bool:
        left = past(self._connection, key.exchange, key.symbol, key.day, key.day + DAY)
        days: dict[PastTable, Collection[int]] = {
            "trades": left.trades,
            "orderbook_snapshots": left.books,
            "cvd_snapshots": left.cvd,
            "candles": [day for interval, day in left.candles if interval == key.interval],
        }
        return key.day in days[key.table]

    def _drop(self, key: DayKey) -> Dropped:
        if reason := self._settled(key):
            return Dropped(key=key, outcome="kept", note=reason)
        with self._connection.transaction():
            # Whoever changes this tape now is waited for: its revision must not come to light later.
            lock_tapes(self._connection, key.exchange, [key.symbol], is_shared=True)
            revision = last_revision(self._connection)
        rows = self._count(key)
        if key.table in self._tiered:
            try:
                proven = prove(self._connection, self._url, key)
            except Unavailable as error:
                return Dropped(key=key, outcome="refused", rows=rows, note=str(error))
            if not isinstance(proven, Copy):
                return Dropped(key=key, outcome="kept", rows=rows, note=proven)
        if self._is_dry_run:
            return Dropped(key=key, outcome="due", rows=rows)
        with self._connection.transaction():
            lock_tapes(self._connection, key.exchange, [key.symbol])
            if self._is_changed(key, revision) or self._settled(key):
                return Dropped(key=key, outcome="kept", rows=rows, note="it changed just now")
            record_drop(self._connection, key, rows)
        return Dropped(key=key, outcome="dropped", rows=rows)

    def _settled(self, key: DayKey) -> str | None:
        return Settled(self._connection, key.exchange, key.symbol, self._now).why_not(key.day)

    def _is_changed(self, key: DayKey, since: int) -> bool:
        return bool(changed_days(self._connection, key.exchange, key.symbol, {key.day: since}))

    def _count(self, key: DayKey) -> int:
        of_interval = "AND interval = %(interval)s" if key.interval else ""
        row = self._connection.execute(
            f"""
            SELECT count(*) FROM {key.table} WHERE exchange = %(exchange)s AND symbol = %(symbol)s
                AND timestamp >= %(day)s AND timestamp < %(end)s {of_interval}
            """.encode(),  # noqa: S608 - names of our own
            {**key._asdict(), "day": to_datetime(key.day), "end": to_datetime(key.day + DAY)},
        ).fetchone()
        return 0 if row is None else int(row[0])
