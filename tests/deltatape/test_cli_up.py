"""`deltatape up`: any of its parts alone, watched from outside, and stopped with everything stored."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from storage.database import connect

PROGRAM = Path(sys.executable).parent / "deltatape"


def environment(url, tmp_path):
    clean = {key: value for key, value in os.environ.items() if not key.startswith("DELTATAPE_")}
    return {**clean, "DELTATAPE_DATABASE_URL": url, "DELTATAPE_HOME": str(tmp_path)}


class Address(str):
    """Of a server whose process can be ended."""

    __slots__ = ("process",)


@contextmanager
def simulated(*more):
    """The address of a simulated exchange."""
    command = [PROGRAM, "simulate", "--symbols", "BTC/USDT", "--seed", "7", "--port", "0", *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            address = Address(re.search(r"ws://[\d.]+:\d+", process.stdout.readline()).group())
            address.process = process
            yield address
        finally:
            process.terminate()


@contextmanager
def up(url, tmp_path, *arguments):
    """A running `deltatape up`, and the address of its endpoint."""
    command = [PROGRAM, "up", "--listen", "127.0.0.1:0", *arguments]
    with subprocess.Popen(
        command, env=environment(url, tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            said = ""
            while not (found := re.search(r"(http://127\.0\.0\.1:\d+)/metrics", said)):
                line = process.stderr.readline()
                assert line, said
                said += line
            yield process, found.group(1)
        finally:
            process.kill()


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def health(address):
    return httpx.get(f"{address}/health", timeout=10)


def metric(address, name):
    text = httpx.get(f"{address}/metrics", timeout=10).text
    found = re.search(rf"^deltatape_{name}\{{.*\}} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def stored(url):
    with connect(url) as connection:
        return connection.execute("SELECT count(*) FROM trades").fetchone()[0]


def sessions(url):
    with connect(url) as connection:
        rows = connection.execute(
            "SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = current_database()"
        ).fetchall()
    return {name for (name,) in rows}


def test_it_collects_tells_and_stores_everything_when_terminated(database, tmp_path):
    with simulated("--speed", "600") as address:
        target = ["--exchange", "simulated", "--symbols", "BTC/USDT", "--ws-url", address]
        target += ["--rest-url", address.replace("ws:", "http:")]
        with up(database, tmp_path, "--only", "collector", *target) as (process, endpoint):
            until(lambda: metric(endpoint, "trades_total") > 200)
            until(lambda: health(endpoint).status_code == 200)
            counted = metric(endpoint, "trades_total")
            process.send_signal(signal.SIGTERM)
            said = process.stderr.read()
            assert process.wait(30) == 0, said
    # What had come when it was counted had not all been written then.
    assert stored(database) >= counted > 200
    assert said.splitlines()[-1] == "stopped; everything that came is stored"


def test_a_lost_exchange_is_unhealthy(database, tmp_path):
    with simulated() as address:
        target = ["--exchange", "simulated", "--symbols", "BTC/USDT", "--ws-url", address]
        target += ["--rest-url", address.replace("ws:", "http:")]
        with up(database, tmp_path, "--only", "collector", *target) as (process, endpoint):
            until(lambda: health(endpoint).status_code == 200)
            address.process.terminate()
            until(lambda: health(endpoint).status_code == 503)
            assert any("not connected" in reason for reason in health(endpoint).json()["reasons"])
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


@pytest.mark.parametrize(("part", "name"), [("signals", "deltatape signals"), ("alerts", "deltatape alerts")])
def test_a_part_alone_is_healthy_until_stopped(database, tmp_path, part, name):
    with up(database, tmp_path, "--only", part) as (process, endpoint):
        until(lambda: any(found.startswith(name) for found in sessions(database)))
        answer = health(endpoint)
        assert (answer.status_code, answer.json()["reasons"]) == (200, [])
        other = {"signals": "alerts", "alerts": "signals"}[part]
        assert not any(found.startswith(f"deltatape {other}") for found in sessions(database))
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_a_missing_database_ends_it_or_is_waited_for(cli, tmp_path):
    nowhere = "postgresql://127.0.0.1:1/none"
    done = cli("up", "--only", "alerts", env={"DELTATAPE_DATABASE_URL": nowhere})
    assert done.returncode == 3
    assert "database none at 127.0.0.1" in done.stderr
    with up(nowhere, tmp_path, "--only", "alerts", "--wait") as (process, endpoint):
        assert health(endpoint).status_code == 503
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--only", "signals", "--exchange", "kraken", "--symbols", "BTC/USD"), "--only collector"),
        (("--listen", "0.0.0.0:9464"), "refusing to listen"),
        (("--only", "everything"), "everything"),
    ],
)
def test_wrong_use(cli, arguments, says):
    done = cli("up", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
