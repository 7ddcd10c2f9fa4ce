"""The machine's own package archive, read through an apt state of our own: no root, nothing changed.

Signatures are checked with the machine's keyring, as always.
"""

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from market.errors import Unavailable

INSTEAD = "run `docker compose up -d db` and set DELTATAPE_DATABASE_URL, or set it to any TimescaleDB"


class Apt:
    """One suite of a mirror, with lists and a cache of its own in the folder `work`."""

    def __init__(self, work: Path, distribution: str, suite: str) -> None:
        self.work = work
        self.distribution = distribution
        self.suite = suite
        self.sources = work / "sources.list"
        for folder in ("lists/partial", "cache/archives/partial", "archives"):
            (work / folder).mkdir(parents=True)

    def update(self, mirror: str) -> None:
        """Read the suite's index from a mirror.

        Raises:
            Unavailable: the mirror cannot be reached, lacks the suite, or is not signed for it.
        """
        keyring = Path(f"/usr/share/keyrings/{self.distribution}-archive-keyring.gpg")
        signed = f" [signed-by={keyring}]" if keyring.exists() else ""
        components = "main universe" if self.distribution == "ubuntu" else "main"
        self.sources.write_text(f"deb{signed} {mirror} {self.suite} {components}\n")
        self._run("apt-get", "-q", "update")

    def names(self, start: str) -> list[str]:
        """The packages whose name starts so."""
        return self._run("apt-cache", "pkgnames", start).split()

    def dependencies(self, packages: Sequence[str]) -> dict[str, list[str]]:
        """Package → what it depends on, for the packages and all below them."""
        text = self._run("apt-cache", "depends", "--recurse", "--important", *packages)
        graph: dict[str, list[str]] = {}
        below: list[str] = []
        for line in text.splitlines():
            if not line.startswith((" ", "|")):
                below = graph.setdefault(line.strip(), [])
            elif found := re.match(r"[ |]+(?:Pre)?Depends: ([^<\s]\S*)", line):
                below.append(found[1])
        return graph

    def download(self, packages: Iterable[str]) -> list[Path]:
        """Fetch packages; the paths of their files."""
        self._run("apt-get", "-q", "download", *packages, cwd=self.work / "archives")
        return sorted((self.work / "archives").glob("*.deb"))

    def _run(self, program: str, *arguments: str, cwd: Path | None = None) -> str:
        options = (
            f"Dir::Etc::sourcelist={self.sources}",
            "Dir::Etc::sourceparts=/dev/null",
            "Dir::Etc::preferencesparts=/dev/null",
            f"Dir::State::lists={self.work / 'lists'}",
            "Dir::State::status=/dev/null",
            f"Dir::Cache={self.work / 'cache'}",
            "APT::Sandbox::User=root",
            "APT::Update::Error-Mode=any",
            "APT::Update::Post-Invoke-Success=",
            "Acquire::Languages=none",
            "Acquire::Retries=3",
            "Acquire::http::Timeout=30",
            "Acquire::https::Timeout=30",
        )
        flags = [part for option in options for part in ("-o", option)]
        return run([program, *flags, *arguments], f"cannot fetch PostgreSQL from {self.suite}", cwd)


def mirrors(work: Path, distribution: str, codename: str) -> list[str]:
    """Where this machine gets its packages from, the likeliest to have other suites first.

    Asked with empty lists, apt names every index that it would fetch, and so each mirror, whether
    or not the machine has ever fetched one.
    """
    if not shutil.which("apt-get"):
        return []
    lists = work / "no-lists"
    (lists / "partial").mkdir(parents=True)
    text = run(
        ["apt-get", "-o", f"Dir::State::lists={lists}", "update", "--print-uris"],
        "cannot read apt's sources",
    )
    found = re.findall(rf"'(\S+?)/dists/{re.escape(codename)}/main/binary-\w+/Packages", text)
    # Others publish for this release too; the distribution's own mirror ends with its name.
    return sorted(dict.fromkeys(found), key=lambda uri: not uri.endswith(f"/{distribution}"))


def run(command: Sequence[str | Path], problem: str, cwd: Path | None = None) -> str:
    """The output of a command that must succeed.

    Raises:
        Unavailable: it failed; the message holds the `problem`, the command's first error line, and
            what to do instead.
    """
    done = subprocess.run(  # noqa: S603 - apt, dpkg-deb and patchelf, no user's text
        [str(part) for part in command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("E:")] or said or ["no reason given"]
        raise Unavailable(f"{problem} ({errors[0]}): {INSTEAD}")
    return done.stdout
