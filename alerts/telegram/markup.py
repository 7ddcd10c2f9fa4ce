"""What a chat shows: texts in Telegram's HTML, cut where Telegram would refuse them, and buttons.

Limits: https://core.telegram.org/bots/api#sendmessage, #sendphoto and #inlinekeyboardbutton.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from alerts.texts import plain

__all__ = [
    "MOST_CAPTION",
    "MOST_DATA",
    "MOST_TEXT",
    "Button",
    "Reply",
    "again",
    "bold",
    "code",
    "cut",
    "opening",
    "paged",
    "safe",
]

MOST_TEXT = 4096
MOST_CAPTION = 1024
MOST_DATA = 64
"""Bytes that a button can carry."""
LONGEST_DATUM = 300
"""Letters of one text from the database that are shown; the rest is for the command line."""
_MORE = "…"


@dataclass(frozen=True, slots=True)
class Button:
    """A button below a message; what it carries says what pressing it does: `=` edits, `+` adds."""

    label: str
    data: str


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: HTML whose tags never reach over a line's end, rows of buttons, perhaps a picture (PNG)."""

    text: str
    buttons: tuple[tuple[Button, ...], ...] = ()
    picture: bytes | None = None


def safe(text: object, most: int = LONGEST_DATUM) -> str:
    """Text from data as HTML: one line, shortened, without markup or invisible letters of its own."""
    line = plain(str(text))
    return escape(line if len(line) <= most else line[: most - 1] + _MORE, quote=False)


def bold(text: object) -> str:
    """`text`, from data or not, in bold."""
    return f"<b>{safe(text)}</b>"


def code(text: object) -> str:
    """`text` as it stands: nothing in it becomes a link or mentions anyone."""
    return f"<code>{safe(text)}</code>"


def cut(html: str, most: int) -> str:
    """The lines of `html` that Telegram takes, and how many it does not.

    The markup is counted too, so what people see is shorter still. Units are those of UTF-16, as there.
    """
    if _units(html) <= most:
        return html
    lines = html.split("\n")
    kept: list[str] = []
    # Room for the last line, whatever the count in it.
    room = most - 24
    for line in lines:
        room -= _units(line) + 1
        if room < 0:
            break
        kept.append(line)
    left = len(lines) - len(kept)
    return "\n".join([*kept, f"{_MORE} {left} more {'lines' if left > 1 else 'line'}"])


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def again(line: str, page: int = 0, label: str = "↻ Refresh") -> tuple[Button, ...]:
    """A button that answers the command `line` anew in place; none where it is too long to carry."""
    return _button(label, f"={page}:{line}")


def opening(label: str, line: str) -> tuple[Button, ...]:
    """A button that answers the command `line` in a new message; none where it is too long to carry."""
    return _button(label, f"+0:{line}")


def _button(label: str, data: str) -> tuple[Button, ...]:
    return (Button(label, data),) if len(data.encode()) <= MOST_DATA else ()


def paged(line: str, page: int, *, has_more: bool) -> tuple[tuple[Button, ...], ...]:
    """Buttons to the pages beside `page`, and one that reads it anew."""
    before = again(line, page - 1, "‹ Newer") if page else ()
    after = again(line, page + 1, "Older ›") if has_more else ()
    row = (*before, *again(line, page), *after)
    return (row,) if row else ()
