from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from signals.calibration import Bin, Calibration, cut_before
from signals.engine import UNDEFINED, SignalType, evaluate
from signals.frame import CandleFrame
from signals.rows import UNCALIBRATED, calibrated, changes, last_type, signal_rows
from signals.strategies import composite

MakeFrame = Callable[..., CandleFrame]
codes = st.lists(st.sampled_from([UNDEFINED, -2, -1, 0, 1, 2]), max_size=30)


def types(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int8)


def test_the_first_defined_type_is_a_change_and_holes_are_not() -> None:
    assert changes(types(UNDEFINED, 0, 0, 1, UNDEFINED, 1, UNDEFINED, -1), None) == [1, 3, 7]
    assert changes(types(0, 1), SignalType.NEUTRAL) == [1]
    assert changes(types(UNDEFINED), None) == []
    assert last_type(types(UNDEFINED)) is None
    assert last_type(types(1, UNDEFINED)) is SignalType.BUY


@given(codes, st.integers(0, 30))
def test_changes_do_not_depend_on_how_the_series_is_cut(series: list[int], cut: int) -> None:
    cut = min(cut, len(series))
    first, second = types(*series[:cut]), types(*series[cut:])
    after = changes(second, last_type(first))
    assert changes(types(*series), None) == [*changes(first, None), *(cut + i for i in after)]


def test_a_row_holds_what_its_candle_says(make_frame: MakeFrame) -> None:
    frame, strategy = make_frame(400), composite()
    frame.imbalance_last[::2] = np.nan
    rows = signal_rows(strategy, frame, 100, evaluate(strategy, frame, 100), None)
    assert rows[0].timestamp == frame.timestamp[100] + 60_000_000
    assert len(rows) > 10
    for row in rows:
        bar = frame.find(row.timestamp - 60_000_000)
        assert row.price == frame.close[bar]
        assert row.cvd == frame.cvd_close[bar]
        book = frame.imbalance_mean[bar] if bar % 2 == 0 else frame.imbalance_last[bar]
        assert row.orderbook_imbalance == (None if np.isnan(book) else book)
        assert row.confidence_score == 100 * abs(row.score)
        assert row.confidence_level == "LOW"
        assert row.calibration_id is None
        assert row.reasons


def test_confidence_is_that_of_the_latest_cut_before_the_signal(make_frame: MakeFrame) -> None:
    frame, strategy = make_frame(400), composite()
    rows = signal_rows(strategy, frame, 100, evaluate(strategy, frame, 100), None)
    month = cut_before(rows[0].timestamp)
    old, new = (
        Calibration(number, cut, (Bin(0.2, 100, 60, 0.6), Bin(0.4, 100, 70, 0.7)))
        for number, cut in ((1, month - 1), (2, month))
    )
    assert calibrated(rows, {old.cutoff: old}, strategy.thresholds) == rows
    found = calibrated(rows, {old.cutoff: old, new.cutoff: new}, strategy.thresholds)
    for row, plain in zip(found, rows, strict=True):
        assert plain.warnings[-1] == UNCALIBRATED
        if plain.signal_type == "NEUTRAL":
            assert row == plain
        else:
            is_strong = abs(plain.score) >= 0.4
            assert (row.confidence_score, row.confidence_level) == (
                (70, "HIGH") if is_strong else (60, "MEDIUM")
            )
            assert row.calibration_id == 2
            assert row.warnings == plain.warnings[:-1]
    assert {row.confidence_level for row in found} == {"LOW", "MEDIUM", "HIGH"}
