"""`deltatape telegram run` and the bot inside `deltatape up`, against the local Bot API."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from bot_api import TOKEN, bot_api

ALICE = 501
SECRET = TOKEN.partition(":")[2]


def configured(api):
    return {
        "DELTATAPE_TELEGRAM__TOKEN": api.token,
        "DELTATAPE_TELEGRAM__API_URL": api.address,
        "DELTATAPE_TELEGRAM__ALLOWED_USERS": f"[{ALICE}]",
        "DELTATAPE_LOG_LEVEL": "DEBUG",
    }


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({}, "set DELTATAPE_TELEGRAM__TOKEN to the token that @BotFather gave"),
        ({"DELTATAPE_TELEGRAM__TOKEN": TOKEN}, "set telegram.allowed_users to the numbers of who may ask"),
        ({"DELTATAPE_TELEGRAM__TOKEN": "my token"}, "setting telegram.token: "),
    ],
)
def test_what_is_missing_is_said_in_one_line(cli, env, says):
    done = cli("telegram", "run", env=env)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert SECRET not in done.stderr


def test_a_wrong_theme_and_a_telegram_that_is_away(cli):
    with bot_api() as api:
        env = configured(api)
    assert cli("telegram", "run", "--theme", "pink", env=env).returncode == 2
    done = cli("telegram", "run", env=env)
    assert done.returncode == 3
    assert "error: Telegram at 127.0.0.1: " in done.stderr
    assert SECRET not in done.stderr


@pytest.mark.parametrize("verb", [("telegram", "run"), ("up", "--only", "telegram")], ids=" ".join)
def test_it_answers_and_ends_in_order(start, verb):
    with bot_api() as api, start(*verb, env=configured(api)) as (running, said):
        api.say("/version", ALICE)
        assert "schema" in api.wait_for("sendMessage").message.plain
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=60) == 0, said()
    assert "Calling Bot API endpoint `sendMessage`" in said()
    assert SECRET not in said()
    assert "stopped; " in said()


def test_without_a_bot_up_says_so_and_goes_on(start):
    with start("up", "--only", "telegram", "--listen", "127.0.0.1:0") as (running, said):
        until = time.monotonic() + 60
        while "metrics and health" not in said():
            assert time.monotonic() < until, said()
            time.sleep(0.05)
        assert said().startswith("no Telegram bot: set DELTATAPE_TELEGRAM__TOKEN")
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=60) == 0, said()


@pytest.fixture
def start(database, tmp_path):
    """Starts `deltatape …`, and gives it and what it has said so far; it is killed at the end."""

    @contextmanager
    def started(*arguments, env=None):
        clean = {key: value for key, value in os.environ.items() if not key.startswith("DELTATAPE_")}
        ours = {"DELTATAPE_DATABASE_URL": database, "DELTATAPE_HOME": str(tmp_path)}
        command = [Path(sys.executable).parent / "deltatape", *arguments]
        # A file, unlike a pipe, is never full.
        path = tmp_path / "stderr"
        with (
            path.open("w") as stderr,
            subprocess.Popen(command, env={**clean, **ours, **(env or {})}, stderr=stderr) as running,
        ):
            try:
                yield running, path.read_text
            finally:
                running.kill()

    return started
