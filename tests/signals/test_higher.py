from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from conftest import put_candles
from hypothesis import given, settings
from hypothesis import strategies as st

from market.timeframe import Timeframe
from signals.blocks import anchor
from signals.engine import evaluate, explain
from signals.follow import Following, Job, recompute
from signals.frame import CandleFrame
from signals.higher import resampled, seen, seen_at
from signals.rows import SignalRow, signal_rows
from signals.strategies import Strategy, composite
from signals.target import Target
from storage.database import Connection

MakeFrame = Callable[..., CandleFrame]
M15 = Timeframe.M15
CONFIRMED = replace(composite(), confirm=(M15,), confirm_weight=3.0)


def bits(values: np.ndarray) -> bytes:
    return values.tobytes()


@settings(max_examples=30, deadline=None)
@given(holes=st.lists(st.integers(0, 299), max_size=60, unique=True), seed=st.integers(0, 99))
def test_a_candle_sees_the_higher_one_that_closed_last_and_no_other(
    holes: list[int], seed: int, make_frame: MakeFrame
) -> None:
    frame = make_frame(300, seed=seed, holes=tuple(holes))
    higher = resampled(frame, M15)
    opens = dict(zip(higher.timestamp.tolist(), higher.close.tolist(), strict=True))
    said = seen(frame, 0, higher, 0, higher.close).tolist()
    for now, value in zip(frame.close_time.tolist(), said, strict=True):
        wanted = range(0, now + 1 - M15.microseconds, M15.microseconds)[-1]
        assert wanted == seen_at(Timeframe.M1, now - Timeframe.M1.microseconds, M15)
        assert value == opens[wanted] if wanted in opens else np.isnan(value)


@given(holes=st.lists(st.integers(0, 99), max_size=30, unique=True))
def test_higher_candles_hold_what_lies_in_them(holes: list[int], make_frame: MakeFrame) -> None:
    frame = make_frame(100, holes=tuple(holes))
    higher = resampled(frame, Timeframe.M5)
    for i, open_ in enumerate(higher.timestamp.tolist()):
        inside = [j for j, time in enumerate(frame.timestamp.tolist()) if 0 <= time - open_ < 300_000_000]
        part = frame.part(inside[0], inside[-1] + 1)
        assert (higher.open[i], higher.close[i]) == (part.open[0], part.close[-1])
        assert (higher.high[i], higher.low[i]) == (part.high.max(), part.low.min())
        assert higher.volume[i] == pytest.approx(part.volume.sum())
        assert higher.buy_volume[i] == pytest.approx(part.buy_volume.sum())
        assert higher.is_whole[i] == (len(inside) == 5 and part.is_whole.all())
        assert open_ + 300_000_000 <= frame.close_time[-1]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000),
    holes=st.lists(st.integers(0, 8999), max_size=30, unique=True),
    bar=st.integers(3000, 8900),
)
def test_neither_the_future_nor_the_start_changes_a_confirmed_signal(
    seed: int, holes: list[int], bar: int, make_frame: MakeFrame
) -> None:
    frame = make_frame(9000, seed=seed, holes=tuple(holes))
    higher = resampled(frame, M15)
    whole = evaluate(CONFIRMED, frame, higher={M15: higher})
    assert bits(whole.score) != bits(evaluate(CONFIRMED, frame).score)
    cut = frame.part(0, bar)
    known = {M15: resampled(cut, M15)}
    assert bits(evaluate(CONFIRMED, cut, higher=known).score) == bits(whole.score[:bar])
    begin = frame.find(anchor(frame.timeframe, int(frame.timestamp[bar]), CONFIRMED.warmup))
    first = seen_at(frame.timeframe, int(frame.timestamp[bar]), M15)
    since = {M15: higher.part(higher.find(anchor(M15, first, CONFIRMED.warmup)), len(higher))}
    live = frame.part(begin, bar + 1)
    assert bits(evaluate(CONFIRMED, live, bar - begin, since).score) == bits(whole.score[bar : bar + 1])
    assert explain(CONFIRMED, live, [bar - begin], since) == explain(CONFIRMED, frame, [bar], {M15: higher})


def test_an_unfinished_higher_candle_is_not_seen(make_frame: MakeFrame) -> None:
    frame = make_frame(3000)
    higher = resampled(frame, M15)
    altered = replace(higher, close=np.append(higher.close[:-1], 1e6))
    seen_late = frame.close_time >= higher.close_time[-1]
    one = evaluate(CONFIRMED, frame, higher={M15: higher}).score
    other = evaluate(CONFIRMED, frame, higher={M15: altered}).score
    assert bits(one[~seen_late]) == bits(other[~seen_late])
    assert bits(one[seen_late]) != bits(other[seen_late])


def test_what_confirms_has_a_reason_and_what_conflicts_a_warning(make_frame: MakeFrame) -> None:
    frame = make_frame(3000)
    higher = {M15: resampled(frame, M15)}
    bars = range(1000, 3000)
    found = explain(CONFIRMED, frame, bars, higher)
    score = evaluate(CONFIRMED, frame, higher=higher).score
    conflicts = 0
    for bar, why in zip(bars, found, strict=True):
        assert sum(why.contributions.values()) == pytest.approx(score[bar])
        assert sum(reason.startswith("on 15m candles the same rules score") for reason in why.reasons) == 1
        said = [warning for warning in why.warnings if warning.startswith("conflicting timeframes: 15m")]
        is_against = why.contributions["15m"] * score[bar] < 0
        assert len(said) <= is_against
        conflicts += len(said)
    assert conflicts > 10


def rows_of(strategy: Strategy, frame: CandleFrame, higher: CandleFrame) -> list[SignalRow]:
    above = {M15: higher}
    return signal_rows(strategy, frame, 0, evaluate(strategy, frame, higher=above), None, above)


def stored(connection: Connection, job: Job) -> list[SignalRow]:
    from signals.store import Span, _newest

    span = Span(job.key, 0, 2**52)
    found = _newest(connection, [span])[span].values()
    return [old.row for old in found if not old.is_withdrawn]


def test_live_across_restarts_equals_the_batch(
    session: Connection, target: Target, make_frame: MakeFrame
) -> None:
    job, above = Job(CONFIRMED, target), replace(target, timeframe=M15)
    frame = make_frame(4000, holes=(700, 701, 2500))
    higher = resampled(frame, M15)
    for start, stop in pairwise([0, 40, *range(1000, 4000, 333), len(frame)]):
        put_candles(session, target, frame.part(start, stop))
        closed = resampled(frame.part(0, stop), M15)
        put_candles(session, above, closed.part(len(resampled(frame.part(0, start), M15)), len(closed)))
        list(Following(session).follow([job]))
    assert stored(session, job) == rows_of(CONFIRMED, frame, higher)
    assert len(stored(session, job)) > 100
    list(recompute(session, job, 0, 2**52))
    assert stored(session, job) == rows_of(CONFIRMED, frame, higher)
