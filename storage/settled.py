"""Whether anything may still come to a day of an instrument."""

from collections.abc import Mapping

from market.timeframe import DAY, from_datetime, to_datetime
from storage.coverage import key_parameters
from storage.database import Connection
from storage.holes import OPEN, list_holes

__all__ = ["Settled", "changed_days"]

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


def changed_days(
    connection: Connection, exchange: str, symbol: str, known: Mapping[int, int]
) -> frozenset[int]:
    """Those of an instrument's days that were changed after the revision that stands by each.

    A day's last CVD point lies in the day after: a change that ends with a day counts for both.
    """
    rows = connection.execute(
        """
        SELECT DISTINCT day
        FROM unnest(%(days)s::timestamptz[], %(known)s::bigint[]) AS known (day, revision)
        JOIN tape_revisions AS later ON later.id > known.revision
            AND later.from_timestamp < day + '1 day'::interval AND later.to_timestamp >= day
        WHERE later.exchange = %(exchange)s AND later.symbol = %(symbol)s AND later.id > %(least)s
        """,
        {
            "exchange": exchange,
            "symbol": symbol,
            "days": list(map(to_datetime, known)),
            "known": list(known.values()),
            "least": min(known.values(), default=0),
        },
    )
    return frozenset(from_datetime(day) for (day,) in rows)
