"""`deltatape telegram`: the bot that people ask."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, cast

import typer

from deltatape import settings
from deltatape.cli import output
from deltatape.cli.stopping import Seconds, stop_event
from market import WrongUse

if TYPE_CHECKING:
    from alerts.charts import Theme

app = typer.Typer(epilog="Example: deltatape telegram run")


@app.callback()
def telegram() -> None:
    """The Telegram bot; docs/telegram.md says how to come by one."""


@app.command(epilog="Example: deltatape telegram run --theme light")
def run(
    webhook: Annotated[
        str | None, typer.Option(help="Let Telegram bring updates to this https address.")
    ] = None,
    listen: Annotated[
        str | None, typer.Option(help="Where that address leads to, such as 127.0.0.1:8443.")
    ] = None,
    theme: Annotated[str | None, typer.Option(help="Pictures: dark or light.")] = None,
    seconds: Seconds = None,
) -> None:
    """Answer allowed users on Telegram until Ctrl-C.

    The bot asks Telegram for updates itself, unless a webhook is given. One program at a time can do that.
    """
    from alerts.telegram.run import run as answer
    from deltatape.telegram_bot import bot_options

    if theme is not None and theme not in ("dark", "light"):
        raise WrongUse(f"unknown theme {theme!r}: use dark or light")
    wanted = settings.load()
    options = bot_options(wanted)
    options = replace(
        options,
        theme=cast("Theme", theme or options.theme),
        webhook_url=webhook or options.webhook_url,
        webhook_listen=listen or options.webhook_listen,
    )
    with stop_event(seconds) as stop:
        answer(wanted.database(), options, stop, _listens)
    output.say("stopped; what was asked is answered")


def _listens(name: str) -> None:
    output.say(f"@{name} answers (Ctrl-C stops)")
