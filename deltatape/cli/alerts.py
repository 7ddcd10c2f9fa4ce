"""`deltatape alerts`: what the outbox holds, sending it, and what must be said past it."""

import platform
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import structs

from deltatape import settings
from deltatape.cli import output
from deltatape.cli.stopping import Seconds, stop_event
from market import WrongUse, format_time

if TYPE_CHECKING:
    from storage.outbox import Alert, AlertType

app = typer.Typer(epilog="Example: deltatape alerts list --status dead")

STATUSES = ("pending", "sent", "failed", "dead", "suppressed")
SEVERITIES = ("info", "warning", "critical")
Channels = Annotated[
    list[str] | None, typer.Option("--channel", help="Only over this one; may be given again.")
]
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


@app.command(epilog="Example: deltatape alerts show 17")
def show(
    alert_id: Annotated[int, typer.Argument(metavar="ID", help="As `alerts list` names it.")],
    as_json: AsJson = False,
) -> None:
    """One alert, with all that it knows and what became of it."""
    from alerts.channels.console import panel
    from storage.database import connect, require_schema
    from storage.outbox import find_alert

    with connect(settings.load().database()) as connection:
        require_schema(connection)
        found = find_alert(connection, alert_id)
    if found is None:
        raise WrongUse(f"there is no alert {alert_id}: deltatape alerts list")
    if as_json:
        output.print_json(structs.asdict(found) | _times(found))
        return
    output.console.print(panel(found))
    rows: list[tuple[str, object]] = [
        ("channel", found.channel),
        ("status", found.status),
        ("attempts", found.attempts),
    ]
    times = {name: at for name, at in _times(found).items() if at and name != "timestamp"}
    rows += [(name.removesuffix("_timestamp").replace("_", " "), at) for name, at in times.items()]
    rows += [("error", found.error)] if found.error else []
    rows += [(name, value) for name, value in found.payload.items() if not isinstance(value, list | dict)]
    output.table("what became of it, and its numbers", ["what", "value"], rows, empty="")


@app.command(epilog="Example: deltatape alerts retry 17 18")
def retry(
    ids: Annotated[
        list[int] | None, typer.Argument(help="These, dead, failed or suppressed; else every dead one.")
    ] = None,
    channel: Annotated[str | None, typer.Option(help="Only of this channel.")] = None,
    as_json: AsJson = False,
) -> None:
    """Let alerts be sent after all that were given up, or held back."""
    from storage import outbox
    from storage.database import connect, require_schema

    with connect(settings.load().database()) as connection:
        require_schema(connection)
        count = outbox.retry(connection, ids or None, channel=channel)
        connection.commit()
    if as_json:
        output.print_json({"again": count})
    else:
        output.console.print(f"due again: {count:,}")
    if ids and count < len(set(ids)):
        raise typer.Exit(1)


@app.command("test", epilog="Example: deltatape alerts test --channel phone")
def try_out(channel: Channels = None, as_json: AsJson = False) -> None:
    """Send a test over each channel, past the database.

    The exit code is 1 where one is not taken.
    """
    from storage.outbox import AlertType

    said = "Deltatape reaches you on this channel."
    _send_now(AlertType.TEST, "a test", said, "info", channel, as_json=as_json)


@app.command(epilog='Example: deltatape alerts say "the disk is full" --severity critical')
def say(
    text: Annotated[str, typer.Argument(help="What to say.")],
    severity: Annotated[str, typer.Option(help="info, warning or critical.")] = "warning",
    channel: Channels = None,
    as_json: AsJson = False,
) -> None:
    """Send a message now, past the database.

    For what watches Deltatape itself, such as a unit that systemd starts when another one failed.
    """
    from storage.outbox import AlertType

    if severity not in SEVERITIES:
        raise WrongUse(f"unknown severity {severity!r}: use one of {', '.join(SEVERITIES)}")
    _send_now(AlertType.SYSTEM_ERROR, platform.node(), text, severity, channel, as_json=as_json)


@app.command(epilog="Example: deltatape alerts run --for 60")
def run(
    seconds: Seconds = None,
    once: Annotated[bool, typer.Option("--once", help="Send what is due now, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON on stdout.")] = False,
) -> None:
    """Send what is due in the outbox, and what comes.

    Until Ctrl-C. Several may run at once: on each channel one of them sends.
    """
    from alerts.run import run as dispatch
    from deltatape.outlets import outlets
    from storage.clock import wall_clock

    wanted = settings.load()
    # With --json, stdout is the result's: the alerts themselves go to stderr.
    console = output.errors if as_json else output.console
    with stop_event(seconds) as stop:
        url = wanted.database()
        counts = dispatch(url, outlets(wanted, console, url), wall_clock, stop, is_once=once)
    if as_json:
        output.print_json(asdict(counts))
    else:
        output.say(f"{counts.sent:,} sent, {counts.failed:,} failed, {counts.dead:,} given up")


def _send_now(
    kind: "AlertType", title: str, text: str, severity: str, channels: list[str] | None, *, as_json: bool
) -> None:
    from alerts.direct import send_directly
    from deltatape.outlets import outlets
    from storage.clock import wall_clock
    from storage.outbox import Event, Severity, alert_rows

    wanted = settings.load()
    if unknown := set(channels or ()) - wanted.alerts.channels.keys():
        known = ", ".join(wanted.alerts.channels)
        raise WrongUse(f"no channel {min(unknown)!r} in the settings; there are: {known}")
    at = wall_clock()
    event = Event(
        alert_type=kind,
        timestamp=at,
        title=f"Deltatape: {title}",
        message=text,
        dedupe_key=f"said:{at}",
        severity=Severity(severity),
    )
    made = outlets(wanted, output.errors if as_json else output.console, None, only=channels or None)
    found = send_directly(made, alert_rows(event, made), wanted.database_if_up())
    said = {name: "sent" if failure is None else failure.reason for name, failure in found.items()}
    if as_json:
        output.print_json(said)
    else:
        output.table("channels", ["channel", "result"], said.items(), empty="")
    if any(found.values()):
        raise typer.Exit(1)


def _times(alert: "Alert") -> dict[str, str | None]:
    """The times as people and other lists write them."""
    names = ("timestamp", "next_attempt_timestamp", "sent_timestamp")
    given = {name: getattr(alert, name) for name in names}
    return {name: None if value is None else format_time(value) for name, value in given.items()}
