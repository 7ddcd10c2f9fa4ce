"""Everything that a stream needs to go on from the stored rows, as if it had never stopped."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from psycopg import sql

from market import DAY, CandleBuilder, Cvd, ExactSum, Timeframe, Trade
from market.candle import Bucket
from market.timeframe import from_datetime, to_datetime
from storage.database import Connection
from storage.derived import BOOK_MINUTES, MINUTES
from storage.ledger import spans
from storage.orphans import CLOCK_GOES_BACK
from storage.stored import StoredTape

_MINUTE = Timeframe.M1.microseconds
_POINTS_KEPT = 20


@dataclass(frozen=True)
class Resume:
    """Where a stream stands; times in microseconds UTC.

    Attributes:
        last: its last trade.
        last_id: up to which id trades follow each other; clocks go back, and it need not be the last one's.
        tape_from: where the instrument's coverage begins.
        span_from: where the unbroken coverage that holds the last trade begins.
        covered_until: where that coverage ends.
        first_id: id of the span's first row, None where it is not known.
        candles: holds the open candles' exact partial sums, inside the span.
        cvd: holds the day's exact sum and the points still due, inside the span.
        book_timestamp: the time of the last book snapshot since `span_from`.
    """

    last: Trade
    last_id: int
    tape_from: int
    span_from: int
    covered_until: int
    first_id: str | None
    candles: CandleBuilder
    cvd: Cvd
    book_timestamp: int | None


def load(connection: Connection, exchange: str, symbol: str) -> Resume | None:
    """Where the instrument's stream stands; None where nothing is covered, or the last span has no trade."""
    tape = StoredTape(connection, exchange, symbol)
    covered = spans(connection, exchange, symbol, "trades")
    if not covered:
        return None
    span_from, covered_until = tape.islands()[-1]
    last = tape.last_trade(span_from)
    if last is None:
        return None
    rows = _Rows(connection, exchange, symbol, tape, span_from)
    return Resume(
        last=last[0],
        last_id=rows.last_id(last[0]),
        tape_from=covered[0].from_timestamp,
        span_from=span_from,
        covered_until=covered_until,
        first_id=covered[-1].from_id,
        candles=rows.candles(),
        cvd=rows.cvd(last[0], covered_until),
        book_timestamp=rows.last_time("orderbook_snapshots", span_from),
    )


