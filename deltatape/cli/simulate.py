"""`deltatape simulate`: a seeded local exchange, to collect from without a network."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from deltatape.cli.collect import parse_symbols
from deltatape.cli.stopping import until_stopped
from market import parse_time

app = typer.Typer()


@app.command(
    epilog="Example: deltatape simulate --symbols BTC/USDT,ETH/USDT --seed 7 --port 8765 --speed 600"
    " --truth truth.jsonl"
)
def simulate(
    symbols: Annotated[str, typer.Option(help="Unified symbols, comma-separated: BTC/USDT,ETH/USDT.")],
    seed: Annotated[int, typer.Option(help="Of the market: the same seed gives the same tape, for ever.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="For websocket and REST; 0: any free one.")],
    protocol: Annotated[str, typer.Option(help="What it speaks: an exchange's id.")] = "binance",
    speed: Annotated[
        float, typer.Option(help="Simulated seconds a second, until it reaches the present.")
    ] = 1.0,
    start: Annotated[
        str | None,
        typer.Option(help="First moment, as 2026-01-31T12:00:00Z. Default: now; faster than 1: yesterday."),
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="Write every trade to this file, as JSON lines.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on: local or private.")] = "127.0.0.1",
) -> None:
    """Run a seeded local exchange until Ctrl-C.

    Its time begins with the first subscription. The same seed, symbol and time always give the same trades,
    so a restart continues the same tape.
    """
    names = parse_symbols(symbols)
    first = None if start is None else parse_time(start)
    asyncio.run(until_stopped(_simulate(names, seed, protocol, port, host, speed, first, truth)))


async def _simulate(
    symbols: tuple[str, ...],
    seed: int,
    protocol: str,
    port: int,
    host: str,
    speed: float,
    start: int | None,
    truth: Path | None,
) -> None:
    from collector.simulator.server import serve

    spoken = "" if protocol == "binance" else f" --protocol {protocol}"
    async with serve(
        symbols,
        seed,
        protocol=protocol,
        host=host,
        port=port,
        speed=speed,
        start=start,
        truth=truth,
    ) as simulator:
        typer.echo(
            f"listening; collect with: deltatape collect --exchange simulated{spoken}"
            f" --symbols {','.join(symbols)} --ws-url {simulator.address.ws_url} --rest-url {simulator.address.rest_url}"
        )
        await simulator.wait()
