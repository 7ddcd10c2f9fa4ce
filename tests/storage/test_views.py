"""The views that answer common questions, and that their plans touch no more chunks than they must."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storage.database import Connection

T = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
WEEKS = 4
PAGE = Path(__file__).parents[2] / "docs" / "sql.md"
EXAMPLES = dict(re.findall(r"## (\w+)\n.*?```sql\n(.*?)```", PAGE.read_text(), re.DOTALL))


@pytest.fixture
def tape(connection: Connection) -> Connection:
    """Two instruments over four weeks: a trade, two CVD points, a book and a daily candle a day."""
    for symbol, step in (("BTC/USDT", 1.0), ("ETH/USDT", -0.5)):
        for number in range(7 * WEEKS):
            add_day(connection, symbol, T + number * DAY, number, step)
        connection.execute(
            "INSERT INTO stream_coverage"
            " VALUES ('binance', %s, 'trades', %s, %s, '0', '9', 'ids', 'live', 28)",
            (symbol, T, T + 7 * WEEKS * DAY),
        )
    connection.commit()
    return connection


def add_day(connection: Connection, symbol: str, day: datetime, number: int, step: float) -> None:
    noon = day + DAY / 2
    connection.execute(
        "INSERT INTO trades VALUES (%s, 'binance', %s, %s, %s, 1, %s, 1, 'buy', %s, NULL)",
        (noon, symbol, str(number), number, 100 + number, step),
    )
    for at in (noon, day + DAY):
        connection.execute(
            "INSERT INTO cvd_snapshots (timestamp, exchange, symbol, cvd, cvd_change, anchor_timestamp)"
            " VALUES (%s, 'binance', %s, %s, 0, %s)",
            (at, symbol, step, day),
        )
    connection.execute(
        "INSERT INTO orderbook_snapshots VALUES (%s, 'binance', %s, 1, 3, 2, 2, 10000, 1, 1, %s, 1,"
        " '[[1, 1]]', '[[3, 1]]')",
        (noon, symbol, number % 100),
    )
    connection.execute(
        "INSERT INTO candles (timestamp, exchange, symbol, interval, open, high, low, close, volume,"
        " buy_volume, sell_volume, vwap, trade_count, cvd_close, is_closed, is_whole, source)"
        " VALUES (%s, 'binance', %s, '1d', 1, 1, 1, 1, 1, 1, 0, 1, 1, %s, true, true, 'trades')",
        (day, symbol, step),
    )


def test_each_example_of_the_page_runs(tape: Connection) -> None:
    for view, query in EXAMPLES.items():
        assert view in query
        tape.execute(query.encode())


def test_every_view_has_an_example(connection: Connection) -> None:
    rows = connection.execute(
        "SELECT table_name FROM information_schema.views WHERE table_schema = 'public'"
    ).fetchall()
    assert {name for (name,) in rows} == set(EXAMPLES)


def test_the_latest_market(tape: Connection) -> None:
    rows = tape.execute("SELECT symbol, price, cvd, imbalance FROM latest_market ORDER BY symbol").fetchall()
    assert rows == [("BTC/USDT", 127.0, 1.0, 27.0), ("ETH/USDT", 127.0, -0.5, 27.0)]


def test_the_cvd_goes_on_from_day_to_day(tape: Connection) -> None:
    rows = tape.execute(
        "SELECT cvd, cvd_of_day FROM continuous_cvd WHERE symbol = 'ETH/USDT' ORDER BY timestamp"
    ).fetchall()
    assert rows == [(-0.5 * (number + 1), -0.5) for number in range(7 * WEEKS) for _ in range(2)]


def test_coverage_counts_spans_and_holes(tape: Connection) -> None:
    tape.execute("UPDATE stream_coverage SET to_timestamp = %s WHERE symbol = 'BTC/USDT'", [T + 2 * DAY])
    tape.execute(
        "INSERT INTO stream_coverage"
        " VALUES ('binance', 'BTC/USDT', 'trades', %s, %s, NULL, NULL, 'ids', 'live', 4)",
        (T + 3 * DAY, T + 4 * DAY),
    )
    for status in ("confirmed", "healed", "healed", "unhealable"):
        tape.execute(
            "INSERT INTO stream_gaps"
            " (exchange, symbol, stream, from_timestamp, to_timestamp, cause, status, proof)"
            " VALUES ('binance', 'BTC/USDT', 'trades', %s, %s, 'ids_missing', %s, 'ids')",
            (T + 2 * DAY, T + 3 * DAY, status),
        )
    row = tape.execute(
        "SELECT spans, row_count, covered, covered_percent, open_gaps, healed_gaps, given_up_gaps"
        " FROM tape_coverage WHERE symbol = 'BTC/USDT'"
    ).fetchone()
    assert row == (2, 32, 3 * DAY, 75, 1, 2, 1)


def test_signals_that_were_revised_count_once(connection: Connection) -> None:
    def signal(minute: int, revision: int, *, is_withdrawn: bool = False) -> None:
        connection.execute(
            """
            WITH added AS (
                INSERT INTO signals (timestamp, exchange, symbol, interval, strategy_name, config_hash,
                    revision, is_withdrawn, signal_type, confidence_score, confidence_level, score, price)
                VALUES (%s, 'x', 'A/B', '1m', 'trend', 'c', %s, %s, 'BUY', 50, 'LOW', 0.5, 1) RETURNING id)
            INSERT INTO signal_outcomes SELECT id, '1 h', now(), %s, %s FROM added
            """,
            (T + timedelta(minutes=minute), revision, is_withdrawn, 0.01 * minute, minute != 2),
        )

    signal(1, 0)
    signal(2, 0)
    signal(3, 0)
    signal(3, 1)
    signal(4, 0)
    signal(4, 1, is_withdrawn=True)
    rows = connection.execute(
        "SELECT strategy_name, signal_type, signals, hit_rate::float8, avg_return FROM signal_quality"
    ).fetchall()
    assert rows == [("trend", "BUY", 3, pytest.approx(2 / 3), pytest.approx(0.02))]


def test_closed_positions_by_day_and_kind(connection: Connection) -> None:
    for hour, pnl, status in ((1, 5, "closed"), (23, -2, "closed"), (25, 7, "closed"), (2, None, "open")):
        connection.execute(
            "INSERT INTO positions (exchange, symbol, side, status, strategy_name, entry_timestamp,"
            " entry_price, quantity, exit_timestamp, exit_price, exit_reason, fees,"
            " pnl, is_backtest)"
            " VALUES ('x', 'A/B', 'long', %s, 'trend', %s, 1, 1, %s, %s, %s, 0, %s, false)",
            (status, T, *((T + timedelta(hours=hour), 1, "signal", pnl) if pnl else [None] * 4)),
        )
    rows = connection.execute(
        "SELECT day::text, positions, winners, pnl FROM daily_performance ORDER BY day"
    ).fetchall()
    assert rows == [("2026-03-01", 2, 1, 3), ("2026-03-02", 1, 1, 7)]


def test_completed_runs_are_compared_by_split(connection: Connection) -> None:
    columns = (
        "backtest_id, strategy_name, strategy_config, exchange, symbols, interval, market_type, start_date,"
        " end_date, initial_capital, status, split, data_fingerprint, code_version, machine, seed"
    )
    results = (
        "final_capital, total_pnl, total_return_pct, annual_return_pct, sharpe_ratio, sortino_ratio,"
        " calmar_ratio, max_drawdown, max_drawdown_days, win_rate, profit_factor, expectancy, total_trades,"
        " winning_trades, losing_trades, avg_win, avg_loss, largest_win, largest_loss, total_fees, exposure"
    )
    for split, status, gain, sharpe, drawdown, win_rate, trades in (
        ("in_sample", "completed", 10, 1, 0.2, 0.5, 40),
        ("in_sample", "completed", 30, 3, 0.4, 1, 20),
        ("in_sample", "failed", 99, 9, 0.9, 1, 99),
        ("out_of_sample", "completed", -5, -1, 0.5, 0.25, 7),
    ):
        connection.execute(
            f"INSERT INTO backtest_runs ({columns}, {results}) VALUES (gen_random_uuid(), 'trend', '{{}}',"
            " 'x', '{A/B}', '1m', 'spot', %s, %s, 100, %s, %s, 'd', 'v', 'm', 0,"
            " 100, 0, %s, 0, %s, 0, 0, %s, 1, %s, 1, 0, %s, 0, 0, 0, 0, 0, 0, 0, 0)".encode(),
            (T, T + timedelta(days=1), status, split, gain, sharpe, drawdown, win_rate, trades),
        )
    rows = connection.execute(
        "SELECT split, runs, avg_return_pct, best_return_pct, avg_sharpe, best_sharpe, avg_max_drawdown,"
        " worst_max_drawdown, avg_win_rate, total_trades FROM strategy_comparison ORDER BY split"
    ).fetchall()
    assert rows == [
        ("in_sample", 2, 20, 30, 2, 3, pytest.approx(0.3), 0.4, 0.75, 60),
        ("out_of_sample", 1, -5, -5, -1, -1, 0.5, 0.5, 0.25, 7),
    ]


# Plans


def executed(connection: Connection, query: str, table: str) -> set[str]:
    """The chunks of a hypertable that a query reads rows or indexes of."""
    plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN (ANALYZE, COSTS OFF) {query}".encode()))
    chunks = connection.execute(
        "SELECT chunk_name FROM timescaledb_information.chunks WHERE hypertable_name = %s", [table]
    ).fetchall()
    assert len(chunks) >= WEEKS
    lines = [line for line in plan.split("\n") if "never executed" not in line]
    return {name for (name,) in chunks if any(re.search(rf"\b{name}\b", line) for line in lines)}


def test_the_latest_market_reads_the_newest_chunks_of_each_table(tape: Connection) -> None:
    # Trades of one time lie in one chunk or, as the planner must assume, in the one before.
    for table in ("trades", "cvd_snapshots", "orderbook_snapshots"):
        assert len(executed(tape, "SELECT * FROM latest_market", table)) <= 2, table


def test_the_continuous_cvd_reads_the_points_of_its_span_only(tape: Connection) -> None:
    query = (
        "SELECT * FROM continuous_cvd WHERE exchange = 'binance' AND symbol = 'BTC/USDT'"
        " AND timestamp >= '2026-03-10' AND timestamp < '2026-03-11'"
    )
    assert len(executed(tape, query, "cvd_snapshots")) == 1


def test_the_days_before_are_summed_once_a_day(tape: Connection) -> None:
    tape.execute("""
        INSERT INTO cvd_snapshots (timestamp, exchange, symbol, cvd, cvd_change, anchor_timestamp)
        SELECT point, 'binance', 'BTC/USDT', 1, 0, date_trunc('day', point - '1 us'::interval, 'UTC')
        FROM generate_series('2026-03-09 00:00:10Z', '2026-03-12 00:00Z', '10 s'::interval) AS point
        ON CONFLICT DO NOTHING""")
    tape.commit()
    tape.execute("ANALYZE cvd_snapshots")
    query = (
        "SELECT * FROM continuous_cvd WHERE exchange = 'binance' AND symbol = 'BTC/USDT'"
        " AND timestamp > '2026-03-09' AND timestamp <= '2026-03-12'"
    )
    plan = "\n".join(row[0] for row in tape.execute(f"EXPLAIN {query}".encode()))
    assert "Memoize" in plan
