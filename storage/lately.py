"""What people ask at any hour: the newest of markets and signals, by their keys or within bounded times.

However long the tape is, each of these reads a few chunks or a few rows of an index.
"""

from datetime import datetime
from typing import Any

from msgspec import Struct

from storage.database import Connection

__all__ = [
    "MarketNow",
    "SignalSeen",
    "alert_counts",
    "find_signal",
    "known_markets",
    "knows_strategy",
    "latest_markets",
    "newest_signals",
    "signal_outcomes",
]


class MarketNow(Struct, frozen=True):
    """What is known last of an instrument, and its price a day before; None where there is nothing."""

    exchange: str
    symbol: str
    trade_timestamp: datetime | None
    price: float | None
    cvd_timestamp: datetime | None
    cvd: float | None
    book_timestamp: datetime | None
    best_bid: float | None
    best_ask: float | None
    spread_bps: float | None
    imbalance: float | None
    price_before: float | None


class SignalSeen(Struct, frozen=True):
    """A signal as today's tape has it."""

    id: int
    timestamp: datetime
    exchange: str
    symbol: str
    interval: str
    strategy_name: str
    config_hash: str
    revision: int
    is_withdrawn: bool
    signal_type: str
    confidence_score: float
    confidence_level: str
    calibration_id: int | None
    score: float
    price: float
    cvd: float | None
    orderbook_imbalance: float | None
    reasons: list[str]
    warnings: list[str]
    indicators: dict[str, Any]


def known_markets(connection: Connection) -> list[tuple[str, str]]:
    """Exchange and symbol of every instrument whose trades are on the tape, in alphabetical order."""
    rows = connection.execute(
        "SELECT DISTINCT exchange, symbol FROM stream_coverage WHERE stream = 'trades' ORDER BY 1, 2"
    )
    return [(row[0], row[1]) for row in rows]


def knows_strategy(connection: Connection, name: str) -> bool:
    """Whether a strategy of this name gives signals here, or was backtested."""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM signal_state WHERE strategy_name = %(name)s)"
        " OR EXISTS (SELECT FROM backtest_runs WHERE strategy_name = %(name)s)",
        {"name": name},
    ).fetchone()
    return row == (True,)


def latest_markets(connection: Connection, markets: list[tuple[str, str]]) -> list[MarketNow]:
    """The last of each of these instruments that has trades, by symbol and exchange."""
    rows = connection.execute(
        """
        SELECT latest.exchange, latest.symbol, trade_timestamp, price, cvd_timestamp, cvd, book_timestamp,
            best_bid, best_ask, spread_bps, imbalance, before.close
        FROM latest_market AS latest
        LEFT JOIN LATERAL (
            SELECT close FROM candles AS candle
            WHERE candle.exchange = latest.exchange AND candle.symbol = latest.symbol AND interval = '1h'
                AND timestamp <= trade_timestamp - interval '25 hours'
                AND timestamp > trade_timestamp - interval '28 hours'
            ORDER BY timestamp DESC LIMIT 1) AS before ON true
        WHERE (latest.exchange, latest.symbol) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
        ORDER BY latest.symbol, latest.exchange
        """,
        ([exchange for exchange, _ in markets], [symbol for _, symbol in markets]),
    ).fetchall()
    return [MarketNow(*row) for row in rows]


_SIGNALS = f"SELECT {', '.join(SignalSeen.__struct_fields__)} FROM signals AS signal"  # noqa: S608 - ours
_NEWEST = """
    NOT is_withdrawn AND NOT EXISTS (
        SELECT FROM signals AS newer
        WHERE newer.strategy_name = signal.strategy_name AND newer.config_hash = signal.config_hash
            AND newer.exchange = signal.exchange AND newer.symbol = signal.symbol
            AND newer.interval = signal.interval AND newer.timestamp = signal.timestamp
            AND newer.revision > signal.revision)
"""


def newest_signals(
    connection: Connection, limit: int, offset: int = 0, markets: list[tuple[str, str]] | None = None
) -> list[SignalSeen]:
    """Signals as today's tape has them, the newest first; of these instruments only, where some are given."""
    rows = connection.execute(
        f"{_SIGNALS} WHERE {_NEWEST}"  # noqa: S608 - our own text
        " AND (%(all)s OR (exchange, symbol) IN (SELECT * FROM unnest(%(exchanges)s::text[],"
        " %(symbols)s::text[])))"
        " ORDER BY timestamp DESC, id DESC LIMIT %(limit)s OFFSET %(offset)s".encode(),
        {
            "all": markets is None,
            "exchanges": [exchange for exchange, _ in markets or ()],
            "symbols": [symbol for _, symbol in markets or ()],
            "limit": limit,
            "offset": offset,
        },
    ).fetchall()
    return [SignalSeen(*row) for row in rows]


def find_signal(connection: Connection, number: int) -> SignalSeen | None:
    """The signal of this id, whatever became of it; None if there is none."""
    row = connection.execute(f"{_SIGNALS} WHERE id = %s".encode(), (number,)).fetchone()
    return SignalSeen(*row) if row else None


def signal_outcomes(connection: Connection, number: int) -> list[tuple[str, float, bool]]:
    """What became of a signal: each horizon, the net return at its end, whether it was right."""
    rows = connection.execute(
        "SELECT horizon::text, return_net, is_right FROM signal_outcomes WHERE signal_id = %s"
        " ORDER BY horizon",
        (number,),
    )
    return [(row[0], row[1], row[2]) for row in rows]


def alert_counts(connection: Connection, since: datetime) -> dict[str, int]:
    """Alerts by status: those that wait or are dead however old, the others from `since` on."""
    rows = connection.execute(
        """
        SELECT status, count(*) FROM alerts
        WHERE status IN ('pending', 'failed', 'dead') OR status = 'sent' AND sent_timestamp >= %s
        GROUP BY status
        """,
        (since,),
    )
    return {row[0]: row[1] for row in rows}
