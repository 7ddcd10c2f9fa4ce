"""What can be set about signals, with the defaults; free of numpy, so that settings load fast."""

from dataclasses import dataclass, field
from pathlib import Path

from market import Timeframe

HORIZON = 16
"""Candles after a signal at whose end confidence asks whether it was right."""
HORIZONS = (1, 4, HORIZON, 64)
MOST_CANDLES = 1_000
"""The longest horizon."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How a score becomes a type, and a calibrated confidence a level.

    Attributes:
        strong: |score| from which a signal is STRONG_BUY or STRONG_SELL.
        weak: |score| from which it is BUY or SELL; below, NEUTRAL.
        quorum: share of the strategy's weight that must have an opinion, or there is no signal.
        medium: confidence from which the level is MEDIUM; an uncalibrated one is always LOW.
        high: confidence from which it is HIGH.
    """

    strong: float = 0.5
    weak: float = 0.2
    quorum: float = 0.5
    medium: float = 55.0
    high: float = 65.0

    def __post_init__(self) -> None:
        if not 0 < self.weak <= self.strong <= 1:
            raise ValueError("thresholds need 0 < weak <= strong <= 1")
        if not 0 < self.quorum <= 1:
            raise ValueError("thresholds need 0 < quorum <= 1")
        if not 0 <= self.medium <= self.high <= 100:
            raise ValueError("thresholds need 0 <= medium <= high <= 100")


@dataclass(frozen=True, slots=True)
class Cautions:
    """From where on a signal carries a warning.

    Attributes:
        thin_volume: volume below this share of the last 20 candles' mean.
        high_volatility: ATR(14) above this multiple of ATR(50).
        wide_spread_bps: mean spread above this, in basis points.
        young_candles: fewer candles than this since a hole or the beginning of the data.
    """

    thin_volume: float = 0.25
    high_volatility: float = 2.0
    wide_spread_bps: float = 20.0
    young_candles: int = 100


@dataclass(frozen=True, slots=True)
class StrategyOptions:
    """A table [signals.strategy.NAME]: a strategy that is put together from rules.

    Attributes:
        rules: the kind of each rule and its parameters, among them `weight`, 1 where it is left out.
        timeframes: of the candles that it is evaluated on; all where there are none.
        confirm: higher timeframes on which the same rules are asked too.
        confirm_weight: the weight of each of them in the mean.
        thresholds: its own, where they differ from those of every strategy.
        policy: how a backtest trades it: fraction, stop, target, …
    """

    rules: dict[str, dict[str, float]]
    timeframes: tuple[Timeframe, ...] = ()
    confirm: tuple[Timeframe, ...] = ()
    confirm_weight: float = 1.0
    thresholds: Thresholds | None = None
    policy: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.rules:
            raise ValueError("a strategy needs a rule, such as [signals.strategy.NAME.rules.ema_trend]")
        if not self.confirm_weight > 0:
            raise ValueError("confirm_weight must be above 0")


@dataclass(frozen=True, slots=True)
class SignalOptions:
    """The [signals] table of the configuration.

    Attributes:
        strategies: names of the strategies that `signals run` and `signals compute` evaluate.
        strategy: those that are put together from rules here, by name.
        folder: holds Python files with strategies of one's own; None where there are none.
        time_limit: seconds that a strategy of one's own may take for one read of candles.
        indicators: names whose values are kept in the table `indicators`.
        thresholds: of every strategy.
        cautions: of every strategy.
        horizons: after how many candles it is asked what became of a signal; 16 is always among them,
            since confidence is the chance to be right there.
    """

    strategies: tuple[str, ...] = ("composite",)
    strategy: dict[str, StrategyOptions] = field(default_factory=dict)
    folder: Path | None = None
    time_limit: float = 10.0
    indicators: tuple[str, ...] = ("rsi_14", "atr_14", "cvd_20")
    thresholds: Thresholds = field(default_factory=Thresholds)
    cautions: Cautions = field(default_factory=Cautions)
    horizons: tuple[int, ...] = HORIZONS

    def __post_init__(self) -> None:
        if HORIZON not in self.horizons or not 0 < min(self.horizons) <= max(self.horizons) <= MOST_CANDLES:
            raise ValueError(f"horizons must lie between 1 and {MOST_CANDLES} candles, {HORIZON} among them")
