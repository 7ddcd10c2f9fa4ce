"""Fixtures on the real thing: one private TimescaleDB for every test session on this machine.

Sessions at once share the server: each holds a shared lock on a file beside it, and the one that
can make its lock exclusive at its end is the last and stops it. A session that is killed loses its
lock to the kernel, so the next last one cleans up after it.
"""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from hypothesis import settings
from psycopg import sql

import migrations
from storage import server
from storage.database import Connection, connect
from storage.server import account, binaries
from storage.server.layout import layout, make_home

ROOT = Path(__file__).parent.parent
DISK_HOME = Path(os.environ.get("DELTATAPE_TEST_HOME") or ROOT / ".cache" / "test-home")
MEMORY = Path("/dev/shm")
ROOM = 4 * 2**30
"""Bytes that the databases of a whole run may take at once, by far."""


def _home() -> tuple[Path, bool]:
    """Where the tests' server lives, and whether that is memory, which a whole run asks for.

    Making and dropping a thousand databases is a good part of a whole run's time on a disk.
    """
    if not os.environ.get("DELTATAPE_TEST_IN_MEMORY"):
        return DISK_HOME, False
    home = MEMORY / f"deltatape-tests-{hashlib.sha256(os.fsencode(ROOT)).hexdigest()[:12]}"
    has_room = MEMORY.is_dir() and (home.exists() or shutil.disk_usage(MEMORY).free > ROOM)
    return (home, True) if has_room else (DISK_HOME, False)


CONFIGURED_HOME, IS_IN_MEMORY = _home()
SESSIONS = CONFIGURED_HOME.parent / f"{CONFIGURED_HOME.name}.sessions"
TEMPLATE_LOCK = CONFIGURED_HOME.parent / f"{CONFIGURED_HOME.name}.template"

# Machine code is made once for all tests and the programs that they start, not anew below each one's home.
os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / ".cache" / "numba"))

# No test knows how fast the machine is. Examples are the same ones each time, so that what landed passes;
# `--hypothesis-profile searching`, as in `make soak`, looks for new ones.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.register_profile("searching", deadline=None)
settings.load_profile("steady")

session_lock = pytest.StashKey[int]()
Cli = Callable[..., subprocess.CompletedProcess[str]]


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    # A terminated session ends like an interrupted one: with its fixtures torn down.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    SESSIONS.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(SESSIONS, os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_SH)
    config.stash[session_lock] = handle
    if IS_IN_MEMORY:
        _link_programs()


def _link_programs() -> None:
    """Fetch PostgreSQL once, onto the disk."""
    on_disk, in_memory = (layout(server.reachable_home(home)) for home in (DISK_HOME, CONFIGURED_HOME))
    owner = account.choose(in_memory.cluster)
    for place in (on_disk, in_memory):
        make_home(place.home, owner)
    with server.locked(on_disk):
        binaries.find(on_disk, report=lambda line: print(line, file=sys.stderr))  # noqa: T201
        if on_disk.binaries.exists() and not os.path.lexists(in_memory.binaries):
            in_memory.binaries.symlink_to(on_disk.binaries)


def pytest_unconfigure(config: pytest.Config) -> None:
    handle = config.stash.get(session_lock, None)
    if handle is None:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # another session still works on the server
    else:
        _stop()
    finally:
        os.close(handle)


def _stop() -> None:
    """Drop what killed sessions and older migrations left, then stop the server."""
    home = server.reachable_home(CONFIGURED_HOME)
    if not server.status(home).is_running:
        return
    with connect(server.url(home), autocommit=True) as admin:
        rows = admin.execute(
            "SELECT datname FROM pg_database WHERE datname ^@ 'test_'"
            " OR (datname ^@ 'template_' AND datname <> %s)",
            (template_name(home),),
        )
        for (name,) in rows.fetchall():
            drop_database(admin, name)
    server.stop(home)
    if IS_IN_MEMORY:
        shutil.rmtree(home)


def template_name(home: Path) -> str:
    """Names the migrated database that tests copy after what it was made from."""
    digest = hashlib.sha256(server.status(home).timescaledb.encode())
    for path in sorted((ROOT / "migrations").rglob("*.py")):
        digest.update(path.read_bytes())
    return f"template_{digest.hexdigest()[:16]}"


def drop_database(admin: Connection, name: str) -> None:
    # Not WITH (FORCE): that is refused while an autovacuum worker, which is no session of ours, is
    # at work there; the plain form ends the worker.
    admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = %s AND usename = current_user",
        (name,),
    )
    admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))


def url_of(server_url: str, name: str) -> str:
    return urlsplit(server_url)._replace(path=f"/{name}").geturl()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@pytest.fixture(scope="session")
def server_url() -> str:
    """The URL of the tests' own server; its database is for CREATE DATABASE and nothing else."""
    return server.start(server.reachable_home(CONFIGURED_HOME), durable=False)


