"""Turns at one place, of two programs: sessions of their own."""

from collections.abc import Iterator

import pytest

from storage import turns
from storage.database import Connection, connect

NOW = 1_800_000_000_000_000
SECOND = 1_000_000
PLACE = "telegram:7"


@pytest.fixture
def others(database: str) -> Iterator[tuple[Connection, Connection]]:
    with connect(database, autocommit=True) as one, connect(database, autocommit=True) as two:
        yield one, two


def call(connection: Connection, at: int, seconds: int = 0, place: str = PLACE) -> None:
    with turns.turn(connection, place, at, 9) as ends:
        assert ends is not None
        turns.begin(connection, place, at)
        turns.end(connection, place, at + seconds * SECOND)


def test_of_two_one_has_the_turn(others: tuple[Connection, Connection]) -> None:
    one, two = others
    with turns.turn(one, PLACE, NOW, 9) as mine:
        assert mine == []
        assert turns.take(two, PLACE, NOW, 9) is None
        assert turns.take(two, "telegram:8", NOW, 9) == []
    assert turns.take(two, PLACE, NOW, 9) == []
    assert turns.take(one, PLACE, NOW, 9) is None


def test_each_sees_the_calls_of_all(others: tuple[Connection, Connection]) -> None:
    one, two = others
    call(one, NOW, 2)
    call(two, NOW + 5 * SECOND)
    call(two, NOW, place="telegram:8")
    with turns.turn(one, PLACE, NOW + 9 * SECOND, 9) as ends:
        assert ends == [NOW + 2 * SECOND, NOW + 5 * SECOND]
    with turns.turn(one, PLACE, NOW + 9 * SECOND, 1) as ends:
        assert ends == [NOW + 5 * SECOND]
    with turns.turn(one, PLACE, NOW + 64 * SECOND, 9) as ends:
        assert ends == [NOW + 5 * SECOND]


def test_a_call_whose_program_died_counts_as_ending_when_the_next_one_comes(
    database: str, others: tuple[Connection, Connection]
) -> None:
    one, _ = others
    with connect(database, autocommit=True) as dying:
        assert turns.take(dying, PLACE, NOW, 9) == []
        turns.begin(dying, PLACE, NOW)
    while (ends := turns.take(one, PLACE, NOW + 3 * SECOND, 9)) is None:
        # The server may take a while to notice that the other session is over.
        pass
    assert ends == [NOW + 3 * SECOND]
    turns.release(one, PLACE)
    with turns.turn(one, PLACE, NOW + 4 * SECOND, 9) as again:
        assert again == [NOW + 3 * SECOND]


def test_what_was_no_call_counts_for_nothing(connection: Connection) -> None:
    with turns.turn(connection, PLACE, NOW, 9):
        turns.begin(connection, PLACE, NOW)
        turns.forget(connection, PLACE)
    with turns.turn(connection, PLACE, NOW, 9) as ends:
        assert ends == []


def test_a_clock_that_was_wrong_stops_nobody(connection: Connection) -> None:
    call(connection, NOW + 3600 * SECOND)
    with turns.turn(connection, PLACE, NOW, 9) as ends:
        assert ends == []


def test_what_matters_no_more_is_not_kept(connection: Connection) -> None:
    for minute in range(5):
        call(connection, NOW + minute * turns.WINDOW)
    call(connection, NOW, place="telegram:8")
    found = connection.execute("SELECT place, count(*) FROM channel_calls GROUP BY 1 ORDER BY 1").fetchall()
    assert found == [(PLACE, 2), ("telegram:8", 1)]
