"""`deltatape status`: streams by their heartbeat, collectors by their metrics, once or each second."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from storage.database import connect
from storage.metrics import write_metrics

PROGRAM = Path(sys.executable).parent / "deltatape"


def stream(url, symbol, status="live", *, silent=0, detail="", exchange="kraken"):
    with connect(url) as connection:
        connection.execute(
            "INSERT INTO stream_state"
            " (exchange, symbol, stream, watermark, watermark_timestamp, epoch, status, detail,"
            " updated_timestamp)"
            " VALUES (%s, %s, 'trades', '1', now(), 1, %s, %s,"
            " now() - make_interval(secs => %s))",
            (exchange, symbol, status, detail, silent),
        )


def metrics(url, values, age=0):
    now = int((time.time() - age) * 1e6)
    with connect(url) as connection:
        write_metrics(connection, "collector", now, values, {"exchange": "kraken"})


def test_json_keeps_its_keys_and_tells_each_stream(cli, database):
    stream(database, "BTC/USD", silent=-60)
    stream(database, "ETH/USD", silent=6)
    stream(database, "SOL/USD", "stale", silent=-60, detail="no message for 80 s")
    metrics(database, {"messages_per_second": 12.5, "spool_bytes": 0.0})
    done = cli("status", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"rows", "instruments", "running", "bytes"} < found.keys()
    assert [(row["symbol"], row["state"], row["reason"]) for row in found["streams"]] == [
        ("BTC/USD", "live", ""),
        ("ETH/USD", "down", "no heartbeat"),
        ("SOL/USD", "stale", "no message for 80 s"),
    ]
    assert found["streams"][1]["status"] == "live"
    (collector,) = found["collectors"]
    assert (collector["exchange"], collector["messages_per_second"]) == ("kraken", 12.5)


def test_tables_say_it_in_words(cli, database):
    stream(database, "BTC/USD", silent=-60)
    stream(database, "ETH/USD", silent=6)
    metrics(database, {"messages_per_second": 1234.5, "exchange_lag_p50": 0.02, "exchange_lag_p99": 0.3})
    shown = cli("status").stdout
    assert re.search(r"BTC/USD +│ live ", shown)
    assert re.search(r"ETH/USD +│ down \(no heartbeat\)", shown)
    assert "1,234.5" in shown
    assert "20/300 ms" in shown


def test_metrics_of_a_collector_that_is_gone_are_not_shown(cli, database):
    stream(database, "BTC/USD", silent=60)
    metrics(database, {"messages_per_second": 12.5}, age=60)
    assert json.loads(cli("status", "--json").stdout)["collectors"] == []


def environment(url, tmp_path):
    clean = {key: value for key, value in os.environ.items() if not key.startswith("DELTATAPE_")}
    return {**clean, "DELTATAPE_DATABASE_URL": url, "DELTATAPE_HOME": str(tmp_path), "TERM": "xterm"}


def test_watching_as_json_is_a_line_each_second_until_ctrl_c(database, tmp_path):
    stream(database, "BTC/USD")
    command = [PROGRAM, "status", "--watch", "--json"]
    with subprocess.Popen(
        command,
        env=environment(database, tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        lines = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert [line["streams"][0]["symbol"] for line in lines] == ["BTC/USD", "BTC/USD"]


def test_watching_on_a_terminal_shows_what_changes_until_ctrl_c(database, tmp_path):
    stream(database, "BTC/USD", silent=-600)
    ours, theirs = pty.openpty()
    env = environment(database, tmp_path) | {"COLUMNS": "100", "LINES": "40"}
    with subprocess.Popen(
        [PROGRAM, "status", "--watch"], env=env, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE
    ) as process:
        os.close(theirs)
        screen = read_until(ours, "BTC/USD")
        assert "live" in screen
        stream(database, "ETH/USD", "stale", silent=-600, detail="not subscribed")
        assert "not subscribed" in read_until(ours, "ETH/USD")
        process.send_signal(signal.SIGINT)
        read_until(ours, None)
        assert process.wait(30) == 0
        assert process.stderr.read() == b""
    os.close(ours)


def read_until(terminal, wanted):
    """What the terminal showed until `wanted`, or its end, and a moment longer."""
    shown, deadline = "", time.monotonic() + 60
    while time.monotonic() < deadline:
        patience = 0.3 if wanted is None or wanted in shown else 30
        if not select.select([terminal], [], [], patience)[0]:
            break
        try:
            shown += os.read(terminal, 65536).decode(errors="replace")
        except OSError:
            break  # the other side is closed
    assert wanted is None or wanted in shown
    return shown
