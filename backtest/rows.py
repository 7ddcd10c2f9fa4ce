"""A run's row: what stands in it before it runs, what comes of it, and the ways into the table."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.json import encode
from psycopg import sql
from psycopg.types.json import Jsonb

from backtest import provenance, tables
from backtest.bulk import copy_columns
from backtest.feeds import fingerprint, holes
from backtest.metrics import Metrics
from backtest.outcomes import outcome_of
from backtest.periods import month_columns
from market.errors import WrongUse
from market.timeframe import to_datetime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from backtest.outcomes import Outcome
    from backtest.result import Result
    from backtest.setup import Setup
    from backtest.store import Market
    from signals.frame import CandleFrame
    from storage.database import Connection

_PLACES = Decimal("1e-10")
_MONEY_METRICS = (
    "final_capital",
    "total_pnl",
    "expectancy",
    "avg_win",
    "avg_loss",
    "largest_win",
    "largest_loss",
    "total_fees",
)
_PLAIN_METRICS = (
    "total_return_pct",
    "annual_return_pct",
    "sharpe_ratio",
    "sortino_ratio",
    "calmar_ratio",
    "max_drawdown",
    "max_drawdown_days",
    "win_rate",
    "profit_factor",
    "total_trades",
    "winning_trades",
    "losing_trades",
    "exposure",
)
_DOCUMENTS = {"strategy_config", "metrics", "engine_stats", "daily_results", "monthly_results"}
_OTHER_METRICS = tuple(n for n in Metrics._fields if n not in {*_MONEY_METRICS, *_PLAIN_METRICS})


def base_row(frame: CandleFrame, market: Market, sweep_id: UUID | None, seed: int) -> dict[str, Any]:
    """What is known before it ran of every run over these candles; it is running.

    Raises:
        WrongUse: the market has no names.
    """
    if not (market.exchange and market.symbol):
        raise WrongUse("a stored run needs the exchange and symbol of its candles")
    return {
        "exchange": market.exchange,
        "symbols": _array(market.symbols),
        "interval": str(frame.timeframe),
        "start_date": to_datetime(int(frame.timestamp[0])),
        "end_date": to_datetime(int(frame.close_time[-1])),
        "status": "running",
        "data_fingerprint": provenance.data_fingerprint(frame),
        "code_version": provenance.code_version(),
        "machine": provenance.machine(),
        "seed": seed,
        **({"sweep_id": sweep_id} if sweep_id is not None else {}),
    }


def setup_row(run_id: UUID, setup: Setup) -> dict[str, Any]:
    """What a run's setup says of it."""
    return {
        "backtest_id": str(run_id),
        "strategy_name": setup.strategy.name,
        "strategy_config": setup.config(),
        "market_type": str(setup.account.market_type),
        "initial_capital": float(setup.account.capital),
    }


def result_row(kept: Outcome, candles: int) -> dict[str, Any]:
    """What a completed run over so many candles adds to its row."""
    metrics = kept.metrics._asdict()
    return {
        **{name: metrics[name] for name in (*_MONEY_METRICS, *_PLAIN_METRICS)},
        "metrics": {name: metrics[name] for name in _OTHER_METRICS},
        "daily_returns": kept.returns.tolist(),
        "fills_hash": kept.fills_hash,
        "engine_stats": {
            "candles": candles,
            "events": kept.events,
            "fills": kept.fills,
            "fills_by_source": kept.fills_by_source,
            "fills_by_reason": kept.fills_by_reason,
            "rejected_orders": kept.rejected,
            **({"funding": kept.funding} if kept.funding else {}),
        },
        "duration_seconds": kept.seconds,
    }


def detail_row(result: Result) -> dict[str, Any]:
    """What a run that is stored with its fills adds beyond `result_row`; the sweep's others go without."""
    candles = sum(len(source.frame) for source in result.markets)
    kept = outcome_of(result.setup, result.metrics, result.record, result.seconds)
    row = {"status": "completed", **result_row(kept, candles), **_fed(result)}
    row["metrics"] = {**row["metrics"], "held": result.held._asdict()}
    days = result.day_columns()
    row["daily_results"] = _objects(days, "%Y-%m-%d")
    row["monthly_results"] = _objects(month_columns(days), "%Y-%m")
    unproven = [int(np.count_nonzero(~source.frame.is_whole)) for source in result.markets]
    row["engine_stats"] = {
        **row["engine_stats"],
        "holes": len(holes(result.markets)),
        "unproven_candles": sum(unproven),
        "profit_by_reason": _objects(result.reason_columns(), ""),
        **({"fed": result.inputs()} if result.sources else {}),
    }
    return row


def _fed(result: Result) -> dict[str, Any]:
    """What only a finished run knows of its data: the span of all instruments, and what was looked up."""
    if not result.sources:
        return {}
    begin, end = map(to_datetime, result.span)
    return {"start_date": begin, "end_date": end, "data_fingerprint": fingerprint(result.sources)}


def _objects(columns: tables.Columns, form: str) -> list[dict[str, Any]]:
    """A document for each row, its time as text."""
    values = {name: values.tolist() for name, values in columns.items()}
    if "timestamp" in values:
        values = {"begin": [f"{to_datetime(time):{form}}" for time in values.pop("timestamp")], **values}
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def insert_runs(
    connection: Connection, rows: Sequence[Mapping[str, Any]], constants: Mapping[str, Any]
) -> None:
    """Write runs: what each has of its own, the same columns in all rows, and what they have in common."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    for name in columns.keys() & _DOCUMENTS:
        columns[name] = [encode(value).decode() for value in columns[name]]
    if "daily_returns" in columns:
        columns["daily_returns"] = list(map(_array, columns["daily_returns"]))
    copy_columns(connection, "backtest_runs", columns, constants)


def _array(values: Sequence[Any]) -> str:
    """An array as text: each item as JSON has it."""
    return f"{{{encode(values).decode()[1:-1]}}}"


def update_run(connection: Connection, run_id: UUID, values: dict[str, Any]) -> None:
    """Change a run's row."""
    assignments = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in values
    )
    query = sql.SQL("UPDATE backtest_runs SET {} WHERE backtest_id = {}").format(
        assignments, sql.Placeholder("run_id")
    )
    connection.execute(
        query, {name: _wrapped(name, value) for name, value in values.items()} | {"run_id": run_id}
    )


def _wrapped(name: str, value: Any) -> Any:
    if name in _DOCUMENTS:
        return Jsonb(value)
    return money(value) if name in _MONEY_METRICS else value


def money(value: float) -> Decimal:
    """A double, read as its shortest decimal, rounded once to the ten places of the tables, as they do."""
    return Decimal(repr(float(value))).quantize(_PLACES, ROUND_HALF_UP)
