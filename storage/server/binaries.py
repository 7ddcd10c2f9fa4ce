"""Which PostgreSQL runs the private server: one of this machine that has TimescaleDB, else unpacked."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from market.errors import Unavailable
from storage.server import debian
from storage.server.apt import INSTEAD
from storage.server.layout import Layout

Report = Callable[[str], None]

# What the migrations are tested with; older ones lack parts that the tables use.
OLDEST_POSTGRESQL = 15
OLDEST_TIMESCALEDB = (2, 19)

_USUAL_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)


@dataclass(frozen=True)
class Binaries:
    """One PostgreSQL with TimescaleDB: the folder of its programs, its versions, where it is from."""

    folder: str
    postgresql: str
    timescaledb: str
    origin: str

    @property
    def major(self) -> int:
        """PostgreSQL's major version; a cluster only runs under the one that made it."""
        return int(self.postgresql.split(".")[0])

    def program(self, name: str) -> Path:
        """The path of `pg_ctl`, `initdb`, `psql` and the like."""
        return Path(self.folder) / name


def find(place: Layout, report: Report, major: int | None = None) -> Binaries:
    """The binaries for this home, unpacked there if need be.

    An existing cluster keeps the binaries that are on record, or others of the same major version. A backup
    that is to become the cluster says by `major` what it needs.

    Raises:
        Unavailable: none can be had; the message says what to do instead.
    """
    major = major or _cluster_major(place)
    recorded = read_record(place)
    if recorded and recorded.major == major and recorded.program("postgres").exists():
        # Versions are read anew: the machine's own packages may have been upgraded meanwhile.
        return inspect(Path(recorded.folder), recorded.origin) or recorded
    for candidate in _candidates(place, report):
        if major in {None, candidate.major}:
            return candidate
    raise Unavailable(
        f"{place.cluster} is of PostgreSQL {major}, which is not on this machine: install it with "
        "TimescaleDB, or set DELTATAPE_HOME to a new folder"
    )


def _candidates(place: Layout, report: Report) -> Iterator[Binaries]:
    unpacked = _in_unpacked(place)
    if unpacked:
        yield unpacked
    yield from _on_this_machine()
    if unpacked is None:
        debian.unpack(place.binaries, report)
        fresh = _in_unpacked(place)
        if fresh is None:
            raise Unavailable(f"no usable PostgreSQL in {place.binaries}: {INSTEAD}")
        yield fresh


def _in_unpacked(place: Layout) -> Binaries | None:
    for folder in sorted(place.binaries.glob("usr/lib/postgresql/*/bin"), reverse=True):
        found = inspect(folder, "unpacked")
        if found:
            return found
    return None


def _on_this_machine() -> Iterator[Binaries]:
    folders = [match for usual in _USUAL_FOLDERS for match in Path("/").glob(usual[1:])]
    on_path = shutil.which("postgres")
    if on_path:
        folders.append(Path(on_path).resolve().parent)
    found = (inspect(folder, "this machine") for folder in dict.fromkeys(folders))
    yield from sorted((b for b in found if b), key=lambda b: b.major, reverse=True)


def inspect(folder: Path, origin: str) -> Binaries | None:
    """The PostgreSQL whose programs lie in `folder`, None if it is too old or lacks TimescaleDB."""
    try:
        answer = subprocess.run(  # noqa: S603 - a program of the machine's own folders
            [folder / "postgres", "--version"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    version = re.search(r"\d+(\.\d+)?", answer)
    if version is None or int(version[0].split(".")[0]) < OLDEST_POSTGRESQL:
        return None
    extension = _timescaledb(folder)
    if extension is None or tuple(map(int, extension.split(".")[:2])) < OLDEST_TIMESCALEDB:
        return None
    return Binaries(str(folder), version[0], extension, origin)


def _timescaledb(folder: Path) -> str | None:
    """The version of TimescaleDB that the PostgreSQL in `folder` would create, None without it."""
    for share in _share_folders(folder):
        control = share / "extension" / "timescaledb.control"
        if control.exists() and (share / "extension" / "btree_gist.control").exists():
            version = re.search(r"default_version = '([\d.]+)", control.read_text())
            return version[1] if version else None
    return None


def _share_folders(folder: Path) -> Iterator[Path]:
    pg_config = folder / "pg_config"
    if pg_config.exists():
        answer = subprocess.run(  # noqa: S603 - as above
            [pg_config, "--sharedir"], capture_output=True, text=True, timeout=20, check=False
        )
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())
    # Debian's layout, below / or below an unpacked root: usr/lib/postgresql/17/bin.
    yield folder.parents[3] / "share" / "postgresql" / folder.parent.name
    yield folder.parent / "share" / "postgresql"
    yield folder.parent / "share"


def _cluster_major(place: Layout) -> int | None:
    try:
        return int((place.cluster / "PG_VERSION").read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_record(place: Layout) -> Binaries | None:
    """The binaries on record for this home."""
    try:
        return Binaries(**json.loads(place.record.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write_record(place: Layout, binaries: Binaries) -> None:
    """Keep on record which binaries this home's cluster runs with."""
    if read_record(place) != binaries:
        text = json.dumps(asdict(binaries), indent=2) + "\n"
        fresh = place.record.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(place.record)
