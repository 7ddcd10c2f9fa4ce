"""`deltatape collect`, `replay` and `status` as a user runs them."""

import json
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from typer.main import get_command

from deltatape.cli.app import VERBS, build
from storage.database import connect

PROGRAM = Path(sys.executable).parent / "deltatape"
FIELDS = ["messages", "trades", "book_updates", "candles", "checksums", "rejected", "gaps", "unhandled"]
SIMULATED = ("--exchange", "simulated", "--symbols", "BTC/USDT")


def url_in(line):
    found = re.search(r"ws://[\d.]+:\d+", line)
    assert found, line
    return found.group()


@contextmanager
def running(*arguments):
    """A server command, and the websocket address that it says."""
    command = [PROGRAM, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield url_in(process.stdout.readline())
        finally:
            process.terminate()


def targets(address):
    return ("--ws-url", address, "--rest-url", address.replace("ws:", "http:"))


def rows(url, query):
    with connect(url) as connection:
        return connection.execute(query).fetchall()


def test_replay_prints_its_counts(cli, shared_data):
    done = cli("replay", shared_data / "kraken_v1/KRAKEN.ws.48.0.gz", "--exchange", "kraken_v1", "--json")
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert list(counts) == FIELDS
    assert (counts["messages"], counts["trades"], counts["unhandled"]) == (49, 10, 0)


def test_replay_of_a_file_that_ends_early_stores_what_is_whole(cli, database, shared_data, tmp_path):
    whole = (shared_data / "coinbase/COINBASE.ws.28.0.part-a.gz").read_bytes()
    cut = tmp_path / "cut.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    done = cli("replay", cut, "--exchange", "coinbase", "--json")
    assert done.returncode == 1
    assert "up to its last whole line" in done.stderr
    counts = json.loads(done.stdout)
    assert 0 < counts["trades"] < 75
    assert rows(database, "SELECT count(*) FROM trades") == [(counts["trades"],)]


def test_replay_counts_damaged_lines_and_goes_on(cli, database, shared_data, tmp_path):
    lines = (shared_data / "binance/BINANCE.ws.1.0").read_text().splitlines()
    lines[5] = lines[5][:-10]
    lines.insert(9, "nonsense")
    damaged = tmp_path / "damaged"
    damaged.write_text("\n".join(lines) + "\n")
    for _ in range(2):
        done = cli("replay", damaged, "--exchange", "binance", "--json")
        assert done.returncode == 0, done.stderr
        counts = json.loads(done.stdout)
        assert (counts["rejected"], counts["messages"], counts["trades"]) == (2, 265, 2)
        assert rows(database, "SELECT count(*) FROM rejected_messages") == [(2,)]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("replay", "no-such-file", "--exchange", "binance"), 2, "no-such-file"),
        (("replay", __file__, "--exchange", "binance"), 2, "not one readable message"),
        (("replay", __file__, "--exchange", "mtgox"), 2, "unknown exchange 'mtgox'"),
        (("collect", "--exchange", "mtgox", "--symbols", "BTC/USDT"), 2, "unknown exchange 'mtgox'"),
        (("collect", "--exchange", "simulated", "--symbols", "BTCUSDT"), 2, "write it like BTC/USDT"),
        (("collect", "--exchange", "simulated", "--symbols", " , "), 2, "at least one symbol"),
        (("collect", "--exchange", "kraken_v1", "--symbols", "BTC/CHF"), 2, "--ws-url"),
        (
            ("collect", "--exchange", "binance", "--symbols", "BTC/USDT", "--protocol", "binance"),
            2,
            "simulated",
        ),
        (("collect", *SIMULATED, "--protocol", "fix"), 2, "does not speak 'fix'"),
        (("collect", *SIMULATED, *targets("ws://127.0.0.1:9")), 3, "cannot reach simulated"),
        (("collect", *SIMULATED, "--ws-url", "ws://127.0.0.1:99999"), 2, "--ws-url"),
        (("collect", *SIMULATED, "--ws-url", "127.0.0.1:8765"), 2, "--ws-url"),
        (("up", "--exchange", "simulated"), 2, "go together"),
    ],
)
def test_wrong_use_is_one_line_and_writes_nothing(cli, database, arguments, code, says):
    done = cli(*arguments)
    assert done.returncode == code
    assert done.stdout == ""
    assert says in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "Traceback" not in done.stderr
    for table in ("trades", "candles", "instruments", "stream_coverage"):
        assert rows(database, f"SELECT count(*) FROM {table}") == [(0,)]


