"""Rules: each looks at closed candles and scores them from -1 (sell) to 1 (buy), with its reason.

A rule reads columns and indicators by name. Where any of them is NaN it abstains. It works by plain
arithmetic only (no exp or tanh, whose last bit may depend on an array's length), so that one candle
scores the same alone and among a million. Its parameters are the fields of a frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from signals.kernel import compiled

if TYPE_CHECKING:
    from signals.frame import Array

Values = Mapping[str, float]


class Arrays(Protocol):
    """Gives columns and indicators as arrays by name; `signals.blocks.Pass` is one."""

    def __getitem__(self, name: str, /) -> Array:
        """The values of `close`, `rsi_14` or `macd_12_26_9.signal`."""


class Rule(Protocol):
    """What a strategy needs of a rule."""

    kind: ClassVar[str]

    @property
    def cites(self) -> tuple[str, ...]:
        """Columns and indicators that it reads."""

    def score(self, values: Arrays) -> Array:
        """Scores in [-1, 1]; NaN, an abstention, where anything it cites is NaN."""

    def reason(self, values: Values) -> str:
        """Why a candle scored as it did, with the numbers that it cites."""


@dataclass(frozen=True)
class EmaTrend:
    """With the trend: the fast EMA above the slow one buys, fully at `full` ATR(14) apart."""

    kind: ClassVar[str] = "ema_trend"
    fast: int = 12
    slow: int = 26
    full: float = 1.0

    @cached_property
    def cites(self) -> tuple[str, ...]:
        """Both averages and the ATR."""
        return f"ema_{self.fast}", f"ema_{self.slow}", "atr_14"

    def score(self, values: Arrays) -> Array:
        """The distance of the averages in ATRs over `full`, cut off at 1."""
        fast, slow, swing = (values[name] for name in self.cites)
        return _limited(_ratio(fast - slow, swing) / self.full)

    def reason(self, values: Values) -> str:
        """Both averages and their distance."""
        fast, slow, swing = (values[name] for name in self.cites)
        relation = "above" if fast > slow else "below" if fast < slow else "at"
        return (
            f"EMA({self.fast}) = {_text(fast)} {relation} EMA({self.slow}) = {_text(slow)},"
            f" {abs(fast - slow) / swing:.2f} ATR apart"
        )


@dataclass(frozen=True)
class DirectionalTrend:
    """With a strong trend: the larger of +DI and -DI wins, from an ADX of `low` on, fully at `full`."""

    kind: ClassVar[str] = "directional_trend"
    period: int = 14
    low: float = 20.0
    full: float = 40.0

    def __post_init__(self) -> None:
        if not self.low < self.full:
            raise ValueError("directional_trend needs low < full")

    @cached_property
    def cites(self) -> tuple[str, ...]:
        """The trend's strength, and both directions."""
        return tuple(f"{name}_{self.period}" for name in ("adx", "plus_di", "minus_di"))

    def score(self, values: Arrays) -> Array:
        """How far the ADX lies above `low`, signed by the direction."""
        strength, up, down = (values[name] for name in self.cites)
        return np.sign(up - down) * np.maximum(_limited((strength - self.low) / (self.full - self.low)), 0.0)

    def reason(self, values: Values) -> str:
        """The ADX, and what it belongs to."""
        strength, up, down = (values[name] for name in self.cites)
        name = f"ADX({self.period}) = {strength:.1f}"
        if strength < self.low:
            return f"{name} < {self.low:g}: no trend"
        relation = "above" if up > down else "below" if up < down else "at"
        return f"{name} with +DI {up:.1f} {relation} -DI {down:.1f}"


@dataclass(frozen=True)
class RsiMomentum:
    """With momentum: an RSI above 50 buys, fully at `full` points from there."""

    kind: ClassVar[str] = "rsi_momentum"
    period: int = 14
    full: float = 20.0

    @cached_property
    def cites(self) -> tuple[str, ...]:
        """The RSI."""
        return (f"rsi_{self.period}",)

    def score(self, values: Arrays) -> Array:
        """The distance from 50 over `full`, cut off at 1."""
        return _limited((values[self.cites[0]] - 50.0) / self.full)

    def reason(self, values: Values) -> str:
        """The RSI and its side."""
        strength = values[self.cites[0]]
        side = "above" if strength > 50 else "below" if strength < 50 else "at"
        return f"RSI({self.period}) = {strength:.1f} {side} 50"


