from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import Event

import numpy as np
import pytest
from conftest import put_candles

from market.errors import Unavailable, WrongUse
from market.timeframe import Timeframe
from signals.compute import compute
from signals.follow import Step
from signals.frame import CandleFrame
from signals.options import SignalOptions
from signals.run import Follower, run
from signals.target import Selection, Share, Target, newest_closed, stored_targets
from storage.database import Connection
from storage.notify import notify

MakeFrame = Callable[..., CandleFrame]
Put = Callable[[CandleFrame], None]
OPTIONS = SignalOptions(strategies=("composite", "trend"))


def until(running: Iterator[list[Step]], candles: int) -> list[Step]:
    """What is done until so many candles were evaluated."""
    steps: list[Step] = []
    for done in running:
        steps.extend(done)
        if sum(step.candles for step in steps) >= candles:
            return steps
    raise AssertionError("ended early")


def test_follows_what_closes_while_it_runs(
    database: str, session: Connection, put: Put, make_frame: MakeFrame
) -> None:
    frame, stop = make_frame(320), Event()
    put(frame.part(0, 300))
    running = run(database, OPTIONS, Selection(), stop)
    steps = until(running, 600)
    assert {step.job.strategy.name for step in steps} == {"composite", "trend"}
    put(frame.part(300, 320))
    notify(session, "candles", "simulated")
    assert [step.candles for step in until(running, 40)] == [20, 20]
    stop.set()
    assert list(running) == []
    kept = session.execute("SELECT name, count(*) FROM indicators GROUP BY 1 ORDER BY 1").fetchall()
    assert kept == [("atr_14", 320), ("cvd_20", 320), ("rsi_14", 320)]


def test_a_poll_finds_what_nobody_told(database: str, put: Put, make_frame: MakeFrame) -> None:
    frame, stop = make_frame(320), Event()
    put(frame.part(0, 300))
    running = run(database, OPTIONS, Selection(), stop)
    until(running, 600)
    put(frame.part(300, 301))
    assert len(until(running, 2)) == 2
    stop.set()
    list(running)


def test_batch_equals_live(database: str, session: Connection, put: Put, make_frame: MakeFrame) -> None:
    frame, stop = make_frame(700, holes=(200,)), Event()
    put(frame)
    until(run(database, OPTIONS, Selection(), stop), 2 * len(frame))
    query = (
        "SELECT strategy_name, timestamp, signal_type, score, reasons, warnings FROM signals ORDER BY 1, 2"
    )
    live = session.execute(query).fetchall()
    session.execute("DELETE FROM signals")
    steps = list(compute(database, OPTIONS, Selection(), 0, 2**52))
    assert sum(step.candles for step in steps) == 2 * len(frame)
    assert session.execute(query).fetchall() == live


def test_candles_of_many_that_close_at_once_equal_the_batch(
    database: str, session: Connection, make_frame: MakeFrame
) -> None:
    hours = make_frame(30, timeframe=Timeframe.H1)
    names = ("A/B", "C/D", "E/F", "G/H")
    minutes = {
        Target("simulated", name, Timeframe.M1): make_frame(500, seed=i) for i, name in enumerate(names)
    }
    follower, done = Follower(session, OPTIONS, Selection(timeframes=(Timeframe.M1,))), 0
    for until in (300, 301, 302, 303, 350, 440, 441, 500):
        with session.transaction():
            for i, (target, frame) in enumerate(minutes.items()):
                # One falls behind and catches up, one has a revision.
                stop = 300 if i == 1 and until < 350 else until
                put_candles(session, target, frame.part(300 if i == 1 and 300 < until <= 350 else done, stop))
                now = hours.part(
                    0, int(np.searchsorted(hours.close_time, frame.close_time[until - 1], "right"))
                )
                put_candles(session, replace(target, timeframe=Timeframe.H1), now)
            if until == 441:
                revise(session, names[3])
        follower.look()
        list(follower.advance())
        done = until
    follower.close()
    query = (
        "SELECT symbol, strategy_name, timestamp, signal_type, score, reasons, warnings, indicators"
        " FROM signals ORDER BY 1, 2, 3"
    )
    live = session.execute(query).fetchall()
    assert len(live) > 200
    steps = list(compute(database, OPTIONS, Selection(timeframes=(Timeframe.M1,)), 0, 2**52))
    assert sum(len(step.written) for step in steps) == 0
    session.execute("DELETE FROM signals")
    list(compute(database, OPTIONS, Selection(timeframes=(Timeframe.M1,)), 0, 2**52))
    assert session.execute(query).fetchall() == live
    # Candles that close together are written together.
    kept = session.execute("SELECT name, count(*) FROM indicators GROUP BY 1 ORDER BY 1").fetchall()
    assert kept == [("atr_14", 2000), ("cvd_20", 2000), ("rsi_14", 2000)]


