"""A stored run read back whole: its tables as columns, and its report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.feeds import Source, holes
from backtest.labels import assumed, figures, label
from backtest.report import Report, prices_of, worth_columns
from backtest.reproduce import frames_of_run
from market.errors import WrongUse
from market.timeframe import format_time, from_datetime, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backtest.tables import Columns
    from storage.database import Connection

_TABLES = {
    "fills": (
        "timestamp",
        "symbol",
        "side",
        "price",
        "quantity",
        "fee",
        "liquidity",
        "order_type",
        "reason",
        "source",
        "funding",
    ),
    "positions": (
        "symbol",
        "side",
        "entry_timestamp",
        "entry_price",
        "quantity",
        "stop_loss",
        "take_profit",
        "trailing_stop",
        "exit_timestamp",
        "exit_price",
        "exit_reason",
        "fees",
        "funding",
        "gross_pnl",
        "pnl",
        "pnl_pct",
        "max_favourable",
        "max_adverse",
    ),
    "backtest_equity_curve": ("timestamp", "equity", "cash", "position_value", "drawdown"),
}
_DAY = len("2026-01-01")
_ORDER = {"fills": "id", "positions": "id", "backtest_equity_curve": "timestamp"}
_TEXTS = {"symbol", "side", "liquidity", "order_type", "reason", "source", "exit_reason"}


def stored_columns(connection: Connection, table: str, row: Mapping[str, Any]) -> Columns:
    """Fills, positions or the equity curve of a run, as `backtest.tables` names and types them."""
    names = _TABLES[table]
    chosen = ", ".join(_expression(name) for name in names)
    query = f"SELECT {chosen} FROM {table} WHERE backtest_id = %s ORDER BY {_ORDER[table]}"  # noqa: S608 - ours
    rows = connection.execute(query, (row["backtest_id"],)).fetchall()
    values = zip(*rows, strict=True) if rows else [()] * len(names)
    return {name: np.array(column, dtype=_kind(name)) for name, column in zip(names, values, strict=True)}


def stored_report(connection: Connection, url: str, row: Mapping[str, Any]) -> Report:
    """The report of a completed run from what is stored, its price from today's tape where that is there."""
    stats, config = row["engine_stats"], row["strategy_config"]
    run = {**row["metrics"], **row}
    markets: list[Source] = []
    try:
        frames = frames_of_run(url, row)
    except WrongUse:
        pass
    else:
        markets = [Source(symbol, frame) for symbol, frame in frames.items()]
    market = f"{row['exchange']} {' '.join(row['symbols'])}"
    return Report(
        f"{row['strategy_name']} {label(config)} · {market} · {row['interval']}",
        _origin(row),
        figures(run, row["metrics"].get("held", {}), len(row["daily_returns"])),
        holes(markets),
        sum(int(np.count_nonzero(~source.frame.is_whole)) for source in markets),
        stored_columns(connection, "backtest_equity_curve", row),
        prices_of(markets),
        worth_columns(markets) if markets else {},
        stored_columns(connection, "fills", row),
        columns_of(row["monthly_results"] or []),
        columns_of(stats.get("profit_by_reason", [])),
        stats["fills_by_source"],
        stored_columns(connection, "positions", row),
    )


def columns_of(rows: Sequence[Mapping[str, Any]]) -> Columns:
    """Documents of a run's row as columns again; their `begin` becomes microseconds UTC."""
    names = rows[0] if rows else ()
    columns = {name: np.array([row[name] for row in rows]) for name in names}
    if "begin" in columns:
        begins = [
            parse_time(f"{text}-01" if len(text) == 7 else text) for text in columns.pop("begin").tolist()
        ]
        return {"timestamp": np.array(begins, dtype=np.int64), **columns}
    return columns


def _origin(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    stats, config = row["engine_stats"], row["strategy_config"]
    begin, end = from_datetime(row["start_date"]), from_datetime(row["end_date"])
    parameters = {**config, "changed": config["parameters"]}
    fed = stats.get("fed") or [("candles", f"{stats['candles']:,} of {row['interval']}")]
    return [
        ("run", f"{row['backtest_id']}, {row['run_timestamp']:%Y-%m-%d %H:%M:%S} UTC"),
        ("period", f"{format_time(begin)} … {format_time(end)}"),
        *((name, text) for name, text in fed),
        ("account", f"{row['market_type']}, {row['initial_capital']:,.2f} at the start"),
        *assumed(config),
        ("parameters", label(parameters) or "none"),
        ("rejected orders", f"{stats['rejected_orders']:,}"),
        ("data", f"SHA-256 {row['data_fingerprint']}"),
        ("fills and equity", f"SHA-256 {row['fills_hash']}"),
        ("code", row["code_version"]),
        ("machine", row["machine"]),
    ]


def _expression(name: str) -> str:
    if name in _TEXTS:
        return name
    if name.endswith("timestamp"):
        return f"(extract(epoch FROM {name}) * 1000000)::bigint"
    return f"{name}::float8"


def _kind(name: str) -> type:
    return str if name in _TEXTS else np.int64 if name.endswith("timestamp") else np.float64
