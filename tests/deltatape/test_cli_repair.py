"""`deltatape repair` as a user runs it: what it says, and its exit codes."""

import json

from beside import SIMULATED, during

from storage.database import connect

BEGIN, END = "2026-03-01T23:58:00Z", "2026-03-02T00:02:00Z"


def test_a_damaged_tape_is_repaired_over_rest_and_a_second_run_does_nothing(cli, database):
    def fill(rest, _ws):
        return cli("backfill", *SIMULATED, "--from", BEGIN, "--to", END, "--rest-url", rest)

    def repair(rest, _ws):
        return [cli("repair", "--exchange", "simulated", "--rest-url", rest, "--json") for _ in range(2)]

    assert during(END, fill).returncode == 0
    with connect(database) as connection:
        connection.execute("DELETE FROM trades WHERE trade_seq % 10 = 0 AND timestamp < '2026-03-02T00:01Z'")
        connection.execute("UPDATE stream_coverage SET from_timestamp = '2026-03-01T23:58:30Z'")

    dead = cli("repair", "--exchange", "simulated", "--rest-url", "http://127.0.0.1:9")
    assert dead.returncode == 1
    assert "cannot reach simulated" in dead.stdout + dead.stderr
    assert "Traceback" not in dead.stderr

    first, second = during(END, repair)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert json.loads(first.stdout)["holes_healed"] > 5
    assert set(json.loads(second.stdout).values()) == {0}
    assert cli("verify").returncode == 0


def test_what_cannot_be_asked_for_is_said_in_one_line(cli):
    done = cli("repair", "--rest-url", "http://127.0.0.1:9")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--exchange" in done.stderr
    done = cli("repair", "--exchange", "simulated", "--rest-url", "nowhere")
    assert done.returncode == 2
    assert "--rest-url" in done.stderr
