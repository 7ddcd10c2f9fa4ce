"""The private server's backups and the archive of its log."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from deltatape.doctor.finding import Finding, State
from deltatape.settings import Settings
from market import DAY, Unavailable, format_time
from market.timeframe import from_datetime
from storage import backup, server
from storage.backup import Restorable
from storage.server import archive
from storage.server.archive import ArchiveState
from storage.server.layout import Layout, layout

OLD = 8 * DAY
"""Microseconds: from an older base backup a restore has much log to read."""
_MAKE = "deltatape db backup"


def check(settings: Settings) -> Iterator[Finding]:
    """How safe the private server's tape is; nothing where it does not run or another database is named."""
    if settings.database_url is not None or not server.status(settings.home).is_running:
        return
    place = layout(settings.home)
    state = archive.state(place)
    if state.folder is None:
        known = settings.backup.folder or archive.folder_on_record(place)
        fix = _MAKE if known else f"{_MAKE} --folder, on another disk"
        yield Finding("backups", State.WARNING, "none: a lost disk is a lost tape", fix)
        return
    yield from of_archive(place, state)


def of_archive(place: Layout, state: ArchiveState) -> Iterator[Finding]:
    """How the archive of a running server does, and what can be restored."""
    folder = Path(state.folder or "")
    try:
        found = backup.restorable(folder)
    except Unavailable as error:
        yield Finding(
            "backups", State.ERROR, str(error), "mount it, or free it: the archive goes on by itself"
        )
        found = None
    yield _archive(state, folder)
    if found is None:
        return
    if lost := backup.lost_since(state, found.backups):
        text = f"{len(lost):,} files of the log were given up, from {lost[0]} on"
        yield Finding("archived log", State.ERROR, text, _MAKE)
    elif found.broken_after is not None:
        text = f"what follows {found.broken_after} is missing in {folder}"
        yield Finding("archived log", State.ERROR, text, _MAKE)
    yield _backups(place, found)


def _archive(state: ArchiveState, folder: Path) -> Finding:
    if not state.reason:
        last = "nothing yet" if state.archived_timestamp is None else _second(state.archived_timestamp)
        return Finding("archive", State.OK, f"the log goes to {folder}, last {last}")
    since = "" if state.failed_timestamp is None else f", last at {_second(state.failed_timestamp)}"
    text = f"fails{since}: {state.reason}; {state.waiting:,} files wait in the data folder"
    return Finding("archive", State.ERROR, text, f"make room in {folder}, or mount it: it goes on by itself")


def _backups(place: Layout, found: Restorable) -> Finding:
    if not found.backups or found.earliest is None or found.latest is None:
        return Finding("backups", State.WARNING, f"none in {found.folder}", _MAKE)
    folder = Path(found.folder)
    # Whole seconds that surely can be had.
    first, last = -(-found.earliest // 1_000_000) * 1_000_000, found.latest // 1_000_000 * 1_000_000
    reach = f"{_second(first)} to {_second(last)}" if last > first else f"{_second(first)} on"
    text = f"{len(found.backups):,}; every second from {reach} can be restored"
    if folder.stat().st_dev == place.home.stat().st_dev:
        fix = "deltatape db backup --folder, on another disk"
        return Finding("backups", State.WARNING, f"{text}, while this disk lives", fix)
    if from_datetime(datetime.now(UTC)) - found.backups[-1].finished > OLD:
        return Finding("backups", State.WARNING, f"{text}; the newest is old, so it takes long", _MAKE)
    return Finding("backups", State.OK, text)


def _second(timestamp: int) -> str:
    return format_time(timestamp // 1_000_000 * 1_000_000)
