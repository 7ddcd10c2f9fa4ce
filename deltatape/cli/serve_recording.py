"""`deltatape serve-recording`: a recorded session over a local port, as the exchange would send it."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from deltatape.cli.output import say
from deltatape.cli.stopping import until_stopped

app = typer.Typer()


@app.command(
    "serve-recording",
    epilog="Example: deltatape serve-recording session.ws.gz session.http.gz --exchange binance --port 8765",
)
def serve_recording(
    files: Annotated[
        list[Path], typer.Argument(help="Websocket and REST files of one session, merged by time.")
    ],
    exchange: Annotated[str, typer.Option(help="The exchange that was recorded.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="For websocket and REST; 0: any free one.")],
    speed: Annotated[
        float, typer.Option(help="Recorded seconds a second; 1000000: as fast as it is read.")
    ] = 1.0,
    host: Annotated[str, typer.Option(help="Address to listen on: local or private.")] = "127.0.0.1",
) -> None:
    """Play a recording back once, from the first websocket connection on, and end.

    Every connection gets every message, whatever it subscribes. A REST answer is held until the playback has
    come to its time; what was not recorded is a 404.
    """
    from collector import exchanges

    exchanges.find(exchange)
    if not asyncio.run(until_stopped(_serve(files, exchange, port, host, speed))):
        raise KeyboardInterrupt


async def _serve(files: list[Path], exchange: str, port: int, host: str, speed: float) -> None:
    from collector.playback import play

    async with play(files, speed=speed, host=host, port=port) as playback:
        for damage in playback.damage:
            say(damage)
        typer.echo(
            f"listening; collect with: deltatape collect --exchange {exchange} --symbols …"
            f" --ws-url {playback.address.ws_url} --rest-url {playback.address.rest_url}"
        )
        await playback.run()
