"""Alerts as plain lines, for channels that take one text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from market.timeframe import format_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from storage.outbox import Alert

SHOWN = 50
"""Alerts of a digest that are named; the others are counted."""
_RANKS = {"critical": 0, "warning": 1}


def plain(text: str) -> str:
    """`text` in one line, without letters that a terminal or a chat obeys instead of showing them."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def title(alert: Alert) -> str:
    """What it is, in one line."""
    return plain(alert.title)


def lines(alert: Alert) -> Iterator[str]:
    """What an alert says below its title: message, reasons, warnings."""
    yield from map(plain, alert.message.splitlines())
    for reason in _listed(alert.payload, "reasons"):
        yield f"• {reason}"
    if isinstance(cvd := alert.payload.get("cvd"), int | float):
        yield f"CVD of the day {cvd:+,.4g}"
    for warning in _listed(alert.payload, "warnings"):
        yield f"! {warning}"


def origin(alert: Alert) -> str:
    """When, what kind, which number; and whether it may have come before."""
    duplicate = ", perhaps sent before" if alert.is_possible_duplicate else ""
    # An alert that goes past the database has no number.
    number = f" · alert {alert.id}" if alert.id else ""
    return f"{format_time(alert.timestamp)} · {alert.alert_type}{number}{duplicate}"


def digest_title(alerts: Sequence[Alert]) -> str:
    """How many there are, and of which severity."""
    counts = {name: sum(each.severity == name for each in alerts) for name in ("critical", "warning")}
    among = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    return f"{len(alerts):,} alerts" + (f", {among}" if among else "")


def digest_lines(alerts: Sequence[Alert]) -> list[str]:
    """The titles of the first of them, what is critical before the rest."""
    ordered = sorted(alerts, key=lambda each: (_RANKS.get(each.severity, 2), each.id))
    shown = [f"{format_time(each.timestamp)[11:16]} {title(each)}" for each in ordered[:SHOWN]]
    if len(alerts) > SHOWN:
        shown.append(f"and {len(alerts) - SHOWN:,} more: deltatape alerts list")
    if any(each.is_possible_duplicate for each in alerts):
        shown.append("perhaps sent before, in part")
    return shown


def _listed(payload: dict[str, Any], name: str) -> list[str]:
    """A list of texts in a payload; empty where there is none."""
    found = payload.get(name)
    return [plain(str(text)) for text in found] if isinstance(found, list) else []
