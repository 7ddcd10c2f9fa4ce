"""The table `indicators`: values of the names that the configuration lists, kept for queries."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from market.timeframe import to_datetime
from signals.blocks import compute_all
from signals.indicator_values import trades_of, values
from signals.registry import find
from storage.copy import upsert_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from signals.frame import Array, CandleFrame
    from signals.indicator_values import Trades
    from signals.target import Target
    from storage.database import Connection


@dataclass(frozen=True, slots=True)
class Values:
    """Values of indicators to be kept.

    Attributes:
        target: whose candles.
        frame: the candles, with what the indicators depend on before `start`.
        start: index of the first candle wanted.
        names: indicators; a row's name has all parameters.
        trades: for those that read them; those in the database, where it is None.
    """

    target: Target
    frame: CandleFrame
    start: int
    names: tuple[str, ...]
    trades: Trades | None = None


def write_indicators(connection: Connection, wanted: Iterable[Values]) -> int:
    """Keep the values of some indicators.

    Rows of candles that are no longer on the tape go.

    Args:
        connection: its transaction is the caller's.
        wanted: which, on which candles; no two hold the same of one target.

    Returns:
        How many rows were written or changed.
    """
    # Before they are copied: then the connection could read no trades.
    rows = [row for each in wanted for row in _rows(connection, each)]
    if not rows:
        return 0
    columns = (
        "timestamp",
        "exchange",
        "symbol",
        "interval",
        "name",
        "value",
        "metadata",
    )
    key = ("exchange", "symbol", "interval", "name", "timestamp")
    return upsert_rows(connection, "indicators", columns, rows, key, is_update=True)


def _rows(connection: Connection, wanted: Values) -> Iterator[tuple[Any, ...]]:
    target, frame, start = wanted.target, wanted.frame, wanted.start
    names = [find(name).name for name in wanted.names]
    if not names or start >= len(frame):
        return
    _drop_orphans(connection, target, frame, start, names)
    trades = wanted.trades or partial(trades_of, connection, target)
    of_trades = [name for name in names if find(name).reads_trades]
    found = compute_all(frame, [name for name in names if name not in of_trades], start)
    found |= {name: values(frame, name, start, trades) for name in of_trades}
    for name in names:
        yield from _indicator_rows(target, frame, start, name, found[name])


def _drop_orphans(
    connection: Connection,
    target: Target,
    frame: CandleFrame,
    start: int,
    names: Sequence[str],
) -> None:
    times = frame.timestamp[start:]
    if times[-1] - times[0] == (len(times) - 1) * frame.timeframe.microseconds:
        # Where no candle is missing there are none.
        return
    connection.execute(
        "DELETE FROM indicators i WHERE exchange = %s AND symbol = %s AND interval = %s"
        " AND name = ANY(%s) AND timestamp >= %s AND timestamp <= %s AND NOT EXISTS (SELECT FROM"
        " candles c WHERE (c.exchange, c.symbol, c.interval, c.timestamp)"
        " = (i.exchange, i.symbol, i.interval, i.timestamp))",
        (
            target.exchange,
            target.symbol,
            target.timeframe,
            list(names),
            to_datetime(int(times[0])),
            to_datetime(int(times[-1])),
        ),
    )


def _indicator_rows(
    target: Target,
    frame: CandleFrame,
    start: int,
    name: str,
    outputs: Mapping[str, Array],
) -> Iterator[tuple[Any, ...]]:
    main = next(iter(outputs.values()))
    for i, timestamp in enumerate(frame.timestamp[start:].tolist()):
        every = {} if len(outputs) == 1 else {k: _finite(v[i]) for k, v in outputs.items()}
        place = (timestamp, target.exchange, target.symbol, target.timeframe.value)
        yield (*place, name, _finite(main[i]), every)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
