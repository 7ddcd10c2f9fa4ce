import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest import ratios

YEAR = math.sqrt(365)
equities = st.lists(st.floats(0.0, 1e9), min_size=1, max_size=60).map(lambda v: np.array(v))
RETURNS = np.array([0.01, -0.02, 0.03, 0.0, -0.005])


def test_daily_returns_begin_at_the_capital():
    returns = ratios.daily_returns(100.0, np.array([110.0, 99.0, 99.0]))
    assert returns.tolist() == [110.0 / 100.0 - 1.0, 99.0 / 110.0 - 1.0, 0.0]


def test_daily_returns_after_ruin_are_zero():
    assert ratios.daily_returns(100.0, np.array([0.0, 5.0, -3.0, 2.0])).tolist()[1] == 0.0


def test_annual_return_compounds():
    assert ratios.annual_return(0.1, 365) == pytest.approx(0.1)
    assert ratios.annual_return(0.1, 73) == pytest.approx(1.1**5 - 1)
    assert ratios.annual_return(-1.0, 10) == -1.0
    assert ratios.annual_return(-1.2, 10) == -1.0
    assert ratios.annual_return(0.0, 0) == 0.0


def test_annual_return_of_a_wild_day_is_finite():
    assert math.isfinite(ratios.annual_return(50.0, 1))


def test_volatility_sharpe_and_sortino():
    values = RETURNS.tolist()
    deviation = statistics.stdev(values)
    downside = math.sqrt((0.02**2 + 0.005**2) / 5)
    assert ratios.volatility(RETURNS) == pytest.approx(deviation * YEAR, rel=1e-12)
    assert ratios.sharpe_ratio(RETURNS) == pytest.approx(0.003 / deviation * YEAR, rel=1e-12)
    assert ratios.sortino_ratio(RETURNS) == pytest.approx(0.003 / downside * YEAR, rel=1e-12)


@pytest.mark.parametrize("returns", [[], [0.01], [0.01] * 10, [0.1 + 0.2] * 3])
def test_ratios_without_variance_are_zero(returns):
    values = np.array(returns)
    assert ratios.sharpe_ratio(values) == 0.0
    assert ratios.sortino_ratio(values) == 0.0
    assert ratios.volatility(values) == 0.0


def test_calmar_without_drawdown_is_zero():
    assert ratios.calmar_ratio(0.5, 0.0) == 0.0
    assert ratios.calmar_ratio(0.5, 0.25) == 2.0


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
    assert ratios.drawdown(100.0, np.array(daily)) == expected


@settings(deadline=None)  # the first call compiles
@given(equities)
def test_drawdown_is_the_largest_fall_from_any_earlier_peak(daily):
    largest, days = ratios.drawdown(100.0, daily)
    path = [100.0, *daily.tolist()]
    worst = max((1.0 - low / max(path[: i + 1]) for i, low in enumerate(path)), default=0.0)
    assert largest == max(worst, 0.0)
    assert 0 <= days <= len(daily)
    assert (days == 0) == (largest == 0.0)


def test_omega_and_the_tails():
    assert ratios.omega_ratio(RETURNS) == pytest.approx(0.04 / 0.025)
    assert ratios.value_at_risk(RETURNS) == pytest.approx(-0.017)
    assert ratios.conditional_value_at_risk(RETURNS) == -0.02
    assert ratios.tail_ratio(RETURNS) == pytest.approx(0.026 / 0.017)


@pytest.mark.parametrize("returns", [[], [0.0], [0.01, 0.02], [0.0] * 30])
def test_ratios_without_a_loss_are_zero(returns):
    values = np.array(returns)
    assert ratios.omega_ratio(values) == 0.0
    assert ratios.value_at_risk(values) >= 0.0


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.floats(-1, 10), min_size=1, max_size=80), st.floats(0, 1))
def test_quantiles_are_those_of_numpy(values, share):
    ordered = np.sort(np.array(values))
    assert ratios.quantile(ordered, share) == pytest.approx(np.quantile(ordered, share), rel=1e-9, abs=1e-12)


# What empyrical-reloaded 0.7.1 (numpy 2.4) gives for `SERIES` with annualization=365: sharpe_ratio,
# sortino_ratio, calmar_ratio, omega_ratio, tail_ratio, value_at_risk, conditional_value_at_risk,
# max_drawdown, cagr, annual_volatility. It is no dependency: it comes with pandas, peewee and bottleneck.
SERIES = 0.03 * np.sin(np.arange(1, 251) ** 2) + 0.001
EMPYRICAL = {
    "sharpe_ratio": 1.0142587869304354,
    "sortino_ratio": 1.515718064803408,
    "omega_ratio": 1.1250111437644172,
    "tail_ratio": 1.0645932719113245,
    "value_at_risk": -0.02867953373037665,
    "conditional_value_at_risk": -0.02887228332951539,
    "volatility": 0.4096782582063808,
}


@pytest.mark.parametrize("name", sorted(EMPYRICAL))
def test_ratios_are_those_of_an_independent_library(name):
    assert getattr(ratios, name)(SERIES) == pytest.approx(EMPYRICAL[name], rel=1e-9)


def test_what_compounds_is_as_an_independent_library_says():
    daily = 100.0 * np.cumprod(1.0 + SERIES)
    annual = ratios.annual_return(daily[-1] / 100.0 - 1.0, daily.size)
    largest, _ = ratios.drawdown(100.0, daily)
    assert annual == pytest.approx(0.3935830084582681, rel=1e-9)
    assert largest == pytest.approx(0.17930784147417111, rel=1e-9)
    assert ratios.calmar_ratio(annual, largest) == pytest.approx(2.1950128071502264, rel=1e-9)
    assert ratios.daily_returns(100.0, daily) == pytest.approx(SERIES, rel=1e-9)
