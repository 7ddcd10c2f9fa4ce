"""What people are told of a run or a sweep that has ended, in the transaction that says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from storage.clock import wall_clock
from storage.outbox import AlertType, Event, Severity, write_alerts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from backtest.metrics import Metrics
    from storage.database import Connection
    from storage.routes import Routes


@dataclass(frozen=True, slots=True)
class Work:
    """What has ended.

    Attributes:
        kind: ``backtest`` or ``sweep``, as the command is called.
        id: the row's.
        strategy: what was tried.
        exchange: on whose candles.
        symbols: of which instruments, the first one first.
        timeframe: of the candles.
    """

    kind: str
    id: UUID
    strategy: str
    exchange: str
    symbols: Sequence[str]
    timeframe: str


def tell_completed(
    connection: Connection, routes: Routes, work: Work, message: str, figures: Mapping[str, Any]
) -> None:
    """Tell that it has ended well.

    Args:
        connection: the transaction that marks it completed.
        routes: where to; where to nobody, nothing is done.
        work: what has ended.
        message: what came out, with the numbers.
        figures: the numbers, for machines.
    """
    _tell(connection, routes, work, "", message, figures, Severity.INFO)


def tell_failed(connection: Connection, routes: Routes, work: Work, reason: str) -> None:
    """Tell that it has failed, in the transaction that marks it so."""
    _tell(connection, routes, work, " failed", reason, {"error": reason}, Severity.WARNING)


def outcome(metrics: Metrics) -> str:
    """What came out of a run, in a line."""
    return (
        f"return {metrics.total_return_pct:+.2f}%, Sharpe {metrics.sharpe_ratio:.2f},"
        f" drawdown {100 * metrics.max_drawdown:.1f}%, {metrics.total_trades:,} positions,"
        f" {100 * metrics.win_rate:.0f}% won; bought and held {metrics.buy_and_hold_pct:+.2f}%"
    )


def _tell(
    connection: Connection,
    routes: Routes,
    work: Work,
    ending: str,
    message: str,
    figures: Mapping[str, Any],
    severity: Severity,
) -> None:
    if not routes.channels:
        return
    markets = " ".join(work.symbols)
    event = Event(
        alert_type=AlertType.RUN_FINISHED,
        timestamp=wall_clock(),
        title=f"{work.kind} of {work.strategy} on {markets} {work.timeframe} of {work.exchange}{ending}",
        message=f"{message}\ndeltatape {work.kind} show {work.id}",
        dedupe_key=f"run_finished:{work.id}",
        severity=severity,
        payload={
            "exchange": work.exchange,
            "symbol": work.symbols[0],
            "symbols": list(work.symbols),
            "strategy": work.strategy,
            "timeframe": work.timeframe,
            f"{work.kind}_id": str(work.id),
            **figures,
        },
    )
    write_alerts(connection, routes.rows(event))