class _Rows:
    """Reads the builders' state back from one instrument's rows."""

    def __init__(
        self, connection: Connection, exchange: str, symbol: str, tape: StoredTape, span_from: int
    ) -> None:
        self._connection = connection
        self._key = {"exchange": exchange, "symbol": symbol}
        self._symbol = symbol
        self._tape = tape
        self._span_from = span_from

    def last_id(self, last: Trade) -> int:
        """The last of the ids that follow from the last trade's, all on the tape."""
        rows = self._connection.execute(
            """
            SELECT trade_seq FROM trades
            WHERE exchange = %(exchange)s AND symbol = %(symbol)s
                AND timestamp > %(since)s AND trade_seq > %(last)s
            ORDER BY trade_seq
            """,
            {**self._key, "since": to_datetime(last.timestamp - CLOCK_GOES_BACK), "last": last.trade_seq},
        )
        reached = last.trade_seq
        for (number,) in rows:
            if number != reached + 1:
                break
            reached = number
        return reached

    def candles(self) -> CandleBuilder:
        """The builder of candles, with the buckets that are open."""
        closed_until = self._closed_until()
        day = closed_until - closed_until % DAY
        minutes = self._minutes(day)
        higher: dict[Timeframe, Bucket] = {}
        for minute in minutes:
            for timeframe in Timeframe:
                begin = timeframe.open_of(closed_until)
                if timeframe is not Timeframe.M1 and begin <= minute.timestamp < closed_until:
                    higher.setdefault(timeframe, Bucket(begin)).merge(minute)
        before = self._tape.last_trade(min(self._span_from, day), closed_until)
        builder = CandleBuilder(self._symbol)
        builder.restore(
            span_from=self._span_from,
            closed_until=closed_until,
            flat_price=before[0].price if before and before[0].timestamp >= self._span_from else None,
            last_cvd=(_day_of(before[0].timestamp), before[1]) if before else (-1, 0.0),
            higher=higher,
            minutes=[minute for minute in minutes if minute.timestamp >= closed_until],
        )
        return builder

    def cvd(self, last: Trade, covered_until: int) -> Cvd:
        """The builder of CVD, with the points that are due."""
        last_point = self.last_time("cvd_snapshots", self._span_from + 1) or self._span_from
        point_day = _day_of(last_point - 1)
        before = self._tape.last_trade(point_day, last_point)
        day = _day_of(last.timestamp)
        builder = Cvd(self._symbol)
        builder.restore(
            day=day,
            total=self._total(day),
            anchors=self._anchors(point_day, max(last.timestamp, covered_until)),
            span_from=self._span_from,
            last_point=last_point,
            at_point=before[1] if before else 0.0,
            pending=self._pending(last_point),
            points=self._points(point_day, last_point),
        )
        return builder

    def last_time(self, table: str, begin: int) -> int | None:
        """The time of the table's last row from `begin` on."""
        query = sql.SQL("""
            SELECT timestamp FROM {}
            WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND timestamp >= %(begin)s
            ORDER BY timestamp DESC LIMIT 1
        """).format(sql.Identifier(table))
        row = self._connection.execute(query, {**self._key, "begin": to_datetime(begin)}).fetchone()
        return None if row is None else from_datetime(row[0])

    def _closed_until(self) -> int:
        """Open of the first minute of the span that is not closed; inside a span every minute has a row."""
        begin = self._span_from - self._span_from % _MINUTE
        row = self._connection.execute(
            """
            SELECT timestamp FROM candles
            WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND interval = '1m'
                AND timestamp >= %(begin)s AND is_closed AND source = 'trades'
            ORDER BY timestamp DESC LIMIT 1
            """,
            {**self._key, "begin": to_datetime(begin)},
        ).fetchone()
        return begin if row is None else from_datetime(row[0]) + _MINUTE

    def _minutes(self, begin: int) -> list[Bucket]:
        """Every minute from `begin` on that has trades or book snapshots."""
        query = sql.SQL("""
            WITH {}, {}
            SELECT minute,
                open, high, low, close, cvd_close, trade_count::bigint,
                volume, buy_volume, sell_volume, notional,
                imbalance_last, snapshot_count, imbalance, spread_bps
            FROM summed_minutes FULL JOIN book_minutes USING (minute)
            ORDER BY minute
        """).format(MINUTES, BOOK_MINUTES)
        rows = self._connection.execute(query, {**self._key, "from": to_datetime(begin), "to": "infinity"})
        return [_bucket(from_datetime(row[0]), row[1:7], row[7:11], row[11:]) for row in rows]

    def _total(self, day: int) -> ExactSum:
        row = self._connection.execute(
            """
            SELECT sum(CASE side WHEN 'buy' THEN size::text::numeric ELSE -size::text::numeric END)
            FROM trades
            WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND side IS NOT NULL
                AND timestamp >= %(from)s AND timestamp < %(to)s
            """,
            {**self._key, "from": to_datetime(day), "to": to_datetime(day + DAY)},
        ).fetchone()
        return ExactSum() if row is None or row[0] is None else _exact(row[0])

    def _anchors(self, first_day: int, until: int) -> dict[int, int]:
        islands = self._tape.islands()
        anchors = {}
        for day in range(first_day, until + 1, DAY):
            reaching = [begin for begin, end in islands if begin < day + DAY and end > day]
            if reaching:
                anchors[day] = max(day, reaching[0])
        return anchors

    def _pending(self, begin: int) -> list[tuple[int, float]]:
        rows = self._connection.execute(
            """
            SELECT timestamp, cvd_at_trade FROM trades
            WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND timestamp >= %(begin)s
            ORDER BY timestamp, trade_seq
            """,
            {**self._key, "begin": to_datetime(begin)},
        )
        return [(from_datetime(timestamp), cvd) for timestamp, cvd in rows]

    def _points(self, day: int, last_point: int) -> list[float]:
        rows = self._connection.execute(
            """
            SELECT cvd FROM cvd_snapshots
            WHERE exchange = %(exchange)s AND symbol = %(symbol)s
                AND timestamp > %(day)s AND timestamp <= %(last)s
            ORDER BY timestamp DESC LIMIT %(count)s
            """,
            {
                **self._key,
                "day": to_datetime(day),
                "last": to_datetime(last_point),
                "count": _POINTS_KEPT,
            },
        )
        return [cvd for (cvd,) in rows][::-1]


def _bucket(minute: int, trades: tuple[Any, ...], sums: tuple[Any, ...], books: tuple[Any, ...]) -> Bucket:
    bucket = Bucket(minute)
    if trades[0] is not None:
        bucket.open, bucket.high, bucket.low, bucket.close, bucket.cvd_close, bucket.trade_count = trades
        bucket.volume, bucket.buy, bucket.sell, bucket.notional = map(_exact, sums)
    if books[0] is not None:
        bucket.imbalance_last, bucket.snapshot_count = books[:2]
        bucket.imbalance, bucket.spread_bps = map(_exact, books[2:])
    return bucket


def _exact(value: Decimal) -> ExactSum:
    """A numeric with its scale: what trailing zeros it has, PostgreSQL gave it in the same sum."""
    sign, digits, exponent = value.as_tuple()
    whole = int("".join(map(str, digits)))
    return ExactSum(-whole if sign else whole, -int(exponent))


def _day_of(timestamp: int) -> int:
    return timestamp - timestamp % DAY
