"""Backups of the private server: base backups, and beside them the archive of its log.

    <folder>/owner.json       whose they are
    <folder>/base/<time>/     one base backup each: two compressed archives, the manifest, backup.json
    <folder>/wal/             every finished segment of the log since the oldest of them
    <folder>/restores.jsonl   what was restored from here, and so which timeline was alive when

From a base backup and the log after it any moment up to the last archived segment can be had again.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from msgspec import DecodeError, Struct, json

from market.errors import Unavailable, WrongUse
from market.timeframe import DAY, from_datetime, to_datetime
from storage import server
from storage.base_backup import RECORD, Backup, first_segment, read_manifest, verify
from storage.server import account, archive, binaries
from storage.server.archive import SEGMENT_BYTES, Archived, ArchiveState, Owner, segment_number
from storage.server.cluster import SUPERUSER
from storage.server.layout import Layout, layout

KEEP = 2
"""Base backups that are kept where nothing else is said."""
MOST_WAITING_BYTES = 4 * 2**30
"""Bytes of the log that may wait in the data folder, where nothing else is said."""
_LONGEST = 7 * 86_400.0
Report = Callable[[str], None]


class Made(Struct, frozen=True):
    """A backup that was made, and the names of the older ones that were removed for it."""

    backup: Backup
    removed: list[str]


class Restorable(Struct, frozen=True):
    """What a folder of backups holds; times are microseconds UTC, None where there is nothing.

    Every moment from `earliest` to `latest` can be had again; what was written after `latest` is not archived
    yet. A segment that is missing ends it: `broken_after` is then the last one before.
    """

    folder: str
    backups: list[Backup]
    earliest: int | None
    latest: int | None
    broken_after: str | None
    log_bytes: int


def make_backup(
    home: Path,
    folder: Path,
    *,
    keep: int = KEEP,
    most_waiting_bytes: int = MOST_WAITING_BYTES,
    report: Report,
) -> Made:
    """Back up the private server of `home` into `folder`, and archive its log there from now on.

    The server is started where it does not run, and goes on working meanwhile. What was written is read back
    and held against PostgreSQL's manifest before anything older is removed.

    Args:
        home: DELTATAPE_HOME.
        folder: absolute; made where it is missing. Better on another disk.
        keep: base backups that stay, this one among them; the log before the oldest of them goes.
        most_waiting_bytes: of the log that may wait in the data folder while `folder` cannot be written.
        report: gets a line for each step that takes time.

    Raises:
        WrongUse: the folder cannot be used, or holds the backups of another server.
        Unavailable: the server cannot be had, the disk is full, or another backup is being made.
    """
    if keep < 1:
        raise WrongUse(f"at least one backup has to be kept, not {keep}")
    server.start(home, report=report)
    place = layout(home)
    owner = account.choose(place.cluster)
    with archive.superuser(place) as connection:
        row = connection.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
    archive.claim(place, owner, folder, str(row[0]) if row else "")
    with _locked(folder):
        archive.turn_on(place, owner, folder, max(1, most_waiting_bytes // SEGMENT_BYTES))
        found = _take(place, owner, folder, report)
        return Made(found, _remove_old(folder, keep))


def list_backups(folder: Path) -> list[Backup]:
    """The whole base backups in `folder`, oldest first."""
    found = []
    for path in folder.glob(f"base/[0-9]*/{RECORD}"):
        try:
            found.append(json.decode(path.read_bytes(), type=Backup))
        except (OSError, DecodeError) as error:
            raise Unavailable(f"cannot read {path}: {error}") from None
    return sorted(found, key=lambda backup: backup.finished)


def is_due(folder: Path, now: int, every_days: int) -> bool:
    """Whether there is no base backup, or none of the last `every_days`; `now` in microseconds UTC."""
    backups = list_backups(folder)
    return not backups or now - backups[-1].finished >= every_days * DAY


def restorable(folder: Path) -> Restorable:
    """What can be had again from `folder`.

    Raises:
        Unavailable: it cannot be read, or holds no backups.
    """
    require(folder)
    backups, files = list_backups(folder), archive.archived(folder)
    size = sum(path.stat().st_size for path in (folder / "wal").glob("*.gz"))
    if not backups:
        return Restorable(str(folder), [], None, None, None, size)
    newest = reach(files, backups[-1])
    numbers = [one.number for one in files if one.number is not None]
    last = segment_number(backups[-1].first_segment) if not newest else newest[-1].number
    is_broken = bool(numbers) and last is not None and max(numbers) > last
    return Restorable(
        folder=str(folder),
        backups=backups,
        earliest=_first_joined(backups, files).finished,
        latest=max(backups[-1].finished, newest[-1].timestamp if newest else 0),
        broken_after=(newest[-1].name if newest else backups[-1].first_segment) if is_broken else None,
        log_bytes=size,
    )


def require(folder: Path) -> Owner:
    """Whose backups `folder` holds.

    Raises:
        Unavailable: none, or it is not there.
    """
    known = archive.owner_of(folder)
    if known is None:
        state = "holds no backups; make one: deltatape db backup" if folder.is_dir() else "is not there"
        raise Unavailable(f"{folder} {state}")
    return known


def _first_joined(backups: list[Backup], files: list[Archived]) -> Backup:
    """The oldest backup from which the log leads up to the newest one."""
    first = backups[-1]
    for one in reversed(backups[:-1]):
        end = reach(files, one)
        if not end or (end[-1].number or 0) < (segment_number(first.first_segment) or 0) - 1:
            break
        first = one
    return first


def reach(files: list[Archived], backup: Backup) -> list[Archived]:
    """The archived segments that follow a backup without one missing."""
    return archive.unbroken(files, segment_number(backup.first_segment) or 0)


def lost_since(state: ArchiveState, backups: list[Backup]) -> list[str]:
    """The files of the log that were given up and that no base backup has made needless since."""
    if not backups:
        return state.lost
    first, timeline = segment_number(backups[-1].first_segment) or 0, backups[-1].timeline

    def is_needed(name: str) -> bool:
        # What tells of a base backup is named after its segment, and of a timeline after that.
        number = segment_number(name[:24])
        return int(name[:8], 16) > timeline if number is None else number >= first

    return [name for name in state.lost if is_needed(name)]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One backup at a time; the kernel drops the lock when its holder dies."""
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Unavailable(f"another backup is being made in {folder}: wait for it") from None
    finally:
        os.close(handle)


