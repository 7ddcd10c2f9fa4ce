"""`deltatape replay`: recorded messages onto the tape."""

from pathlib import Path
from typing import Annotated

import typer

from deltatape import settings
from deltatape.cli import output
from deltatape.cli.stopping import Stopped, stop_event

app = typer.Typer()


@app.command(epilog="Example: deltatape replay COINBASE.ws.gz COINBASE.products --exchange coinbase")
def replay(
    files: Annotated[list[Path], typer.Argument(help="Recordings of one session, plain or .gz.")],
    exchange: Annotated[str, typer.Option(help="The exchange's id.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Write recorded messages onto the tape, offline, as fast as it goes.

    Doing it again changes no row. Exit code 1: a file ended early and is stored up to its last whole line.
    """
    from collector.replay import replay as run

    url = settings.load().database()
    with stop_event(None) as stop, output.errors.status("replaying", spinner="dots") as status:

        def show(count: int) -> None:
            status.update(f"replaying: {count:,} messages")
            if stop.is_set():
                raise Stopped("what came so far is stored, and doing it again goes on")

        report = run(files, exchange, url, show)
    if as_json:
        output.print_json(report.counts)
    else:
        output.counts(f"replayed {exchange}", report.counts)
    for shape, count in sorted(report.shapes.items()):
        output.say(f"unhandled shape, {count} times: {shape}")
    for reason in report.unresolved:
        output.say(reason)
    if report.inexact:
        output.say(f"{report.inexact} numbers have more digits than a double holds; stored as the nearest")
    for name in report.ended_early:
        output.say(f"{name}; it is stored up to its last whole line")
    messages = report.counts["messages"]
    is_foreign = 0 < messages == report.counts["unhandled"] + report.counts["rejected"]
    if is_foreign:
        output.fail(f"not one message speaks the protocol of {exchange}: is it another exchange's recording?")
    elif not messages:
        output.say("no websocket message in it: only REST answers were read")
    if report.ended_early or is_foreign:
        raise typer.Exit(1)
