"""The pure heart: closed candles and a strategy in, a score, type and confidence per candle out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from signals.blocks import Pass, passes
from signals.cautions import warnings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from signals.frame import Array, CandleFrame
    from signals.options import Thresholds
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


def evaluate(strategy: Strategy, frame: CandleFrame, start: int = 0) -> SignalSeries:
    """The signals of the candles of `frame` from index `start` on.

    A candle's values depend on it and on earlier candles back to `signals.blocks.anchor` only: not
    on later ones, nor on where the frame begins, if it begins there or before.

    Args:
        strategy: what to evaluate.
        frame: closed candles.
        start: index of the first candle wanted.
    """
    score = np.full(len(frame), np.nan)
    for part in passes(frame, strategy.warmup, start):
        block = _score(strategy, part)[part.lead :]
        score[part.start : part.start + len(block)] = block
    score = score[start:]
    return SignalSeries(score, type_codes(score, strategy.thresholds), 100.0 * np.abs(score))


def explain(strategy: Strategy, frame: CandleFrame, bars: Sequence[int]) -> list[Explanation]:
    """Reasons and warnings of some candles of `frame`.

    Args:
        strategy: what was evaluated.
        frame: the candles that it was evaluated on.
        bars: their indices, ascending.
    """
    explanations: list[Explanation] = []
    wanted = np.asarray(bars, dtype=np.int64)
    if not len(wanted):
        return explanations
    for part in passes(frame, strategy.warmup, int(wanted[0])):
        stop = part.start + len(part.frame) - part.lead
        inside = wanted[(wanted >= part.start) & (wanted < stop)]
        if len(inside):
            scores = {w.rule.kind: w.rule.score(part) for w in strategy.rules}
            explanations.extend(_explain(strategy, part, scores, int(i)) for i in inside)
    return explanations


def type_codes(score: Array, thresholds: Thresholds) -> Types:
    """Type codes of scores; UNDEFINED where a score is NaN."""
    codes = np.zeros(len(score), dtype=np.int8)
    codes[score >= thresholds.weak] = CODES[SignalType.BUY]
    codes[score >= thresholds.strong] = CODES[SignalType.STRONG_BUY]
    codes[score <= -thresholds.weak] = CODES[SignalType.SELL]
    codes[score <= -thresholds.strong] = CODES[SignalType.STRONG_SELL]
    codes[np.isnan(score)] = UNDEFINED
    return codes


def level(confidence: float, thresholds: Thresholds, *, is_calibrated: bool) -> str:
    """LOW, MEDIUM or HIGH; always LOW without a calibration that says what confidence is worth."""
    if not is_calibrated or confidence < thresholds.medium:
        return "LOW"
    return "HIGH" if confidence >= thresholds.high else "MEDIUM"


def _score(strategy: Strategy, part: Pass) -> Array:
    """The weighted mean of the rules with an opinion; NaN where they are fewer than the quorum."""
    total = np.zeros(len(part.frame))
    weight = np.zeros(len(part.frame))
    for weighted in strategy.rules:
        score = weighted.rule.score(part)
        has_opinion = ~np.isnan(score)
        total += np.where(has_opinion, weighted.weight * score, 0.0)
        weight += np.where(has_opinion, weighted.weight, 0.0)
    result = np.full(len(total), np.nan)
    np.divide(total, weight, out=result, where=_quorate(strategy, weight))
    return result


def _quorate(strategy: Strategy, weight: Array) -> npt.NDArray[np.bool_]:
    full = sum(weighted.weight for weighted in strategy.rules)
    enough: npt.NDArray[np.bool_] = (weight > 0.0) & (weight >= strategy.thresholds.quorum * full)
    return enough


def _explain(strategy: Strategy, part: Pass, scores: dict[str, Array], bar: int) -> Explanation:
    i = bar - part.start + part.lead
    values = {name: float(part[name][i]) for name in strategy.cites}
    scored = {kind: float(score[i]) for kind, score in scores.items()}
    active = [w for w in strategy.rules if not np.isnan(scored[w.rule.kind])]
    weight = sum(w.weight for w in active)
    shares = {w.rule.kind: w.weight * scored[w.rule.kind] / weight for w in active}
    active.sort(key=lambda w: -abs(shares[w.rule.kind]))
    silent = [w.rule.kind for w in strategy.rules if w not in active]
    return Explanation(
        tuple(f"{w.rule.reason(values)} [{shares[w.rule.kind]:+.2f}]" for w in active),
        tuple(warnings_of(part, i, values, silent, strategy.cautions)),
        {name: value for name, value in values.items() if not np.isnan(value)},
        shares,
    )
