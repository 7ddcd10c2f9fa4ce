import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest import metrics
from backtest.state import FILL

YEAR = math.sqrt(365)
equities = st.lists(st.floats(0.0, 1e9), min_size=1, max_size=60).map(lambda v: np.array(v))
RETURNS = np.array([0.01, -0.02, 0.03, 0.0, -0.005])


def test_daily_returns_begin_at_the_capital():
    returns = metrics.daily_returns(100.0, np.array([110.0, 99.0, 99.0]))
    assert returns.tolist() == [110.0 / 100.0 - 1.0, 99.0 / 110.0 - 1.0, 0.0]


def test_daily_returns_after_ruin_are_zero():
    assert metrics.daily_returns(100.0, np.array([0.0, 5.0, -3.0, 2.0])).tolist()[1] == 0.0


def test_annual_return_compounds():
    assert metrics.annual_return(0.1, 365) == pytest.approx(0.1)
    assert metrics.annual_return(0.1, 73) == pytest.approx(1.1**5 - 1)
    assert metrics.annual_return(-1.0, 10) == -1.0
    assert metrics.annual_return(-1.2, 10) == -1.0
    assert metrics.annual_return(0.0, 0) == 0.0


def test_annual_return_of_a_wild_day_is_finite():
    assert math.isfinite(metrics.annual_return(50.0, 1))


def test_volatility_sharpe_and_sortino():
    values = RETURNS.tolist()
    deviation = statistics.stdev(values)
    downside = math.sqrt((0.02**2 + 0.005**2) / 5)
    assert metrics.volatility(RETURNS) == pytest.approx(deviation * YEAR, rel=1e-12)
    assert metrics.sharpe_ratio(RETURNS) == pytest.approx(0.003 / deviation * YEAR, rel=1e-12)
    assert metrics.sortino_ratio(RETURNS) == pytest.approx(0.003 / downside * YEAR, rel=1e-12)


@pytest.mark.parametrize("returns", [[], [0.01], [0.01] * 10, [0.1 + 0.2] * 3])
def test_ratios_without_variance_are_zero(returns):
    values = np.array(returns)
    assert metrics.sharpe_ratio(values) == 0.0
    assert metrics.sortino_ratio(values) == 0.0
    assert metrics.volatility(values) == 0.0


def test_calmar_without_drawdown_is_zero():
    assert metrics.calmar_ratio(0.5, 0.0) == 0.0
    assert metrics.calmar_ratio(0.5, 0.25) == 2.0


@pytest.mark.parametrize(
    ("daily", "expected"),
    [
        ([110.0, 120.0], (0.0, 0)),
        ([90.0, 80.0, 100.0, 95.0], (1.0 - 80.0 / 100.0, 3)),  # from the capital, day -1, to day 2
        ([120.0, 90.0, 100.0], (1.0 - 90.0 / 120.0, 2)),  # not made good: to the end
        ([120.0, 114.0, 120.0, 108.0, 121.0], (1.0 - 108.0 / 120.0, 2)),
    ],
)
def test_drawdown_and_its_days(daily, expected):
    assert metrics.drawdown(100.0, np.array(daily)) == expected


@settings(deadline=None)  # the first call compiles
@given(equities)
def test_drawdown_is_the_largest_fall_from_any_earlier_peak(daily):
    largest, days = metrics.drawdown(100.0, daily)
    path = [100.0, *daily.tolist()]
    worst = max((1.0 - low / max(path[: i + 1]) for i, low in enumerate(path)), default=0.0)
    assert largest == max(worst, 0.0)
    assert 0 <= days <= len(daily)
    assert (days == 0) == (largest == 0.0)


def fills_of(*profits):
    fills = np.zeros(2 * len(profits), dtype=FILL)
    fills["opens"][::2] = 1
    fills["fee"] = 1.0
    fills["gross"][1::2] = np.array(profits) + 2.0
    return fills


def summary(fills, daily=(100.0,)):
    return metrics.summarise(100.0, np.array(daily), fills, 7.0, 0.3, 0.5, 0.1)


def test_positions_are_counted_net_of_both_fees():
    result = summary(fills_of(10.0, -4.0, 0.0, 20.0, -6.0))
    assert (result.total_trades, result.winning_trades, result.losing_trades) == (5, 2, 2)
    assert result.win_rate == 0.4
    assert (result.avg_win, result.avg_loss) == (15.0, -5.0)
    assert (result.largest_win, result.largest_loss) == (20.0, -6.0)
    assert result.profit_factor == 3.0
    assert result.expectancy == 4.0
    assert (result.total_fees, result.exposure, result.intraday_drawdown) == (7.0, 0.5, 0.3)


def test_a_run_without_positions_has_zeros():
    result = summary(fills_of())
    assert result.total_trades == 0
    assert result.profit_factor == result.expectancy == result.win_rate == result.largest_loss == 0.0


def test_profit_factor_without_a_loss_is_zero():
    assert summary(fills_of(3.0, 4.0)).profit_factor == 0.0


@settings(deadline=None)  # the first call compiles
@given(
    st.lists(st.floats(-1e6, 1e12), min_size=1, max_size=20),
    st.lists(st.floats(-1e9, 1e9), max_size=20),
)
def test_everything_is_finite(daily, profits):
    assert np.isfinite(np.array(summary(fills_of(*profits), daily), dtype=float)).all()


def test_final_figures():
    result = summary(fills_of(), [100.0, 150.0])
    assert (result.final_capital, result.total_pnl, result.total_return_pct) == (150.0, 50.0, 50.0)
    assert result.buy_and_hold_pct == 10.0
