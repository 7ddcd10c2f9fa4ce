"""Views for the questions that people ask most."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_NAMES = (
    "latest_market",
    "continuous_cvd",
    "tape_coverage",
    "signal_quality",
    "strategy_comparison",
    "daily_performance",
)


def upgrade() -> None:
    _latest_market()
    _continuous_cvd()
    _tape_coverage()
    _signal_quality()
    _strategy_comparison()
    _daily_performance()


def downgrade() -> None:
    for name in _NAMES:
        op.execute(f"DROP VIEW {name}")


def _latest_market() -> None:
    # Each newest row is looked up by its own key, from the newest chunk back, and the first one ends it.
    op.execute("""
        CREATE VIEW latest_market AS
        SELECT instrument.exchange, instrument.symbol,
            trade.timestamp AS trade_timestamp, trade.price, trade.side,
            point.timestamp AS cvd_timestamp, point.cvd,
            book.timestamp AS book_timestamp, book.best_bid, book.best_ask, book.spread_bps, book.imbalance
        FROM (SELECT DISTINCT exchange, symbol FROM stream_coverage WHERE stream = 'trades') AS instrument
        LEFT JOIN LATERAL (
            SELECT timestamp, price, side FROM trades
            WHERE exchange = instrument.exchange AND symbol = instrument.symbol
            ORDER BY timestamp DESC, trade_seq DESC LIMIT 1) AS trade ON true
        LEFT JOIN LATERAL (
            SELECT timestamp, cvd FROM cvd_snapshots
            WHERE exchange = instrument.exchange AND symbol = instrument.symbol
            ORDER BY timestamp DESC LIMIT 1) AS point ON true
        LEFT JOIN LATERAL (
            SELECT timestamp, best_bid, best_ask, spread_bps, imbalance FROM orderbook_snapshots
            WHERE exchange = instrument.exchange AND symbol = instrument.symbol
            ORDER BY timestamp DESC LIMIT 1) AS book ON true""")


def _continuous_cvd() -> None:
    # The days before are summed once a day and instrument, however many points are asked for.
    op.execute("""
        CREATE VIEW continuous_cvd AS
        SELECT point.timestamp, point.exchange, point.symbol, before.cvd + point.cvd AS cvd,
            point.cvd AS cvd_of_day, point.anchor_timestamp
        FROM cvd_snapshots AS point
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(cvd_close), 0) AS cvd FROM candles
            WHERE exchange = point.exchange AND symbol = point.symbol AND interval = '1d'
                AND timestamp < date_trunc('day', point.anchor_timestamp, 'UTC')) AS before""")


def _tape_coverage() -> None:
    op.execute("""
        CREATE VIEW tape_coverage AS
        SELECT span.exchange, span.symbol, span.stream, span.from_timestamp, span.to_timestamp, span.spans,
            span.row_count, span.covered,
            100 * extract(epoch FROM span.covered)
                / nullif(extract(epoch FROM span.to_timestamp - span.from_timestamp), 0) AS covered_percent,
            coalesce(gap.open, 0) AS open_gaps, coalesce(gap.healed, 0) AS healed_gaps,
            coalesce(gap.given_up, 0) AS given_up_gaps
        FROM (
            SELECT exchange, symbol, stream, min(from_timestamp) AS from_timestamp,
                max(to_timestamp) AS to_timestamp, count(*) AS spans, sum(row_count) AS row_count,
                sum(to_timestamp - from_timestamp) AS covered
            FROM stream_coverage GROUP BY exchange, symbol, stream) AS span
        LEFT JOIN (
            SELECT exchange, symbol, stream,
                count(*) FILTER (WHERE status IN ('suspected', 'confirmed')) AS open,
                count(*) FILTER (WHERE status = 'healed') AS healed,
                count(*) FILTER (WHERE status IN ('halt', 'unhealable')) AS given_up
            FROM stream_gaps GROUP BY exchange, symbol, stream) AS gap USING (exchange, symbol, stream)""")


def _signal_quality() -> None:
    op.execute("""
        CREATE VIEW signal_quality AS
        SELECT signal.strategy_name, signal.interval, signal.signal_type, signal.confidence_level,
            outcome.horizon, count(*) AS signals, avg(outcome.is_right::int) AS hit_rate,
            avg(outcome.return_net) AS avg_return, stddev(outcome.return_net) AS return_stddev
        FROM signals AS signal
        JOIN signal_outcomes AS outcome ON outcome.signal_id = signal.id
        WHERE NOT signal.is_withdrawn AND NOT EXISTS (
            SELECT FROM signals AS newer
            WHERE newer.strategy_name = signal.strategy_name AND newer.config_hash = signal.config_hash
                AND newer.exchange = signal.exchange AND newer.symbol = signal.symbol
                AND newer.interval = signal.interval AND newer.timestamp = signal.timestamp
                AND newer.revision > signal.revision)
        GROUP BY signal.strategy_name, signal.interval, signal.signal_type, signal.confidence_level,
            outcome.horizon""")


def _strategy_comparison() -> None:
    op.execute("""
        CREATE VIEW strategy_comparison AS
        SELECT strategy_name, interval, split, count(*) AS runs,
            avg(total_return_pct) AS avg_return_pct, max(total_return_pct) AS best_return_pct,
            avg(sharpe_ratio) AS avg_sharpe, max(sharpe_ratio) AS best_sharpe,
            avg(max_drawdown) AS avg_max_drawdown, max(max_drawdown) AS worst_max_drawdown,
            avg(win_rate) AS avg_win_rate, sum(total_trades) AS total_trades
        FROM backtest_runs WHERE status = 'completed'
        GROUP BY strategy_name, interval, split""")


def _daily_performance() -> None:
    op.execute("""
        CREATE VIEW daily_performance AS
        SELECT (exit_timestamp AT TIME ZONE 'UTC')::date AS day, strategy_name, is_backtest, backtest_id,
            count(*) AS positions, count(*) FILTER (WHERE pnl > 0) AS winners, sum(pnl) AS pnl,
            sum(fees) AS fees, avg(pnl_pct) AS avg_pnl_pct, min(pnl) AS worst_pnl, max(pnl) AS best_pnl
        FROM positions WHERE status = 'closed'
        GROUP BY day, strategy_name, is_backtest, backtest_id""")
