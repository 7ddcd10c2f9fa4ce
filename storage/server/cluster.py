"""The cluster: made once, started, stopped, and the database in it."""

import json
import os
import re
import shutil
import time
from pathlib import Path

import psycopg
from psycopg import errors, sql

from market.errors import Unavailable
from storage.server.account import Account
from storage.server.binaries import Binaries
from storage.server.layout import DATABASE, PORT, Layout

SUPERUSER = "postgres"
# Seconds that a start may take (replaying the log after a crash), that a killed server's processes
# may linger, and that a stop may take.
_RECOVERY = 300.0
_DYING = 20.0
_STOP = 60.0
# In the folder of a restored cluster: it is whole, and this is what the old one will be called.
_READY = "ready"

_SETTINGS = """\
# Written at every start; your own settings go into postgresql.conf, below the line that includes it.
listen_addresses = ''
port = {port}
unix_socket_directories = '{socket}'
unix_socket_permissions = 0700
shared_preload_libraries = 'timescaledb'
timescaledb.telemetry_level = off
# No TimescaleDB jobs are used; its schedulers would hold every database open and so forbid copying
# one as a template.
timescaledb.max_background_workers = 0
# The server is unpacked without LLVM.
jit = off
# One unbounded read of a year of day chunks takes 1,100 locks.
max_locks_per_transaction = 1024
max_wal_size = 2GB
default_toast_compression = pglz
timezone = 'UTC'
log_timezone = 'UTC'
logging_collector = on
log_directory = 'log'
log_filename = 'server-%a.log'
log_truncate_on_rotation = on
log_rotation_age = 1d
log_rotation_size = 0
fsync = {fsync}
full_page_writes = {fsync}
# So that an archive of the log is begun and ended without a restart; without one, nothing is kept.
archive_mode = on
archive_command = 'true'
include_if_exists 'deltatape_archive.conf'
"""


def make(place: Layout, binaries: Binaries, account: Account, *, durable: bool) -> None:
    """Make the cluster if there is none; one that was left half made is made anew.

    Everyone who can open the socket may connect: its folder is 0700, so that is the owner and root.
    """
    if (place.cluster / "PG_VERSION").exists():
        return
    # initdb writes into an empty folder only, so a cluster is made aside and moved when whole.
    fresh = place.home / "cluster.new"
    if fresh.exists():
        account.run(["rm", "-rf", *fresh.iterdir()])
        fresh.rmdir()
    fresh.mkdir(mode=0o700)
    if not account.is_self:
        os.chown(fresh, account.uid, account.gid)
    options = ["--no-locale", "--encoding=UTF8", "--auth=trust", f"--username={SUPERUSER}"]
    if not durable:
        options.append("--no-sync")
    done = account.run([binaries.program("initdb"), *options, "-D", fresh], timeout=300)
    if done.returncode:
        raise Unavailable(f"cannot make a database in {place.home}: {_last_line(done.stderr)}")
    write(fresh / "pg_hba.conf", "local all all trust\n", account)
    with (fresh / "postgresql.conf").open("a") as settings:
        settings.write("\ninclude 'deltatape.conf'\n")
    if place.cluster.exists():
        place.cluster.rmdir()
    fresh.rename(place.cluster)


def launch(
    place: Layout, binaries: Binaries, account: Account, *, durable: bool, patience: float = _RECOVERY
) -> None:
    """Start the server and wait until it answers; harmless where it already runs.

    A server that was killed leaves lock files and dying processes for a second or two: retried. One
    that recovers, from a crash or to a moment, is waited for, `patience` seconds at most.

    Raises:
        Unavailable: it does not come up; the message says why.
    """
    socket = str(place.socket).replace("'", "''")
    text = _SETTINGS.format(port=PORT, socket=socket, fsync="on" if durable else "off")
    write(place.cluster / "deltatape.conf", text, account)
    log = place.cluster / "start.log"
    command: list[str | Path] = [binaries.program("pg_ctl"), "start", "-s", "-w"]
    command += ["-t", str(int(patience)), "-D", place.cluster, "-l", log]
    begun, is_alive, is_started = time.monotonic(), pid(place) is not None, False
    while True:
        if not is_alive:
            is_started = True
            _drop_stale_pid(place)
            log.unlink(missing_ok=True)
            account.run(command, timeout=2 * patience)
        if is_up(place):
            return
        # One that was started here and has died is not simply started again: it has said why.
        is_alive, waited, reason = pid(place) is not None, time.monotonic() - begun, _last_error(place)
        is_passing = "lock file" in reason or "shared memory" in reason
        is_over = is_started and not is_alive and (waited > _DYING or not is_passing)
        if waited > patience or is_over:
            raise Unavailable(f"the private server does not start: {reason} (see {log})")
        time.sleep(0.5)


def halt(place: Layout, binaries: Binaries, account: Account) -> None:
    """Stop the server, ending open sessions, and wait until it is gone."""
    command: list[str | Path] = [
        binaries.program("pg_ctl"),
        "stop",
        "-w",
        "-m",
        "fast",
        "-t",
        str(int(_STOP)),
    ]
    done = account.run([*command, "-s", "-D", place.cluster], timeout=2 * _STOP)
    if done.returncode and pid(place) is not None:
        raise Unavailable(f"the private server does not stop: {_last_line(done.stderr)}")