def test_a_missing_database_is_said_so(cli):
    for command in (("status",), ("collect", *SIMULATED), ("signals", "list"), ("backtest", "list")):
        done = cli(*command, env={"DELTATAPE_DATABASE_URL": "postgresql://127.0.0.1:1/none"})
        assert done.returncode == 3
        assert "database none at 127.0.0.1" in done.stderr


def test_collect_for_a_while_then_status(cli, database):
    with running(
        "simulate", "--symbols", "BTC/USDT", "--seed", "7", "--port", "0", "--speed", "600"
    ) as address:
        done = cli("collect", *SIMULATED, "--protocol", "binance", *targets(address), "--for", "3", "--json")
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert list(counts) == FIELDS
    assert counts["trades"] == rows(database, "SELECT count(*) FROM trades")[0][0] > 100
    assert counts["gaps"] == counts["unhandled"] == counts["rejected"] == 0
    assert counts["candles"] > 0
    status = json.loads(cli("status", "--json").stdout)
    assert status["rows"]["trades"] == counts["trades"]
    (tape,) = status["instruments"]
    assert (tape["exchange"], tape["symbol"], tape["origins"], tape["open_gaps"]) == (
        "simulated",
        "BTC/USDT",
        ["live"],
        0,
    )
    shown = cli("status").stdout
    assert "simulated" in shown
    assert "stale" in shown


def test_an_unknown_symbol_is_one_line(cli):
    with running("simulate", "--symbols", "BTC/USDT", "--seed", "7", "--port", "0") as address:
        done = cli("collect", "--exchange", "simulated", "--symbols", "NOPE/USDT", *targets(address))
    assert done.returncode == 2
    assert "NOPE/USDT" in done.stderr


def test_an_exchange_that_says_nothing_is_exit_code_3(cli, shared_data):
    # A recording with one message an hour later than the connection.
    with running(
        "simulate", "--symbols", "BTC/USDT", "--seed", "7", "--port", "0", "--speed", "1e-6"
    ) as address:
        done = cli("collect", *SIMULATED, *targets(address), "--for", "1")
    assert done.returncode == 3
    assert "sent no message" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_collecting_in_order(database, tmp_path, number):
    with running(
        "simulate", "--symbols", "BTC/USDT", "--seed", "7", "--port", "0", "--speed", "600"
    ) as address:
        command = [PROGRAM, "collect", *SIMULATED, *targets(address), "--json"]
        env = {"DELTATAPE_DATABASE_URL": database, "DELTATAPE_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
            for _ in range(200):
                if rows(database, "SELECT count(*) > 50 FROM trades") == [(True,)]:
                    break
                signal.sigtimedwait([], 0.1)
            process.send_signal(number)
            out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert json.loads(out)["trades"] == rows(database, "SELECT count(*) FROM trades")[0][0]


def test_status_of_an_empty_tape_says_what_fills_it(cli):
    done = cli("status")
    assert done.returncode == 0
    assert "deltatape collect" in done.stdout


def test_every_verb_has_help_with_an_example(cli):
    assert cli("--help").returncode == 0
    app, runner = get_command(build(VERBS)), CliRunner()
    named = [
        [verb, *subcommand]
        for verb, command in app.commands.items()
        for subcommand in ([[name] for name in getattr(command, "commands", {})] or [[]])
    ]
    assert {verb for verb, *_ in named} == set(VERBS)
    for name in named:
        shown = runner.invoke(app, [*name, "--help"])
        assert shown.exit_code == 0
        assert "Example: " in shown.stdout, name


def test_candles_that_collect_counted_are_stored(cli, database):
    with running(
        "simulate", "--symbols", "BTC/USDT", "--seed", "3", "--port", "0", "--speed", "300"
    ) as address:
        done = cli("collect", *SIMULATED, *targets(address), "--for", "2", "--json")
    counts = json.loads(done.stdout)
    stored = rows(database, "SELECT count(*) FROM candles")[0][0]
    assert counts["candles"] == stored


def test_another_exchanges_recording_is_said_so(cli, shared_data):
    done = cli("replay", shared_data / "binance/BINANCE.ws.1.0", "--exchange", "kraken", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["unhandled"] == 265
    assert "another exchange's recording" in done.stderr


@pytest.mark.parametrize(
    "text", [b"[signals\n", b"\xff\xfe\x00", b"foo = 1\n", b"[[collect]]\nexchange = 1\n"]
)
def test_settings_that_cannot_be_are_one_line(cli, tmp_path, text):
    config = tmp_path / "deltatape.toml"
    config.write_bytes(text)
    done = cli("status", env={"DELTATAPE_CONFIG": str(config)})
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
