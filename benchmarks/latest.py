"""The questions people ask all day, of a tape that is a year old: planning and answer, warm, as medians.

The chunks are those of a year, with few rows in each: what such questions cost is to find the right ones.
"""

from statistics import median
from time import perf_counter

from benchmarks import Figure, Figures
from benchmarks.databases import fresh_database
from storage.database import Connection, connect

ROUNDS = 51
LATEST_SECONDS = 0.015
WEEK_SECONDS = 0.050

_LATEST = {
    "latest state, as people write it": """
        SELECT
            (SELECT cvd FROM cvd_snapshots WHERE exchange = 'coinbase' ORDER BY timestamp DESC LIMIT 1),
            (SELECT imbalance FROM orderbook_snapshots WHERE exchange = 'kraken'
                ORDER BY timestamp DESC LIMIT 1),
            (SELECT close FROM candles WHERE exchange = 'coinbase' AND interval = '1m'
                ORDER BY timestamp DESC LIMIT 1)""",
    "latest_market of four instruments": "SELECT * FROM latest_market",
}
_WEEK = {
    "positions closed by day": """
        SELECT DATE(entry_timestamp), count(*), sum(pnl), avg(pnl_pct) FROM positions
        WHERE status = 'closed' AND entry_timestamp > now() - interval '7 days'
        GROUP BY DATE(entry_timestamp) ORDER BY 1 DESC""",
    "hourly candles": """
        SELECT timestamp, close FROM candles WHERE exchange = 'coinbase' AND symbol = 'BTC/USD'
            AND interval = '1h' AND timestamp > now() - interval '7 days' ORDER BY timestamp""",
    "CVD by hour": """
        SELECT time_bucket('1 hour', timestamp), last(cvd, timestamp) FROM cvd_snapshots
        WHERE exchange = 'coinbase' AND symbol = 'BTC/USD' AND timestamp > now() - interval '7 days'
        GROUP BY 1 ORDER BY 1""",
    "imbalance by hour": """
        SELECT time_bucket('1 hour', timestamp), avg(imbalance) FROM orderbook_snapshots
        WHERE exchange = 'kraken' AND symbol = 'BTC/USD' AND timestamp > now() - interval '7 days'
        GROUP BY 1 ORDER BY 1""",
}


def run() -> Figures:
    """The median of each question, beside what it may take."""
    with fresh_database() as url, connect(url, autocommit=True) as connection:
        fill(connection)
        chunks = connection.execute("SELECT count(*) FROM timescaledb_information.chunks").fetchone()
        figures = [Figure("chunks", float(chunks[0] if chunks else 0), "")]
        for questions, allowed in ((_LATEST, LATEST_SECONDS), (_WEEK, WEEK_SECONDS)):
            span = "" if questions is _LATEST else "seven days: "
            figures += [
                Figure(span + name, _median(connection, query) * 1e3, "ms", allowed * 1e3)
                for name, query in questions.items()
            ]
    return figures


def _median(connection: Connection, query: str) -> float:
    taken: list[float] = []
    for _ in range(ROUNDS):
        began = perf_counter()
        connection.execute(query.encode(), prepare=False).fetchall()
        taken.append(perf_counter() - began)
    return median(taken[1:])


def fill(connection: Connection) -> None:
    """Four instruments over a year, the last seven days as dense as they are on a real tape."""
    for table, columns, values, sparse, dense in (
        ("trades", "trade_id, trade_seq, price, size, side, cvd_at_trade",
         "n::text, n, 50000 + n % 100, 1, 'buy', n", "1 hour", "10 seconds"),
        ("cvd_snapshots", "cvd, cvd_change, anchor_timestamp", "n, 1, date_trunc('day', t)",
         "1 hour", "10 seconds"),
        ("orderbook_snapshots", ("best_bid, best_ask, mid, spread, spread_bps, bid_volume, ask_volume,"
         " imbalance, depth, bids_json, asks_json"), "1, 3, 2, 2, 10000, 1, 1, n % 100, 1, '[]', '[]'",
         "1 hour", "10 seconds"),
        ("candles", "interval, open, high, low, close, volume, is_closed, is_whole, source",
         "'1m', 1, 9, 1, 1 + n % 9, 1, true, true, 'exchange'", "1 hour", "1 minute"),
        ("candles", "interval, open, high, low, close, volume, is_closed, is_whole, source",
         "'1h', 1, 9, 1, 1 + n % 9, 1, true, true, 'exchange'", "1 hour", "1 hour"),
    ):  # fmt: skip
        connection.execute(
            f"""
            INSERT INTO {table} (timestamp, exchange, symbol, {columns})
            SELECT t, exchange, symbol, {values}
            FROM (VALUES ('coinbase', 'BTC/USD'), ('coinbase', 'ETH/USD'), ('kraken', 'BTC/USD'),
                ('kraken', 'ETH/USD')) AS instrument (exchange, symbol),
            LATERAL (
                SELECT t, row_number() OVER () AS n FROM (
                    SELECT generate_series(date_trunc('hour', now()) - interval '365 days',
                        date_trunc('hour', now()) - interval '8 days', interval '{sparse}') AS t
                    UNION ALL SELECT generate_series(date_trunc('hour', now()) - interval '7 days',
                        date_trunc('hour', now()), interval '{dense}')) AS times) AS numbered
            """.encode()
        )
    connection.execute("""
        INSERT INTO stream_coverage (exchange, symbol, stream, from_timestamp, to_timestamp, row_count, proof,
            origin)
        SELECT exchange, symbol, 'trades', now() - interval '365 days', now(), 1, 'connection', 'live'
        FROM trades WHERE timestamp > now() - interval '1 day' GROUP BY 1, 2""")
    connection.execute("""
        INSERT INTO positions (exchange, symbol, side, status, strategy_name, entry_timestamp, entry_price,
            quantity, exit_timestamp, exit_price, exit_reason, fees, pnl, pnl_pct, is_backtest)
        SELECT 'kraken', 'BTC/USD', 'long', 'closed', 'trend', t, 1, 1, t + interval '1 hour', 1, 'signal', 0,
            1, 1, false
        FROM generate_series(now() - interval '365 days', now(), interval '10 minutes') AS t""")
    connection.execute("VACUUM ANALYZE")
