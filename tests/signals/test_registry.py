import pytest

from market.errors import WrongUse
from signals.registry import available, find


def test_every_default_name_finds_itself() -> None:
    for each in available():
        assert find(each.default_name).name == each.default_name
        assert each.summary


@pytest.mark.parametrize(
    ("name", "full"),
    [("rsi", "rsi_14"), ("rsi_7", "rsi_7"), ("macd_5", "macd_5_26_9"), ("bbands_20_2.5", "bbands_20_2.5")],
)
def test_parameters_left_out_are_defaults(name: str, full: str) -> None:
    assert find(name).name == full


def test_the_longest_known_name_wins() -> None:
    assert find("cvd_slope_30").indicator.name == "cvd_slope"
    assert find("cvd_30").indicator.name == "cvd"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rsl_14", "did you mean rsi_14"),
        ("nothing_at_all", "unknown indicator"),
        ("rsi_x", "whole number"),
        ("rsi_1", "must lie in 2 … 1000"),
        ("rsi_14_3", "too many parameters; rsi takes period"),
        ("rsi_2.5", "whole number"),
        ("bbands_20_nan", "must lie in"),
        ("", "unknown indicator"),
    ],
)
def test_a_wrong_name_is_one_clear_line(name: str, message: str) -> None:
    with pytest.raises(WrongUse, match=message) as caught:
        find(name)
    assert "\n" not in str(caught.value)
