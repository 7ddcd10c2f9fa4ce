import psycopg
import pytest

import migrations
from market.errors import Unavailable, WrongUse
from storage.database import (
    SCHEMA_REVISION,
    Connection,
    another,
    connect,
    describe,
    edition,
    engine,
    require_schema,
    schema_revision,
)


def test_sessions_are_in_utc_whatever_the_url_says(database: str) -> None:
    with connect(f"{database}&options=-c%20statement_timeout%3D5s") as connection:
        shown = connection.execute("SELECT current_setting('timezone')").fetchone()
        timeout = connection.execute("SELECT current_setting('statement_timeout')").fetchone()
    assert (shown, timeout) == (("UTC",), ("5s",))


def test_application_name(database: str) -> None:
    with connect(database, application_name="deltatape test") as connection:
        row = connection.execute("SELECT current_setting('application_name')").fetchone()
    assert row == ("deltatape test",)


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"cannot connect to database none at 127\.0\.0\.1"):
        connect("postgresql://me:secret@127.0.0.1:1/none")


def test_a_database_that_is_not_there_is_unavailable(database: str) -> None:
    with pytest.raises(Unavailable, match='"nowhere" does not exist') as caught:
        connect(database.replace("/test_", "/nowhere?", 1).split("?")[0] + "?" + database.split("?")[1])
    assert "\n" not in str(caught.value)


def test_what_is_no_url_is_wrong_use() -> None:
    with pytest.raises(WrongUse, match="postgresql://user@host:5432/name"):
        connect("mysql://somewhere")


def test_messages_hold_no_secrets() -> None:
    assert describe("postgresql://me:secret@db.example:5433/tape") == "database tape at db.example"
    assert describe("user=me") == "database (default) at the local socket"


def test_read_only_refuses_every_write(database: str) -> None:
    with (
        connect(database, read_only=True) as connection,
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
    ):
        connection.execute("DELETE FROM trades")


def test_autocommit(database: str, connection: Connection) -> None:
    with connect(database, autocommit=True) as writer:
        writer.execute("CREATE TABLE kept (n int)")
        assert connection.execute("SELECT to_regclass('kept')").fetchone() == ("kept",)


def test_another_connection_is_to_the_same_database_and_of_the_same_kind(connection: Connection) -> None:
    with another(connection) as other:
        assert other.info.backend_pid != connection.info.backend_pid
        assert (other.info.dbname, other.info.user) == (connection.info.dbname, connection.info.user)
        assert other.execute("SHOW timezone").fetchone() == ("UTC",)


def test_engine_speaks_through_the_same_connections(database: str) -> None:
    with engine(database).connect() as connection:
        assert connection.exec_driver_sql("SHOW timezone").scalar_one() == "UTC"


def test_an_engine_to_nowhere_is_unavailable_too() -> None:
    with pytest.raises(Unavailable, match="cannot connect"):
        engine("postgresql://127.0.0.1:1/none").connect()


def test_edition(connection: Connection) -> None:
    assert edition(connection) in ("apache", "timescale")


def test_edition_of_a_plain_database(empty_database: str) -> None:
    with connect(empty_database) as connection, pytest.raises(Unavailable, match="db upgrade"):
        edition(connection)


def test_the_schema_that_the_code_speaks_is_the_newest(connection: Connection) -> None:
    assert migrations.head() == SCHEMA_REVISION
    assert schema_revision(connection) == SCHEMA_REVISION
    require_schema(connection)


def test_an_empty_database_has_no_schema(empty_database: str) -> None:
    with connect(empty_database) as connection:
        with pytest.raises(Unavailable, match="run: deltatape db upgrade"):
            require_schema(connection)
        assert schema_revision(connection) is None


def test_an_older_schema_is_refused(database: str) -> None:
    migrations.downgrade(database, "0001")
    with connect(database) as connection, pytest.raises(Unavailable, match="revision 0001"):
        require_schema(connection)
