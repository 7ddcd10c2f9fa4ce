"""`deltatape gaps`: the holes on record, and acknowledging one that nobody can fill."""

from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from msgspec import structs

from deltatape import settings
from deltatape.cli import output
from market import WrongUse, format_time

if TYPE_CHECKING:
    from storage.holes import Hole
    from storage.ledger import GapStatus

app = typer.Typer(epilog="Example: deltatape gaps --exchange binance --status unhealable")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
STANDING = ("suspected", "confirmed", "halt", "unhealable")
"""What is listed unless all is asked for."""
COLUMNS = ("id", "instrument", "from, to (UTC)", "missing", "cause (proof)", "status")


@app.callback(invoke_without_command=True)
def gaps(
    context: typer.Context,
    exchange: Annotated[str | None, typer.Option(help="Only this exchange.")] = None,
    symbol: Annotated[str | None, typer.Option(help="Only this symbol, like BTC/USDT.")] = None,
    status: Annotated[
        str | None, typer.Option(help="suspected, confirmed, healed, halt or unhealable.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Healed holes and breaks of books too.")] = False,
    as_json: AsJson = False,
) -> None:
    """The holes on record in the trades, oldest first: from when to when, why, and what became of each.

    Suspected and confirmed ones are open: `deltatape repair` fills them. Halts (the exchange itself stood
    still or began its ids anew) and unhealable ones are listed and do not count.
    """
    if context.invoked_subcommand is not None:
        return
    from storage import database, ledger
    from storage.holes import list_holes

    known: tuple[GapStatus, ...] = get_args(ledger.GapStatus)
    if status is not None and status not in known:
        raise WrongUse(f"unknown status {status!r}: use one of {', '.join(known)}")
    statuses = [each for each in known if each == status or (status is None and each in STANDING)]
    with database.connect(settings.load().database(), read_only=True) as connection:
        database.require_schema(connection)
        found = list_holes(
            connection,
            exchange=exchange,
            symbol=symbol,
            stream=None if everything else "trades",
            statuses=None if everything and status is None else statuses,
        )
    if as_json:
        output.print_json([as_record(hole) for hole in found])
        return
    output.table(
        "holes",
        COLUMNS,
        map(_row, found),
        empty="no such hole is on record: deltatape verify proves the tape, --all lists healed ones too",
    )


@app.command(epilog='Example: deltatape gaps ack 17 --note "the exchange was down for maintenance" --yes')
def ack(
    number: Annotated[int, typer.Argument(metavar="ID", help="The hole's id.")],
    note: Annotated[str, typer.Option(help="Why nobody will fill it.")],
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without it, only show what would be done.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Call an open hole unhealable, by hand.

    It stays on record, and `deltatape verify` counts it no more.
    """
    from storage import database
    from storage.holes import acknowledge, find_hole

    if not note.strip():
        raise WrongUse("say why in --note: it stays with the hole")
    with database.connect(settings.load().database()) as connection:
        database.require_schema(connection)
        hole = find_hole(connection, number)
        if not hole.is_open:
            raise WrongUse(f"hole {number} is {hole.status}: only an open one can be acknowledged")
        if yes:
            hole = acknowledge(connection, number, note.strip())
    if as_json:
        output.print_json({"acknowledged": yes, "gap": as_record(hole)})
    else:
        output.table("hole", COLUMNS, [_row(hole)], empty="")
    if not yes:
        raise WrongUse("nothing was changed: say --yes to call this hole unhealable")


def as_record(hole: "Hole") -> dict[str, Any]:
    """A hole in plain keys; times as text, and its length in seconds."""
    fields = structs.asdict(hole)
    for name in ("from_timestamp", "to_timestamp", "detected_timestamp", "healed_timestamp"):
        fields[name] = None if fields[name] is None else format_time(fields[name])
    return fields | {"seconds": (hole.to_timestamp - hole.from_timestamp) / 1e6}


def duration(seconds: float) -> str:
    """A length of time in the largest unit that fits."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.3g} s"


def _row(hole: "Hole") -> tuple[Any, ...]:
    missing = "" if hole.missing_count is None else f"{hole.missing_count:,} ids\n{hole.from_id}–{hole.to_id}"
    if hole.missing_count == 1:
        missing = f"1 id\n{hole.from_id}"
    healed = "" if hole.healed_timestamp is None else f" {format_time(hole.healed_timestamp)[:16]}"
    filled = "" if hole.healed_count is None else f", {hole.healed_count:,} filled"
    return (
        hole.id,
        f"{hole.exchange} {hole.symbol}" + ("" if hole.stream == "trades" else f" {hole.stream}"),
        _when(hole),
        missing,
        f"{hole.cause} ({hole.proof})",
        f"{hole.status}{healed}{filled}" + (f": {hole.note}" if hole.note else ""),
    )


def _when(hole: "Hole") -> str:
    """From when to when, in two lines, and how long that is."""
    begin, end = (
        format_time(moment)[:23].replace("T", " ").rstrip("Z")
        for moment in (hole.from_timestamp, hole.to_timestamp)
    )
    until = end[11:] if begin[:10] == end[:10] else end
    return f"{begin}\nto {until} ({duration((hole.to_timestamp - hole.from_timestamp) / 1e6)})"
