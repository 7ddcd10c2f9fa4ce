import json

import pytest
from psycopg import sql

from storage.database import connect


def as_user(url, name):
    return url.replace("postgresql://deltatape@", f"postgresql://{name}@")


@pytest.fixture
def made(cli, database):
    """Both roles by kind, as the command says them."""
    superuser = as_user(database, "postgres")
    done = cli("db", "roles", "--json", env={"DELTATAPE_DATABASE_URL": superuser})
    assert done.returncode == 0, done.stderr
    found = {one["kind"]: one for one in json.loads(done.stdout)}
    yield found
    with connect(superuser, autocommit=True) as connection:
        for one in found.values():
            connection.execute(
                sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(one["name"]))
            )


def test_sql_reads_as_the_reader_where_one_is_named(cli, database, made):
    reader = {"DELTATAPE_READER_URL": made["reader"]["url"]}
    done = cli("sql", "SELECT current_user AS who", "--format", "json", env=reader)
    assert json.loads(done.stdout) == [{"who": made["reader"]["name"]}]
    refused = cli("sql", "DELETE FROM trades", env=reader)
    assert refused.returncode == 2
    assert "--write" in refused.stderr
    assert cli("sql", "DELETE FROM trades", "--write", env=reader).returncode == 0, (
        "that goes to the database"
    )


def test_who_only_reads_is_told_so(cli, made):
    done = cli("sql", "DELETE FROM trades", "--write", env={"DELTATAPE_DATABASE_URL": made["reader"]["url"]})
    assert done.returncode == 2
    assert "this role may only read" in done.stderr


@pytest.mark.parametrize(("kind", "command"), [("reader", "up"), ("writer", "down")])
def test_who_may_not_change_tables_is_told_what_can_be_done(cli, made, kind, command):
    arguments = ["upgrade"] if command == "up" else ["downgrade", "0009", "--yes"]
    done = cli("db", *arguments, env={"DELTATAPE_DATABASE_URL": made[kind]["url"]})
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "connect as" in done.stderr


def test_commands_as_the_writer(cli, made):
    writer = {"DELTATAPE_DATABASE_URL": made["writer"]["url"]}
    assert cli("db", "check", env=writer).returncode == 0
    refused = cli("sql", "DROP TABLE trades", "--write", env=writer)
    assert refused.returncode == 2
    assert "must be owner" in refused.stderr


def test_who_may_not_is_told_whom_to_ask(cli):
    done = cli("db", "roles")
    assert done.returncode == 3
    assert "connect as a superuser" in done.stderr
