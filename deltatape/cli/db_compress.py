"""`deltatape db compress`: settled chunks take a tenth of the room, where the server can do it."""

from collections import defaultdict
from time import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from deltatape import settings
from deltatape.cli import output
from market import MICROSECONDS
from market.timeframe import format_time

if TYPE_CHECKING:
    from storage.compression import Compression

LISTED = 20
"""Chunks that are named one by one."""


def compress(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be compressed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what became of each chunk as JSON.")] = False,
) -> None:
    """Compress the chunks that are settled.

    That is each one that ended 48 hours ago and in whose time no hole is open. It needs TimescaleDB's
    Community edition, as docker-compose.yml has it. Each chunk is read before and after, and stays as it was
    if any value differs: then the exit code is 1.
    """
    from storage.compression import compress_settled

    url = settings.load().database()
    with output.steps("chunks", "looking for chunks") as progress:
        done = compress_settled(url, round(time() * MICROSECONDS), is_dry_run=dry_run, progress=progress)
    if as_json:
        output.print_json([_record(each) for each in done])
    else:
        _show(done, dry_run=dry_run)
    if any(each.outcome == "refused" for each in done):
        raise typer.Exit(1)


def _record(done: "Compression") -> dict[str, Any]:
    """What became of a chunk in plain keys; times as text."""
    return {
        "table": done.chunk.table,
        "chunk": done.chunk.name,
        "from": format_time(done.chunk.begin),
        "to": format_time(done.chunk.end),
        "outcome": done.outcome,
        "rows": done.rows,
        "bytes_before": done.chunk.bytes,
        "bytes_after": done.bytes,
        "note": done.note,
    }


def _show(done: "list[Compression]", *, dry_run: bool) -> None:
    wanted = "due" if dry_run else "compressed"
    tables: dict[str, list[Compression]] = defaultdict(list)
    for each in done:
        if each.outcome == wanted:
            tables[each.chunk.table].append(each)
    output.table(
        "chunks that are due" if dry_run else "compressed chunks",
        ["table", "chunks", "size"] if dry_run else ["table", "chunks", "rows", "before", "after", "ratio"],
        [_row(table, chunks, dry_run=dry_run) for table, chunks in tables.items()],
        empty="no chunk is due: each was compressed before, or ended less than 48 hours ago"
        if not done
        else "no chunk was compressed",
    )
    left = [each for each in done if each.outcome != wanted]
    for each in left[:LISTED]:
        is_wrong = each.outcome == "refused"
        output.console.print(
            f"{'✗' if is_wrong else '·'} {each.chunk.table} {format_time(each.chunk.begin)[:10]}"
            f" {each.outcome}: {each.note}",
            style="red" if is_wrong else None,
            markup=False,
            soft_wrap=True,
        )
    if len(left) > LISTED:
        output.console.print(f"· and {len(left) - LISTED:,} more: --json lists all", markup=False)


def _row(table: str, chunks: "list[Compression]", *, dry_run: bool) -> list[Text]:
    before, after = sum(each.chunk.bytes for each in chunks), sum(each.bytes for each in chunks)
    cells = [f"{len(chunks):,}", output.size(before)]
    if not dry_run:
        rows = sum(each.rows or 0 for each in chunks)
        cells = [cells[0], f"{rows:,}", cells[1], output.size(after), f"{before / after:.1f} ×"]
    return [Text(table), *(Text(cell, justify="right") for cell in cells)]
