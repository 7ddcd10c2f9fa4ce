"""`deltatape db tier`: old days as files outside of the database, and the way back."""

from collections import defaultdict
from time import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from deltatape import settings
from deltatape.cli import output
from market import DAY, MICROSECONDS, WrongUse, parse_time
from market.timeframe import format_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storage.past import DayKey
    from storage.retention import Dropped
    from storage.tiers import Copied

LISTED = 20
"""Reasons that are named one by one."""


def tier(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be copied.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Read every file again instead.")] = False,
    restore: Annotated[
        str | None, typer.Option(metavar="DAY", help="Bring this UTC day back into the database instead.")
    ] = None,
    exchange: Annotated[str | None, typer.Option(help="With --restore: of this exchange.")] = None,
    symbol: Annotated[str | None, typer.Option(help="With --restore: of this symbol.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what became of each day as JSON.")] = False,
) -> None:
    """Copy old days to files outside of the database.

    Only settled days, and each file is proven to give the same rows. Where they go, and how old a day must
    be, stands in the configuration: [tier]. Nothing is dropped here: `deltatape db retain` does that. Exit
    code 1 where a file is not what it has to be.
    """
    current = settings.load()
    if restore is not None:
        _restore(current, restore, exchange, symbol, as_json=as_json)
    elif exchange is not None or symbol is not None:
        raise WrongUse("--exchange and --symbol go with --restore")
    elif check:
        _check(current, as_json=as_json)
    else:
        _copy(current, dry_run=dry_run, as_json=as_json)


def _copy(current: settings.Settings, *, dry_run: bool, as_json: bool) -> None:
    from storage.tiers import copy_old_days

    options = current.tier
    if options.url is None:
        raise WrongUse(f"no tier is configured: set url below [tier] in {settings.config_file()}")
    now = round(time() * MICROSECONDS)
    with output.steps("days", "looking for old days") as progress:
        done = copy_old_days(
            current.database(),
            options.url,
            options.tables,
            options.days,
            now,
            is_dry_run=dry_run,
            progress=progress,
        )
    if as_json:
        output.print_json([_record(each) for each in done])
    else:
        _show(done, options.days, dry_run=dry_run)
    if any(each.outcome == "refused" for each in done):
        raise typer.Exit(1)


def _check(current: settings.Settings, *, as_json: bool) -> None:
    from storage.tiers import check_copies

    with output.steps("days", "looking for old days") as progress:
        count, wrong = check_copies(current.database(), progress)
    if as_json:
        output.print_json({"files": count, "wrong": wrong})
    elif not count:
        output.console.print("the tier has no files: deltatape db tier writes them")
    else:
        for line in wrong:
            output.console.print(f"✗ {line}", style="red", markup=False, soft_wrap=True)
        right = f"{count - len(wrong):,} of {count:,} files hold what was written"
        output.console.print(f"{'✗' if wrong else '✓'} {right}", style="red" if wrong else "green")
    if wrong:
        raise typer.Exit(1)


def _restore(
    current: settings.Settings, day: str, exchange: str | None, symbol: str | None, *, as_json: bool
) -> None:
    from storage.tiers import restore_day

    if exchange is None or symbol is None:
        raise WrongUse("--restore needs --exchange and --symbol: a day is brought back for one instrument")
    begin = parse_time(day)
    if begin % DAY:
        raise WrongUse(f"--restore {day}: name a day, like 2026-03-01")
    done = restore_day(current.database(), exchange, symbol, begin)
    if as_json:
        output.print_json(done)
    else:
        output.counts(f"{exchange} {symbol} {day} is in the database again", done)


def _show(done: "list[Copied]", days: int, *, dry_run: bool) -> None:
    wanted = "due" if dry_run else "copied"
    places: dict[tuple[str, str], list[Copied]] = defaultdict(list)
    for each in done:
        if each.outcome == wanted:
            places[name_of(each.key)].append(each)
    output.table(
        "days that are due" if dry_run else "copied to the tier",
        ["instrument", "table", "days", "from", "to", *([] if dry_run else ["rows", "size"])],
        [_row(place, found, dry_run=dry_run) for place, found in places.items()],
        empty="no day was copied"
        if done
        else f"no day is due: each is in the tier, or younger than {days} days",
    )
    show_left([each for each in done if each.outcome != wanted])


def name_of(key: "DayKey") -> tuple[str, str]:
    """Instrument and table of a day, as a list names them."""
    return f"{key.exchange} {key.symbol}", f"{key.table} {key.interval}".rstrip()


def show_left(left: "Sequence[Copied | Dropped]") -> None:
    """The days that stayed, and why; those that lie together for one reason in one line."""
    reasons: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for each in left:
        reasons[*name_of(each.key), each.outcome, each.note or ""].append(each.key.day)
    for (instrument, table, outcome, note), days in list(reasons.items())[:LISTED]:
        dates = format_time(min(days))[:10]
        if len(days) > 1:
            dates = f"{len(days):,} days from {dates} to {format_time(max(days))[:10]}"
        is_wrong = outcome == "refused"
        output.console.print(
            f"{'✗' if is_wrong else '·'} {instrument} {table}, {dates}, {outcome}: {note}",
            style="red" if is_wrong else None,
            markup=False,
            soft_wrap=True,
        )
    if len(reasons) > LISTED:
        output.console.print(f"· and {len(reasons) - LISTED:,} more: --json lists all", markup=False)


def _row(place: tuple[str, str], found: "list[Copied]", *, dry_run: bool) -> list[Text]:
    days = sorted(each.key.day for each in found)
    cells = [f"{len(found):,}", *(format_time(day)[:10] for day in (days[0], days[-1]))]
    if not dry_run:
        cells += [f"{sum(each.rows for each in found):,}", output.size(sum(each.bytes for each in found))]
    return [*map(Text, place), *(Text(cell, justify="right") for cell in cells)]


def _record(copied: "Copied") -> dict[str, object]:
    return {
        **record_of(copied.key),
        "outcome": copied.outcome,
        "rows": copied.rows,
        "bytes": copied.bytes,
        "note": copied.note,
    }


def record_of(key: "DayKey") -> dict[str, object]:
    """A day in plain keys; its time as text."""
    return {**key._asdict(), "interval": key.interval or None, "day": format_time(key.day)[:10]}