@dataclass(frozen=True)
class RsiReversal:
    """Against exhaustion: 0 between the limits, ±0.5 at them, ±1 twenty points beyond."""

    kind: ClassVar[str] = "rsi_reversal"
    period: int = 14
    low: float = 30.0
    high: float = 70.0

    @cached_property
    def cites(self) -> tuple[str, ...]:
        """The RSI."""
        return (f"rsi_{self.period}",)

    def score(self, values: Arrays) -> Array:
        """Positive below `low` (oversold), negative above `high`."""
        return _exhaustion(values[self.cites[0]], self.low, self.high)

    def reason(self, values: Values) -> str:
        """The RSI against its limits."""
        strength = values[self.cites[0]]
        name = f"RSI({self.period}) = {strength:.1f}"
        if strength < self.low:
            return f"{name} < {self.low:g}"
        if strength > self.high:
            return f"{name} > {self.high:g}"
        return f"{name} between {self.low:g} and {self.high:g}"


@dataclass(frozen=True)
class MacdMomentum:
    """With momentum: a positive MACD histogram buys, fully at `full` ATR(14)."""

    kind: ClassVar[str] = "macd_momentum"
    fast: int = 12
    slow: int = 26
    signal: int = 9
    full: float = 0.25

    @cached_property
    def cites(self) -> tuple[str, ...]:
        """Histogram, line, signal line and ATR."""
        name = f"macd_{self.fast}_{self.slow}_{self.signal}"
        return f"{name}.histogram", f"{name}.macd", f"{name}.signal", "atr_14"

    def score(self, values: Arrays) -> Array:
        """The histogram in ATRs over `full`, cut off at 1."""
        return _limited(_ratio(values[self.cites[0]], values["atr_14"]) / self.full)

    def reason(self, values: Values) -> str:
        """The line against its signal line."""
        histogram, line, signal, _ = (values[name] for name in self.cites)
        relation = "above" if histogram > 0 else "below" if histogram < 0 else "at"
        name = f"MACD({self.fast}, {self.slow}, {self.signal})"
        return f"{name} = {_text(line)} {relation} its signal {_text(signal)}"


@dataclass(frozen=True)
class BollingerReversal:
    """Against stretched prices: 0 inside the bands, ±0.5 at a band, ±1 half a width beyond."""

    kind: ClassVar[str] = "bollinger_reversal"
    period: int = 20
    deviations: float = 2.0

    @cached_property
    def cites(self) -> tuple[str, ...]:
        """The close and the three bands."""
        name = f"bbands_{self.period}_{self.deviations:.10g}"
        return "close", f"{name}.lower", f"{name}.middle", f"{name}.upper"

    def score(self, values: Arrays) -> Array:
        """Positive below the lower band, negative above the upper one."""
        close, _, middle, upper = (values[name] for name in self.cites)
        return _stretch(close - middle, upper - middle)

    def reason(self, values: Values) -> str:
        """The close against the bands."""
        close, lower, _, upper = (values[name] for name in self.cites)
        bands = f"Bollinger({self.period}, {self.deviations:g})"
        if close <= lower:
            return f"close {_text(close)} at or below the lower {bands} band {_text(lower)}"
        if close >= upper:
            return f"close {_text(close)} at or above the upper {bands} band {_text(upper)}"
        return f"close {_text(close)} inside {bands} {_text(lower)} … {_text(upper)}"


@dataclass(frozen=True)
class FlowTrend:
    """With the flow: CVD that rises over the window buys, fully at `full` of the mean volume."""

    kind: ClassVar[str] = "flow_trend"
    period: int = 20
    full: float = 0.3

    @cached_property
    def cites(self) -> tuple[str, ...]:
        """The window's CVD, its slope, and the slope as a share of volume."""
        return tuple(f"{name}_{self.period}" for name in ("cvd", "cvd_slope", "cvd_trend"))

    def score(self, values: Arrays) -> Array:
        """The slope as a share of the mean volume, over `full`, cut off at 1."""
        return _limited(values[self.cites[2]] / self.full)

    def reason(self, values: Values) -> str:
        """CVD, slope and share."""
        total, slope, trend = (values[name] for name in self.cites)
        return (
            f"CVD over {self.period} candles = {_signed(total)}, slope {_signed(slope)} a candle"
            f" ({100 * trend:+.1f}% of volume)"
        )


