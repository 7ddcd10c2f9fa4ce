"""A small database to ask about: two hours of a market, signals, positions, runs, holes and alerts.

Whatever text may come from outside is as hostile as it can be.
"""

from uuid import UUID

from storage.database import Connection, connect

HOSTILE = '</b><a href="https://evil.example">x</a> & <script>@all \u202e\n' + "y" * 600
"""What must be shown as letters, in one line, and cut."""
SEEN = '</b><a href="https://evil.example">x</a> & <script>@all'
"""How its beginning looks to people."""
RUN = UUID("0dd5c0de-0000-4000-8000-000000000001")


def seed(database: str) -> None:
    """Fill the database; BTC/USDT on binance and okx, ETH/USDT on binance."""
    with connect(database) as connection:
        _tape(connection)
        _streams(connection)
        _signals(connection)
        _positions(connection)
        _runs(connection)
        _alerts(connection)


_MARKETS = (
    "(VALUES ('binance', 'BTC/USDT'), ('binance', 'ETH/USDT'), ('okx', 'BTC/USDT')) AS m (exchange, symbol)"
)
_MINUTES = "generate_series(date_trunc('hour', now()) - interval '2 hours', now(), '1 minute') AS t"


def _tape(connection: Connection) -> None:
    connection.execute(f"""
        INSERT INTO trades (timestamp, exchange, symbol, trade_id, trade_seq, price, size, side, cvd_at_trade)
        SELECT t, exchange, symbol, extract(epoch FROM t)::bigint, extract(epoch FROM t)::bigint,
            50000 + extract(minute FROM t), 1, 'buy', 1
        FROM {_MARKETS}, {_MINUTES}""")
    connection.execute(f"""
        INSERT INTO candles (timestamp, exchange, symbol, interval, open, high, low, close, volume,
            buy_volume, sell_volume, vwap, trade_count, cvd_close, is_closed, is_whole, source)
        SELECT t, exchange, symbol, interval, 50000, 50100, 49900, 50000 + extract(minute FROM t), 3, 2, 1,
            50000, 3, 7, true, true, 'trades'
        FROM {_MARKETS}, {_MINUTES}, (VALUES ('1m', 1), ('15m', 15)) AS i (interval, minutes)
        WHERE extract(minute FROM t)::int % minutes = 0""")
    connection.execute(f"""
        INSERT INTO cvd_snapshots (timestamp, exchange, symbol, cvd, cvd_change, anchor_timestamp)
        SELECT t, exchange, symbol, 7, 1, date_trunc('day', t) FROM {_MARKETS}, {_MINUTES}""")
    connection.execute(f"""
        INSERT INTO orderbook_snapshots (timestamp, exchange, symbol, best_bid, best_ask, mid, spread,
            spread_bps, bid_volume, ask_volume, imbalance, depth, bids_json, asks_json)
        SELECT date_trunc('second', now()), exchange, symbol, 49999, 50001, 50000, 2, 0.4, 5, 3, 25, 2,
            '[[49999, 2], [49998, 3]]', '[[50001, 1.5], [50002, 1.5]]' FROM {_MARKETS}""")
    connection.execute(f"""
        INSERT INTO stream_coverage (exchange, symbol, stream, from_timestamp, to_timestamp, row_count, proof,
            origin)
        SELECT exchange, symbol, 'trades', now() - interval '2 hours', now(), 120, 'ids', 'live'
        FROM {_MARKETS}""")


def _streams(connection: Connection) -> None:
    connection.execute(
        """
        INSERT INTO stream_state (exchange, symbol, stream, watermark, watermark_timestamp, epoch, status,
            detail, updated_timestamp)
        VALUES ('binance', 'BTC/USDT', 'trades', '1', now() - interval '2 seconds', 1, 'stale', %s,
            now() + interval '1 hour')""",
        [HOSTILE],
    )
    connection.execute(
        """
        INSERT INTO stream_gaps (exchange, symbol, stream, from_timestamp, to_timestamp, missing_count,
            detected_timestamp, cause, status, proof, note)
        SELECT 'binance', 'BTC/USDT', 'trades', now() - n * interval '5 minutes',
            now() - n * interval '5 minutes' + interval '30 seconds', 12, now(), %(hostile)s,
            CASE WHEN n = 1 THEN 'confirmed' ELSE 'healed' END, 'ids', %(hostile)s
        FROM generate_series(1, 23) AS n""",
        {"hostile": HOSTILE},
    )
    connection.execute("""
        INSERT INTO system_metrics (timestamp, component, metric, value, labels)
        SELECT now() - interval '1 second', 'collector', metric, value, '{"exchange": "binance"}'
        FROM (VALUES ('exchange_lag_p50', 0.012), ('exchange_lag_p99', 0.08), ('trades_per_second', 42.5))
            AS measured (metric, value)""")


