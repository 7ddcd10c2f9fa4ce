"""The channel `console`: alerts as readable blocks on a terminal, or as plain lines in a log."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.panel import Panel
from rich.text import Text

from alerts.plan import Failure
from alerts.texts import lines, origin, title

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from storage.outbox import Alert

_SEVERITIES = {"info": "blue", "warning": "yellow", "critical": "bold red"}
_SIGNALS = {
    "STRONG_BUY": "bold green",
    "BUY": "green",
    "NEUTRAL": "white",
    "SELL": "red",
    "STRONG_SELL": "bold red",
}


class ConsoleChannel:
    """Prints alerts.

    Args:
        console: where to; stdout unless given.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)

    def send(self, alerts: Sequence[Alert]) -> Failure | None:
        """Print them; a terminal that is gone is a failure to try again."""
        try:
            # Not by rich itself, which ends the process when nobody reads its pipe any more.
            self._console.file.write("".join(self._render(panel(alert)) for alert in alerts))
            self._console.file.flush()
        except OSError as error:
            return Failure(f"cannot print: {error}")
        return None

    def close(self) -> None:
        """The terminal is not ours to close."""

    def _render(self, shown: Panel) -> str:
        file, like = io.StringIO(), self._console
        twin = Console(file=file, width=like.width, force_terminal=like.is_terminal, highlight=False)
        twin.print(shown)
        return file.getvalue()


def panel(alert: Alert) -> Panel:
    """An alert with everything that it knows: title, message, reasons, warnings, time and source."""
    style = _SIGNALS.get(str(alert.payload.get("signal_type")), _SEVERITIES[alert.severity])
    return Panel(
        Group(*_body(alert)),
        title=Text(title(alert), style=style),
        title_align="left",
        subtitle=Text(origin(alert), style="dim"),
        subtitle_align="left",
        border_style=style,
    )


def _body(alert: Alert) -> Iterator[Text]:
    for line in lines(alert):
        yield Text(
            line, style="yellow" if line.startswith("! ") else "dim" if line.startswith("CVD ") else ""
        )
