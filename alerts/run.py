"""Sends the outbox on all channels, each in a thread of its own, until it is stopped."""

from __future__ import annotations

import logging
import time
from threading import Event, Thread
from typing import TYPE_CHECKING

from alerts.dispatcher import Clock, Counts, Dispatcher, Outlet
from market.timeframe import MICROSECONDS
from storage.database import connect, require_schema
from storage.notify import listen
from storage.outbox import CHANNEL
from storage.reconnect import reconnecting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
PAUSE_SECONDS = 2.0
"""What is due within so many is waited for to the moment, what is due later seen by the next poll."""
RESTART_SECONDS = 5.0
STOP_SECONDS = 20.0
"""For how long a call that was begun may go on after the end; then its row is left to its lease."""


def run(
    url: str, outlets: Mapping[str, Outlet], clock: Clock, stop: Event, *, is_once: bool = False
) -> Counts:
    """Send until `stop` is set, waiting while the database is away.

    Each channel has a thread and connections of its own, so that one that hangs delays no other.

    Args:
        url: the database.
        outlets: by the name that stands in the outbox.
        clock: gives the time in microseconds UTC.
        stop: set to end between two calls.
        is_once: end when nothing more is due.

    Returns:
        What was sent.

    Raises:
        Unavailable: the database does not answer at the start, or has no tables.
    """
    with connect(url, application_name="deltatape alerts") as connection:
        require_schema(connection)
    counts = {name: Counts() for name in outlets}
    threads = [
        Thread(
            target=_keep_sending,
            args=(url, name, outlet, clock, stop, counts[name], is_once),
            name=f"alerts {name}",
            daemon=True,
        )
        for name, outlet in outlets.items()
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) and not stop.wait(0.05 if is_once else 0.5):
        pass
    until = time.monotonic() + STOP_SECONDS
    for thread in threads:
        thread.join(max(until - time.monotonic(), 0))
    return Counts(
        *(sum(getattr(each, name) for each in counts.values()) for name in ("sent", "failed", "dead"))
    )


def _keep_sending(
    url: str, name: str, outlet: Outlet, clock: Clock, stop: Event, counts: Counts, is_once: bool
) -> None:
    """Send on one channel; whatever goes wrong, it is begun again."""
    try:
        while not stop.is_set():
            try:
                for _ in reconnecting(
                    url, lambda: _serve(url, name, outlet, clock, stop, counts, is_once), stop
                ):
                    pass
            except Exception:
                log.exception("alerts on %s: begun again", name)
                stop.wait(RESTART_SECONDS)
            else:
                return
    finally:
        outlet.channel.close()


def _serve(
    url: str, name: str, outlet: Outlet, clock: Clock, stop: Event, counts: Counts, is_once: bool
) -> Iterator[None]:
    with connect(url, application_name=f"deltatape alerts {name}", autocommit=True) as connection:
        dispatcher = Dispatcher(connection, name, outlet, clock, counts)
        for _ in listen(url, [CHANNEL], timeout=POLL_SECONDS):
            yield
            while (until := dispatcher.send_due(stop)) is not None:
                seconds = (until - clock()) / MICROSECONDS
                if seconds > PAUSE_SECONDS or stop.wait(max(seconds, 0)):
                    break
            if stop.is_set() or is_once:
                return
