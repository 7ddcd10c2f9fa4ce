from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, pairwise

import numpy as np
import pytest

from market.timeframe import MICROSECONDS, to_datetime
from signals import follow as module
from signals.blocks import compute
from signals.engine import evaluate
from signals.follow import Following, Job, recompute
from signals.frame import CandleFrame
from signals.rows import SignalRow, signal_rows
from signals.store import Span, Written, read_states, reconcile
from signals.strategies import composite
from signals.target import Target
from storage.database import Connection, connect

MINUTE = 60 * MICROSECONDS
END = 2**52
MakeFrame = Callable[..., CandleFrame]
Put = Callable[[CandleFrame], None]


@pytest.fixture
def job(target: Target) -> Job:
    return Job(composite(), target)


def expected(frame: CandleFrame) -> list[SignalRow]:
    """What a batch over `frame` calls for."""
    return signal_rows(composite(), frame, 0, evaluate(composite(), frame), None)


def newest(connection: Connection, job: Job) -> list[SignalRow]:
    """What the newest revisions say, read back through the tables."""
    from signals.store import _newest

    span = Span(job.key, 0, END)
    return [old.row for old in _newest(connection, [span])[span].values() if not old.is_withdrawn]


def reconciled(connection: Connection, job: Job, rows: Sequence[SignalRow]) -> tuple[Written, ...]:
    span = Span(job.key, 0, END)
    return reconcile(connection, {span: rows})[span]


def count(connection: Connection, table: str) -> int:
    return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # type: ignore[index]


def revise(connection: Connection, job: Job, start: int, end: int, cause: str = "healed") -> None:
    connection.execute(
        "INSERT INTO tape_revisions (exchange, symbol, from_timestamp, to_timestamp, cause)"
        " VALUES (%s, %s, %s, %s, %s)",
        (job.target.exchange, job.target.symbol, to_datetime(start), to_datetime(end), cause),
    )


def test_a_batch_stores_what_the_pure_function_says(
    session: Connection, job: Job, put: Put, make_frame: MakeFrame
) -> None:
    frame = make_frame(5000, holes=(300, 301, 2500))
    put(frame)
    (step,) = recompute(session, job, 0, END)
    assert step.candles == len(frame)
    assert newest(session, job) == expected(frame)
    assert len(step.written) == len(expected(frame)) > 100
    assert read_states(session, [job.key]).get(job.key) is None


def test_a_second_batch_writes_nothing(
    session: Connection, job: Job, put: Put, make_frame: MakeFrame
) -> None:
    put(make_frame(700))
    list(recompute(session, job, 0, END))
    again = list(recompute(session, job, 0, END))
    assert sum(len(step.written) for step in again) == 0
    assert not any(step.written for steps in Following(session).follow([job]) for step in steps)


@pytest.mark.parametrize("seed", [1, 2])
def test_live_across_restarts_equals_the_batch_bit_for_bit(
    seed: int, session: Connection, job: Job, put: Put, make_frame: MakeFrame
) -> None:
    frame = make_frame(5000, seed=seed, holes=(200, 1000, 1001, 4700))
    cuts = [0, 1, 20, 30, 31, 199, 202, *range(400, 4900, 411), 4901, len(frame)]
    for start, stop in pairwise(cuts):
        put(frame.part(start, stop))
        list(Following(session).follow([job]))
    assert newest(session, job) == expected(frame)
    assert count(session, "signals") == len(expected(frame))
    state = read_states(session, [job.key]).get(job.key)
    assert state is not None
    assert state.candle_watermark == frame.timestamp[-1]


