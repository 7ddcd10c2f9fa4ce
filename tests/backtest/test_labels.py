from decimal import Decimal

import pytest

from backtest.labels import annual, figures, label
from backtest.setup import setup


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


def test_a_few_days_are_not_blown_up_to_a_year():
    assert annual(1e6, 0.0, 1) == "not said of 1 day"
    assert annual(1e6, 3.0, 29) == "not said of 29 days"
    assert annual(12.5, 40.0, 365) == "+12.5 % (volatility 40 %)"


def test_money_of_the_database_prints_as_a_number():
    stored = {"avg_loss": Decimal("0E-10"), "total_fees": Decimal("19.9300000000"), "total_trades": 1}
    assert figures(stored, {}, 1) == [
        ("positions", "1", ""),
        ("average loss", "+0", ""),
        ("fees", "19.93", ""),
    ]
