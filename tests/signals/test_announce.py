from collections.abc import Callable
from dataclasses import replace

import pytest

from market.timeframe import MICROSECONDS, to_datetime
from signals.follow import Following, Job, recompute
from signals.frame import CandleFrame
from signals.strategies import composite
from signals.target import Target
from storage.database import Connection
from storage.outbox import Alert, list_alerts
from storage.routes import SILENT, TO_CONSOLE

MINUTE = 60 * MICROSECONDS
MakeFrame = Callable[..., CandleFrame]
Put = Callable[[CandleFrame], None]


@pytest.fixture
def job(target: Target) -> Job:
    return Job(composite(), target, routes=TO_CONSOLE)


@pytest.fixture
def frame(make_frame: MakeFrame) -> CandleFrame:
    return make_frame(300)


def cover(
    connection: Connection, target: Target, frame: CandleFrame, origin: str, minutes_on: int = 0
) -> None:
    """Say that the trades under `frame` are covered, and that the stream is so far past its end."""
    end = int(frame.timestamp[-1]) + (1 + minutes_on) * MINUTE
    key = (target.exchange, target.symbol)
    connection.execute(
        "INSERT INTO stream_coverage (exchange, symbol, stream, from_timestamp, to_timestamp, proof,"
        " origin, row_count) VALUES (%s, %s, 'trades', %s, %s, 'ids', %s, 1)",
        (*key, to_datetime(int(frame.timestamp[0])), to_datetime(end), origin),
    )
    connection.execute(
        "INSERT INTO stream_state (exchange, symbol, stream, watermark, watermark_timestamp, epoch, status)"
        " VALUES (%s, %s, 'trades', '1', %s, 1, 'live')",
        (*key, to_datetime(end)),
    )


def told(connection: Connection) -> list[Alert]:
    return list_alerts(connection, limit=1000)


def newest_signals(connection: Connection, since: int) -> list[int]:
    rows = connection.execute(
        "SELECT id FROM signals WHERE timestamp >= %s ORDER BY id DESC", (to_datetime(since),)
    )
    return [number for (number,) in rows]


@pytest.mark.parametrize("minutes_on", [0, 2, 3])
def test_only_what_is_fresh_by_the_streams_time_is_told(
    minutes_on: int, session: Connection, job: Job, put: Put, frame: CandleFrame
) -> None:
    put(frame)
    cover(session, job.target, frame, "live", minutes_on)
    list(Following(session).follow([job]))
    now = int(frame.timestamp[-1]) + (1 + minutes_on) * MINUTE
    fresh = newest_signals(session, now - 2 * MINUTE)
    assert [alert.signal_id for alert in told(session)] == fresh


def test_every_live_signal_of_a_stream_is_told_once(
    session: Connection, job: Job, put: Put, frame: CandleFrame
) -> None:
    cover(session, job.target, frame.part(0, 100), "live")
    for stop in range(100, 120):
        put(frame.part(0 if stop == 100 else stop - 1, stop))
        now = to_datetime(int(frame.timestamp[stop - 1]) + MINUTE)
        session.execute("UPDATE stream_coverage SET to_timestamp = %s", (now,))
        session.execute("UPDATE stream_state SET watermark_timestamp = %s", (now,))
        list(Following(session).follow([job]))
    since = int(frame.timestamp[99]) + MINUTE
    alerts = told(session)
    assert len(alerts) > 3
    assert [alert.signal_id for alert in alerts if alert.timestamp > since] == newest_signals(
        session, since + 1
    )
    newest = alerts[0]
    assert newest.payload["reasons"]
    assert newest.payload["signal_type"].replace("_", " ") in newest.title
    assert newest.channel == "console"


@pytest.mark.parametrize("origin", ["replay", "import", "backfill", "healed"])
def test_what_was_not_collected_live_is_stored_in_silence(
    origin: str, session: Connection, job: Job, put: Put, frame: CandleFrame
) -> None:
    put(frame)
    cover(session, job.target, frame, origin)
    list(Following(session).follow([job]))
    assert newest_signals(session, 0)
    assert told(session) == []


def test_without_a_stream_nothing_is_told(
    session: Connection, job: Job, put: Put, frame: CandleFrame
) -> None:
    put(frame)
    list(Following(session).follow([job]))
    assert told(session) == []


def test_a_batch_a_revision_and_no_channel_are_silent(
    session: Connection, job: Job, put: Put, frame: CandleFrame
) -> None:
    put(frame)
    cover(session, job.target, frame, "live")
    list(recompute(session, job, 0, 2**52))
    assert told(session) == []
    session.execute("DELETE FROM signals")
    list(Following(session).follow([replace(job, routes=SILENT)]))
    changed = to_datetime(int(frame.timestamp[-5]))
    session.execute("UPDATE candles SET close = high WHERE timestamp >= %s", (changed,))
    session.execute(
        "INSERT INTO tape_revisions (exchange, symbol, from_timestamp, to_timestamp, cause)"
        " VALUES (%s, %s, %s, %s, 'healed')",
        (job.target.exchange, job.target.symbol, changed, changed),
    )
    list(Following(session).follow([job]))
    assert told(session) == []
