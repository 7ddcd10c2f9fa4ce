import numpy as np
import pytest

from backtest.charts import equity_png, equity_text, thin

HOUR = 3_600_000_000


def walk(count):
    random = np.random.default_rng(3)
    times = 1_767_225_600_000_000 + np.arange(count) * HOUR
    return times, 10_000 * np.exp(np.cumsum(random.normal(0, 0.01, count)))


def test_thinning_keeps_the_outline():
    times, equity = walk(50_000)
    kept_times, kept = thin(times, equity, 400)
    assert len(kept) <= 402
    assert (kept_times[0], kept_times[-1]) == (times[0], times[-1])
    assert (kept.min(), kept.max()) == (equity.min(), equity.max())
    assert (np.diff(kept_times) > 0).all()


def test_what_fits_stays_as_it_is():
    times, equity = walk(100)
    assert thin(times, equity)[1] is equity


@pytest.mark.parametrize("count", [1, 2, 500])
def test_a_picture_and_letters_of_any_length(count):
    times, equity = walk(count)
    assert len(equity_png("title", times, equity)) > 5_000
    text = equity_text(times, equity, 80, 12)
    assert len(text.splitlines()) == 12
    assert "\x1b" not in text
    assert "01-01 00:00" in text


def test_a_flat_curve_draws():
    times, _ = walk(20)
    flat = np.full(20, 10_000.0)
    assert "10,000" in equity_text(times, flat)
    assert equity_png("flat", times, flat).startswith(b"\x89PNG")


def test_letters_again_draw_only_the_new_curve():
    times, equity = walk(50)
    first = equity_text(times, equity)
    equity_text(times, equity[::-1].copy())
    assert equity_text(times, equity) == first
