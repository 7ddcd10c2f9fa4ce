import pytest
from test_migrations_live import fill, rows

from market import Unavailable, WrongUse
from storage import move
from storage.database import connect
from storage.tables import metadata


def quiet(line: str) -> None:
    pass


def test_everything_is_there_and_goes_on(database: str, second_database: str) -> None:
    with connect(database) as connection:
        fill(connection)
        (run,) = connection.execute("SELECT backtest_id FROM backtest_runs").fetchone() or (None,)
        connection.execute("UPDATE sweeps SET best_backtest_id = %s", [run])
    moved = move.copy_database(database, second_database, quiet)
    assert {one.table: one.rows for one in moved} == dict.fromkeys(metadata.tables, 1)
    assert rows(second_database) == rows(database)
    with connect(second_database) as connection:
        # Numbers go on after those that came along.
        connection.execute(
            "INSERT INTO tape_revisions (exchange, symbol, from_timestamp, to_timestamp, cause)"
            " VALUES ('x', 'A/B', now(), now(), 'repair')"
        )
    with pytest.raises(WrongUse, match="has rows in"):
        move.copy_database(database, second_database, quiet)


def test_a_row_that_differs_ends_it_and_nothing_is_there(database: str, second_database: str) -> None:
    with connect(database) as connection:
        fill(connection)
    with connect(second_database) as connection:
        connection.execute(
            "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN NEW.rate = 7; RETURN NEW; END'"
        )
        connection.execute(
            "CREATE TRIGGER spoil BEFORE INSERT ON funding_rates FOR EACH ROW EXECUTE FUNCTION spoil()"
        )
    with pytest.raises(Unavailable, match="the copy of funding_rates is not what was read"):
        move.copy_database(database, second_database, quiet)
    assert not any(rows(second_database).values())


def test_a_collector_that_writes_is_stopped_first(database: str, second_database: str) -> None:
    with connect(database) as writer:
        writer.execute(
            "INSERT INTO stream_state"
            " (exchange, symbol, stream, watermark, watermark_timestamp, epoch, status)"
            " VALUES ('kraken', 'BTC/USD', 'trades', '1', now(), 1, 'live')"
        )
        writer.commit()
        writer.execute("SELECT pg_advisory_lock(hashtextextended('kraken:BTC/USD', 0))")
        with pytest.raises(WrongUse, match="a collector writes kraken BTC/USD: stop it first"):
            move.copy_database(database, second_database, quiet)


def test_another_schema_is_refused(database: str, empty_database: str) -> None:
    with pytest.raises(Unavailable, match="deltatape db upgrade"):
        move.copy_database(database, empty_database, quiet)
