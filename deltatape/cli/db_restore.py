"""`deltatape db restore`: the private server as it was at a second."""

from typing import Annotated

import typer
from msgspec import structs

from deltatape import settings
from deltatape.cli import output
from deltatape.cli.db_backup import AsJson, Folder, folder_of, private
from market import format_time, parse_time


def restore(
    to: Annotated[
        str | None, typer.Option(help="The moment, like 2026-03-01T12:00:00Z; all there is without it.")
    ] = None,
    folder: Folder = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Replace the database that is there; it is kept in a folder aside.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the private server back to a moment.

    From a backup and the archived log after it: all that was committed up to then is there, and nothing
    later. Everything is prepared beside the database, which stays as it is when anything fails. Stop what
    writes first: deltatape up, collect.
    """
    from storage import restore as restores

    moment = None if to is None else parse_time(to)
    current = private(settings.load(), "restore")
    done = restores.restore(
        current.home,
        folder_of(current, folder),
        to=moment,
        replace=yes,
        most_waiting_bytes=current.backup.waiting_bytes,
        report=output.say,
    )
    reached = None if done.reached is None else format_time(done.reached)
    if as_json:
        output.print_json({**structs.asdict(done), "reached": reached})
        return
    what = "the backup alone" if reached is None else f"up to the transaction of {reached}"
    output.console.print(f"restored {what}", markup=False, soft_wrap=True)
    if done.aside is not None:
        output.console.print(f"the old data is in {done.aside}", markup=False, soft_wrap=True)
    if not done.is_archived:
        output.console.print(
            "its log is not archived: deltatape db backup into a folder of its own", soft_wrap=True
        )
    output.console.print("look at it: deltatape db check, deltatape verify; then start what writes")
