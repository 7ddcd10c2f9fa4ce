from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from signals.engine import UNDEFINED, SignalType, evaluate
from signals.frame import CandleFrame
from signals.rows import changes, last_type, signal_rows
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
        assert row.reasons
