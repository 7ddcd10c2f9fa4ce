from collections.abc import Callable

import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from signals.blocks import compute
from signals.frame import Array, CandleFrame
from signals.indicators.flow import window_divergence, window_slope, window_sum, window_walk_slope
from signals.indicators.momentum import relative_strength
from signals.indicators.trend import exponential_average, moving_average
from signals.indicators.volatility import average_range

MakeFrame = Callable[..., CandleFrame]
RealFrame = Callable[[str], CandleFrame]
PERIODS = (2, 3, 5, 14, 50, 200)


def assert_equals_talib(frame: CandleFrame, period: int) -> None:
    """Bit for bit; except that the RSI of what did not move at all is NaN, where TA-Lib says 0."""
    high, low, close = frame.high, frame.low, frame.close
    ranges = average_range(high, low, close, np.zeros(3), period)
    assert np.array_equal(ranges, talib.ATR(high, low, close, period), equal_nan=True)
    assert np.array_equal(moving_average(close, period), talib.SMA(close, period), equal_nan=True)
    assert np.array_equal(
        exponential_average(close, np.zeros(2), period), talib.EMA(close, period), equal_nan=True
    )
    strength, expected = relative_strength(close, np.zeros(4), period), talib.RSI(close, period)
    moved = ~((expected == 0.0) & np.isnan(strength))
    assert np.array_equal(strength[moved], expected[moved], equal_nan=True)
    assert moved.sum() > 0.9 * len(close)


@pytest.mark.parametrize("period", PERIODS)
def test_our_kernels_equal_talib(period: int, make_frame: MakeFrame) -> None:
    assert_equals_talib(make_frame(3000), period)


@pytest.mark.parametrize("name", ["ETH_BTC-5m", "UNITTEST_BTC-1m", "XRP_USDT_USDT-5m-futures"])
def test_our_kernels_equal_talib_on_real_candles(name: str, real_frame: RealFrame) -> None:
    for period in PERIODS:
        assert_equals_talib(real_frame(name), period)


def test_rsi_of_a_market_that_does_not_move_is_unknown() -> None:
    assert np.isnan(relative_strength(np.full(50, 7.0), np.zeros(4), 14)).all()


def test_published_rsi() -> None:
    """The worked example of StockCharts' ChartSchool, Relative Strength Index."""
    close = np.array(
        [
            44.3389, 44.0902, 44.1497, 43.6124, 44.3278, 44.8264, 45.0955, 45.4245, 45.8433, 46.0826,
            45.8931, 46.0328, 45.6140, 46.2820, 46.2820, 46.0028, 46.0328, 46.4116, 46.2222, 45.6439,
        ]
    )  # fmt: skip
    values = relative_strength(close, np.zeros(4), 14)[14:]
    assert np.round(values, 2).tolist() == [70.53, 66.32, 66.55, 69.41, 66.36, 57.97]


def test_too_few_candles_give_nothing(make_frame: MakeFrame) -> None:
    frame = make_frame(3)
    for name in ("ema_20", "rsi_14", "sma_20", "atr_14", "macd", "bbands", "cvd_20", "relative_volume"):
        assert all(np.isnan(values).all() for values in compute(frame, name).values())


finite = st.floats(-1e6, 1e6)
small = st.integers(-50, 50).map(float)


@settings(max_examples=50, deadline=None)
@given(arrays(np.float64, st.integers(0, 40), elements=finite), st.integers(2, 12))
def test_windows_equal_the_obvious(values: Array, period: int) -> None:
    steps = np.arange(period)
    for i in range(len(values)):
        window = values[i - period + 1 : i + 1]
        if i < period - 1:
            results = (f(values, period)[i] for f in (window_sum, window_slope, window_walk_slope))
            assert all(np.isnan(result) for result in results)
            continue
        expected = (window.sum(), np.polyfit(steps, window, 1)[0], np.polyfit(steps, window.cumsum(), 1)[0])
        found = [f(values, period)[i] for f in (window_sum, window_slope, window_walk_slope)]
        assert np.allclose(found, expected, rtol=1e-7, atol=1e-5)


