import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapes import random_frame

from backtest.reversals import band_reversals, flow_divergences
from backtest.run import run
from backtest.strategies import find
from market import WrongUse

MINUTE = 60_000_000
closes = st.lists(st.integers(90, 110).map(float), min_size=1, max_size=60)
deltas = st.lists(st.one_of(st.just(float("nan")), st.integers(-3, 3).map(float)), min_size=60, max_size=60)


def times_of(count, hole):
    times = np.arange(count, dtype=np.int64) * MINUTE
    times[hole:] += MINUTE
    return times


@settings(deadline=None)  # the first call compiles
@given(closes, st.integers(0, 60), st.integers(2, 6))
def test_bands_are_those_of_the_last_closes(close, hole, period):
    times = times_of(len(close), hole)
    expected, outside = [], 0
    for i in range(len(close)):
        if i in (0, hole):
            begin, outside = i, 0
        window = close[max(i - period + 1, 0) : i + 1]
        if i - begin + 1 < period:
            continue
        mean, width = statistics.fmean(window), 1.2 * statistics.pstdev(window)
        # What lies on the band itself is a matter of rounding.
        if abs(abs(close[i] - mean) - width) < 1e-9:
            return
        now = -1 if close[i] < mean - width else int(close[i] > mean + width)
        if outside and not now:
            expected.append((i, -outside))
        outside = now
    index, kind = band_reversals(times, np.array(close), MINUTE, period, 1.2)
    assert list(zip(index.tolist(), kind.tolist(), strict=True)) == expected


@settings(deadline=None)  # the first call compiles
@given(closes, deltas, st.integers(0, 60), st.integers(1, 5))
def test_divergences_are_those_of_the_last_candles(close, delta, hole, period):
    count = len(close)
    times, delta = times_of(count, hole), delta[:count]
    expected, before, begin = [], 0, 0
    for i in range(count):
        if i in (0, hole):
            begin, before = i, 0
        if np.isnan(delta[i]):
            begin, before = i + 1, 0
            continue
        if i - begin < period:
            continue
        flow, change = sum(delta[i - period + 1 : i + 1]), close[i] - close[i - period]
        now = (1 if flow > 0 else -1) if abs(flow) >= 0.3 * 4 * period and flow * change < 0 else 0
        if now and now != before:
            expected.append((i, now))
        before = now
    volume = np.full(count, 4.0)
    index, kind = flow_divergences(times, np.array(close), volume, np.array(delta), MINUTE, period, 0.3)
    assert list(zip(index.tolist(), kind.tolist(), strict=True)) == expected


def test_flow_that_is_not_known_is_refused():
    with pytest.raises(WrongUse, match="buy_volume and sell_volume"):
        run(random_frame(100), "cvd_divergence")


def test_flow_that_is_known_trades():
    frame = random_frame(3_000)
    frame.buy_volume[:] = frame.volume * np.random.default_rng(2).uniform(0, 1, 3_000)
    frame.sell_volume[:] = frame.volume - frame.buy_volume
    assert run(frame, "cvd_divergence", {"share": 0.05}).metrics.total_trades > 10


@pytest.mark.parametrize(
    ("strategy", "values"),
    [("bollinger", {"period": 1}), ("bollinger", {"deviations": 0.0}), ("cvd_divergence", {"share": 1.5})],
)
def test_parameters_that_make_no_sense(strategy, values):
    with pytest.raises(WrongUse, match=next(iter(values))):
        find(strategy).parameters(values)
