"""Filling a hole on record: trades, coverage, everything derived, and what became of the hole, in one go.

Everything runs inside the caller's transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import structs
from psycopg import Rollback

from market import FAR_AHEAD, Trade
from market.timeframe import to_datetime
from storage.amend import amend, lock_tapes
from storage.coverage import Span
from storage.database import Connection
from storage.holes import OPEN, Hole, list_holes
from storage.ledger import add_gap, heal_gap
from storage.orphans import adopt
from storage.stored import StoredTape

OVERLAP = 5_000_000
"""Microseconds before a break of a connection in which a trade may have been lost as well."""


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a hole that REST answers for: its times, and its ids where the hole has ids (inclusive)."""

    from_timestamp: int
    to_timestamp: int
    first_id: int | None = None
    last_id: int | None = None


def fill(
    connection: Connection, gap: Hole, part: Part, trades: Sequence[Trade], *, note: str | None = None
) -> int | None:
    """Fill a part of a hole, or all of it, with all the trades that there were in it.

    What is left of the hole stays open. A suspicion that proves empty is deleted.

    Args:
        connection: its transaction is the caller's.
        gap: the hole, of a stream of trades.
        part: what `trades` is whole for; it begins or ends where the hole does.
        trades: all trades of the part; others are harmless.
        note: what is worth knowing about it.

    Returns:
        How many trades were new; None where somebody else has closed the hole meanwhile.
    """
    lock_tapes(connection, gap.exchange, [gap.symbol])
    if not _is_open(connection, gap):
        return None
    proof = "rest" if part.first_id is None else "ids"
    span = Span(
        part.from_timestamp,
        part.to_timestamp,
        None if part.first_id is None else str(part.first_id),
        None if part.last_id is None else str(part.last_id),
        "ids" if proof == "ids" else "rest",
        "healed",
        0,
    )
    kept = trades if proof == "ids" else _covered(connection, gap, part, trades)
    count = amend(connection, gap.exchange, gap.symbol, kept, None, [span], "healed")
    if proof == "ids" and (beyond := [t.timestamp for t in kept if not _is_in(t, part)]):
        # The hole's ids reach further than its times, where the one after it is false.
        adopt(connection, gap.exchange, gap.symbol, min(beyond), max(beyond) + 1, "healed", "healed")
    rest = _rest(gap, part)
    if gap.cause == "id_reset":
        _settle_reset(connection, gap, part, trades, count)
    elif rest is not None:
        _split(connection, gap, part, rest, trades, count, note)
    elif not count and (gap.status == "suspected" or _given(part, trades, count) == gap.missing_count):
        # Nothing was missing, or all of it came late meanwhile.
        connection.execute("DELETE FROM stream_gaps WHERE id = %s", [gap.id])
    else:
        heal_gap(connection, gap.id, _given(part, trades, count), note)
    return count


def _is_in(trade: Trade, part: Part) -> bool:
    return part.from_timestamp <= trade.timestamp < part.to_timestamp


def _covered(connection: Connection, gap: Hole, part: Part, trades: Sequence[Trade]) -> list[Trade]:
    """Those of the part, and of the coverage beside it: what lies beyond belongs to nothing."""
    first, last = part.from_timestamp - OVERLAP, part.to_timestamp + OVERLAP
    known = StoredTape(connection, gap.exchange, gap.symbol).islands()
    islands = [island for island in known if island[1] > first and island[0] < last]
    islands.append((part.from_timestamp, part.to_timestamp))
    return [t for t in trades if any(begin <= t.timestamp < end for begin, end in islands)]


def record_missed(
    connection: Connection, exchange: str, symbol: str, since: int, trades: Sequence[Trade]
) -> bool:
    """Put trades onto the tape that follow its last one by their ids, and the hole that they were.

    Args:
        connection: its transaction is the caller's.
        exchange: exchange id.
        symbol: unified symbol.
        since: the time of the last trade on the tape, in microseconds UTC.
        trades: in the order of their ids, none of them left out.

    Returns:
        False where some of them are stored already, or known to be missing: nothing was written.
    """
    lock_tapes(connection, exchange, [symbol])
    times = [trade.timestamp for trade in trades]
    first, last = trades[0].trade_seq, trades[-1].trade_seq
    begin, end = min(since + 1, *times), max(times) + 1
    if _is_known(connection, exchange, symbol, begin, first, last):
        return False
    part = Part(begin, end, first, last)
    gap = _open(connection, exchange, symbol, part, "ids_missing", "the stream was silent")
    fill(connection, gap, part, trades)
    return True


