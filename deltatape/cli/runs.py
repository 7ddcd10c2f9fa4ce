"""What `deltatape backtest` and `deltatape sweep` share: candles in, runs shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from deltatape.cli import output
from market import Timeframe, WrongUse, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from signals.frame import CandleFrame
    from storage.database import Connection

_POSITIONS_SHOWN = 8
T = TypeVar("T")


def by_name(option: str, given: Iterable[tuple[str, T]]) -> dict[str, T]:
    """What an option that may be given again says, by name.

    Raises:
        WrongUse: it names one twice.
    """
    found: dict[str, T] = {}
    for name, value in given:
        if name in found:
            raise WrongUse(f"{option} {name} is given twice: keep one")
        found[name] = value
    return found


def stored_candles(
    url: str,
    exchange: str,
    symbol: str,
    timeframe: str,
    start: str | None,
    end: str | None,
) -> CandleFrame:
    """The stored closed candles that open in [start, end).

    Raises:
        WrongUse: there is none; the message says which command fills the tape.
    """
    interval = Timeframe.parse(timeframe)
    since, until = (None if text is None else parse_time(text) for text in (start, end))
    from signals.frame import CandleFrame
    from storage import read

    candles = read.candles(url, exchange, symbol, interval, since, until)
    if candles.is_empty():
        raise none_stored(exchange, symbol, timeframe, start, end)
    return CandleFrame.from_polars(candles, interval)


def none_stored(exchange: str, symbol: str, timeframe: str, start: str | None, end: str | None) -> WrongUse:
    """That there are no candles to run over, and what fills the tape."""
    span = " in this span" if start or end else ""
    return WrongUse(
        f"no closed {timeframe} candles of {symbol} on {exchange} are stored{span};"
        f" fill the tape: deltatape collect --exchange {exchange} --symbols {symbol}"
    )


def run_table(title: str, rows: Iterable[Mapping[str, Any]], empty: str) -> None:
    """A table of runs."""
    from backtest.labels import label

    output.table(
        title,
        ["run", "strategy", "market", "parameters", "return %", "Sharpe", "drawdown", "positions", "status"],
        [
            (
                str(row["backtest_id"])[:8],
                row["strategy_name"],
                f"{row['exchange']} {' '.join(row['symbols'])} {row['interval']}",
                label(row["strategy_config"]),
                _shown(row["total_return_pct"], "+.2f"),
                _shown(row["sharpe_ratio"], ".2f"),
                _shown(row["max_drawdown"], ".1%"),
                _shown(row["total_trades"], ","),
                row["status"],
            )
            for row in rows
        ],
        empty,
    )


def show_run(connection: Connection, id_: str, home: Path, *, as_json: bool) -> None:
    """Print a stored run and draw its equity, in the terminal and into a picture file."""
    from backtest import history
    from backtest.labels import label

    row = history.run(connection, id_)
    run_id = row["backtest_id"]
    positions = history.positions(connection, run_id, _POSITIONS_SHOWN)
    times, equity = history.equity(connection, run_id)
    title = f"{row['strategy_name']} {label(row['strategy_config'])}"
    market = f"{row['exchange']} {' '.join(row['symbols'])} {row['interval']}"
    picture = None
    if times:
        picture = _draw(home / "reports" / f"backtest-{run_id}.png", f"{title} · {market}", times, equity)
    if as_json:
        output.print_json({**row, "last_positions": positions, "picture": str(picture) if picture else None})
        return
    output.table(f"{title} · {market}", ["figure", "run", "held"], _figures(row), empty="")
    _show_positions(positions)
    if not times:
        output.console.print("no equity curve is stored for this run: a sweep keeps those of its best runs")
        return
    from backtest.charts import equity_text

    output.console.print(
        equity_text(_microseconds(times), _floats(equity)), markup=False, no_wrap=True, crop=False
    )
    output.console.print(f"equity: {picture}", markup=False, soft_wrap=True)
    output.console.print(f"all of it, as a page: deltatape backtest report {str(run_id)[:8]}", markup=False)


def _figures(row: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    from backtest.labels import assumed, figures

    extra, stats = row["metrics"], row["engine_stats"]
    top = [
        ("run", f"{row['backtest_id']} ({row['status']})", ""),
        ("period", f"{row['start_date']:%Y-%m-%d %H:%M} … {row['end_date']:%Y-%m-%d %H:%M} UTC", ""),
        ("market", row["market_type"], ""),
        *((name, text, "") for name, text in assumed(row["strategy_config"])),
    ]
    if row["status"] != "completed":
        return [*top, ("error", row["error"] or "", "")]
    held = extra.get("held") or {"total_return_pct": extra["buy_and_hold_pct"]}
    return [
        *top,
        ("candles", _candles(stats), ""),
        *((name, text, "") for name, text in stats.get("fed", []) if name != "candles"),
        ("capital", f"{row['initial_capital']:,.2f} → {row['final_capital']:,.2f}", ""),
        *figures({**extra, **row}, held, len(row["daily_returns"])),
        *([("funding", f"{stats['funding']:+,.2f}", "")] if stats.get("funding") else []),
        ("fills by source", _counted(stats["fills_by_source"]), ""),
        ("fills by reason", _counted(stats["fills_by_reason"]), ""),
        ("rejected orders", f"{stats['rejected_orders']:,}", ""),
        *(
            (
                f"profit by {each['when']}: {each['reason']}",
                f"{each['pnl']:+,.2f} in {each['positions']:,}",
                "",
            )
            for each in stats.get("profit_by_reason", [])
        ),
    ]


def _candles(stats: Mapping[str, Any]) -> str:
    said = f"{stats['candles']:,}"
    if stats.get("holes"):
        said += f", {stats['holes']:,} holes between them"
    if stats.get("unproven_candles"):
        said += f", {stats['unproven_candles']:,} not proven whole"
    return said


def _show_positions(positions: Iterable[Mapping[str, Any]]) -> None:
    output.table(
        "last positions",
        ["side", "entry", "price", "quantity", "exit", "price", "reason", "net profit", "%"],
        [
            (
                each["side"],
                f"{each['entry_timestamp']:%Y-%m-%d %H:%M:%S}",
                f"{each['entry_price'].normalize():,f}",
                f"{each['quantity'].normalize():,f}",
                f"{each['exit_timestamp']:%Y-%m-%d %H:%M:%S}",
                f"{each['exit_price'].normalize():,f}",
                each["exit_reason"],
                f"{each['pnl']:+,.2f}",
                f"{each['pnl_pct']:+.2f}",
            )
            for each in positions
        ],
        empty="no positions are stored for this run",
    )


def _draw(path: Path, title: str, times: list[Any], equity: list[float]) -> Path:
    from backtest.charts import equity_png
    from backtest.files import write

    return write(path, equity_png(title, _microseconds(times), _floats(equity)))


def _microseconds(times: list[Any]) -> Any:
    import numpy as np

    from market.timeframe import from_datetime

    return np.array([from_datetime(time) for time in times], dtype=np.int64)


def _floats(values: list[float]) -> Any:
    import numpy as np

    return np.array(values)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def _shown(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)
