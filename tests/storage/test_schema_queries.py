# ruff: noqa: E501 - the queries stand as people wrote them
"""The queries that people already run, as they wrote them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from storage.database import Connection
from storage.tables.backtests import RESULTS

LATEST_STATE = """
SELECT
    (SELECT cvd FROM cvd_snapshots WHERE exchange = 'coinbase' ORDER BY timestamp DESC LIMIT 1) AS cvd,
    (SELECT imbalance FROM orderbook_snapshots WHERE exchange = 'kraken' ORDER BY timestamp DESC LIMIT 1) AS imbalance,
    (SELECT close FROM candles WHERE exchange = 'coinbase' AND interval = '1m' ORDER BY timestamp DESC LIMIT 1) AS price;
"""
LAST_SEVEN_DAYS = """
SELECT DATE(entry_timestamp) AS date, COUNT(*) AS trades, SUM(pnl) AS daily_pnl, AVG(pnl_pct) AS avg_return
FROM positions WHERE status = 'closed' AND entry_timestamp > NOW() - INTERVAL '7 days'
GROUP BY DATE(entry_timestamp) ORDER BY date DESC;
"""
SIGNAL_WIN_RATE = """
SELECT signal_type, COUNT(*) AS total_signals, AVG(CASE WHEN p.pnl > 0 THEN 1 ELSE 0 END) AS win_rate, AVG(p.pnl) AS avg_pnl
FROM signals s JOIN positions p ON s.id = p.signal_id GROUP BY signal_type;
"""
BEST_SIGNAL_TYPES = """
SELECT s.signal_type, s.confidence_level, COUNT(*) AS count, AVG(p.pnl) AS avg_pnl, STDDEV(p.pnl) AS pnl_stddev
FROM signals s JOIN positions p ON s.id = p.signal_id WHERE p.status = 'closed'
GROUP BY s.signal_type, s.confidence_level HAVING COUNT(*) > 10 ORDER BY avg_pnl DESC;
"""
STRATEGIES = """
SELECT strategy_name, COUNT(*) AS runs, AVG(win_rate) AS avg_win_rate, AVG(sharpe_ratio) AS avg_sharpe, AVG(max_drawdown) AS avg_max_dd
FROM backtest_runs WHERE status = 'completed' GROUP BY strategy_name ORDER BY avg_sharpe DESC;
"""
BEST_RUNS = """
WITH strategy_metrics AS (
    SELECT backtest_id, strategy_name, win_rate, sharpe_ratio, max_drawdown, total_pnl
    FROM backtest_runs WHERE status = 'completed')