def _open(connection: Connection, exchange: str, symbol: str, part: Part, cause: str, note: str) -> Hole:
    """Put a hole on record that is about to be filled: it is shown by its ids, or suspected without."""
    bounds = _bounds(part)
    has_ids = part.first_id is not None
    add_gap(
        connection,
        exchange,
        symbol,
        "trades",
        part.from_timestamp,
        part.to_timestamp,
        cause=cause,
        status="confirmed" if has_ids else "suspected",
        proof="ids" if has_ids else "connection",
        from_id=bounds["from_id"],
        to_id=bounds["to_id"],
        missing_count=bounds["missing"],
        note=note,
    )
    found = list_holes(
        connection,
        exchange=exchange,
        symbol=symbol,
        stream="trades",
        begin=part.from_timestamp,
        end=part.to_timestamp + 1,
        statuses=OPEN,
    )
    key = (cause, part.from_timestamp, part.to_timestamp, bounds["from_id"])
    return next(gap for gap in found if (gap.cause, gap.from_timestamp, gap.to_timestamp, gap.from_id) == key)


def _is_known(connection: Connection, exchange: str, symbol: str, begin: int, first: int, last: int) -> bool:
    row = connection.execute(
        """
        SELECT EXISTS (
            SELECT FROM trades
            WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND timestamp >= %(begin)s
                AND trade_seq BETWEEN %(first)s AND %(last)s
        ) OR EXISTS (
            SELECT FROM stream_gaps
            WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND stream = 'trades'
                AND to_timestamp >= %(begin)s AND from_id IS NOT NULL
                AND from_id::bigint <= %(last)s AND to_id::bigint >= %(first)s)
        """,
        {"exchange": exchange, "symbol": symbol, "begin": to_datetime(begin), "first": first, "last": last},
    ).fetchone()
    return row is not None and bool(row[0])


def add_lost(
    connection: Connection, exchange: str, symbol: str, begin: int, end: int, trades: Sequence[Trade]
) -> int:
    """Put trades of a covered time onto the tape that its connection left out, and the hole that they were.

    Where the exchange does not give all over REST that the tape has, the two do not speak of the same, and
    nothing is added.

    Args:
        connection: its transaction is the caller's.
        exchange: exchange id; its ids prove nothing.
        symbol: unified symbol.
        begin: microseconds UTC.
        end: microseconds UTC, exclusive.
        trades: all that REST gives of [begin, end).

    Returns:
        How many trades were new.
    """
    lock_tapes(connection, exchange, [symbol])
    added = 0
    for first, last in StoredTape(connection, exchange, symbol).islands():
        first, last = max(first, begin), min(last, end)
        given = {trade.trade_id: trade for trade in trades if first <= trade.timestamp < last}
        known = _stored_ids(connection, exchange, symbol, first, last) if given else set()
        lost = [trade for name, trade in given.items() if name not in known]
        if lost and known <= given.keys():
            added += _add_lost(connection, exchange, symbol, lost)
    return added


def _add_lost(connection: Connection, exchange: str, symbol: str, lost: Sequence[Trade]) -> int:
    times = [trade.timestamp for trade in lost]
    part = Part(min(times), max(times) + 1)
    gap = _open(connection, exchange, symbol, part, "not_sent", "the connection left out what REST gives")
    return fill(connection, gap, part, lost) or 0


def _stored_ids(connection: Connection, exchange: str, symbol: str, begin: int, end: int) -> set[str]:
    rows = connection.execute(
        "SELECT trade_id FROM trades"
        " WHERE exchange = %s AND symbol = %s AND timestamp >= %s AND timestamp < %s",
        (exchange, symbol, to_datetime(begin), to_datetime(end)),
    )
    return {trade_id for (trade_id,) in rows}


def fill_closed(connection: Connection, gap: Hole, part: Part, trades: Sequence[Trade]) -> int:
    """Add trades that turned up after all to a hole that was closed without them.

    Args:
        connection: its transaction is the caller's.
        gap: the hole as it is on record, with ids, healed or unhealable.
        part: what `trades` is whole for; it begins or ends where the hole does.
        trades: those of the part that the exchange gives now.

    Returns:
        How many trades were new.
    """
    note = gap.note if _given(part, trades, 0) < (_bounds(part)["missing"] or 0) else None
    with connection.transaction() as again:
        lock_tapes(connection, gap.exchange, [gap.symbol])
        connection.execute(
            "UPDATE stream_gaps SET status = 'confirmed', note = NULL WHERE id = %s AND status = %s",
            [gap.id, gap.status],
        )
        count = fill(connection, structs.replace(gap, status="confirmed"), part, trades, note=note)
        if not count:
            raise Rollback(again)
        give_up(connection, gap, gap.note or "")
    return count or 0


def _given(part: Part, trades: Sequence[Trade], count: int) -> int:
    """How many of the part's ids a trade has, whoever wrote it; `count` where there are no ids."""
    if part.first_id is None or part.last_id is None:
        return count
    return len({t.trade_seq for t in trades if part.first_id <= t.trade_seq <= part.last_id})


def give_up(connection: Connection, gap: Hole, note: str, *, is_halt: bool = False) -> None:
    """Nobody can fill this hole any more; `note` says why. `is_halt`: nothing may have been traded in it."""
    connection.execute(
        "UPDATE stream_gaps SET status = %s, note = %s"
        " WHERE id = %s AND status IN ('suspected', 'confirmed')",
        ("halt" if is_halt else "unhealable", note, gap.id),
    )


