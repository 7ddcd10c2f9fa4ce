"""The backtest kernel and a sweep, beside the barest numba loop that gives the same equity.

The bound trades the same EMA crosses at the next open with the same costs, all in one function without
orders, events or checks: what a kernel that does more is measured against, in the same run.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from time import perf_counter
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from backtest.account import Account
from backtest.batch import walk
from backtest.feeds import Source, columns
from backtest.grid import setups
from backtest.outcomes import results
from backtest.policies import Policy
from backtest.run import execute
from backtest.strategies import find
from benchmarks import Figure, Figures
from market import Timeframe
from signals.frame import EXTRAS, CandleFrame

Floats = npt.NDArray[np.float64]

CANDLES, ROUNDS = 1_000_000, 7
SWEPT_CANDLES, COMBINATIONS = 100_000, 1_000
FAST, SLOW = 20, 50
FEE, SLIPPAGE = 0.001, 0.0001


def run() -> Figures:
    """Candles in the kernel, a whole run, and a sweep."""
    frame = market(CANDLES)
    account = Account(fee_bps=FEE * 1e4, slippage_bps=SLIPPAGE * 1e4, lot=0)
    strategy = find("ema_cross")
    values = strategy.parameters({"fast": FAST, "slow": SLOW})
    signals = strategy.signals(frame, values)
    candles, policy = columns(frame), Policy().record()
    chosen = setups("ema_cross", {"fast": [FAST], "slow": [SLOW]}, None, account)[0][0]

    bare_equity = np.empty(CANDLES)
    fills = np.empty((2 * CANDLES, 3))

    def bare() -> float:
        final: float = bare_loop(frame.open, frame.close, FAST, SLOW, FEE, SLIPPAGE, bare_equity, fills)
        return final

    def kernel() -> Any:
        return walk(account.state(), policy, candles, signals, curve=True)

    final, record = bare(), kernel()
    if abs(record.daily[-1] / final - 1.0) > 1e-9:
        raise SystemExit(f"the bound ends with {final}, the kernel with {record.daily[-1]}")
    bound, walked = _seconds(bare), _seconds(kernel)
    whole = _seconds(lambda: execute(chosen, Source("", frame), curve=True))
    return [
        Figure(f"bare loop, {CANDLES:,} candles, EMA included", 1e3 * bound, "ms"),
        Figure("kernel with fills and curve, after the EMA", 1e3 * walked, "ms", 1e3 * bound),
        Figure("kernel, candles a second", CANDLES / walked, "1/s", CANDLES / bound),
        Figure("closes to metrics", 1e3 * whole, "ms", 1e3 * bound),
        *_sweep(account),
    ]


def _sweep(account: Account) -> Figures:
    frame = market(SWEPT_CANDLES)
    axes = {"fast": range(2, 42), "slow": range(50, 100, 2)}
    combinations, _ = setups("ema_cross", axes, None, account)
    pairs = [(int(s.values["fast"]), int(s.values["slow"])) for s in combinations]
    if len(pairs) != COMBINATIONS:
        raise SystemExit(f"{len(pairs)} combinations instead of {COMBINATIONS}")
    threads = os.cpu_count() or 1

    def bare_part(part: list[tuple[int, int]]) -> None:
        equity, fills = np.empty(SWEPT_CANDLES), np.empty((2 * SWEPT_CANDLES, 3))
        for fast, slow in part:
            bare_loop(frame.open, frame.close, fast, slow, FEE, SLIPPAGE, equity, fills)

    def bare() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(bare_part, [pairs[i::threads] for i in range(threads)]))

    def swept() -> None:
        for _ in results(Source("", frame), combinations):
            pass

    bare()
    swept()
    bound, seconds = _seconds(bare, 3), _seconds(swept, 3)
    what = f"sweep of {COMBINATIONS:,} × {SWEPT_CANDLES:,} on {threads} threads, with metrics"
    return [Figure(what, seconds, "s", bound)]


@numba.njit(nogil=True, error_model="numpy")
def bare_loop(
    opens: Floats,
    closes: Floats,
    fast: int,
    slow: int,
    fee: float,
    slippage: float,
    equity: Floats,
    fills: Floats,
) -> float:
    """What a backtest of the EMA crosses ends with, in one loop."""
    weight_fast, weight_slow = 2.0 / (fast + 1.0), 2.0 / (slow + 1.0)
    ema_fast = ema_slow = closes[0]
    cash, held = 10_000.0, 0.0
    trend = wanted = count = 0
    for i in range(closes.size):
        if wanted != 0:
            price = opens[i] * (1.0 + wanted * slippage)
            traded = cash / (price * (1.0 + fee)) if wanted > 0 else held
            cash -= wanted * traded * price + traded * price * fee
            held += wanted * traded
            fills[count, 0], fills[count, 1], fills[count, 2] = i, price, traded
            count += 1
            wanted = 0
        price = closes[i]
        if i > 0:
            ema_fast = weight_fast * price + (1.0 - weight_fast) * ema_fast
            ema_slow = weight_slow * price + (1.0 - weight_slow) * ema_slow
        equity[i] = cash + held * price
        if i < slow - 1 or ema_fast == ema_slow:
            continue
        now = 1 if ema_fast > ema_slow else -1
        if trend == -now and (now > 0 or held > 0.0):
            wanted = now
        trend = now
    if held > 0.0:
        cash += held * closes[-1] * (1.0 - slippage) * (1.0 - fee)
    return cash


def market(count: int) -> CandleFrame:
    """So many minutes of a random walk, the same each time."""
    random = np.random.default_rng(20_260_101)
    close = 100.0 * np.exp(np.cumsum(random.normal(0, 1e-3, count)))
    open_ = np.concatenate(([100.0], close[:-1]))
    high, low = np.maximum(open_, close) * 1.0005, np.minimum(open_, close) * 0.9995
    times = np.arange(count, dtype=np.int64) * Timeframe.M1.microseconds
    unknown = dict.fromkeys(EXTRAS, np.full(count, np.nan))
    whole = np.ones(count, dtype=np.bool_)
    volume = np.ones(count)
    return CandleFrame(Timeframe.M1, times, open_, high, low, close, volume, **unknown, is_whole=whole)


def _seconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The median of some rounds."""
    taken = []
    for _ in range(rounds):
        begun = perf_counter()
        work()
        taken.append(perf_counter() - begun)
    return median(taken)
