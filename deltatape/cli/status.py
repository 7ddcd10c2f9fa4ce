"""`deltatape status`: what is stored, how fresh it is, and what runs."""

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import compress
from typing import Annotated, Any

import psycopg
import typer
from msgspec import Struct, structs
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from collector.metrics import METRICS
from collector.reporting import COMPONENT
from deltatape import settings
from deltatape.cli import output
from deltatape.cli.stopping import stop_event
from market import MICROSECONDS, Unavailable
from storage import database, overview, streams
from storage.metrics import Measured, newest_metrics

app = typer.Typer()

REFRESH_SECONDS = 1.0
METRICS_SECONDS = 25
"""Older metrics are those of a collector that does not run any more."""
_STATES = {"live": "green", "stale": "yellow", "healing": "cyan", "down": "red"}
_SOURCES = {"live": "green", "healed": "green", "replay": "yellow", "import": "blue", "backfill": "blue"}
_NOTHING = "nothing on the tape yet: deltatape collect, deltatape replay or make run fills it"


class Seen(Struct, frozen=True):
    """What is shown; times are the database's."""

    now: datetime
    tapes: list[overview.InstrumentTape]
    streams: list[streams.StreamRow]
    collectors: list[Measured]
    workers: list[str]
    size: int


@app.command(epilog="Example: deltatape status --watch")
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Refresh each second until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object (each time).")] = False,
) -> None:
    """Show the rows of each table, each instrument's tape and stream, the collectors, and what runs."""
    url = settings.load().database()
    if watch:
        _watch(url, as_json=as_json)
        return
    with database.connect(url, read_only=True) as connection:
        database.require_schema(connection)
        rows = overview.row_counts(connection)
        seen = _look(connection)
    if as_json:
        output.print_json({"rows": rows} | _as_json(seen))
        return
    output.table(
        f"stored ({seen.size / 1e6:,.0f} MB)",
        ["table", "rows"],
        [(n, f"{c:,}") for n, c in rows.items()],
        empty="",
    )
    _print_tape(seen)
    output.console.print(_picture(seen))


def _look(connection: database.Connection) -> Seen:
    now = streams.server_time(connection)
    found = streams.list_streams(connection)
    labels = [{"exchange": name} for name in sorted({row.exchange for row in found})]
    since = int(now.timestamp() - METRICS_SECONDS) * MICROSECONDS
    return Seen(
        now=now,
        tapes=overview.instrument_tapes(connection),
        streams=found,
        collectors=newest_metrics(connection, COMPONENT, METRICS, labels, since),
        workers=overview.workers(connection),
        size=overview.database_bytes(connection),
    )


def _as_json(seen: Seen) -> dict[str, Any]:
    return {
        "instruments": [
            structs.asdict(tape) | {"age_seconds": (seen.now - tape.to_timestamp).total_seconds()}
            for tape in seen.tapes
        ],
        "streams": [
            structs.asdict(row)
            | dict(zip(("state", "reason"), row.state(seen.now), strict=True))
            | {"silence_seconds": row.silence(seen.now).total_seconds()}
            for row in seen.streams
        ],
        "collectors": [
            {"exchange": one.labels["exchange"], "timestamp": one.timestamp, **one.values}
            for one in seen.collectors
        ],
        "running": seen.workers,
        "bytes": seen.size,
    }


# Watching


def _watch(url: str, *, as_json: bool) -> None:
    """Show it anew each second; while the database is away, say so and go on."""
    shown = output.console
    with stop_event(None) as stop:
        if as_json or not shown.is_terminal:
            while not stop.is_set():
                with database.connect(url, read_only=True) as connection:
                    database.require_schema(connection)
                    seen = _look(connection)
                if as_json:
                    output.print_json(_as_json(seen))
                    sys.stdout.flush()
                else:
                    shown.print(_picture(seen))
                stop.wait(REFRESH_SECONDS)
            return
        with Live(_try_picture(url), console=shown, auto_refresh=False, screen=True) as view:
            while not stop.wait(REFRESH_SECONDS):
                view.update(_try_picture(url), refresh=True)


