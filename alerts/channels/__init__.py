"""Where alerts go: one file a channel, known by the name that stands in the outbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alerts.plan import Failure
    from storage.outbox import Alert

__all__ = ["Channel"]


class Channel(Protocol):
    """A way to people. Each is used by one thread."""

    def send(self, alerts: Sequence[Alert]) -> Failure | None:
        """Deliver these in one message; a failure is returned, not raised."""

    def close(self) -> None:
        """Give back what it holds."""
