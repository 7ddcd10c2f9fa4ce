"""`deltatape db stats` as a user runs it."""

import json
from random import Random

from streaming import Streaming, random_tape

from storage.database import connect


def test_an_empty_database_says_what_fills_it(cli):
    done = cli("db", "stats")
    assert (done.returncode, done.stderr) == (0, "")
    assert "deltatape collect" in done.stdout


def test_tables_and_their_growth(cli, database):
    with connect(database) as connection:
        Streaming().run(*random_tape(Random(5))).write(connection)
    done = cli("db", "stats")
    assert (done.returncode, done.stderr) == (0, "")
    assert "all of them" in done.stdout
    (trades,) = [line for line in done.stdout.splitlines() if " trades " in line]
    assert trades.count("B") == 3
    assert "signals" not in done.stdout
    found = json.loads(cli("db", "stats", "--json").stdout)
    sizes = {size["table"]: size for size in found["tables"]}
    assert found["bytes"] == sum(size["bytes"] for size in sizes.values())
    assert sizes["trades"]["rows"] > 0
    assert sizes["trades"]["bytes_in_a_year"] > sizes["trades"]["bytes_per_day"] > 0
    assert sizes["signals"]["rows"] == 0


def test_a_database_that_does_not_answer(cli):
    nowhere = {"DELTATAPE_DATABASE_URL": "postgresql://someone:secret@localhost:1/nowhere"}
    done = cli("db", "stats", env=nowhere)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "secret" not in done.stderr