def give_place(place: Layout, aside: str, history: Path | None, line: bytes) -> None:
    """Put the restored cluster in the place of the stopped one, which is renamed to `aside`.

    `line` goes to the end of the file `history`, where one is given: both happen, or nothing does.
    """
    ready = {"aside": aside, "history": history and str(history), "line": line.decode()}
    draft = place.restoring.home / f"{_READY}.new"
    draft.write_text(json.dumps(ready))
    draft.rename(place.restoring.home / _READY)
    take_place(place)


def take_place(place: Layout) -> None:
    """Finish what `give_place` has begun, where it was interrupted or anything is left to do."""
    mark = place.restoring.home / _READY
    if not mark.exists():
        return
    ready = json.loads(mark.read_text())
    if place.restoring.cluster.exists():
        if place.cluster.exists():
            place.cluster.rename(place.home / ready["aside"])
        place.restoring.cluster.rename(place.cluster)
    if ready["history"]:
        history, line = Path(ready["history"]), ready["line"].encode() + b"\n"
        if not history.exists() or not history.read_bytes().endswith(line):
            with history.open("ab") as out:
                out.write(line)
    shutil.rmtree(place.restoring.home)


def is_up(place: Layout) -> bool:
    """Whether the server takes connections."""
    try:
        psycopg.connect(place.url("postgres", SUPERUSER), connect_timeout=10).close()
    except psycopg.OperationalError:
        return False
    return True


def is_ready(place: Layout) -> bool:
    """Whether the server runs and its database is complete."""
    try:
        with psycopg.connect(place.url(), connect_timeout=10) as connection:
            found = connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'")
            return found.fetchone() is not None
    except psycopg.OperationalError:
        return False


def make_database(place: Layout) -> None:
    """Make the role, the database and its extension, as far as they are missing.

    The role is an ordinary one: what runs as it can neither start programs nor read files of the
    server's user.
    """
    name = sql.Identifier(DATABASE)
    with psycopg.connect(place.url("postgres", SUPERUSER), autocommit=True) as connection:
        if not _exists(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s"):
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB").format(name))
        if not _exists(connection, "SELECT 1 FROM pg_database WHERE datname = %s"):
            connection.execute(sql.SQL("CREATE DATABASE {0} OWNER {0}").format(name))
        connection.execute(sql.SQL("ALTER DATABASE {} SET timezone = 'UTC'").format(name))
    try:
        with psycopg.connect(place.url(), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    except errors.UndefinedFile:
        _update_extension(place)


def _update_extension(place: Layout) -> None:
    """Go over to the TimescaleDB that is there, where the machine's packages have replaced the old one.

    It is the first statement of its session, as any other one asks for the old library; the next session
    shows whether it helped.
    """
    try:
        for statement in ("ALTER EXTENSION timescaledb UPDATE", "SELECT"):
            with psycopg.connect(place.url(), autocommit=True) as connection:
                connection.execute(statement)
    except psycopg.Error as error:
        raise Unavailable(f"TimescaleDB cannot be updated: {_last_line(str(error))}") from None


def pid(place: Layout) -> int | None:
    """The process id of the running server, None if it does not run."""
    number = _recorded_pid(place)
    return number if number is not None and _is_postgres(number) else None


def _exists(connection: psycopg.Connection[tuple[object, ...]], query: str) -> bool:
    return connection.execute(query.encode(), (DATABASE,)).fetchone() is not None


def _recorded_pid(place: Layout) -> int | None:
    try:
        return int((place.cluster / "postmaster.pid").read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None


def _is_postgres(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        return Path(f"/proc/{number}/comm").read_text().strip() == "postgres"
    except OSError:
        return not Path("/proc/self").exists()  # no /proc (macOS): then any process of that id


def _drop_stale_pid(place: Layout) -> None:
    """Remove the lock file of a dead server whose process id went to another program.

    PostgreSQL itself takes any living process of that id for the old server; in a container, where
    ids start at 1 each time, that is common.
    """
    number = _recorded_pid(place)
    if number is not None and not _is_postgres(number):
        (place.cluster / "postmaster.pid").unlink(missing_ok=True)


def write(path: Path, text: str, account: Account) -> None:
    """Write a file that only the account may read."""
    path.write_text(text)
    path.chmod(0o600)
    if not account.is_self:
        os.chown(path, account.uid, account.gid)


def _last_error(place: Layout) -> str:
    """Why the server ended: what it said before it opened its log, else the log's last such line."""
    logs = sorted((place.cluster / "log").glob("*.log"), key=lambda path: path.stat().st_mtime)
    for log in (place.cluster / "start.log", *logs[-1:]):
        text = log.read_text(errors="replace") if log.exists() else ""
        # Whoever asked too early was refused, which says nothing.
        if said := re.findall(r"(?:FATAL|PANIC): +(?!the database system is )(.*)", text):
            return str(said[-1])
    return "it ended without a word"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
