"""Proof that a strategy neither looks ahead nor drifts: on given candles, by the pure function alone.

Three questions, each at many candles: does cutting off the future change what was said before it? Does a
frame that begins earlier or later? Does one candle at a time, as it is live, give what the batch gives?
Where the answer is yes, the indicator or rule at fault is named with the first candle that differs. And a
fourth: do the outcomes that a calibration is fitted on stay the same without what came after its cut?
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from signals.blocks import BLOCK, Covered, anchor, passes
from signals.calibrate import samples
from signals.engine import evaluate
from signals.frame import COLUMNS
from signals.higher import seen_at
from signals.judging import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from market.timeframe import Timeframe
    from signals.calibrate import Samples
    from signals.frame import Array, CandleFrame, Memory
    from signals.higher import Higher
    from signals.rows import SignalRow
    from signals.strategies import Strategy

CHECKS = ("future", "start", "live", "calibration")
"""What is asked: whether the future, the beginning, or the way of computing changes a value; and whether what
confidence is made of knows anything from after its cut."""
CUTS = 10
"""Moments at which the calibration's samples are looked at."""
BEFORE = 2
"""Candles that one that closes live goes on from."""
SEED = 1


@dataclass(frozen=True, slots=True)
class Difference:
    """What a strategy, or a part of it, says in two ways of one candle.

    Attributes:
        check: one of CHECKS.
        culprit: the indicator or the rule that differs, else the strategy itself.
        timestamp: open time of the first candle that differs, microseconds UTC.
        batch: its value over all candles.
        other: its value without the future, from another beginning, or live.
    """

    check: str
    culprit: str
    timestamp: int
    batch: float
    other: float


@dataclass(frozen=True, slots=True)
class _View:
    """A stretch of candles that must give the values of the batch from `start` on.

    Attributes:
        frame: the candles.
        start: index of the first one to compare.
        offset: index of its first candle in the whole frame.
        higher: what it sees of higher timeframes.
    """

    frame: CandleFrame
    start: int
    offset: int
    higher: Higher


def check(
    strategy: Strategy,
    frame: CandleFrame,
    higher: Higher,
    count: int = 100,
    sample: Callable[[Sequence[SignalRow], CandleFrame, int], Samples] = samples,
) -> Iterator[tuple[str, Difference | None]]:
    """Ask each question at about `count` candles; yields the question and what differs, one by one.

    Args:
        strategy: what is checked.
        frame: closed candles.
        higher: those of the timeframes that confirm it.
        count: how many candles are looked at in each way.
        sample: gives what a calibration is fitted on.

    Raises:
        BadStrategy: it cannot be evaluated at all.
    """
    rows = judge(strategy, frame, 0, None, higher, is_explained=False).rows
    batch = evaluate(strategy, frame, higher=higher).score
    cited = _cited(strategy, frame, 0)
    views: dict[str, Callable[[int], _View]] = {
        "future": lambda bar: _without_future(frame, higher, bar),
        "start": lambda bar: _from_elsewhere(strategy, frame, higher, bar),
        "live": lambda bar: _live(strategy, frame, higher, bar),
    }
    for bar in _bars(frame, count):
        for name, make in views.items():
            view = make(bar)
            found = _difference(name, strategy, frame, higher, view, batch)
            if found is None and name == "live":
                # A rule that takes its own way to an indicator scores right, and would give wrong reasons.
                found = _first_culprit(name, cited, _cited(strategy, view.frame, view.start), view)
            yield name, found
    for bar in np.linspace(0, len(frame) - 1, min(len(frame), CUTS)).astype(int).tolist():
        yield "calibration", _calibrated_otherwise(rows, frame, int(frame.close_time[bar]), sample)


