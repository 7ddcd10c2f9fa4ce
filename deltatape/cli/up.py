"""`deltatape up`: everything in one process."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from deltatape import settings
from deltatape.cli import output
from deltatape.cli.collect import parse_symbols
from deltatape.cli.stopping import until_stopped
from deltatape.parts import Part
from deltatape.telegram_bot import WITHOUT_A_BOT, is_configured
from market import WrongUse

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from collector.collect import Target
    from deltatape.daemon import Daemon

app = typer.Typer()


@app.command(epilog="Example: deltatape up --exchange kraken --symbols BTC/USD")
def up(
    exchange: Annotated[str | None, typer.Option(help="Collect from this exchange too.")] = None,
    symbols: Annotated[str | None, typer.Option(help="Its symbols, comma-separated.")] = None,
    ws_url: Annotated[
        str | None, typer.Option(help="Replaces scheme, host and port of the websocket.")
    ] = None,
    rest_url: Annotated[str | None, typer.Option(help="Replaces scheme, host and port of REST.")] = None,
    only: Annotated[
        list[Part] | None, typer.Option(help="Run this part alone, each in a process; may be given again.")
    ] = None,
    listen: Annotated[
        str | None, typer.Option(help="Answer /metrics and /health here, such as 127.0.0.1:9464.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for what is missing at the start.")] = False,
) -> None:
    """Collect, follow signals, send alerts, answer on Telegram, run sweeps and upkeep until Ctrl-C.

    What is collected, swept and kept stands in the configuration: [[collect]], [[sweep]], [tier], [[retain]].
    """
    from collector.collect import Target
    from deltatape.daemon import Daemon
    from deltatape.outlets import outlets

    if (exchange is None) != (symbols is None):
        raise WrongUse("--exchange and --symbols go together")
    parts = tuple(only or Part)
    if exchange is not None and Part.COLLECTOR not in parts:
        raise WrongUse("--exchange is for collecting: add --only collector")
    wanted = settings.load()
    targets = [Target(**options.model_dump()) for options in wanted.collect]
    if exchange is not None and symbols is not None:
        chosen = parse_symbols(symbols)
        targets.append(Target(exchange=exchange, symbols=chosen, ws_url=ws_url, rest_url=rest_url))
    if not targets and Part.COLLECTOR in parts:
        output.say(
            f"collecting nothing: add [[collect]] to {settings.config_file()},"
            " or give --exchange and --symbols"
        )
    url = wanted.database()
    daemon = Daemon(wanted, url, targets, outlets(wanted, output.console, url), parts)
    has_bot = is_configured(wanted)
    if not has_bot and only is not None and Part.TELEGRAM in parts:
        output.say(f"no Telegram bot: {WITHOUT_A_BOT}, and telegram.allowed_users")
    described = _described(parts, targets, len(wanted.sweep), has_bot=has_bot)
    output.say(f"up: {described} (Ctrl-C stops)")
    asyncio.run(until_stopped(_run(daemon, wanted, url, listen, wait=wait)))
    output.say("stopped; everything that came is stored")


async def _run(
    daemon: "Daemon", wanted: settings.Settings, url: str, listen: str | None, *, wait: bool
) -> None:
    from deltatape.endpoint import Health
    from deltatape.observing import observed

    health = Health(daemon.readings, daemon.problems)
    async with observed(wanted, url, health, listen=listen) as address:
        if address is not None:
            output.say(f"metrics and health: {address}/metrics, {address}/health")
        await daemon.run(wait=wait)


def _described(parts: "Collection[Part]", targets: "Sequence[Target]", sweeps: int, *, has_bot: bool) -> str:
    shown = [f"{target.exchange} {' '.join(target.symbols)}" for target in targets]
    shown = shown if Part.COLLECTOR in parts else []
    shown += [part for part in (Part.SIGNALS, Part.ALERTS) if part in parts]
    if Part.TELEGRAM in parts and has_bot:
        shown.append("a Telegram bot")
    if Part.SWEEPS in parts and sweeps:
        shown.append(f"{sweeps} sweeps a day")
    if Part.UPKEEP in parts:
        shown.append("upkeep")
    return ", ".join(shown) or "nothing to do"
