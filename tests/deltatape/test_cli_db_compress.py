"""`deltatape db compress` as a user runs it."""

import json
from random import Random

import pytest
from beside import SIMULATED, during
from streaming import EXCHANGE, MIDNIGHT, SYMBOL, Streaming, random_book, random_tape

from storage import ledger
from storage.database import connect, edition


def write(url):
    random = Random(5)
    spans, _ = random_tape(random)
    with connect(url) as connection:
        Streaming().run(spans, [random_book(random, MIDNIGHT)]).write(connection)


def test_the_apache_edition_says_what_is_missing(cli, connection):
    if edition(connection) != "apache":
        pytest.skip("the tests' own server is not of the Apache edition")
    done = cli("db", "compress")
    assert (done.returncode, done.stdout) == (3, "")
    assert "Community edition" in done.stderr
    assert "docker compose up -d db" in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_has_an_example(cli):
    done = cli("db", "compress", "--help")
    assert "deltatape db compress --dry-run" in done.stdout


def test_chunks_are_compressed_once(cli, community_database):
    ours = {"DELTATAPE_DATABASE_URL": community_database}
    nothing = cli("db", "compress", env=ours)
    assert (nothing.returncode, nothing.stderr) == (0, "")
    assert "no chunk is due" in nothing.stdout

    write(community_database)
    dry = cli("db", "compress", "--dry-run", env=ours)
    assert (dry.returncode, dry.stderr) == (0, "")
    assert "chunks that are due" in dry.stdout
    due = json.loads(cli("db", "compress", "--dry-run", "--json", env=ours).stdout)
    assert {each["outcome"] for each in due} == {"due"}
    (books,) = [each for each in due if each["table"] == "orderbook_snapshots"]
    assert (books["from"], books["to"]) == ("2024-10-03T00:00:00Z", "2024-10-10T00:00:00Z")
    assert books["bytes_before"] == books["bytes_after"] > 0

    done = cli("db", "compress", env=ours)
    assert (done.returncode, done.stderr) == (0, "")
    assert "compressed chunks" in done.stdout
    assert json.loads(cli("db", "compress", "--json", env=ours).stdout) == []
    stats = cli("db", "stats", env=ours)
    assert "×" in stats.stdout


def test_open_holes_are_named_and_a_refusal_is_a_no(cli, community_database):
    ours = {"DELTATAPE_DATABASE_URL": community_database}
    write(community_database)
    with connect(community_database) as connection:
        ledger.add_gap(
            connection,
            EXCHANGE,
            SYMBOL,
            "trades",
            MIDNIGHT - 10**9,
            MIDNIGHT + 10**9,
            cause="disconnect",
            status="suspected",
            proof="connection",
        )
    done = cli("db", "compress", env=ours)
    assert done.returncode == 0
    assert "1 open hole in its time: deltatape gaps" in done.stdout

    with connect(community_database) as connection:
        connection.execute("UPDATE stream_gaps SET status = 'unhealable'")
        connection.execute("CREATE SCHEMA fault")
        connection.execute("""
            CREATE FUNCTION fault.compress_chunk(chunk regclass) RETURNS regclass LANGUAGE plpgsql AS $$
            BEGIN
                UPDATE trades SET size = 2 * size;
                RETURN public.compress_chunk(chunk);
            END $$
        """)
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET search_path = fault, public")
    done = cli("db", "compress", env=ours)
    assert done.returncode == 1
    assert "✗ trades" in done.stdout
    assert "would have other values" in done.stdout


def test_a_compressed_day_is_repaired_over_rest_and_compressed_again(cli, community_database):
    ours = {"DELTATAPE_DATABASE_URL": community_database}
    span = "--from", "2026-03-01T23:58:00Z", "--to", "2026-03-02T00:02:00Z"

    def fill(rest, _ws):
        return cli("backfill", *SIMULATED, *span, "--rest-url", rest, env=ours)

    def repair(rest, _ws):
        return cli("repair", "--exchange", "simulated", "--rest-url", rest, "--json", env=ours)

    def tape():
        values = "timestamp, trade_id, trade_seq, price, size, side, cvd_at_trade"
        query = f"SELECT {values} FROM trades ORDER BY timestamp, trade_seq"
        return cli("sql", query, "--format", "csv", env=ours).stdout

    assert during(span[3], fill).returncode == 0
    whole = tape()
    assert whole.count("\n") > 200
    assert "compressed chunks" in cli("db", "compress", env=ours).stdout
    with connect(community_database) as connection:
        connection.execute("DELETE FROM trades WHERE trade_seq % 10 = 0 AND timestamp < '2026-03-02T00:01Z'")
    assert cli("verify", env=ours).returncode == 1
    done = during(span[3], repair)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["holes_healed"] > 5
    assert cli("verify", env=ours).returncode == 0

    again = json.loads(cli("db", "compress", "--json", env=ours).stdout)
    assert {each["outcome"] for each in again} == {"compressed"}
    assert cli("verify", env=ours).returncode == 0
    assert tape() == whole
