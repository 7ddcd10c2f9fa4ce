"""`deltatape verify`: the proof of the tape, instrument by instrument and UTC day by day."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import structs

from deltatape import settings
from deltatape.cli import output
from deltatape.cli.gaps import as_record, duration
from market import WrongUse, format_time, parse_time

if TYPE_CHECKING:
    from storage.day_checks import Wrong
    from storage.holes import Hole
    from storage.verify import DayProof

app = typer.Typer()

LISTED = 50
"""Problems that are listed one by one; all of them are in the JSON."""


@app.command(epilog="Example: deltatape verify --exchange binance --symbol BTC/USDT --from 2026-01-31")
def verify(
    exchange: Annotated[str | None, typer.Option(help="Only this exchange.")] = None,
    symbol: Annotated[str | None, typer.Option(help="Only this symbol, like BTC/USDT.")] = None,
    begin: Annotated[
        str | None, typer.Option("--from", help="From the UTC day that holds this date or time on.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="Days that begin before this date or time (UTC).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object with everything.")] = False,
) -> None:
    """Prove that the tape is whole and that all that follows from it is right.

    Checked for each instrument and UTC day: ids missing, trades twice, out of order or outside of coverage,
    open holes, candles and CVD against their recomputation. Exit code 1 where trades, candles or CVD are
    wrong or a hole is open. A live collector may run meanwhile.
    """
    first, last = parse_range(begin, end)
    days, holes, left = _prove(exchange, symbol, first, last)
    is_right = all(proof.ok for proof in days) and not any(hole.is_open for hole in holes)
    if as_json:
        output.print_json(
            {
                "ok": is_right,
                "days": [_day_record(proof) for proof in days],
                "gaps": [as_record(hole) for hole in holes],
                "past": {name: [_date(day) for day in found] for name, found in left.items()},
            }
        )
    else:
        _show(days, holes, left, is_right=is_right)
    if not is_right:
        raise typer.Exit(1)


def parse_range(begin: str | None, end: str | None) -> tuple[int | None, int | None]:
    """--from and --to in microseconds UTC.

    Raises:
        WrongUse: one is no time, or they leave nothing between them.
    """
    first = None if begin is None else parse_time(begin)
    last = None if end is None else parse_time(end)
    if first is not None and last is not None and first >= last:
        raise WrongUse(f"--from {begin} is not before --to {end}")
    return first, last


def _prove(
    exchange: str | None, symbol: str | None, begin: int | None, end: int | None
) -> tuple[list["DayProof"], list["Hole"], dict[str, list[int]]]:
    """Every day, the holes in them that are open or cannot be filled, and the days that have left."""
    from storage import database, verify

    days: list[DayProof] = []
    holes: list[Hole] = []
    left: dict[str, list[int]] = {}
    url = settings.load().database()
    with (
        database.connect(url, application_name="deltatape verify", read_only=True) as connection,
        output.steps("days", "reading the ledger") as show,
    ):
        database.require_schema(connection)
        found = verify.instruments(connection, exchange, symbol)
        connection.rollback()
        for number, (known, name) in enumerate(found, 1):
            with verify.snapshot(connection, known, name, begin, end) as tape:
                for done, day in enumerate(tape.days):
                    show(done, len(tape.days), f"{known} {name} ({number} of {len(found)})")
                    days.append(tape.prove(day))
                holes += tape.standing_holes()
                if tape.past:
                    left[f"{known} {name}"] = tape.past
    return days, holes, left


# JSON


def _day_record(proof: "DayProof") -> dict[str, Any]:
    """One day's proof in plain keys; times as text."""
    fields = structs.asdict(proof)
    kinds = {"duplicates": "duplicates", "orphans": "orphans", "candles": "candles_wrong", "cvd": "cvd_wrong"}
    kinds["candles_contradicted"] = "candles_contradicted"
    wrong = {kind: fields.pop(kind) for kind in kinds}
    record: dict[str, Any] = {
        "exchange": fields.pop("exchange"),
        "symbol": fields.pop("symbol"),
        "day": _date(fields.pop("day")),
        "ok": proof.ok,
        "coverage_percent": proof.coverage_percent,
        **{name: wrong[kind].count for kind, name in kinds.items()},
        **fields,
    }
    for name in ("observed_from", "observed_to"):
        record[name] = format_time(record[name])
    record["missing_runs"] = [
        {
            "first": run.first,
            "last": run.last,
            "before": format_time(run.before),
            "after": format_time(run.after),
        }
        for run in proof.missing_runs
    ]
    record["examples"] = {
        name: [{"timestamp": format_time(at), "name": row} for at, row in wrong[kind].examples]
        for kind, name in kinds.items()
        if wrong[kind].examples
    }
    return record


# For people


