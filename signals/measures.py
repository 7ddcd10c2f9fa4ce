"""Measures of quality, each with its 95% band. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from signals.frame import Array, Indices

Z95 = 1.959963984540054
"""A normal variable lies within so many standard deviations with a chance of 95%."""


@dataclass(frozen=True, slots=True)
class Coefficient:
    """How scores and later moves go together.

    Attributes:
        value: the rank correlation, -1 … 1; None where it is not defined: fewer than three samples, or
            all scores or all moves equal.
        band: 95% of the values of scores that know nothing lie within ± this.
        count: how many samples.
    """

    value: float | None
    band: float | None
    count: int

    @property
    def is_outside(self) -> bool:
        """Whether the value is one that scores that know nothing rarely have."""
        return abs(self.value or 0.0) > (self.band or inf)


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95% band of a share: which chances could well have given it.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference, 1927.

    Args:
        share: of those that were counted.
        count: how many those were, at least 1.
    """
    spread = Z95 * Z95 / count
    centre = (share + spread / 2) / (1 + spread)
    half = Z95 * sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return centre - half, centre + half


def information_coefficient(score: Array, move: Array) -> Coefficient:
    """Spearman's rank correlation of scores and the moves that followed them.

    Its band holds for samples that do not overlap (`apart`): where scores say nothing the value has mean 0
    and variance 1 / (n - 1), ties or not.

    Args:
        score: -1 … 1.
        move: return after it, not signed by the score, without costs.
    """
    count = len(score)
    if count < 3:
        return Coefficient(None, None, count)
    scores, moves = _ranks(score), _ranks(move)
    scores, moves = scores - scores.mean(), moves - moves.mean()
    spread = sqrt(float(scores @ scores) * float(moves @ moves))
    value = float(scores @ moves) / spread if spread else None
    return Coefficient(value, Z95 / sqrt(count - 1), count)


def apart(timestamp: Indices, length: int) -> Indices:
    """Which of the moments, ascending, to take so that none follows another by less than `length`."""
    following = np.searchsorted(timestamp, timestamp + length).tolist()
    chosen: list[int] = []
    place = 0
    while place < len(timestamp):
        chosen.append(place)
        place = following[place]
    return np.array(chosen, dtype=np.int64)


def _ranks(values: Array) -> Array:
    """Ranks from 0; equal values share their mean rank."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: Array = (last - 1 - (counts - 1) / 2)[places]
    return mean
