"""An indicator over stored candles: what the command line, notebooks and the table `indicators` show."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from market.timeframe import MICROSECONDS, to_datetime
from signals.blocks import BLOCK, anchor, compute
from signals.frame import Array, CandleFrame
from signals.registry import find, locate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import polars as pl

    from signals.target import Target
    from storage.database import Connection

    Trades = Callable[[int, int], pl.DataFrame]
    """Reads an instrument's trades of [start, end), microseconds UTC, in tape order."""

_PIECE = 86_400 * MICROSECONDS
"""Trades are held in memory for the candles of a day, and what these look back on."""


def values(frame: CandleFrame, name: str, start: int, trades: Trades) -> dict[str, Array]:
    """The outputs of one indicator for the candles of `frame` from index `start` on.

    Args:
        frame: candles, beginning at or before `anchor` of the candle at `start`.
        name: indicator and parameters, such as rsi_14.
        start: index of the first candle wanted.
        trades: asked only where the indicator reads them.

    Raises:
        WrongUse: there is no such indicator.
    """
    bound = find(name)
    if not bound.reads_trades:
        return compute(frame, name, start)
    pieces = [
        compute(part, name, lead) for part, lead in _with_trades(frame, start, bound.warmup, trades)
    ] or [compute(frame, name, start)]
    return {output: np.concatenate([each[output] for each in pieces]) for output in bound.indicator.outputs}


def _with_trades(
    frame: CandleFrame, start: int, warmup: int, trades: Trades
) -> Iterator[tuple[CandleFrame, int]]:
    """The candles from `start` on in pieces, each with its trades, after `warmup` candles of lead."""
    length = frame.timeframe.microseconds
    step = max(_PIECE // length, 1)
    for first in range(start, len(frame), step):
        begin, stop = max(first - warmup, 0), min(first + step, len(frame))
        times = frame.timestamp
        read = trades(int(times[begin]), int(times[stop - 1]) + length)
        yield frame.part(begin, stop).with_trades(read), first - begin


def stored_values(
    url: str,
    target: Target,
    name: str,
    start: int | None = None,
    end: int | None = None,
    limit: int | None = None,
) -> pl.DataFrame:
    """An indicator of the stored closed candles that open in [start, end), or of the newest `limit` of them.

    Args:
        url: the database.
        target: whose candles.
        name: indicator and parameters; all outputs come, whichever stands behind a point.
        start: microseconds UTC; None: from the first one on.
        end: microseconds UTC; None: to the newest one.
        limit: how many at most.

    Returns:
        timestamp, close, and a column for each output; NaN where it is not known.

    Raises:
        WrongUse: there is no such indicator.
        Unavailable: the database does not answer, or has no tables.
    """
    import polars as pl

    from storage import read

    bound, _ = locate(name)
    warmup, timeframe = bound.warmup, target.timeframe
    since = None if start is None else anchor(timeframe, timeframe.open_of(start), warmup)
    # What the first candle wanted depends on begins at most a block and a warm-up before it.
    rows = None if limit is None else limit + BLOCK + warmup
    candles = read.candles(url, target.exchange, target.symbol, timeframe, since, end, rows)
    frame = CandleFrame.from_polars(candles, timeframe)
    first = 0 if start is None else frame.find(start)
    first = first if limit is None else max(first, len(frame) - limit)
    outputs = values(frame, bound.name, first, partial(read.trades, url, target.exchange, target.symbol))
    return pl.DataFrame([candles["timestamp"][first:], candles["close"][first:]]).with_columns(**outputs)


def trades_of(connection: Connection, target: Target, start: int, end: int) -> pl.DataFrame:
    """The trades of [start, end) that lie in the database, on a connection that is there already.

    Days that have left it are not among them: their candles count as ones whose trades are not known.

    Args:
        connection: the database, in the caller's transaction.
        target: whose trades.
        start: microseconds UTC.
        end: microseconds UTC.
    """
    import polars as pl

    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute(
            "SELECT (extract(epoch FROM timestamp) * 1000000)::bigint, price, size, side FROM trades"
            " WHERE exchange = %s AND symbol = %s AND timestamp >= %s AND timestamp < %s"
            " ORDER BY timestamp, trade_seq",
            (target.exchange, target.symbol, to_datetime(start), to_datetime(end)),
        ).fetchall()
    schema = {"timestamp": pl.Int64, "price": pl.Float64, "size": pl.Float64, "side": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")
