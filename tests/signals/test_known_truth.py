import numpy as np
import pytest
from known_truth import TOLD, coefficients, kept, planted, walk

from signals.options import HORIZONS
from signals.strategies import SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_nothing_is_known_of_a_random_walk(name: str) -> None:
    found = [c for seed in range(12) for c in coefficients(SHIPPED[name](), walk(seed, 3000), HORIZONS)]
    assert all(each.count > 10 for each in found)
    # 48 coefficients, one in twenty of which leaves its band: more than 8 only once in a thousand times.
    assert sum(each.is_outside for each in found) <= 8


def test_scores_that_know_the_walk_are_found_out() -> None:
    frame = walk(1, 3000)
    later = np.append(frame.close[16:], np.full(16, frame.close[-1]))
    frame.imbalance_mean[:] = 100 * np.clip((later / frame.close - 1) / 0.02, -1, 1)
    (found,) = coefficients(TOLD, frame, (16,))
    assert found.is_outside
    assert found.value is not None
    assert found.value > 0.5


def test_promises_are_kept_where_the_chance_is_planted() -> None:
    results = [kept(seed, 5000, 1000) for seed in range(4)]
    bins, outside, chance = map(sum, zip(*results, strict=True))
    assert bins >= 24
    assert outside <= chance + 3.1 * np.sqrt(chance)


def test_the_planted_chance_is_the_one_that_is_found() -> None:
    frame = planted(7, 300)
    moves = frame.close[16::17] / frame.open[1::17] - 1
    told = frame.imbalance_mean[::17] / 100
    assert np.corrcoef(np.abs(told), np.sign(moves) == np.sign(told))[0, 1] > 0.15
