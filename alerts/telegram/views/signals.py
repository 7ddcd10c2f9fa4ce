"""/signals, /signal and /why: what was signalled, and why, with the numbers."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from alerts.telegram.markup import Reply, again, bold, code, opening, paged, safe
from alerts.telegram.views.market import market_name
from alerts.telegram.words import duration, number, percent, signed, when
from market import Timeframe, WrongUse
from market.timeframe import from_datetime
from storage import lately, read, watches

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from alerts.telegram.asked import Asked
    from alerts.telegram.markup import Button
    from storage.lately import SignalSeen

MOST = 50
CANDLES_BEFORE, CANDLES_AFTER = 64, 24
_LAMPS = {"STRONG_BUY": "🟢🟢", "BUY": "🟢", "NEUTRAL": "⚪", "SELL": "🔴", "STRONG_SELL": "🔴🔴"}
_MOST_INDICATORS = 24


def signals(asked: Asked) -> Reply:
    """The newest signals, of what this chat watches where it watches anything."""
    count = asked.count(5, MOST, "of signals a page")
    watched = watches.watched(asked.connection, asked.chat) or None
    rows = lately.newest_signals(asked.connection, count + 1, asked.page * count, watched)
    shown = rows[:count]
    buttons = (*_to_signals(shown), *paged(asked.line, asked.page, has_more=len(rows) > count))
    return Reply(signals_text(shown, asked.now, asked.page), buttons)


def _to_signals(rows: Sequence[SignalSeen]) -> tuple[tuple[Button, ...], ...]:
    buttons = [button for row in rows[:5] for button in opening(f"#{row.id}", f"signal {row.id}")]
    return (tuple(buttons),) if buttons else ()


def signals_text(rows: Sequence[SignalSeen], now: datetime, page: int) -> str:
    """A block a signal, the newest first."""
    if not rows and page:
        return "There are no older signals."
    if not rows:
        return "No signals yet: <code>deltatape up</code> writes them as candles close."
    return "\n\n".join(f"{head(row)}\n{_when(row, now)}" for row in rows)


def head(row: SignalSeen) -> str:
    """Two lines that name a signal and how sure it is."""
    kind = row.signal_type.replace("_", " ")
    return (
        f"{_LAMPS[row.signal_type]} {bold(kind)} {bold(row.symbol)} {row.interval}"
        f" on {market_name(row.exchange)} at {number(row.price)}\n"
        f"#{row.id} {safe(row.strategy_name)}: score {row.score:+.2f}, confidence"
        f" {row.confidence_score:.0f} ({row.confidence_level})"
    )


def _when(row: SignalSeen, now: datetime) -> str:
    return f"{when(row.timestamp)}, {duration((now - row.timestamp).total_seconds())} ago"


def find(asked: Asked) -> SignalSeen:
    """The signal that the only word names.

    Raises:
        WrongUse: it names none.
    """
    text = asked.id("signal")
    if not re.fullmatch(r"\d{1,18}", text):
        raise WrongUse("a signal's id is a number: /signals lists them")
    row = lately.find_signal(asked.connection, int(text))
    if row is None:
        raise WrongUse(f"there is no signal {text}: /signals lists them")
    return row


def signal(asked: Asked) -> Reply:
    """A signal with a picture of its candles."""
    from alerts.charts import Mark, candles_png

    row = find(asked)
    text = "\n".join([head(row), _when(row, asked.now), *_standing(row), *_reasons(row)])
    mute = opening("🔇 Mute", f"mute {row.exchange} {row.symbol}")
    buttons = ((*opening("Why, with the numbers", f"why {row.id}"), *mute), again(f"signal {row.id}"))
    length = Timeframe(row.interval).microseconds
    close = from_datetime(row.timestamp)
    candles = read.candles(
        asked.url,
        row.exchange,
        row.symbol,
        row.interval,
        close - CANDLES_BEFORE * length,
        close + CANDLES_AFTER * length,
    )
    if not len(candles):
        return Reply(text, buttons)
    kind = row.signal_type.replace("_", " ")
    is_up = None if row.signal_type == "NEUTRAL" else row.signal_type.endswith("BUY")
    title = f"{row.symbol}  {row.interval}  {row.exchange}"
    mark = Mark(close, kind, is_up)
    return Reply(text, buttons, candles_png(title, candles, length, theme=asked.theme, mark=mark))


def why(asked: Asked) -> Reply:
    """Why there was a signal: reasons, warnings, the values that it cites, and what became of it."""
    row = find(asked)
    outcomes = lately.signal_outcomes(asked.connection, row.id)
    return Reply(why_text(row, outcomes), (again(f"why {row.id}"),))


def why_text(row: SignalSeen, outcomes: Sequence[tuple[str, float, bool]]) -> str:
    """All that a signal says of itself."""
    lines = [head(row), when(row.timestamp), *_standing(row), "", *_reasons(row)]
    numbers = []
    if row.cvd is not None:
        numbers.append(f"CVD of the day {signed(row.cvd)}")
    if row.orderbook_imbalance is not None:
        numbers.append(f"book {percent(row.orderbook_imbalance, 1)}")
    lines += ["", " · ".join(numbers)] if numbers else []
    if row.indicators:
        lines += ["", "<b>What it cites</b>"]
        lines += [f"<code>{safe(name)} {safe(_value(value))}</code>" for name, value in _cited(row)]
    if outcomes:
        lines += ["", "<b>What became of it, net</b>"]
        lines += [
            f"{'✓' if is_right else '✗'} after {safe(horizon)}: {percent(100 * net)}"
            for horizon, net, is_right in outcomes
        ]
    calibration = "uncalibrated" if row.calibration_id is None else f"calibration {row.calibration_id}"
    lines += ["", f"{calibration}, settings {code(row.config_hash[:12])}, revision {row.revision}"]
    return "\n".join(lines)


def _standing(row: SignalSeen) -> list[str]:
    return ["⚠ withdrawn: today's tape has no such signal"] if row.is_withdrawn else []


def _reasons(row: SignalSeen) -> list[str]:
    return [f"• {safe(each)}" for each in row.reasons] + [f"⚠ {safe(each)}" for each in row.warnings]


def _cited(row: SignalSeen) -> list[tuple[str, Any]]:
    return list(row.indicators.items())[:_MOST_INDICATORS]


def _value(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value if isinstance(value, str) else json.dumps(value)
    return number(value)
