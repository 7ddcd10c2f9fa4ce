"""Backtests and sweeps; positions and fills of both backtests and live trading."""

from alembic import op

from migrations.ddl import (
    amount,
    between,
    count,
    drop,
    finite,
    interval,
    money,
    money_px,
    one_of,
)

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_STATUSES = ("pending", "running", "completed", "failed", "cancelled")


def upgrade() -> None:
    _sweeps()
    _runs()
    _equity_curve()
    _positions()
    _fills()


def downgrade() -> None:
    op.execute("DROP VIEW live_positions")
    op.execute("DROP VIEW backtest_positions")
    op.execute("ALTER TABLE sweeps DROP CONSTRAINT sweeps_best_backtest_id_fkey")
    drop("fills", "positions", "backtest_equity_curve", "backtest_runs", "sweeps")


def _sweeps() -> None:
    op.execute(f"""
        CREATE TABLE sweeps (
            id uuid PRIMARY KEY,
            name text NOT NULL,
            definition jsonb NOT NULL,
            {one_of("status", *_STATUSES)},
            {count("total_runs")},
            {count("finished_runs", default=0)},
            best_backtest_id uuid,
            verdict text,
            statistics jsonb,
            started_timestamp timestamptz NOT NULL,
            finished_timestamp timestamptz
        )""")


def _runs() -> None:
    op.execute(f"""
        CREATE TABLE backtest_runs (
            backtest_id uuid PRIMARY KEY,
            strategy_name text NOT NULL,
            strategy_config jsonb NOT NULL,
            exchange text NOT NULL,
            symbols text[] NOT NULL,
            {interval()},
            {one_of("market_type", "spot", "margin", "linear", "inverse")},
            start_date timestamptz NOT NULL,
            end_date timestamptz NOT NULL,
            {money("initial_capital")},
            {money("final_capital", null=True)},
            {one_of("status", *_STATUSES)},
            {money("total_pnl", null=True)},
            {finite("total_return_pct", null=True)},
            {finite("annual_return_pct", null=True)},
            {finite("sharpe_ratio", null=True)},
            {finite("sortino_ratio", null=True)},
            {finite("calmar_ratio", null=True)},
            {amount("max_drawdown", null=True)},
            {amount("max_drawdown_days", null=True)},
            {between("win_rate", 0, 1, null=True)},
            {finite("profit_factor", null=True)},
            {money("expectancy", null=True)},
            {count("total_trades", null=True)},
            {count("winning_trades", null=True)},
            {count("losing_trades", null=True)},
            {money("avg_win", null=True)},
            {money("avg_loss", null=True)},
            {money("largest_win", null=True)},
            {money("largest_loss", null=True)},
            {money("total_fees", null=True)},
            {finite("exposure", null=True)},
            metrics jsonb NOT NULL DEFAULT '{{}}',
            daily_results jsonb,
            monthly_results jsonb,
            daily_returns double precision[] CHECK (
                '-Infinity' < ALL (daily_returns) AND 'Infinity' > ALL (daily_returns)
                AND array_position(daily_returns, NULL) IS NULL),
            fills_hash text,
            sweep_id uuid REFERENCES sweeps (id) ON DELETE CASCADE,
            {one_of("split", "in_sample", "out_of_sample", null=True)},
            fold integer,
            data_fingerprint text NOT NULL,
            code_version text NOT NULL,
            machine text NOT NULL,
            seed bigint NOT NULL,
            engine_stats jsonb NOT NULL DEFAULT '{{}}',
            error text,
            run_timestamp timestamptz NOT NULL DEFAULT now(),
            {amount("duration_seconds", null=True)},
            CONSTRAINT backtest_runs_completed_check CHECK (
                status <> 'completed' OR num_nulls(
                    final_capital, total_pnl, total_return_pct, annual_return_pct, sharpe_ratio,
                    sortino_ratio, calmar_ratio, max_drawdown, max_drawdown_days, win_rate,
                    profit_factor, expectancy, total_trades, winning_trades, losing_trades,
                    avg_win, avg_loss, largest_win, largest_loss, total_fees, exposure) = 0)
        )""")
    op.execute("CREATE INDEX backtest_runs_sweep_id_idx ON backtest_runs (sweep_id)")
    op.execute(
        "ALTER TABLE sweeps ADD CONSTRAINT sweeps_best_backtest_id_fkey"
        " FOREIGN KEY (best_backtest_id) REFERENCES backtest_runs (backtest_id) ON DELETE SET NULL"
    )