def _show(days: "list[DayProof]", holes: "list[Hole]", left: dict[str, list[int]], *, is_right: bool) -> None:
    output.table(
        "the tape, day by day (UTC)",
        ["instrument", "day", "source", "trades", "proof", "covered"],
        map(_row, days),
        empty="no day of that time is in the database any more"
        if left
        else "nothing on the tape in that time: deltatape collect, backfill, import or replay fills it",
    )
    for name, past in left.items():
        output.console.print(
            f"· {name}: {len(past):,} days from {_date(past[0])} to {_date(past[-1])} have left the database:"
            " deltatape db tier --check proves those that the tier has",
            markup=False,
            soft_wrap=True,
        )
    if not days:
        return
    for lines, sign in ((_problems(days, holes), "✗"), (_remarks(days, holes), "·")):
        for line in lines[:LISTED]:
            output.console.print(f"{sign} {line}", markup=False, soft_wrap=True)
        if len(lines) > LISTED:
            output.console.print(f"{sign} and {len(lines) - LISTED:,} more: --json lists all", markup=False)
    output.console.print(
        "covered: how much is proven whole of the time between the instrument's first and last coverage on"
        " that day; the rest is holes on record and time that nobody observed",
        style="dim",
        soft_wrap=True,
    )
    trades = sum(proof.trades for proof in days)
    if is_right:
        output.console.print(f"✓ right: {trades:,} trades on {len(days):,} instrument-days", style="green")
    else:
        bad = sum(not proof.ok for proof in days)
        output.console.print(f"✗ not right: {bad:,} of {len(days):,} instrument-days", style="red")


def _row(proof: "DayProof") -> tuple[Any, ...]:
    counts = (
        (proof.ids_missing, "ids missing"),
        (proof.duplicates.count, "trades twice"),
        (proof.orphans.count, "trades uncovered"),
        (proof.ids_renamed, "ids wrong"),
        (proof.candles.count, "candles wrong"),
        (proof.cvd.count, "CVD values wrong"),
        (proof.open_gaps, "holes open"),
    )
    wrong = ", ".join(f"{count:,} {word}" for count, word in counts if count)
    percent = proof.coverage_percent
    return (
        f"{proof.exchange} {proof.symbol}",
        _date(proof.day),
        ", ".join(proof.origins),
        f"{proof.trades:,}",
        f"✗ {wrong}" if wrong else "✓ right",
        "–" if percent is None else f"{_floor(percent)} %",
    )


def _floor(percent: float) -> str:
    """Never 100 for less than all."""
    return "100" if percent == 100 else f"{min(percent, 99.99):.2f}"


def _problems(days: "list[DayProof]", holes: "list[Hole]") -> list[str]:
    lines = [line for proof in days for line in _day_problems(proof)]
    return lines + [
        f"{_hole_text(hole)}: deltatape repair, or deltatape gaps ack {hole.id}"
        for hole in holes
        if hole.is_open
    ]


def _day_problems(proof: "DayProof") -> Iterator[str]:
    where = f"{proof.exchange} {proof.symbol} {_date(proof.day)}"
    of = f"--exchange {proof.exchange} --symbol {proof.symbol}"
    repair = f"deltatape repair {of}"
    if proof.ids_missing:
        runs = ", ".join(f"{run.first}–{run.last}" for run in proof.missing_runs[:3])
        yield (
            f"{where}: {proof.ids_missing:,} ids missing that no hole on record explains ({runs}): {repair}"
        )
    for wrong, what in (
        (proof.duplicates, "trades stand there twice"),
        (proof.orphans, "trades lie in no coverage"),
        (proof.candles, "candles are not what their trades give"),
        (proof.cvd, "CVD values are not what their trades give"),
    ):
        if wrong.count:
            yield f"{where}: {wrong.count:,} {what} ({_examples(wrong)}): {repair}"
    if proof.ids_renamed:
        yield f"{where}: {proof.ids_renamed:,} trades whose number is not their id's: {repair}"


def _remarks(days: "list[DayProof]", holes: "list[Hole]") -> list[str]:
    """What is listed and does not count."""
    lines = []
    for proof in days:
        where = f"{proof.exchange} {proof.symbol} {_date(proof.day)}"
        if proof.misordered:
            lines.append(
                f"{where}: {proof.misordered:,} trades have a lower id than one before: its clock went back"
            )
        if proof.unobserved_seconds:
            lines.append(f"{where}: nobody observed {duration(proof.unobserved_seconds)}: deltatape backfill")
        if proof.book_breaks:
            seconds = duration(proof.book_break_seconds)
            lines.append(f"{where}: {proof.book_breaks:,} breaks of the book, {seconds} without snapshots")
        if proof.candles_contradicted.count:
            lines.append(
                f"{where}: {proof.candles_contradicted.count:,} candles of the exchange or an import say of"
                f" trades where the tape has none ({_examples(proof.candles_contradicted)})"
            )
    lines += [f"{_hole_text(hole)}: {hole.note or hole.cause}" for hole in holes if not hole.is_open]
    return lines


def _hole_text(hole: "Hole") -> str:
    missing = "" if hole.missing_count is None else f", {hole.missing_count:,} ids missing"
    seconds = duration((hole.to_timestamp - hole.from_timestamp) / 1e6)
    begin = format_time(hole.from_timestamp)
    return f"{hole.exchange} {hole.symbol} {begin}: hole {hole.id} ({hole.status}, {seconds}{missing})"


def _examples(wrong: "Wrong") -> str:
    shown = ", ".join(f"{name} at {format_time(at)}" for at, name in wrong.examples)
    return shown + (", …" if wrong.count > len(wrong.examples) else "")


def _date(day: int) -> str:
    return format_time(day)[:10]
