"""Candles for tests: made up, and onto the tape."""

import numpy as np
import polars as pl

from market import Candle, Timeframe
from signals.frame import CandleFrame
from storage.database import Connection
from storage.tape import write_candles


def random_frame(count: int = 3_000, seed: int = 1, timeframe: Timeframe = Timeframe.M1) -> CandleFrame:
    random = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(random.normal(0, 0.002, count)))
    open_ = np.concatenate([[100.0], close[:-1]])
    top, bottom = np.maximum(open_, close), np.minimum(open_, close)
    table = pl.DataFrame(
        {
            "timestamp": 1_767_225_600_000_000 + np.arange(count) * timeframe.microseconds,
            "open": open_,
            "high": top * (1 + np.abs(random.normal(0, 0.0005, count))),
            "low": bottom * (1 - np.abs(random.normal(0, 0.0005, count))),
            "close": close,
            "volume": random.uniform(1, 10, count),
        }
    )
    return CandleFrame.from_polars(table, timeframe)


def store_frame(connection: Connection, frame: CandleFrame, exchange: str, symbol: str) -> None:
    columns = zip(
        *(frame.column(name).tolist() for name in ("open", "high", "low", "close", "volume")), strict=True
    )
    write_candles(
        connection,
        exchange,
        [
            Candle(
                symbol=symbol,
                timeframe=frame.timeframe,
                timestamp=int(time),
                open=open_,
                high=high,
                low=low,
                close=close,
                volume=volume,
                is_closed=True,
                is_whole=True,
                source="import",
            )
            for time, (open_, high, low, close, volume) in zip(frame.timestamp, columns, strict=True)
        ],
    )
    connection.commit()
