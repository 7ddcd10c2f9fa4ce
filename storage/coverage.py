"""Coverage: the spans of each stream that are proven whole, which never overlap.

Times are microseconds UTC. Everything runs inside the caller's transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from psycopg import sql

from market.timeframe import from_datetime, to_datetime
from storage.copy import all_or_nothing
from storage.database import Connection

Stream = Literal["trades", "book", "candles"]
Proof = Literal["ids", "connection", "rest", "file"]
Origin = Literal["live", "healed", "backfill", "replay", "import"]
StreamKey = tuple[str, str, Stream]
"""Exchange id, unified symbol, stream."""
STREAM_TABLES: dict[Stream, str] = {"trades": "trades", "book": "orderbook_snapshots", "candles": "candles"}
"""Where the rows of each stream lie."""


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
        combined = _combine(stored, new)
        _replace(connection, key, stored, combined, is_counted=not _overlaps(stored, new))
    return _length(combined) > _length(stored)


def spans(connection: Connection, exchange: str, symbol: str, stream: Stream) -> list[Span]:
    """The stream's coverage, oldest first."""
    return _spans(connection, (exchange, symbol, stream), None, None)


def recount(
    connection: Connection, exchange: str, symbol: str, stream: Stream, from_us: int, to_us: int
) -> None:
    """Count the rows of the spans that touch [from_us, to_us) anew, after rows were merged into them."""
    key = (exchange, symbol, stream)
    for span in _spans(connection, key, from_us, to_us):
        count = _rows_in(connection, key, span)
        if count != span.row_count:
            connection.execute(
                """
                UPDATE stream_coverage SET row_count = %(count)s, updated_timestamp = now()
                WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND stream = %(stream)s
                    AND from_timestamp = %(from)s
                """,
                {**_parameters(key, span), "count": count},
            )


def _continue(connection: Connection, key: StreamKey, new: Span) -> bool:
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


def _count(connection: Connection, key: StreamKey, new: Span) -> None:
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


def _length(covered: list[Span]) -> int:
    return sum(span.to_timestamp - span.from_timestamp for span in covered)


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


def take_back(connection: Connection, key: StreamKey, holes: Sequence[tuple[int, int]]) -> bool:
    """Cover these times, [begin, end), no longer: holes showed themselves. Whether any of it was covered."""
    reach = _spans(connection, key, min(begin for begin, _ in holes), max(end for _, end in holes))
    parts = reach
    for begin, end in holes:
        hole = Span(begin, end, None, None, "ids", "live", 0)
        cut = [each for each in parts if _overlaps([each], hole)]
        if cut:
            parts = [each for each in parts if each not in cut]
            parts += [_part(each, each.from_timestamp, begin) for each in cut if each.from_timestamp < begin]
            parts += [_part(each, end, each.to_timestamp) for each in cut if end < each.to_timestamp]
    changed = [each for each in reach if each not in parts]
    with all_or_nothing(connection):
        _replace(connection, key, changed, [each for each in parts if each not in reach], is_counted=False)
    return bool(changed)


def _replace(
    connection: Connection, key: StreamKey, old: list[Span], new: list[Span], *, is_counted: bool
) -> None:
    """Put `new` in the place of `old`, with their rows counted anew unless that is known already."""
    for span in old:
        connection.execute(
            """
            DELETE FROM stream_coverage
            WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND stream = %(stream)s
                AND from_timestamp = %(from)s
            """,
            _parameters(key, span),
        )
    for span in new:
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


def _rows_in(connection: Connection, key: StreamKey, span: Span) -> int:
    """Those in the database, and those of days that have left it."""
    table = STREAM_TABLES[key[2]]
    query = sql.SQL("""
        SELECT (
            SELECT count(*) FROM {}
            WHERE exchange = %(exchange)s AND symbol = %(symbol)s
                AND timestamp >= %(from)s AND timestamp < %(to)s
        ) + (
            SELECT coalesce(sum((part ->> 2)::bigint), 0)
            FROM past_days, jsonb_array_elements(coverage) AS part
            WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND table_name = %(table)s
                AND dropped_timestamp IS NOT NULL
                AND (part ->> 0)::bigint >= %(from_us)s AND (part ->> 1)::bigint <= %(to_us)s)
    """).format(sql.Identifier(table))
    bounds = {"table": table, "from_us": span.from_timestamp, "to_us": span.to_timestamp}
    row = connection.execute(query, {**_parameters(key, span), **bounds}).fetchone()
    return 0 if row is None else int(row[0])


def _spans(connection: Connection, key: StreamKey, begin: int | None, end: int | None) -> list[Span]:
    """Stored spans that touch or overlap [begin, end), or all, oldest first."""
    rows = connection.execute(
        """
        SELECT from_timestamp, to_timestamp, from_id, to_id, proof, origin, row_count FROM stream_coverage
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND stream = %(stream)s
            AND (%(from)s::timestamptz IS NULL
                OR to_timestamp >= %(from)s AND from_timestamp <= %(to)s::timestamptz)
        ORDER BY from_timestamp
        """,
        {**key_parameters(key), **bound_parameters(begin, end)},
    )
    return [Span(from_datetime(row[0]), from_datetime(row[1]), *row[2:]) for row in rows]


def _parameters(key: StreamKey, span: Span) -> dict[str, object]:
    return {
        **key_parameters(key),
        **bound_parameters(span.from_timestamp, span.to_timestamp),
        "from_id": span.from_id,
        "to_id": span.to_id,
        "proof": span.proof,
        "origin": span.origin,
        "row_count": span.row_count,
    }


def key_parameters(key: StreamKey) -> dict[str, object]:
    """A stream as query parameters."""
    return {"exchange": key[0], "symbol": key[1], "stream": key[2]}


def bound_parameters(begin: int | None, end: int | None) -> dict[str, object]:
    """A time range as query parameters."""
    return {
        "from": None if begin is None else to_datetime(begin),
        "to": None if end is None else to_datetime(end),
    }
