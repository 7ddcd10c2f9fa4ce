import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest import metrics
from backtest.state import FILL


def fills_of(*profits):
    fills = np.zeros(2 * len(profits), dtype=FILL)
    fills["opens"][::2] = 1
    fills["position"] = np.repeat(np.arange(1, len(profits) + 1), 2)
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
    assert result[2:5] == metrics.profile(100.0, np.array([100.0, 150.0]))[:3]


def test_a_position_in_parts_counts_once():
    fills = fills_of(10.0, -4.0)[[0, 2, 1, 3, 3]]
    assert metrics.net_profits(fills).tolist() == [10.0, -7.0]


def test_turnover_counts_both_sides_half():
    fills = fills_of(10.0)
    fills["quantity"], fills["price"] = 2.0, [50.0, 70.0]
    assert summary(fills, [100.0, 140.0]).turnover == 1.0
    assert summary(fills_of()).turnover == 0.0
    assert summary(fills, [-5.0]).turnover == 0.0
