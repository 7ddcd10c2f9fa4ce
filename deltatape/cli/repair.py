"""`deltatape repair`: puts right what verify finds, and heals the open holes."""

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from deltatape import settings
from deltatape.cli import output

app = typer.Typer()


@app.command(epilog="Example: deltatape repair --exchange binance --symbol BTC/USDT")
def repair(
    exchange: Annotated[str | None, typer.Option(help="Only this exchange.")] = None,
    symbol: Annotated[str | None, typer.Option(help="Only this symbol, like BTC/USDT.")] = None,
    rest_url: Annotated[
        str | None, typer.Option(help="Replaces scheme, host and port of REST; needs --exchange.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Recompute what is wrong, put missing ids on record, and heal open holes over REST.

    What collectors left in their spools is written first. A live collector may run meanwhile. Exit code 1
    where holes stay open, because their exchange does not answer.
    """
    from collector import repair as repairing

    wanted = settings.load()
    done = asyncio.run(repairing.run(wanted.database(), wanted.spool, exchange, symbol, rest_url, output.say))
    if as_json:
        output.print_json(asdict(done))
    else:
        output.counts("repaired", asdict(done))
    if done.holes_left:
        raise typer.Exit(1)
