"""The ledger of completeness: what is proven whole, what is missing, and who may write.

Times are microseconds UTC. Everything runs inside the caller's transaction.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from psycopg import sql

from market import Unavailable
from market.timeframe import from_datetime, to_datetime
from storage.copy import all_or_nothing
from storage.database import Connection

Stream = Literal["trades", "book", "candles"]
Proof = Literal["ids", "connection", "rest", "file"]
Origin = Literal["live", "healed", "backfill", "replay", "import"]
GapStatus = Literal["suspected", "confirmed", "healed", "halt", "unhealable"]
Status = Literal["live", "stale", "healing", "down"]

_TABLES: dict[Stream, str] = {"trades": "trades", "book": "orderbook_snapshots", "candles": "candles"}
_NEVER = 0


class Superseded(Unavailable):
    """A newer writer has taken over the stream; this one must not write any more."""


@dataclass(frozen=True)
class Span:
    """[from_timestamp, to_timestamp) of one stream is whole; `proof` says how that is known."""

    from_timestamp: int
    to_timestamp: int
    from_id: str | None
    to_id: str | None
    proof: Proof
    origin: Origin
    row_count: int


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


def add_coverage(
    connection: Connection,
    exchange: str,
    symbol: str,
    stream: Stream,
    from_us: int,
    to_us: int,
    from_id: str | None,
    to_id: str | None,
    proof: Proof,
    origin: Origin,
    row_count: int,
) -> bool:
    """Record that [from_us, to_us) is whole; call it after its rows were written.

    What is covered already keeps its proof and origin; the rest becomes a span, or goes on with one that
    it touches where both have the same proof and origin.

    Args:
        connection: its transaction is the caller's.
        exchange: exchange id.
        symbol: unified symbol.
        stream: trades, book or candles.
        from_us: begin in microseconds UTC.
        to_us: end in microseconds UTC; where it is no later than the begin, nothing is recorded.
        from_id: id of the first row, None where there are no ids.
        to_id: id of the last row, None where there are no ids.
        proof: how it is known that nothing is missing.
        origin: how it came.
        row_count: rows that were newly written for it.

    Returns:
        Whether it covers anything that was not covered before.
    """
    new = Span(from_us, to_us, from_id, to_id, proof, origin, row_count)
    if to_us <= from_us:
        return False
    key = (exchange, symbol, stream)
    if _continue(connection, key, new):
        return True
    with all_or_nothing(connection):
        stored = _spans(connection, key, from_us, to_us)
        if any(each.from_timestamp <= from_us and to_us <= each.to_timestamp for each in stored):
            _count(connection, key, new)
            return False
        _replace(connection, key, stored, _combine(stored, new), is_counted=not _overlaps(stored, new))
    return True


def spans(connection: Connection, exchange: str, symbol: str, stream: Stream) -> list[Span]:
    """The stream's coverage, oldest first."""
    return _spans(connection, (exchange, symbol, stream), None, None)


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
            **_key(key),
            **_bounds(from_timestamp, to_timestamp),
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
    return _cut(connection, key, from_timestamp, to_timestamp)


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
        {**_key((exchange, symbol, stream)), "never": to_datetime(_NEVER)},
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
        _key((exchange, symbol, stream)),
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
            **_key((exchange, symbol, stream)),
            "watermark": watermark,
            "at": to_datetime(watermark_timestamp),
            "epoch": epoch,
            "status": status,
            "detail": detail,
        },
    )
    if not saved.rowcount:
        raise Superseded(f"another collector has taken over {stream} of {exchange} {symbol}: this one stops")


_StreamKey = tuple[str, str, Stream]


def _continue(connection: Connection, key: _StreamKey, new: Span) -> bool:
    """The usual case, one UPDATE: the new span makes the stored one longer."""
    updated = connection.execute(
        """
        UPDATE stream_coverage AS span SET
            to_timestamp = %(to)s, to_id = coalesce(%(to_id)s, to_id),
            row_count = row_count + %(row_count)s, updated_timestamp = now()
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND stream = %(stream)s
            AND to_timestamp = %(from)s AND proof = %(proof)s AND origin = %(origin)s
            AND NOT EXISTS (
                SELECT FROM stream_coverage AS other
                WHERE other.exchange = %(exchange)s AND other.symbol = %(symbol)s
                    AND other.stream = %(stream)s AND other.from_timestamp > span.from_timestamp
                    AND other.from_timestamp <= %(to)s)
        """,
        _parameters(key, new),
    )
    return updated.rowcount > 0


def _count(connection: Connection, key: _StreamKey, new: Span) -> None:
    """Rows came into what is covered already."""
    connection.execute(
        """
        UPDATE stream_coverage SET row_count = row_count + %(row_count)s, updated_timestamp = now()
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND stream = %(stream)s
            AND from_timestamp <= %(from)s AND %(to)s <= to_timestamp AND %(row_count)s > 0
        """,
        _parameters(key, new),
    )


