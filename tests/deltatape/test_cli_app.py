"""`deltatape --help`, and how a command ends that Ctrl-C stops."""

import os
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner
from typer.main import get_command

from deltatape.cli.app import _GROUPS, VERBS, build
from deltatape.cli.stopping import stop_event
from storage.database import connect

PROGRAM = Path(sys.executable).parent / "deltatape"


def test_the_help_lists_every_verb_in_one_whole_line():
    shown = CliRunner().invoke(get_command(build(VERBS)), ["--help"]).stdout
    assert all(f"{verb:17}{line}\n" in shown for verb, line in VERBS.items())


def test_the_version_is_the_package_s():
    shown = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout
    assert shown == f"deltatape {metadata.version('deltatape')}\n"


@pytest.mark.parametrize("group", sorted(_GROUPS))
def test_every_group_has_an_example_and_lists_its_commands_whole(group):
    shown = CliRunner().invoke(get_command(build([group])), [group, "--help"]).stdout
    assert f"Example: deltatape {group} " in shown
    assert "..." not in shown.partition("Commands:")[2]


def test_the_first_ctrl_c_asks_and_the_second_interrupts():
    with stop_event(None) as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_replay_that_is_stopped_says_so_and_what_came_is_stored(database, tmp_path, number):
    recording = tmp_path / "long.ws"
    with recording.open("w") as file:
        for count in range(1, 60_001):
            moment = 1_772_323_200_000 + count
            trade = (
                f'"e":"trade","E":{moment},"s":"BTCUSDT","t":{count},"p":"1.5","q":"2","T":{moment},"m":false'
            )
            file.write(f'{moment / 1000}: {{"stream":"btcusdt@trade","data":{{{trade}}}}}\n')
    environment = {**os.environ, "DELTATAPE_DATABASE_URL": database, "DELTATAPE_HOME": str(tmp_path)}
    command = [PROGRAM, "replay", recording, "--exchange", "binance"]
    with (
        connect(database, autocommit=True) as connection,
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as run,
    ):
        deadline = time.monotonic() + 60
        while not (stored := connection.execute("SELECT count(*) FROM trades").fetchone()[0]):
            assert run.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        run.send_signal(number)
        out, said = run.communicate(timeout=60)
        assert (run.returncode, out) == (130, "")
        assert said == "stopped: what came so far is stored, and doing it again goes on\n"
        assert stored <= connection.execute("SELECT count(*) FROM trades").fetchone()[0] < 60_000
