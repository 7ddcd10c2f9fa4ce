from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signals.blocks import compute
from signals.frame import CandleFrame
from signals.indicators.liquidity import window_illiquidity

MakeFrame = Callable[..., CandleFrame]


def test_book_columns_and_their_means(make_frame: MakeFrame) -> None:
    frame = make_frame(60)
    assert np.array_equal(
        compute(frame, "book_imbalance")["book_imbalance"], frame.imbalance_mean, equal_nan=True
    )
    assert compute(frame, "spread_10")["spread"][30] == pytest.approx(frame.spread_bps_mean[21:31].mean())
    frame.imbalance_mean[:] = 10.0
    frame.imbalance_mean[40] = np.nan
    found = compute(frame, "book_imbalance_5")["book_imbalance"]
    assert np.flatnonzero(np.isnan(found)).tolist() == [0, 1, 2, 3, 40, 41, 42, 43, 44]
    assert found[39] == 10.0


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.floats(1, 1e5), st.sampled_from([0.0, 0.5, 3.0, 1e4])), min_size=1, max_size=30),
    st.integers(2, 8),
)
def test_illiquidity_equals_the_obvious(rows: list[tuple[float, float]], period: int) -> None:
    close, volume = (np.array(column) for column in zip(*rows, strict=True))
    found = window_illiquidity(close, volume, period)
    for i in range(len(close)):
        window = [j for j in range(max(i - period + 1, 0), i + 1) if volume[j] > 0]
        if i < period or not window:
            assert np.isnan(found[i])
            continue
        each = [100 * abs(close[j] / close[j - 1] - 1) / (close[j] * volume[j] / 1e6) for j in window]
        assert found[i] == pytest.approx(np.mean(each))


def test_a_million_that_moves_the_price_by_a_percent_is_1(make_frame: MakeFrame) -> None:
    frame = make_frame(40)
    frame.close[:] = 100.0 * 1.01 ** np.arange(40)
    frame.volume[:] = 1e6 / frame.close
    assert compute(frame, "amihud_20")["amihud"][-1] == pytest.approx(1.0)