def _overlaps(stored: list[Span], new: Span) -> bool:
    return any(
        each.from_timestamp < new.to_timestamp and new.from_timestamp < each.to_timestamp for each in stored
    )


def _combine(stored: list[Span], new: Span) -> list[Span]:
    """The spans that take the place of `stored`, which touch or overlap `new`, once it is added."""
    parts = list(stored)
    begin = new.from_timestamp
    for each in [*stored, replace(new, from_timestamp=new.to_timestamp)]:
        if begin < each.from_timestamp:
            parts.append(_part(new, begin, each.from_timestamp))
        begin = max(begin, each.to_timestamp)
    merged: list[Span] = []
    for part in sorted(parts, key=lambda span: span.from_timestamp):
        last = merged[-1] if merged else None
        if (
            last is not None
            and last.to_timestamp == part.from_timestamp
            and (last.proof, last.origin) == (part.proof, part.origin)
        ):
            merged[-1] = replace(
                last,
                to_timestamp=part.to_timestamp,
                to_id=part.to_id,
                row_count=last.row_count + part.row_count,
            )
        else:
            merged.append(part)
    return merged


def _part(whole: Span, begin: int, end: int) -> Span:
    """A part of a span; it has no id where it was cut."""
    return replace(
        whole,
        from_timestamp=begin,
        to_timestamp=end,
        from_id=whole.from_id if begin == whole.from_timestamp else None,
        to_id=whole.to_id if end == whole.to_timestamp else None,
    )


def _cut(connection: Connection, key: _StreamKey, begin: int, end: int) -> bool:
    hole = Span(begin, end, None, None, "ids", "live", 0)
    cut = [each for each in _spans(connection, key, begin, end) if _overlaps([each], hole)]
    parts = [_part(each, each.from_timestamp, begin) for each in cut if each.from_timestamp < begin]
    parts += [_part(each, end, each.to_timestamp) for each in cut if end < each.to_timestamp]
    with all_or_nothing(connection):
        _replace(connection, key, cut, parts, is_counted=False)
    return bool(cut)


def _replace(
    connection: Connection, key: _StreamKey, old: list[Span], new: list[Span], *, is_counted: bool
) -> None:
    """Put `new` in the place of `old`, with their rows counted anew unless that is known already."""
    for span in old:
        if span not in new:
            connection.execute(
                """
                DELETE FROM stream_coverage
                WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND stream = %(stream)s
                    AND from_timestamp = %(from)s
                """,
                _parameters(key, span),
            )
    for span in new:
        if span not in old:
            counted = span if is_counted else replace(span, row_count=_rows_in(connection, key, span))
            connection.execute(
                """
                INSERT INTO stream_coverage (exchange, symbol, stream, from_timestamp, to_timestamp, from_id,
                    to_id, proof, origin, row_count)
                VALUES (%(exchange)s, %(symbol)s, %(stream)s, %(from)s, %(to)s, %(from_id)s, %(to_id)s,
                    %(proof)s, %(origin)s, %(row_count)s)
                """,
                _parameters(key, counted),
            )


def _rows_in(connection: Connection, key: _StreamKey, span: Span) -> int:
    query = sql.SQL("""
        SELECT count(*) FROM {}
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s
            AND timestamp >= %(from)s AND timestamp < %(to)s
    """).format(sql.Identifier(_TABLES[key[2]]))
    row = connection.execute(query, _parameters(key, span)).fetchone()
    return 0 if row is None else int(row[0])


def _spans(connection: Connection, key: _StreamKey, begin: int | None, end: int | None) -> list[Span]:
    """Stored spans that touch or overlap [begin, end), or all, oldest first."""
    rows = connection.execute(
        """
        SELECT from_timestamp, to_timestamp, from_id, to_id, proof, origin, row_count FROM stream_coverage
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND stream = %(stream)s
            AND (%(from)s::timestamptz IS NULL
                OR to_timestamp >= %(from)s AND from_timestamp <= %(to)s::timestamptz)
        ORDER BY from_timestamp
        """,
        {**_key(key), **_bounds(begin, end)},
    )
    return [Span(from_datetime(row[0]), from_datetime(row[1]), *row[2:]) for row in rows]


def _parameters(key: _StreamKey, span: Span) -> dict[str, object]:
    return {
        **_key(key),
        **_bounds(span.from_timestamp, span.to_timestamp),
        "from_id": span.from_id,
        "to_id": span.to_id,
        "proof": span.proof,
        "origin": span.origin,
        "row_count": span.row_count,
    }


def _key(key: _StreamKey) -> dict[str, object]:
    return {"exchange": key[0], "symbol": key[1], "stream": key[2]}


def _bounds(begin: int | None, end: int | None) -> dict[str, object]:
    return {
        "from": None if begin is None else to_datetime(begin),
        "to": None if end is None else to_datetime(end),
    }