@pytest.fixture(scope="session")
def admin(server_url: str) -> Iterator[Connection]:
    with connect(server_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def template(server_url: str, admin: Connection) -> str:
    """The name of a database at the head of the migrations, which nobody may connect to."""
    name = template_name(server.reachable_home(CONFIGURED_HOME))
    with locked(TEMPLATE_LOCK):
        known = admin.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone()
        if known is None:
            _make_template(server_url, admin, name)
    return name


def _make_template(server_url: str, admin: Connection, name: str) -> None:
    # Made under another name, so that one that was left half made is never taken for it.
    draft = f"test_draft_{uuid4().hex[:12]}"
    admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(draft)))
    migrations.upgrade(url_of(server_url, draft))
    for change in ("ALTER DATABASE {} ALLOW_CONNECTIONS false", "ALTER DATABASE {} RENAME TO {}"):
        names = (sql.Identifier(draft), sql.Identifier(name))
        admin.execute(sql.SQL(change).format(*names[: change.count("{}")]))


@pytest.fixture
def empty_database(server_url: str, admin: Connection) -> Iterator[str]:
    """The URL of a new database without any tables or extensions of ours."""
    name = f"test_{uuid4().hex[:12]}"
    admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield url_of(server_url, name)
    drop_database(admin, name)


@pytest.fixture
def database(server_url: str, admin: Connection, template: str) -> Iterator[str]:
    """The URL of a new database at the head of the migrations, dropped afterwards."""
    yield from _copy_of(template, server_url, admin)


@pytest.fixture
def second_database(server_url: str, admin: Connection, template: str) -> Iterator[str]:
    """Another one, to compare with."""
    yield from _copy_of(template, server_url, admin)


def _copy_of(template: str, server_url: str, admin: Connection) -> Iterator[str]:
    name = f"test_{uuid4().hex[:12]}"
    # Copied as files: without fsync that takes a sixth of the time that it takes through the log.
    copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
    admin.execute(copy.format(sql.Identifier(name), sql.Identifier(template)))
    # A copy does not take a database's settings along.
    admin.execute(sql.SQL("ALTER DATABASE {} SET timezone = 'UTC'").format(sql.Identifier(name)))
    yield url_of(server_url, name)
    drop_database(admin, name)


@pytest.fixture
def community_database() -> Iterator[str]:
    """The URL of a new database, at the head of the migrations, on a server of the Community edition."""
    server = os.environ.get("DELTATAPE_COMMUNITY_URL")
    if not server:
        pytest.skip("DELTATAPE_COMMUNITY_URL names no server of TimescaleDB's Community edition")
    name = f"test_{uuid4().hex[:12]}"
    with connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        migrations.upgrade(url_of(server, name))
        yield url_of(server, name)
        drop_database(admin, name)


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    """A connection to `database`."""
    with connect(database) as connection:
        yield connection


@pytest.fixture
def private_home(server_url: str) -> Iterator[Path]:
    """An empty home that PostgreSQL's user can enter, with the binaries of the tests' own server."""
    home = Path(tempfile.mkdtemp(prefix="deltatape-test-", dir="/tmp"))
    home.chmod(0o755)
    unpacked = server.reachable_home(CONFIGURED_HOME) / "server"
    if unpacked.exists():
        (home / "server").symlink_to(unpacked)
    yield home
    server.stop(home)
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no recordings: {folder} is missing")
    return folder


class Commands:
    """`deltatape …`, each time in a process of its own; as many at once as are asked for."""

    def __init__(self) -> None:
        self._idle: list[subprocess.Popen[str]] = []

    def run(
        self, arguments: Sequence[str], env: dict[str, str], folder: Path, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        parent = self._idle.pop() if self._idle else self._new_parent()
        assert parent.stdin
        assert parent.stdout
        with tempfile.TemporaryDirectory() as outputs:
            paths = [Path(outputs) / name for name in ("stdout", "stderr")]
            parent.stdin.write(json.dumps([arguments, env, str(folder), *map(str, paths)]) + "\n")
            parent.stdin.flush()
            child = int(parent.stdout.readline())
            late, began = Timer(timeout, os.kill, (child, signal.SIGKILL)), time.monotonic()
            late.start()
            code = int(parent.stdout.readline())
            late.cancel()
            texts = [path.read_text() for path in paths]
        self._idle.append(parent)
        if code == -signal.SIGKILL and time.monotonic() - began >= timeout:
            raise subprocess.TimeoutExpired(list(arguments), timeout, *texts)
        return subprocess.CompletedProcess(list(arguments), code, *texts)

    def _new_parent(self) -> "subprocess.Popen[str]":
        command = [sys.executable, str(ROOT / "tests" / "forked.py")]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def close(self) -> None:
        for parent in self._idle:
            parent.communicate()


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    commands = Commands()
    yield commands
    commands.close()


@pytest.fixture
def cli(commands: Commands, database: str, tmp_path: Path) -> Cli:
    """Runs `deltatape …` as its own process on `database`, with an empty home."""

    def run(*arguments: str | Path, env: dict[str, str] | None = None, timeout: float = 60) -> Any:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("DELTATAPE_")}
        ours = {"DELTATAPE_DATABASE_URL": database, "DELTATAPE_HOME": str(tmp_path / "home")}
        return commands.run(
            [str(each) for each in arguments], {**clean, **ours, **(env or {})}, tmp_path, timeout
        )

    return run
