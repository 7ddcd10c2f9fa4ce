"""How results are shown: tables for people, JSON for scripts, one line for a failure."""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from deltatape import logs

# Where no terminal says how wide it is, as in a pipe or a log, tables need not be squeezed into 80 columns.
# Nor is `:x:`, in a name or a symbol, an emoji.
console = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else 140)
errors = Console(stderr=True, highlight=False, emoji=False)

NARROW = 100
"""Below so many columns tables go without lines between theirs."""

MOST_LISTED = 1_000_000
"""What a list gives at most; more is for `deltatape sql`."""

_log = logging.getLogger(logs.SAYS)
_json = msgspec.json.Encoder(decimal_format="number")


def say(message: str) -> None:
    """A line about what is going on, on stderr, so that stdout stays the result's."""
    if logs.is_json():
        _log.info(message)
        return
    errors.print(logs.mask(message), style="dim", markup=False, soft_wrap=True)


def fail(message: str) -> None:
    """The one line that a failure gets."""
    if logs.is_json():
        _log.error(message)
        return
    errors.print(f"error: {logs.mask(message)}", style="red", markup=False, soft_wrap=True)


@contextmanager
def steps(unit: str, beginning: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar of `unit` on stderr, where that is a terminal; told how many are done, of how many, and what."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(30), MofNCompleteColumn(), TextColumn(unit))
    with Progress(
        *columns,
        TimeElapsedColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    ) as progress:
        task = progress.add_task(beginning, total=None)
        yield lambda done, total, text: progress.update(task, description=text, completed=done, total=total)


def print_json(value: Any) -> None:
    """`value` as one line of JSON on stdout; numbers and times as msgspec writes them."""
    sys.stdout.write(_json.encode(value).decode() + "\n")


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    empty: str,
    to: Console = console,
) -> None:
    """A table of `rows`; without any, the line `empty`, which says which command fills it.

    It belongs on `console`, which is stdout, unless it is news rather than the result: then `to=errors`.
    """
    listed = list(rows)
    if listed:
        to.print(grid(title, columns, listed))
    else:
        to.print(empty, markup=False)


def counts(title: str, counted: Mapping[str, int]) -> None:
    """A table of what was counted."""
    rows = [(name.replace("_", " "), Text(f"{count:,}", justify="right")) for name, count in counted.items()]
    table(title, ["what", "count"], rows, empty="")


def grid(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table to be shown; a cell that is a `Text` keeps its colours. Long cells are folded, never cut."""
    is_narrow = console.width < NARROW
    shown = Table(
        title=title,
        title_justify="left",
        # A title is one line, however narrow the columns.
        min_width=min(len(title), console.width),
        header_style="bold",
        box=box.SIMPLE_HEAD if is_narrow else box.HEAVY_HEAD,
        padding=(0, 1, 0, 0) if is_narrow else (0, 1),
        pad_edge=not is_narrow,
    )
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*map(_cell, row))
    return shown


def _cell(value: Any) -> str | Text:
    if isinstance(value, Text):
        return value
    return "" if value is None else escape(str(value))


def size(count: float) -> str:
    """Bytes in the largest unit that fits."""
    for unit, length in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= length:
            return f"{count / length:,.1f} {unit}"
    return f"{count:,.0f} B"


def age(seconds: float) -> str:
    """How long ago, in the largest unit that fits; `stale` is said for what is older than a minute."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit} (stale)"
    return f"{seconds:.1f} s"
