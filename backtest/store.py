"""Runs in the database: a row each, with fills, positions and the equity curve, whole or not at all."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import numpy as np
from psycopg import sql
from psycopg.types.json import Jsonb

from backtest import claims, provenance, tables
from backtest.bulk import copy_columns
from backtest.feeds import fingerprint, holes
from backtest.metrics import Metrics
from backtest.periods import month_columns
from market.errors import WrongUse
from market.timeframe import to_datetime
from storage.copy import copy_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from backtest.result import Result
    from backtest.setup import Setup
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
_DOCUMENTS = {"metrics", "engine_stats", "daily_results", "monthly_results"}
_OTHER_METRICS = tuple(n for n in Metrics._fields if n not in {*_MONEY_METRICS, *_PLAIN_METRICS})


@dataclass(frozen=True, slots=True)
class Market:
    """Whose candles were traded, in the tables' words; `others` are more that share the cash."""

    exchange: str
    symbol: str
    others: tuple[str, ...] = ()

    @property
    def symbols(self) -> list[str]:
        """Every instrument."""
        return [self.symbol, *self.others]

    @property
    def fee_asset(self) -> str:
        """The quote currency: of BASE/QUOTE or BASE/QUOTE:SETTLE what is between; the same of all."""
        return self.symbol.partition("/")[2].partition(":")[0] or self.symbol


def save(connection: Connection, result: Result, *, sweep_id: UUID | None = None, seed: int = 0) -> UUID:
    """Store a finished run in one transaction of its own, and give its id.

    Raises:
        WrongUse: the result does not say whose candles it ran on.
    """
    market = Market(result.exchange, result.symbol, tuple(result.symbols[1:]))
    run_id = uuid4()
    with connection.transaction():
        base = base_row(run_id, result.setup, result.frame, market, "running", sweep_id, seed)
        insert_runs(connection, [base])
        write_all(connection, run_id, result, market)
    return run_id


@contextmanager
def running(
    connection: Connection, setup: Setup, frame: CandleFrame, market: Market, seed: int = 0
) -> Iterator[Running]:
    """A run that others can see while it works: running, then completed, failed or cancelled.

    Yields:
        What takes the result; leaving without one, or by an exception, marks the run.
    """
    run_id = uuid4()
    with connection.transaction():
        row = base_row(run_id, setup, frame, market, "running", None, seed)
        claims.claim(connection, run_id)
        insert_runs(connection, [row])
    connection.commit()
    run = Running(connection, run_id, market)
    try:
        yield run
    except BaseException as error:
        connection.rollback()
        if isinstance(error, KeyboardInterrupt):
            ending = {"status": "cancelled", "error": "interrupted"}
        else:
            ending = {"status": "failed", "error": f"{type(error).__name__}: {error}"}
        _update(connection, run_id, ending)
        connection.commit()
        raise


@dataclass(frozen=True, slots=True)
class Running:
    """A run whose row stands there with the status running."""

    connection: Connection
    run_id: UUID
    market: Market

    def complete(self, result: Result) -> None:
        """Store everything and mark it completed, in one transaction."""
        with self.connection.transaction():
            write_all(self.connection, self.run_id, result, self.market)
        self.connection.commit()


def base_row(
    run_id: UUID,
    setup: Setup,
    frame: CandleFrame,
    market: Market,
    status: str,
    sweep_id: UUID | None,
    seed: int,
    fingerprint: str | None = None,
) -> dict[str, Any]:
    """What is known of a run before it ran; `fingerprint` spares hashing the same candles again.

    Raises:
        WrongUse: the market has no names.
    """
    if not (market.exchange and market.symbol):
        raise WrongUse("a stored run needs the exchange and symbol of its candles")
    return {
        "backtest_id": run_id,
        "strategy_name": setup.strategy.name,
        "strategy_config": setup.config(),
        "exchange": market.exchange,
        "symbols": market.symbols,
        "interval": str(frame.timeframe),
        "market_type": str(setup.account.market_type),
        "start_date": int(frame.timestamp[0]),
        "end_date": int(frame.timestamp[-1]) + frame.timeframe.microseconds,
        "initial_capital": money(setup.account.capital),
        "status": status,
        "sweep_id": sweep_id,
        "data_fingerprint": fingerprint or provenance.data_fingerprint(frame),
        "code_version": provenance.code_version(),
        "machine": provenance.machine(),
        "seed": seed,
    }


