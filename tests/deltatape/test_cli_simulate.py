import asyncio
import json
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

PROGRAM = Path(sys.executable).parent / "deltatape"


@contextmanager
def simulating(*arguments: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running `deltatape simulate` and the line that it printed."""
    command = [PROGRAM, "simulate", "--seed", "7", "--port", "0", *arguments]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline()
        finally:
            process.kill()


def refused(*arguments: str, folder: Path) -> tuple[int, str]:
    command = [PROGRAM, "simulate", "--seed", "7", *arguments]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert run.stdout == ""
    assert "Traceback" not in run.stderr
    return run.returncode, run.stderr


def options_of(line: str) -> dict[str, str]:
    words = shlex.split(line.split("deltatape collect", 1)[1])
    return dict(zip(words[::2], words[1::2], strict=True))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_how_to_collect_and_ends_cleanly_with_a_whole_truth(
    number: signal.Signals, tmp_path: Path
) -> None:
    arguments = ["--symbols", "BTC/USDT,ETH/USDT", "--speed", "5000", "--truth", "truth.jsonl"]
    arguments += ["--start", "2026-01-01T00:00:00Z"]
    with simulating(*arguments, folder=tmp_path) as (process, line):
        options = options_of(line)
        assert options["--exchange"] == "simulated"
        assert options["--symbols"] == "BTC/USDT,ETH/USDT"
        assert re.fullmatch(r"ws://127\.0\.0\.1:\d+", options["--ws-url"])
        assert options["--rest-url"] == options["--ws-url"].replace("ws", "http", 1)
        received = asyncio.run(listen_until_stopped(options["--ws-url"], process, number))
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    truth = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()]
    ids = [int(trade["trade_id"]) for trade in truth]
    assert ids == received
    assert truth[0]["timestamp_us"].startswith(str(1_767_225_600)[:7])


def test_it_speaks_another_exchanges_protocol_and_says_how_to_collect_it(tmp_path: Path) -> None:
    arguments = ("--protocol", "kraken", "--symbols", "BTC/USD")
    with simulating(*arguments, folder=tmp_path) as (process, line):
        options = options_of(line)
        assert (options["--exchange"], options["--protocol"]) == ("simulated", "kraken")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    code, reason = refused("--protocol", "nope", "--symbols", "BTC/USD", "--port", "0", folder=tmp_path)
    assert code == 2
    assert "use one of binance, binanceusdm, bybit" in reason


async def listen_until_stopped(url: str, process: subprocess.Popen[str], number: int) -> list[int]:
    ids: list[int] = []
    async with connect(f"{url}/ws/btcusdt@trade", compression=None) as websocket:
        async for message in websocket:
            ids.append(json.loads(message)["t"])
            if len(ids) == 500:
                process.send_signal(number)
    return ids


def test_it_ends_at_once_with_nobody_connected(tmp_path: Path) -> None:
    with simulating("--symbols", "SOL/USDT", folder=tmp_path) as (process, _):
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--symbols", "BTC/USDT", "--port", "0", "--speed", "0"], "speed"),
        (["--symbols", "BTC/USDT", "--port", "0", "--speed", "-3"], "speed"),
        (["--symbols", "BTCUSDT", "--port", "0"], "BTC/USDT"),
        (["--symbols", "BTC/EUR", "--port", "0"], "USDT"),
        (["--symbols", ",", "--port", "0"], "symbol"),
        (["--symbols", "BTC/USDT", "--port", "0", "--protocol", "fix"], "use one of binance"),
        (["--symbols", "BTC/USDT", "--port", "0", "--start", "noon"], "not a time"),
        (["--symbols", "BTC/USDT", "--port", "0", "--start", "1999-01-01"], "exists from"),
        (["--symbols", "BTC/USDT", "--port", "0", "--truth", "no/such/folder/truth"], "cannot write"),
        (["--symbols", "BTC/USDT", "--port", "0", "--host", "0.0.0.0"], "refusing to listen"),
        (["--symbols", "BTC/USDT", "--port", "99999"], "port"),
        (["--port", "0"], "symbols"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(arguments: list[str], reason: str, tmp_path: Path) -> None:
    code, said = refused(*arguments, folder=tmp_path)
    assert code == 2
    assert reason in said
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_leaves_nothing_behind(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, said = refused("--symbols", "BTC/USDT", "--port", port, folder=tmp_path)
    assert code == 2
    assert said == f"error: port {port} is in use: choose another with --port, or --port 0 for any free one\n"


def test_help_has_an_example(tmp_path: Path) -> None:
    run = subprocess.run(
        [PROGRAM, "simulate", "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "Example: deltatape simulate" in run.stdout
