"""The kernel alone, beside the barest numba loops that give the same equity: candles, and ticks.

Candles: EMA crosses at the next open, with every fill and point of the curve kept. Ticks: bought on a
signal, sold at a stop or a target, with every fill kept. The bounds have no orders, events or
checks. Both write into memory that the process already has: what the system takes to hand out pages is the
same for each byte, and far from steady.
"""

import ctypes
import gc
import sys
from time import perf_counter
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from backtest.account import Account
from backtest.batch import Signals, walk
from backtest.feeds import columns
from backtest.merged import walk_tape
from backtest.policies import Policy, follow_signals
from backtest.strategies import find
from backtest.tape import Feed, Tape, Trades, merge
from benchmarks import Figure, Figures
from benchmarks import backtest as candles_bound

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

CANDLES, TICKS, ROUNDS = 1_000_000, 10_000_000, 9
FEE, SLIPPAGE = 0.001, 0.0001
STOP, TARGET = 0.004, 0.006
BETWEEN = 1_000
"""Ticks from one signal to the next."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Of mallopt(3)."""


def run() -> Figures:
    """Both, each against its bound in turns of the same run."""
    keep_memory()
    return [*_candles(), *_ticks()]


def keep_memory() -> None:
    """Let what is freed stay with the process, where the C library can be told so."""
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
        for threshold in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            ctypes.CDLL(None).mallopt(threshold, 2**30)


def _candles() -> Figures:
    frame = candles_bound.market(CANDLES)
    account = Account(fee_bps=FEE * 1e4, slippage_bps=SLIPPAGE * 1e4, lot=0)
    strategy = find("ema_cross")
    values = strategy.parameters({"fast": candles_bound.FAST, "slow": candles_bound.SLOW})
    signals, candles = strategy.signals(frame, values), columns(frame)
    most = 2 * len(signals.candle)

    def bare() -> float:
        equity, fills = np.empty(CANDLES), np.empty((most, 3))
        fast, slow = candles_bound.FAST, candles_bound.SLOW
        final: float = candles_bound.bare_loop(
            frame.open, frame.close, fast, slow, FEE, SLIPPAGE, equity, fills
        )
        return final

    def kernel() -> float:
        record = walk(account.state(), Policy().record(), candles, signals, curve=True)
        return float(record.daily[-1])

    return _compared(f"{CANDLES:,} candles with fills and curve", bare, kernel, CANDLES)


def _ticks() -> Figures:
    price, tape, when = tick_tape(TICKS)
    account = Account(fee_bps=FEE * 1e4, slippage_bps=SLIPPAGE * 1e4, lot=0)
    policy = Policy(stop=STOP, target=TARGET)

    def bare() -> float:
        fills = np.empty((2 * len(when), 3))
        final: float = _bare_ticks(price, BETWEEN, FEE, SLIPPAGE, STOP, TARGET, fills)
        return final

    def kernel() -> float:
        record = walk_tape(account.state(), policy.record(), follow_signals, tape, curve=False)
        return float(record.daily[-1])

    return _compared(f"{TICKS:,} ticks with stop and target", bare, kernel, TICKS)


def tick_tape(count: int) -> tuple[Floats, Tape, Integers]:
    """Prices of so many trades, their tape with a signal to buy every so often, and after which trades."""
    random = np.random.default_rng(20_260_101)
    price = 100.0 * np.exp(np.cumsum(random.normal(0, 1e-4, count)))
    trades = Trades(np.arange(count, dtype=np.int64) * 100_000, price, np.ones(count))
    when = np.arange(BETWEEN, count - 1, BETWEEN)
    buys = Signals(when, np.ones(len(when), dtype=np.int64))
    # Known a microsecond after its trade, so that the next one fills it.
    return price, merge([Feed(trades=trades, signals=buys, at=trades.timestamp[when] + 1)]), when


def _compared(what: str, bare: Any, kernel: Any, count: int) -> Figures:
    """The medians of both, measured in turns."""
    final, ours = bare(), kernel()
    if abs(ours / final - 1.0) > 1e-9:
        raise SystemExit(f"{what}: the bound ends with {final}, the kernel with {ours}")
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for work, times in zip((bare, kernel), taken, strict=True):
            gc.collect()
            begun = perf_counter()
            work()
            times.append(perf_counter() - begun)
    bound, walked = (float(np.median(times)) for times in taken)
    return [
        Figure(f"bare loop, {what}", 1e3 * bound, "ms"),
        Figure(f"kernel, {what}", 1e3 * walked, "ms", 1e3 * bound),
        Figure(f"kernel, {what}: a second", count / walked, "1/s", count / bound),
    ]


@numba.njit(nogil=True, error_model="numpy")
def _bare_ticks(
    prices: Floats, between: int, fee: float, slippage: float, stop: float, target: float, fills: Floats
) -> float:
    cash, held = 10_000.0, 0.0
    low = high = 0.0
    count = 0
    wanted = False
    for i in range(prices.size):
        price = prices[i]
        if wanted:
            wanted = False
            if held == 0.0:
                paid = price * (1.0 + slippage)
                held = cash / (paid * (1.0 + fee))
                cash -= held * paid * (1.0 + fee)
                low, high = paid * (1.0 - stop), paid * (1.0 + target)
                fills[count, 0], fills[count, 1], fills[count, 2] = i, paid, held
                count += 1
        elif held > 0.0 and (price <= low or price > high):
            got = price * (1.0 - slippage) if price <= low else high
            cash += held * got * (1.0 - fee)
            fills[count, 0], fills[count, 1], fills[count, 2] = i, got, held
            count += 1
            held = 0.0
        if i % between == 0 and 0 < i < prices.size - 1:
            wanted = True
    if held > 0.0:
        cash += held * prices[-1] * (1.0 - slippage) * (1.0 - fee)
    return cash
