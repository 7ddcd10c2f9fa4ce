"""Numbers and times as people read them on a small screen."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

STALE_SECONDS = 60.0
"""What is older is said to be stale."""
UNKNOWN = "–"


def number(value: float | None) -> str:
    """All digits that tell something, thousands apart."""
    return UNKNOWN if value is None else _plain(f"{value:,.10g}", value)


def signed(value: float | None, digits: int = 4) -> str:
    """So many digits, with the sign."""
    return UNKNOWN if value is None else _plain(f"{value:+,.{digits}g}", value, "+")


def _plain(text: str, value: float, sign: str = "") -> str:
    """Without a power of ten, which is no number to most people."""
    if "e" not in text:
        return text
    return f"{value:{sign},.0f}" if abs(value) >= 1 else f"{value:{sign}.12f}".rstrip("0")


def money(value: float | None) -> str:
    """Two decimals, with the sign."""
    return UNKNOWN if value is None else f"{value:+,.2f}"


def percent(value: float | None, decimals: int = 2) -> str:
    """A percentage with its sign."""
    return UNKNOWN if value is None else f"{value:+.{decimals}f}%"


def share(part: int, whole: int) -> str:
    """How many percent of `whole` `part` is."""
    return f"{100 * part / whole:.0f}%" if whole else UNKNOWN


def duration(seconds: float) -> str:
    """A length of time in the largest unit that fits."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}".replace(".0 ", " ")
    return f"{max(seconds, 0):.0f} s"


def age(seconds: float) -> str:
    """How long ago; stale is said to be so."""
    return f"⚠ stale, {duration(seconds)} old" if seconds > STALE_SECONDS else f"{duration(seconds)} ago"


def when(moment: datetime) -> str:
    """A time to the second, UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def plural(count: int, one: str, many: str | None = None) -> str:
    """`3 holes`, `1 hole`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