def _bars(frame: CandleFrame, count: int) -> Sequence[int]:
    """Where to look: around holes and edges of blocks, at the end, and anywhere."""
    length = frame.timeframe.microseconds
    is_edge = (np.diff(frame.timestamp) != length) | (np.diff(frame.timestamp // (BLOCK * length)) != 0)
    edges = [int(i) + step for i in np.flatnonzero(is_edge) for step in (0, 1, 2)]
    random, last = Random(SEED), len(frame) - 1
    wanted = [*random.sample(edges, min(len(edges), count // 4)), last, last - 1]
    wanted += [random.randint(0, max(last, 0)) for _ in range(count - len(wanted))]
    return sorted({bar for bar in wanted if 0 <= bar <= last})


def _without_future(frame: CandleFrame, higher: Higher, bar: int) -> _View:
    """Everything up to a candle: all values of its block so far must stay as they are."""
    length = frame.timeframe.microseconds * BLOCK
    block = frame.find(int(frame.timestamp[bar]) // length * length)
    known = _closed_by(higher, int(frame.close_time[bar]))
    return _View(_alone(frame.part(0, bar + 1)), block, 0, known)


def _from_elsewhere(strategy: Strategy, frame: CandleFrame, higher: Higher, bar: int) -> _View:
    """From the last candle on that may be the beginning, up to its block's end: nothing before it counts."""
    time, length = int(frame.timestamp[bar]), frame.timeframe.microseconds * BLOCK
    begin = frame.find(anchor(frame.timeframe, time, strategy.warmup))
    stop = frame.find(time - time % length + length)
    since = {
        each: candles.part(
            candles.find(anchor(each, seen_at(frame.timeframe, time, each), strategy.warmup)), len(candles)
        )
        for each, candles in higher.items()
    }
    return _View(_alone(frame.part(begin, stop)), bar - begin, begin, since)


def _live(strategy: Strategy, frame: CandleFrame, higher: Higher, bar: int) -> _View:
    """One candle, as it has just closed, that goes on from what the candles before it left behind."""
    view = _from_elsewhere(strategy, frame, higher, bar)
    memory: Memory = {}
    above: dict[Timeframe, Memory] = {each: {} for each in view.higher}

    def closed(place: int) -> tuple[CandleFrame, Higher]:
        known = _closed_by(view.higher, int(view.frame.close_time[place]))
        given = {each: candles.remembering(above[each]) for each, candles in known.items()}
        return _alone(view.frame.part(0, place + 1)).remembering(memory), given

    for place in range(max(view.start - BEFORE, 0), view.start):
        before, known = closed(place)
        evaluate(strategy, before, place, known)
        _cited(strategy, before, place)
    candle, known = closed(view.start)
    return _View(candle, view.start, view.offset, known)


def _alone(frame: CandleFrame) -> CandleFrame:
    """Its candles as arrays of their own: a view would still lead to what lies around it."""
    columns: dict[str, Any] = {name: frame.column(name).copy() for name in COLUMNS}
    return replace(frame, **columns).holding(frame.trades)


def _closed_by(higher: Higher, time: int) -> Higher:
    return {
        each: candles.part(0, int(np.searchsorted(candles.close_time, time, side="right")))
        for each, candles in higher.items()
    }


def _difference(
    name: str, strategy: Strategy, frame: CandleFrame, higher: Higher, view: _View, batch: Array
) -> Difference | None:
    other = evaluate(strategy, view.frame, view.start, view.higher).score
    first = view.offset + view.start
    place = _first_difference(batch[first : first + len(other)], other)
    if place is None:
        return None
    found = _culprit(name, strategy, frame, view)
    if found is None:
        found = _culprit_above(name, strategy, frame, higher, view)
    if found is None:
        time = int(frame.timestamp[first + place])
        found = Difference(name, strategy.name, time, float(batch[first + place]), float(other[place]))
    return found


def _culprit(name: str, strategy: Strategy, frame: CandleFrame, view: _View) -> Difference | None:
    """The indicator, else the rule, whose values differ first."""
    return _first_culprit(name, _parts(strategy, frame, 0), _parts(strategy, view.frame, view.start), view)


def _first_culprit(
    name: str, whole: Mapping[str, Array], other: Mapping[str, Array], view: _View
) -> Difference | None:
    """The first of `whole`, which the batch gives, that `view` gives otherwise."""
    first = view.offset + view.start
    for part, values in other.items():
        before = whole[part][first : first + len(values)]
        place = _first_difference(before, values)
        if place is not None:
            time = int(view.frame.timestamp[view.start + place])
            return Difference(name, part, time, float(before[place]), float(values[place]))
    return None


def _culprit_above(
    name: str, strategy: Strategy, frame: CandleFrame, higher: Higher, view: _View
) -> Difference | None:
    """The same on the higher timeframes, of which only a part was given."""
    for timeframe in strategy.confirming(frame.timeframe):
        candles, given = higher.get(timeframe), view.higher.get(timeframe)
        if candles is None or given is None or not len(given):
            continue
        time = seen_at(frame.timeframe, int(view.frame.timestamp[view.start]), timeframe)
        start, offset = given.find(time), candles.find(int(given.timestamp[0]))
        if start < len(given):
            found = _culprit(name, strategy, candles, _View(given, start, offset, {}))
            if found is not None:
                return found
    return None


def _parts(strategy: Strategy, frame: CandleFrame, start: int) -> dict[str, Array]:
    """What indicators give for the candles from `start` on, and then the rules that read them."""
    found = {weighted.rule.kind: np.full(len(frame), np.nan) for weighted in strategy.rules}
    for part in passes(frame, strategy.warmup, start):
        block = slice(part.start, part.start + len(part.frame) - part.lead)
        for weighted in strategy.rules:
            found[weighted.rule.kind][block] = weighted.rule.score(part)[part.lead :]
    return _cited(strategy, frame, start) | {name: values[start:] for name, values in found.items()}


def _cited(strategy: Strategy, frame: CandleFrame, start: int) -> dict[str, Array]:
    """The indicators of the candles from `start` on that reasons cite."""
    found = {name: np.full(len(frame), np.nan) for name in strategy.cites if name not in COLUMNS}
    for part in passes(frame, strategy.warmup, start):
        covered = Covered(part)
        for name, values in found.items():
            values[part.start : part.start + len(part.frame) - part.lead] = covered[name]
    return {name: values[start:] for name, values in found.items()}


def _calibrated_otherwise(
    rows: Sequence[SignalRow],
    frame: CandleFrame,
    cut: int,
    sample: Callable[[Sequence[SignalRow], CandleFrame, int], Samples],
) -> Difference | None:
    """The first sample of a cut that is another one where nothing is known from after the cut."""
    length = frame.timeframe.microseconds
    known = _alone(frame.part(0, frame.find(cut - length + 1)))
    batch = sample(rows, frame, cut)
    other = sample([row for row in rows if row.timestamp <= cut], known, cut)
    values = [np.where(each.is_right, 1.0, -1.0) * each.score for each in (batch, other)]
    place = _first_difference(*values)
    if place is None and len(batch.score) == len(other.score):
        return None
    place = min(len(batch.score), len(other.score)) if place is None else place
    longer = batch if len(batch.score) > place else other
    one, two = (float(each[place]) if len(each) > place else np.nan for each in values)
    return Difference("calibration", "the calibration", int(longer.timestamp[place]) - length, one, two)


def _first_difference(one: Array, other: Array) -> int | None:
    """Where two arrays differ first in any bit; every NaN is the same."""
    count = min(len(one), len(other))
    differs = (one[:count] != other[:count]) & ~(np.isnan(one[:count]) & np.isnan(other[:count]))
    places = np.flatnonzero(differs)
    return int(places[0]) if len(places) else None