def result_row(result: Result) -> dict[str, Any]:
    """What a completed run adds to its row."""
    metrics, record = result.metrics, result.record
    return {
        **{name: money(getattr(metrics, name)) for name in _MONEY_METRICS},
        **{name: getattr(metrics, name) for name in _PLAIN_METRICS},
        "metrics": {name: getattr(metrics, name) for name in _OTHER_METRICS},
        "daily_returns": result.returns.tolist(),
        "fills_hash": provenance.fills_hash(record),
        "engine_stats": {
            "candles": sum(len(source.frame) for source in result.markets),
            "events": record.events,
            "fills": len(record.fills),
            "fills_by_source": result.counts("source"),
            "fills_by_reason": result.counts("reason"),
            "rejected_orders": record.rejected,
            **({"funding": record.funding} if record.funding else {}),
        },
        "duration_seconds": result.seconds,
        "status": "completed",
    }


def detail_row(result: Result) -> dict[str, Any]:
    """What a run that is stored with its fills adds beyond `result_row`; the sweep's others go without."""
    row = result_row(result) | _fed(result)
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


def insert_runs(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Write run rows that all have the same columns."""
    if rows:
        copy_rows(connection, "backtest_runs", list(rows[0]), [list(row.values()) for row in rows])


def write_details(connection: Connection, run_id: UUID, result: Result, market: Market) -> None:
    """Write a run's positions, fills and equity curve."""
    record = result.record
    ids = _write_positions(connection, run_id, result, market)
    constants = {"backtest_id": run_id, "exchange": market.exchange}
    fills = dict(tables.fill_columns(record, market.symbols))
    fills["position_id"] = ids[fills.pop("position") - 1]
    copy_columns(connection, "fills", fills, {**constants, "fee_asset": market.fee_asset})
    curve = tables.equity_columns(record, result.setup.account.capital)
    copy_columns(connection, "backtest_equity_curve", curve, {"backtest_id": run_id})


def money(value: float) -> Decimal:
    """A double, read as its shortest decimal, rounded once to the ten places of the tables, as they do."""
    return Decimal(repr(float(value))).quantize(_PLACES, ROUND_HALF_UP)


def write_all(connection: Connection, run_id: UUID, result: Result, market: Market) -> None:
    """Write everything of a run whose row is there already, and mark it completed."""
    write_details(connection, run_id, result, market)
    _update(connection, run_id, detail_row(result))


def _write_positions(
    connection: Connection, run_id: UUID, result: Result, market: Market
) -> npt.NDArray[np.int64]:
    """Write the positions and give their ids, in order."""
    rows: dict[str, Any] = dict(tables.position_columns(result.record, market.symbols))
    ids = _new_ids(connection, "positions", len(rows["side"]))
    # Net is the difference of what is stored, so that the row adds up to the last place.
    parts = zip(*(rows[name].tolist() for name in ("gross_pnl", "fees", "funding")), strict=True)
    rows["pnl"] = np.array([str(money(a) - money(b) + money(c)) for a, b, c in parts], dtype=str)
    constants = {
        "exchange": market.exchange,
        "status": "closed",
        "strategy_name": result.setup.strategy.name,
        "is_backtest": True,
        "backtest_id": run_id,
    }
    copy_columns(connection, "positions", {"id": ids, **rows}, constants)
    return ids


def _new_ids(connection: Connection, table: str, count: int) -> npt.NDArray[np.int64]:
    query = "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)"
    found = [number for (number,) in connection.execute(query, (table, count))]
    return np.array(found, dtype=np.int64)


def _update(connection: Connection, run_id: UUID, values: dict[str, Any]) -> None:
    assignments = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in values
    )
    query = sql.SQL("UPDATE backtest_runs SET {} WHERE backtest_id = {}").format(
        assignments, sql.Placeholder("run_id")
    )
    wrapped = {name: Jsonb(value) if name in _DOCUMENTS else value for name, value in values.items()}
    connection.execute(query, {**wrapped, "run_id": run_id})
