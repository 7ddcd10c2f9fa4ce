"""`deltatape alerts`: what the outbox holds, and sending it."""

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import structs

from deltatape import settings
from deltatape.cli import output
from deltatape.cli.stopping import Seconds, stop_event
from market import WrongUse, format_time

if TYPE_CHECKING:
    from storage.outbox import Alert

app = typer.Typer(epilog="Example: deltatape alerts list --status dead")

STATUSES = ("pending", "sent", "failed", "dead", "suppressed")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list", epilog="Example: deltatape alerts list --status dead")
def list_(
    limit: Annotated[
        int, typer.Option(min=1, max=output.MOST_LISTED, help="How many, the newest first.")
    ] = 20,
    status: Annotated[str | None, typer.Option(help="pending, sent, failed, dead or suppressed.")] = None,
    channel: Annotated[str | None, typer.Option(help="Only this channel.")] = None,
    as_json: AsJson = False,
) -> None:
    """The newest alerts and what became of them."""
    from storage.database import connect, require_schema
    from storage.outbox import list_alerts

    if status is not None and status not in STATUSES:
        raise WrongUse(f"unknown status {status!r}: use one of {', '.join(STATUSES)}")
    with connect(settings.load().database()) as connection:
        require_schema(connection)
        found = list_alerts(connection, channel=channel, status=status, limit=limit)
    if as_json:
        output.print_json([structs.asdict(alert) | _times(alert) for alert in found])
        return
    output.table(
        "alerts",
        ["id", "time", "what", "channel", "status", "attempts", "title", "error"],
        [
            (a.id, format_time(a.timestamp), a.alert_type, a.channel, a.status, a.attempts, a.title, a.error)
            for a in found
        ],
        empty="no alerts: deltatape signals run writes one for each fresh signal of a live stream",
    )


@app.command(epilog="Example: deltatape alerts run --for 60")
def run(
    seconds: Seconds = None,
    once: Annotated[bool, typer.Option("--once", help="Send what is due now, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON on stdout.")] = False,
) -> None:
    """Send what is due in the outbox, and what comes.

    Until Ctrl-C; several may run at once.
    """
    from alerts.channels import ConsoleChannel
    from alerts.dispatcher import Counts
    from alerts.dispatcher import run as dispatch

    counts = Counts()
    # With --json, stdout is the result's: the alerts themselves go to stderr.
    console = ConsoleChannel(output.errors if as_json else output.console)
    with stop_event(seconds) as stop:
        if once:
            # The dispatcher looks at it after its first round.
            stop.set()
        for latest in dispatch(settings.load().database(), {"console": console}, _now, stop):
            counts = latest
    if as_json:
        output.print_json(asdict(counts))
    else:
        output.say(f"{counts.sent:,} sent, {counts.failed:,} failed, {counts.dead:,} given up")


def _times(alert: "Alert") -> dict[str, str | None]:
    """The times as people and other lists write them."""
    names = ("timestamp", "next_attempt_timestamp", "sent_timestamp")
    given = {name: getattr(alert, name) for name in names}
    return {name: None if value is None else format_time(value) for name, value in given.items()}


def _now() -> int:
    return time.time_ns() // 1000
