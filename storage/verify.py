"""Proves the tape, instrument by instrument and UTC day by day; nothing is written.

Each instrument is read in one snapshot, so that a collector may write meanwhile. What belongs before the
settled time (the end of the newest coverage, less the grace) must be right; what is younger is still being
built, and only what can be known of it already is judged.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from msgspec import Struct
from psycopg import IsolationLevel

from market import WrongUse
from market.timeframe import DAY, from_datetime
from storage.coverage import spans
from storage.database import Connection
from storage.day_checks import DayChecks, Run, Wrong
from storage.holes import Hole, list_holes
from storage.stored import StoredTape

_EVER = (0, 4_102_444_800_000_000)
"""Microseconds UTC before and after every tape: the years 1970 and 2100."""
_SLACK = 1_000_000
"""Microseconds by which a trade of a hole may lie outside of its times."""
_MAX_RUNS = 1000
"""Runs of missing ids that are named, a day."""
_NONE = Wrong(0, [])


class DayProof(Struct, frozen=True, kw_only=True):
    """What is known of one instrument's UTC day.

    `observed_from` and `observed_to` (microseconds UTC) bound the part of the day between the instrument's
    first and last coverage: what `coverage_percent` is a share of. Seconds of it that lie in no coverage are
    `hole_seconds` where a hole is on record, else `unobserved_seconds`: nobody listened, and says so.
    """

    exchange: str
    symbol: str
    day: int
    origins: list[str]
    trades: int
    ids_consecutive: bool
    ids_missing: int
    missing_runs: list[Run]
    ids_renamed: int
    misordered: int
    duplicates: Wrong
    orphans: Wrong
    cvd: Wrong
    candles: Wrong
    candles_contradicted: Wrong
    observed_from: int
    observed_to: int
    covered_seconds: float
    hole_seconds: float
    unobserved_seconds: float
    open_gaps: int
    healed_gaps: int
    halts: int
    unhealable: int
    book_breaks: int
    book_break_seconds: float

    @property
    def coverage_percent(self) -> float | None:
        """How much of the observed part of the day is proven whole; None where there is no such part."""
        length = (self.observed_to - self.observed_from) / 1e6
        return 100 * self.covered_seconds / length if length else None

    @property
    def ok(self) -> bool:
        """Whether trades, candles and CVD are right and no hole is open."""
        wrong = (self.duplicates, self.orphans, self.cvd, self.candles)
        return not (
            self.ids_missing or self.ids_renamed or self.open_gaps or any(kind.count for kind in wrong)
        )


def instruments(
    connection: Connection, exchange: str | None = None, symbol: str | None = None
) -> list[tuple[str, str]]:
    """(exchange, symbol) of every instrument that has trades, coverage or a hole on record.

    Raises:
        WrongUse: none of that name has.
    """
    rows = connection.execute(
        """
        SELECT exchange, symbol FROM instruments AS known
        WHERE EXISTS (
            SELECT FROM trades WHERE trades.exchange = known.exchange AND trades.symbol = known.symbol)
        UNION SELECT exchange, symbol FROM stream_coverage WHERE stream = 'trades'
        UNION SELECT exchange, symbol FROM stream_gaps WHERE stream = 'trades'
        ORDER BY 1, 2
        """
    ).fetchall()
    found = [(known, name) for known, name in rows if exchange in (None, known) and symbol in (None, name)]
    if rows and not found:
        wanted = " ".join(name for name in (exchange, symbol) if name is not None)
        raise WrongUse(f"nothing of {wanted} is on the tape: deltatape status lists what is")
    return found


@contextmanager
def snapshot(
    connection: Connection, exchange: str, symbol: str, begin: int | None = None, end: int | None = None
) -> Iterator["TapeProof"]:
    """One instrument's tape as it stands now, for as long as the block lasts; ends the transaction.

    Args:
        connection: idle; no transaction is open on it.
        exchange: exchange id.
        symbol: unified symbol.
        begin: microseconds UTC; the day that holds it is the first one. None: the tape's first.
        end: microseconds UTC, exclusive. None: the tape's last day is the last one.
    """
    before = connection.isolation_level
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    try:
        # Before the snapshot is taken: a chunk that was compressed or dropped after it would read as empty.
        connection.execute(
            "LOCK TABLE trades, orderbook_snapshots, candles, cvd_snapshots IN ACCESS SHARE MODE"
        )
        # Sorting a day of a million trades stays in memory; the server's default is meant for many at once.
        connection.execute("SET LOCAL work_mem = '64MB'")
        yield TapeProof(connection, exchange, symbol, begin, end)
    finally:
        connection.rollback()
        connection.isolation_level = before


class TapeProof:
    """One instrument's ledger, and the proof of each of its days; made by `snapshot`."""

    def __init__(
        self, connection: Connection, exchange: str, symbol: str, begin: int | None, end: int | None
    ) -> None:
        self._connection = connection
        self._key = exchange, symbol
        self._tape = StoredTape(connection, exchange, symbol)
        self._spans = spans(connection, exchange, symbol, "trades")
        self._islands = self._tape.islands()
        self.holes = list_holes(connection, exchange=exchange, symbol=symbol, stream="trades")
        """Every hole on record in its trades, whatever became of it."""
        self._resets = sorted(hole.to_timestamp for hole in self.holes if hole.cause == "id_reset")
        self._named = [hole for hole in self.holes if hole.from_id is not None]
        self._longest = max((hole.to_timestamp - hole.from_timestamp for hole in self._named), default=0)
        self._has_consecutive_ids = self._consecutive_ids()
        self._ungiven = {
            hole.id: (hole.missing_count or 0) - (hole.healed_count or 0)
            for hole in self.holes
            if hole.status == "healed"
        }
        first = _EVER[0] if begin is None else begin - begin % DAY
        last = _EVER[1] if end is None else end
        days = [day for day in sorted(self._all_days()) if first <= day < last]
        left = self._tape.past().trades
        self.days = [day for day in days if day not in left]
        """00:00 UTC (microseconds) of each day with coverage, a hole or trades; oldest first."""
        self.past = [day for day in days if day in left]
        """Those that have left the database, in the same way: they cannot be proven here."""

    def standing_holes(self) -> list[Hole]:
        """The holes on record that nobody has healed, on any of `days`."""
        return [
            hole
            for hole in self.holes
            if hole.status != "healed" and any(hole.touches(day, day + DAY) for day in self.days)
        ]

    def prove(self, day: int) -> DayProof:
        """Check everything about one of `days`."""
        checks = DayChecks(self._connection, *self._key, day, self._islands, self._resets)
        parts = checks.parts()
        covered = [part for part in parts if part.place % 2]
        is_numbered = self._has_consecutive_ids
        is_whole = is_numbered and checks.is_unbroken(covered)
        missing, runs = self._missing(checks) if is_numbered and not is_whole else (0, [])
        repeated = checks.repeated_numbers if is_numbered else checks.repeated_ids
        has_orphans = len(covered) < len(parts)
        holes = [hole for hole in self.holes if hole.touches(day, day + DAY)]
        statuses = [hole.status for hole in holes]
        breaks = list_holes(
            self._connection,
            exchange=self._key[0],
            symbol=self._key[1],
            stream="book",
            begin=day,
            end=day + DAY,
        )
        begin, end = self._observed(day)
        covered_us = length(self._islands, begin, end)
        known_us = length([*self._islands, *map(_times, holes)], begin, end)
        return DayProof(
            exchange=self._key[0],
            symbol=self._key[1],
            day=day,
            origins=sorted(
                {
                    span.origin
                    for span in self._spans
                    if span.from_timestamp < day + DAY and span.to_timestamp > day
                }
            ),
            trades=sum(part.trades for part in parts),
            ids_consecutive=is_numbered,
            ids_missing=missing,
            missing_runs=runs,
            ids_renamed=sum(part.renamed for part in parts) if is_numbered else 0,
            misordered=sum(part.backward for part in covered) if is_numbered else 0,
            duplicates=repeated() if parts and not (is_whole and not has_orphans) else _NONE,
            orphans=checks.orphans() if has_orphans else _NONE,
            cvd=checks.wrong_cvd(),
            candles=checks.wrong_candles(),
            candles_contradicted=checks.contradicted_candles(),
            observed_from=begin,
            observed_to=end,
            covered_seconds=covered_us / 1e6,
            hole_seconds=(known_us - covered_us) / 1e6,
            unobserved_seconds=(end - begin - known_us) / 1e6,
            open_gaps=sum(hole.is_open for hole in holes),
            healed_gaps=statuses.count("healed"),
            halts=statuses.count("halt"),
            unhealable=statuses.count("unhealable"),
            book_breaks=len(breaks),
            book_break_seconds=length(map(_times, breaks), day, day + DAY) / 1e6,
        )

    def _consecutive_ids(self) -> bool:
        row = self._connection.execute(
            "SELECT trade_ids_consecutive FROM instruments WHERE exchange = %s AND symbol = %s", self._key
        ).fetchone()
        return row is not None and bool(row[0])

    def _all_days(self) -> set[int]:
        """Days with coverage or a hole, and those where trades or candles stand outside of both."""
        reaches = [*self._islands, *map(_times, self.holes)]
        days = {day for begin, end in reaches for day in range(begin - begin % DAY, max(end, begin + 1), DAY)}
        begins, ends = [begin for begin, _ in self._islands], [end for _, end in self._islands]
        for begin, end in zip([_EVER[0], *ends], [*begins, _EVER[1]], strict=True):
            while begin < end and (found := self._tape.first_trade_time(begin, end)) is not None:
                days.add(found - found % DAY)
                begin = found - found % DAY + DAY
        candles = self._connection.execute(
            "SELECT timestamp FROM candles"
            " WHERE exchange = %s AND symbol = %s AND interval = '1d' AND source = 'trades'",
            self._key,
        )
        return days | {from_datetime(timestamp) for (timestamp,) in candles}

    def _missing(self, checks: DayChecks) -> tuple[int, list[Run]]:
        """How many ids are missing that no hole on record explains, and the first runs of them."""
        count = 0
        runs: list[Run] = []
        for run in checks.missing():
            if unexplained := self._unexplained(run):
                count += unexplained
                if len(runs) < _MAX_RUNS:
                    runs.append(run)
        return count, runs

    def _unexplained(self, run: Run) -> int:
        """The ids of a run that no hole explains; a healed one explains those that were never given."""
        count = run.last - run.first + 1
        for hole in self._named_around(run):
            shared = _shared_ids(hole, run)
            if hole.status == "healed":
                shared = min(shared, self._ungiven[hole.id])
                self._ungiven[hole.id] -= shared
            count -= shared
        return max(count, 0)

    def _named_around(self, run: Run) -> Iterator[Hole]:
        """The holes that name ids and lie where a run does; there may be very many of both."""
        at = bisect_right(self._named, run.after + _SLACK, key=_begin)
        while at and self._named[at - 1].from_timestamp >= run.before - _SLACK - self._longest:
            at -= 1
            if self._named[at].to_timestamp >= run.before - _SLACK:
                yield self._named[at]

    def _observed(self, day: int) -> tuple[int, int]:
        """The part of the day between the first and the last coverage; empty where it lies outside."""
        if not self._islands:
            return day, day
        begin = max(day, self._islands[0][0])
        return begin, max(begin, min(day + DAY, self._islands[-1][1]))


def length(intervals: Iterable[tuple[int, int]], begin: int, end: int) -> int:
    """How much of [begin, end) these half-open intervals cover together."""
    total, reached = 0, begin
    for first, last in sorted(intervals):
        first, last = max(first, reached), min(last, end)
        if last > first:
            total += last - first
            reached = last
    return total


def _begin(hole: Hole) -> int:
    return hole.from_timestamp


def _times(hole: Hole) -> tuple[int, int]:
    return hole.from_timestamp, hole.to_timestamp


def _shared_ids(hole: Hole, run: Run) -> int:
    """How many ids of the run the hole names."""
    if not (hole.from_id and hole.to_id and hole.from_id.isdecimal() and hole.to_id.isdecimal()):
        return 0
    return max(0, min(int(hole.to_id), run.last) - max(int(hole.from_id), run.first) + 1)