def _try_picture(url: str) -> RenderableType:
    head = Text(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, Ctrl-C ends\n", "dim")
    try:
        with database.connect(url, read_only=True) as connection:
            database.require_schema(connection)
            return Group(head, _picture(_look(connection)))
    except (Unavailable, psycopg.Error) as error:
        return Group(head, Text(str(error), "red"))


# The picture


def _picture(seen: Seen) -> RenderableType:
    parts: list[RenderableType] = []
    if seen.streams:
        parts.append(_stream_grid(seen))
    if seen.collectors:
        parts.append(_collector_grid(seen))
    if not parts and not seen.tapes:
        parts.append(_NOTHING)
    parts.append("running: " + (", ".join(seen.workers) or "nothing; deltatape up starts everything"))
    return Group(*parts)


_TAPE_COLUMNS = ("exchange", "symbol", "source", "price", "trades", "from", "to", "age", "spans", "open gaps")
_NOT_NARROW = ("from", "to", "spans")


def _print_tape(seen: Seen) -> None:
    """Each instrument's tape; where there is little room, without from when to when."""
    is_narrow = output.console.width < output.NARROW
    kept = [not (is_narrow and name in _NOT_NARROW) for name in _TAPE_COLUMNS]
    rows = [list(compress(_tape_row(seen, tape), kept)) for tape in seen.tapes]
    output.table("tape", list(compress(_TAPE_COLUMNS, kept)), rows, empty=_NOTHING)


def _tape_row(seen: Seen, tape: overview.InstrumentTape) -> Sequence[Any]:
    return (
        _exchange(tape.exchange),
        tape.symbol,
        _source(tape.origins),
        tape.last_price,
        f"{tape.rows:,}",
        f"{tape.from_timestamp:%Y-%m-%d %H:%M:%S}",
        f"{tape.to_timestamp:%Y-%m-%d %H:%M:%S}",
        output.age((seen.now - tape.to_timestamp).total_seconds()),
        tape.spans,
        tape.open_gaps,
    )


def _stream_grid(seen: Seen) -> Table:
    tapes = {(tape.exchange, tape.symbol): tape for tape in seen.tapes}
    rows = []
    for row in seen.streams:
        state, reason = row.state(seen.now)
        tape = tapes.get((row.exchange, row.symbol))
        last = row.watermark_timestamp
        rows.append(
            (
                _exchange(row.exchange),
                row.symbol if row.stream == "trades" else f"{row.symbol} {row.stream}",
                Text(f"{state} ({reason})" if reason else state, _STATES[state]),
                _source(tape.origins) if tape else "",
                tape.last_price if tape else None,
                output.age((seen.now - last).total_seconds()) if last else "",
                row.open_gaps,
            )
        )
    return output.grid("streams", ["exchange", "symbol", "state", "source", "price", "age", "holes"], rows)


def _collector_grid(seen: Seen) -> Table:
    columns = ["exchange", "msg/s", "trades/s", "lag p50/p99", "commit p50/p99", "queue", "spool", "reconn."]
    rows = [
        (
            _exchange(one.labels["exchange"]),
            f"{one.values.get('messages_per_second', 0):,.1f}",
            f"{one.values.get('trades_per_second', 0):,.1f}",
            _pair(one.values, "exchange_lag"),
            _pair(one.values, "commit_lag"),
            f"{one.values.get('queue_depth', 0):,.0f}",
            _spool(one.values),
            f"{one.values.get('reconnects', 0):,.0f}",
        )
        for one in seen.collectors
    ]
    return output.grid("collectors", columns, rows)


def _pair(values: dict[str, float], name: str) -> str:
    """Median and 99th percentile, in one unit."""
    found = [values.get(f"{name}_{share}") for share in ("p50", "p99")]
    if None in found:
        return "-"
    middle, high = (value or 0 for value in found)
    return f"{middle * 1000:.0f}/{high * 1000:.0f} ms" if high < 10 else f"{middle:.1f}/{high:.1f} s"


def _spool(values: dict[str, float]) -> Text | str:
    batches = values.get("spool_batches", 0)
    return Text(f"{values.get('spool_bytes', 0) / 1e6:,.1f} MB", "yellow") if batches else "-"


def _exchange(name: str) -> Text:
    return Text(name, "bold magenta" if name == "simulated" else "")


def _source(origins: Iterable[str]) -> Text:
    return Text(", ").join(Text(origin, _SOURCES.get(origin, "")) for origin in origins)
