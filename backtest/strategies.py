"""The strategies that ship: each turns candles into changes of a signal's type.

A missing candle splits the series: every stretch without a hole is computed by itself, silent until it
is warm. Nothing reads a candle later than the one at whose close it signals.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from backtest.averages import crosses, ema, stretches
from backtest.batch import Signals
from backtest.compiled import compiled
from backtest.reversals import band_reversals, flow_divergences
from market.errors import WrongUse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from signals.frame import CandleFrame
    from signals.options import SignalOptions
    from signals.strategies import Strategy as LiveStrategy

    SignalsOf: TypeAlias = Callable[[Mapping[str, "Number"]], Signals]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Number = int | float
SHARED_BYTES = 256 * 2**20
"""What sets of parameters share of one frame, at most."""

_BUY, _SELL = 1, -1


@dataclass(frozen=True, slots=True)
class Strategy:
    """A signal function and its parameters.

    Attributes:
        name: as on the command line.
        summary: one line for people.
        defaults: every parameter with its default; a whole one takes whole numbers.
        signals: the changes of type over a frame.
        refuse: the reason why a set of parameters makes no sense, or None.
        policy: what of the policy (fraction, stop, target, …) comes with it.
        reasons: of each of these candles, what spoke for the signal at its close; None where the
            strategy has but one reason.
        confidence: of each of these candles, 0 … 100: of several instruments' entries at one instant the
            higher comes first; None where all signals are alike.
        prepare: gives what `over` gives; None where sets of parameters share nothing.
    """

    name: str
    summary: str
    defaults: Mapping[str, Number]
    signals: Callable[[CandleFrame, Mapping[str, Number]], Signals]
    refuse: Callable[[Mapping[str, Number]], str | None] = field(default=lambda _: None)
    policy: Mapping[str, Number | str] = field(default_factory=dict)
    reasons: Callable[[CandleFrame, Mapping[str, Number], Integers], list[tuple[str, ...]]] | None = None
    confidence: Callable[[CandleFrame, Mapping[str, Number], Integers], Floats] | None = None
    prepare: Callable[[CandleFrame], SignalsOf] | None = None

    def over(self, frame: CandleFrame) -> SignalsOf:
        """What `signals` gives over these candles, for many sets of parameters: what they share is kept."""
        return partial(self.signals, frame) if self.prepare is None else self.prepare(frame)

    def parameters(self, given: Mapping[str, Number]) -> dict[str, Number]:
        """Every parameter, as given or by default.

        Raises:
            WrongUse: an unknown name, or values that make no sense.
        """
        for name in given:
            if name not in self.defaults:
                known = ", ".join(self.defaults) or "none"
                raise WrongUse(f"{self.name} has no parameter {name!r}: it has {known}")
        values = {**self.defaults, **given}
        for name, default in self.defaults.items():
            if isinstance(default, int) and values[name] != int(values[name]):
                raise WrongUse(f"{self.name}: {name} must be a whole number, not {values[name]:g}")
            values[name] = type(default)(values[name])
        if reason := self.refuse(values):
            raise WrongUse(f"{self.name}: {reason}")
        return values


@compiled(allocates=True)
def ema_crosses(
    timestamp: Integers, close: Floats, length: int, fast: int, slow: int
) -> tuple[Integers, Integers]:
    """Where the fast EMA crosses the slow one: candle numbers, and +1 upwards or -1 downwards.

    EMA(t) = a · close(t) + (1 − a) · EMA(t − 1), a = 2 / (period + 1), begun at the stretch's first
    close and warm after the slower period's candles. Source: P. J. Kaufman, Trading Systems and
    Methods, exponential smoothing. Touching without passing is no cross.
    """
    count = 0
    index = np.empty(close.size, dtype=np.int64)
    kind = np.empty(close.size, dtype=np.int64)
    weight_fast, weight_slow = 2.0 / (fast + 1.0), 2.0 / (slow + 1.0)
    keep_fast, keep_slow = 1.0 - weight_fast, 1.0 - weight_slow
    warm = max(fast, slow)
    ema_fast = ema_slow = 0.0
    age = trend = 0
    for candle in range(close.size):
        price = close[candle]
        if candle == 0 or timestamp[candle] - timestamp[candle - 1] != length:
            ema_fast = ema_slow = price
            age = trend = 0
        else:
            ema_fast = weight_fast * price + keep_fast * ema_fast
            ema_slow = weight_slow * price + keep_slow * ema_slow
        age += 1
        if age < warm or ema_fast == ema_slow:
            continue
        now = _BUY if ema_fast > ema_slow else _SELL
        if trend == -now:
            index[count] = candle
            kind[count] = now
            count += 1
        trend = now
    return index[:count].copy(), kind[:count].copy()


@compiled(allocates=True)
def rsi_reversals(
    timestamp: Integers, close: Floats, length: int, period: int, low: float, high: float
) -> tuple[Integers, Integers]:
    """Where the RSI comes back above `low` (+1) or back below `high` (-1): candle numbers and types.

    Wilder's smoothing, begun with the plain mean of the first `period` changes of the stretch; a
    market that does not move has 50. Source: J. W. Wilder, New Concepts in Technical Trading Systems
    (1978).
    """
    count = 0
    index = np.empty(close.size, dtype=np.int64)
    kind = np.empty(close.size, dtype=np.int64)
    gain = loss = before = 0.0
    age = 0
    for candle in range(close.size):
        if candle == 0 or timestamp[candle] - timestamp[candle - 1] != length:
            gain = loss = 0.0
            age = 0
            continue
        change = close[candle] - close[candle - 1]
        age += 1
        if age <= period:
            gain += max(change, 0.0) / period
            loss += max(-change, 0.0) / period
        else:
            gain = (gain * (period - 1) + max(change, 0.0)) / period
            loss = (loss * (period - 1) + max(-change, 0.0)) / period
        if age < period:
            continue
        rsi = 100.0 * gain / (gain + loss) if gain + loss > 0.0 else 50.0
        if age > period:
            turn = _BUY if before <= low < rsi else _SELL if before >= high > rsi else 0
            if turn != 0:
                index[count] = candle
                kind[count] = turn
                count += 1
        before = rsi
    return index[:count].copy(), kind[:count].copy()


def _ema_cross(frame: CandleFrame, values: Mapping[str, Number]) -> Signals:
    length = frame.timeframe.microseconds
    return Signals(
        *ema_crosses(frame.timestamp, frame.close, length, int(values["fast"]), int(values["slow"]))
    )


def _ema_crosses_over(frame: CandleFrame) -> SignalsOf:
    """As `_ema_cross`, each average once however many sets of parameters have it."""
    begins = stretches(frame.timestamp, frame.timeframe.microseconds)
    averages: dict[int, Floats] = {}
    most = SHARED_BYTES // max(frame.close.nbytes, 1)

    def average(period: int) -> Floats:
        # Threads that come at once both make it, alike.
        found = averages.get(period)
        if found is None:
            found = ema(begins, frame.close, period)
            if len(averages) < most:
                averages[period] = found
        return found

    def signals(values: Mapping[str, Number]) -> Signals:
        fast, slow = int(values["fast"]), int(values["slow"])
        return Signals(*crosses(begins, average(fast), average(slow), max(fast, slow)))

    return signals


def _refuse_ema(values: Mapping[str, Number]) -> str | None:
    if not 1 <= values["fast"] < values["slow"]:
        return f"fast ({values['fast']}) must be at least 1 and below slow ({values['slow']})"
    return None


def _rsi_reversal(frame: CandleFrame, values: Mapping[str, Number]) -> Signals:
    length = frame.timeframe.microseconds
    period, low, high = int(values["period"]), float(values["low"]), float(values["high"])
    return Signals(*rsi_reversals(frame.timestamp, frame.close, length, period, low, high))


def _refuse_rsi(values: Mapping[str, Number]) -> str | None:
    if values["period"] < 1:
        return f"period ({values['period']}) must be at least 1"
    if not 0 < values["low"] < values["high"] < 100:
        return "needs 0 < low < high < 100"
    return None


def _bollinger(frame: CandleFrame, values: Mapping[str, Number]) -> Signals:
    length = frame.timeframe.microseconds
    period, deviations = int(values["period"]), float(values["deviations"])
    return Signals(*band_reversals(frame.timestamp, frame.close, length, period, deviations))


def _refuse_bollinger(values: Mapping[str, Number]) -> str | None:
    if values["period"] < 2:
        return f"period ({values['period']}) must be at least 2"
    return None if values["deviations"] > 0 else "deviations must be above 0"


def _cvd_divergence(frame: CandleFrame, values: Mapping[str, Number]) -> Signals:
    delta = frame.buy_volume - frame.sell_volume
    if np.isnan(delta).all():
        raise WrongUse("cvd_divergence needs candles with buy_volume and sell_volume: those made of trades")
    length, period, share = frame.timeframe.microseconds, int(values["period"]), float(values["share"])
    return Signals(
        *flow_divergences(frame.timestamp, frame.close, frame.volume, delta, length, period, share)
    )


def _refuse_cvd(values: Mapping[str, Number]) -> str | None:
    if values["period"] < 1:
        return f"period ({values['period']}) must be at least 1"
    return None if 0 < values["share"] <= 1 else "share must lie above 0 and up to 1"


def _silent(_frame: CandleFrame, _values: Mapping[str, Number]) -> Signals:
    """No signal: the policy buys by its plan."""
    return Signals(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))


STRATEGIES = {
    strategy.name: strategy
    for strategy in (
        Strategy(
            "ema_cross",
            "Long while the fast EMA is above the slow one, from cross to cross.",
            {"fast": 12, "slow": 26},
            _ema_cross,
            _refuse_ema,
            prepare=_ema_crosses_over,
        ),
        Strategy(
            "rsi_reversal",
            "Buys when the RSI comes back from oversold, sells when it comes back from overbought.",
            {"period": 14, "low": 30.0, "high": 70.0},
            _rsi_reversal,
            _refuse_rsi,
        ),
        Strategy(
            "bollinger",
            "Buys when the close comes back above the lower band, sells when back below the upper one.",
            {"period": 20, "deviations": 2.0},
            _bollinger,
            _refuse_bollinger,
        ),
        Strategy(
            "cvd_divergence",
            "Buys when CVD rises against a falling price, sells when it falls against a rising one.",
            {"period": 20, "share": 0.1},
            _cvd_divergence,
            _refuse_cvd,
        ),
        Strategy(
            "grid",
            "Buys at each of some levels below the first open, and sells each purchase a level higher.",
            {},
            _silent,
            policy={"plan": "grid", "amount": 500.0, "levels": 10, "step": 0.01},
        ),
        Strategy(
            "dca",
            "Buys for the same amount again and again, whatever the price.",
            {},
            _silent,
            policy={"plan": "dca", "amount": 100.0, "every": 86_400.0},
        ),
    )
}


def names(options: SignalOptions | None = None) -> list[str]:
    """Every strategy there is: those that ship, of live signals too, and those of the settings' own."""
    from signals.options import SignalOptions
    from signals.strategies import names as of_signals

    return sorted({*STRATEGIES, *of_signals(options or SignalOptions())})


