"""The pure heart: closed candles and a strategy in, a score, type and confidence per candle out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from signals.blocks import Covered, passes
from signals.cautions import warnings_of
from signals.frame import Remembered
from signals.higher import Higher, seen, seen_at
from signals.kernel import compiled
from signals.rules import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from market.timeframe import Timeframe
    from signals.frame import Array, CandleFrame
    from signals.options import Thresholds
    from signals.rules import Rule
    from signals.strategies import Strategy

Types = npt.NDArray[np.int8]


class SignalType(StrEnum):
    """What a signal says, from sell to buy; `CODES` numbers them -2 … 2."""

    STRONG_SELL = "STRONG_SELL"
    SELL = "SELL"
    NEUTRAL = "NEUTRAL"
    BUY = "BUY"
    STRONG_BUY = "STRONG_BUY"


CODES = {kind: code for code, kind in enumerate(SignalType, -2)}
TYPES = {code: kind for kind, code in CODES.items()}
NO_HIGHER: Higher = MappingProxyType({})
_POINTWISE = frozenset(KINDS.values())
UNDEFINED = -128
"""The code where a strategy has no opinion: before it is warm, or without its quorum."""


@dataclass(frozen=True, slots=True, eq=False)
class SignalSeries:
    """One value per candle.

    Attributes:
        score: -1 … 1; NaN where undefined.
        type: int8 codes -2 (STRONG_SELL) … 2 (STRONG_BUY), UNDEFINED where the score is.
        confidence: 0 … 100, uncalibrated: 100 times |score|; NaN where undefined.
    """

    score: Array
    type: Types
    confidence: Array


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one candle's signal is what it is.

    Attributes:
        reasons: one line per rule with an opinion, the weightiest first.
        warnings: what to mind.
        values: every number that rules and warnings read, by name; what is unknown is left out.
        contributions: each rule's part of the score.
    """

    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    values: dict[str, float]
    contributions: dict[str, float]


def evaluate(
    strategy: Strategy, frame: CandleFrame, start: int = 0, higher: Higher = NO_HIGHER
) -> SignalSeries:
    """The signals of the candles of `frame` from index `start` on.

    A candle's values depend on it and on earlier candles back to `signals.blocks.anchor` only: not
    on later ones, nor on where the frame begins, if it begins there or before. The same holds for the
    higher candles that it sees.

    Args:
        strategy: what to evaluate.
        frame: closed candles.
        start: index of the first candle wanted.
        higher: closed candles of the timeframes that confirm it; one that is missing abstains.
    """
    score = np.full(len(frame) - start, np.nan)
    opinions = _opinions(strategy, frame, start, higher)
    for part in passes(frame, strategy.warmup, start):
        first = part.start - start
        block = slice(first, first + len(part.frame) - part.lead)
        total, weight = _weigh(strategy, Covered(part))
        is_quorate = _quorate(strategy, weight)
        for opinion in opinions.values():
            _add(total, weight, float(strategy.confirm_weight), opinion[block])
        np.divide(total, weight, out=score[block], where=is_quorate)
    return SignalSeries(score, type_codes(score, strategy.thresholds), 100.0 * np.abs(score))


def explain(
    strategy: Strategy,
    frame: CandleFrame,
    bars: Sequence[int],
    higher: Higher = NO_HIGHER,
) -> list[Explanation]:
    """Reasons and warnings of some candles of `frame`.

    Args:
        strategy: what was evaluated.
        frame: the candles that it was evaluated on.
        bars: their indices, ascending.
        higher: the higher candles that it was evaluated with.
    """
    explanations: list[Explanation] = []
    wanted = np.asarray(bars, dtype=np.int64)
    if not len(wanted):
        return explanations
    first = int(wanted[0])
    opinions = _opinions(strategy, frame, first, higher)
    for part in passes(frame, strategy.warmup, first):
        stop = part.start + len(part.frame) - part.lead
        inside = wanted[(wanted >= part.start) & (wanted < stop)]
        if len(inside):
            covered = Covered(part)
            scores = {w.rule.kind: _score(w.rule, covered) for w in strategy.rules}
            for bar in inside.tolist():
                said = {name: float(opinion[bar - first]) for name, opinion in opinions.items()}
                explanations.append(_explain(strategy, covered, scores, bar, said))
    return explanations


def type_codes(score: Array, thresholds: Thresholds) -> Types:
    """Type codes of scores; UNDEFINED where a score is NaN."""
    return _codes(score, thresholds.weak, thresholds.strong)


@compiled
def _codes(score: Array, weak: float, strong: float) -> Types:
    codes = np.empty(len(score), dtype=np.int8)
    for i in range(len(score)):
        size = abs(score[i])
        code = 2 if size >= strong else 1 if size >= weak else 0
        codes[i] = UNDEFINED if np.isnan(size) else code if score[i] > 0.0 else -code
    return codes


