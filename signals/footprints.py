"""Footprints as tables: what was bought and sold at each price inside each candle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from signals.frame import CandleFrame
from signals.indicators.footprint import imbalances, level_volumes, level_widths
from storage import read

if TYPE_CHECKING:
    from signals.target import Target

_SCHEMA: dict[str, pl.DataType] = {
    "timestamp": pl.Datetime("us", "UTC"),
    **{name: pl.Float64() for name in ("price", "width", "bought", "sold", "unknown")},
    **{name: pl.Boolean() for name in ("is_buying", "is_selling")},
}


def footprints(
    frame: CandleFrame, *, bps: float = 5.0, ratio: float = 3.0, width: float | None = None
) -> pl.DataFrame:
    """The price levels of candles that carry their trades, in the order of time and price.

    Args:
        frame: candles, see `CandleFrame.with_trades`; those whose trades are not known have no rows.
        bps: how wide a level is at most, basis points of the candle's close: a round number below it.
        ratio: from where on buying or selling outweighs the other, see `stacked_imbalance`.
        width: of every level, in quote units, instead.

    Returns:
        The candle's timestamp; the level's lower edge and its width; base units bought, sold, and of
        unknown side; whether it is a level of buying or of selling imbalance.
    """
    trades = frame.input("trades")
    widths = level_widths(frame.close, bps) if width is None else np.full(len(frame), width)
    tables = [pl.DataFrame(schema=_SCHEMA)]
    for i in np.flatnonzero(trades.is_known).tolist():
        edges = int(trades.edges[i]), int(trades.edges[i + 1])
        low, volumes = level_volumes(trades.price, trades.size, trades.side, *edges, float(widths[i]))
        buying, selling = imbalances(volumes, ratio)
        # Multiples of a decimal width, without the noise of a binary one.
        prices = [float(f"{level * widths[i]:.12g}") for level in range(low, low + len(buying))]
        columns = {"price": prices, "bought": volumes[0], "sold": volumes[1], "unknown": volumes[2]}
        levels = pl.DataFrame({**columns, "is_buying": buying, "is_selling": selling})
        same = pl.lit(int(frame.timestamp[i])).cast(_SCHEMA["timestamp"]).alias("timestamp")
        tables.append(levels.select(same, pl.lit(float(widths[i])).alias("width"), pl.all()).select(*_SCHEMA))
    return pl.concat(tables)


def stored_footprints(
    url: str,
    target: Target,
    start: int | None = None,
    end: int | None = None,
    limit: int | None = None,
    *,
    bps: float = 5.0,
    ratio: float = 3.0,
    width: float | None = None,
) -> pl.DataFrame:
    """The footprints of the stored closed candles that open in [start, end), or of the newest `limit`.

    Raises:
        Unavailable: the database does not answer, or has no tables.
    """
    timeframe = target.timeframe
    candles = read.candles(url, target.exchange, target.symbol, timeframe, start, end, limit)
    frame = CandleFrame.from_polars(candles, timeframe)
    if len(frame):
        span = int(frame.timestamp[0]), int(frame.close_time[-1])
        frame = frame.with_trades(read.trades(url, target.exchange, target.symbol, *span))
    return footprints(frame, bps=bps, ratio=ratio, width=width)
