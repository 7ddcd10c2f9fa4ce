from collections.abc import Iterator
from threading import Event

import psycopg
import pytest

from market.errors import Unavailable, WrongUse
from storage import reconnect
from storage.database import Connection, connect
from storage.reconnect import reconnecting

URL = "postgresql://someone@nowhere/tape"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "FIRST_DELAY", 0.001)


def test_what_is_missing_at_the_start_is_an_error() -> None:
    def work() -> Iterator[int]:
        raise Unavailable("cannot connect")
        yield 1

    with pytest.raises(Unavailable, match="cannot connect"):
        next(reconnecting(URL, work, Event()))


def test_what_is_lost_later_is_begun_anew() -> None:
    lives = iter([[1, 2, psycopg.OperationalError("gone")], [Unavailable("still away")], [3, 4]])

    def work() -> Iterator[int]:
        for item in next(lives):
            if isinstance(item, Exception):
                raise item
            yield item

    assert list(reconnecting(URL, work, Event())) == [1, 2, 3, 4]


def test_a_stop_ends_the_waiting() -> None:
    stop = Event()

    def work() -> Iterator[int]:
        yield 1
        stop.set()
        raise psycopg.OperationalError("gone")

    assert list(reconnecting(URL, work, stop)) == [1]


def test_other_failures_are_not_waited_on() -> None:
    def work() -> Iterator[int]:
        yield 1
        raise WrongUse("no such strategy")

    with pytest.raises(WrongUse, match="no such strategy"):
        list(reconnecting(URL, work, Event()))


def test_a_backend_that_is_killed_is_replaced(database: str, connection: Connection) -> None:
    pids: list[int] = []

    def work() -> Iterator[int]:
        with connect(database, autocommit=True) as worker:
            while True:
                yield worker.info.backend_pid
                worker.execute("SELECT 1")

    for pid in reconnecting(database, work, Event()):
        pids.append(pid)
        if len(set(pids)) == 2:
            break
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    assert len(set(pids)) == 2
