import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest
from typer.testing import CliRunner, Result

import migrations
from deltatape import doctor, upkeep
from deltatape.cli.app import build
from deltatape.doctor import backups
from deltatape.settings import BackupOptions, Settings
from market import DAY, WrongUse
from storage import backup, server
from storage.database import connect
from storage.server import archive
from storage.server.layout import layout
from tests.soak.parts import eventually, private_server

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with private_server() as found:
        yield found.home


@pytest.fixture
def private(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `deltatape …` on a private server of its own."""
    monkeypatch.setenv("DELTATAPE_HOME", str(home))
    # Reading settings says where numba keeps its code: not for the tests that follow.
    monkeypatch.setenv("NUMBA_CACHE_DIR", os.environ.get("NUMBA_CACHE_DIR", ""))
    return lambda *arguments: CliRunner().invoke(build(["db"]), arguments)


def found(home: Path) -> dict[str, tuple[str, str]]:
    """What doctor says of the backups: state and text by check."""
    checks = backups.check(Settings(home=home, database_url=None))
    return {one.check: (one.state, one.text) for one in checks}


def test_from_no_backup_to_a_restored_one(private: Callable[..., Result], home: Path) -> None:
    folder = home / "backups"
    nowhere = private("db", "backup")
    assert isinstance(nowhere.exception, WrongUse)
    assert "--folder" in str(nowhere.exception)
    assert found(home)["backups"][0] == doctor.State.WARNING

    made = private("db", "backup", "--folder", str(folder))
    assert made.exit_code == 0, made.stderr
    assert "archive: the log goes to" in made.stdout
    listed = json.loads(private("db", "backup", "--list", "--json").stdout)
    assert listed["folder"] == str(folder), "the one used last"
    assert len(listed["backups"]) == 1
    assert listed["archive"]["reason"] == ""
    status = json.loads(private("db", "status", "--json").stdout)
    assert {one["check"]: one["state"] for one in status["backups"]} == {
        "archive": "ok",
        "backups": "warning",
    }

    refused = private("db", "restore")
    assert isinstance(refused.exception, WrongUse)
    done = json.loads(private("db", "restore", "--yes", "--json").stdout)
    assert Path(done["aside"]).is_dir()
    assert done["is_archived"]

    # A folder that is gone is named, and what the server does about it.
    folder.rename(home / "away")
    with archive.superuser(layout(home)) as admin:
        admin.execute("SELECT pg_create_restore_point('x'), pg_switch_wal()")
    eventually(lambda: found(home)["archive"][0] == doctor.State.ERROR, 60, "doctor sees it")
    assert "files wait in the data folder" in found(home)["archive"][1]
    assert found(home)["backups"] == (doctor.State.ERROR, f"{folder} is not there")
    (home / "away").rename(folder)

    assert private("db", "backup", "--stop").exit_code == 0
    eventually(lambda: "archive" not in found(home), 60, "the log is archived no more")


def test_the_upkeep_makes_one_when_it_is_due(home: Path) -> None:
    folder = home / "weekly"
    url = server.start(home, durable=False)
    migrations.upgrade(url)
    settings = Settings(home=home, database_url=None, backup=BackupOptions(folder=folder, every_days=2))
    for _ in range(2):
        upkeep.run(url, settings, Event())
    (made,) = backup.list_backups(folder)
    assert not backup.is_due(folder, made.finished + 2 * DAY - 1, 2)
    assert backup.is_due(folder, made.finished + 2 * DAY, 2)
    with connect(url) as connection:
        query = "SELECT value FROM system_metrics WHERE metric = 'backup_made' ORDER BY timestamp"
        assert connection.execute(query).fetchall() == [(1,), (0,)]
    # No trace for the other tests.
    archive.turn_off(layout(home))
    layout(home).archive.unlink()


def test_a_named_database_is_not_ours_to_back_up(cli: Cli) -> None:
    done = cli("db", "restore", "--yes")
    assert done.returncode == 2
    assert "docs/backup.md" in done.stderr