SELECT * FROM strategy_metrics ORDER BY sharpe_ratio DESC LIMIT 10;
"""
ALL = [
    LATEST_STATE,
    LAST_SEVEN_DAYS,
    SIGNAL_WIN_RATE,
    BEST_SIGNAL_TYPES,
    STRATEGIES,
    BEST_RUNS,
]


@pytest.mark.parametrize("query", ALL)
def test_it_runs_on_an_empty_tape(connection: Connection, query: str) -> None:
    rows = connection.execute(query.encode()).fetchall()
    assert rows == ([(None, None, None)] if query == LATEST_STATE else [])


def test_latest_state(connection: Connection) -> None:
    for minute, cvd, imbalance, close in ((0, 1.0, 10.0, 100.0), (1, -2.5, -20.0, 101.0)):
        timestamp = datetime(2026, 3, 1, 12, minute, tzinfo=UTC)
        connection.execute(
            "INSERT INTO cvd_snapshots (timestamp, exchange, symbol, cvd, cvd_change, anchor_timestamp)"
            " VALUES (%s, 'coinbase', 'BTC/USD', %s, 0, %s)",
            (timestamp, cvd, timestamp),
        )
        connection.execute(
            "INSERT INTO orderbook_snapshots VALUES"
            " (%s, 'kraken', 'BTC/USD', 1, 3, 2, 2, 10000, 1, 1, %s, 1, '[[1, 1]]', '[[3, 1]]')",
            (timestamp, imbalance),
        )
        connection.execute(
            "INSERT INTO candles (timestamp, exchange, symbol, interval, open, high, low, close,"
            " volume, is_closed, is_whole, source)"
            " VALUES (%(at)s, 'coinbase', 'BTC/USD', '1m', 100, 200, 50, %(close)s, 1, true, true,"
            " 'exchange')",
            {"at": timestamp, "close": close},
        )
    assert connection.execute(LATEST_STATE).fetchall() == [(-2.5, -20.0, 101.0)]


def add_signal(connection: Connection, kind: str, minute: int) -> int:
    row = connection.execute(
        "INSERT INTO signals (timestamp, exchange, symbol, interval, strategy_name, config_hash,"
        " signal_type, confidence_score, confidence_level, score, price)"
        " VALUES (%s, 'coinbase', 'BTC/USD', '1m', 'composite', 'c', %s, 60, 'LOW', 0.6, 100)"
        " RETURNING id",
        (datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=minute), kind),
    ).fetchone()
    assert row
    return int(row[0])


def add_position(connection: Connection, signal: int | None, pnl: int, **changes: Any) -> None:
    now = datetime.now(UTC)
    row = {
        "signal_id": signal,
        "exchange": "coinbase",
        "symbol": "BTC/USD",
        "side": "long",
        "status": "closed",
        "entry_timestamp": now,
        "entry_price": 100,
        "quantity": 1,
        "exit_timestamp": now,
        "exit_price": 100 + pnl,
        "exit_reason": "signal" if pnl > 0 else "stop_loss",
        "fees": 0,
        "gross_pnl": pnl,
        "pnl": pnl,
        "pnl_pct": float(pnl),
        "is_backtest": False,
        **changes,
    }
    statement = f"INSERT INTO positions ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})"
    connection.execute(statement.encode(), list(row.values()))


def test_last_seven_days(connection: Connection) -> None:
    add_position(connection, None, 10)
    add_position(connection, None, -4)
    add_position(connection, None, 99, status="stopped")
    long_ago = datetime.now(UTC) - timedelta(days=8)
    add_position(connection, None, 50, entry_timestamp=long_ago)
    rows = connection.execute(LAST_SEVEN_DAYS).fetchall()
    assert [row[1:] for row in rows] == [(2, Decimal(6), 3.0)]


def test_signal_win_rate_counts_the_losers(connection: Connection) -> None:
    signal = add_signal(connection, "BUY", 0)
    for pnl in (10, -2, -2, -2):
        add_position(connection, signal, pnl)
    assert connection.execute(SIGNAL_WIN_RATE).fetchall() == [("BUY", 4, Decimal("0.25"), 1)]


def test_best_signal_types(connection: Connection) -> None:
    for kind, gain in (("BUY", 1), ("STRONG_BUY", 2)):
        for minute in range(11):
            add_position(connection, add_signal(connection, kind, minute + gain * 100), gain)
    for minute in range(10):
        add_position(connection, add_signal(connection, "SELL", minute), 1000)
    rows = connection.execute(BEST_SIGNAL_TYPES).fetchall()
    assert rows == [("STRONG_BUY", "LOW", 11, 2, 0), ("BUY", "LOW", 11, 1, 0)]


def add_run(connection: Connection, strategy: str, sharpe: float, status: str) -> None:
    row = {
        "backtest_id": uuid4(),
        "strategy_name": strategy,
        "strategy_config": "{}",
        "exchange": "coinbase",
        "symbols": ["BTC/USD"],
        "interval": "1m",
        "market_type": "spot",
        "start_date": "2026-03-01",
        "end_date": "2026-03-02",
        "initial_capital": 10_000,
        "status": status,
        **dict.fromkeys(RESULTS, 0),
        "sharpe_ratio": sharpe,
        "data_fingerprint": "f",
        "code_version": "0",
        "machine": "m",
        "seed": 0,
    }
    if status != "completed":
        row |= dict.fromkeys(RESULTS)
    statement = f"INSERT INTO backtest_runs ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})"
    connection.execute(statement.encode(), list(row.values()))


def test_strategies_and_best_runs(connection: Connection) -> None:
    for strategy, sharpe in (("flat", 0.0), ("good", 2.0), ("good", 1.0), ("bad", -1.0)):
        add_run(connection, strategy, sharpe, "completed")
    add_run(connection, "good", 0.0, "failed")
    averaged = connection.execute(STRATEGIES).fetchall()
    assert [(name, runs, sharpe) for name, runs, _, sharpe, _ in averaged] == [
        ("good", 2, 1.5),
        ("flat", 1, 0.0),
        ("bad", 1, -1.0),
    ]
    best = connection.execute(BEST_RUNS).fetchall()
    assert [(row[1], row[3]) for row in best] == [
        ("good", 2.0),
        ("good", 1.0),
        ("flat", 0.0),
        ("bad", -1.0),
    ]
