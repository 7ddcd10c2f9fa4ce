"""Backtests and sweeps, and the positions and fills of both backtests and live trading."""

from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    PrimaryKeyConstraint,
    Table,
    Uuid,
)

from market import MarketType, Side, Timeframe
from storage.tables.columns import (
    amount,
    between,
    big,
    count,
    document,
    finite,
    flag,
    metadata,
    moment,
    money,
    money_px,
    number,
    one_of,
    small,
    word_list,
    words,
)
from storage.tables.signals import signals

RUN_STATUSES = ("pending", "running", "completed", "failed", "cancelled")

# What a completed run must hold: NULL and NaN would lead an ORDER BY … DESC.
RESULTS = (
    "final_capital",
    "total_pnl",
    "total_return_pct",
    "annual_return_pct",
    "sharpe_ratio",
    "sortino_ratio",
    "calmar_ratio",
    "max_drawdown",
    "max_drawdown_days",
    "win_rate",
    "profit_factor",
    "expectancy",
    "total_trades",
    "winning_trades",
    "losing_trades",
    "avg_win",
    "avg_loss",
    "largest_win",
    "largest_loss",
    "total_fees",
    "exposure",
)


def _of_run(*, null: bool) -> Column[UUID]:
    """The run a row belongs to, and is deleted with."""
    run = ForeignKey("backtest_runs.backtest_id", ondelete="CASCADE")
    return Column("backtest_id", Uuid, run, nullable=null)


def _of_signal() -> Column[int]:
    return Column("signal_id", BigInteger, ForeignKey(signals.c.id))


def _daily_returns() -> Column[Any]:
    # A CHECK passes on NULL, which is what `> ALL` gives where an element is NULL.
    check = CheckConstraint(
        "'-Infinity' < ALL (daily_returns) AND 'Infinity' > ALL (daily_returns)"
        " AND array_position(daily_returns, NULL) IS NULL",
        name="daily_returns",
    )
    return Column("daily_returns", ARRAY(Double), check, nullable=True)


sweeps = Table(
    "sweeps",
    metadata,
    Column("id", Uuid, primary_key=True),
    words("name"),
    document("definition"),
    one_of("status", RUN_STATUSES),
    count("total_runs"),
    count("finished_runs", default="0"),
    Column(
        "best_backtest_id",
        Uuid,
        # Runs name their sweep and the sweep its best run: this side is added afterwards.
        ForeignKey("backtest_runs.backtest_id", ondelete="SET NULL", use_alter=True),
    ),
    words("verdict", null=True),
    document("statistics", null=True),
    moment("started_timestamp"),
    moment("finished_timestamp", null=True),
)

backtest_runs = Table(
    "backtest_runs",
    metadata,
    Column("backtest_id", Uuid, primary_key=True),
    words("strategy_name"),
    document("strategy_config"),
    words("exchange"),
    word_list("symbols"),
    one_of("interval", Timeframe),
    one_of("market_type", MarketType),
    moment("start_date"),
    moment("end_date"),
    money("initial_capital"),
    money("final_capital", null=True),
    one_of("status", RUN_STATUSES),
    money("total_pnl", null=True),
    finite("total_return_pct", null=True),
    finite("annual_return_pct", null=True),
    finite("sharpe_ratio", null=True),
    finite("sortino_ratio", null=True),
    finite("calmar_ratio", null=True),
    amount("max_drawdown", null=True),
    amount("max_drawdown_days", null=True),
    between("win_rate", 0, 1, null=True),
    finite("profit_factor", null=True),
    money("expectancy", null=True),
    count("total_trades", null=True),
    count("winning_trades", null=True),
    count("losing_trades", null=True),
    money("avg_win", null=True),
    money("avg_loss", null=True),
    money("largest_win", null=True),
    money("largest_loss", null=True),
    money("total_fees", null=True),
    finite("exposure", null=True),
    document("metrics", default="{}"),
    document("daily_results", null=True),
    document("monthly_results", null=True),
    _daily_returns(),
    words("fills_hash", null=True),
    Column("sweep_id", Uuid, ForeignKey(sweeps.c.id, ondelete="CASCADE")),
    one_of("split", ("in_sample", "out_of_sample"), null=True),
    small("fold", null=True),
    words("data_fingerprint"),
    words("code_version"),
    words("machine"),
    big("seed"),
    document("engine_stats", default="{}"),
    words("error", null=True),
    moment("run_timestamp", now=True),
    amount("duration_seconds", null=True),
    CheckConstraint(f"status <> 'completed' OR num_nulls({', '.join(RESULTS)}) = 0", name="completed"),
    Index("backtest_runs_sweep_id_idx", "sweep_id"),
)

backtest_equity_curve = Table(
    "backtest_equity_curve",
    metadata,
    _of_run(null=False),
    moment("timestamp"),
    money("equity"),
    money("cash"),
    money("position_value"),
    finite("drawdown"),
    PrimaryKeyConstraint("backtest_id", "timestamp"),
)

positions = Table(
    "positions",
    metadata,
    number(),
    _of_signal(),
    words("exchange"),
    words("symbol"),
    one_of("side", ("long", "short")),
    one_of("status", ("open", "closed", "stopped", "cancelled")),
    words("strategy_name", null=True),
    moment("entry_timestamp"),
    money_px("entry_price"),
    money_px("quantity"),
    money("stop_loss", null=True),
    money("take_profit", null=True),
    money("trailing_stop", null=True),
    moment("exit_timestamp", null=True),
    money("exit_price", null=True),
    words("exit_reason", null=True),
    money("fees"),
    money("gross_pnl", null=True),
    money("pnl", null=True),
    finite("pnl_pct", null=True),
    money("max_favourable", null=True),
    money("max_adverse", null=True),
    flag("is_backtest"),
    _of_run(null=True),
    big("bot_id", null=True),
    document("metadata", default="{}"),
    moment("created_timestamp", now=True),
    moment("updated_timestamp", now=True),
    money("funding", default="0"),
    CheckConstraint("exit_timestamp >= entry_timestamp", name="exit_after_entry"),
    CheckConstraint(
        "status <> 'closed' OR num_nulls(exit_timestamp, exit_price, exit_reason) = 0",
        name="closed",
    ),
    CheckConstraint("(backtest_id IS NOT NULL) = is_backtest", name="of_backtest"),
    Index("positions_signal_id_idx", "signal_id"),
    Index("positions_status_entry_timestamp_idx", "status", "entry_timestamp"),
    Index("positions_backtest_id_idx", "backtest_id"),
)

fills = Table(
    "fills",
    metadata,
    number(),
    _of_run(null=True),
    big("bot_id", null=True),
    Column("position_id", BigInteger, ForeignKey(positions.c.id, ondelete="CASCADE")),
    moment("timestamp"),
    words("exchange"),
    words("symbol"),
    one_of("side", Side),
    money_px("price"),
    money_px("quantity"),
    money("fee"),
    words("fee_asset"),
    one_of("liquidity", ("maker", "taker")),
    words("order_type"),
    words("reason"),
    one_of(
        "source",
        ("trade", "lower_timeframe", "candle", "candle_pessimistic", "next_open", "close", "book", "queue"),
    ),
    _of_signal(),
    money("funding", default="0"),
    Index("fills_backtest_id_idx", "backtest_id"),
    Index("fills_position_id_idx", "position_id"),
    Index("fills_signal_id_idx", "signal_id"),
)
