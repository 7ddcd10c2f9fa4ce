from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.account import Account
from market.timeframe import MICROSECONDS, to_datetime
from signals.engine import evaluate
from signals.follow import Following, Job, recompute
from signals.frame import CandleFrame
from signals.options import HORIZONS
from signals.outcomes import ROUND_TRIP, Prices, direction, net_returns
from signals.rows import signal_rows
from signals.strategies import composite
from signals.target import Target
from storage.database import Connection

MINUTE = 60 * MICROSECONDS
END = 2**52
MakeFrame = Callable[..., CandleFrame]
Put = Callable[[CandleFrame], None]
Outcomes = dict[tuple[int, int], tuple[float, bool]]


@pytest.fixture
def job(target: Target) -> Job:
    return Job(composite(), target)


def expected(frame: CandleFrame) -> Outcomes:
    """By close time of the signal and candles of the horizon, from one candle to the next."""
    series = evaluate(composite(), frame)
    opens = dict(zip(frame.timestamp.tolist(), frame.open.tolist(), strict=True))
    closes = dict(zip(frame.timestamp.tolist(), frame.close.tolist(), strict=True))
    found: Outcomes = {}
    for row in signal_rows(composite(), frame, 0, series, None):
        sign = {"BUY": 1, "SELL": -1}.get(row.signal_type.removeprefix("STRONG_"), 0)
        for horizon in HORIZONS:
            last = row.timestamp + (horizon - 1) * MINUTE
            if sign and row.timestamp in opens and last in closes:
                value = sign * (closes[last] / opens[row.timestamp] - 1) - 0.0022
                found[row.timestamp, horizon] = (pytest.approx(value, abs=1e-15), value > 0)
    return found


def stored(connection: Connection) -> Outcomes:
    """The outcomes of the newest revisions; each must lie at its horizon's end."""
    rows = connection.execute("""
        SELECT (extract(epoch FROM timestamp) * 1000000)::bigint,
            (extract(epoch FROM horizon) / 60)::int, return_net, is_right,
            outcome_timestamp - timestamp = horizon
        FROM (SELECT DISTINCT ON (timestamp) * FROM signals ORDER BY timestamp, revision DESC) AS signal
        JOIN signal_outcomes ON signal_id = signal.id WHERE NOT is_withdrawn""").fetchall()
    assert all(is_at_end for *_, is_at_end in rows)
    return {(timestamp, horizon): (value, is_right) for timestamp, horizon, value, is_right, _ in rows}


def revise(connection: Connection, job: Job, start: int, end: int) -> None:
    connection.execute(
        "INSERT INTO tape_revisions (exchange, symbol, from_timestamp, to_timestamp, cause)"
        " VALUES (%s, %s, %s, %s, 'healed')",
        (job.target.exchange, job.target.symbol, to_datetime(start), to_datetime(end)),
    )


def test_the_cost_is_what_a_backtest_takes_by_default() -> None:
    account = Account()
    assert pytest.approx(2 * (account.fee_bps + account.slippage_bps) / 1e4) == ROUND_TRIP


def test_a_type_has_a_direction() -> None:
    kinds = ["STRONG_SELL", "SELL", "NEUTRAL", "BUY", "STRONG_BUY"]
    assert direction(kinds).tolist() == [-1, -1, 0, 1, 1]


@given(st.sets(st.integers(0, 30), max_size=31), st.lists(st.integers(-5, 35), max_size=9), st.integers(1, 9))
def test_a_return_needs_the_candle_of_the_fill_and_the_last_one(
    candles: set[int], signals: list[int], horizon: int
) -> None:
    times = np.array(sorted(candles), dtype=np.int64)
    prices = Prices(times * MINUTE, 100.0 + times, 200.0 + times**2)
    signs = np.where(np.arange(len(signals)) % 2, 1.0, -1.0)
    at = np.array(signals, dtype=np.int64) * MINUTE
    returns = net_returns(prices, at, signs, horizon, MINUTE)
    for begin, sign, value in zip(signals, signs, returns, strict=True):
        last = begin + horizon - 1
        if begin in candles and last in candles:
            assert value == pytest.approx(sign * ((200 + last**2) / (100 + begin) - 1) - ROUND_TRIP)
        else:
            assert np.isnan(value)


