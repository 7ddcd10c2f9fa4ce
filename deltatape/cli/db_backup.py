"""`deltatape db backup`: a base backup of the private server, and the archive of its log from then on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import structs

from deltatape import settings
from deltatape.cli import output
from market import MICROSECONDS, WrongUse, format_time

if TYPE_CHECKING:
    from storage.backup import Restorable
    from storage.base_backup import Backup
    from storage.server.archive import ArchiveState

Folder = Annotated[
    Path | None, typer.Option(help="Of the backups: the setting backup.folder, else the one used last.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def backup(
    folder: Folder = None,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Base backups that stay; older ones go, with their log.")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Only say what can be restored.")] = False,
    stop: Annotated[
        bool, typer.Option("--stop", help="Archive the log no more; what is there stays.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Back up the private server, and archive its log.

    Any second from now on can then be restored. The server works on meanwhile. What is written is read back
    and checked. From the first backup on each piece of the log goes to the folder, at most a minute old.
    `deltatape db restore` brings it back.
    """
    from storage import backup as backups

    current = private(settings.load(), "back up")
    if stop:
        _stop(current)
        return
    where = folder_of(current, folder)
    if not listed:
        made = backups.make_backup(
            current.home,
            where,
            keep=keep or current.backup.keep,
            most_waiting_bytes=current.backup.waiting_bytes,
            report=output.say,
        )
        for name in made.removed:
            output.say(f"removed the backup {name}, and its log")
    found, state = backups.restorable(where), _state(current, where)
    if as_json:
        output.print_json(_record(found, state))
    else:
        _show(current, found, state)


def private(current: settings.Settings, what: str) -> settings.Settings:
    """The settings, where they name no other database.

    Raises:
        WrongUse: they do.
    """
    if current.database_url:
        raise WrongUse(
            f"DELTATAPE_DATABASE_URL names a database that is not ours to {what}: docs/backup.md says how;"
            " unset it for the private server"
        )
    return current


def folder_of(current: settings.Settings, named: Path | None) -> Path:
    """The folder of backups that is meant.

    Raises:
        WrongUse: none was ever named.
    """
    from storage.server.archive import folder_on_record
    from storage.server.layout import layout

    found = named or current.backup.folder or folder_on_record(layout(current.home))
    if found is None:
        raise WrongUse(
            "say where the backups lie: --folder, or folder under [backup] in the settings; better on"
            " another disk"
        )
    return found.expanduser().absolute()


def _state(current: settings.Settings, folder: Path) -> "ArchiveState | None":
    """How the archive does, None where the server does not run or archives elsewhere."""
    from storage import server
    from storage.server import archive
    from storage.server.layout import layout

    if not server.status(current.home).is_running:
        return None
    found = archive.state(layout(current.home))
    return found if found.folder == str(folder) else None


def _stop(current: settings.Settings) -> None:
    from storage.server import archive
    from storage.server.layout import layout

    archive.turn_off(layout(current.home))
    output.console.print("the log is archived no more; what is there can be restored up to now")


def _record(found: "Restorable", state: "ArchiveState | None") -> dict[str, Any]:
    return {
        **structs.asdict(found),
        "earliest": _time(found.earliest),
        "latest": _time(found.latest),
        "backups": [
            {**structs.asdict(one), "started": _time(one.started), "finished": _time(one.finished)}
            for one in found.backups
        ],
        "archive": None
        if state is None
        else {
            **structs.asdict(state),
            "archived_timestamp": _time(state.archived_timestamp),
            "failed_timestamp": _time(state.failed_timestamp),
        },
    }


def _show(current: settings.Settings, found: "Restorable", state: "ArchiveState | None") -> None:
    from deltatape.doctor import backups
    from deltatape.doctor.finding import State
    from storage.server.layout import layout

    output.table(
        f"backups in {found.folder}",
        ["finished (UTC)", "on disk", "unpacked", "PostgreSQL", "TimescaleDB", "timeline"],
        map(_row, found.backups),
        empty=f"no backup in {found.folder} yet: deltatape db backup",
    )
    if state is None:
        output.console.print(
            "the log is not archived there now: deltatape db start, then deltatape db backup"
        )
        return
    for one in backups.of_archive(layout(current.home), state):
        colour = {State.OK: None, State.WARNING: "yellow", State.ERROR: "red"}[one.state]
        text = f"{one.check}: {one.text}" + (f"\n→ {one.fix}" if one.fix else "")
        output.console.print(text, style=colour, markup=False, soft_wrap=True)


def _row(one: "Backup") -> tuple[str, ...]:
    return (
        format_time(one.finished - one.finished % MICROSECONDS),
        f"{one.bytes / 1e6:,.1f} MB",
        f"{one.data_bytes / 1e6:,.1f} MB",
        one.postgresql,
        one.timescaledb,
        str(one.timeline),
    )


def _time(timestamp: int | None) -> str | None:
    return None if timestamp is None else format_time(timestamp)
