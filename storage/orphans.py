"""Trades that stand in no coverage and in no hole on record: what they prove, and what is to be asked.

Everything runs inside the caller's transaction.
"""

from dataclasses import dataclass

from market.timeframe import DAY, from_datetime, to_datetime
from storage.amend import amend, lock_tapes
from storage.coverage import Origin, Span
from storage.database import Connection
from storage.ledger import add_gap
from storage.rebuild import Cause
from storage.stored import StoredTape

CLOCK_GOES_BACK = 10_000_000
"""Microseconds by which a trade may be older than one of a lower id."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """What became of them: spans that their ids prove, and holes that REST has to answer for."""

    spans: int
    holes: int


def adopt(
    connection: Connection,
    exchange: str,
    symbol: str,
    begin: int,
    end: int,
    origin: Origin,
    cause: Cause,
) -> Adopted:
    """Give the trades of [begin, end) that belong to nothing a place in the ledger.

    Where ids are consecutive, a run of them proves that nothing is missing in it: it becomes a span, up to
    the trades that its ids adjoin. Elsewhere a suspected hole says that somebody has to ask.

    Args:
        connection: its transaction is the caller's.
        exchange: exchange id.
        symbol: unified symbol.
        begin: microseconds UTC.
        end: microseconds UTC, exclusive.
        origin: how they came.
        cause: why the tape changes.
    """
    lock_tapes(connection, exchange, [symbol])
    runs = _runs(connection, exchange, symbol, begin, end)
    if not runs:
        return Adopted(0, 0)
    if _has_consecutive_ids(connection, exchange, symbol):
        spans = [_span(connection, exchange, symbol, run, origin) for run in runs]
        amend(connection, exchange, symbol, [], None, spans, cause)
        return Adopted(len(spans), 0)
    places: dict[int, tuple[int, int]] = {}
    for run in runs:
        first, last = places.get(run.place, (run.first_time, run.last_time))
        places[run.place] = min(first, run.first_time), max(last, run.last_time)
    for first, last in places.values():
        add_gap(
            connection,
            exchange,
            symbol,
            "trades",
            first,
            last + 1,
            cause="uncovered",
            status="suspected",
            proof="connection",
            note="trades that nothing proves to be all",
        )
    return Adopted(0, len(places))


@dataclass(frozen=True, slots=True)
class _Run:
    """Orphans whose ids follow from one another, in one place between coverage."""

    place: int
    is_aggregate: bool
    first_time: int
    last_time: int
    first_seq: int
    last_seq: int
    first_id: str
    last_id: str


def _runs(connection: Connection, exchange: str, symbol: str, begin: int, end: int) -> list[_Run]:
    edges = [
        to_datetime(edge) for island in StoredTape(connection, exchange, symbol).islands() for edge in island
    ]
    rows = connection.execute(
        _RUNS,
        {
            "exchange": exchange,
            "symbol": symbol,
            "from": to_datetime(begin),
            "to": to_datetime(end),
            "edges": edges,
        },
    )
    return [
        _Run(place, is_aggregate, from_datetime(first_time), from_datetime(last_time), *ids)
        for place, is_aggregate, first_time, last_time, *ids in rows
    ]


_RUNS = """
    WITH orphans AS (
        SELECT timestamp, trade_seq, trade_id, left(trade_id, 1) = 'a' AS is_aggregate,
            width_bucket(timestamp, %(edges)s::timestamptz[]) AS place
        FROM trades
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s
            AND timestamp >= %(from)s AND timestamp < %(to)s
            AND width_bucket(timestamp, %(edges)s::timestamptz[]) %% 2 = 0
            AND NOT EXISTS (
                SELECT FROM stream_gaps AS hole
                WHERE hole.exchange = %(exchange)s AND hole.symbol = %(symbol)s AND hole.stream = 'trades'
                    AND trades.timestamp BETWEEN hole.from_timestamp AND hole.to_timestamp)
    ), stepped AS (
        SELECT *, ((lag(place) OVER tape, lag(is_aggregate) OVER tape, lag(trade_seq) OVER tape + 1)
            = (place, is_aggregate, trade_seq)) IS NOT TRUE AS is_first
        FROM orphans
        WINDOW tape AS (ORDER BY timestamp, trade_seq)
    ), numbered AS (
        SELECT *, count(*) FILTER (WHERE is_first) OVER (ORDER BY timestamp, trade_seq) AS run FROM stepped
    )
    SELECT min(place), bool_or(is_aggregate), min(timestamp), max(timestamp), min(trade_seq), max(trade_seq),
        first(trade_id, trade_seq), last(trade_id, trade_seq)
    FROM numbered GROUP BY run ORDER BY 3
"""


def _span(connection: Connection, exchange: str, symbol: str, run: _Run, origin: Origin) -> Span:
    """The run's coverage: where the trade of the id before or after is on the tape, nothing lies between."""
    before = _time_of(
        connection, exchange, symbol, run, run.first_seq - 1, run.first_time - DAY, run.first_time
    )
    after = _time_of(connection, exchange, symbol, run, run.last_seq + 1, run.last_time, run.last_time + DAY)
    # The exchange's clock went back: the trade before by its id is a little later by its time.
    later = _time_of(
        connection, exchange, symbol, run, run.first_seq - 1, run.last_time, run.last_time + CLOCK_GOES_BACK
    )
    ends = [time for time in (after, later) if time is not None]
    return Span(
        run.first_time if before is None else min(before + 1, run.first_time),
        max(run.last_time + 1, *ends) if ends else run.last_time + 1,
        run.first_id,
        run.last_id,
        "ids",
        origin,
        0,
    )


def _time_of(
    connection: Connection, exchange: str, symbol: str, run: _Run, seq: int, begin: int, end: int
) -> int | None:
    """When the trade of this number was, between two times with no new count of ids between them."""
    row = connection.execute(
        """
        SELECT timestamp FROM trades
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND timestamp BETWEEN %(from)s AND %(to)s
            AND trade_seq = %(seq)s AND (left(trade_id, 1) = 'a') = %(is_aggregate)s
            AND NOT EXISTS (
                SELECT FROM stream_gaps AS reset
                WHERE reset.exchange = %(exchange)s AND reset.symbol = %(symbol)s
                    AND reset.stream = 'trades' AND reset.cause = 'id_reset'
                    AND reset.to_timestamp BETWEEN %(from)s AND %(to)s)
        LIMIT 1
        """,
        {
            "exchange": exchange,
            "symbol": symbol,
            "from": to_datetime(begin),
            "to": to_datetime(end),
            "seq": seq,
            "is_aggregate": run.is_aggregate,
        },
    ).fetchone()
    return None if row is None else from_datetime(row[0])


def _has_consecutive_ids(connection: Connection, exchange: str, symbol: str) -> bool:
    row = connection.execute(
        "SELECT trade_ids_consecutive FROM instruments WHERE exchange = %s AND symbol = %s",
        (exchange, symbol),
    ).fetchone()
    return row is not None and bool(row[0])
