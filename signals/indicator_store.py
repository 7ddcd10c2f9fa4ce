"""The table `indicators`: values of the names that the configuration lists, kept for queries."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from market.timeframe import to_datetime
from signals.indicator_values import trades_of, values
from signals.registry import find
from storage.copy import upsert_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from signals.frame import Array, CandleFrame
    from signals.indicator_values import Trades
    from signals.target import Target
    from storage.database import Connection


def write_indicators(
    connection: Connection,
    target: Target,
    frame: CandleFrame,
    start: int,
    names: Sequence[str],
    trades: Trades | None = None,
) -> int:
    """Keep the values of some indicators for the candles of `frame` from index `start` on.

    Rows of candles that are no longer on the tape go.

    Args:
        connection: its transaction is the caller's.
        target: whose candles.
        frame: the candles, with what the indicators depend on before `start`.
        start: index of the first candle wanted.
        names: indicators; a row's name has all parameters.
        trades: for those that read them; those in the database, where it is None.

    Returns:
        How many rows were written or changed.
    """
    if start >= len(frame):
        return 0
    names = [find(name).name for name in names]
    _drop_orphans(connection, target, frame, start, names)
    columns = ("timestamp", "exchange", "symbol", "interval", "name", "value", "metadata")
    trades = partial(trades_of, connection, target) if trades is None else trades
    # Before the rows are copied: then the connection could read no trades.
    computed = {name: values(frame, name, start, trades) for name in names}
    rows = (row for name in names for row in _indicator_rows(target, frame, start, name, computed[name]))
    return upsert_rows(
        connection,
        "indicators",
        columns,
        rows,
        ("exchange", "symbol", "interval", "name", "timestamp"),
        is_update=True,
    )


def _drop_orphans(
    connection: Connection, target: Target, frame: CandleFrame, start: int, names: Sequence[str]
) -> None:
    times = frame.timestamp[start:]
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
    target: Target, frame: CandleFrame, start: int, name: str, outputs: Mapping[str, Array]
) -> Iterator[tuple[Any, ...]]:
    main = next(iter(outputs.values()))
    for i, timestamp in enumerate(frame.timestamp[start:].tolist()):
        every = {} if len(outputs) == 1 else {k: _finite(v[i]) for k, v in outputs.items()}
        place = (timestamp, target.exchange, target.symbol, target.timeframe.value)
        yield (*place, name, _finite(main[i]), every)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
