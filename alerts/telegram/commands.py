"""What the bot understands: each command's name, arguments, line of help, and answer."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from alerts.telegram.markup import Reply, safe
from alerts.telegram.views import alerts, backtests, health, market, money, mutes, signals
from storage.database import schema_revision

if TYPE_CHECKING:
    from collections.abc import Callable

    from alerts.telegram.asked import Asked


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        usage: its arguments.
        help: one line.
        answer: reads, and says.
        change: where there is one, `answer` only asks whether to, and this does it and says so.
    """

    usage: str
    help: str
    answer: Callable[[Asked], Reply]
    change: Callable[[Asked], str] | None = None


def version(asked: Asked) -> Reply:
    """What runs here."""
    revision = schema_revision(asked.connection)
    versions = f"deltatape {metadata.version('deltatape')}, Python {platform.python_version()}"
    return Reply(f"{safe(versions)}, schema {safe(revision)}")


def start(_: Asked) -> Reply:
    """Who this is, and the list of commands."""
    return Reply(f"<b>Deltatape</b>: the tape, its signals and their reasons.\n\n{help_text()}")


def help_(_: Asked) -> Reply:
    """The list of commands."""
    return Reply(help_text())


def help_text() -> str:
    """A line a command."""
    lines = [
        f"/{name}{f' {safe(command.usage)}' if command.usage else ''}: {safe(command.help)}"
        for name, command in COMMANDS.items()
        if name not in ("start", "help")
    ]
    return "\n".join([*lines, "", "All times are UTC. What changes anything asks first."])


COMMANDS = {
    "start": Command("", "Who this is, and the commands.", start),
    "help": Command("", "The commands.", help_),
    "status": Command("", "What is stored, and what runs.", health.status),
    "health": Command("", "Streams, lag, holes, and the bot itself.", health.health),
    "signals": Command("[n]", "The newest signals.", signals.signals),
    "signal": Command("ID", "A signal, with a picture.", signals.signal),
    "why": Command("ID", "Why it was given, with the numbers.", signals.why),
    "price": Command("[SYMBOL]", "Last prices.", market.price),
    "cvd": Command("SYMBOL [timeframe]", "A picture of candles and CVD.", market.cvd),
    "book": Command("SYMBOL", "The order book.", market.book),
    "gaps": Command("[hours]", "Holes in the tape.", health.gaps),
    "positions": Command("", "What is open.", money.positions),
    "profit": Command("", "Profit of today, 7 and 30 days, in all.", money.profit),
    "daily": Command("[days]", "Profit by day.", money.daily),
    "weekly": Command("[weeks]", "Profit by week.", money.weekly),
    "monthly": Command("[months]", "Profit by month.", money.monthly),
    "performance": Command("[days]", "Profit by strategy.", money.performance),
    "backtests": Command("", "The newest backtests.", backtests.backtests),
    "backtest": Command("ID", "A backtest's figures.", backtests.backtest),
    "alerts": Command("", "The newest alerts.", alerts.alerts),
    "mute": Command("[what] [time]", "No alerts, or none of this.", mutes.mute_question, mutes.mute),
    "unmute": Command("[what]", "Alerts again.", mutes.unmute_question, mutes.unmute),
    "watch": Command("[SYMBOL]", "Show this instrument here.", alerts.watch_question, alerts.watch),
    "unwatch": Command("SYMBOL", "Show it no more.", alerts.unwatch_question, alerts.unwatch),
    "version": Command("", "What runs here.", version),
}
