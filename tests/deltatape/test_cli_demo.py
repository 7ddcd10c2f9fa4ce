"""`deltatape demo` and `deltatape up`: the whole job, as a user runs it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import backtest
from storage import rebuild
from storage.database import connect

PROGRAM = Path(sys.executable).parent / "deltatape"


@pytest.fixture(autouse=True)
def _compiled_once(monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(Path(backtest.__file__).parent / "__pycache__"))


def rows(url, query):
    with connect(url) as connection:
        return connection.execute(query).fetchall()


def holes(url):
    return rows(
        url,
        "SELECT symbol, max(trade_seq) - min(trade_seq) + 1 - count(*) FROM trades GROUP BY 1 ORDER BY 1",
    )


@pytest.mark.timeout(400)
def test_the_whole_job_twice_on_one_tape(cli, database, tmp_path):
    first = cli("demo", "--live", "1", "--hours", "3", timeout=180)
    assert first.returncode == 0, first.stderr
    for part in ("stored (simulated market)", "latest signals", "best runs", "deltatape collect --exchange"):
        assert part in first.stdout
    assert "Traceback" not in first.stderr
    pictures = list((tmp_path / "home" / "reports").glob("*.png"))
    assert len(pictures) == 1
    assert pictures[0].read_bytes().startswith(b"\x89PNG")
    counts = {
        table: rows(database, f"SELECT count(*) FROM {table}")[0][0]
        for table in ("trades", "orderbook_snapshots", "candles", "cvd_snapshots", "signals", "backtest_runs")
    }
    assert min(counts.values()) > 0
    assert holes(database) == [("BTC/USDT", 0), ("ETH/USDT", 0)]

    second = cli("demo", "--live", "1", "--hours", "3", timeout=120)
    assert second.returncode == 0, second.stderr
    assert rows(database, "SELECT count(*) FROM trades")[0][0] > counts["trades"]
    assert holes(database) == [("BTC/USDT", 0), ("ETH/USDT", 0)]
    assert rows(database, "SELECT count(*) FROM stream_gaps WHERE stream = 'trades'") == [(0,)]
    assert rows(database, "SELECT count(*) FROM stream_coverage WHERE stream = 'trades'") == [(2,)]
    with connect(database) as connection:
        for symbol in ("BTC/USDT", "ETH/USDT"):
            assert rebuild.differences(connection, "simulated", symbol, 0, 4 * 10**15) == []


def test_up_collects_follows_and_announces_until_it_is_told_to_stop(cli, database, tmp_path):
    arguments = ["--symbols", "BTC/USDT", "--seed", "7", "--port", "0", "--speed", "600"]
    with subprocess.Popen([PROGRAM, "simulate", *arguments], stdout=subprocess.PIPE, text=True) as exchange:
        try:
            line = exchange.stdout.readline()
            address = line.split("--ws-url ")[1].split()[0]
            command = [PROGRAM, "up", "--exchange", "simulated", "--symbols", "BTC/USDT", "--ws-url", address]
            command += ["--rest-url", address.replace("ws:", "http:")]
            env = {
                "DELTATAPE_DATABASE_URL": database,
                "DELTATAPE_HOME": str(tmp_path),
                "PATH": "/usr/bin:/bin",
            }
            with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as up:
                for _ in range(600):
                    if rows(database, "SELECT count(*) > 0 FROM alerts WHERE status = 'sent'") == [(True,)]:
                        break
                    signal.sigtimedwait([], 0.1)
                running = cli("status").stdout.split("running: ")[1]
                up.send_signal(signal.SIGTERM)
                out, _ = up.communicate(timeout=30)
        finally:
            exchange.terminate()
    assert up.returncode == 0
    assert "BTC/USDT" in out
    assert "deltatape live simulated" in running
    assert rows(database, "SELECT count(*) > 0 FROM signals") == [(True,)]
    assert rows(database, "SELECT count(*) > 0 FROM alerts WHERE status = 'sent'") == [(True,)]
