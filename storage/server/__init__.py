"""The private TimescaleDB: found or unpacked, made and run under DELTATAPE_HOME, without root.

`start` is all that most callers need. It is safe to call at any time from any number of processes.
"""

import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from market.errors import WrongUse
from storage.server import account, binaries, cluster
from storage.server.layout import DATABASE, Layout, layout, make_home, make_private, reachable

__all__ = [
    "ServerStatus",
    "locked",
    "program",
    "reachable_home",
    "start",
    "status",
    "stop",
    "superuser_url",
    "url",
]


@dataclass(frozen=True)
class ServerStatus:
    """What there is of a private server; versions are empty before it was first started."""

    home: str
    is_running: bool
    pid: int | None
    url: str
    user: str
    postgresql: str
    timescaledb: str
    programs: str
    origin: str


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def start(home: Path, *, durable: bool = True, report: Callable[[str], None] = _to_stderr) -> str:
    """Start the private server of `home`, making whatever is missing, and give its URL.

    `durable=False` trades safety against power loss for speed; it is meant for tests. `report` gets
    a line for each step that takes time, none where the server already runs.

    Raises:
        WrongUse: the home cannot be used.
        Unavailable: no PostgreSQL with TimescaleDB can be had, or it does not start.
    """
    place = layout(home)
    if cluster.is_ready(place):
        return place.url()
    owner = account.choose(place.cluster)
    make_home(place.home, owner)
    with locked(place):
        if cluster.is_ready(place):
            return place.url()
        cluster.take_place(place)
        found = binaries.find(place, report)
        report(f"Starting PostgreSQL {found.postgresql} with TimescaleDB in {place.home} …")
        make_private(place.socket, owner)
        cluster.make(place, found, owner, durable=durable)
        binaries.write_record(place, found)
        cluster.launch(place, found, owner, durable=durable)
        cluster.make_database(place)
    return place.url()


def stop(home: Path) -> bool:
    """Stop the private server of `home` and wait for it; False where none ran.

    Raises:
        Unavailable: it does not stop.
    """
    place = layout(home)
    found = binaries.read_record(place)
    if found is None or cluster.pid(place) is None:
        return False
    with locked(place):
        cluster.halt(place, found, account.choose(place.cluster))
    return True


def status(home: Path) -> ServerStatus:
    """What runs in `home`; starts nothing."""
    place = layout(home)
    found = binaries.read_record(place)
    running = cluster.pid(place) if cluster.is_up(place) else None
    return ServerStatus(
        home=str(place.home),
        is_running=running is not None,
        pid=running,
        url=place.url(),
        user=account.choose(place.cluster).name,
        postgresql=found.postgresql if found else "",
        timescaledb=found.timescaledb if found else "",
        programs=found.folder if found else "",
        origin=found.origin if found else "",
    )


def url(home: Path) -> str:
    """The URL that `start(home)` gives, whether the server runs or not."""
    return layout(home).url()


def superuser_url(home: Path) -> str:
    """The URL of the same database for who may do everything, such as making roles."""
    return layout(home).url(DATABASE, cluster.SUPERUSER)


def program(home: Path, name: str) -> Path | None:
    """The path of a PostgreSQL program (`psql`, `pg_dump`) of this home's server, None before it was made."""
    found = binaries.read_record(layout(home))
    path = found.program(name) if found else None
    return path if path and path.exists() else None


def reachable_home(home: Path) -> Path:
    """`home`, or, where the server's user cannot enter it, a folder under /var/tmp in its stead.

    For clusters that may lie anywhere, such as that of the tests of a repository under /root.
    """
    place = layout(home)
    return reachable(place.home, account.choose(place.cluster))


@contextmanager
def locked(place: Layout) -> Iterator[None]:
    """Hold the home's lock, as whoever starts or stops the server does; the kernel drops a dead holder's.

    Raises:
        WrongUse: it cannot be written.
    """
    try:
        handle = os.open(place.lock, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise WrongUse(f"cannot write {place.lock} ({error.strerror})") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