def _take(place: Layout, owner: account.Account, folder: Path, report: Report) -> Backup:
    found = binaries.read_record(place)
    if found is None:
        raise Unavailable(f"{place.record} is missing: deltatape db stop, then deltatape db start")
    for stale in (folder / "base").glob(".*"):
        shutil.rmtree(stale, ignore_errors=True)
    started = _now()
    name = f"{to_datetime(started):%Y%m%dT%H%M%S.%fZ}"
    draft = folder / "base" / f".{name}"
    report(f"Backing up {place.cluster} …")
    command: list[str | Path] = [found.program("pg_basebackup"), "-d", place.url("postgres", SUPERUSER)]
    command += ["-D", draft, "-F", "tar", "-Z", "client-gzip:1", "-X", "stream", "--checkpoint=fast"]
    command += ["--manifest-checksums=SHA256", "--no-password", f"--label=deltatape {name}"]
    done = owner.run(command, timeout=_LONGEST)
    if done.returncode:
        shutil.rmtree(draft, ignore_errors=True)
        raise Unavailable(f"the backup failed: {_said(done.stderr)}")
    finished = _now()
    report("Reading it back …")
    data_bytes = verify(draft)
    timeline, segment = first_segment(read_manifest(draft), SEGMENT_BYTES)
    made = Backup(
        name=name,
        started=started,
        finished=finished,
        timeline=timeline,
        first_segment=segment,
        postgresql=found.postgresql,
        timescaledb=found.timescaledb,
        bytes=sum(path.stat().st_size for path in draft.iterdir()),
        data_bytes=data_bytes,
    )
    (draft / RECORD).write_bytes(json.encode(made))
    for path in (draft / RECORD, draft):
        _sync(path)
    draft.rename(draft.parent / name)
    _sync(draft.parent)
    return made


def _remove_old(folder: Path, keep: int) -> list[str]:
    """Remove all but the newest `keep` base backups, and the log before them."""
    backups = list_backups(folder)
    old, kept = backups[:-keep], backups[-keep:]
    for backup in old:
        # The record goes first: what is half removed is no backup any more.
        (folder / "base" / backup.name / RECORD).unlink()
        shutil.rmtree(folder / "base" / backup.name)
    first = min(segment_number(backup.first_segment) or 0 for backup in kept)
    for path in (folder / "wal").glob("*.gz"):
        # A file that tells of a base backup or of an unfinished segment is named after its segment.
        number = segment_number(path.name[:24])
        if number is not None and number < first:
            path.unlink(missing_ok=True)
    return [backup.name for backup in old]


def _now() -> int:
    return from_datetime(datetime.now(UTC))


def _said(text: str) -> str:
    """The first line of an error that says why; what follows only says that it was given up."""
    lines = [line for line in text.splitlines() if "error:" in line or "FATAL" in line] or text.splitlines()
    return lines[0].removeprefix("pg_basebackup: error: ") if lines else "pg_basebackup ended without a word"


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
