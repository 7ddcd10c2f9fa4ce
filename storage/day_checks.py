"""What is wrong with one UTC day of an instrument's tape, found in SQL; nothing is written.

`place` numbers the parts of the tape: odd ones lie inside coverage, even ones outside. `era` counts how often
the exchange has begun its ids anew. Ids follow from one another within a place, an era and a granularity.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from msgspec import Struct
from psycopg import sql

from market import Trade
from market.timeframe import DAY, from_datetime, to_datetime
from storage.copy import names
from storage.database import Connection
from storage.derived import CANDLE_CHANGES, CVD_CHANGES, TRADE_CHANGES
from storage.rebuild import parameters, recomputing
from storage.stored import StoredTape
from storage.tape import CANDLE_VALUES

EXAMPLES = 3
"""Rows of each kind that are named."""


class Wrong(Struct, frozen=True):
    """Rows that are not what the tape gives: how many, and (microseconds UTC, name) of the first ones."""

    count: int
    examples: list[tuple[int, str]]


class Part(Struct, frozen=True):
    """The trades of one place, era and granularity of a day, by their numbers (`trade_seq`)."""

    place: int
    era: int
    is_aggregate: bool
    trades: int
    first: int
    last: int
    backward: int
    renamed: int

    @property
    def is_unbroken(self) -> bool:
        """Whether each number is the one before plus one."""
        return not self.backward and self.trades == self.last - self.first + 1


class Run(Struct, frozen=True):
    """Ids that are not on the tape, and the times of the trades before and after them."""

    first: int
    last: int
    before: int
    after: int


class DayChecks:
    """The questions about one day; every one keeps to the chunks that it needs.

    Args:
        connection: its transaction is the caller's.
        exchange: exchange id.
        symbol: unified symbol.
        day: 00:00 UTC in microseconds.
        islands: the instrument's trade coverage, touching spans joined.
        resets: when the exchange began its ids anew.
    """

    def __init__(
        self,
        connection: Connection,
        exchange: str,
        symbol: str,
        day: int,
        islands: list[tuple[int, int]],
        resets: list[int],
    ) -> None:
        self._connection = connection
        self._tape = StoredTape(connection, exchange, symbol)
        self._day = day
        self._islands = islands
        self._edges = [edge for island in islands for edge in island]
        self._resets = resets
        self._scope = {
            "exchange": exchange,
            "symbol": symbol,
            "from": to_datetime(day),
            "to": to_datetime(day + DAY),
            "before": to_datetime(day - DAY),
            "after": to_datetime(day + 2 * DAY),
            "edges": [to_datetime(edge) for edge in self._edges],
            "resets": [to_datetime(reset) for reset in resets],
        }

    # Trades

    def parts(self) -> list[Part]:
        """The day's trades, part by part."""
        return [Part(*row) for row in self._connection.execute(_PARTS, self._scope)]

    def is_unbroken(self, parts: Sequence[Part]) -> bool:
        """Whether the numbers of these parts, all inside coverage, go on by one and never come again."""
        before = self._trade_before()
        if before is not None and parts:
            kind = (bisect_right(self._resets, before.timestamp), before.trade_id.startswith("a"))
            first = parts[0]
            is_same_place = first.place == bisect_right(self._edges, before.timestamp)
            step = first.first - before.trade_seq
            if kind == (first.era, first.is_aggregate) and (step < 1 or (is_same_place and step > 1)):
                return False
        return all(part.is_unbroken for part in parts) and not any(
            (earlier.era, earlier.is_aggregate) == (later.era, later.is_aggregate)
            and later.first <= earlier.last
            for earlier, later in pairwise(parts)
        )

    def _trade_before(self) -> Trade | None:
        """The last trade before the day: of the coverage in which it begins, else of the day before.

        None where trades between the two have left the database: whether ids go on from there, nobody knows.
        """
        begin = next((begin for begin, end in self._islands if begin < self._day < end), self._day - DAY)
        found = self._tape.last_trade(max(begin, self._tape.past_until(self._day)), self._day)
        return None if found is None else found[0]

    def missing(self) -> Iterator[Run]:
        """Runs of ids inside coverage that are not on the tape, before a trade of the day."""
        last_before = self._trade_before()
        reach = self._day - DAY if last_before is None else min(self._day - DAY, last_before.timestamp)
        scope = {**self._scope, "before": to_datetime(max(reach, self._tape.past_until(self._day)))}
        with self._connection.cursor(name="missing_ids") as cursor:
            for first, last, before, after in cursor.execute(_MISSING, scope):
                yield Run(first, last, from_datetime(before), from_datetime(after))

    def repeated_numbers(self) -> Wrong:
        """Trades whose number an earlier trade of the same era has, a day back at most."""
        return self._wrong(_REPEATED_NUMBERS)

    def repeated_ids(self) -> Wrong:
        """Trades whose id an earlier trade of the same era has, a day back at most."""
        return self._wrong(_REPEATED_IDS)

    def orphans(self) -> Wrong:
        """Trades outside of coverage and of every hole on record."""
        return self._wrong(_ORPHANS)

    # What follows from them

    def wrong_cvd(self) -> Wrong:
        """Trades whose `cvd_at_trade` is wrong, and CVD points."""
        trades, points = self._recomputed(_WRONG_TRADES), self._recomputed(_WRONG_POINTS)
        return Wrong(trades.count + points.count, (trades.examples + points.examples)[:EXAMPLES])

    def wrong_candles(self) -> Wrong:
        """Candles that differ; of those not settled yet only the ones whose trades and books differ."""
        return self._recomputed(_WRONG_CANDLES)

    def contradicted_candles(self) -> Wrong:
        """Candles of others inside coverage that say of trades where there are none."""
        return self._wrong(_CONTRADICTED)

    def _recomputed(self, query: sql.Composed) -> Wrong:
        scope = {
            **parameters(self._tape, self._islands, self._day, self._day + DAY),
            "start": self._scope["from"],
            "start_day": self._scope["from"],
        }
        with recomputing(self._connection):
            return self._wrong(query, scope)

    def _wrong(self, query: sql.SQL | sql.Composed, more: dict[str, Any] | None = None) -> Wrong:
        rows = self._connection.execute(query, {**self._scope, **(more or {}), "limit": EXAMPLES}).fetchall()
        return Wrong(rows[0][0] if rows else 0, [(from_datetime(at), name) for _, at, name in rows])


