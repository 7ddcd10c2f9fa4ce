"""`deltatape doctor`: what is wrong here, and the fix."""

from typing import Annotated

import typer
from rich.text import Text

from deltatape import settings
from deltatape.cli import output
from market import DeltatapeError

app = typer.Typer()

_COLOURS = {"ok": "green", "warning": "yellow", "error": "bold red"}


@app.command(epilog="Example: deltatape doctor")
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check this machine, the settings, the database and the collectors, and say the fix for each finding.

    Nothing is started or changed. Exit code 1 when something is broken; warnings leave it at 0.
    """
    from deltatape.doctor import State, examine

    try:
        wanted: settings.Settings | str = settings.load()
    except DeltatapeError as error:
        wanted = str(error)
    home = settings.default_home() if isinstance(wanted, str) else wanted.home
    findings = list(examine(wanted, home))
    if as_json:
        output.print_json(findings)
    else:
        columns = ["check", "", "what was found, and the fix"]
        rows = [
            (
                found.check,
                Text(found.state, _COLOURS[found.state]),
                f"{found.text}\n→ {found.fix}" if found.fix else found.text,
            )
            for found in findings
        ]
        output.table("doctor", columns, rows, empty="")
    if any(found.state is State.ERROR for found in findings):
        raise typer.Exit(1)
