"""The holes on record: listing them, acknowledging one by hand, and ids that never were given."""

from collections.abc import Iterable, Sequence

from msgspec import Struct
from psycopg import sql

from market import WrongUse
from market.timeframe import from_datetime
from storage.copy import names
from storage.coverage import bound_parameters
from storage.database import Connection
from storage.ledger import GapStatus, Stream, heal_gap
from storage.stored import StoredTape

OPEN: tuple[GapStatus, ...] = ("suspected", "confirmed")
"""What is still to be healed."""
UNGIVEN = "ids_not_given"
"""The cause of a hole that is none: its exchange says that no trade ever had these ids."""


class Hole(Struct, frozen=True, kw_only=True):
    """A row of `stream_gaps`; times are microseconds UTC, the ids inclusive."""

    id: int
    exchange: str
    symbol: str
    stream: Stream
    from_timestamp: int
    to_timestamp: int
    from_id: str | None
    to_id: str | None
    missing_count: int | None
    detected_timestamp: int
    cause: str
    status: GapStatus
    proof: str
    healed_timestamp: int | None
    healed_count: int | None
    note: str | None

    @property
    def is_open(self) -> bool:
        """Whether it is still to be healed."""
        return self.status in OPEN

    def touches(self, begin: int, end: int) -> bool:
        """Whether any of it lies in [begin, end); one without length does where it stands."""
        is_moment = self.from_timestamp == self.to_timestamp
        return self.from_timestamp < end and (
            self.to_timestamp > begin or (is_moment and self.to_timestamp == begin)
        )


_SELECT = sql.SQL("SELECT {} FROM stream_gaps ").format(names(Hole.__struct_fields__))


def list_holes(
    connection: Connection,
    *,
    exchange: str | None = None,
    symbol: str | None = None,
    stream: Stream | None = None,
    begin: int | None = None,
    end: int | None = None,
    statuses: Iterable[GapStatus] | None = None,
) -> list[Hole]:
    """The holes on record that touch [begin, end), oldest first; all that is not named is not asked for."""
    rows = connection.execute(
        _SELECT
        + sql.SQL("""
        WHERE (%(exchange)s::text IS NULL OR exchange = %(exchange)s)
            AND (%(symbol)s::text IS NULL OR symbol = %(symbol)s)
            AND (%(stream)s::text IS NULL OR stream = %(stream)s)
            AND (%(statuses)s::text[] IS NULL OR status = ANY (%(statuses)s))
            AND (%(to)s::timestamptz IS NULL OR from_timestamp < %(to)s)
            AND (%(from)s::timestamptz IS NULL OR to_timestamp > %(from)s
                OR to_timestamp = %(from)s AND from_timestamp = to_timestamp)
        ORDER BY from_timestamp, id
        """),
        {
            "exchange": exchange,
            "symbol": symbol,
            "stream": stream,
            "statuses": None if statuses is None else list(statuses),
            **bound_parameters(begin, end),
        },
    )
    return [_hole(row) for row in rows]


def _hole(row: Sequence[object]) -> Hole:
    values = dict(zip(Hole.__struct_fields__, row, strict=True))
    for name in ("from_timestamp", "to_timestamp", "detected_timestamp", "healed_timestamp"):
        moment = values[name]
        values[name] = None if moment is None else from_datetime(moment)  # type: ignore[arg-type]
    return Hole(**values)  # type: ignore[arg-type]


def acknowledge(connection: Connection, number: int, note: str) -> Hole:
    """Call an open hole unhealable, by hand: it is listed from then on and counts no more.

    Args:
        connection: its transaction is the caller's.
        number: the hole's id.
        note: why nobody will fill it.

    Returns:
        The hole as it stands now.

    Raises:
        WrongUse: there is none of this id, or it is not open.
    """
    changed = connection.execute(
        """
        UPDATE stream_gaps SET status = 'unhealable', note = concat_ws('; ', note, %s::text)
        WHERE id = %s AND status = ANY (%s)
        """,
        (f"acknowledged: {note}", number, list(OPEN)),
    )
    hole = find_hole(connection, number)
    if not changed.rowcount:
        raise WrongUse(f"hole {number} is {hole.status} already: only an open one can be acknowledged")
    return hole


