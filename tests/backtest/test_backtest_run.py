import numpy as np
import polars as pl
import pytest
from tapes import random_frame

from backtest.account import Account
from backtest.run import run
from backtest.strategies import names
from market import MarketType, WrongUse


def test_a_table_and_its_frame_give_the_same(real_frame):
    table = pl.DataFrame(
        {"timestamp": real_frame.timestamp}
        | {name: real_frame.column(name) for name in ("open", "high", "low", "close", "volume")}
    )
    one = run(real_frame, "ema_cross", {"stop": 0.02})
    two = run(table, "ema_cross", {"stop": 0.02}, timeframe="5m")
    assert one.metrics == two.metrics
    assert one.fills.equals(two.fills)


# What follows the flow of orders needs candles that know it.
@pytest.mark.parametrize("name", sorted({*names()} - {"order_flow", "cvd_divergence", "grid", "dca"}))
def test_every_strategy_adds_up(name, real_frame):
    result = run(real_frame, name, {"stop": 0.02, "target": 0.05})
    positions, equity, metrics = result.positions, result.equity, result.metrics
    assert metrics.total_trades == len(positions) > 5
    assert positions["pnl"].sum() == pytest.approx(metrics.total_pnl, rel=1e-9)
    assert positions["fees"].sum() == pytest.approx(metrics.total_fees, rel=1e-9)
    assert equity["equity"][-1] == metrics.final_capital
    assert (equity["equity"] == equity["cash"] + equity["position_value"]).all()
    assert equity["timestamp"].is_sorted()
    assert equity["timestamp"].n_unique() == len(equity)
    assert equity["drawdown"].max() >= metrics.intraday_drawdown
    assert sum(result.counts("source").values()) == len(result.fills) == 2 * len(positions)
    assert (positions["exit_timestamp"] >= positions["entry_timestamp"]).all()
    assert (positions["max_favourable"] >= 0).all()
    assert (positions["max_adverse"] <= 0).all()
    assert (positions["gross_pnl"] <= positions["max_favourable"]).all()
    assert (positions["gross_pnl"] >= positions["max_adverse"]).all()


@pytest.mark.parametrize(("name", "parameters"), [("grid", {"levels": 20, "step": 0.005}), ("dca", {})])
def test_plans_buy_and_add_up(name, parameters, real_frame):
    result = run(real_frame, name, parameters)
    positions, metrics = result.positions, result.metrics
    assert metrics.total_trades == len(positions) >= 1
    assert len(result.fills) > 10
    assert positions["pnl"].sum() == pytest.approx(metrics.total_pnl, rel=1e-9)
    assert result.fills["reason"].unique().sort().to_list()[-1] == "policy"
    assert f"{name} " in result.title


def test_every_close_is_a_point_of_the_curve(holey_frame):
    result = run(holey_frame, "rsi_reversal", {"stop": 0.01})
    times = result.equity["timestamp"].dt.timestamp("us").to_numpy()
    assert np.isin(holey_frame.close_time, times).all()
    assert np.isin(result.record.fills["timestamp"], times).all()


def test_daily_returns_compound_to_the_total(real_frame):
    result = run(real_frame, "ema_cross")
    assert len(result.returns) == 21
    assert np.prod(1 + result.returns) - 1 == pytest.approx(result.metrics.total_return_pct / 100)


def test_linear_and_margin_agree_on_everything_but_cash(real_frame):
    values = {"shorts": 1, "stop": 0.03}
    margin = run(real_frame, "ema_cross", values, account=Account(market_type=MarketType.MARGIN))
    linear = run(real_frame, "ema_cross", values, account=Account(market_type=MarketType.LINEAR))
    assert margin.positions["side"].unique().sort().to_list() == ["long", "short"]
    assert margin.metrics.total_trades == linear.metrics.total_trades
    assert margin.metrics.final_capital == pytest.approx(linear.metrics.final_capital, rel=1e-9)
    assert margin.equity["cash"].max() > 1.5 * linear.equity["cash"].max()


def test_costs_cost(real_frame):
    free = run(real_frame, "ema_cross", account=Account(fee_bps=0, slippage_bps=0))
    dear = run(real_frame, "ema_cross", account=Account(fee_bps=10, slippage_bps=5))
    assert free.metrics.total_fees == 0.0
    assert free.metrics.final_capital > dear.metrics.final_capital


def test_a_result_prints_as_a_table(real_frame):
    result = run(real_frame, "rsi_reversal", {"stop": 0.02}, exchange="binance", symbol="ETH/BTC")
    lines = str(result).splitlines()
    assert lines[0] == "rsi_reversal period=14 low=30 high=70 stop=0.02 · binance ETH/BTC · 5m"
    assert any(line.startswith("  Sharpe, Sortino, Calmar  ") for line in lines)
    assert f"positions                {result.metrics.total_trades}" in str(result)


def test_the_plot_is_a_picture(real_frame, tmp_path):
    result, path = run(real_frame, "ema_cross"), tmp_path / "new" / "equity.png"
    picture = result.plot(path)
    assert path.read_bytes() == picture
    assert picture._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("column", "value"),
    [("low", 0.0), ("low", np.nan), ("high", 1.0), ("high", np.inf), ("close", 1e9), ("open", np.nan)],
)
def test_impossible_candles_are_refused(column, value):
    frame = random_frame(50)
    frame.column(column)[7] = value
    with pytest.raises(WrongUse, match=r"2026-01-01T00:07:00Z has impossible prices"):
        run(frame, "ema_cross")


def test_no_candles_are_refused():
    with pytest.raises(WrongUse, match="no candles"):
        run(random_frame(5).part(0, 0), "ema_cross")


def test_a_table_needs_its_timeframe():
    with pytest.raises(WrongUse, match="timeframe"):
        run(pl.DataFrame(), "ema_cross")
