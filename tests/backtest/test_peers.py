"""Fill by fill beside other backtesters, on strategies that they can express: fills at the next open, fees.

`pip install -e '.[peers]'` brings them; where they are missing these tests are left out. What differs by
intent stands in docs/backtests.md.
"""

import warnings

import numpy as np
import pytest
from tapes import random_frame

from backtest.account import Account
from backtest.run import run
from backtest.state import BY_END
from market.timeframe import DAY

FEE, SLIPPAGE = 0.001, 0.0001
ACCOUNT = Account(fee_bps=FEE * 1e4, slippage_bps=SLIPPAGE * 1e4, lot=0)
STRATEGIES = [
    ("ema_cross", {"fast": 5, "slow": 20}),
    ("rsi_reversal", {"period": 7, "low": 35.0, "high": 65.0}),
    ("bollinger", {"period": 15, "deviations": 1.5}),
]
pytestmark = pytest.mark.filterwarnings("ignore")


def peer(name):
    """The package, imported without its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} is missing: pip install -e '.[peers]'")


def traded(result):
    """Fills but the one that closes at the end of the data, which the others leave open."""
    fills = result.record.fills
    return fills[fills["reason"] != BY_END]


def changes(result):
    """Whether the strategy is to be in or out from each candle's open on: +1, -1, 0 where nothing changes."""
    frame, setup = result.frame, result.setup
    signals = setup.strategy.signals(frame, setup.values)
    wanted = np.zeros(len(frame), dtype=np.int64)
    known = signals.candle + 1 < len(frame)
    wanted[signals.candle[known] + 1] = np.sign(signals.kind[known])
    return wanted


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("strategy", "values"), STRATEGIES)
def test_vectorbt_fills_and_equity_are_ours(strategy, values, seed):
    vectorbt = peer("vectorbt")
    frame = random_frame(5_000, seed)
    ours = run(frame, strategy, values, account=ACCOUNT)
    wanted = changes(ours)
    theirs = vectorbt.Portfolio.from_signals(
        close=frame.close,
        entries=wanted > 0,
        exits=wanted < 0,
        price=frame.open,
        fees=FEE,
        slippage=SLIPPAGE,
        init_cash=ACCOUNT.capital,
    )
    fills, orders = traded(ours), theirs.orders.values
    assert len(fills) == len(orders) > 20
    assert fills["timestamp"].tolist() == frame.timestamp[orders["idx"]].tolist()
    assert np.where(fills["side"] > 0, 0, 1).tolist() == orders["side"].tolist()
    # The same doubles, but for the last bits where they multiply in another order.
    for mine, name in (("price", "price"), ("quantity", "size"), ("fee", "fees")):
        np.testing.assert_allclose(fills[mine], orders[name], rtol=1e-12, atol=0)

    record = ours.record
    at_close = np.isin(record.timestamp, frame.close_time)
    # At the instant of a close our point is what the next candle's open has made of it.
    quiet = ~np.isin(frame.close_time, record.fills["timestamp"])
    equity = (record.cash + record.value)[at_close]
    np.testing.assert_allclose(equity[quiet], np.asarray(theirs.value())[quiet], rtol=1e-12, atol=0)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("strategy", "values"), STRATEGIES)
def test_fills_of_backtesting_py_are_ours(strategy, values, seed):
    backtesting = peer("backtesting")
    pandas = peer("pandas")
    frame = random_frame(3_000, seed)
    account = Account(fee_bps=FEE * 1e4, slippage_bps=0.0, lot=0)
    ours = run(frame, strategy, {**values, "quantity": 7.0}, account=account)
    # It gives orders at a candle's close, to be filled at the next open, as ours.
    signals = np.append(changes(ours)[1:], 0)
    table = pandas.DataFrame(
        {name.title(): frame.column(name) for name in ("open", "high", "low", "close", "volume")},
        index=pandas.to_datetime(frame.timestamp, unit="us"),
    )

    class Same(backtesting.Strategy):  # type: ignore[misc, name-defined]
        def init(self):
            pass

        def next(self):
            signal = signals[len(self.data) - 1]
            if signal > 0 and not self.position:
                self.buy(size=7)
            elif signal < 0 and self.position:
                self.position.close()

    test = backtesting.Backtest(table, Same, cash=ACCOUNT.capital, commission=FEE, finalize_trades=False)
    trades = test.run()["_trades"]
    fills = traded(ours)
    entries, exits = fills[fills["side"] > 0], fills[fills["side"] < 0]
    assert len(exits) == len(trades) > 10
    entries = entries[: len(exits)]
    assert (trades["Size"] == 7).all()
    assert entries["timestamp"].tolist() == frame.timestamp[trades["EntryBar"]].tolist()
    assert exits["timestamp"].tolist() == frame.timestamp[trades["ExitBar"]].tolist()
    assert entries["price"].tolist() == trades["EntryPrice"].tolist()
    assert exits["price"].tolist() == trades["ExitPrice"].tolist()
    np.testing.assert_allclose(entries["fee"] + exits["fee"], trades["Commission"], rtol=1e-12, atol=0)
    np.testing.assert_allclose(
        exits["gross"] - entries["fee"] - exits["fee"], trades["PnL"], rtol=1e-9, atol=1e-9
    )


def test_the_sharpe_ratio_of_daily_returns_is_that_of_vectorbt():
    peer("vectorbt")
    pandas = peer("pandas")
    frame = random_frame(20_000, 4)
    ours = run(frame, "ema_cross", {"fast": 10, "slow": 40}, account=ACCOUNT)
    days = frame.timestamp[0] // DAY * DAY + np.arange(len(ours.returns)) * DAY
    returns = pandas.Series(ours.returns, index=pandas.to_datetime(days, unit="us"))
    theirs = returns.vbt.returns(freq="1D", year_freq="365 days")
    assert ours.metrics.sharpe_ratio == pytest.approx(theirs.sharpe_ratio(), rel=1e-9)