def close_covered(connection: Connection, exchange: str, symbol: str, begin: int, end: int) -> int:
    """Close the holes in [begin, end] that coverage fills wholly now, with how many trades there are in each.

    A suspicion in which nothing was traded goes.

    Returns:
        How many were healed.
    """
    islands = StoredTape(connection, exchange, symbol).islands()
    healed = 0
    for hole in list_holes(
        connection,
        exchange=exchange,
        symbol=symbol,
        stream="trades",
        begin=begin,
        end=end + 1,
        statuses=(*OPEN, "unhealable"),
    ):
        if not any(first <= hole.from_timestamp and hole.to_timestamp <= last for first, last in islands):
            continue
        count = _trades_in(connection, hole)
        if not count and hole.status == "suspected":
            connection.execute("DELETE FROM stream_gaps WHERE id = %s", [hole.id])
        else:
            heal_gap(connection, hole.id, count)
            healed += 1
    return healed


def _trades_in(connection: Connection, hole: Hole) -> int:
    row = connection.execute(
        """
        SELECT count(*) FROM trades
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s
            AND timestamp BETWEEN %(from)s - '1 s'::interval AND %(to)s + '1 s'::interval
            AND CASE WHEN %(first)s::bigint IS NULL THEN timestamp >= %(from)s AND timestamp < %(to)s
                ELSE trade_seq BETWEEN %(first)s AND %(last)s END
        """,
        {
            "exchange": hole.exchange,
            "symbol": hole.symbol,
            **bound_parameters(hole.from_timestamp, hole.to_timestamp),
            "first": hole.from_id,
            "last": hole.to_id,
        },
    ).fetchone()
    return 0 if row is None else int(row[0])


def find_hole(connection: Connection, number: int) -> Hole:
    """The hole of this id.

    Raises:
        WrongUse: there is none.
    """
    row = connection.execute(_SELECT + sql.SQL("WHERE id = %s"), [number]).fetchone()
    if row is None:
        raise WrongUse(f"no hole has the id {number}: deltatape gaps --all lists them")
    return _hole(row)


def record_ungiven(
    connection: Connection,
    exchange: str,
    symbol: str,
    runs: Iterable[tuple[int, int, int, int]],
    proof: str,
) -> None:
    """Record ids that their exchange never gave to a trade, so that nobody takes them for missing.

    Args:
        connection: its transaction is the caller's.
        exchange: exchange id.
        symbol: unified symbol.
        runs: (first id, last id, time of the trade before, time of the trade after) in microseconds UTC.
        proof: how that is known.
    """
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO stream_gaps (exchange, symbol, stream, from_timestamp, to_timestamp, from_id, to_id,
                missing_count, cause, status, proof, healed_timestamp, healed_count, note)
            SELECT %(exchange)s, %(symbol)s, 'trades', %(from)s, %(to)s, %(from_id)s, %(to_id)s, %(count)s,
                %(cause)s, 'healed', %(proof)s, now(), 0, 'the exchange gave these ids to no trade'
            WHERE NOT EXISTS (
                SELECT FROM stream_gaps
                WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND stream = 'trades'
                    AND from_timestamp = %(from)s AND to_timestamp = %(to)s AND from_id = %(from_id)s)
            """,
            [
                {
                    "exchange": exchange,
                    "symbol": symbol,
                    **bound_parameters(before, max(before, after)),
                    "from_id": str(first),
                    "to_id": str(last),
                    "count": last - first + 1,
                    "cause": UNGIVEN,
                    "proof": proof,
                }
                for first, last, before, after in runs
            ],
        )
