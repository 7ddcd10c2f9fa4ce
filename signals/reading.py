"""Closed candles from the tape into frames, on the connection that the engine already has."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, LiteralString

import numpy as np
from psycopg import sql

from market.timeframe import from_datetime, to_datetime
from signals.blocks import anchor
from signals.frame import COLUMNS, CandleFrame
from signals.higher import Higher, seen_at
from signals.target import columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from market.timeframe import Timeframe
    from signals.target import Target
    from storage.database import Connection

_NAMES = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
_CANDLES = sql.SQL(
    "SELECT (extract(epoch FROM timestamp) * 1000000)::bigint, is_whole, {} FROM candles"
    " WHERE exchange = %s AND symbol = %s AND interval = %s AND timestamp >= %s AND timestamp < %s"
    " AND is_closed ORDER BY timestamp"
).format(_NAMES)
# The least of all times is one for the whole plan: chunks before it are left out once, not for each target.
_SINCE = sql.SQL(
    "SELECT place, (extract(epoch FROM timestamp) * 1000000)::bigint, is_whole, {}"
    " FROM unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[])"
    " WITH ORDINALITY AS target (exchange, symbol, interval, since, place)"
    " JOIN candles USING (exchange, symbol, interval)"
    " WHERE timestamp >= %s AND timestamp >= since AND is_closed ORDER BY timestamp LIMIT %s"
).format(_NAMES)


def read_frame(connection: Connection, target: Target, start: int, end: int) -> CandleFrame:
    """The stored closed candles of `target` that open in [start, end).

    A connection that is there already reads the few thousand candles of a live step several times
    faster than `storage.read`, which opens one of its own.

    Args:
        connection: the database.
        target: instrument and timeframe.
        start: microseconds UTC.
        end: microseconds UTC.
    """
    place = (target.exchange, target.symbol, target.timeframe.value)
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute(_CANDLES, (*place, to_datetime(start), to_datetime(end))).fetchall()
    return _frame(target.timeframe, rows)


def read_since(
    connection: Connection, since: Mapping[Target, int], limit: int
) -> dict[Target, CandleFrame] | None:
    """The closed candles of each target that open at its time or later, in one read; None if too many.

    Args:
        connection: the database.
        since: microseconds UTC, by target.
        limit: how many are too many.
    """
    wanted = [
        (target.exchange, target.symbol, target.timeframe.value, to_datetime(start))
        for target, start in since.items()
    ]
    targets = list(since)
    rows: dict[Target, list[Sequence[Any]]] = defaultdict(list)
    parameters = (*columns(wanted, 4), to_datetime(min(since.values())), limit)
    with connection.cursor(binary=True) as cursor:
        found = cursor.execute(_SINCE, parameters).fetchall()
    for place, *row in found:
        rows[targets[place - 1]].append(row)
    if len(found) == limit:
        return None
    return {target: _frame(target.timeframe, rows[target]) for target in rows}


def _frame(timeframe: Timeframe, rows: Sequence[Sequence[Any]]) -> CandleFrame:
    values = np.array([row[2:] for row in rows], dtype=np.float64).reshape(-1, len(COLUMNS))
    return CandleFrame(
        timeframe,
        np.array([row[0] for row in rows], dtype=np.int64),
        **dict(zip(COLUMNS, values.T.copy(), strict=True)),
        is_whole=np.array([row[1] for row in rows], dtype=np.bool_),
    )


class Tape:
    """The closed candles as they are stored, read on a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def read(self, target: Target, start: int, end: int) -> CandleFrame:
        """As `read_frame`."""
        return read_frame(self._connection, target, start, end)

    def first_from(self, target: Target, start: int) -> int | None:
        """As the function `first_from`."""
        return first_from(self._connection, target, start)


def read_higher(
    tape: Tape, target: Target, timeframes: Iterable[Timeframe], warmup: int, start: int, end: int
) -> Higher:
    """The candles of higher timeframes that the candles of `target` that open in [start, end) see.

    With those before them that their values depend on, given the `warmup` of what is evaluated.
    """
    found: dict[Timeframe, CandleFrame] = {}
    for timeframe in timeframes:
        first = seen_at(target.timeframe, start, timeframe)
        # What closes by the close of the last candle is seen, and nothing later.
        stop = seen_at(target.timeframe, end - target.timeframe.microseconds, timeframe) + 1
        lead = anchor(timeframe, first, warmup)
        found[timeframe] = tape.read(replace(target, timeframe=timeframe), lead, stop)
    return found


def first_from(connection: Connection, target: Target, start: int) -> int | None:
    """Open time of the first closed candle at or after `start`, microseconds UTC; None if none."""
    return _time(
        connection,
        "SELECT timestamp FROM candles WHERE exchange = %s AND symbol = %s AND interval = %s"
        " AND timestamp >= %s AND is_closed ORDER BY timestamp LIMIT 1",
        target,
        start,
    )


def last_before(connection: Connection, target: Target, stop: int) -> int | None:
    """Open time of the last closed candle before `stop`, microseconds UTC; None if none."""
    return _time(
        connection,
        "SELECT timestamp FROM candles WHERE exchange = %s AND symbol = %s AND interval = %s"
        " AND timestamp < %s AND is_closed ORDER BY timestamp DESC LIMIT 1",
        target,
        stop,
    )


def _time(connection: Connection, query: LiteralString, target: Target, limit: int) -> int | None:
    place = (target.exchange, target.symbol, target.timeframe.value)
    row = connection.execute(query, (*place, to_datetime(limit))).fetchone()
    return from_datetime(row[0]) if row else None
