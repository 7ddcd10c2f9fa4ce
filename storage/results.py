"""What positions and backtests came to, in brief: open positions, profit by period and strategy, runs."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from storage.database import Connection

__all__ = [
    "Closed",
    "OpenPosition",
    "Period",
    "RunSeen",
    "closed_by_period",
    "closed_by_strategy",
    "find_run",
    "newest_runs",
    "open_positions",
]

MOST_POSITIONS = 200


class OpenPosition(Struct, frozen=True):
    """A position that is open, and the last price of its instrument."""

    id: int
    exchange: str
    symbol: str
    side: str
    strategy_name: str | None
    entry_timestamp: datetime
    entry_price: float
    quantity: float
    stop_loss: float | None
    take_profit: float | None
    fees: float
    price: float | None

    @property
    def unrealised(self) -> float | None:
        """What closing it at the last price would bring, before the fee of that; None without a price."""
        if self.price is None:
            return None
        way = 1 if self.side == "long" else -1
        return way * self.quantity * (self.price - self.entry_price) - self.fees


class Closed(Struct, frozen=True):
    """What a group of closed positions came to."""

    name: str
    positions: int
    winners: int
    pnl: float
    fees: float
    won: float
    lost: float
    best: float
    worst: float


class Period(Struct, frozen=True):
    """A day, week or month (its first moment), and what the positions closed in it came to."""

    begin: datetime
    positions: int
    winners: int
    pnl: float
    fees: float


class RunSeen(Struct, frozen=True):
    """A backtest run in brief."""

    backtest_id: UUID
    strategy_name: str
    exchange: str
    symbols: list[str]
    interval: str
    start_date: datetime
    end_date: datetime
    status: str
    initial_capital: float
    final_capital: float | None
    total_pnl: float | None
    total_return_pct: float | None
    annual_return_pct: float | None
    sharpe_ratio: float | None
    sortino_ratio: float | None
    max_drawdown: float | None
    win_rate: float | None
    profit_factor: float | None
    total_trades: int | None
    total_fees: float | None
    run_timestamp: datetime
    error: str | None


def open_positions(connection: Connection) -> list[OpenPosition]:
    """Positions that are open and of no backtest, the newest first, MOST_POSITIONS at most."""
    rows = connection.execute(
        """
        SELECT id, exchange, symbol, side, strategy_name, entry_timestamp, entry_price::float8,
            quantity::float8, stop_loss::float8, take_profit::float8, fees::float8, (
                SELECT price FROM trades AS trade
                WHERE trade.exchange = position.exchange AND trade.symbol = position.symbol
                ORDER BY timestamp DESC, trade_seq DESC LIMIT 1)
        FROM positions AS position
        WHERE status = 'open' AND backtest_id IS NULL AND NOT is_backtest
        ORDER BY entry_timestamp DESC, id DESC LIMIT %s
        """,
        (MOST_POSITIONS,),
    ).fetchall()
    return [OpenPosition(*row) for row in rows]


# Positions of no backtest are found by the index on their run's id, however many backtests there are.
_CLOSED = "FROM positions WHERE status = 'closed' AND backtest_id IS NULL AND NOT is_backtest"


def closed_by_period(
    connection: Connection, unit: str, since: datetime, strategy: str | None = None
) -> list[Period]:
    """What was closed in each day, week or month from `since` on, the newest first; empty ones are left out.

    Args:
        connection: the database.
        unit: day, week or month.
        since: the first moment.
        strategy: only this one's.
    """
    rows = connection.execute(
        f"""
        SELECT date_trunc(%(unit)s, exit_timestamp, 'UTC') AS begin, count(*),
            count(*) FILTER (WHERE pnl > 0), coalesce(sum(pnl), 0)::float8, sum(fees)::float8
        {_CLOSED} AND exit_timestamp >= %(since)s
            AND (%(strategy)s::text IS NULL OR strategy_name = %(strategy)s)
        GROUP BY begin ORDER BY begin DESC
        """.encode(),
        {"unit": unit, "since": since, "strategy": strategy},
    ).fetchall()
    return [Period(*row) for row in rows]


def closed_by_strategy(connection: Connection, since: datetime) -> list[Closed]:
    """What each strategy's positions closed from `since` on came to, the best first."""
    rows = connection.execute(
        f"""
        SELECT coalesce(strategy_name, 'by hand'), count(*), count(*) FILTER (WHERE pnl > 0),
            coalesce(sum(pnl), 0)::float8, sum(fees)::float8,
            coalesce(sum(pnl) FILTER (WHERE pnl > 0), 0)::float8,
            coalesce(-sum(pnl) FILTER (WHERE pnl < 0), 0)::float8,
            coalesce(max(pnl), 0)::float8, coalesce(min(pnl), 0)::float8
        {_CLOSED} AND exit_timestamp >= %s GROUP BY 1 ORDER BY 4 DESC, 1
        """.encode(),
        (since,),
    ).fetchall()
    return [Closed(*row) for row in rows]


_MONEY = {"initial_capital", "final_capital", "total_pnl", "total_fees"}
_COLUMNS = [f"{name}::float8" if name in _MONEY else name for name in RunSeen.__struct_fields__]
_RUNS = f"SELECT {', '.join(_COLUMNS)} FROM backtest_runs"  # noqa: S608 - names of our own
_PAGE = "WHERE sweep_id IS NULL ORDER BY run_timestamp DESC, backtest_id LIMIT %s OFFSET %s"


def newest_runs(connection: Connection, limit: int, offset: int = 0) -> list[RunSeen]:
    """Backtest runs, but those of sweeps, the newest first."""
    rows = connection.execute(f"{_RUNS} {_PAGE}".encode(), (limit, offset)).fetchall()
    return [RunSeen(*row) for row in rows]


def find_run(connection: Connection, first: UUID, last: UUID) -> list[RunSeen]:
    """The runs whose id lies in [first, last], two at most: whether the beginning of an id names one."""
    rows = connection.execute(
        f"{_RUNS} WHERE backtest_id BETWEEN %s AND %s ORDER BY backtest_id LIMIT 2".encode(), (first, last)
    ).fetchall()
    return [RunSeen(*row) for row in rows]
