"""Candles for backtests."""

from pathlib import Path

import polars as pl
import pytest
from tapes import random_frame

from market import Timeframe
from signals.frame import CandleFrame


@pytest.fixture
def frame() -> CandleFrame:
    """3,000 minutes of a random walk."""
    return random_frame()


@pytest.fixture
def real_frame(shared_data: Path) -> CandleFrame:
    """ETH/BTC, 5m, January 2018: real, without a hole."""
    table = pl.read_ipc(shared_data / "candles" / "ETH_BTC-5m.feather")
    table = table.with_columns(pl.col("date").dt.cast_time_unit("us").alias("timestamp"))
    return CandleFrame.from_polars(table, Timeframe.M5)


@pytest.fixture
def holey_frame(shared_data: Path) -> CandleFrame:
    """A real 1m market in which about 4% of the minutes are missing."""
    table = pl.read_ipc(shared_data / "candles" / "UNITTEST_BTC-1m.feather")
    table = table.with_columns(pl.col("date").dt.cast_time_unit("us").alias("timestamp"))
    return CandleFrame.from_polars(table, Timeframe.M1)