def test_each_outcome_is_written_when_its_horizon_has_ended(
    session: Connection, job: Job, put: Put, make_frame: MakeFrame
) -> None:
    frame = make_frame(900, holes=(300, 301, 500))
    for start, stop in pairwise([0, 100, 150, 151, 152, 153, 160, 200, 299, 310, 600, 897]):
        put(frame.part(start, stop))
        list(Following(session).follow([job]))
        assert stored(session) == expected(frame.part(0, stop))
    assert len(stored(session)) > 100
    assert {horizon for _, horizon in stored(session)} == set(HORIZONS)
    count = session.execute("SELECT count(*) FROM signal_outcomes").fetchone()
    assert count == (len(stored(session)),)


def test_what_a_process_that_died_left_unsettled_is_settled_by_the_next(
    session: Connection, job: Job, put: Put, make_frame: MakeFrame
) -> None:
    frame, job = make_frame(700, holes=(300, 301)), replace(job, indicators=("rsi_14",))
    for start, stop in pairwise([0, 100, 150, 151, 152, 299, 310, 311, 600, len(frame)]):
        put(frame.part(start, stop))
        before = stored(session)
        # It dies as soon as the signals are committed.
        (step,) = next(Following(session).follow([job]))
        assert step.candles == stop - start
        assert stored(session) == before
        if start % 2:
            list(Following(session).follow([job]))
            assert stored(session) == expected(frame.part(0, stop))
    list(Following(session).follow([job]))
    assert stored(session) == expected(frame)
    kept = session.execute("SELECT timestamp FROM indicators ORDER BY 1").fetchall()
    assert kept == [(to_datetime(int(time)),) for time in frame.timestamp]


def test_a_batch_writes_what_live_writes(
    session: Connection, job: Job, put: Put, make_frame: MakeFrame
) -> None:
    frame = make_frame(700, holes=(300, 301))
    put(frame)
    list(recompute(session, job, 0, END))
    assert stored(session) == expected(frame)
    before = session.execute("SELECT xmin::text, * FROM signal_outcomes ORDER BY 2, 3").fetchall()
    list(recompute(session, job, 0, END))
    assert session.execute("SELECT xmin::text, * FROM signal_outcomes ORDER BY 2, 3").fetchall() == before


def test_a_part_that_is_computed_has_the_outcomes_that_came_after_it(
    session: Connection, job: Job, put: Put, make_frame: MakeFrame
) -> None:
    frame = make_frame(700)
    put(frame)
    start, end = int(frame.timestamp[300]), int(frame.timestamp[400])
    list(recompute(session, job, start, end))
    inside = {key: value for key, value in expected(frame).items() if start < key[0] <= end}
    assert inside == stored(session)


def test_a_revised_tape_has_other_outcomes(
    session: Connection, job: Job, put: Put, make_frame: MakeFrame
) -> None:
    frame = make_frame(900)
    hole = frame.part(400, 410)
    put(frame.part(0, 400))
    put(frame.part(410, 800))
    list(Following(session).follow([job]))
    untouched = {
        key: value for key, value in stored(session).items() if key[0] <= hole.timestamp[0] - 65 * MINUTE
    }
    put(hole)
    put(frame.part(800, 900))
    revise(session, job, int(hole.timestamp[0]), int(hole.close_time[-1]))
    list(Following(session).follow([job]))
    assert stored(session) == expected(frame)
    assert untouched.items() <= stored(session).items()


def test_a_candle_that_goes_takes_outcomes_with_it(
    session: Connection, job: Job, put: Put, make_frame: MakeFrame
) -> None:
    frame = make_frame(900)
    put(frame)
    list(Following(session).follow([job]))
    # The last candles go: no signal before them changes, but what became of some is not known any more.
    session.execute("DELETE FROM candles WHERE timestamp >= %s", (to_datetime(int(frame.timestamp[850])),))
    revise(session, job, int(frame.timestamp[850]), int(frame.close_time[-1]))
    list(Following(session).follow([job]))
    assert stored(session) == expected(frame.part(0, 850))


def test_horizons_are_a_setting(session: Connection, target: Target, put: Put, make_frame: MakeFrame) -> None:
    put(make_frame(300))
    list(Following(session).follow([Job(composite(), target, horizons=(16, 33))]))
    assert {horizon for _, horizon in stored(session)} == {16, 33}
