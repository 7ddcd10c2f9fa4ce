"""A run as one HTML file that opens offline: holes first, then figures, charts and tables.

Nothing is loaded from anywhere and no script runs: the page forbids it itself. It follows the reader's choice
of dark or light.
"""

from __future__ import annotations

from calendar import month_abbr
from dataclasses import dataclass, field
from html import escape
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest import tables
from backtest.feeds import holes
from backtest.labels import figures
from backtest.periods import month_columns
from backtest.portfolio import worth_of
from backtest.svg import Dots, Line, chart
from market.timeframe import format_time, to_datetime

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from backtest.feeds import Source
    from backtest.result import Result
    from backtest.tables import Columns

_MOST_LISTED = 12
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""The browser itself refuses whatever is not in the page."""
_STYLE = Path(__file__).with_name("report.css")


@dataclass(frozen=True, slots=True)
class Report:
    """What a report shows, wherever it comes from.

    Attributes:
        title: what ran over what.
        origin: where the candles and the run come from, name and value.
        figures: name, the run's value, that of holding the market.
        missing: spans without candles, begin and end in microseconds UTC, and the instrument.
        unproven: candles that lie outside of proven coverage.
        equity: columns timestamp, equity, drawdown; empty where none is stored.
        prices: of each instrument columns timestamp, close; empty where the candles are not there any more.
        held: columns timestamp, worth: of holding the market, from 1.
        fills: columns timestamp, symbol, side, price.
        months: see `backtest.periods.month_columns`.
        reasons: see `backtest.reasons.profit_by_reason`.
        sources: fills by source.
        positions: see `backtest.tables.position_columns`.
    """

    title: str
    origin: Sequence[tuple[str, str]]
    figures: Sequence[tuple[str, str, str]]
    missing: Sequence[tuple[int, int, str]] = ()
    unproven: int = 0
    equity: Columns = field(default_factory=dict)
    prices: Mapping[str, Columns] = field(default_factory=dict)
    held: Columns = field(default_factory=dict)
    fills: Columns = field(default_factory=dict)
    months: Columns = field(default_factory=dict)
    reasons: Columns = field(default_factory=dict)
    sources: Mapping[str, int] = field(default_factory=dict)
    positions: Columns = field(default_factory=dict)


def of_result(result: Result) -> Report:
    """The report of a run that has just been made."""
    record, markets = result.record, result.markets
    return Report(
        result.title,
        result.origin(),
        figures(result.metrics._asdict(), result.held._asdict(), len(record.daily)),
        holes(markets),
        sum(int(np.count_nonzero(~source.frame.is_whole)) for source in markets),
        tables.equity_columns(record, result.setup.account.capital),
        prices_of(markets),
        worth_columns(markets),
        tables.fill_columns(record, result.symbols),
        month_columns(result.day_columns()),
        result.reason_columns(),
        result.counts("source"),
        tables.position_columns(record, result.symbols),
    )


def prices_of(markets: Sequence[Source]) -> dict[str, Columns]:
    """The closes of each instrument."""
    return {each.symbol: {"timestamp": each.frame.close_time, "close": each.frame.close} for each in markets}


def worth_columns(markets: Sequence[Source]) -> Columns:
    """What one unit of money held in the market, of each instrument an equal part, is worth at its closes."""
    times = markets[0].frame.close_time
    return {"timestamp": times, "worth": worth_of(markets, times)}


def html(report: Report) -> str:
    """The whole page."""
    parts = [
        f"<h1>{escape(report.title)}</h1>",
        _holes(report),
        _figures(report),
        _charts(report),
        _months(report.months),
        _table(
            "Fills by source",
            ["source", "fills"],
            [(name, f"{count:,}") for name, count in report.sources.items()],
            "nothing was filled",
        ),
        _reasons(report.reasons),
        _positions(report.positions),
        _table("Origin", ["", ""], report.origin, "", is_text=True),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(report.title)}</title><style>{_STYLE.read_text()}</style>"
    )
    footer = "<footer><p>Made by Deltatape. All times are UTC. A backtest is no forecast.</p></footer>"
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{"".join(parts)}{footer}</body></html>\n'
    )


def _holes(report: Report) -> str:
    lines = []
    if report.missing:
        lines.append(
            f"<strong>Candles are missing in {len(report.missing):,} "
            f"{'place' if len(report.missing) == 1 else 'places'}.</strong> Nothing was filled in there;"
            " indicators began anew after each. The charts shade the longest."
        )
        longest = sorted(report.missing, key=lambda span: span[0] - span[1])[:_MOST_LISTED]
        lines += [
            f"{escape(name)} {format_time(begin)} … {format_time(end)}".strip()
            for begin, end, name in sorted(longest)
        ]
        if len(report.missing) > len(longest):
            lines.append(f"and {len(report.missing) - len(longest):,} shorter ones")
    if report.unproven:
        lines.append(f"{report.unproven:,} candles are not proven whole: trades may be missing in them.")
    is_warning = bool(lines)
    if not lines:
        lines = ["No candle is missing from the first to the last."]
    return (
        f'<div class="box{" warn" if is_warning else ""}">{"".join(f"<p>{line}</p>" for line in lines)}</div>'
    )


def _figures(report: Report) -> str:
    table = _table("Figures", ["", "run", "held"], report.figures, "the run has no figures")
    return f'{table}<p class="soft">held: bought at the first open, never sold, without costs</p>'


def _charts(report: Report) -> str:
    parts = ["<h2>Equity</h2>"]
    if not len(report.equity.get("timestamp", ())):
        parts.append("<p>no equity curve is stored for this run: a sweep keeps those of its best runs</p>")
    else:
        times, equity = report.equity["timestamp"], report.equity["equity"]
        lines = [Line("run", "run", times, equity)]
        if len(report.held.get("worth", ())):
            worth = report.held["worth"] * (equity[0] / report.held["worth"][0])
            lines.append(Line("holding the market", "held", report.held["timestamp"], worth))
        parts.append(chart(lines, holes=[(begin, end) for begin, end, _ in report.missing], tall=True))
        below = -100.0 * report.equity["drawdown"]
        parts += ["<h2>Drawdown</h2>", chart([Line("drawdown", "fall", times, below, True)], unit=" %")]
    if not report.prices:
        parts.append("<h2>Fills on the price</h2><p>the candles of this run are not stored any more</p>")
    several = len(report.prices) > 1
    for symbol, price in report.prices.items():
        parts.append(f"<h2>Fills on the price{f' of {escape(symbol)}' if several else ''}</h2>")
        parts.append(_fills(report, symbol, price))
    return "".join(parts)


def _fills(report: Report, symbol: str, price: Columns) -> str:
    fills, dots = report.fills, []
    for side in ("buy", "sell") if len(fills.get("side", ())) else ():
        chosen = (fills["side"] == side) & (fills["symbol"] == symbol)
        if chosen.any():
            dots.append(Dots(side, side, fills["timestamp"][chosen], fills["price"][chosen]))
    missing = [(begin, end) for begin, end, name in report.missing if name == symbol]
    drawn = chart([Line("close", "price", price["timestamp"], price["close"])], dots, missing, tall=True)
    return drawn if dots else f"<p>nothing was filled</p>{drawn}"


def _months(months: Columns) -> str:
    """A row for each year and a column for each month: its return; the year's own at the end."""
    years: dict[int, dict[int, float]] = {}
    for time, change in zip(*(months.get(name, ()) for name in ("timestamp", "return_pct")), strict=True):
        when = to_datetime(int(time))
        years.setdefault(when.year, {})[when.month] = float(change)
    rows = [
        (
            str(year),
            *(_share(found.get(month)) for month in range(1, 13)),
            _share(_compounded(found.values())),
        )
        for year, found in years.items()
    ]
    columns = ["", *month_abbr[1:], "year"]
    return _table("Months, return in percent", columns, rows, "no months are stored for this run")


