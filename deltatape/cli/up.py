"""`deltatape up`: everything in one process."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from deltatape import settings
from deltatape.cli import output
from deltatape.cli.collect import parse_symbols
from deltatape.cli.stopping import until_stopped
from market import WrongUse

if TYPE_CHECKING:
    from collector.collect import Target

app = typer.Typer()


@app.command(epilog="Example: deltatape up --exchange kraken --symbols BTC/USD")
def up(
    exchange: Annotated[str | None, typer.Option(help="Collect from this exchange too.")] = None,
    symbols: Annotated[str | None, typer.Option(help="Its symbols, comma-separated.")] = None,
    ws_url: Annotated[
        str | None, typer.Option(help="Replaces scheme, host and port of the websocket.")
    ] = None,
    rest_url: Annotated[str | None, typer.Option(help="Replaces scheme, host and port of REST.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for what is missing at the start.")] = False,
) -> None:
    """Collect, follow signals, send alerts and run the scheduled sweeps until Ctrl-C.

    What is collected and swept stands in the configuration: [[collect]] and [[sweep]].
    """
    from alerts.channels import ConsoleChannel
    from collector.collect import Target
    from deltatape.daemon import Daemon

    if (exchange is None) != (symbols is None):
        raise WrongUse("--exchange and --symbols go together")
    wanted = settings.load()
    targets = [Target(**options.model_dump()) for options in wanted.collect]
    if exchange is not None and symbols is not None:
        chosen = parse_symbols(symbols)
        targets.append(Target(exchange=exchange, symbols=chosen, ws_url=ws_url, rest_url=rest_url))
    if not targets:
        output.say(
            f"collecting nothing: add [[collect]] to {settings.config_file()},"
            " or give --exchange and --symbols"
        )
    daemon = Daemon(wanted, wanted.database(), targets, {"console": ConsoleChannel(output.console)})
    output.say(f"up: {_parts(targets, len(wanted.sweep))} (Ctrl-C stops)")
    asyncio.run(until_stopped(daemon.run(wait=wait)))
    output.say("stopped; everything that came is stored")


def _parts(targets: list["Target"], sweeps: int) -> str:
    collected = [f"{target.exchange} {' '.join(target.symbols)}" for target in targets]
    return ", ".join([*collected, "signals", "alerts", *([f"{sweeps} sweeps a day"] if sweeps else [])])
