import threading
import time

import pytest

from market.errors import Unavailable, WrongUse
from storage.database import Connection, connect
from storage.notify import LONGEST, Notification, listen, notify


def test_what_is_committed_after_the_first_none_wakes(connection: Connection, database: str) -> None:
    heard = listen(database, ["candles", "signals"], timeout=60)
    assert next(heard) is None
    notify(connection, "candles", "kraken")
    notify(connection, "other", "not listened to")
    notify(connection, "signals", "it's \\ 'quoted'")
    connection.commit()
    assert next(heard) == Notification("candles", "kraken")
    assert next(heard) == Notification("signals", "it's \\ 'quoted'")


def test_what_is_rolled_back_is_not_told(connection: Connection, database: str) -> None:
    heard = listen(database, ["candles"], timeout=0.2)
    next(heard)
    notify(connection, "candles", "never")
    connection.rollback()
    assert next(heard) is None


def test_silence_yields_none_each_timeout(database: str) -> None:
    heard = listen(database, ["candles"], timeout=0.05)
    begun = time.monotonic()
    assert [next(heard) for _ in range(4)] == [None] * 4
    assert 0.15 <= time.monotonic() - begun < 60


def test_a_notification_cuts_the_wait_short(connection: Connection, database: str) -> None:
    heard = listen(database, ["candles"], timeout=60)
    next(heard)

    def later() -> None:
        time.sleep(0.1)
        notify(connection, "candles", "now")
        connection.commit()

    thread = threading.Thread(target=later)
    begun = time.monotonic()
    thread.start()
    assert next(heard) == Notification("candles", "now")
    thread.join()
    assert time.monotonic() - begun < 10


def test_none_is_lost_while_the_listener_works(connection: Connection, database: str) -> None:
    heard = listen(database, ["candles"], timeout=60)
    next(heard)
    for number in range(100):
        notify(connection, "candles", str(number))
        connection.commit()
    payloads = [each.payload for each in (next(heard) for _ in range(100)) if each]
    assert payloads == [str(number) for number in range(100)]


def test_channel_names_are_quoted(connection: Connection, database: str) -> None:
    heard = listen(database, ['Odd "name"; --'], timeout=60)
    next(heard)
    notify(connection, 'Odd "name"; --', "heard")
    connection.commit()
    assert next(heard) == Notification('Odd "name"; --', "heard")


def test_a_payload_has_a_limit(connection: Connection) -> None:
    notify(connection, "candles", "x" * LONGEST)
    with pytest.raises(WrongUse, match="7999 bytes"):
        notify(connection, "candles", "é" * (LONGEST // 2 + 1))


def test_a_broken_connection_is_unavailable(connection: Connection, database: str) -> None:
    heard = listen(database, ["candles"], timeout=60)
    next(heard)
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'deltatape listen' AND datname = current_database()"
    )
    with pytest.raises(Unavailable, match="lost database test_"):
        next(heard)


def test_no_server_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="cannot connect"):
        next(listen("postgresql://127.0.0.1:1/none", ["candles"], timeout=1))


def test_a_closed_listener_leaves_no_session(connection: Connection, database: str) -> None:
    heard = listen(database, ["candles"], timeout=60)
    next(heard)
    heard.close()  # type: ignore[attr-defined]
    with connect(database, autocommit=True) as watcher:
        for _ in range(100):
            row = watcher.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE application_name = 'deltatape listen' AND datname = current_database()"
            ).fetchone()
            if row == (0,):
                return
            time.sleep(0.02)
    pytest.fail("the listener's session is still there")