# The statements


_PLACED = sql.SQL("""
    placed AS (
        SELECT timestamp, trade_seq, trade_id,
            width_bucket(timestamp, %(edges)s::timestamptz[]) AS place,
            width_bucket(timestamp, %(resets)s::timestamptz[]) AS era,
            left(trade_id, 1) = 'a' AS is_aggregate
        FROM trades
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s
            AND timestamp >= {} AND timestamp < {}
    )
""")
_DAY = _PLACED.format(sql.SQL("%(from)s"), sql.SQL("%(to)s"))
_DAY_AND_BEFORE = _PLACED.format(sql.SQL("%(before)s"), sql.SQL("%(to)s"))
_THREE_DAYS = _PLACED.format(sql.SQL("%(before)s"), sql.SQL("%(after)s"))
_PART = sql.SQL("place, era, is_aggregate")

_PARTS = sql.SQL("""
    WITH {day}, stepped AS (
        SELECT *, lag(trade_seq) OVER tape AS earlier,
            (lag(place) OVER tape, lag(era) OVER tape, lag(is_aggregate) OVER tape)
                = ({part}) AS is_same
        FROM placed
        WINDOW tape AS (ORDER BY timestamp, trade_seq)
    )
    SELECT {part}, count(*), min(trade_seq), max(trade_seq),
        count(*) FILTER (WHERE is_same AND trade_seq <= earlier),
        count(*) FILTER (WHERE trade_id <> CASE WHEN is_aggregate THEN 'a' ELSE '' END || trade_seq)
    FROM stepped GROUP BY {part} ORDER BY place, era
""").format(day=_DAY, part=_PART)

