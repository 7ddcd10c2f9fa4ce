"""/positions, /profit, /daily, /weekly, /monthly and /performance: what was risked, and what it came to."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from alerts.telegram.markup import Reply, again, bold, paged, safe
from alerts.telegram.views.market import market_name
from alerts.telegram.words import UNKNOWN, duration, money, number, percent, plural, share
from storage import results

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from alerts.telegram.asked import Asked
    from storage.results import Closed, OpenPosition, Period

PAGE = 8
MOST_DAYS = 3660
_NONE = "No position was closed live {}. Those of backtests are in /backtests."
_COUNTS = {"day": (7, 60), "week": (8, 53), "month": (12, 36)}
"""How many periods are shown unless a number says so, and at most."""


def positions(asked: Asked) -> Reply:
    """What is open now, at the last price."""
    rows = results.open_positions(asked.connection)
    page = rows[asked.page * PAGE : (asked.page + 1) * PAGE]
    buttons = paged(asked.line, asked.page, has_more=len(rows) > (asked.page + 1) * PAGE)
    return Reply(positions_text(page, rows, asked.now), buttons)


def positions_text(page: Sequence[OpenPosition], rows: Sequence[OpenPosition], now: datetime) -> str:
    """The sum of all that is open, then a block a position."""
    if not rows:
        return "No position is open."
    total = sum(row.unrealised or 0.0 for row in rows)
    lines = [f"<b>{plural(len(rows), 'open position')}</b>, {money(total)} at the last prices"]
    return "\n\n".join([*lines, *(_position_block(row, now) for row in page)])


def _position_block(row: OpenPosition, now: datetime) -> str:
    profit = row.unrealised
    relative = None if profit is None else 100 * profit / (row.entry_price * row.quantity)
    held = duration((now - row.entry_timestamp).total_seconds())
    guards = [
        f"{name} {number(value)}"
        for name, value in (("stop", row.stop_loss), ("target", row.take_profit))
        if value is not None
    ]
    lines = [
        f"#{row.id} {row.side} {bold(row.symbol)} on {market_name(row.exchange)}",
        f"{number(row.quantity)} at {number(row.entry_price)}, now {number(row.price)}",
        f"{bold(money(profit))} ({percent(relative)})",
        f"{safe(row.strategy_name or 'by hand')}, for {held}",
    ]
    return "\n".join([*lines, *([" · ".join(guards)] if guards else [])])


def profit(asked: Asked) -> Reply:
    """What closed positions came to: today, in 7 and 30 days, and in all; and what is open."""
    midnight = asked.now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    spans = {
        "today": midnight,
        "7 days": midnight - timedelta(days=6),
        "30 days": midnight - timedelta(days=29),
        "in all": midnight - timedelta(days=MOST_DAYS),
    }
    # One read of the longest span: the others are parts of its days.
    days = results.closed_by_period(asked.connection, "day", spans["in all"])
    groups = {name: [day for day in days if day.begin >= since] for name, since in spans.items()}
    unrealised = sum(row.unrealised or 0.0 for row in results.open_positions(asked.connection))
    return Reply(profit_text(groups, unrealised), (again(asked.line),))


def profit_text(groups: dict[str, list[Period]], unrealised: float) -> str:
    """A line a span."""
    if not any(groups.values()):
        return _NONE.format("yet") + (f"\nOpen: {money(unrealised)}" if unrealised else "")
    lines = ["<b>Profit of closed positions, net</b>"]
    for name, days in groups.items():
        count, won = sum(day.positions for day in days), sum(day.winners for day in days)
        pnl = sum(day.pnl for day in days)
        lines.append(f"{name}: {bold(money(pnl))}, {plural(count, 'position')}, {share(won, count)} won")
    return "\n".join([*lines, f"open: {money(unrealised)} at the last prices"])


def daily(asked: Asked) -> Reply:
    """Profit day by day."""
    return _periods(asked, "day")


def weekly(asked: Asked) -> Reply:
    """Profit week by week."""
    return _periods(asked, "week")


def monthly(asked: Asked) -> Reply:
    """Profit month by month."""
    return _periods(asked, "month")


def _periods(asked: Asked, unit: str) -> Reply:
    default, most = _COUNTS[unit]
    count = asked.count(default, most, f"of {unit}s")
    rows = results.closed_by_period(asked.connection, unit, first_of(asked.now, unit, count))
    return Reply(periods_text(rows, unit, count), (again(asked.line),))


def first_of(now: datetime, unit: str, count: int) -> datetime:
    """When the first of `count` days, weeks or months began of which the last is not over; UTC."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "day":
        return today - timedelta(days=count - 1)
    if unit == "week":
        return today - timedelta(days=today.weekday() + 7 * (count - 1))
    months = 12 * today.year + today.month - 1 - (count - 1)
    return today.replace(year=months // 12, month=months % 12 + 1, day=1)


def periods_text(rows: Sequence[Period], unit: str, count: int) -> str:
    """A line a period, under each other, and their sum."""
    if not rows:
        return _NONE.format(f"in {plural(count, unit)}")
    form = "%Y-%m" if unit == "month" else "%Y-%m-%d"
    width = max(len(money(row.pnl)) for row in rows)
    lines = [f"<b>Profit by {unit}, net (UTC)</b>"]
    lines += [
        f"<code>{row.begin.astimezone(UTC).strftime(form)} {money(row.pnl):>{width}}"
        f" {row.positions:>4} {share(row.winners, row.positions):>4}</code>"
        for row in rows
    ]
    total, won = sum(row.positions for row in rows), sum(row.winners for row in rows)
    pnl = money(sum(row.pnl for row in rows))
    return "\n".join([*lines, f"sum {bold(pnl)}, {plural(total, 'position')}, {share(won, total)} won"])


def performance(asked: Asked) -> Reply:
    """How each strategy did."""
    days = asked.count(30, MOST_DAYS, "of days")
    rows = results.closed_by_strategy(asked.connection, asked.now - timedelta(days=days))
    return Reply(performance_text(rows, days), (again(asked.line),))


def performance_text(rows: Sequence[Closed], days: int) -> str:
    """A block a strategy, the best first."""
    if not rows:
        return _NONE.format(f"in {plural(days, 'day')}")
    return "\n\n".join([f"<b>Strategies over {plural(days, 'day')}, net</b>", *map(_strategy_block, rows)])


def _strategy_block(row: Closed) -> str:
    factor = f"{row.won / row.lost:.2f}" if row.lost else UNKNOWN
    return "\n".join(
        [
            f"{bold(row.name)}: {bold(money(row.pnl))}",
            f"{plural(row.positions, 'position')}, {share(row.winners, row.positions)} won",
            f"profit factor {factor}",
            f"best {money(row.best)}, worst {money(row.worst)}, fees {row.fees:,.2f}",
        ]
    )
