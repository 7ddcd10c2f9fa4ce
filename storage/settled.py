"""Whether anything may still come to a day of an instrument."""

from market.timeframe import DAY, from_datetime, to_datetime
from storage.coverage import key_parameters
from storage.database import Connection
from storage.holes import OPEN, list_holes

__all__ = ["Settled", "newest_revision"]

QUIET = 2 * DAY
"""A day is left alone for so long after its end."""
GONE_ON = 60_000_000
"""How far the tape must have come after a day: what belongs to its end is stored by then."""


class Settled:
    """Says of one instrument's days whether anything may still come to them.

    Args:
        connection: read with the caller's transaction.
        exchange: exchange id.
        symbol: unified symbol.
        now: microseconds UTC.
    """

    def __init__(self, connection: Connection, exchange: str, symbol: str, now: int) -> None:
        self._now = now
        row = connection.execute(
            "SELECT max(to_timestamp) FROM stream_coverage"
            " WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND stream = %(stream)s",
            key_parameters((exchange, symbol, "trades")),
        ).fetchone()
        self._reached = None if row is None or row[0] is None else from_datetime(row[0])
        self._holes = list_holes(connection, exchange=exchange, symbol=symbol, stream="trades", statuses=OPEN)

    def why_not(self, day: int) -> str | None:
        """Why the day has to stay; None where it is settled."""
        end = day + DAY
        if self._now < end + QUIET:
            return "it ended less than 48 hours ago"
        if self._reached is not None and self._reached < end + GONE_ON:
            return "its tape has not gone on after it"
        # Quiet minutes take their price from the day before.
        holes = sum(hole.touches(day - DAY, end) for hole in self._holes)
        if holes:
            what = "1 hole is" if holes == 1 else f"{holes} holes are"
            return f"{what} open: deltatape repair, or deltatape gaps ack"
        return None


def newest_revision(connection: Connection, exchange: str, symbol: str, day: int) -> int:
    """The newest revision that touches an instrument's day, or its first moment; 0 without any."""
    row = connection.execute(
        """
        SELECT coalesce(max(id), 0) FROM tape_revisions
        WHERE exchange = %s AND symbol = %s AND from_timestamp < %s AND to_timestamp >= %s
        """,
        (exchange, symbol, to_datetime(day + DAY), to_datetime(day)),
    ).fetchone()
    return 0 if row is None else int(row[0])