def find(name: str, options: SignalOptions | None = None) -> Strategy:
    """The strategy of this name.

    Args:
        name: as on the command line.
        options: the settings of signals, which may name strategies of one's own.

    Raises:
        WrongUse: there is none.
    """
    if name in STRATEGIES:
        return STRATEGIES[name]
    if name not in names(options):
        raise WrongUse(f"unknown strategy {name!r}: use one of {', '.join(names(options))}")
    return _of_signals(name, options)


def _of_signals(name: str, options: SignalOptions | None) -> Strategy:
    from signals.options import SignalOptions
    from signals.strategies import known

    return live(known(name, options or SignalOptions()))


def live(strategy: LiveStrategy) -> Strategy:
    """A strategy of live signals: the same function over the same arrays, changes found the same way."""
    from signals.engine import evaluate, explain
    from signals.higher import resampled
    from signals.rows import changes

    settings = strategy.configuration
    defaults: dict[str, Number] = {
        f"{rule['kind']}.{key}": value
        for rule in settings["rules"]
        for key, value in rule.items()
        if isinstance(value, int | float)
    }
    defaults |= {f"thresholds.{key}": value for key, value in settings["thresholds"].items()}

    def changed(values: Mapping[str, Number]) -> LiveStrategy:
        return strategy.changed({key: value for key, value in values.items() if value != defaults[key]})

    def signals(frame: CandleFrame, values: Mapping[str, Number]) -> Signals:
        higher = {each: resampled(frame, each) for each in strategy.confirming(frame.timeframe)}
        types = evaluate(changed(values), frame, higher=higher).type
        where = np.array(changes(types, None), dtype=np.int64)
        return Signals(where, types[where].astype(np.int64))

    def reasons(frame: CandleFrame, values: Mapping[str, Number], candles: Integers) -> list[tuple[str, ...]]:
        higher = {each: resampled(frame, each) for each in strategy.confirming(frame.timeframe)}
        said = explain(changed(values), frame, candles.tolist(), higher)
        return [_agreeing(each.contributions) for each in said]

    def confidence(frame: CandleFrame, values: Mapping[str, Number], candles: Integers) -> Floats:
        higher = {each: resampled(frame, each) for each in strategy.confirming(frame.timeframe)}
        said = evaluate(changed(values), frame, higher=higher).confidence[candles]
        return np.nan_to_num(said)

    return Strategy(
        strategy.name,
        f"The live strategy {strategy.name!r}, traded at every change of its signal's type.",
        defaults,
        signals,
        policy=dict(strategy.policy),
        reasons=reasons,
        confidence=confidence,
    )


def _agreeing(contributions: Mapping[str, float]) -> tuple[str, ...]:
    """The rules whose part of the score has its sign, the weightiest first."""
    total = sum(contributions.values())
    agreeing = [name for name, part in contributions.items() if part * total > 0.0]
    return tuple(sorted(agreeing, key=lambda name: -abs(contributions[name])))
