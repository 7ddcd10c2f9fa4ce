"""`deltatape telegram run` and the bot inside `deltatape up`, against the local Bot API."""

import os
import signal
import subprocess
import sys
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
def test_it_answers_and_ends_in_order(process, verb):
    with bot_api() as api:
        with process(*verb, env=configured(api)) as running:
            api.say("/version", ALICE)
            assert "schema" in api.wait_for("sendMessage").message.plain
            running.send_signal(signal.SIGINT)
            said = running.communicate(timeout=60)[1]
        assert running.returncode == 0, said
        assert "Calling Bot API endpoint `sendMessage`" in said
        assert SECRET not in said
        assert said.splitlines()[-1].startswith("stopped; ")


def test_without_a_bot_up_says_so_and_goes_on(process):
    with process("up", "--only", "telegram", "--listen", "127.0.0.1:0") as running:
        said = [running.stderr.readline() for _ in range(3)]
        assert said[0].startswith("no Telegram bot: set DELTATAPE_TELEGRAM__TOKEN")
        assert said[2].startswith("metrics and health")
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=60)
    assert running.returncode == 0


@pytest.fixture
def process(database, tmp_path):
    """Starts `deltatape …`, which is killed at the end if it still runs."""

    @contextmanager
    def start(*arguments, env=None):
        clean = {key: value for key, value in os.environ.items() if not key.startswith("DELTATAPE_")}
        ours = {"DELTATAPE_DATABASE_URL": database, "DELTATAPE_HOME": str(tmp_path)}
        command = [Path(sys.executable).parent / "deltatape", *arguments]
        with subprocess.Popen(
            command, env={**clean, **ours, **(env or {})}, stderr=subprocess.PIPE, text=True
        ) as running:
            try:
                yield running
            finally:
                running.kill()

    return start
