"""A strategy: weighted rules with their thresholds, named by a hash of its configuration."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from market import Timeframe
from market.errors import WrongUse
from signals.frame import COLUMNS
from signals.options import Cautions, SignalOptions, StrategyOptions, Thresholds
from signals.own import load
from signals.registry import locate
from signals.rules import (
    KINDS,
    BollingerReversal,
    BookPressure,
    DirectionalTrend,
    EmaTrend,
    FlowDivergence,
    FlowTrend,
    MacdMomentum,
    RsiMomentum,
    RsiReversal,
    Rule,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

# What the warnings read; every strategy computes these beside what its rules cite.
CAUTION_CITES = ("relative_volume_20", "atr_14", "atr_50", "spread_bps_mean")


@dataclass(frozen=True, slots=True)
class Weighted:
    """A rule and its weight in the mean."""

    rule: Rule
    weight: float


@dataclass(frozen=True)
class Strategy:
    """A pure function from closed candles to signals, as data.

    Attributes:
        name: as in configuration and tables.
        rules: each with its weight; at most one of a kind.
        thresholds: from score to type and level.
        cautions: from where on a signal carries a warning.
        confirm: higher timeframes on which the same rules are asked too.
        confirm_weight: the weight of each of them in the mean.
        timeframes: of the candles that it is meant for; all where there are none.
        source: what its code is known by, where it does not ship.
        policy: how a backtest trades it (fraction, stop, target, …); no part of its signals.
    """

    name: str
    rules: tuple[Weighted, ...]
    thresholds: Thresholds = field(default_factory=Thresholds)
    cautions: Cautions = field(default_factory=Cautions)
    confirm: tuple[Timeframe, ...] = ()
    confirm_weight: float = 1.0
    timeframes: tuple[Timeframe, ...] = ()
    source: str = ""
    policy: tuple[tuple[str, float], ...] = ()

    @cached_property
    def cites(self) -> tuple[str, ...]:
        """Columns and indicators that rules and warnings read, each once, in a fixed order."""
        cited = [name for weighted in self.rules for name in weighted.rule.cites]
        return tuple(dict.fromkeys([*cited, *CAUTION_CITES]))

    @cached_property
    def warmup(self) -> int:
        """Candles that a pass reads before its block."""
        indicators = (locate(name)[0] for name in self.cites if name not in COLUMNS)
        return max(self.cautions.young_candles, *(bound.warmup for bound in indicators))

    @cached_property
    def trade_candles(self) -> int:
        """Of how many candles, up to the one that is scored, its rules read the trades; mostly of none."""
        indicators = (locate(name)[0] for name in self.cites if name not in COLUMNS)
        return max((bound.warmup + 1 for bound in indicators if bound.reads_trades), default=0)

    @cached_property
    def configuration(self) -> dict[str, Any]:
        """Everything that decides its results, as plain data."""
        return {
            "name": self.name,
            "rules": [{"kind": w.rule.kind, "weight": w.weight, **_parameters(w.rule)} for w in self.rules],
            "thresholds": asdict(self.thresholds),
            "cautions": asdict(self.cautions),
            "confirm": {timeframe.value: self.confirm_weight for timeframe in self.confirm},
            "source": self.source,
        }

    def confirming(self, timeframe: Timeframe) -> tuple[Timeframe, ...]:
        """The timeframes that confirm its signals on candles of `timeframe`."""
        return tuple(each for each in self.confirm if each.microseconds > timeframe.microseconds)

    @cached_property
    def unconfirmed(self) -> Strategy:
        """The same rules, asked on their own candles alone."""
        return replace(self, confirm=())

    @cached_property
    def config_hash(self) -> str:
        """SHA-256 of the canonical configuration, 16 hex digits."""
        text = json.dumps(self.configuration, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def changed(self, parameters: Mapping[str, float]) -> Strategy:
        """The strategy with some parameters set, as a sweep does.

        Args:
            parameters: `thresholds.strong`, `ema_trend.fast`, `book_pressure.weight`, … → value.

        Raises:
            WrongUse: there is no such parameter.
        """
        strategy = self
        for path, value in parameters.items():
            part, _, name = path.partition(".")
            strategy = strategy._with(part, name, value)
        return strategy

    def _with(self, part: str, name: str, value: float) -> Strategy:
        if part == "thresholds":
            return replace(self, thresholds=_set(self.thresholds, part, name, value))
        kinds = [weighted.rule.kind for weighted in self.rules]
        if part not in kinds:
            raise WrongUse(f"{self.name} has no {part!r}; it has thresholds, {', '.join(kinds)}")
        rules = list(self.rules)
        place = kinds.index(part)
        rules[place] = _set_rule(rules[place], part, name, value)
        return replace(self, rules=tuple(rules))


def trend() -> Strategy:
    """With the trend, the more the stronger it is: EMAs and ADX."""
    return Strategy("trend", (Weighted(EmaTrend(), 1.0), Weighted(DirectionalTrend(), 1.0)))


def momentum() -> Strategy:
    """With what moves: RSI and MACD."""
    return Strategy("momentum", (Weighted(RsiMomentum(), 1.0), Weighted(MacdMomentum(), 1.0)))


def mean_reversion() -> Strategy:
    """Against what has gone too far: Bollinger's bands, and the RSI's extremes."""
    return Strategy(
        "mean_reversion",
        (Weighted(BollingerReversal(), 1.0), Weighted(RsiReversal(), 0.5)),
    )


def order_flow() -> Strategy:
    """With those who buy and sell aggressively, above all against the price, and with the book."""
    return Strategy(
        "order_flow",
        (
            Weighted(FlowTrend(), 1.0),
            Weighted(FlowDivergence(), 1.0),
            Weighted(BookPressure(), 0.5),
        ),
    )


def composite() -> Strategy:
    """The four others weighed against one another, and asked again on the hour."""
    return Strategy(
        "composite",
        (
            Weighted(EmaTrend(), 1.0),
            Weighted(DirectionalTrend(), 0.5),
            Weighted(MacdMomentum(), 0.75),
            Weighted(RsiMomentum(), 0.25),
            Weighted(RsiReversal(), 0.75),
            Weighted(BollingerReversal(), 0.5),
            Weighted(FlowTrend(), 1.0),
            Weighted(FlowDivergence(), 0.5),
            Weighted(BookPressure(), 0.5),
        ),
        confirm=(Timeframe.H1,),
    )


SHIPPED = {made.__name__: made for made in (composite, trend, momentum, mean_reversion, order_flow)}


def shipped(name: str) -> Strategy:
    """The shipped strategy of this name.

    Raises:
        WrongUse: there is none.
    """
    return known(name, SignalOptions())


def known(name: str, options: SignalOptions) -> Strategy:
    """The strategy of this name: one's own, one that the configuration puts together, or a shipped one.

    Raises:
        WrongUse: there is none, or it is written wrongly.
    """
    own = load(options.folder) if options.folder else {}
    if name in own:
        found = own[name]
        return Strategy(
            name,
            (Weighted(found.rule, 1.0),),
            options.thresholds,
            options.cautions,
            found.confirm,
            timeframes=found.timeframes,
            source=found.source,
            policy=found.policy,
        )
    if name in options.strategy:
        return _put_together(name, options.strategy[name], options)
    if name not in SHIPPED:
        raise WrongUse(f"unknown strategy {name!r}: use one of {', '.join(names(options))}")
    return replace(SHIPPED[name](), thresholds=options.thresholds, cautions=options.cautions)


def names(options: SignalOptions) -> list[str]:
    """Every strategy that `known` knows."""
    own = load(options.folder) if options.folder else {}
    return sorted({*own, *options.strategy, *SHIPPED})


def configured(options: SignalOptions) -> list[Strategy]:
    """The strategies that the configuration lists, with its thresholds and cautions.

    Raises:
        WrongUse: it names one that does not exist.
    """
    return [known(name, options) for name in options.strategies]


def _put_together(name: str, wanted: StrategyOptions, options: SignalOptions) -> Strategy:
    rules: list[Weighted] = []
    for kind, parameters in wanted.rules.items():
        if kind not in KINDS:
            raise WrongUse(f"strategy {name}: unknown rule {kind!r}; use {', '.join(KINDS)}")
        weighted = Weighted(KINDS[kind](), 1.0)
        for parameter, value in parameters.items():
            weighted = _set_rule(weighted, f"strategy {name}: {kind}", parameter, value)
        rules.append(weighted)
    return Strategy(
        name,
        tuple(rules),
        wanted.thresholds or options.thresholds,
        options.cautions,
        wanted.confirm,
        wanted.confirm_weight,
        wanted.timeframes,
        policy=tuple(wanted.policy.items()),
    )


def _set_rule(weighted: Weighted, part: str, name: str, value: float) -> Weighted:
    changed: Weighted
    if name == "weight":
        changed = _set(weighted, part, name, value)
    else:
        changed = replace(weighted, rule=_set(weighted.rule, part, name, value))
    return changed


def _parameters(rule: Any) -> dict[str, float]:
    return {each.name: getattr(rule, each.name) for each in fields(rule)} if is_dataclass(rule) else {}


def _set(thing: Any, part: str, name: str, value: float) -> Any:
    known = {each.name: getattr(thing, each.name) for each in fields(thing)}
    if name not in known:
        raise WrongUse(f"{part} has no parameter {name!r}; it has {', '.join(known)}")
    kind = type(known[name])
    if not 0 < value < math.inf:
        raise WrongUse(f"{part}.{name} must be above 0, not {value:g}")
    if kind(value) != value:
        raise WrongUse(f"{part}.{name} must be a whole number, not {value:g}")
    try:
        return replace(thing, **{name: kind(value)})
    except ValueError as error:
        raise WrongUse(str(error)) from None
