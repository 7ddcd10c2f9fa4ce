from collections.abc import Callable
from random import Random

import numpy as np
import pytest
from conftest import put_candles

from market.timeframe import to_datetime
from signals import recent as keeping
from signals.frame import COLUMNS, CandleFrame
from signals.reading import first_from, read_frame
from signals.recent import Recent
from signals.store import newest_revisions
from signals.target import Target
from storage.database import Connection

MakeFrame = Callable[..., CandleFrame]
Put = Callable[[CandleFrame], None]


def same(one: CandleFrame, other: CandleFrame) -> bool:
    return (
        one.timestamp.tobytes() == other.timestamp.tobytes()
        and one.is_whole.tobytes() == other.is_whole.tobytes()
        and all(one.column(name).tobytes() == other.column(name).tobytes() for name in COLUMNS)
    )


def read(recent: Recent, connection: Connection, target: Target, start: int, end: int) -> CandleFrame:
    tape = recent.tape(connection, [target], newest_revisions(connection, [target]))
    return tape.read(target, start, end)


@pytest.mark.parametrize("seed", range(4))
def test_it_is_always_what_the_tables_say(
    seed: int, session: Connection, target: Target, put: Put, make_frame: MakeFrame
) -> None:
    random, frame, recent = Random(seed), make_frame(400, holes=(100, 101, 250)), Recent()
    done = 0
    for _ in range(40):
        more = min(done + random.choice((0, 1, 1, 7, 60)), len(frame))
        put(frame.part(done, more))
        done = more
        if random.random() < 0.2 and done:
            revise(session, target, frame, random.randrange(done))
        start = int(frame.timestamp[max(done - random.choice((5, 50, 120)), 0)]) - random.choice((0, 1))
        end = int(frame.timestamp[min(done, 396)]) + random.choice((-(10**8), 1, 10**9))
        assert same(read(recent, session, target, start, end), read_frame(session, target, start, end))


def revise(connection: Connection, target: Target, frame: CandleFrame, place: int) -> None:
    """A candle changes, and a revision says so in the same transaction."""
    moment = to_datetime(int(frame.timestamp[place]))
    with connection.transaction():
        connection.execute(
            "UPDATE candles SET imbalance_last = 7 WHERE symbol = %s AND timestamp = %s",
            (target.symbol, moment),
        )
        connection.execute(
            "INSERT INTO tape_revisions (exchange, symbol, from_timestamp, to_timestamp, cause)"
            " VALUES (%s, %s, %s, %s, 'healed')",
            (target.exchange, target.symbol, moment, moment),
        )


def test_only_what_is_new_is_read(
    session: Connection, target: Target, put: Put, make_frame: MakeFrame
) -> None:
    frame, recent = make_frame(300), Recent()
    put(frame.part(0, 299))
    before = read(recent, session, target, 0, 2**52)
    # Whoever read them again would miss them.
    session.execute("DELETE FROM candles")
    put(frame.part(299, 300))
    after = read(recent, session, target, 0, 2**52)
    assert same(after.part(0, 299), before)
    assert after.timestamp[-1] == frame.timestamp[-1]


@pytest.mark.parametrize("room", [1, 3])
def test_older_candles_go_when_there_is_no_room(
    room: int,
    session: Connection,
    target: Target,
    put: Put,
    make_frame: MakeFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeping, "_ROOM", room)
    frame, recent, given = make_frame(60), Recent(), []
    for i in range(len(frame)):
        put(frame.part(i, i + 1))
        for back in (20, 7):
            start = int(frame.timestamp[max(i - back, 0)])
            given.append((read(recent, session, target, start, 2**52), frame.part(max(i - back, 0), i + 1)))
    # Those that were given before are what they were.
    assert all(same(one, other) for one, other in given)
    assert recent._kept[target].count < 30


def test_what_is_new_of_many_is_read_at_once(
    session: Connection, target: Target, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "MOST_NEW", 9)
    recent, targets = (
        Recent(),
        [Target(target.exchange, symbol, target.timeframe) for symbol in ("A/B", "C/D", "E/F")],
    )
    frame = make_frame(40, holes=(33,))
    # The last one has no candle yet; then more are new than are read at once, and then few.
    for start, stops in ((0, (30, 30, 0)), (30, (31, 39, 3)), (31, (34, 40, 3)), (34, (34, 40, 3))):
        for each, stop in zip(targets, stops, strict=True):
            first = start if each is not targets[2] else 0
            put_candles(session, each, frame.part(first, max(stop, first)))
        tape = recent.tape(session, targets, {})
        for each in targets:
            since = int(frame.timestamp[2])
            assert tape.first_from(each, since) == first_from(session, each, since)
            assert same(tape.read(each, since, 2**52), read_frame(session, each, since, 2**52))


def test_it_forgets_what_was_not_asked_for_longest(
    session: Connection, target: Target, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "MOST_KEPT", 2)
    recent = Recent()
    targets = [Target(target.exchange, symbol, target.timeframe) for symbol in ("A/B", "C/D", "E/F")]
    for each in targets:
        put_candles(session, each, make_frame(5))
    for each in (*targets, targets[1]):
        assert len(read(recent, session, each, 0, 2**52)) == 5
    assert list(recent._kept) == [targets[2], targets[1]]
    assert not np.shares_memory(
        read(recent, session, targets[1], 0, 2**52).close, read(recent, session, targets[2], 0, 2**52).close
    )
