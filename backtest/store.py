"""Runs in the database: a row each, with fills, positions and the equity curve, whole or not at all."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import numpy as np

from backtest import claims, tables
from backtest.bulk import copy_columns
from backtest.rows import base_row, detail_row, insert_runs, money, setup_row, update_run
from backtest.telling import Work, outcome, tell_completed, tell_failed
from storage.routes import SILENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from backtest.result import Result
    from backtest.setup import Setup
    from signals.frame import CandleFrame
    from storage.database import Connection
    from storage.routes import Routes


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
        update_run(connection, run_id, ending)
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


def write_all(connection: Connection, run_id: UUID, result: Result, market: Market) -> None:
    """Write everything of a run whose row is there already, and mark it completed."""
    write_details(connection, run_id, result, market)
    update_run(connection, run_id, detail_row(result))


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
