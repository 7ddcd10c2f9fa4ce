"""The ledger of completeness: what is proven whole, what is missing, and who may write.

Times are microseconds UTC. Everything runs inside the caller's transaction.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from market import Unavailable
from market.timeframe import from_datetime, to_datetime
from storage.coverage import (
    Origin,
    Proof,
    Span,
    Stream,
    add_coverage,
    bound_parameters,
    key_parameters,
    recount,
    spans,
    take_back,
)
from storage.database import Connection

__all__ = [
    "GapRow",
    "GapStatus",
    "Origin",
    "Proof",
    "Span",
    "Status",
    "Stream",
    "StreamState",
    "Superseded",
    "add_coverage",
    "add_gap",
    "list_gaps",
    "next_epoch",
    "read_state",
    "recount",
    "save_state",
    "spans",
]

GapStatus = Literal["suspected", "confirmed", "healed", "halt", "unhealable"]
Status = Literal["live", "stale", "healing", "down"]

_NEVER = 0


class Superseded(Unavailable):
    """A newer writer has taken over the stream; this one must not write any more."""


@dataclass(frozen=True)
class GapRow:
    """A hole of one stream, as stored."""

    id: int
    exchange: str
    symbol: str
    stream: Stream
    from_timestamp: int
    to_timestamp: int
    from_id: str | None
    to_id: str | None
    missing_count: int | None
    cause: str
    status: GapStatus
    proof: str
    note: str | None


@dataclass(frozen=True)
class StreamState:
    """How far a stream has come and who writes it; `watermark` is empty before the first row."""

    watermark: str
    watermark_timestamp: int
    epoch: int
    status: Status
    detail: str


def add_gap(
    connection: Connection,
    exchange: str,
    symbol: str,
    stream: Stream,
    from_timestamp: int,
    to_timestamp: int,
    *,
    cause: str,
    status: GapStatus,
    proof: str,
    from_id: str | None = None,
    to_id: str | None = None,
    missing_count: int | None = None,
    note: str | None = None,
) -> bool:
    """Record a hole; one that is on record already stays as it is.

    Where coverage claims a confirmed hole (ids show afterwards that a connection lost rows), that part of
    it is taken back.

    Returns:
        Whether coverage was taken back: `rebuild` the hole then.
    """
    key = (exchange, symbol, stream)
    inserted = connection.execute(
        """
        INSERT INTO stream_gaps (exchange, symbol, stream, from_timestamp, to_timestamp, from_id, to_id,
            missing_count, cause, status, proof, note)
        SELECT %(exchange)s, %(symbol)s, %(stream)s, %(from)s, %(to)s, %(from_id)s, %(to_id)s,
            %(missing_count)s, %(cause)s, %(status)s, %(proof)s, %(note)s
        WHERE NOT EXISTS (
            SELECT FROM stream_gaps
            WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND stream = %(stream)s
                AND from_timestamp = %(from)s AND to_timestamp = %(to)s AND cause = %(cause)s)
        """,
        {
            **key_parameters(key),
            **bound_parameters(from_timestamp, to_timestamp),
            "from_id": from_id,
            "to_id": to_id,
            "missing_count": missing_count,
            "cause": cause,
            "status": status,
            "proof": proof,
            "note": note,
        },
    )
    if not inserted.rowcount or status != "confirmed":
        return False
    return take_back(connection, key, from_timestamp, to_timestamp)


def list_gaps(
    connection: Connection,
    exchange: str | None = None,
    symbol: str | None = None,
    statuses: Iterable[GapStatus] | None = None,
) -> list[GapRow]:
    """The holes on record, oldest first; of every exchange, symbol and status unless they are named."""
    rows = connection.execute(
        """
        SELECT id, exchange, symbol, stream, from_timestamp, to_timestamp, from_id, to_id, missing_count,
            cause, status, proof, note
        FROM stream_gaps
        WHERE (%(exchange)s::text IS NULL OR exchange = %(exchange)s)
            AND (%(symbol)s::text IS NULL OR symbol = %(symbol)s)
            AND (%(statuses)s::text[] IS NULL OR status = ANY (%(statuses)s))
        ORDER BY from_timestamp, id
        """,
        {
            "exchange": exchange,
            "symbol": symbol,
            "statuses": None if statuses is None else list(statuses),
        },
    )
    return [
        GapRow(row[0], row[1], row[2], row[3], from_datetime(row[4]), from_datetime(row[5]), *row[6:])
        for row in rows
    ]


def next_epoch(connection: Connection, exchange: str, symbol: str, stream: Stream) -> int:
    """Take over a stream: from the commit on, only this epoch's `save_state` is accepted."""
    row = connection.execute(
        """
        INSERT INTO stream_state AS stored (exchange, symbol, stream, watermark, watermark_timestamp, epoch,
            status)
        VALUES (%(exchange)s, %(symbol)s, %(stream)s, '', %(never)s, 1, 'down')
        ON CONFLICT (exchange, symbol, stream) DO UPDATE SET
            epoch = stored.epoch + 1, updated_timestamp = now()
        RETURNING epoch
        """,
        {**key_parameters((exchange, symbol, stream)), "never": to_datetime(_NEVER)},
    ).fetchone()
    assert row is not None  # noqa: S101 - an upsert without a condition always returns its row
    return int(row[0])


def read_state(connection: Connection, exchange: str, symbol: str, stream: Stream) -> StreamState | None:
    """How far the stream has come; None where nobody ever wrote it."""
    row = connection.execute(
        """
        SELECT watermark, watermark_timestamp, epoch, status, detail FROM stream_state
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND stream = %(stream)s
        """,
        key_parameters((exchange, symbol, stream)),
    ).fetchone()
    return None if row is None else StreamState(row[0], from_datetime(row[1]), *row[2:])


def save_state(
    connection: Connection,
    exchange: str,
    symbol: str,
    stream: Stream,
    *,
    watermark: str,
    watermark_timestamp: int,
    epoch: int,
    status: Status,
    detail: str = "",
) -> None:
    """Record how far the stream has come, in the transaction that wrote its rows.

    The watermark never moves back in time.

    Raises:
        Superseded: a writer of a newer epoch has taken over; roll back.
    """
    saved = connection.execute(
        """
        INSERT INTO stream_state AS stored (exchange, symbol, stream, watermark, watermark_timestamp, epoch,
            status, detail)
        VALUES (%(exchange)s, %(symbol)s, %(stream)s, %(watermark)s, %(at)s, %(epoch)s, %(status)s,
            %(detail)s)
        ON CONFLICT (exchange, symbol, stream) DO UPDATE SET
            watermark = CASE WHEN excluded.watermark_timestamp < stored.watermark_timestamp
                THEN stored.watermark ELSE excluded.watermark END,
            watermark_timestamp = greatest(stored.watermark_timestamp, excluded.watermark_timestamp),
            epoch = excluded.epoch,
            status = excluded.status,
            detail = excluded.detail,
            updated_timestamp = now()
        WHERE stored.epoch <= excluded.epoch
        """,
        {
            **key_parameters((exchange, symbol, stream)),
            "watermark": watermark,
            "at": to_datetime(watermark_timestamp),
            "epoch": epoch,
            "status": status,
            "detail": detail,
        },
    )
    if not saved.rowcount:
        raise Superseded(f"another collector has taken over {stream} of {exchange} {symbol}: this one stops")
