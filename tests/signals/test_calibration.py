from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.timeframe import MICROSECONDS, from_datetime
from signals.calibration import FEWEST, Calibration, cut_before, fit, plain
from signals.measures import wilson

shares = st.lists(st.tuples(st.integers(50, 90), st.floats(0, 1)), min_size=2, max_size=8)


def at(*moment: int) -> int:
    return from_datetime(datetime(*moment, tzinfo=UTC))  # type: ignore[arg-type,misc]


def test_the_latest_cut_lies_before_the_moment() -> None:
    assert cut_before(at(2026, 3, 17, 5)) == at(2026, 3, 1)
    assert cut_before(at(2026, 3, 1)) == at(2026, 2, 1)
    assert cut_before(at(2026, 3, 1) + 1) == at(2026, 3, 1)
    assert cut_before(at(2026, 1, 1)) == at(2025, 12, 1)


@given(st.integers(0, at(2100, 1, 1) // MICROSECONDS))
def test_cuts_follow_one_another_without_a_hole(second: int) -> None:
    moment = second * MICROSECONDS + 1
    cut = cut_before(moment)
    assert cut < moment <= cut + 31 * 86_400 * MICROSECONDS
    assert cut_before(cut + 1) == cut


def test_too_few_signals_give_no_calibration() -> None:
    score = np.linspace(0.2, 1.0, FEWEST)
    assert fit(score[1:], score[1:] > 0.5) is None
    assert fit(score, score > 0.5) is not None


def rising(weights: list[int], values: list[float]) -> list[float]:
    """The closest values that never fall, from their definition: the largest of the smallest means."""

    def mean(first: int, last: int) -> float:
        part = slice(first, last + 1)
        return float(np.average(values[part], weights=weights[part]))

    places = range(len(values))
    return [max(min(mean(a, b) for b in places[i:]) for a in places[: i + 1]) for i in places]


@given(shares)
def test_chances_are_the_closest_that_never_fall(bins: list[tuple[int, float]]) -> None:
    score, is_right = [], []
    for i, (count, share) in enumerate(bins):
        score += [(i + 1) / 10] * count
        is_right += [k < share * count for k in range(count)]
    found = fit(np.array(score * 4), np.array(is_right * 4))
    assert found is not None
    assert sum(each.count for each in found) == 4 * len(score)
    assert sum(each.right for each in found) == 4 * sum(is_right)
    expected = rising([each.count for each in found], [each.right / each.count for each in found])
    assert [each.chance for each in found] == pytest.approx(expected)
    lowest = [each.lowest for each in found]
    assert lowest == sorted(set(lowest))
    assert lowest[0] == pytest.approx(0.1)


def test_the_order_and_the_sign_of_scores_do_not_matter() -> None:
    rng = np.random.default_rng(3)
    score = rng.uniform(0.2, 1.0, 1000)
    is_right = rng.random(1000) < score
    order = rng.permutation(1000)
    signed = score * rng.choice([-1, 1], 1000)
    assert fit(score, is_right) == fit(signed[order], is_right[order])


def test_confidence_is_the_chance_of_the_bin_that_holds_the_score() -> None:
    bins = [
        {"lowest": 0.2, "count": 100, "right": 40, "chance": 0.4},
        {"lowest": 0.5, "count": 100, "right": 60, "chance": 0.6},
    ]
    calibration = Calibration.parse(7, 0, bins)
    scores = (0.1, 0.2, -0.49, 0.5, -1.0)
    assert [calibration.confidence(score) for score in scores] == [40.0, 40.0, 40.0, 60.0, 60.0]
    assert plain(calibration.bins) == bins


def test_held_out_bins_lie_within_their_bands_where_the_hit_rate_is_planted() -> None:
    outside = total = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        score = rng.uniform(0.2, 1.0, 60_000) * rng.choice([-1, 1], 60_000)
        is_right = rng.random(60_000) < 0.35 + 0.4 * np.round(np.abs(score), 1)
        bins = fit(score[:50_000], is_right[:50_000])
        assert bins is not None
        calibration = Calibration(1, 0, bins)
        promised = np.array([calibration.confidence(each) for each in score[50_000:]])
        for confidence in np.unique(promised):
            inside = promised == confidence
            low, high = wilson(float(is_right[50_000:][inside].mean()), int(inside.sum()))
            outside += not low <= confidence / 100 <= high
            total += 1
    assert total > 30
    # A band of 95% is left by one in twenty; so many or more only once in a thousand such tests.
    assert outside <= 0.05 * total + 3.1 * np.sqrt(0.0475 * total)