def level(confidence: float, thresholds: Thresholds, *, is_calibrated: bool) -> str:
    """LOW, MEDIUM or HIGH; always LOW without a calibration that says what confidence is worth."""
    if not is_calibrated or confidence < thresholds.medium:
        return "LOW"
    return "HIGH" if confidence >= thresholds.high else "MEDIUM"


def _opinions(
    strategy: Strategy, frame: CandleFrame, start: int, higher: Higher
) -> Mapping[Timeframe, Array]:
    """What the rules say on each higher timeframe, as the candles of `frame` from `start` on see it."""
    opinions: dict[Timeframe, Array] = {}
    for timeframe in strategy.confirming(frame.timeframe):
        candles = higher.get(timeframe)
        if candles is None or start >= len(frame):
            continue
        since = candles.find(seen_at(frame.timeframe, int(frame.timestamp[start]), timeframe))
        opinions[timeframe] = seen(frame, start, candles, since, _scores(strategy, candles, since))
    return opinions


def _scores(strategy: Strategy, candles: CandleFrame, since: int) -> Array:
    """What the rules say on higher candles from index `since` on, which sixty lower ones may ask for."""
    if candles.memory is None or since == len(candles):
        return evaluate(strategy.unconfirmed, candles, since).score
    begin, until = int(candles.timestamp[since]), int(candles.timestamp[-1])
    name = strategy.unconfirmed.config_hash
    known = candles.memory.get(name)
    if known is None or known.begin != begin or known.until != until:
        score = evaluate(strategy.unconfirmed, candles, since).score
        known = candles.memory[name] = Remembered(begin, begin, until, {"score": score}, None)
    return known.outputs["score"]


def _weigh(strategy: Strategy, covered: Covered) -> tuple[Array, Array]:
    """The weighted sum of the rules with an opinion, and their weight, over the block."""
    total = np.zeros(len(covered.part.frame) - covered.part.lead)
    weight = np.zeros(len(total))
    for weighted in strategy.rules:
        score = _score(weighted.rule, covered)
        if score.shape != total.shape or not _add(total, weight, float(weighted.weight), score):
            raise ValueError(f"{weighted.rule.kind} must score each candle from -1 to 1, or NaN")
    return total, weight


def _score(rule: Rule, covered: Covered) -> Array:
    """A rule's scores of the candles that are covered."""
    # One's own may look back over candles before those; the rules that ship do not.
    if type(rule) in _POINTWISE:
        return rule.score(covered)
    return np.asarray(rule.score(covered.part), dtype=np.float64)[covered.part.lead :]


@compiled
def _add(total: Array, weight: Array, share: float, score: Array) -> bool:
    """Add the scores that are an opinion, and their weight; False where one is beyond -1 … 1."""
    is_beyond = False
    for i in range(len(total)):
        has_opinion = not np.isnan(score[i])
        total[i] += share * score[i] if has_opinion else 0.0
        weight[i] += share if has_opinion else 0.0
        is_beyond |= abs(score[i]) > 1.0
    return not is_beyond


def _quorate(strategy: Strategy, weight: Array) -> npt.NDArray[np.bool_]:
    full = sum(weighted.weight for weighted in strategy.rules)
    enough: npt.NDArray[np.bool_] = (weight > 0.0) & (weight >= strategy.thresholds.quorum * full)
    return enough


def _explain(
    strategy: Strategy,
    covered: Covered,
    scores: dict[str, Array],
    bar: int,
    said: Mapping[Timeframe, float],
) -> Explanation:
    part = covered.part
    i = bar - part.start
    values = {name: float(covered[name][i]) for name in strategy.cites}
    scored = {kind: float(score[i]) for kind, score in scores.items()}
    active = [w for w in strategy.rules if not np.isnan(scored[w.rule.kind])]
    silent = [w.rule.kind for w in strategy.rules if w not in active]
    heard = {str(timeframe): score for timeframe, score in said.items() if not np.isnan(score)}
    weight = sum(w.weight for w in active) + strategy.confirm_weight * len(heard)
    shares = {w.rule.kind: w.weight * scored[w.rule.kind] / weight for w in active}
    shares |= {name: strategy.confirm_weight * score / weight for name, score in heard.items()}
    reasons = {w.rule.kind: w.rule.reason(values) for w in active}
    reasons |= {name: f"on {name} candles the same rules score {score:+.2f}" for name, score in heard.items()}
    overall = sum(shares.values())
    against = {
        name: score
        for name, score in heard.items()
        if score * overall < 0 and abs(score) >= strategy.thresholds.weak
    }
    return Explanation(
        tuple(
            f"{reasons[name]} [{shares[name]:+.2f}]" for name in sorted(shares, key=lambda n: -abs(shares[n]))
        ),
        tuple(warnings_of(part, part.lead + i, values, silent, against, strategy.cautions)),
        {name: value for name, value in values.items() if not np.isnan(value)},
        shares,
    )
