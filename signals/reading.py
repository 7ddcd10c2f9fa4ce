"""Closed candles from the tape into frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from market.timeframe import from_datetime, to_datetime
from signals.frame import CandleFrame
from storage import read

if TYPE_CHECKING:
    from signals.target import Target
    from storage.database import Connection


def read_frame(url: str, target: Target, start: int | None, end: int | None) -> CandleFrame:
    """The stored closed candles of `target` that open in [start, end).

    Args:
        url: the database.
        target: instrument and timeframe.
        start: microseconds UTC; None is the beginning of the tape.
        end: microseconds UTC; None is its end.
    """
    candles = read.candles(url, target.exchange, target.symbol, target.timeframe, start=start, end=end)
    return CandleFrame.from_polars(candles, target.timeframe)


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
