"""The same work in other backtesters, in turns of the same run: `pip install -e '.[peers]'` brings them.

EMA crosses from closes to metrics beside vectorbt, with its Rust kernels where `vectorbt-rust` is installed;
ticks with a stop and a target beside hftbacktest. A figure's bound is what the other one takes. Ticks are
fewer than the 10,000,000 of the full scale, as theirs take 64 bytes each; DELTATAPE_BENCHMARK_TICKS says how
many.
"""

import gc
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from statistics import median
from time import perf_counter
from typing import Any

import numba
import numpy as np

from backtest.account import Account
from backtest.feeds import Source
from backtest.merged import walk_tape
from backtest.policies import Policy, follow_signals
from backtest.run import execute
from backtest.setup import setup
from benchmarks import Figure, Figures
from benchmarks import backtest as candles
from benchmarks import kernel as ticks

TICKS = int(os.environ.get("DELTATAPE_BENCHMARK_TICKS", "2000000"))
ROUNDS = 5
_TICK_SIZE, _LEVEL = 0.01, 1e9


def run() -> Figures:
    """Both, without those that are not installed."""
    ticks.keep_memory()
    figures: Figures = []
    for name, compared in (("vectorbt", _crosses), ("hftbacktest", _ticks)):
        if find_spec(name) is None:
            print(f"{name} is not installed: pip install -e '.[peers]'", file=sys.stderr)
        else:
            figures += compared()
    return figures


def _crosses() -> Figures:
    vectorbt: Any = __import__("vectorbt")
    frame = candles.market(candles.CANDLES)
    account = Account(fee_bps=candles.FEE * 1e4, slippage_bps=candles.SLIPPAGE * 1e4, lot=0)
    chosen = setup("ema_cross", {"fast": candles.FAST, "slow": candles.SLOW}, account)

    def ours() -> float:
        return execute(chosen, Source("", frame), curve=True)[1].total_return_pct

    def theirs() -> float:
        fast, slow = (
            vectorbt.MA.run(frame.close, window, ewm=True) for window in (candles.FAST, candles.SLOW)
        )
        entries, exits = (
            crossed.vbt.signals.fshift(1)
            for crossed in (fast.ma_crossed_above(slow), fast.ma_crossed_below(slow))
        )
        costs = {"fees": candles.FEE, "slippage": candles.SLIPPAGE, "init_cash": account.capital}
        portfolio = vectorbt.Portfolio.from_signals(
            frame.close, entries, exits, price=frame.open, freq="1min", **costs
        )
        for figure in ("sharpe_ratio", "sortino_ratio", "calmar_ratio", "max_drawdown", "omega_ratio"):
            getattr(portfolio, figure)()
        portfolio.trades.win_rate()
        return 100.0 * float(portfolio.total_return())

    engine = "Rust" if find_spec("vectorbt_rust") else "numba"
    what = f"EMA crosses, {candles.CANDLES:,} closes to metrics"
    return _compared(what, ours, theirs, f"vectorbt {vectorbt.__version__} ({engine})")


def _ticks() -> Figures:
    hftbacktest: Any = __import__("hftbacktest")
    price, tape, buys = ticks.tick_tape(TICKS)
    account = Account(fee_bps=ticks.FEE * 1e4, slippage_bps=0.0, lot=0)
    policy = Policy(stop=ticks.STOP, target=ticks.TARGET, quantity=1.0)
    events, strategy = _events(hftbacktest, price), _strategy()

    def ours() -> float:
        record = walk_tape(account.state(), policy.record(), follow_signals, tape, curve=False)
        return float(len(record.fills))

    def theirs() -> float:
        asset = hftbacktest.BacktestAsset().data(events).linear_asset(1.0).tick_size(_TICK_SIZE)
        asset = asset.constant_order_latency(0, 0).risk_adverse_queue_model().no_partial_fill_exchange()
        asset = asset.trading_value_fee_model(ticks.FEE, ticks.FEE).lot_size(1e-8).last_trades_capacity(4)
        market = hftbacktest.HashMapMarketDepthBacktest([asset])
        orders = strategy(market, ticks.BETWEEN, ticks.STOP, ticks.TARGET)
        market.close()
        return float(orders)

    what = f"{TICKS:,} ticks with stop and target, {len(buys):,} signals"
    return _compared(what, ours, theirs, f"hftbacktest {hftbacktest.__version__}")


def _events(hftbacktest: Any, price: Any) -> Any:
    """A book of one level a side that takes every order, then the trades."""
    both = hftbacktest.EXCH_EVENT | hftbacktest.LOCAL_EVENT
    events = np.zeros(len(price) + 2, dtype=hftbacktest.types.event_dtype)
    events["exch_ts"] = events["local_ts"] = 1_000_000_000 + 100_000 * np.arange(len(events))
    events["ev"] = hftbacktest.TRADE_EVENT | both | hftbacktest.BUY_EVENT
    events["px"], events["qty"] = np.r_[99.99, 100.01, price], 1.0
    events["qty"][:2] = _LEVEL
    for place, side in enumerate((hftbacktest.BUY_EVENT, hftbacktest.SELL_EVENT)):
        events["ev"][place] = hftbacktest.DEPTH_EVENT | both | side
    return events


def _strategy() -> Any:
    """Buys every so many trades where nothing is held, sells at a stop or a target; counts its orders."""
    orders: Any = __import__("hftbacktest.order", fromlist=["GTC"])
    good_till_cancelled, at_market, forever = int(orders.GTC), int(orders.MARKET), 10**18

    @numba.njit(nogil=True)
    def strategy(market: Any, between: int, stop: float, target: float) -> int:
        seen = given = 0
        held, low, high = False, 0.0, 0.0
        while market.wait_next_feed(False, forever) == 2:
            trades = market.last_trades(0)
            if len(trades) == 0:
                continue
            price = trades[len(trades) - 1].px
            market.clear_last_trades(0)
            if held and (price <= low or price > high):
                given += 1
                market.submit_sell_order(0, given, price, 1.0, good_till_cancelled, at_market, False)
                market.clear_inactive_orders(0)
                held = False
            elif not held and seen > 0 and seen % between == 0:
                given += 1
                market.submit_buy_order(0, given, price, 1.0, good_till_cancelled, at_market, False)
                held, low, high = True, price * (1.0 - stop), price * (1.0 + target)
            seen += 1
        return given

    return strategy


def _compared(what: str, ours: Callable[[], float], theirs: Callable[[], float], peer: str) -> Figures:
    """The medians of both, measured in turns; refused where they come to something else."""
    ours_came, theirs_came = ours(), theirs()
    if abs(ours_came - theirs_came) > 0.02 * abs(theirs_came) + 0.02:
        raise SystemExit(f"{what}: here {ours_came:g}, {peer} {theirs_came:g}")
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for work, times in zip((ours, theirs), taken, strict=True):
            gc.collect()
            begun = perf_counter()
            work()
            times.append(perf_counter() - begun)
    mine, other = (1e3 * median(times) for times in taken)
    return [
        Figure(f"{peer}: {what}", other, "ms"),
        Figure(what, mine, "ms", other),
        Figure(f"{what}: times faster", other / mine, "×"),
    ]
