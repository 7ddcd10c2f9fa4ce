"""Tapes of which the truth is known: walks that nothing can foresee, and signals whose chance is planted."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import erfc, sqrt
from typing import ClassVar

import numpy as np

from market.timeframe import Timeframe
from signals.calibration import Calibration, fit
from signals.engine import evaluate
from signals.frame import COLUMNS, Array, CandleFrame
from signals.higher import resampled
from signals.measures import Z95, Coefficient, apart, information_coefficient, wilson
from signals.options import HORIZON
from signals.outcomes import ROUND_TRIP, Prices, direction, net_returns
from signals.rows import signal_rows
from signals.rules import Arrays, Values
from signals.strategies import Strategy, Weighted

MINUTE = Timeframe.M1.microseconds
BEGIN = 1_767_225_600_000_000


def frame_of(close: Array, columns: dict[str, Array]) -> CandleFrame:
    """Minutes of a price that opens where it closed before."""
    count = len(close)
    opened = np.concatenate((close[:1], close[:-1]))
    known = {
        "open": opened,
        "high": np.maximum(opened, close),
        "low": np.minimum(opened, close),
        "close": close,
        "volume": np.ones(count),
    }
    known |= {name: np.full(count, np.nan) for name in COLUMNS if name not in known}
    times = BEGIN + np.arange(count) * MINUTE
    return CandleFrame(Timeframe.M1, times, **{**known, **columns}, is_whole=np.ones(count, dtype=np.bool_))


def walk(seed: int, count: int) -> CandleFrame:
    """A random walk: who buys, and how the book leans, has to do with the candle, never with the next one."""
    rng = np.random.default_rng(seed)
    moves = rng.standard_t(4, count) * 1e-3
    volume = rng.exponential(5.0, count)
    buying = np.clip(0.5 + 100 * moves + rng.normal(0, 0.1, count), 0, 1)
    close = 100 * np.exp(np.cumsum(moves))
    swing = np.exp(rng.exponential(3e-4, count))
    opened = np.concatenate((close[:1], close[:-1]))
    book = np.clip(20_000 * moves + rng.normal(0, 30, count), -100, 100)
    columns = {
        "volume": volume,
        "buy_volume": volume * buying,
        "sell_volume": volume * (1 - buying),
        "high": np.maximum(opened, close) * swing,
        "low": np.minimum(opened, close) / swing,
        "imbalance_mean": book,
        "imbalance_last": book,
        "spread_bps_mean": rng.exponential(3.0, count),
    }
    return frame_of(close, columns)


def coefficients(strategy: Strategy, frame: CandleFrame, horizons: tuple[int, ...]) -> Iterator[Coefficient]:
    """The information coefficient of a strategy's signals at each horizon, as `signals quality` has it."""
    higher = {each: resampled(frame, each) for each in strategy.confirming(frame.timeframe)}
    series = evaluate(strategy, frame, 0, higher)
    rows = signal_rows(strategy, frame, 0, series, None, higher, is_explained=False)
    prices = Prices(frame.timestamp, frame.open, frame.close)
    rows = [row for row in rows if row.signal_type != "NEUTRAL"]
    at = np.array([row.timestamp for row in rows], dtype=np.int64)
    score = np.array([row.score for row in rows])
    signs = direction([row.signal_type for row in rows])
    for horizon in horizons:
        returns = net_returns(prices, at, signs, horizon, MINUTE)
        known = np.flatnonzero(~np.isnan(returns))
        taken = known[apart(at[known], horizon * MINUTE)]
        yield information_coefficient(score[taken], signs[taken] * (returns[taken] + ROUND_TRIP))


@dataclass(frozen=True)
class Told:
    """A rule that says what a column of the book holds."""

    kind: ClassVar[str] = "told"
    cites: ClassVar[tuple[str, ...]] = ("imbalance_mean",)

    def score(self, values: Arrays) -> Array:
        return values["imbalance_mean"] / 100.0

    def reason(self, values: Values) -> str:
        return f"told {values['imbalance_mean']:.1f}"


TOLD = Strategy("told", (Weighted(Told(), 1.0),))


def planted(seed: int, signals: int) -> CandleFrame:
    """Signals of `Told`, one after the other's horizon, right with a chance of 0.3 + 0.5 |score|."""
    rng = np.random.default_rng(seed)
    score = rng.uniform(0.2, 1.0, signals) * rng.choice([-1, 1], signals)
    is_right = rng.random(signals) < 0.3 + 0.5 * np.abs(score)
    length = HORIZON + 1
    told, jumps = np.zeros(signals * length), np.zeros(signals * length)
    told[::length] = 100.0 * score
    # The price stands still until the last candle of the horizon.
    jumps[HORIZON::length] = np.where(is_right, 0.01, -0.01) * np.sign(score)
    return frame_of(100 * np.exp(np.cumsum(jumps - jumps.mean())), {"imbalance_mean": told})


def kept(seed: int, fitted: int, held_out: int) -> tuple[int, int, float]:
    """Promises of a calibration to signals that it has not seen.

    Returns:
        How many bins there are, how many promises lie outside the 95% band of what came, and how many
        do on average where every promise is as good as that many signals can make it.
    """
    frame = planted(seed, fitted + held_out)
    rows = signal_rows(TOLD, frame, 0, evaluate(TOLD, frame), None, is_explained=False)
    rows = [row for row in rows if row.signal_type != "NEUTRAL"]
    at = np.array([row.timestamp for row in rows], dtype=np.int64)
    prices = Prices(frame.timestamp, frame.open, frame.close)
    returns = net_returns(prices, at, direction([row.signal_type for row in rows]), HORIZON, MINUTE)
    score, is_right = np.array([row.score for row in rows]), returns > 0
    is_early = at < BEGIN + fitted * (HORIZON + 1) * MINUTE
    bins = fit(score[is_early], is_right[is_early])
    assert bins is not None
    calibration = Calibration(1, 0, bins)
    promised = np.array([calibration.confidence(each) for each in score[~is_early]])
    outside, chance = 0, 0.0
    promises = np.unique(promised)
    for promise in promises:
        inside = promised == promise
        low, high = wilson(float(is_right[~is_early][inside].mean()), int(inside.sum()))
        outside += not low <= promise / 100 <= high
        behind = sum(each.count for each in bins if 100 * each.chance == promise)
        # What the fit itself may be off by comes on top of the band.
        chance += beyond(Z95 / np.sqrt(1 + inside.sum() / behind))
    return len(promises), outside, chance


def beyond(deviations: float) -> float:
    """The chance that a normal variable lies farther out than this."""
    return erfc(deviations / sqrt(2))