def _share(percent: float | None) -> _Cell:
    return _Cell("") if percent is None else _signed(percent, "+.2f")


def _compounded(percents: Iterable[float]) -> float:
    return 100.0 * (prod(1.0 + percent / 100.0 for percent in percents) - 1.0)


def _reasons(reasons: Columns) -> str:
    rows = [
        (f"{when}: {reason}", f"{count:,}", f"{won / count:.1%}", _signed(float(pnl), "+,.2f"))
        for when, reason, count, won, pnl in zip(
            *(reasons.get(name, ()) for name in ("when", "reason", "positions", "won", "pnl")), strict=True
        )
    ]
    return _table("Profit by reason", ["reason", "positions", "won", "net profit"], rows, "no positions")


def _positions(positions: Columns) -> str:
    count = len(positions.get("pnl", ()))
    largest = np.argsort(np.abs(positions["pnl"]), kind="stable")[::-1] if count else np.zeros(0, np.int64)
    several = len(set(positions["symbol"].tolist())) > 1 if count else False
    rows = [
        (
            f"{to_datetime(int(positions['entry_timestamp'][i])):%Y-%m-%d %H:%M}",
            f"{positions['side'][i]} {positions['symbol'][i] if several else ''}".strip(),
            f"{positions['entry_price'][i]:,.10g}",
            f"{to_datetime(int(positions['exit_timestamp'][i])):%Y-%m-%d %H:%M}",
            f"{positions['exit_price'][i]:,.10g}",
            positions["exit_reason"][i],
            _signed(float(positions["pnl"][i]), "+,.2f"),
            _signed(float(positions["pnl_pct"][i]), "+.2f", " %"),
        )
        for i in largest[:_MOST_LISTED]
    ]
    title = f"Positions of the largest profits and losses, {len(rows):,} of {count:,}"
    columns = ["entry", "side", "price", "exit", "price", "reason", "net profit", ""]
    return _table(title if rows else "Positions", columns, rows, "no position was opened")


class _Cell(str):
    """HTML already."""

    __slots__ = ()


def _signed(value: float, form: str, unit: str = "") -> _Cell:
    style = "gain" if value > 0 else "loss" if value < 0 else "soft"
    return _Cell(f'<span class="{style}">{value:{form}}{unit}</span>')


def _table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], empty: str, *, is_text: bool = False
) -> str:
    listed = list(rows)
    if not listed:
        return f"<h2>{escape(title)}</h2><p>{escape(empty)}</p>"
    head = "".join(f"<th>{escape(column)}</th>" for column in columns) if any(columns) else ""
    style = ' class="text" style="white-space: normal"' if is_text else ""
    body = "".join(f"<tr>{''.join(f'<td{style}>{_cell(cell)}</td>' for cell in row)}</tr>" for row in listed)
    return f'<h2>{escape(title)}</h2><div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _cell(cell: Any) -> str:
    return cell if isinstance(cell, _Cell) else escape(str(cell))