def _settle_reset(connection: Connection, gap: Hole, part: Part, trades: Sequence[Trade], count: int) -> None:
    """Ids began anew in this hole: it ends at that moment, and what was missing after gets its own row."""
    new = _new_ids(trades, gap.to_timestamp)
    moment = max(new[0].timestamp, gap.from_timestamp) if new else gap.to_timestamp
    note = "the exchange began its ids anew"
    if part.from_timestamp > gap.from_timestamp:
        since, missing = gap.from_timestamp, None
        give_up(connection, gap, f"{note}; what came before is not to be had", is_halt=True)
    else:
        missing = max(count - len(new), 0)
        # Where nothing was missing the row only says from when on ids count anew.
        since = gap.from_timestamp if missing else moment
        heal_gap(connection, gap.id, missing, note)
    connection.execute(
        "UPDATE stream_gaps SET from_timestamp = %s, to_timestamp = %s, missing_count = %s WHERE id = %s",
        (to_datetime(since), to_datetime(moment), missing, gap.id),
    )
    if new:
        after = Part(moment, gap.to_timestamp, new[0].trade_seq, new[-1].trade_seq)
        _record_healed(connection, gap, after, "ids_missing", len(new), None)


def _new_ids(trades: Sequence[Trade], end: int) -> list[Trade]:
    """Those before `end` whose ids are of the new count, in order; the trade at `end` shows which are."""
    missed = sorted((trade for trade in trades if trade.timestamp <= end), key=lambda trade: trade.order)
    if not missed or missed[-1].timestamp < end:
        return []
    first = 0
    for at in range(1, len(missed)):
        if not 0 <= missed[at].trade_seq - missed[at - 1].trade_seq <= FAR_AHEAD:
            first = at
    return [trade for trade in missed[first:] if trade.timestamp < end]


def _is_open(connection: Connection, gap: Hole) -> bool:
    row = connection.execute(
        "SELECT status IN ('suspected', 'confirmed') FROM stream_gaps WHERE id = %s FOR UPDATE", [gap.id]
    ).fetchone()
    return row is not None and bool(row[0])


def _rest(gap: Hole, part: Part) -> Part | None:
    """What of the hole lies outside of the part."""
    if gap.from_id is None or gap.to_id is None or part.first_id is None or part.last_id is None:
        if part.from_timestamp <= gap.from_timestamp:
            left = Part(part.to_timestamp, gap.to_timestamp)
        else:
            left = Part(gap.from_timestamp, part.from_timestamp)
        return left if left.from_timestamp < left.to_timestamp else None
    first, last = int(gap.from_id), int(gap.to_id)
    if part.first_id <= first:
        left = Part(part.to_timestamp, gap.to_timestamp, part.last_id + 1, last)
    else:
        left = Part(gap.from_timestamp, part.from_timestamp, first, part.first_id - 1)
    return left if part.first_id > first or part.last_id < last else None


def _split(
    connection: Connection,
    gap: Hole,
    part: Part,
    rest: Part,
    trades: Sequence[Trade],
    count: int,
    note: str | None,
) -> None:
    """The hole shrinks to what is left of it; the healed part gets a row of its own.

    It needs none where all its trades were only late: those of its ids that no trade has must be on record.
    """
    connection.execute(
        """
        UPDATE stream_gaps SET from_timestamp = %(from)s, to_timestamp = %(to)s, from_id = %(from_id)s,
            to_id = %(to_id)s, missing_count = %(missing)s
        WHERE id = %(id)s
        """,
        {"id": gap.id, **_bounds(rest)},
    )
    given = _given(part, trades, count)
    if count or given < (_bounds(part)["missing"] or 0):
        _record_healed(connection, gap, part, gap.cause, given, note)


def _record_healed(
    connection: Connection, gap: Hole, part: Part, cause: str, count: int, note: str | None
) -> None:
    connection.execute(
        """
        INSERT INTO stream_gaps (exchange, symbol, stream, from_timestamp, to_timestamp, from_id, to_id,
            missing_count, cause, status, proof, note, healed_timestamp, healed_count)
        VALUES (%(exchange)s, %(symbol)s, 'trades', %(from)s, %(to)s, %(from_id)s, %(to_id)s, %(missing)s,
            %(cause)s, 'healed', %(proof)s, %(note)s, now(), %(count)s)
        """,
        {
            "exchange": gap.exchange,
            "symbol": gap.symbol,
            **_bounds(part),
            "cause": cause,
            "proof": gap.proof,
            "note": note,
            "count": count,
        },
    )


def _bounds(part: Part) -> dict[str, Any]:
    ids = part.first_id is not None and part.last_id is not None
    return {
        "from": to_datetime(part.from_timestamp),
        "to": to_datetime(part.to_timestamp),
        "from_id": str(part.first_id) if ids else None,
        "to_id": str(part.last_id) if ids else None,
        "missing": (part.last_id or 0) - (part.first_id or 0) + 1 if ids else None,
    }
