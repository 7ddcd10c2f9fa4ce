import pytest

from backtest.account import Account
from backtest.grid import axis, number, parameter, setups
from market import MarketType, WrongUse


@pytest.mark.parametrize(
    ("text", "value"), [("12", 12), ("12.0", 12), ("0.25", 0.25), ("1e-3", 0.001), ("true", 1), ("No", 0)]
)
def test_numbers(text, value):
    assert number(text) == value
    assert type(number(text)) is type(value)


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "1,2"])
def test_what_is_no_number(text):
    with pytest.raises(WrongUse, match="number"):
        number(text)


def test_axes():
    assert axis("fast=5:20:5") == ("fast", [5, 10, 15, 20])
    assert axis("fast=5:9:3") == ("fast", [5, 8])
    assert axis("fast=3:5") == ("fast", [3, 4, 5])
    assert axis("stop=0.1:0.3:0.1") == ("stop", [0.1, 0.2, 0.3])
    assert axis("stop=0,0.5") == ("stop", [0, 0.5])
    assert axis("ema_trend.fast=7") == ("ema_trend.fast", [7])


@pytest.mark.parametrize(
    "text", ["fast", "fast=", "=5", "a=1:2:3:4", "a=5:1:1", "a=1:5:0", "a=1:5:-1", "a=0:1:1e-9"]
)
def test_axes_that_are_none(text):
    with pytest.raises(WrongUse):
        axis(text)


@pytest.mark.parametrize("text", ["fast", "fast=", "=3"])
def test_parameters_that_are_none(text):
    with pytest.raises(WrongUse, match="name=value"):
        parameter(text)


def test_setups_come_in_order_without_those_that_make_no_sense():
    found, left_out = setups("ema_cross", {"fast": [5, 20], "slow": [10, 30]}, {"stop": 0.01})
    assert [(s.values["fast"], s.values["slow"]) for s in found] == [(5, 10), (5, 30), (20, 30)]
    assert left_out == 1
    assert {s.policy.stop for s in found} == {0.01}


def test_the_policy_can_be_an_axis():
    found, _ = setups("ema_cross", {"stop": [0.01, 0.02]}, None, Account(market_type=MarketType.LINEAR))
    assert [s.policy.stop for s in found] == [0.01, 0.02]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({}, "at least one"),
        ({"fats": [1]}, "no parameter"),
        ({"fast": [50]}, "no combination"),
        ({"fast": range(2_000), "slow": range(2_000)}, "too many"),
        ({"shorts": [1]}, "no shorts"),
    ],
)
def test_grids_that_cannot_run(grid, message):
    with pytest.raises(WrongUse, match=message):
        setups("ema_cross", grid)
