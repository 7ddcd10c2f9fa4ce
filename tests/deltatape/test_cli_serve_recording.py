import asyncio
import re
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
RECORDING = 'wss://a.example <-> 1.0\n1.5: {"n":1}\n2.0: {"n":2}\n'


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "session"
    path.write_text(RECORDING)
    return path


@contextmanager
def serving(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running `deltatape serve-recording` and its websocket's address."""
    command = [PROGRAM, "serve-recording", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"--ws-url (ws://127\.0\.0\.1:\d+) --rest-url http://127", line)
            assert found, line
            yield process, found[1]
        finally:
            process.kill()


def refused(*arguments: str | Path) -> tuple[int, str]:
    run = subprocess.run(
        [PROGRAM, "serve-recording", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.stdout == ""
    assert "Traceback" not in run.stderr
    return run.returncode, run.stderr


async def hear(url: str) -> list[str]:
    async with connect(url) as websocket:
        return [str(message) async for message in websocket]


def test_it_plays_once_and_exits_0(recording: Path) -> None:
    options = ("--exchange", "coinbase", "--port", "0", "--speed", "1000000")
    with serving(recording, *options) as (process, url):
        assert asyncio.run(hear(url)) == ['{"n":1}', '{"n":2}']
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_it_says_that_a_recording_ends_early(recording: Path) -> None:
    recording.write_text(RECORDING + '3.0: {"n":')
    options = ("--exchange", "kraken_v1", "--port", "0", "--speed", "1000000")
    with serving(recording, *options) as (process, url):
        assert len(asyncio.run(hear(url))) == 2
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert "ends early" in process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_before_its_end_it_is_not_done(number: signal.Signals, recording: Path) -> None:
    with serving(recording, "--exchange", "coinbase", "--port", "0") as (process, _):
        process.send_signal(number)
        assert process.wait(20) == 130


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--exchange", "nowhere", "--port", "0"], "unknown exchange"),
        (["--exchange", "coinbase", "--port", "0", "--speed", "0"], "speed"),
        (["--exchange", "coinbase", "--port", "0", "--host", "8.8.8.8"], "refusing"),
        (["--exchange", "coinbase", "--port", "70000"], "port"),
        (["--port", "0"], "exchange"),
    ],
)
def test_wrong_use_is_exit_code_2(arguments: list[str], reason: str, recording: Path) -> None:
    code, said = refused(recording, *arguments)
    assert (code, reason in said) == (2, True)


def test_files_that_hold_nothing_to_play_are_refused(tmp_path: Path) -> None:
    options = ("--exchange", "coinbase", "--port", "0")
    (tmp_path / "text").write_text("no recording\n")
    code, said = refused(tmp_path / "text", *options)
    assert (code, "not one readable message" in said) == (2, True)
    code, said = refused(tmp_path / "missing", *options)
    assert (code, "missing" in said) == (2, True)
    assert said.count("\n") == 1


def test_a_port_in_use(recording: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, said = refused(recording, "--exchange", "coinbase", "--port", port)
    assert (code, "in use" in said) == (2, True)


def test_help_has_an_example() -> None:
    run = subprocess.run(
        [PROGRAM, "serve-recording", "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "Example: deltatape serve-recording" in run.stdout
