"""The ledger of completeness: what is proven whole, what is missing, and who may write.

Times are microseconds UTC. Everything runs inside the caller's transaction.
"""

from collections.abc import Mapping
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
    "beat",
    "close_filled",
    "heal_gap",
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
    is_taken_back: bool = True,
) -> bool:
    """Record a hole; one that is on record already stays as it is.

    Where coverage claims a hole that ids show afterwards (a connection lost rows, ids began anew), that part
    of it is taken back, unless the caller does that (`is_taken_back` is false).

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
                AND from_timestamp = %(from)s AND to_timestamp = %(to)s AND cause = %(cause)s
                AND from_id IS NOT DISTINCT FROM %(from_id)s)
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
    is_shown = is_taken_back and (status == "confirmed" or cause == "id_reset")
    if not inserted.rowcount or not is_shown:
        return False
    return take_back(connection, key, [(from_timestamp, to_timestamp)])


def close_filled(
    connection: Connection, exchange: str, symbol: str, begin: int, end: int, *, is_healed: bool
) -> list[int]:
    """Close the holes in [begin, end] whose missing ids are all on the tape now; what was missing is covered.

    One whose trades were only late never was a hole, and goes; others are healed.

    Returns:
        The ends of the closed holes: `rebuild` there.
    """
    closed = connection.execute(
        """
        SELECT id, from_timestamp, to_timestamp, from_id, to_id, missing_count FROM stream_gaps AS gap
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND stream = 'trades'
            AND status IN ('suspected', 'confirmed') AND missing_count IS NOT NULL
            AND from_timestamp <= %(to)s + '1 s'::interval AND to_timestamp >= %(from)s - '1 s'::interval
            AND missing_count = (
                SELECT count(DISTINCT trade_seq) FROM trades
                WHERE exchange = %(exchange)s AND symbol = %(symbol)s
                    AND timestamp BETWEEN gap.from_timestamp - '1 s'::interval
                        AND gap.to_timestamp + '1 s'::interval
                    AND trade_seq BETWEEN gap.from_id::bigint AND gap.to_id::bigint)
        """,
        {"exchange": exchange, "symbol": symbol, **bound_parameters(begin, end)},
    ).fetchall()
    ends: list[int] = []
    for number, from_timestamp, to_timestamp, from_id, to_id, count in closed:
        first, last = from_datetime(from_timestamp), from_datetime(to_timestamp)
        if is_healed:
            heal_gap(connection, number, count)
        else:
            connection.execute("DELETE FROM stream_gaps WHERE id = %s", [number])
        origin: Origin = "healed" if is_healed else "live"
        add_coverage(connection, exchange, symbol, "trades", first, last, from_id, to_id, "ids", origin, 0)
        ends += (first, last)
    return ends


def heal_gap(connection: Connection, number: int, healed_count: int, note: str | None = None) -> None:
    """Nothing is missing in this hole any more: it has `healed_count` trades, and its other ids none."""
    connection.execute(
        """
        UPDATE stream_gaps SET status = 'healed', healed_timestamp = now(), healed_count = %s,
            note = coalesce(%s, note)
        WHERE id = %s
        """,
        (healed_count, note, number),
    )


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


def beat(
    connection: Connection,
    exchange: str,
    epochs: Mapping[str, int],
    statuses: Mapping[str, tuple[Status, str]],
) -> None:
    """Say that the writer of these instruments' trades lives, and how each stream is.

    Args:
        connection: its transaction is the caller's.
        exchange: exchange id.
        epochs: the writer's epoch of each symbol.
        statuses: status and detail of each symbol; one that is not named keeps its own.

    Raises:
        Superseded: a newer writer has taken over one of them; roll back.
    """
    symbols = list(epochs)
    said = [statuses.get(symbol, (None, None)) for symbol in symbols]
    beaten = connection.execute(
        """
        UPDATE stream_state AS state SET updated_timestamp = clock_timestamp(),
            status = coalesce(given.status, state.status), detail = coalesce(given.detail, state.detail)
        FROM unnest(%(symbols)s::text[], %(epochs)s::bigint[], %(statuses)s::text[], %(details)s::text[])
            AS given (symbol, epoch, status, detail)
        WHERE state.exchange = %(exchange)s AND state.symbol = given.symbol AND state.stream = 'trades'
            AND state.epoch = given.epoch
        """,
        {
            "exchange": exchange,
            "symbols": symbols,
            "epochs": list(epochs.values()),
            "statuses": [status for status, _ in said],
            "details": [detail for _, detail in said],
        },
    )
    if beaten.rowcount != len(symbols):
        raise Superseded(f"another collector has taken over {exchange} {', '.join(symbols)}: this one stops")


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