def test_catching_up_in_small_chunks_equals_the_batch(
    session: Connection, job: Job, put: Put, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = make_frame(900, holes=(100, 333))
    put(frame)
    monkeypatch.setattr(module, "CHUNK", 17)
    steps = list(chain.from_iterable(Following(session).follow([job])))
    assert len(steps) > 40
    assert sum(step.candles for step in steps) == len(frame)
    assert newest(session, job) == expected(frame)
    session.execute("DELETE FROM signals")
    list(recompute(session, job, 0, END))
    assert newest(session, job) == expected(frame)


def test_two_followers_write_each_row_once(
    database: str,
    session: Connection,
    job: Job,
    put: Put,
    make_frame: MakeFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame = make_frame(900)
    put(frame)
    monkeypatch.setattr(module, "CHUNK", 50)

    def run(_: int) -> None:
        with connect(database, autocommit=True) as connection:
            list(Following(connection).follow([job]))

    with ThreadPoolExecutor() as pool:
        list(pool.map(run, range(2)))
    assert newest(session, job) == expected(frame)
    assert count(session, "signals") == len(expected(frame))


def test_a_crash_in_a_chunk_leaves_nothing_half_written(
    session: Connection, job: Job, put: Put, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = make_frame(600)
    put(frame)

    def fail(*_: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_states", fail)
        with pytest.raises(RuntimeError, match="power cut"):
            list(Following(session).follow([job]))
    assert count(session, "signals") == 0
    list(Following(session).follow([job]))
    assert newest(session, job) == expected(frame)


def test_a_batch_from_the_middle_knows_the_type_before(
    session: Connection, job: Job, put: Put, make_frame: MakeFrame
) -> None:
    frame = make_frame(6000, holes=(900,))
    put(frame)
    for start in (905, 2000, 5500):
        session.execute("DELETE FROM signals")
        begin = int(frame.timestamp[start])
        list(recompute(session, job, begin, END))
        wanted = [row for row in expected(frame) if row.timestamp > begin]
        assert newest(session, job) == wanted


def test_a_healed_hole_becomes_new_revisions_beside_the_old(
    session: Connection, job: Job, put: Put, make_frame: MakeFrame
) -> None:
    whole = make_frame(1500)
    hole = range(700, 720)
    torn = make_frame(1500, holes=tuple(hole))
    put(torn)
    list(Following(session).follow([job]))
    before = newest(session, job)
    assert before == expected(torn)
    put(whole.part(700, 720))
    start, end = int(whole.timestamp[700]), int(whole.timestamp[720])
    revise(session, job, start, end)
    list(Following(session).follow([job]))
    # is_whole is random in both frames; the healed ones keep the torn frame's.
    flags = whole.is_whole.copy()
    flags[:700], flags[720:] = torn.is_whole[:700], torn.is_whole[700:]
    assert newest(session, job) == expected(replace(whole, is_whole=flags))
    kinds = session.execute("SELECT revision, is_withdrawn, count(*) FROM signals GROUP BY 1, 2")
    found = {(revision, gone): number for revision, gone, number in kinds}
    assert found[0, False] > len(before)
    assert (1, True) in found
    first = session.execute("SELECT count(*) FROM signals WHERE revision = 0").fetchone()
    assert first is not None
    total = count(session, "signals")
    assert list(Following(session).follow([job])) == [[]]
    assert count(session, "signals") == total


def test_a_candle_that_goes_takes_its_signals_back(
    session: Connection, job: Job, put: Put, make_frame: MakeFrame
) -> None:
    frame = make_frame(400)
    put(frame)
    list(Following(session).follow([job]))
    gone = int(frame.timestamp[-100])
    session.execute("DELETE FROM candles WHERE timestamp >= %s", (to_datetime(gone),))
    revise(session, job, gone, gone, "repair")
    list(Following(session).follow([job]))
    assert newest(session, job) == expected(frame.part(0, 300))
    put(frame.part(300, 400))
    revise(session, job, gone, gone, "repair")
    list(Following(session).follow([job]))
    assert newest(session, job) == expected(frame)
    most = session.execute("SELECT max(revision) FROM signals").fetchone()
    assert most == (2,)


def test_a_revision_before_anything_is_defined_is_not_lost(
    session: Connection, job: Job, put: Put, make_frame: MakeFrame
) -> None:
    frame = make_frame(60)
    put(frame.part(0, 10))
    revise(session, job, int(frame.timestamp[0]), int(frame.timestamp[5]))
    list(Following(session).follow([job]))
    assert read_states(session, [job.key]).get(job.key) is None
    revise(session, job, int(frame.timestamp[0]), int(frame.timestamp[5]))
    put(frame.part(10, 60))
    list(Following(session).follow([job]))
    assert newest(session, job) == expected(frame)


def test_an_open_candle_is_not_looked_at(
    session: Connection, job: Job, put: Put, make_frame: MakeFrame
) -> None:
    frame = make_frame(300)
    put(frame)
    session.execute(
        "UPDATE candles SET is_closed = false WHERE timestamp = %s", (to_datetime(int(frame.timestamp[-1])),)
    )
    list(Following(session).follow([job]))
    state = read_states(session, [job.key]).get(job.key)
    assert state is not None
    assert state.candle_watermark == frame.timestamp[-2]


def test_listed_indicators_are_kept_as_they_are_computed(
    session: Connection, job: Job, put: Put, make_frame: MakeFrame
) -> None:
    frame = make_frame(300, holes=(200,))
    names = ("rsi_14", "macd_12_26_9")
    put(frame)
    for _ in range(2):
        session.execute("DELETE FROM signal_state")
        list(Following(session).follow([replace(job, indicators=names)]))
    for name in names:
        rows = session.execute(
            "SELECT timestamp, value, metadata FROM indicators WHERE name = %s ORDER BY 1", (name,)
        ).fetchall()
        outputs = compute(frame, name)
        main = next(iter(outputs.values()))
        assert [row[0] for row in rows] == [to_datetime(int(time)) for time in frame.timestamp]
        assert np.array_equal(np.array([row[1] for row in rows], dtype=float), main, equal_nan=True)
        if len(outputs) > 1:
            assert rows[-1][2] == {key: float(values[-1]) for key, values in outputs.items()}


def test_reconcile_leaves_equal_rows_alone(
    session: Connection, job: Job, put: Put, make_frame: MakeFrame
) -> None:
    rows = expected(make_frame(300))
    assert [w.revision for w in reconciled(session, job, rows)] == [0] * len(rows)
    assert reconciled(session, job, rows) == ()
    changed = [replace(rows[0], price=rows[0].price + 1), *rows[2:]]
    added = reconciled(session, job, changed)
    assert [(w.revision, w.is_withdrawn) for w in added] == [(1, False), (1, True)]
    assert added[1].row == rows[1]
    back = reconciled(session, job, rows)
    assert [(w.revision, w.is_withdrawn) for w in back] == [(2, False), (2, False)]


def test_candles_without_a_type_are_evaluated_once_by_who_remembers(
    session: Connection, job: Job, put: Put, make_frame: MakeFrame
) -> None:
    frame, following = make_frame(60), Following(session)
    steps = []
    for i in range(len(frame)):
        put(frame.part(i, i + 1))
        steps += chain.from_iterable(following.follow([job]))
    assert sum(step.candles for step in steps) == len(frame)
    assert newest(session, job) == expected(frame)
