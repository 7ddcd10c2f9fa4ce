import pytest

from backtest.labels import label
from backtest.run import setup


@pytest.mark.parametrize(
    ("strategy", "given", "expected"),
    [
        ("ema_cross", {}, "fast=12 slow=26"),
        ("ema_cross", {"slow": 50, "stop": 0.02}, "fast=12 slow=50 stop=0.02"),
        ("ema_cross", {"fraction": 0.5}, "fast=12 slow=26 fraction=0.5"),
        ("composite", {}, ""),
        ("composite", {"thresholds.weak": 0.3, "target": 0.1}, "thresholds.weak=0.3 target=0.1"),
    ],
)
def test_a_label_says_what_differs(strategy, given, expected):
    assert label(setup(strategy, given).config()) == expected
