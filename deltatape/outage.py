"""Says that the database is away, past it, once it has been so for a while; and that it is back."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic as elapsed
from typing import TYPE_CHECKING

from rich.console import Console

from alerts.direct import send_directly
from deltatape.outlets import outlets
from market import DeltatapeError
from storage.clock import wall_clock
from storage.outbox import AlertType, Event, Severity

if TYPE_CHECKING:
    from deltatape.settings import Settings

log = logging.getLogger(__name__)


class Outage:
    """Remembers since when the database is away.

    Args:
        settings: where alerts go, and after how long; None: nobody is told.
    """

    def __init__(self, settings: Settings | None) -> None:
        self._settings = settings
        self._since: float | None = None
        self._is_told = False

    async def note(self, reason: str | None) -> None:
        """The database is away, for this reason; None: it answers."""
        if self._settings is None:
            return
        if reason is None:
            was_told, self._since, self._is_told = self._is_told, None, False
            if was_told:
                await asyncio.to_thread(
                    say, self._settings, "the database answers again", "alerts are sent again", Severity.INFO
                )
            return
        at = elapsed()
        self._since = at if self._since is None else self._since
        if not self._is_told and at - self._since >= self._settings.alerts.down_seconds:
            self._is_told = True
            await asyncio.to_thread(
                say, self._settings, "the database is out of reach", reason, Severity.CRITICAL
            )


def say(settings: Settings, title: str, message: str, severity: Severity) -> None:
    """Tell people past the database, on the channels that the rules name; what fails is logged."""
    at = wall_clock()
    event = Event(
        alert_type=AlertType.SYSTEM_ERROR,
        timestamp=at,
        title=title,
        message=message,
        dedupe_key=f"said:{at}",
        severity=severity,
    )
    rows = settings.alerts.routes().rows(event)
    try:
        made = outlets(settings, Console(stderr=True), None, only=[row.channel for row in rows])
        found = send_directly(made, rows, settings.database_if_up())
    except DeltatapeError as error:
        log.warning("cannot tell that %s: %s", title, error)
        return
    for channel, failure in found.items():
        if failure is not None:
            log.warning("cannot tell on %s that %s: %s", channel, title, failure.reason)