def _signals(connection: Connection) -> None:
    connection.execute(
        """
        INSERT INTO signals (timestamp, exchange, symbol, interval, strategy_name, config_hash, signal_type,
            confidence_score, confidence_level, score, price, cvd, orderbook_imbalance, reasons, warnings,
            indicators)
        SELECT date_trunc('hour', now()) - n * interval '15 minutes', 'binance',
            CASE WHEN n = 7 THEN 'ETH/USDT' ELSE 'BTC/USDT' END, '15m', %(hostile)s, 'abcdef0123456789',
            CASE WHEN n %% 2 = 0 THEN 'STRONG_BUY' ELSE 'SELL' END, 61, 'MEDIUM', 0.55, 50000, 7, 12.5,
            array_fill(%(hostile)s::text, ARRAY[CASE WHEN n = 0 THEN 1 ELSE 14 END]), ARRAY[%(hostile)s],
            '{"rsi_14": 28.25, "note": "<i>"}'
        FROM generate_series(0, 7) AS n""",
        {"hostile": HOSTILE},
    )
    connection.execute("""
        INSERT INTO signal_outcomes (signal_id, horizon, outcome_timestamp, return_net, is_right)
        SELECT min(id), interval '1 hour', now(), 0.0123, true FROM signals""")


def _positions(connection: Connection) -> None:
    connection.execute(
        """
        INSERT INTO positions (exchange, symbol, side, status, strategy_name, entry_timestamp, entry_price,
            quantity, stop_loss, fees, is_backtest)
        SELECT 'binance', 'BTC/USDT', 'long', 'open', %s, now() - interval '90 minutes', 49000, 0.5, 48000, 2,
            false FROM generate_series(1, 10)""",
        [HOSTILE],
    )
    connection.execute(
        """
        INSERT INTO positions (exchange, symbol, side, status, strategy_name, entry_timestamp, entry_price,
            quantity, exit_timestamp, exit_price, exit_reason, fees, gross_pnl, pnl, pnl_pct, is_backtest)
        SELECT 'binance', 'BTC/USDT', 'long', 'closed', %s, t - interval '1 minute', 100, 1, t, 101, 'signal',
            0.5, 12, 11.5, 1, false
        FROM (VALUES (now()), (now() - interval '1 day'), (now() - interval '10 days')) AS c (t)""",
        [HOSTILE],
    )


def _runs(connection: Connection) -> None:
    connection.execute(
        """
        INSERT INTO backtest_runs (backtest_id, strategy_name, strategy_config, exchange, symbols, interval,
            market_type, start_date, end_date, initial_capital, status, data_fingerprint, code_version,
            machine, seed, error, run_timestamp)
        SELECT ('0dd5c0de-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, %(hostile)s, '{}', 'binance',
            ARRAY['BTC/USDT'], '1h', 'spot', '2026-01-01', '2026-02-01', 10000, 'failed', 'f', 'v', 'm', 0,
            %(hostile)s, now() - n * interval '1 hour'
        FROM generate_series(1, 7) AS n""",
        {"hostile": HOSTILE},
    )


def _alerts(connection: Connection) -> None:
    connection.execute(
        """
        INSERT INTO alerts (timestamp, alert_type, severity, title, message, channel, status,
            dedupe_key, error)
        SELECT now(), 'data_gap', 'warning', %(hostile)s, %(hostile)s, 'console', 'dead', 'a' || n,
            %(hostile)s
        FROM generate_series(1, 8) AS n""",
        {"hostile": HOSTILE},
    )
