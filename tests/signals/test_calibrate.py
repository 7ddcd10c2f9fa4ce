from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from market.timeframe import Timeframe, to_datetime
from signals import calibrate, calibration
from signals.calibrate import samples
from signals.calibration import Calibration, cut_before, fit
from signals.engine import evaluate, level
from signals.follow import Following, Job, recompute
from signals.frame import CandleFrame
from signals.options import HORIZON
from signals.rows import UNCALIBRATED, SignalRow, calibrated, signal_rows
from signals.store import Span, _newest
from signals.strategies import composite
from signals.target import Target
from storage.database import Connection

LENGTH = Timeframe.H1.microseconds
END = 2**52
MakeFrame = Callable[..., CandleFrame]
Put = Callable[[CandleFrame], None]


@pytest.fixture(autouse=True)
def few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds of many signals is tested with fewer."""
    monkeypatch.setattr(calibration, "FEWEST", 200)
    monkeypatch.setattr(calibration, "_FEWEST_IN_BIN", 50)


@pytest.fixture(scope="session")
def frame(make_frame: MakeFrame) -> CandleFrame:
    """Four months of hours, with holes."""
    return make_frame(3000, timeframe=Timeframe.H1, holes=(700, 2000, 2001))


@pytest.fixture
def target() -> Target:
    return Target("simulated", "BTC/USDT", Timeframe.H1)


@pytest.fixture
def job(target: Target) -> Job:
    return Job(composite(), target)


def rows_of(frame: CandleFrame) -> list[SignalRow]:
    return signal_rows(composite(), frame, 0, evaluate(composite(), frame), None)


def expected(frame: CandleFrame, ids: dict[int, int]) -> list[SignalRow]:
    """What signals must say, given the ids of the calibrations by their cuts: from one to the next."""
    rows = rows_of(frame)
    known = samples(rows, frame, END)
    found = []
    for row in rows:
        cut = cut_before(row.timestamp)
        is_before = known.timestamp + HORIZON * LENGTH < cut
        bins = fit(known.score[is_before], known.is_right[is_before])
        if bins and row.signal_type != "NEUTRAL":
            confidence = Calibration(0, cut, bins).confidence(row.score)
            row = replace(
                row,
                confidence_score=confidence,
                confidence_level=level(confidence, composite().thresholds, is_calibrated=True),
                calibration_id=ids[cut],
                warnings=row.warnings[:-1],
            )
        found.append(row)
    return found


def newest(connection: Connection, job: Job) -> list[SignalRow]:
    span = Span(job.key, 0, END)
    found = _newest(connection, [span])[span].values()
    return [old.row for old in found if not old.is_withdrawn]


def calibrations(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "SELECT (extract(epoch FROM cutoff_timestamp) * 1000000)::bigint, id, sample_count, bins,"
        " window_from, extract(epoch FROM horizon)::int, created_timestamp, xmin::text FROM calibrations"
        " ORDER BY cutoff_timestamp"
    ).fetchall()


def ids(connection: Connection) -> dict[int, int]:
    return {cut: number for cut, number, *_ in calibrations(connection)}


def test_live_across_cuts_and_restarts_equals_the_batch(
    session: Connection, job: Job, put: Put, frame: CandleFrame
) -> None:
    for start, stop in pairwise([0, 1300, 1301, 2300, *range(2550, 2600, 7), len(frame)]):
        put(frame.part(start, stop))
        list(Following(session).follow([job]))
    found = newest(session, job)
    assert found == expected(frame, ids(session))
    assert session.execute("SELECT max(revision) FROM signals").fetchone() == (0,)
    stored = calibrations(session)
    assert len(stored) >= 2
    assert {row.calibration_id for row in found} == {None, *ids(session).values()}
    for row in found:
        assert (row.calibration_id is None) == (UNCALIBRATED in row.warnings)
        assert row.calibration_id is not None or row.confidence_level == "LOW"
    list(recompute(session, job, 0, END))
    assert newest(session, job) == found
    assert calibrations(session) == stored


def test_samples_are_what_the_outcomes_say(
    session: Connection, job: Job, put: Put, frame: CandleFrame
) -> None:
    put(frame)
    list(Following(session).follow([job]))
    for cut, number, count, bins, _, horizon, *_ in calibrations(session):
        outcomes = session.execute(
            "SELECT score, is_right FROM signals JOIN signal_outcomes ON signal_id = id"
            " WHERE horizon = %s * interval '1 second' AND outcome_timestamp < %s ORDER BY timestamp",
            (horizon, to_datetime(cut)),
        ).fetchall()
        score, is_right = map(np.array, zip(*outcomes, strict=True))
        assert horizon == HORIZON * 3600
        assert count == len(outcomes) == sum(each["count"] for each in bins)
        assert Calibration.parse(number, cut, bins).bins == fit(score, is_right)


def test_the_order_of_computing_does_not_matter(
    session: Connection, job: Job, put: Put, frame: CandleFrame
) -> None:
    put(frame)
    for start in (2700, 2000, 0):
        list(recompute(session, job, int(frame.timestamp[start]), int(frame.close_time[-1])))
    assert newest(session, job) == expected(frame, ids(session))


def test_a_calibration_never_changes(session: Connection, job: Job, put: Put, frame: CandleFrame) -> None:
    hole = frame.part(900, 1000)
    put(frame.part(0, 900))
    put(frame.part(1000, len(frame)))
    list(Following(session).follow([job]))
    before, was = calibrations(session), newest(session, job)
    put(hole)
    session.execute(
        "INSERT INTO tape_revisions (exchange, symbol, from_timestamp, to_timestamp, cause)"
        " VALUES (%s, %s, %s, %s, 'healed')",
        ("simulated", "BTC/USDT", to_datetime(int(hole.timestamp[0])), to_datetime(int(hole.close_time[-1]))),
    )
    list(Following(session).follow([job]))
    kept = calibrations(session)
    # A cut that had too few signals before the hole was healed may have enough now.
    assert [each for each in kept if each[0] >= before[0][0]] == before
    assert len(newest(session, job)) > len(was)
    by_cut = {cut: Calibration.parse(number, cut, bins) for cut, number, _, bins, *_ in kept}
    assert newest(session, job) == calibrated(rows_of(frame), by_cut, composite().thresholds)


def test_a_cut_that_lacks_signals_is_looked_at_once_in_each_revision(
    session: Connection, job: Job, put: Put, frame: CandleFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Any] = []

    def counted(*given: Any) -> tuple[()] | None:
        looked.append(given)
        return None

    monkeypatch.setattr(calibrate, "fit", counted)
    following = Following(session)
    for start, stop in pairwise([0, 500, 510, 530, 560, 600]):
        put(frame.part(start, stop))
        list(following.follow([job]))
    # December has begun by the 500th hour, and there is one cut since.
    assert len(looked) == 1
    session.execute(
        "INSERT INTO tape_revisions (exchange, symbol, from_timestamp, to_timestamp, cause)"
        " VALUES ('simulated', 'BTC/USDT', %s, %s, 'healed')",
        (to_datetime(int(frame.timestamp[100])), to_datetime(int(frame.timestamp[101]))),
    )
    list(following.follow([job]))
    assert len(looked) == 2
    # A later cut is not the one that lacks signals.
    monkeypatch.setattr(calibrate, "fit", fit)
    put(frame.part(600, len(frame)))
    list(following.follow([job]))
    assert len(calibrations(session)) >= 2


def test_the_window_bounds_what_is_counted(
    session: Connection, job: Job, put: Put, frame: CandleFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "WINDOW", 1500)
    put(frame)
    list(Following(session).follow([job]))
    cut, _, count, _, window_from, *_ = calibrations(session)[-1]
    known = samples(rows_of(frame), frame, cut)
    assert window_from == to_datetime(cut - 1500 * LENGTH)
    # The first candle of a window has no type before it: whatever it says counts as a change.
    assert abs(count - np.sum(known.timestamp > cut - 1500 * LENGTH)) <= 1
    assert count < len(known.score)


def test_the_future_changes_no_sample(frame: CandleFrame) -> None:
    cut = cut_before(int(frame.timestamp[2900]))
    part = frame.part(0, frame.find(cut - LENGTH))
    whole, early = samples(rows_of(frame), frame, cut), samples(rows_of(part), part, cut)
    assert np.array_equal(whole.timestamp, early.timestamp)
    assert np.array_equal(whole.is_right, early.is_right)
    assert np.all(whole.timestamp + HORIZON * LENGTH < cut)
    assert len(early.score) > 100
