"""NOTIFY and LISTEN: what wakes those who read the tables.

A notification only wakes; the truth is always read again from the tables. So one that is lost costs
latency, never data.
"""

from collections.abc import Iterable, Iterator

import psycopg
from msgspec import Struct
from psycopg import sql

from market.errors import Unavailable, WrongUse
from storage.database import Connection, connect, describe, reason

__all__ = ["LONGEST", "Notification", "listen", "notify"]

LONGEST = 7999
"""Bytes of a payload that PostgreSQL takes."""


class Notification(Struct, frozen=True):
    """One notification: on which channel, and with what."""

    channel: str
    payload: str


def notify(connection: Connection, channel: str, payload: str = "") -> None:
    """Notify `channel` when the caller's transaction commits; equal ones in it are told once.

    Raises:
        WrongUse: `payload` is longer than LONGEST bytes.
    """
    if len(payload.encode()) > LONGEST:
        raise WrongUse(f"a notification takes {LONGEST} bytes: say where to read, not what was written")
    connection.execute("SELECT pg_notify(%s, %s)", (channel, payload))


def listen(url: str, channels: Iterable[str], *, timeout: float) -> Iterator[Notification | None]:
    """Yield the notifications of `channels`, and None each `timeout` seconds without one.

    The first is a None, given once every channel is being listened to: what is read from the tables
    from then on misses nothing, since all later commits wake.

    Raises:
        Unavailable: the server does not answer, or the connection broke.
    """
    with connect(url, application_name="deltatape listen", autocommit=True) as connection:
        for channel in channels:
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        yield None
        while True:
            yield from _next(connection, url, timeout)


def _next(connection: Connection, url: str, timeout: float) -> Iterator[Notification | None]:
    try:
        found = list(connection.notifies(timeout=timeout, stop_after=1))
    except psycopg.OperationalError as error:
        raise Unavailable(f"lost {describe(url)}: {reason(error)}") from error
    if not found:
        yield None
    for each in found:
        yield Notification(each.channel, each.payload)
