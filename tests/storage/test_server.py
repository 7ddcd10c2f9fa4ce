import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from market import Unavailable, WrongUse
from storage import server
from storage.database import connect
from storage.server import account, apt, binaries, debian
from storage.server.layout import layout

AS_ROOT = os.geteuid() == 0


def quiet(line: str) -> None:
    pass


def start(home: Path, *, durable: bool = False) -> str:
    return server.start(home, durable=durable, report=quiet)


def setting(url: str, name: str) -> str:
    with connect(url) as connection:
        row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return str(row[0])


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """A folder that nobody but its owner may enter."""
    folder = Path(tempfile.mkdtemp(prefix="deltatape-closed-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def test_a_server_is_made_started_stopped_and_started_again(private_home: Path) -> None:
    lines: list[str] = []
    url = server.start(private_home, report=lines.append)
    assert url == server.url(private_home)
    assert lines
    with connect(url) as connection:
        connection.execute("CREATE TABLE kept (x int)")
    running = server.status(private_home)
    assert running.is_running
    assert running.pid
    assert running.user == account.choose(private_home / "cluster").name
    assert running.postgresql.split(".")[0].isdigit()

    lines.clear()
    assert server.start(private_home, report=lines.append) == url
    assert lines == []
    assert server.status(private_home).pid == running.pid

    assert server.stop(private_home)
    assert not server.stop(private_home)
    assert not server.status(private_home).is_running
    with pytest.raises(Unavailable):
        connect(url)
    start(private_home)
    with connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_settings_and_rights(private_home: Path) -> None:
    url = start(private_home, durable=True)
    expected = {
        "TimeZone": "UTC",
        "max_locks_per_transaction": "1024",
        "listen_addresses": "",
        "jit": "off",
        "fsync": "on",
        "synchronous_commit": "on",
        "timescaledb.telemetry_level": "off",
    }
    assert {name: setting(url, name) for name in expected} == expected
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
        assert row == (False,)
        found = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
        assert found.fetchone() == (server.status(private_home).timescaledb,)
    socket = layout(private_home).socket
    assert stat.S_IMODE(socket.stat().st_mode) == 0o700
    assert stat.S_IMODE((private_home / "cluster").stat().st_mode) == 0o700


def test_the_tests_own_server_skips_what_only_a_power_cut_needs(server_url: str) -> None:
    assert setting(server_url, "fsync") == "off"
    assert setting(server_url, "synchronous_commit") == "on"


def test_starts_at_once_make_one_server(private_home: Path) -> None:
    code = "import sys; from pathlib import Path; from storage import server; "
    code += "print(server.start(Path(sys.argv[1]), report=lambda line: None))"
    command = [sys.executable, "-c", code, str(private_home)]
    starts = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = {each.communicate(timeout=120)[0].strip() for each in starts}
    assert [each.returncode for each in starts] == [0] * 4
    assert answers == {server.url(private_home)}


def test_a_killed_server_starts_again(private_home: Path) -> None:
    url = start(private_home)
    pid = server.status(private_home).pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    assert start(private_home) == url
    assert server.status(private_home).pid != pid
    assert setting(url, "TimeZone") == "UTC"


def test_a_lock_file_whose_process_id_is_another_program_now(private_home: Path) -> None:
    start(private_home)
    pid = server.status(private_home).pid
    assert pid
    lock_file = private_home / "cluster" / "postmaster.pid"
    text = lock_file.read_text()
    os.kill(pid, signal.SIGKILL)
    wait_until_gone(pid)
    owner = account.choose(private_home / "cluster")
    identity = {} if owner.is_self else {"user": owner.uid}
    other = subprocess.Popen(["sleep", "60"], **identity)
    try:
        lock_file.write_text(text.replace(str(pid), str(other.pid), 1))
        assert not server.status(private_home).is_running
        start(private_home)
        assert server.status(private_home).is_running
    finally:
        other.kill()
        other.wait()


def test_a_setting_that_cannot_be(private_home: Path) -> None:
    start(private_home)
    server.stop(private_home)
    with (private_home / "cluster" / "postgresql.conf").open("a") as settings:
        settings.write("shared_buffers = much\n")
    with pytest.raises(Unavailable, match="configuration file") as caught:
        start(private_home)
    assert "\n" not in str(caught.value)


def test_what_an_interrupted_initdb_left_is_made_anew(private_home: Path) -> None:
    owner = account.choose(private_home / "cluster")
    left = private_home / "cluster.new"
    (left / "base").mkdir(parents=True)
    (left / "PG_VERSION").write_text("17")
    if not owner.is_self:
        for path in (left, left / "base", left / "PG_VERSION"):
            os.chown(path, owner.uid, owner.gid)
    assert setting(start(private_home), "TimeZone") == "UTC"
    assert not left.exists()


def test_a_path_too_long_for_a_socket(private_home: Path) -> None:
    home = private_home / ("long" * 25)
    home.mkdir()
    if (private_home / "server").exists():
        (home / "server").symlink_to(private_home / "server")
    socket = layout(home).socket
    assert socket.parent == Path("/tmp")
    try:
        assert setting(start(home), "TimeZone") == "UTC"
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700
    finally:
        server.stop(home)
        shutil.rmtree(socket, ignore_errors=True)


def test_a_timescaledb_that_is_gone_without_a_newer_one(private_home: Path) -> None:
    ours = private_home / "server"
    if not ours.exists():
        pytest.skip("this machine's own PostgreSQL runs the tests: its files are not ours to remove")
    unpacked = ours.resolve()
    ours.unlink()
    if subprocess.run(["cp", "-al", unpacked, ours], capture_output=True, check=False).returncode:
        pytest.skip("the programs lie on another disk")
    start(private_home)
    server.stop(private_home)
    for library in ours.rglob("timescaledb-*.so"):
        library.unlink()
    with pytest.raises(Unavailable, match="TimescaleDB cannot be updated: could not access file") as caught:
        start(private_home)
    assert "\n" not in str(caught.value)


def test_a_socket_folder_of_someone_else_is_refused(private_home: Path) -> None:
    (private_home / "socket").symlink_to("/tmp")
    with pytest.raises(Unavailable, match="socket"):
        start(private_home)


def test_a_cluster_of_another_major_version(private_home: Path) -> None:
    cluster = private_home / "cluster"
    cluster.mkdir()
    (cluster / "PG_VERSION").write_text("9")
    if not (private_home / "server").exists():
        pytest.skip("this machine's own PostgreSQL runs the tests: another would be fetched")
    with pytest.raises(Unavailable, match="PostgreSQL 9"):
        start(private_home)


def test_a_home_that_cannot_be_made_or_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WrongUse, match="is a file"):
        start(tmp_path / "file" / "home")
    with pytest.raises(WrongUse, match="cannot make"):
        start(Path("/proc/deltatape"))


@pytest.mark.skipif(not AS_ROOT, reason="only root's server runs as another user")
def test_a_home_that_the_servers_user_cannot_enter(closed_folder: Path) -> None:
    with pytest.raises(WrongUse, match="cannot enter"):
        start(closed_folder / "home")
    assert list(closed_folder.iterdir()) == []


def test_a_home_that_may_lie_elsewhere(closed_folder: Path, private_home: Path) -> None:
    assert server.reachable_home(private_home / "x") == private_home / "x"
    elsewhere = server.reachable_home(closed_folder / "home")
    assert server.reachable_home(closed_folder / "home") == elsewhere
    if AS_ROOT:
        assert elsewhere.parent == Path("/var/tmp")
        elsewhere.rmdir()
    else:
        assert elsewhere == closed_folder / "home"


def test_a_home_that_was_never_used(private_home: Path) -> None:
    found = server.status(private_home)
    assert not found.is_running
    assert found.postgresql == ""
    assert server.program(private_home, "psql") is None
    assert not server.stop(private_home)


def test_programs_of_a_server(private_home: Path) -> None:
    start(private_home)
    psql = server.program(private_home, "psql")
    assert psql is not None
    answer = subprocess.run([psql, "--version"], capture_output=True, text=True, check=True).stdout
    assert server.status(private_home).postgresql in answer


def test_a_folder_without_timescaledb_is_not_taken(tmp_path: Path) -> None:
    assert binaries.inspect(tmp_path, "nowhere") is None
    program = tmp_path / "bin" / "postgres"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 17.2'\n")
    program.chmod(0o755)
    assert binaries.inspect(program.parent, "a bare PostgreSQL") is None
    extensions = tmp_path / "share" / "extension"
    extensions.mkdir(parents=True)
    (extensions / "btree_gist.control").write_text("")
    for version, is_taken in (("2.9.1", False), ("2.19.3", True)):
        (extensions / "timescaledb.control").write_text(f"default_version = '{version}'\n")
        assert (binaries.inspect(program.parent, "with it") is not None) is is_taken


def test_without_an_archive_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="docker compose up -d db"):
        debian.unpack(tmp_path / "server", quiet)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not shutil.which("apt-get"), reason="no apt on this machine")
def test_a_mirror_that_is_not_there(tmp_path: Path) -> None:
    here = apt.Apt(tmp_path, "debian", "trixie")
    with pytest.raises(Unavailable, match="cannot fetch PostgreSQL from trixie") as caught:
        here.update(f"file:{tmp_path}/no-mirror")
    assert "\n" not in str(caught.value)
