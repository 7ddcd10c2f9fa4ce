import pickle
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signals.blocks import BLOCK, anchor
from signals.engine import UNDEFINED, SignalType, evaluate, explain, level, type_codes
from signals.frame import CandleFrame
from signals.options import Thresholds
from signals.rules import BookPressure, EmaTrend
from signals.strategies import Strategy, Weighted, composite, trend

MakeFrame = Callable[..., CandleFrame]
RealFrame = Callable[[str], CandleFrame]


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.array_equal(one, other, equal_nan=True))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    holes=st.lists(st.integers(0, 8999), max_size=30, unique=True),
    bar=st.integers(0, 8900),
)
def test_neither_the_future_nor_the_start_changes_a_signal(
    seed: int, holes: list[int], bar: int, make_frame: MakeFrame
) -> None:
    frame, strategy = make_frame(9000, seed=seed, holes=tuple(holes)), composite()
    whole = evaluate(strategy, frame)
    assert same(evaluate(strategy, frame.part(0, bar)).score, whole.score[:bar])
    begin = frame.find(anchor(frame.timeframe, int(frame.timestamp[bar]), strategy.warmup))
    live = frame.part(begin, bar + 1)
    assert same(evaluate(strategy, live, bar - begin).score, whole.score[bar : bar + 1])
    (one,) = explain(strategy, live, [bar - begin])
    (other,) = explain(strategy, frame, [bar])
    assert one == other


@pytest.mark.parametrize("name", ["UNITTEST_BTC-1m", "XRP_ETH-1m", "LTC_BTC-5m"])
def test_candle_by_candle_equals_the_batch_on_real_candles(name: str, real_frame: RealFrame) -> None:
    frame, strategy = real_frame(name), composite()
    whole = evaluate(strategy, frame)
    assert set(whole.type.tolist()) >= {-1, 0, 1}
    for bar in [*range(40, len(frame), 211), len(frame) - 1]:
        begin = frame.find(anchor(frame.timeframe, int(frame.timestamp[bar]), strategy.warmup))
        live = evaluate(strategy, frame.part(begin, bar + 1), bar - begin)
        assert same(live.score, whole.score[bar : bar + 1])


def test_a_bad_indicator_makes_a_strategy_that_the_checks_catch(
    bad_indicator: str, make_frame: MakeFrame
) -> None:
    class Prophet(BookPressure):
        cites = ("close", bad_indicator)

        def score(self, values):  # type: ignore[no-untyped-def]
            return np.clip(values[bad_indicator] - values["close"], -1, 1)

    frame, strategy = make_frame(300), Strategy("prophet", (Weighted(Prophet(), 1.0),))
    whole = evaluate(strategy, frame)
    assert not same(evaluate(strategy, frame.part(0, 200)).score, whole.score[:200])


def test_scores_lie_in_their_range_and_confidence_is_their_size(make_frame: MakeFrame) -> None:
    series = evaluate(composite(), make_frame(BLOCK + 1000, holes=(300,)))
    defined = series.type != UNDEFINED
    assert np.all(np.abs(series.score[defined]) <= 1)
    assert np.isnan(series.score[~defined]).all()
    assert same(series.confidence, 100 * np.abs(series.score))


def test_an_absent_book_leaves_the_denominator(make_frame: MakeFrame) -> None:
    frame = make_frame(400)
    rules = (Weighted(EmaTrend(), 1.0), Weighted(BookPressure(), 1.0))
    strategy = Strategy("both", rules)
    alone = evaluate(Strategy("one", rules[:1]), frame).score
    frame.imbalance_mean[:] = np.nan
    assert same(evaluate(strategy, frame).score, alone)


def test_without_a_quorum_there_is_no_signal(make_frame: MakeFrame) -> None:
    frame = make_frame(400)
    frame.imbalance_mean[:] = np.nan
    rules = (Weighted(EmaTrend(), 1.0), Weighted(BookPressure(), 2.0))
    series = evaluate(Strategy("both", rules), frame)
    assert (series.type == UNDEFINED).all()
    assert np.isnan(series.score).all()


