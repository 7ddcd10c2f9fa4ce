from collections.abc import Callable

import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from market.timeframe import Timeframe
from signals.blocks import BLOCK, compute
from signals.frame import Array, CandleFrame
from signals.indicators.average_price import running_average, window_average

MakeFrame = Callable[..., CandleFrame]
DAY = 86_400_000_000


def obvious(values: Array, weights: Array) -> tuple[float, float]:
    """Weighted mean and standard deviation."""
    mean = np.average(values, weights=weights)
    return float(mean), float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))


points = st.lists(
    st.tuples(st.floats(1, 1e5), st.floats(0, 1e4).map(lambda x: 0.0 if x < 1 else x), st.booleans()),
    min_size=1,
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(points, st.integers(2, 8), st.booleans())
def test_averages_equal_the_obvious(
    rows: list[tuple[float, float, bool]], period: int, is_whole: bool
) -> None:
    values, weights, edges = (np.array(column) for column in zip(*rows, strict=True))
    groups = np.cumsum(edges).astype(np.int64)
    window, running = (
        window_average(values, weights, period),
        running_average(values, weights, groups, is_whole),
    )
    for i in range(len(values)):
        first = int(np.flatnonzero(groups == groups[i])[0])
        for found, start, is_known in (
            (window, i - period + 1, i >= period - 1),
            (running, first, is_whole or groups[i] != groups[0]),
        ):
            if not is_known or not weights[start : i + 1].sum():
                assert np.isnan(found[0][i])
                assert np.isnan(found[1][i])
                continue
            expected = obvious(values[start : i + 1], weights[start : i + 1])
            assert (found[0][i], found[1][i]) == pytest.approx(expected, rel=1e-9, abs=1e-6 * expected[0])


def test_a_rolling_vwap_is_talibs_vwma_of_the_typical_price(make_frame: MakeFrame) -> None:
    frame = make_frame(500)
    typical = (frame.high + frame.low + frame.close) / 3
    found = compute(frame, "rolling_vwap_20_2")
    assert np.allclose(found["vwap"], talib.VWMA(typical, frame.volume, 20), equal_nan=True)
    mean, spread = obvious(typical[81:101], frame.volume[81:101])
    assert found["upper"][100] == pytest.approx(mean + 2 * spread)
    assert found["lower"][100] == pytest.approx(mean - 2 * spread)


def test_an_anchored_vwap_is_talibs_vwap_from_midnight_on(make_frame: MakeFrame) -> None:
    frame = make_frame(3 * BLOCK)
    found = compute(frame, "anchored_vwap_24_1")["vwap"]
    midnights = np.flatnonzero(frame.timestamp % DAY == 0).tolist()
    assert np.isnan(found[: midnights[0]]).all()
    for start, stop in zip(midnights, [*midnights[1:], len(frame)], strict=True):
        day = frame.part(start, stop)
        assert np.allclose(found[start:stop], talib.VWAP(day.high, day.low, day.close, day.volume))


def test_an_anchored_vwap_is_unknown_from_a_hole_to_the_next_anchor(make_frame: MakeFrame) -> None:
    whole = make_frame(5000)
    first, second = np.flatnonzero(whole.timestamp % DAY == 0)[:2].tolist()
    frame = make_frame(5000, holes=(first + 100,))
    found = compute(frame, "anchored_vwap")["vwap"]
    assert not np.isnan(found[first : first + 100]).any()
    assert np.isnan(found[first + 100 : second - 1]).all()
    assert np.array_equal(found[second - 1 :], compute(whole, "anchored_vwap")["vwap"][second:])


def test_weeks_begin_on_mondays(make_frame: MakeFrame) -> None:
    frame = make_frame(600, timeframe=Timeframe.H1)
    found = compute(frame, "anchored_vwap_168_2")["vwap"]
    begun = int(np.flatnonzero(~np.isnan(found))[0])
    monday = np.datetime64(int(frame.timestamp[begun]), "us").astype("datetime64[D]")
    assert np.is_busday(monday, weekmask="Mon")
    assert frame.timestamp[begun] % DAY == 0
