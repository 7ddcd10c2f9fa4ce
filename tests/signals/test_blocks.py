"""The proof that no value depends on the future, nor on where a computation began.

`look_ahead` and `start_drift` are the checkers; indicators that break the rules show that they can fail.
"""

from collections.abc import Callable, Iterable, Mapping
from random import Random

import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from market.timeframe import Timeframe
from signals.blocks import BLOCK, anchor, compute, passes
from signals.frame import Array, CandleFrame
from signals.registry import available, find

Compute = Callable[[CandleFrame], Mapping[str, Array]]
MakeFrame = Callable[..., CandleFrame]
NAMES = [each.default_name for each in available()]


def first_difference(one: Mapping[str, Array], other: Mapping[str, Array]) -> int | None:
    """Index of the first candle at which any output differs by a bit."""
    differs = [one[name].view(np.int64) != other[name].view(np.int64) for name in one]
    found = np.flatnonzero(np.any(differs, axis=0))
    return int(found[0]) if len(found) else None


def look_ahead(function: Compute, frame: CandleFrame, stops: Iterable[int]) -> int | None:
    """The first candle whose values change when later ones are cut off."""
    whole = function(frame)
    for stop in stops:
        cut = function(frame.part(0, stop))
        found = first_difference(cut, {name: values[:stop] for name, values in whole.items()})
        if found is not None:
            return found
    return None


def start_drift(function: Compute, frame: CandleFrame, warmup: int, starts: Iterable[int]) -> int | None:
    """The first candle whose values change when the frame begins at its anchor, not earlier."""
    whole = function(frame)
    for start in starts:
        begin = frame.find(anchor(frame.timeframe, int(frame.timestamp[start]), warmup))
        cut = function(frame.part(begin, len(frame)))
        found = first_difference(
            {name: values[start - begin :] for name, values in cut.items()},
            {name: values[start:] for name, values in whole.items()},
        )
        if found is not None:
            return start + found
    return None


@pytest.mark.parametrize("name", NAMES)
def test_no_indicator_looks_ahead_or_depends_on_its_start(name: str, make_frame: MakeFrame) -> None:
    frame = make_frame(2 * BLOCK + 3000, holes=(50, 700, 701, 5000, 5001, 9000))
    bars = [1, 60, 700, 4000, 5010, 8000, 9050, len(frame) - 1]
    assert look_ahead(lambda part: compute(part, name), frame, bars) is None
    assert start_drift(lambda part: compute(part, name), frame, find(name).warmup, bars) is None


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    holes=st.lists(st.integers(0, 6999), max_size=30, unique=True),
    bar=st.integers(0, 6900),
    name=st.sampled_from(NAMES),
)
def test_the_same_wherever_holes_and_cuts_lie(
    seed: int, holes: list[int], bar: int, name: str, make_frame: MakeFrame
) -> None:
    frame = make_frame(7000, seed=seed, holes=tuple(holes))
    assert look_ahead(lambda part: compute(part, name), frame, [bar]) is None
    assert start_drift(lambda part: compute(part, name), frame, find(name).warmup, [bar]) is None


def test_the_checker_catches_a_centred_window(bad_indicator: str, make_frame: MakeFrame) -> None:
    frame = make_frame(500)
    assert look_ahead(lambda part: compute(part, bad_indicator), frame, [300]) == 298


def test_the_checker_catches_a_whole_series_normalisation(make_frame: MakeFrame) -> None:
    frame = make_frame(500)
    assert look_ahead(lambda part: {"z": part.close / part.close.mean()}, frame, [300]) == 0


def test_the_checker_catches_an_indicator_outside_the_blocks(make_frame: MakeFrame) -> None:
    frame = make_frame(3 * BLOCK)
    drift = start_drift(lambda part: {"sma": talib.SMA(part.close, 20)}, frame, 20, [2 * BLOCK])
    assert drift is not None


@pytest.mark.parametrize("name", NAMES)
def test_each_segment_is_computed_by_itself(name: str, make_frame: MakeFrame) -> None:
    frame = make_frame(900, holes=(400,))
    values = compute(frame, name)
    for start, stop in ((0, 400), (400, 899)):
        alone = compute(frame.part(start, stop), name)
        assert first_difference({k: v[start:stop] for k, v in values.items()}, alone) is None


def test_one_candle_between_holes_is_a_segment(make_frame: MakeFrame) -> None:
    frame = make_frame(100, holes=(40, 42))
    assert np.isnan(compute(frame, "sma_2")["sma"][[0, 40, 41]]).all()
    assert np.isnan(compute(frame, "sma_2")["sma"]).sum() == 3


def test_passes_cover_each_candle_once_and_never_cross_a_hole(make_frame: MakeFrame) -> None:
    frame = make_frame(2 * BLOCK + 100, holes=(10, 5000))
    covered: list[int] = []
    for part in passes(frame, 64):
        assert len(np.unique(np.diff(part.frame.timestamp))) <= 1
        assert part.lead <= 64
        covered += range(part.start, part.start + len(part.frame) - part.lead)
    assert covered == list(range(len(frame)))


def test_compute_from_an_index_on_gives_the_same_values(make_frame: MakeFrame) -> None:
    frame = make_frame(BLOCK + 500)
    assert np.array_equal(
        compute(frame, "rsi_14", 4000)["rsi"], compute(frame, "rsi_14")["rsi"][4000:], equal_nan=True
    )


@pytest.mark.parametrize(
    "name", [each.default_name for each in available() if each.is_windowed or each.state is not None]
)
@pytest.mark.parametrize("seed", range(3))
def test_going_on_candle_by_candle_gives_the_same_values(name: str, seed: int, make_frame: MakeFrame) -> None:
    random, frame = Random(seed), make_frame(BLOCK + 700, seed=seed, holes=(60, 3000, 4200))
    whole, memory, done = compute(frame, name), {}, 0
    while done < len(frame):
        stop = min(done + random.choice((1, 1, 1, 2, 30, 900)), len(frame))
        # Where it begins does not matter, nor what is asked once more.
        begin = frame.find(anchor(frame.timeframe, int(frame.timestamp[done]), random.choice((1600, 2000))))
        for _ in range(random.choice((1, 2))):
            more = compute(frame.part(begin, stop).remembering(memory), name, done - begin)
            known = {output: values[done:stop] for output, values in whole.items()}
            assert first_difference(more, known) is None
        done = stop


def test_an_empty_frame_has_no_values(make_frame: MakeFrame) -> None:
    assert compute(make_frame(10).part(0, 0), "rsi_14")["rsi"].size == 0


def test_one_name_means_one_value_beside_whatever_else_a_pass_holds(make_frame: MakeFrame) -> None:
    frame = make_frame(2 * BLOCK)
    alone = compute(frame, "sma_20")["sma"]
    for part in passes(frame, 3000):
        assert np.array_equal(
            part["sma_20"][part.lead :],
            alone[part.start : part.start + len(part.frame) - part.lead],
            equal_nan=True,
        )


@pytest.mark.parametrize("timeframe", list(Timeframe))
def test_an_anchor_depends_on_the_block_only(timeframe: Timeframe) -> None:
    length = timeframe.microseconds
    block = 100 * BLOCK * length
    assert anchor(timeframe, block, 7) == block - 7 * length
    assert anchor(timeframe, block + (BLOCK - 1) * length, 7) == block - 7 * length
    assert anchor(timeframe, block - length, 7) == block - (BLOCK + 7) * length
