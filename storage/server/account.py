"""Who runs the server: PostgreSQL refuses to run as root, so root lends it an unprivileged user."""

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from market.errors import Unavailable

UNPRIVILEGED = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """A user of this machine, with the rights that the server gets."""

    name: str
    uid: int
    gid: int

    @property
    def is_self(self) -> bool:
        """Whether this process already runs as the account."""
        return os.geteuid() == self.uid

    def run(self, command: Sequence[str | Path], timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run a command as this account, in a neutral folder and environment.

        The environment is not inherited: a PGHOST or LD_LIBRARY_PATH of the caller would mislead.
        """
        identity: dict[str, object] = {}
        if not self.is_self:
            identity = {"user": self.uid, "group": self.gid, "extra_groups": []}
        return subprocess.run(  # type: ignore[call-overload, no-any-return]  # noqa: S603 - our own commands
            [str(part) for part in command],
            cwd="/",
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            umask=0o077,
            **identity,
        )

    def can_enter(self, folder: Path) -> bool:
        """Whether this account may walk into an existing `folder`."""
        return self.run(["/bin/sh", "-c", 'cd "$1"', "sh", folder]).returncode == 0


def choose(cluster: Path) -> Account:
    """The account for a cluster: its owner if it exists, else this user, as root an unprivileged one.

    Raises:
        Unavailable: root finds no unprivileged user, or the cluster belongs to someone else.
    """
    if cluster.exists():
        uid = cluster.stat().st_uid
        if os.geteuid() not in {0, uid}:
            raise Unavailable(
                f"{cluster} belongs to another user: set DELTATAPE_HOME to a folder of your own"
            )
        return _of(pwd.getpwuid(uid))
    if os.geteuid() != 0:
        return _myself()
    for name in UNPRIVILEGED:
        try:
            return _of(pwd.getpwnam(name))
        except KeyError:
            continue
    raise Unavailable(
        "PostgreSQL does not run as root and this machine has no user postgres or nobody: "
        "make one, or point DELTATAPE_DATABASE_URL at a TimescaleDB"
    )


def _myself() -> Account:
    try:
        return _of(pwd.getpwuid(os.geteuid()))
    except KeyError:
        raise Unavailable(
            f"user id {os.geteuid()} has no entry in /etc/passwd, which PostgreSQL needs: "
            "add one, or point DELTATAPE_DATABASE_URL at a TimescaleDB"
        ) from None


def _of(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
