"""Where the private server's parts lie under DELTATAPE_HOME."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from market.errors import Unavailable, WrongUse
from storage.server.account import Account

DATABASE = "deltatape"
PORT = 5432
# A unix socket's path may have 107 characters (103 on macOS), of which its name takes 14.
LONGEST_SOCKET_FOLDER = 88


@dataclass(frozen=True)
class Layout:
    """The folders of one private server.

    `cluster` holds the data, `binaries` the unpacked PostgreSQL (a cluster is bound to its major
    version, so they lie side by side), `record` says which binaries made the cluster.
    """

    home: Path

    @property
    def cluster(self) -> Path:
        """The data folder."""
        return self.home / "cluster"

    @property
    def binaries(self) -> Path:
        """The unpacked PostgreSQL, where this machine has none with TimescaleDB."""
        return self.home / "server"

    @property
    def record(self) -> Path:
        """Which PostgreSQL and TimescaleDB the cluster was made with (JSON)."""
        return self.home / "server.json"

    @property
    def lock(self) -> Path:
        """Held while the server is being started or stopped."""
        return self.home / "server.lock"

    @property
    def archive(self) -> Path:
        """Which folder the cluster's log is archived in (JSON)."""
        return self.home / "archive.json"

    @property
    def restoring(self) -> "Layout":
        """Where a backup is unpacked and brought to its moment, before it takes the cluster's place."""
        return Layout(self.home / "restoring")

    @property
    def socket(self) -> Path:
        """The folder of the unix socket: in the home, or a short one in /tmp where that is too long."""
        inside = self.home / "socket"
        if len(os.fsencode(inside)) <= LONGEST_SOCKET_FOLDER:
            return inside
        return Path("/tmp") / f"deltatape-{_digest(self.home)}"  # noqa: S108 - 0700, owner checked

    def url(self, database: str = DATABASE, user: str = DATABASE) -> str:
        """The libpq URL of a database in this server."""
        host = quote(str(self.socket), safe="")
        return f"postgresql://{user}@/{database}?host={host}&port={PORT}"


def layout(home: Path) -> Layout:
    """The layout of an absolute `home`, whether it exists or not."""
    return Layout(home.expanduser().absolute())


def make_home(home: Path, account: Account) -> None:
    """Make the home folder, or say in one line why it cannot be used; then nothing is left behind.

    Raises:
        WrongUse: it cannot be made or written, or some parent keeps the account out (as root,
            whose server runs as somebody else: anything under /root).
    """
    missing = [folder for folder in (home, *home.parents) if not folder.exists()]
    existing = (missing[-1] if missing else home / "x").parent
    if not existing.is_dir():
        raise WrongUse(f"cannot make {home} ({existing} is a file): {_ELSEWHERE}")
    if not account.can_enter(existing):
        raise WrongUse(
            f"PostgreSQL runs as user {account.name}, who cannot enter {existing}: "
            "set DELTATAPE_HOME to a folder whose parents everyone may enter, "
            "for example /var/lib/deltatape"
        )
    try:
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)  # whatever the umask: as root, an unprivileged server walks in
        writable = home.is_dir() and os.access(home, os.W_OK | os.X_OK)
    except OSError as error:
        raise WrongUse(f"cannot make {home} ({error.strerror}): {_ELSEWHERE}") from None
    if not writable:
        raise WrongUse(f"cannot write in {home}: {_ELSEWHERE}")


def make_private(folder: Path, account: Account) -> None:
    """Make a 0700 folder of the account, or check that an existing one is just that.

    Raises:
        Unavailable: the folder exists and belongs to someone else.
    """
    try:
        folder.mkdir(mode=0o700)
        made = True
    except FileExistsError:
        made = False
    if made and not account.is_self:
        os.chown(folder, account.uid, account.gid)
    found = folder.lstat()
    if folder.is_symlink() or not folder.is_dir() or found.st_uid != account.uid:
        raise Unavailable(f"{folder} is not a folder of user {account.name}: remove it")
    if found.st_mode & 0o077:
        folder.chmod(0o700)


def reachable(home: Path, account: Account) -> Path:
    """`home` where the account can enter it, else a folder of the same purpose under /var/tmp.

    For what may lie anywhere, such as the tests' cluster of a repository under /root.
    """
    existing = next(folder for folder in (home, *home.parents) if folder.is_dir())
    if account.can_enter(existing):
        return home
    elsewhere = Path("/var/tmp") / f"deltatape-{_digest(home)}"  # noqa: S108 - owner checked
    make_home(elsewhere, account)
    if elsewhere.is_symlink() or elsewhere.stat().st_uid != os.geteuid():
        raise Unavailable(f"{elsewhere} belongs to another user: set DELTATAPE_TEST_HOME")
    return elsewhere


def _digest(home: Path) -> str:
    return hashlib.sha256(f"{os.geteuid()}:{home}".encode()).hexdigest()[:12]


_ELSEWHERE = "set DELTATAPE_HOME to a folder that you can write"