def test_undefined_until_warm_after_a_hole(make_frame: MakeFrame) -> None:
    series = evaluate(trend(), make_frame(300, holes=(150,)))
    undefined = np.flatnonzero(series.type == UNDEFINED)
    assert undefined.tolist() == [*range(25), *range(150, 175)]


def test_type_codes_at_their_thresholds() -> None:
    scores = np.array([-0.5, -0.49, -0.2, -0.19, 0.0, 0.19, 0.2, 0.49, 0.5, np.nan])
    expected = [-2, -1, -1, 0, 0, 0, 1, 1, 2, UNDEFINED]
    assert type_codes(scores, Thresholds()).tolist() == expected


def test_an_uncalibrated_level_is_low_whatever_the_confidence() -> None:
    limits = Thresholds()
    assert level(100.0, limits, is_calibrated=False) == "LOW"
    assert [level(c, limits, is_calibrated=True) for c in (54.9, 55.0, 65.0)] == ["LOW", "MEDIUM", "HIGH"]


def test_an_explanation_has_the_numbers(make_frame: MakeFrame) -> None:
    frame, strategy = make_frame(600), composite()
    frame.volume[500] = 0.01
    frame.spread_bps_mean[500] = 50.0
    frame.is_whole[500] = False
    frame.imbalance_mean[500] = np.nan
    (why,) = explain(strategy, frame, [500])
    assert len(why.reasons) == len(strategy.rules) - 1
    rsi = why.values["rsi_14"]
    assert any(f"RSI(14) = {rsi:.1f}" in reason for reason in why.reasons)
    score = evaluate(strategy, frame).score[500]
    assert sum(why.contributions.values()) == pytest.approx(score)
    text = "\n".join(why.warnings)
    for words in ("thin volume: 0.00", "wide spread: 50.0 bps", "not whole", "no book", "book_pressure"):
        assert words in text
    assert "hole in the data" not in text
    assert "imbalance_mean" not in why.values


def test_a_young_segment_is_warned_of(make_frame: MakeFrame) -> None:
    frame = make_frame(600, holes=(400,))
    (why,) = explain(composite(), frame, [450])
    assert any("hole in the data, or its beginning, only 51 candles ago" in line for line in why.warnings)


def test_high_volatility_is_warned_of(make_frame: MakeFrame) -> None:
    frame = make_frame(600)
    frame.high[540:] *= 1.2
    (why,) = explain(composite(), frame, [545])
    assert any(line.startswith("high volatility: ATR(14) is") for line in why.warnings)


def test_explaining_nothing_is_nothing(make_frame: MakeFrame) -> None:
    assert explain(composite(), make_frame(50), []) == []


def test_evaluating_nothing_is_nothing(make_frame: MakeFrame) -> None:
    assert len(evaluate(composite(), make_frame(10).part(0, 0)).score) == 0


def test_a_flat_market_without_trades_has_no_opinion(make_frame: MakeFrame) -> None:
    frame = make_frame(300)
    for name in ("open", "high", "low", "close"):
        frame.column(name)[:] = 100.0
    for name in ("volume", "buy_volume", "sell_volume"):
        frame.column(name)[:] = 0.0
    frame.imbalance_mean[:] = np.nan
    assert (evaluate(composite(), frame).type == UNDEFINED).all()


def test_strategies_travel_between_processes(make_frame: MakeFrame) -> None:
    frame, strategy = make_frame(300), composite()
    copy = pickle.loads(pickle.dumps(strategy))
    assert copy == strategy
    assert same(evaluate(copy, frame).score, evaluate(strategy, frame).score)


def test_types_are_ordered_from_sell_to_buy() -> None:
    assert [kind.value for kind in SignalType] == ["STRONG_SELL", "SELL", "NEUTRAL", "BUY", "STRONG_BUY"]
    assert replace(Thresholds(), weak=0.1) != Thresholds()
