"""Confidence: how often signals as strong as this one were right before. Pure.

A signal is right when its return from the first legal fill to the end of the horizon, signed by its direction
and after costs, is positive (`signals.outcomes`). A calibration maps |score| to the share that was right, in
bins whose shares never fall. It is fitted at a cut of the calendar, on outcomes whose horizon ended before
the cut, and never changes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from market.timeframe import from_datetime, to_datetime

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from signals.frame import Array, Flags

WINDOW = 20_000
"""Candles before the cut whose signals are counted."""
FEWEST = 400
"""With fewer signals than this there is no calibration."""
_FEWEST_IN_BIN = 200
_MOST_BINS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """Signals of about the same strength.

    Attributes:
        lowest: the smallest |score| that falls into it; the next bin's `lowest` ends it.
        count: how many there were.
        right: how many of them were right.
        chance: what it promises: the share that was right, pooled with neighbours where a stronger bin
            did worse than a weaker one.
    """

    lowest: float
    count: int
    right: int
    chance: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What |score| was worth before a cut.

    Attributes:
        id: of its row in `calibrations`.
        cutoff: microseconds UTC; it holds for signals after it, until the next one.
        bins: by rising `lowest`.
    """

    id: int
    cutoff: int
    bins: tuple[Bin, ...]

    @classmethod
    def parse(cls, number: int, cutoff: int, bins: Sequence[dict[str, Any]]) -> Self:
        """The calibration of a stored row."""
        return cls(number, cutoff, tuple(Bin(**each) for each in bins))

    def confidence(self, score: float) -> float:
        """The chance, in percent, that a signal of this score is right."""
        lowest = [each.lowest for each in self.bins]
        place = int(np.searchsorted(lowest, abs(score), side="right")) - 1
        return 100.0 * self.bins[max(place, 0)].chance


def cut_before(timestamp: int) -> int:
    """The latest cut before a moment, both microseconds UTC: cuts lie at the beginning of each month."""
    moment = to_datetime(timestamp - 1)
    return from_datetime(moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0))


def fit(scores: Array, is_right: Flags) -> tuple[Bin, ...] | None:
    """Bins of equal counts, their shares made to rise with |score|; None where there are too few signals.

    Args:
        scores: of the signals, in any order.
        is_right: what became of each.
    """
    if len(scores) < FEWEST:
        return None
    strength = np.abs(scores)
    wanted = min(len(scores) // _FEWEST_IN_BIN, _MOST_BINS)
    # Equal scores stay together: a bin begins at a score that the one below does not hold.
    lowest = np.unique(np.quantile(strength, np.arange(wanted) / wanted, method="lower"))
    places = np.searchsorted(lowest, strength, side="right") - 1
    counts = np.bincount(places, minlength=len(lowest))
    rights = np.bincount(places[is_right], minlength=len(lowest))
    chances = _rising(rights / counts, counts)
    return tuple(
        Bin(float(low), int(count), int(right), chance)
        for low, count, right, chance in zip(lowest, counts, rights, chances, strict=True)
    )


def plain(bins: Sequence[Bin]) -> list[dict[str, Any]]:
    """Bins as plain data, for the table."""
    return [asdict(each) for each in bins]


def _rising(shares: Array, counts: npt.NDArray[np.int64]) -> list[float]:
    """The closest shares that never fall: neighbours that do are pooled by their counts.

    Pool-adjacent-violators: Ayer et al., An empirical distribution function for sampling with incomplete
    information, 1955.
    """
    pools: list[tuple[float, int, int]] = []
    for share, count in zip(shares.tolist(), counts.tolist(), strict=True):
        mean, weight, width = share, count, 1
        while pools and pools[-1][0] >= mean:
            before, more, wide = pools.pop()
            mean = (mean * weight + before * more) / (weight + more)
            weight, width = weight + more, width + wide
        pools.append((mean, weight, width))
    return [mean for mean, _, width in pools for _ in range(width)]