_MISSING = sql.SQL("""
    WITH {days}, stepped AS (
        SELECT place, timestamp, trade_seq,
            lag(trade_seq) OVER ids AS lower, lag(timestamp) OVER ids AS before
        FROM placed
        WINDOW ids AS (PARTITION BY {part} ORDER BY trade_seq)
    )
    SELECT lower + 1, trade_seq - 1, before, timestamp FROM stepped
    WHERE place %% 2 = 1 AND trade_seq > lower + 1 AND timestamp >= %(from)s AND timestamp < %(to)s
    ORDER BY trade_seq
""").format(days=_THREE_DAYS, part=_PART)

_REPEATED = sql.SQL("""
    WITH {days}, numbered AS (
        SELECT timestamp, trade_id, row_number() OVER (PARTITION BY era, {key} ORDER BY timestamp) AS number
        FROM placed
    )
    SELECT count(*) OVER (), timestamp, trade_id FROM numbered
    WHERE number > 1 AND timestamp >= %(from)s ORDER BY 2, 3 LIMIT %(limit)s
""")
_REPEATED_NUMBERS = _REPEATED.format(days=_DAY_AND_BEFORE, key=sql.SQL("is_aggregate, trade_seq"))
_REPEATED_IDS = _REPEATED.format(days=_DAY_AND_BEFORE, key=sql.SQL("trade_id"))

_ORPHANS = sql.SQL("""
    WITH {}
    SELECT count(*) OVER (), timestamp, trade_id FROM placed
    WHERE place %% 2 = 0 AND NOT EXISTS (
        SELECT FROM stream_gaps AS hole
        WHERE hole.exchange = %(exchange)s AND hole.symbol = %(symbol)s AND hole.stream = 'trades'
            AND placed.timestamp BETWEEN hole.from_timestamp AND hole.to_timestamp)
    ORDER BY 2, 3 LIMIT %(limit)s
""").format(_DAY)

_FOUND = sql.SQL("SELECT count(*) OVER (), timestamp, {} FROM changes WHERE {} ORDER BY 2, 3 LIMIT %(limit)s")
_WRONG_TRADES = sql.SQL("WITH {} ").format(TRADE_CHANGES) + _FOUND.format(
    sql.SQL("trade_id"), sql.SQL("true")
)
_WRONG_POINTS = sql.SQL("WITH {} ").format(CVD_CHANGES) + _FOUND.format(
    sql.SQL("'CVD point'"), sql.SQL("timestamp <= %(settled)s")
)
_OF_TRADES = [column for column in CANDLE_VALUES if column not in ("is_closed", "is_whole")]
_WRONG_CANDLES = sql.SQL("WITH {} ").format(CANDLE_CHANGES) + _FOUND.format(
    sql.SQL("interval"),
    sql.SQL("""
        timestamp + interval::interval <= %(settled)s OR (
            new_open IS NOT NULL AND old_open IS NOT NULL AND ({}) IS DISTINCT FROM ({}))
    """).format(
        names(f"new_{column}" for column in _OF_TRADES), names(f"old_{column}" for column in _OF_TRADES)
    ),
)
_CONTRADICTED = sql.SQL("""
    SELECT count(*) OVER (), timestamp, interval FROM candles
    WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND timestamp >= %(from)s AND timestamp < %(to)s
        AND source <> 'trades' AND volume > 0
        AND width_bucket(timestamp, %(edges)s::timestamptz[]) %% 2 = 1
        AND width_bucket(timestamp + interval::interval - '1 us'::interval, %(edges)s::timestamptz[])
            = width_bucket(timestamp, %(edges)s::timestamptz[])
    ORDER BY 2, 3 LIMIT %(limit)s
""")
