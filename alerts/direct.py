"""Alerts past the database: what must be said when the outbox itself is out of reach."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

import psycopg

from alerts.dispatcher import BUSY
from alerts.pace import free_at
from market import MICROSECONDS, Unavailable
from storage import turns
from storage.clock import wall_clock
from storage.database import connect
from storage.outbox import Alert, AlertRow, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from alerts.dispatcher import Outlet
    from alerts.pace import Limits
    from alerts.plan import Failure
    from storage.database import Connection

log = logging.getLogger(__name__)

ATTEMPTS = 3
PAUSE_SECONDS = 2.0


@dataclass(slots=True)
class _Alone:
    """Calls of this program at one place while nobody can count them together with those of others."""

    lock: Lock = field(default_factory=Lock)
    ends: Sequence[int] = ()


_alone: defaultdict[str, _Alone] = defaultdict(_Alone)


def send_directly(
    outlets: dict[str, Outlet], rows: Sequence[AlertRow], url: str
) -> dict[str, Failure | None]:
    """Send each row on its channel as soon as it bears it, all channels beside one another, and close these.

    It is tried again a few times, then given up: nothing remembers it.

    Args:
        outlets: by the channel's name.
        rows: one for each channel at most; those that are suppressed are left out.
        url: the database, in which calls are counted together with those of others while it answers.

    Returns:
        How it failed, by channel; None where it was taken.
    """
    wanted = [row for row in rows if row.status == "pending" and row.channel in outlets]
    with ThreadPoolExecutor(max_workers=max(len(wanted), 1)) as pool:
        found = pool.map(lambda row: _send(outlets[row.channel], row, url), wanted)
        return dict(zip((row.channel for row in wanted), found, strict=True))


def _send(outlet: Outlet, row: AlertRow, url: str) -> Failure | None:
    failure: Failure | None = None
    try:
        for attempt in range(1, ATTEMPTS + 1):
            is_lost = failure is not None and failure.is_answer_lost
            alert = _alert(row, attempt, is_possible_duplicate=is_lost)
            with _turn(url, outlet.place or row.channel, outlet.limits):
                failure = outlet.channel.send([alert])
            if failure is None or failure.is_permanent or attempt == ATTEMPTS:
                return failure
            time.sleep(PAUSE_SECONDS)
    finally:
        outlet.channel.close()
    return failure


@contextmanager
def _turn(url: str, place: str, limits: Limits) -> Iterator[None]:
    """Wait until the place bears a call, and count the one that is made while the context lasts."""
    if not limits.counted:
        yield
        return
    try:
        connection = _begun(url, place, limits)
    except (Unavailable, psycopg.Error) as error:
        log.info("a call is counted alone: %s", error)
        with _turn_alone(place, limits):
            yield
        return
    try:
        yield
    finally:
        with suppress(psycopg.Error):
            turns.end(connection, place, wall_clock())
        # The turn ends with its session.
        connection.close()


def _begun(url: str, place: str, limits: Limits) -> Connection:
    """A session that has the turn, and whose call has begun."""
    connection = connect(url, application_name="deltatape alerts", autocommit=True)
    try:
        while True:
            now = wall_clock()
            ends = turns.take(connection, place, now, limits.counted)
            at = now + BUSY if ends is None else free_at(ends, limits)
            if at <= now:
                turns.begin(connection, place, now)
                return connection
            if ends is not None:
                turns.release(connection, place)
            time.sleep((at - now) / MICROSECONDS)
    except BaseException:
        connection.close()
        raise


@contextmanager
def _turn_alone(place: str, limits: Limits) -> Iterator[None]:
    one = _alone[place]
    with one.lock:
        time.sleep(max(free_at(one.ends, limits) - wall_clock(), 0) / MICROSECONDS)
        try:
            yield
        finally:
            one.ends = [*one.ends, wall_clock()][-limits.counted :]


def _alert(row: AlertRow, attempts: int, *, is_possible_duplicate: bool) -> Alert:
    return Alert(
        id=0,
        timestamp=row.timestamp,
        alert_type=row.alert_type,
        severity=Severity(row.severity),
        title=row.title,
        message=row.message,
        payload=row.payload,
        channel=row.channel,
        status=row.status,
        attempts=attempts,
        is_possible_duplicate=is_possible_duplicate,
        next_attempt_timestamp=None,
        sent_timestamp=None,
        dedupe_key=row.dedupe_key,
        error=None,
        signal_id=None,
        position_id=None,
    )