@dataclass(frozen=True)
class FlowDivergence:
    """With the flow where it parts from the price: bought while it falls buys, fully at `full`."""

    kind: ClassVar[str] = "flow_divergence"
    period: int = 20
    full: float = 0.5

    @cached_property
    def cites(self) -> tuple[str, ...]:
        """How far CVD and price trend apart over the window, and the CVD."""
        return f"cvd_divergence_{self.period}", f"cvd_{self.period}"

    def score(self, values: Arrays) -> Array:
        """The divergence over `full`, cut off at 1."""
        return np.where(np.isnan(values[self.cites[1]]), np.nan, _limited(values[self.cites[0]] / self.full))

    def reason(self, values: Values) -> str:
        """The divergence, and which way it goes."""
        apart, total = (values[name] for name in self.cites)
        way = "the price falls behind the flow" if apart > 0 else "the price runs ahead of the flow"
        return f"CVD over {self.period} candles = {_signed(total)}, divergence {apart:+.2f}: {way}"


@dataclass(frozen=True)
class BookPressure:
    """With the book: more volume bid than asked buys, fully at `full` percent of imbalance."""

    kind: ClassVar[str] = "book_pressure"
    full: float = 50.0

    @cached_property
    def cites(self) -> tuple[str, ...]:
        """The mean imbalance inside the candle."""
        return ("imbalance_mean",)

    def score(self, values: Arrays) -> Array:
        """The imbalance over `full`, cut off at 1."""
        return _limited(values["imbalance_mean"] / self.full)

    def reason(self, values: Values) -> str:
        """The imbalance."""
        imbalance = values["imbalance_mean"]
        side = "bids" if imbalance >= 0 else "asks"
        return f"book imbalance {imbalance:+.1f}% over the candle: the {side} weigh more"


KINDS: dict[str, type[Rule]] = {
    rule.kind: rule
    for rule in (
        EmaTrend,
        DirectionalTrend,
        MacdMomentum,
        RsiMomentum,
        RsiReversal,
        BollingerReversal,
        FlowTrend,
        FlowDivergence,
        BookPressure,
    )
}
"""The rules that ship, by kind."""


@compiled
def _exhaustion(strength: Array, low: float, high: float) -> Array:
    """Half and more below `low`, less than minus a half above `high`, 0 between them."""
    result = np.empty_like(strength)
    for i in range(len(strength)):
        value = strength[i]
        if value < low:
            result[i] = min(0.5 + (low - value) / 40.0, 1.0)
        elif value > high:
            result[i] = -min(0.5 + (value - high) / 40.0, 1.0)
        else:
            result[i] = np.nan if np.isnan(value) else 0.0
    return result


@compiled
def _stretch(distance: Array, width: Array) -> Array:
    """Against a distance of `width` and more, half and more; NaN where the width is not above 0."""
    result = np.empty_like(distance)
    for i in range(len(distance)):
        position = distance[i] / width[i] if width[i] > 0.0 else np.nan
        size = min(0.5 + (abs(position) - 1.0), 1.0)
        if abs(position) < 1.0:
            result[i] = 0.0
        else:
            result[i] = np.nan if np.isnan(position) else -size if position > 0.0 else size
    return result


@compiled
def _limited(values: Array) -> Array:
    """The values cut off at -1 and 1; NaN stays."""
    result = np.empty_like(values)
    for i in range(len(values)):
        value = values[i]
        result[i] = 1.0 if value > 1.0 else -1.0 if value < -1.0 else value
    return result


@compiled
def _ratio(top: Array, bottom: Array) -> Array:
    """The quotient, NaN where bottom is not above 0."""
    result = np.empty_like(top)
    for i in range(len(top)):
        result[i] = top[i] / bottom[i] if bottom[i] > 0.0 else np.nan
    return result


def _text(value: float) -> str:
    return f"{value:,.6g}"


def _signed(value: float) -> str:
    return f"{value:+,.4g}"
