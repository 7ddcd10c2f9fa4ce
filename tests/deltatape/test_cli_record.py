"""`deltatape record` as a user runs it, and what `replay` makes of its files."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from collector.recording import Received, read
from market import WrongUse
from storage.database import connect

PROGRAM = Path(sys.executable).parent / "deltatape"
TARGET = ("--exchange", "simulated", "--symbols", "BTC/USDT,ETH/USDT")


@contextmanager
def simulating(tmp_path, *arguments):
    """A simulator: the arguments that lead to it, and the file with its true trades."""
    truth = tmp_path / "truth.jsonl"
    command = [PROGRAM, "simulate", "--symbols", "BTC/USDT,ETH/USDT", "--seed", "5", "--port", "0"]
    command += ["--speed", "20", "--truth", truth, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            line = process.stdout.readline()
            address = re.search(r"ws://[\d.]+:\d+", line).group()
            yield (*TARGET, "--ws-url", address, "--rest-url", address.replace("ws:", "http:")), truth
        finally:
            process.terminate()


def has_message(folder):
    try:
        return any(isinstance(frame, Received) for frame in read(sorted(folder.glob("*.rec.gz"))))
    except WrongUse:
        return False  # the file has just begun


def tape(url):
    query = "SELECT symbol, trade_id FROM trades ORDER BY symbol, timestamp, trade_seq"
    with connect(url) as connection:
        (books,) = connection.execute("SELECT count(*) FROM orderbook_snapshots").fetchone()
        (holes,) = connection.execute("SELECT count(*) FROM stream_gaps").fetchone()
        return connection.execute(query).fetchall(), books, holes


def test_what_is_recorded_is_replayed_whole(cli, database, tmp_path):
    folder = tmp_path / "recordings"
    with simulating(tmp_path) as (target, truth):
        done = cli("record", *target, "--dir", folder, "--for", "5", "--json")
        assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    files = sorted(folder.iterdir())
    assert report["files"] == [str(path) for path in files]
    assert report["bytes"] == sum(path.stat().st_size for path in files)
    assert report["rejected"] == report["unhandled"] == 0
    replayed = cli("replay", *files, "--exchange", "simulated", "--json")
    assert replayed.returncode == 0, replayed.stderr
    counts = json.loads(replayed.stdout)
    assert {key: counts[key] for key in ("messages", "trades", "book_updates")} == {
        key: report[key] for key in ("messages", "trades", "book_updates")
    }
    trades, books, holes = tape(database)
    assert len(trades) == counts["trades"] > 50
    assert books > 50
    assert holes == 0
    known = [json.loads(line) for line in truth.read_text().splitlines()]
    for symbol in ("BTC/USDT", "ETH/USDT"):
        ids = [trade_id for name, trade_id in trades if name == symbol]
        true_ids = [line["trade_id"] for line in known if line["symbol"] == symbol]
        begin = true_ids.index(ids[0])
        assert ids == true_ids[begin : begin + len(ids)]


def test_ctrl_c_finishes_the_file(tmp_path):
    folder = tmp_path / "recordings"
    with simulating(tmp_path) as (target, _):
        command = [PROGRAM, "record", *target, "--dir", folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            while not has_message(folder):
                assert process.poll() is None
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            shown, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    (path,) = folder.iterdir()
    assert str(path) in shown
    assert re.search(r"messages +│ +\d+", shown)
    assert subprocess.run(["gzip", "-t", path], check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((*TARGET, "--dir", "/proc/nowhere"), 2, "/proc/nowhere"),
        ((*TARGET, "--dir", "r", "--ws-url", "ws://127.0.0.1:9"), 3, "cannot reach simulated"),
        ((*TARGET, "--dir", "r", "--ws-url", "http://127.0.0.1:9"), 2, "--ws-url"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, arguments, code, says):
    environment = {**os.environ, "DELTATAPE_HOME": str(tmp_path / "home")}
    command = [PROGRAM, "record", *arguments]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == code
    assert done.stdout == ""
    assert says in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] != []
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.rec.gz"))
