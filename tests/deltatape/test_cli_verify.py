"""`deltatape verify` as a user runs it, alone and beside a live collector."""

import json
import threading

from beside import SIMULATED, during

from storage.database import connect

DAY_KEYS = {
    "exchange",
    "symbol",
    "day",
    "ok",
    "trades",
    "ids_missing",
    "duplicates",
    "orphans",
    "misordered",
    "candles_wrong",
    "cvd_wrong",
    "coverage_percent",
    "open_gaps",
    "origins",
}


def fill(cli, begin, end):
    arguments = ("backfill", *SIMULATED, "--from", begin, "--to", end, "--json")
    return during(end, lambda rest, _ws: cli(*arguments, "--rest-url", rest))


def test_an_empty_tape_says_what_fills_it(cli):
    done = cli("verify")
    assert done.returncode == 0
    assert "deltatape collect" in done.stdout
    assert json.loads(cli("verify", "--json").stdout) == {"ok": True, "days": [], "gaps": [], "past": {}}


def test_a_tape_is_proven_and_damage_found(cli, database):
    assert fill(cli, "2026-03-01T23:55:00Z", "2026-03-02T00:05:00Z").returncode == 0
    done = cli("verify")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("✓ right") == 3
    record = json.loads(cli("verify", "--json").stdout)
    assert record["ok"]
    assert record["gaps"] == []
    assert [day["day"] for day in record["days"]] == ["2026-03-01", "2026-03-02"]
    assert all(day.keys() >= DAY_KEYS for day in record["days"])
    assert [day["coverage_percent"] for day in record["days"]] == [100.0, 100.0]

    with connect(database) as connection:
        connection.execute("UPDATE candles SET volume = 1e6 WHERE timestamp = '2026-03-01T23:56Z'")
        connection.execute("DELETE FROM trades WHERE timestamp BETWEEN '2026-03-02' AND '2026-03-02T00:01Z'")
        connection.execute(
            """
            INSERT INTO stream_gaps (exchange, symbol, stream, from_timestamp, to_timestamp, cause, status,
                proof)
            VALUES ('simulated', 'BTC/USDT', 'trades', '2026-03-01T23:58Z', '2026-03-01T23:58Z', 'cut',
                'suspected', 'connection')
            """
        )
    done = cli("verify")
    assert done.returncode == 1
    assert "deltatape repair --exchange simulated --symbol BTC/USDT" in done.stdout
    assert "deltatape gaps ack" in done.stdout
    assert "1m at 2026-03-01T23:56:00Z" in done.stdout
    done = cli("verify", "--json")
    assert done.returncode == 1
    record = json.loads(done.stdout)
    first, second = record["days"]
    assert (record["ok"], first["ok"], second["ok"]) == (False, False, False)
    assert (first["candles_wrong"], first["open_gaps"], first["ids_missing"]) == (1, 1, 0)
    assert second["ids_missing"] > 10
    assert second["missing_runs"][0]["first"] < second["missing_runs"][0]["last"]
    assert first["examples"]["candles_wrong"] == [{"timestamp": "2026-03-01T23:56:00Z", "name": "1m"}]
    assert [gap["status"] for gap in record["gaps"]] == ["suspected"]
    only = json.loads(cli("verify", "--json", "--from", "2026-03-02", "--to", "2026-03-03").stdout)
    assert [day["day"] for day in only["days"]] == ["2026-03-02"]


def test_a_live_collector_is_no_false_alarm(cli):
    def job(rest, ws):
        collected = []
        arguments = ("collect", "--exchange", "simulated", "--symbols", "BTC/USDT", "--json")
        running = threading.Thread(
            target=lambda: collected.append(cli(*arguments, "--ws-url", ws, "--rest-url", rest, "--for", "5"))
        )
        running.start()
        seen = []
        while running.is_alive():
            seen.append(cli("verify", "--json"))
        running.join()
        return collected[0], seen, cli("verify", "--json")

    collected, seen, last = during("2026-03-01T23:00:00Z", job, speed=900)
    assert collected.returncode == 0, collected.stderr
    records = [json.loads(done.stdout) for done in seen]
    assert [record for record in records if not record["ok"]] == []
    assert any(record["days"] for record in records)
    record = json.loads(last.stdout)
    assert record["ok"]
    assert sum(day["trades"] for day in record["days"]) == json.loads(collected.stdout)["trades"]


def test_wrong_use_is_one_line(cli):
    for arguments, says in (
        (("--from", "yesterday"), "not a time"),
        (("--from", "2026-03-02", "--to", "2026-03-01"), "is not before"),
    ):
        done = cli("verify", *arguments)
        assert done.returncode == 2
        assert says in done.stderr
        assert len(done.stderr.splitlines()) == 1
