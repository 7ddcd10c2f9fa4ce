"""Strategies that are wrong on purpose, and the right ones, as `signals check` sees them."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from market import Timeframe
from signals import registry
from signals.calibrate import Samples, samples
from signals.check import CHECKS, Difference, check
from signals.frame import CandleFrame
from signals.higher import Higher, resampled
from signals.registry import indicator
from signals.rows import SignalRow
from signals.rules import BookPressure
from signals.strategies import SHIPPED, Strategy, Weighted, shipped

MakeFrame = Callable[..., CandleFrame]
Array = np.ndarray


def above(frame: CandleFrame) -> Higher:
    return {Timeframe.H1: resampled(frame, Timeframe.H1)}


def differences(strategy: Strategy, frame: CandleFrame, count: int = 40) -> list[Difference]:
    found = list(check(strategy, frame, above(frame), count))
    assert {name for name, _ in found} == set(CHECKS)
    return [difference for _, difference in found if difference is not None]


@pytest.mark.parametrize("name", list(SHIPPED))
def test_shipped_strategies_are_sound(name: str, make_frame: MakeFrame) -> None:
    frame = make_frame(9000, holes=(500, 501, 4000))
    assert differences(shipped(name), frame) == []


@pytest.mark.parametrize("name", list(SHIPPED))
def test_shipped_strategies_are_sound_on_real_candles(
    name: str, real_frame: Callable[[str], CandleFrame]
) -> None:
    assert differences(shipped(name), real_frame("UNITTEST_BTC-1m")) == []


def scaled(values: Array) -> Array:
    """Any numbers as scores."""
    return np.clip(np.nan_to_num(values / 1000.0), -1, 1)


@pytest.fixture
def forget() -> Iterator[None]:
    yield
    for name in [name for name in registry._indicators if name.startswith("bad")]:
        del registry._indicators[name]
    registry._bind.cache_clear()


def rule_of(name: str) -> type[BookPressure]:
    class Wrong(BookPressure):
        kind = f"rule_of_{name}"
        cites = ("close", name)  # type: ignore[assignment]

        def score(self, values: dict[str, Array]) -> Array:  # type: ignore[override]
            return scaled(values[name])

    return Wrong


def centred(close: Array) -> Array:
    return np.convolve(close, np.ones(5) / 5, "same")


def shifted(close: Array) -> Array:
    return np.append(close[1:], np.nan)


def normalised(close: Array) -> Array:
    return (close - close.mean()) / close.std()


def unfinished(close: Array) -> Array:
    """The close of the quarter of an hour that the candle lies in, as if it had ended."""
    return (
        np.repeat(close[14::15], 15)[: len(close)]
        if len(close) % 15 == 0
        else np.append(np.repeat(close[14::15], 15), np.full(len(close) % 15, close[-1]))
    )


def unanchored(close: Array) -> Array:
    """A running mean over the whole frame, from wherever that begins."""
    whole = close if close.base is None else close.base
    means = np.cumsum(whole) / np.arange(1, len(whole) + 1)
    begin = (close.__array_interface__["data"][0] - whole.__array_interface__["data"][0]) // 8
    return means[begin : begin + len(close)]


@pytest.mark.parametrize(
    ("function", "check_name"),
    [
        (centred, "future"),
        (shifted, "future"),
        (normalised, "future"),
        (unfinished, "future"),
        (unanchored, "start"),
    ],
)
@pytest.mark.usefixtures("forget")
def test_what_is_wrong_is_caught_and_named(
    function: Callable[[Array], Array], check_name: str, make_frame: MakeFrame
) -> None:
    name = f"bad{function.__name__}"

    def wrong(close: Array) -> Array:
        return function(close)

    wrong.__name__ = wrong.__qualname__ = name
    indicator(warmup=lambda: 30)(wrong)
    frame = make_frame(6000)
    strategy = Strategy("wrong", (Weighted(rule_of(name)(), 1.0),))
    found = differences(strategy, frame)
    assert check_name in {difference.check for difference in found}
    assert {difference.culprit for difference in found} == {name}
    for difference in found:
        assert difference.timestamp in frame.timestamp
        assert difference.batch != difference.other


@pytest.mark.usefixtures("forget")
def test_a_state_that_does_not_go_on_is_caught(make_frame: MakeFrame) -> None:
    @indicator(warmup=lambda: 30, state=lambda: 1)
    def badstate(close: Array, state: Array) -> Array:
        """Ups and downs from where it begins; of what came before it remembers the last one alone."""
        moves = np.sign(np.diff(close, prepend=close[0]))
        total = state[0] + np.cumsum(moves)
        state[0] = moves[-1]
        return total

    strategy = Strategy("wrong", (Weighted(rule_of("badstate")(), 1.0),), confirm=(Timeframe.H1,))
    found = differences(strategy, make_frame(9000))
    assert {(difference.check, difference.culprit) for difference in found} == {("live", "badstate")}


def test_a_rule_that_looks_ahead_by_itself_is_named(make_frame: MakeFrame) -> None:
    class Prophet(BookPressure):
        kind = "prophet"
        cites = ("close",)  # type: ignore[assignment]

        def score(self, values: dict[str, Array]) -> Array:  # type: ignore[override]
            return scaled(np.append(np.diff(values["close"]), np.nan))

    found = differences(Strategy("wrong", (Weighted(Prophet(), 1.0),)), make_frame(3000))
    assert {difference.culprit for difference in found} == {"prophet"}


@pytest.mark.usefixtures("forget")
def test_what_is_wrong_on_a_higher_timeframe_only_is_named_too(make_frame: MakeFrame) -> None:
    @indicator(warmup=lambda: 30)
    def badslow(close: Array) -> Array:
        """Looks ahead where the candles are few."""
        return shifted(close) if len(close) < 400 else close

    strategy = Strategy("wrong", (Weighted(rule_of("badslow")(), 1.0),), confirm=(Timeframe.H1,))
    found = differences(strategy, make_frame(9000))
    assert found
    assert {difference.culprit for difference in found} == {"badslow"}


def test_a_calibration_that_knows_its_future_is_caught(make_frame: MakeFrame) -> None:
    def fitted_on_all(rows: Sequence[SignalRow], frame: CandleFrame, cut: int) -> Samples:
        return samples([row for row in rows if row.timestamp <= cut], frame, int(frame.close_time[-1]) + 1)

    frame = make_frame(6000)
    found = [each for each in check(shipped("momentum"), frame, {}, 4, fitted_on_all) if each[1] is not None]
    assert len(found) > 4
    assert {name for name, _ in found} == {"calibration"}
    assert {difference.culprit for _, difference in found if difference} == {"the calibration"}


def test_a_state_that_does_not_matter_is_no_false_alarm(make_frame: MakeFrame) -> None:
    class Counting(BookPressure):
        kind = "counting"
        calls = 0

        def score(self, values: dict[str, Array]) -> Array:  # type: ignore[override]
            type(self).calls += 1
            return super().score(values)

    strategy = Strategy("counting", (Weighted(Counting(), 1.0),))
    assert differences(strategy, make_frame(3000)) == []
    assert Counting.calls > 40


def test_places_are_many_and_the_same_each_time(make_frame: MakeFrame) -> None:
    frame = make_frame(5000, holes=(100, 4000))
    asked = [name for name, _ in check(shipped("trend"), frame, {}, 60)]
    assert asked.count("live") == asked.count("future") == asked.count("start") > 50
    assert list(check(shipped("trend"), frame, {}, 60)) == list(check(shipped("trend"), frame, {}, 60))


def test_one_candle_and_none(make_frame: MakeFrame) -> None:
    assert [difference for _, difference in check(shipped("trend"), make_frame(1), {}, 10)] == [None] * 4
    assert list(check(shipped("trend"), make_frame(10).part(0, 0), {}, 10)) == []