def test_order_flow_by_hand(make_frame: MakeFrame) -> None:
    frame = make_frame(60)
    delta = frame.buy_volume - frame.sell_volume
    assert np.array_equal(compute(frame, "delta")["delta"], delta)
    assert compute(frame, "cvd_5")["cvd"][30] == pytest.approx(delta[26:31].sum())
    slope = np.polyfit(range(5), delta[26:31], 1)[0]
    assert compute(frame, "delta_slope_5")["delta_slope"][30] == pytest.approx(slope)
    walk = np.polyfit(range(5), delta[26:31].cumsum(), 1)[0]
    assert compute(frame, "cvd_slope_5")["cvd_slope"][30] == pytest.approx(walk)
    share = walk / frame.volume[26:31].mean()
    assert compute(frame, "cvd_trend_5")["cvd_trend"][30] == pytest.approx(share)
    relative = frame.volume[30] / frame.volume[25:30].mean()
    assert compute(frame, "relative_volume_5")["relative_volume"][30] == pytest.approx(relative)


def test_cvd_does_not_restart_at_midnight(make_frame: MakeFrame) -> None:
    frame = make_frame(2000)
    midnight = int(np.flatnonzero(frame.timestamp % 86_400_000_000 == 0)[0])
    delta = frame.buy_volume - frame.sell_volume
    expected = delta[midnight - 9 : midnight + 11].sum()
    assert compute(frame, "cvd_20")["cvd"][midnight + 10] == pytest.approx(expected)


def test_a_candle_without_sides_spoils_only_its_windows(make_frame: MakeFrame) -> None:
    frame = make_frame(60)
    frame.buy_volume[30] = np.nan
    assert np.flatnonzero(np.isnan(compute(frame, "cvd_5")["cvd"])).tolist() == [*range(4), *range(30, 35)]


def test_silence_has_no_relative_volume_and_no_trend(make_frame: MakeFrame) -> None:
    frame = make_frame(60)
    for values in (frame.volume, frame.buy_volume, frame.sell_volume):
        values[:] = 0.0
    assert np.isnan(compute(frame, "relative_volume_5")["relative_volume"]).all()
    assert np.isnan(compute(frame, "cvd_trend_5")["cvd_trend"]).all()
    assert compute(frame, "cvd_5")["cvd"][-1] == 0.0


@settings(max_examples=50, deadline=None)
@given(
    st.integers(2, 30).flatmap(lambda n: st.tuples(*[arrays(np.float64, n, elements=small)] * 2)),
    st.integers(2, 12),
)
def test_divergence_equals_the_obvious(series: tuple[Array, Array], period: int) -> None:
    close, steps = series
    found = window_divergence(close, steps, period)
    for i in range(len(close)):
        price, flow = close[i - period + 1 : i + 1], steps[i - period + 1 : i + 1].cumsum()
        if i < period - 1 or np.ptp(flow) == 0:
            assert np.isnan(found[i])
            continue
        falling = np.corrcoef(range(period), price)[0, 1] if np.ptp(price) else 0.0
        assert found[i] == pytest.approx((np.corrcoef(range(period), flow)[0, 1] - falling) / 2, abs=1e-6)


def test_divergence_is_1_where_a_falling_price_is_bought_all_the_way(make_frame: MakeFrame) -> None:
    frame = make_frame(40)
    frame.close[:] = np.linspace(100, 90, 40)
    frame.buy_volume[:], frame.sell_volume[:] = 2.0, 1.0
    assert compute(frame, "cvd_divergence_20")["cvd_divergence"][-1] == pytest.approx(1.0)
    frame.close[:] = 100.0
    assert compute(frame, "cvd_divergence_20")["cvd_divergence"][-1] == pytest.approx(0.5)
    frame.close[:] = np.linspace(90, 100, 40)
    assert compute(frame, "cvd_divergence_20")["cvd_divergence"][-1] == pytest.approx(0.0)
    frame.sell_volume[25] = np.nan
    assert np.isnan(compute(frame, "cvd_divergence_20")["cvd_divergence"][25:]).all()
    frame.sell_volume[:] = 2.0
    assert np.isnan(compute(frame, "cvd_divergence_20")["cvd_divergence"]).all()


def test_realised_volatility_by_hand(make_frame: MakeFrame) -> None:
    frame = make_frame(60)
    found = compute(frame, "realised_volatility_20")["realised_volatility"]
    assert np.flatnonzero(~np.isnan(found))[0] == 20
    moves = np.diff(np.log(frame.close[30:51]))
    assert found[50] == pytest.approx(100 * np.sqrt((moves**2).sum()))
