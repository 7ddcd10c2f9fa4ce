import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from market.errors import WrongUse
from signals import registry
from signals.blocks import Covered, compute, passes
from signals.frame import Array, CandleFrame, Indices
from signals.registry import available, find, indicator, locate

MakeFrame = Callable[..., CandleFrame]


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


def registered(function: Callable[..., object], **options: Any) -> Iterator[None]:
    indicator(**options)(function)
    yield
    del registry._indicators[function.__name__]
    registry._bind.cache_clear()
    registry.locate.cache_clear()


@pytest.fixture
def own() -> Iterator[None]:
    def spread_of(high: Array, low: Array, timestamp: Indices, *, times: float = 1.5, lag: int = 3) -> Array:
        """The candle's range, times something."""
        return (high - low) * times

    yield from registered(spread_of, warmup=lambda times, lag: lag, outputs=())


@pytest.fixture
def broken() -> Iterator[None]:
    def cut_short(close: Array) -> Array:
        """One value too few."""
        return close[1:]

    yield from registered(cut_short, warmup=lambda: 0)


@pytest.mark.usefixtures("own")
def test_ones_own_is_known_by_name_with_its_typed_parameters(make_frame: MakeFrame) -> None:
    bound = find("spread_of_2.5")
    assert (bound.name, bound.warmup, bound.indicator.inputs) == (
        "spread_of_2.5_3", 3, ("high", "low", "timestamp"),
    )  # fmt: skip
    frame = make_frame(50)
    found = compute(frame, "spread_of_2.5")["spread_of"]
    assert np.array_equal(found, 2.5 * (frame.high - frame.low))
    assert "spread_of_1.5_3" in {each.default_name for each in available()}
    for wrong in ("spread_of_inf", "spread_of_2_1.5", "spread_of_x"):
        with pytest.raises(WrongUse, match=r"times|lag"):
            find(wrong)


@pytest.mark.usefixtures("broken")
def test_an_indicator_that_gives_other_lengths_is_named(make_frame: MakeFrame) -> None:
    with pytest.raises(ValueError, match="cut_short must give 1 arrays of 50 values"):
        compute(make_frame(50), "cut_short")


def test_a_name_of_ours_cannot_be_taken() -> None:
    def rsi(close: Array) -> Array:
        return close

    with pytest.raises(TypeError, match="'rsi' exists already"):
        indicator(warmup=lambda: 0)(rsi)
    assert find("rsi").name == "rsi_14"


def test_a_signature_that_says_too_little_is_refused() -> None:
    def of_nothing(*, period: int = 3) -> Array: ...
    def of_what(price: Array) -> Array: ...
    def untyped(close: Array, *, period=3) -> Array: ...  # type: ignore[no-untyped-def]
    def no_default(close: Array, *, period: int) -> Array: ...
    def of_text(close: Array, *, kind: str = "a") -> Array: ...

    for function, says in (
        (of_nothing, "reads nothing"),
        (of_what, "price is none of a candle frame's open, high"),
        (untyped, "period must be an int or a float with a default"),
        (no_default, "period must be an int or a float with a default"),
        (of_text, "kind must be an int or a float with a default"),
    ):
        with pytest.raises(TypeError, match=says):
            indicator(warmup=lambda: 0)(function)
        assert function.__name__ not in registry._indicators


@pytest.mark.parametrize(
    ("name", "full", "output"),
    [
        ("bbands_20_2.5.lower", "bbands_20_2.5", "lower"),
        ("bbands_20_2.5", "bbands_20_2.5", "upper"),
        ("macd.signal", "macd_12_26_9", "signal"),
        ("stoch_5_3_0_3_0.slowd", "stoch_5_3_0_3_0", "slowd"),
        ("rsi_14.rsi", "rsi_14", "rsi"),
    ],
)
def test_an_output_stands_behind_a_point(name: str, full: str, output: str) -> None:
    bound, found = locate(name)
    assert (bound.name, found) == (full, output)


@pytest.mark.parametrize("name", ["macd.sognal", "rsi_14.", ".rsi", "nothing.x"])
def test_an_output_that_is_not_there_is_one_clear_line(name: str) -> None:
    with pytest.raises(WrongUse):
        locate(name)


def test_passes_give_outputs_by_name(make_frame: MakeFrame) -> None:
    (part,) = passes(make_frame(100), 30, 50)
    bands = part.outputs(find("bbands_20_2.5"))
    assert np.array_equal(Covered(part)["bbands_20_2.5.lower"], bands["lower"], equal_nan=True)
    assert np.array_equal(part["bbands_20_2.5.lower"][part.lead :], bands["lower"], equal_nan=True)


def test_the_example_of_the_manual_is_an_indicator(make_frame: MakeFrame) -> None:
    page = Path(__file__).parents[2] / "docs" / "indicators.md"
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    try:
        exec(example, {"__name__": "manual"})
        frame = make_frame(60)
        assert compute(frame, "highest_5")["highest"][30] == frame.high[26:31].max()
    finally:
        registry._indicators.pop("highest", None)
        registry._bind.cache_clear()
        registry.locate.cache_clear()