def revise(connection: Connection, symbol: str) -> None:
    """Say that all of an instrument's tape may have changed."""
    connection.execute(
        "INSERT INTO tape_revisions (exchange, symbol, from_timestamp, to_timestamp, cause)"
        " VALUES ('simulated', %s, to_timestamp(0), now(), 'healed')",
        (symbol,),
    )


def test_selection_and_newest(session: Connection, put: Put, make_frame: MakeFrame, target: Target) -> None:
    put(make_frame(50))
    session.execute(
        "INSERT INTO candles (timestamp, exchange, symbol, interval, open, high, low, close, volume,"
        " is_closed, is_whole, source) SELECT timestamp, 'kraken', 'ETH/USD', '5m', open, high, low,"
        " close, volume, true, true, 'exchange' FROM candles LIMIT 1"
    )
    other = Target("kraken", "ETH/USD", Timeframe.M5)
    assert stored_targets(session, Selection()) == [other, target]
    assert stored_targets(session, Selection(exchange="kraken")) == [other]
    assert stored_targets(session, Selection(symbols=("BTC/USDT",))) == [target]
    assert stored_targets(session, Selection(timeframes=(Timeframe.M5,))) == [other]
    assert stored_targets(session, Selection(exchange="okx")) == []
    assert newest_closed(session, [target, other])[target] == make_frame(50).timestamp[-1]
    assert newest_closed(session, []) == {}


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_each_instrument_is_in_one_share_with_about_as_many_as_in_the_others(count: int) -> None:
    names = [("simulated", f"C{number}/USDT") for number in range(700)]
    shares = [Share(part, count) for part in range(1, count + 1)]
    assert all(sum(share.has(*name) for share in shares) == 1 for name in names)
    for share in shares:
        assert sum(share.has(*name) for name in names) == pytest.approx(700 / count, rel=0.3)


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "a/b", "1/2/3", "1 /2"])
def test_what_is_no_share_is_said(text: str) -> None:
    assert Share.parse("2/3") == Share(2, 3)
    with pytest.raises(WrongUse, match="the first of two is 1/2, the second 2/2"):
        Share.parse(text)


def test_shares_together_follow_everything(
    database: str, session: Connection, put: Put, make_frame: MakeFrame, target: Target
) -> None:
    put(make_frame(50))
    followed = []
    for share in (Share(1, 2), Share(2, 2)):
        stop = Event()
        for steps in run(database, OPTIONS, Selection(share=share), stop):
            followed += [step.job.target for step in steps]
            stop.set()
    assert set(followed) == {target}
    assert len(followed) == 2, "two strategies, once each"


def test_an_empty_tape_is_waited_on(database: str) -> None:
    stop = Event()
    running = run(database, OPTIONS, Selection(), stop)
    assert next(running) == []
    stop.set()
    assert list(running) == []


def test_a_strategy_that_is_not_there_is_refused_before_anything_runs(database: str) -> None:
    options = SignalOptions(strategies=("alchemy",))
    with pytest.raises(WrongUse, match="unknown strategy 'alchemy'"):
        next(run(database, options, Selection(), Event()))


def test_a_database_without_tables_is_said_so(empty_database: str) -> None:
    with pytest.raises(Unavailable, match="deltatape db upgrade"):
        next(run(empty_database, OPTIONS, Selection(), Event()))
    with pytest.raises(Unavailable, match="deltatape db upgrade"):
        list(compute(empty_database, OPTIONS, Selection(), 0, 1))


def test_a_lost_connection_loses_and_doubles_nothing(
    database: str, session: Connection, put: Put, make_frame: MakeFrame
) -> None:
    frame, stop = make_frame(330), Event()
    put(frame.part(0, 300))
    running = run(database, SignalOptions(), Selection(), stop)
    until(running, 300)
    session.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name IN ('deltatape signals', 'deltatape listen')"
    )
    put(frame.part(300, 330))
    until(running, 30)
    stop.set()
    list(running)
    live = session.execute("SELECT timestamp, signal_type, score FROM signals ORDER BY 1").fetchall()
    steps = list(compute(database, SignalOptions(), Selection(), 0, 2**52))
    assert sum(len(step.written) for step in steps) == 0
    assert len(live) == len({row[0] for row in live}) > 5
