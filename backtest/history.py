"""Stored runs and sweeps, read back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.rows import dict_row

from market.errors import WrongUse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from storage.database import Connection

Row = dict[str, Any]
Query = sql.SQL | sql.Composed

_LISTED = sql.SQL(
    "SELECT backtest_id, run_timestamp, strategy_name, strategy_config, exchange, symbols, interval,"
    " market_type, start_date, end_date, status, initial_capital, final_capital, total_pnl,"
    " total_return_pct, sharpe_ratio, max_drawdown, total_trades, win_rate, profit_factor, sweep_id, error"
    " FROM backtest_runs "
)
# A metric stands in its own column or in the document of all others.
_RANK = "coalesce(to_jsonb(backtest_runs) -> %s, metrics -> %s)::float8 DESC NULLS LAST"


def runs(connection: Connection, limit: int, *, strategy: str | None = None) -> list[Row]:
    """The newest runs, the newest first."""
    query = _LISTED + sql.SQL(
        "WHERE strategy_name = coalesce(%s, strategy_name) ORDER BY run_timestamp DESC, backtest_id LIMIT %s"
    )
    return _rows(connection, query, (strategy, limit))


def best(connection: Connection, sweep_id: UUID, rank_by: str, limit: int) -> list[Row]:
    """The runs of a sweep with the highest `rank_by`, the best first; with folds of those that judged."""
    query = _LISTED + sql.SQL(
        f"WHERE sweep_id = %s AND split IS DISTINCT FROM 'in_sample' ORDER BY {_RANK}, backtest_id LIMIT %s"
    )
    return _rows(connection, query, (sweep_id, rank_by, rank_by, limit))


def run(connection: Connection, id_: str) -> Row:
    """One run with everything in its row.

    Args:
        connection: to read from.
        id_: its id, or so much of its beginning as no other has.

    Raises:
        WrongUse: no run, or more than one, begins so.
    """
    return _one(connection, "backtest_runs", "backtest_id", id_, "deltatape backtest list")


def sweep(connection: Connection, id_: str) -> Row:
    """One sweep, found as `run` finds a run."""
    return _one(connection, "sweeps", "id", id_, "deltatape sweep list")


def sweeps(connection: Connection, limit: int) -> list[Row]:
    """The newest sweeps, the newest first."""
    query = sql.SQL("SELECT * FROM sweeps ORDER BY started_timestamp DESC, id LIMIT %s")
    return _rows(connection, query, (limit,))


def positions(connection: Connection, run_id: UUID, limit: int) -> list[Row]:
    """The last positions of a run, in order."""
    found = _rows(
        connection,
        sql.SQL(
            "SELECT side, entry_timestamp, entry_price, quantity, exit_timestamp, exit_price, exit_reason,"
            " fees, gross_pnl, pnl, pnl_pct FROM positions WHERE backtest_id = %s"
            " ORDER BY entry_timestamp DESC, id DESC LIMIT %s"
        ),
        (run_id, limit),
    )
    return found[::-1]


def equity(connection: Connection, run_id: UUID) -> tuple[list[Any], list[float]]:
    """Times and equity of a run's curve; empty where none is stored."""
    query = (
        "SELECT timestamp, equity::float8 FROM backtest_equity_curve"
        " WHERE backtest_id = %s ORDER BY timestamp"
    )
    points = connection.execute(query, (run_id,)).fetchall()
    return [time for time, _ in points], [value for _, value in points]


def delete(connection: Connection, run_ids: Sequence[UUID]) -> None:
    """Delete runs with all that belongs to them, and commit."""
    connection.execute("DELETE FROM backtest_runs WHERE backtest_id = ANY (%s)", (list(run_ids),))
    connection.commit()


def _one(connection: Connection, table: str, key: str, id_: str, listing: str) -> Row:
    query = sql.SQL("SELECT * FROM {} WHERE starts_with({}::text, %s) LIMIT 2").format(
        sql.Identifier(table), sql.Identifier(key)
    )
    found = _rows(connection, query, (id_.lower(),)) if id_ else []
    if not found:
        raise WrongUse(f"there is no {id_!r} here; see: {listing}")
    if len(found) > 1:
        raise WrongUse(f"more than one begins with {id_!r}; write more of it")
    return found[0]


def _rows(connection: Connection, query: Query, values: tuple[Any, ...]) -> list[Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, values).fetchall()
