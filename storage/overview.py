"""What the database holds at a glance: rows a table, each instrument's tape, who works on it."""

from datetime import datetime

from msgspec import Struct
from psycopg import sql

from market.timeframe import from_datetime
from storage.database import Connection

COUNTED = (
    "trades",
    "orderbook_snapshots",
    "candles",
    "cvd_snapshots",
    "indicators",
    "signals",
    "alerts",
    "backtest_runs",
    "positions",
    "fills",
    "backtest_equity_curve",
    "stream_coverage",
    "stream_gaps",
    "rejected_messages",
)
"""The tables that `row_counts` counts, in the order people read them."""
EXACT_BYTES = 2 * 1024**3
"""Tables up to this size are counted row by row, larger ones by the planner's statistics."""


class InstrumentTape(Struct, frozen=True):
    """One instrument's trade tape: what is proven, how far it reaches, and where it came from."""

    exchange: str
    symbol: str
    origins: list[str]
    proofs: list[str]
    rows: int
    spans: int
    from_timestamp: datetime
    to_timestamp: datetime
    open_gaps: int
    last_price: float | None


def row_counts(connection: Connection) -> dict[str, int]:
    """Rows of each table of COUNTED; of a large one an estimate."""
    return {name: count_rows(connection, name) for name in COUNTED}


def count_rows(connection: Connection, name: str) -> int:
    """Rows of a table; of one larger than EXACT_BYTES an estimate."""
    size = connection.execute(
        "SELECT coalesce(hypertable_size(to_regclass(%(name)s)), pg_total_relation_size(%(name)s::regclass))",
        {"name": name},
    ).fetchone()
    if size is not None and size[0] > EXACT_BYTES:
        row = connection.execute("SELECT approximate_row_count(%s::regclass)", [name]).fetchone()
    else:
        query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(name))
        row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


def instrument_tapes(connection: Connection) -> list[InstrumentTape]:
    """Every instrument that has trade coverage, by exchange and symbol."""
    rows = connection.execute(
        """
        SELECT c.exchange, c.symbol, array_agg(DISTINCT c.origin), array_agg(DISTINCT c.proof),
            sum(c.row_count)::bigint, count(*), min(c.from_timestamp), max(c.to_timestamp),
            (SELECT count(*) FROM stream_gaps AS g
             WHERE g.exchange = c.exchange AND g.symbol = c.symbol AND g.stream = 'trades'
                AND g.status IN ('suspected', 'confirmed')),
            (SELECT t.price FROM trades AS t
             WHERE t.exchange = c.exchange AND t.symbol = c.symbol
                AND t.timestamp <= max(c.to_timestamp)
             ORDER BY t.timestamp DESC, t.trade_seq DESC LIMIT 1)
        FROM stream_coverage AS c WHERE c.stream = 'trades'
        GROUP BY c.exchange, c.symbol ORDER BY c.exchange, c.symbol
        """
    ).fetchall()
    return [InstrumentTape(*row) for row in rows]


def workers(connection: Connection) -> list[str]:
    """The application names of Deltatape's processes that are connected now, without this one."""
    rows = connection.execute(
        """
        SELECT DISTINCT application_name FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND application_name LIKE 'deltatape %' ORDER BY 1
        """
    ).fetchall()
    return [name for (name,) in rows]


def signal_markets(connection: Connection) -> list[tuple[str, str]]:
    """Exchange and symbol of every market that has signals."""
    rows = connection.execute("SELECT DISTINCT exchange, symbol FROM signals ORDER BY exchange, symbol")
    return [(row[0], row[1]) for row in rows]


def database_bytes(connection: Connection) -> int:
    """Size of the whole database on disk."""
    row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return int(row[0]) if row else 0


def last_trade_timestamp(connection: Connection, exchange: str, symbol: str) -> int | None:
    """Time of an instrument's last trade in microseconds UTC, None without any."""
    row = connection.execute(
        "SELECT max(timestamp) FROM trades WHERE exchange = %s AND symbol = %s", (exchange, symbol)
    ).fetchone()
    return None if row is None or row[0] is None else from_datetime(row[0])
