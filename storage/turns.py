"""Turns at a place that bears only so many calls, such as a chat, whoever makes them.

Who has the turn is alone there: it knows when all calls of the last minute ended, and each call is noted
before it begins, so that one whose program died is counted too. Times are those of the callers' clocks.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from market import MICROSECONDS
from market.timeframe import from_datetime, to_datetime
from storage.database import Connection

__all__ = ["WINDOW", "begin", "end", "forget", "release", "take", "turn"]

WINDOW = 60 * MICROSECONDS
"""A call that ended longer ago matters no more."""


def take(connection: Connection, place: str, now: int, count: int) -> list[int] | None:
    """Take the turn at `place`, unless somebody else has it, until `release` or the session's end.

    Args:
        connection: in autocommit mode.
        place: any text.
        now: microseconds UTC.
        count: how many calls matter.

    Returns:
        When the last `count` calls of the last minute ended, in rising order, microseconds UTC; None:
        somebody else calls just now.
    """
    found = connection.execute("SELECT pg_try_advisory_lock(hashtextextended('turn:' || %s, 0))", (place,))
    if found.fetchone() != (True,):
        return None
    # Whoever made it has died, and nothing says when.
    end(connection, place, now)
    # A time far in the future is of a clock that was wrong.
    rows = connection.execute(
        "SELECT ended_timestamp FROM channel_calls WHERE place = %s AND ended_timestamp BETWEEN %s AND %s"
        " ORDER BY ended_timestamp DESC LIMIT %s",
        (place, to_datetime(now - WINDOW), to_datetime(now + WINDOW), count),
    ).fetchall()
    return [from_datetime(at) for (at,) in reversed(rows)]


def release(connection: Connection, place: str) -> None:
    """Give the turn back."""
    connection.execute("SELECT pg_advisory_unlock(hashtextextended('turn:' || %s, 0))", (place,))


@contextmanager
def turn(connection: Connection, place: str, now: int, count: int) -> Iterator[list[int] | None]:
    """Have the turn while the context lasts; gives what `take` gives."""
    ends = take(connection, place, now, count)
    try:
        yield ends
    finally:
        if ends is not None:
            release(connection, place)


def begin(connection: Connection, place: str, now: int) -> None:
    """A call begins; only who has the turn says so. What matters no more is deleted."""
    connection.execute(
        "DELETE FROM channel_calls WHERE place = %s AND ended_timestamp < %s",
        (place, to_datetime(now - WINDOW)),
    )
    connection.execute(
        "INSERT INTO channel_calls (place, began_timestamp) VALUES (%s, %s)", (place, to_datetime(now))
    )


def end(connection: Connection, place: str, now: int) -> None:
    """The call that began is over, however it ended."""
    connection.execute(
        "UPDATE channel_calls SET ended_timestamp = %s WHERE place = %s AND ended_timestamp IS NULL",
        (to_datetime(now), place),
    )


def forget(connection: Connection, place: str) -> None:
    """What began was no call after all."""
    connection.execute("DELETE FROM channel_calls WHERE place = %s AND ended_timestamp IS NULL", (place,))
