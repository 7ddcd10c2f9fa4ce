"""`deltatape db retain`: what is older than it is to be kept leaves the database."""

from collections import defaultdict
from time import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from deltatape import settings
from deltatape.cli import output
from deltatape.cli.db_tier import name_of, record_of, show_left
from market import MICROSECONDS
from market.timeframe import format_time

if TYPE_CHECKING:
    from storage.retention import Dropped


def retain(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be dropped.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what became of each day as JSON.")] = False,
) -> None:
    """Drop what is older than it is to be kept.

    For how long that is stands in the configuration: [[retain]]; without any, nothing is dropped. A day goes
    as a whole, and only once it is settled; one of the tier's tables only if its file is proven to hold the
    very same rows. Exit code 1 where a file does not.
    """
    from deltatape.upkeep import rules, tiered
    from storage.retention import drop_expired

    current = settings.load()
    if not current.retain:
        if as_json:
            output.print_json([])
        else:
            output.console.print(
                f"nothing is ever dropped: there is no [[retain]] in {settings.config_file()}",
                markup=False,
                soft_wrap=True,
            )
        return
    now = round(time() * MICROSECONDS)
    with output.errors.status("looking for days whose time is over") as status:
        done = drop_expired(
            current.database(),
            rules(current),
            tiered(current),
            now,
            is_dry_run=dry_run,
            progress=status.update,
        )
    if as_json:
        output.print_json([_record(each) for each in done])
    else:
        _show(done, dry_run=dry_run)
    if any(each.outcome == "refused" for each in done):
        raise typer.Exit(1)


def _show(done: "list[Dropped]", *, dry_run: bool) -> None:
    wanted = "due" if dry_run else "dropped"
    places: dict[tuple[str, str], list[Dropped]] = defaultdict(list)
    for each in done:
        if each.outcome == wanted:
            places[name_of(each.key)].append(each)
    output.table(
        "days that are due" if dry_run else "dropped from the database",
        ["instrument", "table", "days", "from", "to", "rows"],
        [_row(place, found) for place, found in places.items()],
        empty="no day was dropped" if done else "no day is due: each is younger than [[retain]] keeps it",
    )
    show_left([each for each in done if each.outcome != wanted])


def _row(place: tuple[str, str], found: "list[Dropped]") -> list[Text]:
    days = sorted(each.key.day for each in found)
    cells = [f"{len(found):,}", *(format_time(day)[:10] for day in (days[0], days[-1]))]
    cells.append(f"{sum(each.rows for each in found):,}")
    return [*map(Text, place), *(Text(cell, justify="right") for cell in cells)]


def _record(dropped: "Dropped") -> dict[str, object]:
    return {**record_of(dropped.key), "outcome": dropped.outcome, "rows": dropped.rows, "note": dropped.note}
