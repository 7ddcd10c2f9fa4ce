"""What is known of one instrument's stored tape: where to go on from, and what to recompute."""

from market import Side, Trade
from market.timeframe import DAY, from_datetime, to_datetime
from storage.database import Connection
from storage.ledger import spans
from storage.past import Past, past


class StoredTape:
    """Asks for single rows of one instrument; every range keeps to the chunks that it needs."""

    def __init__(self, connection: Connection, exchange: str, symbol: str) -> None:
        self._connection = connection
        self._exchange = exchange
        self._symbol = symbol

    def islands(self) -> list[tuple[int, int]]:
        """Trade coverage, touching spans joined: how a part is proven makes no difference to its rows."""
        islands: list[tuple[int, int]] = []
        for span in spans(self._connection, self._exchange, self._symbol, "trades"):
            if islands and islands[-1][1] == span.from_timestamp:
                islands[-1] = (islands[-1][0], span.to_timestamp)
            else:
                islands.append((span.from_timestamp, span.to_timestamp))
        return islands

    def past(self, begin: int | None = None, end: int | None = None) -> Past:
        """What of [begin, end) has left the database."""
        return past(self._connection, self._exchange, self._symbol, begin, end)

    def price_before(self, begin: int, day: int) -> tuple[int, float] | None:
        """The time and price of the last trade in [begin, day), where `day` begins a UTC day.

        Where trades of [begin, day) have left the database, the candles beside that midnight say the price,
        and the last moment before it stands for the time.
        """
        present = max(begin, self.past_until(day))
        found = self.last_trade(present, day)
        if found is not None:
            return found[0].timestamp, found[0].price
        close = None if present == begin else self._close_at(day)
        return None if close is None else (day - 1, close)

    def past_until(self, day: int) -> int:
        """The end of the last day before this one whose trades have left; 0 without any."""
        row = self._connection.execute(
            """
            SELECT max(day) FROM past_days
            WHERE exchange = %s AND symbol = %s AND table_name = 'trades' AND interval = ''
                AND dropped_timestamp IS NOT NULL AND day < %s
            """,
            (self._exchange, self._symbol, to_datetime(day)),
        ).fetchone()
        return 0 if row is None or row[0] is None else from_datetime(row[0]) + DAY

    def _close_at(self, day: int) -> float | None:
        """The price at a midnight: of a candle that ends there, or of a quiet one that begins."""
        row = self._connection.execute(
            """
            SELECT close FROM candles
            WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND source = 'trades'
                AND timestamp >= %(before)s AND timestamp <= %(day)s
                AND (timestamp + interval::interval = %(day)s OR (timestamp = %(day)s AND trade_count = 0))
            ORDER BY timestamp LIMIT 1
            """,
            {
                "exchange": self._exchange,
                "symbol": self._symbol,
                "before": to_datetime(day - DAY),
                "day": to_datetime(day),
            },
        ).fetchone()
        return None if row is None else float(row[0])

    def first_trade_time(self, begin: int, end: int) -> int | None:
        """The time of the first trade in [begin, end)."""
        row = self._connection.execute(
            """
            SELECT timestamp FROM trades
            WHERE exchange = %s AND symbol = %s AND timestamp >= %s AND timestamp < %s
            ORDER BY timestamp LIMIT 1
            """,
            (self._exchange, self._symbol, to_datetime(begin), to_datetime(end)),
        ).fetchone()
        return None if row is None else from_datetime(row[0])

    def last_trade(self, begin: int, end: int | None = None) -> tuple[Trade, float] | None:
        """The last trade in [begin, end) (or from `begin` on) and its CVD; the last day is asked first."""
        if end is not None and begin < end - DAY:
            found = self._last_trade(end - DAY, to_datetime(end))
            return found or self._last_trade(begin, to_datetime(end - DAY))
        return self._last_trade(begin, "infinity" if end is None else to_datetime(end))

    def _last_trade(self, begin: int, end: object) -> tuple[Trade, float] | None:
        row = self._connection.execute(
            """
            SELECT timestamp, trade_id, trade_seq, price, size, side, fill_count, cvd_at_trade FROM trades
            WHERE exchange = %s AND symbol = %s AND timestamp >= %s AND timestamp < %s
            ORDER BY timestamp DESC, trade_seq DESC LIMIT 1
            """,
            (self._exchange, self._symbol, to_datetime(begin), end),
        ).fetchone()
        if row is None:
            return None
        timestamp, trade_id, trade_seq, price, size, side, fill_count, cvd = row
        known_side = None if side is None else Side(side)
        trade = Trade(
            self._symbol, from_datetime(timestamp), trade_id, trade_seq, price, size, known_side, fill_count
        )
        return trade, cvd

    def open_day_before(self, day: int) -> int:
        """`day`, or an earlier one whose candles are still open: what comes now may close them."""
        row = self._connection.execute(
            """
            SELECT timestamp, is_closed FROM candles
            WHERE exchange = %s AND symbol = %s AND interval = '1d' AND timestamp < %s AND source = 'trades'
            ORDER BY timestamp DESC LIMIT 1
            """,
            (self._exchange, self._symbol, to_datetime(day)),
        ).fetchone()
        return day if row is None or row[1] else from_datetime(row[0])
