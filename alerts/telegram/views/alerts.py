"""/alerts, /watch and /unwatch: what was told, and what a chat is shown.

What changes anything asks first: the `…_question` checks what is meant, and the function after it does it
when the button below that question is pressed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alerts.telegram.markup import Reply, again, bold, code, paged, safe
from alerts.telegram.views.market import choose
from alerts.telegram.views.mutes import mute_lines
from alerts.telegram.words import when
from market import WrongUse
from market.timeframe import from_datetime, to_datetime
from storage import mutes, watches
from storage.outbox import list_alerts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alerts.telegram.asked import Asked, Market
    from storage.mutes import Mute
    from storage.outbox import Alert

PAGE = 6
MOST_PAGES = 20
_LAMPS = {"info": "🔵", "warning": "🟡", "critical": "🔴"}


def alerts(asked: Asked) -> Reply:
    """The newest alerts and what became of them."""
    if asked.words:
        raise WrongUse("write it alone")
    page = min(asked.page, MOST_PAGES)
    rows = list_alerts(asked.connection, limit=(page + 1) * PAGE + 1)
    shown = rows[page * PAGE : (page + 1) * PAGE]
    silent = mutes.muted(asked.connection, from_datetime(asked.now))
    buttons = paged(asked.line, page, has_more=len(rows) > (page + 1) * PAGE and page < MOST_PAGES)
    return Reply(alerts_text(shown, silent), buttons)


def alerts_text(rows: Sequence[Alert], silent: Sequence[Mute]) -> str:
    """What is mute, then a block an alert, the newest first."""
    blocks = mute_lines(silent)
    if not rows:
        blocks.append("No alerts yet: fresh signals, holes and trouble write them.")
    return "\n\n".join([*blocks, *map(_alert_block, rows)])


def _alert_block(row: Alert) -> str:
    lines = [
        f"{_LAMPS.get(row.severity, '')} {bold(row.title)}",
        safe(row.message),
        f"#{row.id} {when(to_datetime(row.timestamp))}, {safe(row.channel)}: {safe(row.status)}",
    ]
    return "\n".join([*lines, *([code(row.error)] if row.error else [])])


def watch_question(asked: Asked) -> Reply:
    """Whether this chat shall watch an instrument; without a word, what it watches."""
    if not asked.words:
        return Reply(watched_text(watches.watched(asked.connection, asked.chat)), (again(asked.line),))
    found = asked.markets()
    if len(found) > 1:
        return choose("watch", found)
    exchange, symbol = found[0]
    return Reply(f"Watch {bold(symbol)} on {safe(exchange)} in this chat?")


def watched_text(markets: Sequence[Market]) -> str:
    """What a chat watches."""
    if not markets:
        return "This chat watches nothing, so it is shown everything. Name an instrument: /watch BTC/USDT"
    listed = "\n".join(f"{bold(symbol)} on {safe(exchange)}" for exchange, symbol in markets)
    return f"This chat watches\n{listed}"


def watch(asked: Asked) -> str:
    """Let this chat watch an instrument."""
    ((exchange, symbol),) = _one(asked)
    if watches.watch(asked.connection, asked.chat, exchange, symbol):
        return f"👁 This chat watches {bold(symbol)} on {safe(exchange)}: /price and /signals show it."
    return f"This chat watches {watches.MOST} instruments already: /unwatch one first."


def unwatch_question(asked: Asked) -> Reply:
    """Whether this chat shall watch an instrument no more."""
    if not asked.words:
        raise WrongUse("name an instrument, like /unwatch BTC/USDT; /watch lists them")
    found = _watched(asked)
    if len(found) > 1:
        return choose("unwatch", found)
    exchange, symbol = found[0]
    return Reply(f"Watch {bold(symbol)} on {safe(exchange)} no more in this chat?")


def unwatch(asked: Asked) -> str:
    """Let this chat watch an instrument no more."""
    exchange, symbol = _watched(asked)[0]
    watches.unwatch(asked.connection, asked.chat, exchange, symbol)
    return f"This chat watches {bold(symbol)} on {safe(exchange)} no more."


def _one(asked: Asked) -> list[Market]:
    found = asked.markets() if asked.words else []
    if len(found) != 1:
        raise WrongUse("name one instrument, like /watch binance BTC/USDT")
    return found


def _watched(asked: Asked) -> list[Market]:
    from alerts.telegram.asked import matching

    mine = watches.watched(asked.connection, asked.chat)
    if not mine:
        raise WrongUse("this chat watches nothing; /watch BTC/USDT begins")
    return matching(mine, asked.words)
