"""The composite strategy over a million candles, beside the calls and loops that it consists of.

The bound computes every indicator that the composite's rules read, each once over the whole series, by
TA-Lib's own functions and our bare loops: no blocks, no warm-ups, no rules, no score.
"""

from collections.abc import Callable
from statistics import median
from time import process_time

import numpy as np
import talib

from benchmarks import Figure, Figures
from market import Timeframe
from signals.engine import UNDEFINED, evaluate
from signals.frame import COLUMNS, CandleFrame
from signals.higher import resampled
from signals.indicators import flow, momentum, trend
from signals.registry import locate
from signals.strategies import Strategy, composite

CANDLES, ROUNDS = 1_000_000, 7


def run() -> Figures:
    """The composite in one batch, with and without the candles of an hour that confirm it."""
    frame, strategy = _market(CANDLES), composite()
    higher = {timeframe: resampled(frame, timeframe) for timeframe in strategy.confirming(Timeframe.M1)}
    calls = _bare(frame)
    if (read := _indicators(strategy)) != calls.keys():
        raise SystemExit(f"the composite reads {', '.join(sorted(read ^ calls.keys()))}, or does no longer")
    if (evaluate(strategy, frame, higher=higher).type == UNDEFINED).mean() > 0.01:
        raise SystemExit("the composite says nothing")

    def bare() -> None:
        for call in calls.values():
            call()

    def confirmed() -> None:
        bare()
        for candles in higher.values():
            for call in _bare(candles).values():
                call()

    what = f"composite over {CANDLES:,} candles of a minute"
    return [
        *_figures(what, bare, lambda: evaluate(strategy, frame)),
        *_figures(f"{what}, confirmed by the hour", confirmed, lambda: evaluate(strategy, frame, 0, higher)),
    ]


class _Asked(dict[str, np.ndarray]):
    """Stands in for a pass: remembers the names that a rule asks for."""

    def __missing__(self, name: str) -> np.ndarray:
        self[name] = np.ones(1)
        return self[name]


def _figures(what: str, bound: Callable[[], object], work: Callable[[], object]) -> Figures:
    """The medians of both, taken in turns, after a round that is not counted.

    In time of the processor: all of it runs on one, and other work on the machine does not count.
    """
    taken = []
    for _ in range(ROUNDS + 1):
        begun = process_time()
        bound()
        between = process_time()
        work()
        taken.append((between - begun, process_time() - between))
    least, seconds = (1e3 * median(column) for column in zip(*taken[1:], strict=True))
    return [
        Figure(f"bare calls and loops of the {what}", least, "ms"),
        Figure(what, seconds, "ms", least),
    ]


def _indicators(strategy: Strategy) -> set[str]:
    """The indicators that its rules score by, by name."""
    asked = _Asked()
    for weighted in strategy.rules:
        weighted.rule.score(asked)
    return {locate(name)[0].name for name in asked.keys() - set(COLUMNS)}


def _bare(f: CandleFrame) -> dict[str, Callable[[], object]]:
    """What computes each indicator of the composite, and nothing else."""
    candle = f.high, f.low, f.close
    delta = f.buy_volume - f.sell_volume
    return {
        "ema_12": lambda: trend.exponential_average(f.close, np.zeros(2), 12),
        "ema_26": lambda: trend.exponential_average(f.close, np.zeros(2), 26),
        "atr_14": lambda: talib.ATR(*candle, 14),
        "adx_14": lambda: talib.ADX(*candle, 14),
        "plus_di_14": lambda: talib.PLUS_DI(*candle, 14),
        "minus_di_14": lambda: talib.MINUS_DI(*candle, 14),
        "macd_12_26_9": lambda: talib.MACD(f.close, 12, 26, 9),
        "rsi_14": lambda: momentum.relative_strength(f.close, np.zeros(4), 14),
        "bbands_20_2": lambda: talib.BBANDS(f.close, 20, 2, 2),
        "cvd_20": lambda: flow.window_sum(delta, 20),
        "cvd_trend_20": lambda: flow.window_walk_slope(delta, 20) / flow.window_sum(f.volume, 20),
        "cvd_divergence_20": lambda: flow.window_divergence(f.close, delta, 20),
    }


def _market(count: int) -> CandleFrame:
    """A walk with order flow and a book."""
    random = np.random.default_rng(20_260_101)
    close = 100.0 * np.exp(np.cumsum(random.normal(0, 1e-3, count)))
    volume, buying = random.exponential(5.0, count), random.uniform(0.2, 0.8, count)
    columns = {
        "open": np.concatenate(([100.0], close[:-1])),
        "high": close * (1.0 + random.exponential(5e-4, count)),
        "low": close * (1.0 - random.exponential(5e-4, count)),
        "close": close,
        "volume": volume,
        "buy_volume": volume * buying,
        "sell_volume": volume * (1.0 - buying),
        "cvd_close": np.cumsum(volume * (2.0 * buying - 1.0)),
        "imbalance_mean": random.uniform(-90, 90, count),
        "imbalance_last": random.uniform(-90, 90, count),
        "spread_bps_mean": random.exponential(2.0, count),
    }
    times = np.arange(count, dtype=np.int64) * Timeframe.M1.microseconds
    return CandleFrame(Timeframe.M1, times, **columns, is_whole=np.ones(count, dtype=np.bool_))
