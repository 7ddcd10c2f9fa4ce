"""/backtests and /backtest: what runs on the past came to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from uuid import UUID

from alerts.telegram.markup import Reply, again, bold, code, opening, paged, safe
from alerts.telegram.words import UNKNOWN, money, number, percent, plural, when
from market import WrongUse
from storage import results

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alerts.telegram.asked import Asked
    from storage.results import RunSeen

PAGE = 5
SHORT = 8
"""Letters of an id that are shown, and that nearly always name one run."""


def backtests(asked: Asked) -> Reply:
    """The newest runs, without those of sweeps."""
    if asked.words:
        raise WrongUse("write it alone; /backtest ID shows one")
    rows = results.newest_runs(asked.connection, PAGE + 1, asked.page * PAGE)
    shown = rows[:PAGE]
    ids = [str(row.backtest_id)[:SHORT] for row in shown]
    to_runs = tuple(button for each in ids for button in opening(each, f"backtest {each}"))
    pages = paged(asked.line, asked.page, has_more=len(rows) > PAGE)
    return Reply(backtests_text(shown, asked.page), ((to_runs,) if to_runs else ()) + pages)


def backtests_text(rows: Sequence[RunSeen], page: int) -> str:
    """A block a run, the newest first."""
    if not rows:
        return "No older runs." if page else "No backtest was run yet: <code>deltatape backtest run</code>."
    return "\n\n".join(map(_run_block, rows))


def _run_block(row: RunSeen) -> str:
    head = f"{code(str(row.backtest_id)[:SHORT])} {bold(row.strategy_name)} {_market(row)}"
    if row.status != "completed":
        return f"{head}\n{safe(row.status)} {when(row.run_timestamp)}"
    return (
        f"{head}\n{bold(percent(row.total_return_pct))}, Sharpe {_ratio(row.sharpe_ratio)},"
        f" drawdown {_share(row.max_drawdown)}, {plural(row.total_trades or 0, 'trade')}"
    )


def _market(row: RunSeen) -> str:
    return f"{safe(' '.join(row.symbols))} {row.interval} on {safe(row.exchange)}"


def backtest(asked: Asked) -> Reply:
    """One run; the first letters of its id are enough."""
    given = asked.id("backtest")
    text = given.lower().replace("-", "")
    if not re.fullmatch("[0-9a-f]{4,32}", text):
        raise WrongUse("give four letters of a run's id or more: /backtests lists them")
    found = results.find_run(asked.connection, UUID(text.ljust(32, "0")), UUID(text.ljust(32, "f")))
    if len(found) != 1:
        raise WrongUse(f"{'several runs begin' if found else 'no run begins'} with {given}: see /backtests")
    row = found[0]
    return Reply(backtest_text(row), (again(f"backtest {row.backtest_id}"),))


def backtest_text(row: RunSeen) -> str:
    """The figures of a run, and what it ran on."""
    lines = [
        f"{bold(row.strategy_name)} {_market(row)}",
        f"{row.start_date:%Y-%m-%d} … {row.end_date:%Y-%m-%d}, from {number(row.initial_capital)}",
    ]
    if row.status == "completed":
        lines += [
            "",
            f"return {bold(percent(row.total_return_pct))} ({percent(row.annual_return_pct)} a year)",
            f"profit {money(row.total_pnl)} after {number(row.total_fees)} of fees",
            f"Sharpe {_ratio(row.sharpe_ratio)}, Sortino {_ratio(row.sortino_ratio)}",
            f"largest drawdown {_share(row.max_drawdown)}",
            f"{plural(row.total_trades or 0, 'trade')}, {_share(row.win_rate)} won",
            f"profit factor {_ratio(row.profit_factor)}",
            "",
            "A backtest is the past: it promises nothing.",
        ]
    else:
        lines += ["", safe(row.status), *([code(row.error)] if row.error else [])]
    return "\n".join([*lines, f"{code(row.backtest_id)}, run {when(row.run_timestamp)}"])


def _ratio(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return UNKNOWN if value is None else f"{100 * value:.1f}%"
