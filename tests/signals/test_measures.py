import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from signals.measures import apart, information_coefficient, wilson

numbers = st.lists(st.integers(-5, 5), min_size=3, max_size=30)


@given(st.data(), numbers)
def test_the_coefficient_is_the_correlation_of_mean_ranks(data: st.DataObject, scores: list[int]) -> None:
    moves = data.draw(st.lists(st.integers(-5, 5), min_size=len(scores), max_size=len(scores)))

    def ranks(values: list[int]) -> list[float]:
        return [sum(v < value for v in values) + sum(v == value for v in values) / 2 for value in values]

    found = information_coefficient(np.array(scores, dtype=float), np.array(moves, dtype=float))
    assert found.count == len(scores)
    if len(set(scores)) == 1 or len(set(moves)) == 1:
        assert found.value is None
        assert not found.is_outside
    else:
        assert found.value == pytest.approx(np.corrcoef(ranks(scores), ranks(moves))[0, 1], abs=1e-12)


def test_scores_that_know_nothing_leave_the_band_one_time_in_twenty() -> None:
    rng = np.random.default_rng(5)
    # Many scores are equal, as those of a rule that mostly says 0.
    found = [
        information_coefficient(np.maximum(rng.normal(size=200), 0.5), rng.standard_t(3, 200))
        for _ in range(2000)
    ]
    assert 70 < sum(each.is_outside for each in found) < 130


def test_scores_that_know_something_leave_it() -> None:
    rng = np.random.default_rng(6)
    score = rng.normal(size=500)
    found = information_coefficient(score, 0.3 * score + rng.normal(size=500))
    assert found.is_outside
    assert found.value == pytest.approx(0.28, abs=0.1)
    assert found.band == pytest.approx(1.96 / np.sqrt(499), rel=1e-4)


def test_wilson_bands_are_the_published_ones() -> None:
    # Newcombe, Two-sided confidence intervals for the single proportion, 1998, table I, method 3.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0 / 20, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1 / 29, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


@given(st.lists(st.integers(0, 200), max_size=60), st.integers(1, 20))
def test_samples_that_are_taken_do_not_overlap(moments: list[int], length: int) -> None:
    times = np.array(sorted(moments), dtype=np.int64)
    taken = times[apart(times, length)].tolist()
    expected: list[int] = []
    for moment in times.tolist():
        if not expected or moment >= expected[-1] + length:
            expected.append(moment)
    assert taken == expected
