"""Where alerts go: one file a channel, known by the name that stands in the outbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from alerts.channels.console import ConsoleChannel

if TYPE_CHECKING:
    from alerts.plan import Failure
    from storage.outbox import Alert

__all__ = ["Channel", "ConsoleChannel"]


class Channel(Protocol):
    """A way to people."""

    def send(self, alert: Alert) -> Failure | None:
        """Deliver one alert; a failure is returned, not raised."""