def _equity_curve() -> None:
    op.execute(f"""
        CREATE TABLE backtest_equity_curve (
            backtest_id uuid NOT NULL REFERENCES backtest_runs (backtest_id) ON DELETE CASCADE,
            timestamp timestamptz NOT NULL,
            {money("equity")},
            {money("cash")},
            {money("position_value")},
            {finite("drawdown")},
            PRIMARY KEY (backtest_id, timestamp)
        )""")


def _positions() -> None:
    op.execute(f"""
        CREATE TABLE positions (
            id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
            signal_id bigint REFERENCES signals (id),
            exchange text NOT NULL,
            symbol text NOT NULL,
            {one_of("side", "long", "short")},
            {one_of("status", "open", "closed", "stopped", "cancelled")},
            strategy_name text,
            entry_timestamp timestamptz NOT NULL,
            {money_px("entry_price")},
            {money_px("quantity")},
            {money("stop_loss", null=True)},
            {money("take_profit", null=True)},
            {money("trailing_stop", null=True)},
            exit_timestamp timestamptz,
            {money("exit_price", null=True)},
            exit_reason text,
            {money("fees")},
            {money("gross_pnl", null=True)},
            {money("pnl", null=True)},
            {finite("pnl_pct", null=True)},
            {money("max_favourable", null=True)},
            {money("max_adverse", null=True)},
            is_backtest boolean NOT NULL,
            backtest_id uuid REFERENCES backtest_runs (backtest_id) ON DELETE CASCADE,
            bot_id bigint,
            metadata jsonb NOT NULL DEFAULT '{{}}',
            created_timestamp timestamptz NOT NULL DEFAULT now(),
            updated_timestamp timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT positions_exit_after_entry_check CHECK (exit_timestamp >= entry_timestamp),
            CONSTRAINT positions_closed_check CHECK (
                status <> 'closed' OR num_nulls(exit_timestamp, exit_price, exit_reason) = 0),
            CONSTRAINT positions_of_backtest_check CHECK (
                (backtest_id IS NOT NULL) = is_backtest)
        )""")
    op.execute("CREATE INDEX positions_signal_id_idx ON positions (signal_id)")
    op.execute("CREATE INDEX positions_backtest_id_idx ON positions (backtest_id)")
    op.execute("CREATE INDEX positions_status_entry_timestamp_idx ON positions (status, entry_timestamp)")
    op.execute("CREATE VIEW live_positions AS SELECT * FROM positions WHERE NOT is_backtest")
    op.execute("CREATE VIEW backtest_positions AS SELECT * FROM positions WHERE is_backtest")


def _fills() -> None:
    sources = ("trade", "lower_timeframe", "candle", "candle_pessimistic", "next_open", "close")
    op.execute(f"""
        CREATE TABLE fills (
            id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
            backtest_id uuid REFERENCES backtest_runs (backtest_id) ON DELETE CASCADE,
            bot_id bigint,
            position_id bigint REFERENCES positions (id) ON DELETE CASCADE,
            timestamp timestamptz NOT NULL,
            exchange text NOT NULL,
            symbol text NOT NULL,
            {one_of("side", "buy", "sell")},
            {money_px("price")},
            {money_px("quantity")},
            {money("fee")},
            fee_asset text NOT NULL,
            {one_of("liquidity", "maker", "taker")},
            order_type text NOT NULL,
            reason text NOT NULL,
            {one_of("source", *sources, "book")},
            signal_id bigint REFERENCES signals (id)
        )""")
    op.execute("CREATE INDEX fills_backtest_id_idx ON fills (backtest_id)")
    op.execute("CREATE INDEX fills_position_id_idx ON fills (position_id)")
    op.execute("CREATE INDEX fills_signal_id_idx ON fills (signal_id)")
