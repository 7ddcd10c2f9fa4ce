from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from market.errors import WrongUse
from market.timeframe import MICROSECONDS, Timeframe
from signals.frame import CandleFrame

MINUTE = 60 * MICROSECONDS


def table(times: list[int], **columns: list[float | None]) -> pl.DataFrame:
    prices = {name: [1.0] * len(times) for name in ("open", "high", "low", "close", "volume")}
    return pl.DataFrame({"timestamp": times, **prices, **columns})


def test_columns_that_a_source_does_not_give_are_nan_and_candles_count_as_whole() -> None:
    frame = CandleFrame.from_polars(table([0, MINUTE]), Timeframe.M1)
    assert np.isnan(frame.buy_volume).all()
    assert np.isnan(frame.imbalance_mean).all()
    assert frame.is_whole.all()


def test_null_becomes_nan() -> None:
    frame = CandleFrame.from_polars(table([0, MINUTE], buy_volume=[None, 2.0]), Timeframe.M1)
    assert np.array_equal(frame.buy_volume, [np.nan, 2.0], equal_nan=True)


def test_times_of_any_unit_become_microseconds() -> None:
    moments = [datetime(2026, 1, 1, 0, minute, tzinfo=UTC) for minute in (0, 1)]
    for unit in ("ms", "us", "ns"):
        times = pl.Series("timestamp", moments).cast(pl.Datetime(unit, "UTC"))
        frame = CandleFrame.from_polars(table([0, 1]).with_columns(times), Timeframe.M1)
        assert frame.timestamp.tolist() == [1_767_225_600_000_000, 1_767_225_660_000_000]


@pytest.mark.parametrize("times", [[MINUTE, 0], [0, 0], [0, MINUTE + 1]])
def test_disorder_is_refused(times: list[int]) -> None:
    with pytest.raises(WrongUse, match="candles must"):
        CandleFrame.from_polars(table(times), Timeframe.M1)


def test_a_part_shares_the_arrays() -> None:
    frame = CandleFrame.from_polars(table([0, MINUTE, 2 * MINUTE]), Timeframe.M1)
    part = frame.part(1, 3)
    assert part.timestamp.tolist() == [MINUTE, 2 * MINUTE]
    assert np.shares_memory(part.close, frame.close)
    assert part.close_time.tolist() == [2 * MINUTE, 3 * MINUTE]
    assert frame.find(MINUTE - 1) == 1
