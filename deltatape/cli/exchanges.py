"""`deltatape exchanges`: what each exchange gives, and how it is spoken."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import structs

from deltatape.cli import output

if TYPE_CHECKING:
    from collector.exchanges.adapter import Adapter

app = typer.Typer()


@app.command(epilog="Example: deltatape exchanges kraken")
def exchanges(
    exchange: Annotated[str | None, typer.Argument(metavar="ID", help="Everything about this one.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Those that are collected through ccxt too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the exchanges with an adapter of their own; every other that ccxt listens to goes through ccxt."""
    from collector.exchanges import EXCHANGES, ccxt_unified, find

    if exchange is not None:
        record = _record(find(exchange))
        if as_json:
            output.print_json(record)
        else:
            output.table(exchange, ["what", "how"], _lines(record), empty="")
        return
    records = [_record(find(known)) for known in sorted(EXCHANGES)]
    others = [known for known in ccxt_unified.exchanges() if known not in EXCHANGES] if everything else []
    if as_json:
        output.print_json(records + [_record(find(known)) for known in others])
        return
    # Where there is little room, the id is title enough.
    title = () if output.console.width < output.NARROW else ("title",)
    columns = ("id", *title, "trades", "book", "candles", "history")
    output.table("exchanges", columns, [[record[name] for name in columns] for record in records], empty="")
    if everything:
        output.console.print("through ccxt (deltatape exchanges ID says how): " + ", ".join(others))
    else:
        output.say("every other exchange that ccxt listens to is collected through ccxt: --all lists them")


def _record(adapter: "Adapter") -> dict[str, Any]:
    """All that is known of an exchange before it is asked, in plain keys."""
    rate, burst = adapter.rest_rate
    return {
        "id": adapter.exchange,
        **structs.asdict(adapter.facts),
        "ids_consecutive": adapter.has_consecutive_ids,
        "book_from": adapter.book_rule,
        "websocket": adapter.ws_url or None,
        "rest": adapter.rest_url or None,
        "rest_weight_per_second": rate,
        "rest_weight_at_once": burst,
        "instruments_per_connection": adapter.symbols_per_line,
        "connection_seconds": adapter.lifetime,
        "silence_seconds": adapter.silence_limit,
        "replay_only": adapter.is_replay_only,
    }


def _lines(record: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), _words(value)) for name, value in record.items()]


def _words(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
