"""The table `indicators`: values of the names that the configuration lists, kept for queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from market.timeframe import to_datetime
from signals.blocks import compute
from storage.copy import upsert_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from signals.frame import CandleFrame
    from signals.target import Target
    from storage.database import Connection


def write_indicators(
    connection: Connection, target: Target, frame: CandleFrame, start: int, names: Sequence[str]
) -> int:
    """Keep the values of some indicators for the candles of `frame` from index `start` on.

    Rows of candles that are no longer on the tape go.

    Args:
        connection: its transaction is the caller's.
        target: whose candles.
        frame: the candles, with what the indicators depend on before `start`.
        start: index of the first candle wanted.
        names: indicators with their parameters.

    Returns:
        How many rows were written or changed.
    """
    if start >= len(frame):
        return 0
    _drop_orphans(connection, target, frame, start, names)
    columns = ("timestamp", "exchange", "symbol", "interval", "name", "value", "metadata")
    rows = (row for name in names for row in _indicator_rows(target, frame, start, name))
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


def _indicator_rows(target: Target, frame: CandleFrame, start: int, name: str) -> Iterator[tuple[Any, ...]]:
    outputs = compute(frame, name, start)
    main = next(iter(outputs.values()))
    for i, timestamp in enumerate(frame.timestamp[start:].tolist()):
        every = {} if len(outputs) == 1 else {k: _finite(v[i]) for k, v in outputs.items()}
        place = (timestamp, target.exchange, target.symbol, target.timeframe.value)
        yield (*place, name, _finite(main[i]), every)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
