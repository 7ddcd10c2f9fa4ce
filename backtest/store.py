"""Runs in the database: a row each, with fills, positions and the equity curve, whole or not at all."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import numpy as np
from msgspec.json import encode
from psycopg import sql
from psycopg.types.json import Jsonb

from backtest import claims, provenance, tables
from backtest.bulk import copy_columns
from backtest.feeds import fingerprint, holes
from backtest.metrics import Metrics
from backtest.outcomes import outcome_of
from backtest.periods import month_columns
from backtest.telling import Work, outcome, tell_completed, tell_failed
from market.errors import WrongUse
from market.timeframe import to_datetime
from storage.routes import SILENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from backtest.outcomes import Outcome
    from backtest.result import Result
    from backtest.setup import Setup
    from signals.frame import CandleFrame
    from storage.database import Connection
    from storage.routes import Routes

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
        insert_runs(
            connection, [setup_row(run_id, result.setup)], base_row(result.frame, market, sweep_id, seed)
        )
        write_all(connection, run_id, result, market)
    return run_id


@contextmanager
def running(
    connection: Connection,
    setup: Setup,
    frame: CandleFrame,
    market: Market,
    seed: int = 0,
    routes: Routes = SILENT,
) -> Iterator[Running]:
    """A run that others can see while it works: running, then completed, failed or cancelled.

    `routes` are told how it ended, unless it was cancelled.

    Yields:
        What takes the result; leaving without one, or by an exception, marks the run.
    """
    run_id = uuid4()
    with connection.transaction():
        claims.claim(connection, run_id)
        insert_runs(connection, [setup_row(run_id, setup)], base_row(frame, market, None, seed))
    connection.commit()
    work = Work(
        "backtest", run_id, setup.strategy.name, market.exchange, market.symbols, str(frame.timeframe)
    )
    run = Running(connection, run_id, market, work, routes)
    try:
        yield run
    except BaseException as error:
        connection.rollback()
        if isinstance(error, KeyboardInterrupt):
            ending = {"status": "cancelled", "error": "interrupted"}
        else:
            ending = {"status": "failed", "error": f"{type(error).__name__}: {error}"}
        _update(connection, run_id, ending)
        if ending["status"] == "failed":
            tell_failed(connection, routes, work, ending["error"])
        connection.commit()
        raise


@dataclass(frozen=True, slots=True)
class Running:
    """A run whose row stands there with the status running."""

    connection: Connection
    run_id: UUID
    market: Market
    work: Work
    routes: Routes

    def complete(self, result: Result) -> None:
        """Store everything, mark it completed and tell of it, in one transaction."""
        metrics = result.metrics
        figures = {"total_return_pct": metrics.total_return_pct, "sharpe_ratio": metrics.sharpe_ratio}
        with self.connection.transaction():
            write_all(self.connection, self.run_id, result, self.market)
            tell_completed(self.connection, self.routes, self.work, outcome(metrics), figures)
        self.connection.commit()


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


def result_row(outcome: Outcome, candles: int) -> dict[str, Any]:
    """What a completed run over so many candles adds to its row."""
    metrics = outcome.metrics._asdict()
    return {
        **{name: metrics[name] for name in (*_MONEY_METRICS, *_PLAIN_METRICS)},
        "metrics": {name: metrics[name] for name in _OTHER_METRICS},
        "daily_returns": outcome.returns.tolist(),
        "fills_hash": outcome.fills_hash,
        "engine_stats": {
            "candles": candles,
            "events": outcome.events,
            "fills": outcome.fills,
            "fills_by_source": outcome.fills_by_source,
            "fills_by_reason": outcome.fills_by_reason,
            "rejected_orders": outcome.rejected,
            **({"funding": outcome.funding} if outcome.funding else {}),
        },
        "duration_seconds": outcome.seconds,
    }


def detail_row(result: Result) -> dict[str, Any]:
    """What a run that is stored with its fills adds beyond `result_row`; the sweep's others go without."""
    candles = sum(len(source.frame) for source in result.markets)
    outcome = outcome_of(result.setup, result.metrics, result.record, result.seconds)
    row = {"status": "completed", **result_row(outcome, candles), **_fed(result)}
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
    connection.execute(
        query, {name: _wrapped(name, value) for name, value in values.items()} | {"run_id": run_id}
    )


def _wrapped(name: str, value: Any) -> Any:
    if name in _DOCUMENTS:
        return Jsonb(value)
    return money(value) if name in _MONEY_METRICS else value
