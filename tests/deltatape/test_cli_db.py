import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import migrations
from deltatape.cli.app import build

Cli = Callable[..., subprocess.CompletedProcess[str]]
COMMANDS = ("start", "stop", "status", "url", "psql", "upgrade", "downgrade")
NOWHERE = {"DELTATAPE_DATABASE_URL": "postgresql://someone:secret@localhost:1/nowhere"}


@pytest.fixture
def private_cli(private_home: Path) -> Cli:
    """Runs `deltatape …` on a private server of its own."""

    def run(*arguments: str) -> Any:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("DELTATAPE_")}
        return subprocess.run(
            [Path(sys.executable).parent / "deltatape", *arguments],
            env={**clean, "DELTATAPE_HOME": str(private_home)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def lines(text: str) -> list[str]:
    return text.strip().splitlines()


def test_the_private_server_from_first_start_to_stop(private_cli: Cli, private_home: Path) -> None:
    before = private_cli("db", "status")
    assert before.returncode == 0
    assert "deltatape db start" in before.stdout

    started = private_cli("db", "start")
    assert started.returncode == 0, started.stderr
    assert "Starting PostgreSQL" in started.stderr
    assert "deltatape db upgrade" in started.stdout
    again = private_cli("db", "start")
    assert (again.returncode, again.stderr) == (0, "")

    assert private_cli("db", "upgrade").returncode == 0
    found = json.loads(private_cli("db", "status", "--json").stdout)
    assert found["is_private"]
    assert found["is_running"]
    assert found["home"] == str(private_home)
    assert found["revision"] == found["head"] == migrations.head()
    assert found["edition"] in {"apache", "timescale"}

    assert lines(private_cli("db", "stop").stdout) == ["stopped"]
    assert lines(private_cli("db", "stop").stdout) == ["it was not running"]
    stopped = json.loads(private_cli("db", "status", "--json").stdout)
    assert not stopped["is_running"]
    assert stopped["revision"] is None


def test_psql_starts_the_private_server_and_is_its_own(private_cli: Cli) -> None:
    done = private_cli("db", "psql", "-Atc", "SELECT current_user, current_setting('TimeZone')")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "deltatape|UTC\n"


def test_a_named_database(cli: Cli, database: str) -> None:
    assert cli("db", "url").stdout.strip() == database
    found = json.loads(cli("db", "status", "--json").stdout)
    assert not found["is_private"]
    assert found["is_running"]
    assert found["home"] is None
    started = cli("db", "start")
    assert started.returncode == 0
    assert "nothing to start" in started.stderr
    stopped = cli("db", "stop")
    assert stopped.returncode == 2
    assert len(lines(stopped.stderr)) == 1


def test_down_and_up_again(cli: Cli) -> None:
    refused = cli("db", "downgrade", "base")
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert cli("db", "downgrade", "base", "--yes").returncode == 0
    assert json.loads(cli("db", "status", "--json").stdout)["revision"] is None
    assert cli("db", "upgrade").returncode == 0
    assert cli("db", "upgrade", "nonsense").returncode == 2


@pytest.mark.parametrize("command", ["start", "status", "psql", "upgrade"])
def test_a_database_that_does_not_answer(cli: Cli, command: str) -> None:
    done = cli("db", command, env=NOWHERE)
    assert done.returncode == 3
    assert len(lines(done.stderr)) == 1
    assert "nowhere" in done.stderr
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str) -> None:
    done = CliRunner().invoke(build(["db"]), ["db", command, "--help"])
    assert done.exit_code == 0
    assert "Example: " in done.stdout


@pytest.mark.parametrize("arguments", [["start", "--nonsense"], ["downgrade"], ["nonsense"], ["url", "x"]])
def test_wrong_arguments(arguments: list[str]) -> None:
    assert CliRunner().invoke(build(["db"]), ["db", *arguments]).exit_code == 2


def test_a_home_that_cannot_be_used(cli: Cli) -> None:
    env = {"DELTATAPE_HOME": "/proc/deltatape", "DELTATAPE_DATABASE_URL": ""}
    done = cli("db", "start", env=env)
    assert done.returncode == 2
    assert len(lines(done.stderr)) == 1
    assert "DELTATAPE_HOME" in done.stderr
