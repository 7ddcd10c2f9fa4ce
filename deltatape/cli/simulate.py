"""`deltatape simulate`: a seeded local exchange, to collect from without a network."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deltatape.cli import output
from deltatape.cli.collect import parse_symbols
from deltatape.cli.stopping import until_stopped
from market import DAY, MICROSECONDS, WrongUse, format_time, parse_time

if TYPE_CHECKING:
    from collector.simulator.faults import Fault

FAULT_SECONDS = 10.0
"""Real seconds from one fault to the next, unless told."""

app = typer.Typer()


@app.command(
    epilog="Example: deltatape simulate --symbols BTC/USDT,ETH/USDT --seed 7 --port 8765 --speed 600"
    " --truth truth.jsonl"
)
def simulate(
    symbols: Annotated[str, typer.Option(help="Unified symbols, comma-separated: BTC/USDT,ETH/USDT.")],
    seed: Annotated[int, typer.Option(help="Of the market: the same seed gives the same tape, for ever.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="For websocket and REST; 0: any free one.")],
    protocol: Annotated[
        str, typer.Option(help="What it speaks: the id of a native exchange, such as kraken.")
    ] = "binance",
    speed: Annotated[
        float, typer.Option(help="Simulated seconds a second, until it reaches the present.")
    ] = 1.0,
    start: Annotated[
        str | None,
        typer.Option(help="First moment, as 2026-01-31T12:00:00Z. Default: now; faster than 1: yesterday."),
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="Write every trade to this file, as JSON lines.")] = None,
    until: Annotated[
        str | None, typer.Option(help="When its market stops; it goes on answering over REST.")
    ] = None,
    faults: Annotated[
        int | None, typer.Option(help="Let it fail, as this seed says: cuts, lost messages, bad values, …")
    ] = None,
    fault_every: Annotated[
        float | None,
        typer.Option(min=0.001, help="Simulated seconds from fault to fault. Default: 10 real ones."),
    ] = None,
    fault_log: Annotated[
        Path | None, typer.Option(help="Write the faults, and what was sent to whom, as JSON lines.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on: local or private.")] = "127.0.0.1",
) -> None:
    """Run a seeded local exchange until Ctrl-C.

    Its time begins with the first subscription. The same seed, symbol and time always give the same trades,
    so a restart continues the same tape. With --faults it fails at moments that the seed chooses, for a
    simulated day at most; the truth and REST's history stay right.
    """
    names = parse_symbols(symbols)
    first = None if start is None else parse_time(start)
    last = None if until is None else parse_time(until)
    if faults is None and fault_every is not None:
        raise WrongUse("--fault-every is for --faults")
    wrong: list[Fault] = []
    if faults is not None:
        first, wrong = _schedule(faults, protocol, names, speed, first, last, fault_every)
    work = _simulate(
        names,
        seed,
        protocol=protocol,
        port=port,
        host=host,
        speed=speed,
        start=first,
        until=last,
        truth=truth,
        faults=wrong,
        fault_log=fault_log,
    )
    asyncio.run(until_stopped(work))


def _schedule(
    seed: int,
    protocol: str,
    symbols: Sequence[str],
    speed: float,
    start: int | None,
    until: int | None,
    every: float | None,
) -> tuple[int, list["Fault"]]:
    """The first moment and the faults, which are shown. They need to know when time begins."""
    from collector.simulator.clock import RealClock, default_start
    from collector.simulator.faults import possible, schedule

    clock = RealClock()
    if start is None:
        start = default_start(speed, clock) or clock.now()
    spacing = int((FAULT_SECONDS * speed if every is None else every) * MICROSECONDS)
    end = min(start + DAY, until or start + DAY)
    found = schedule(seed, start, end, symbols, every=max(spacing, 1), kinds=possible(protocol))
    rows = [
        (
            format_time(fault.begin),
            f"{(fault.end - fault.begin) / MICROSECONDS:,.1f} s",
            fault.kind,
            fault.symbol,
        )
        for fault in found
    ]
    columns = ["from", "for", "fault", "symbol"]
    output.table(f"faults of seed {seed}", columns, rows, empty="no faults: too short", to=output.errors)
    return start, found


async def _simulate(symbols: tuple[str, ...], seed: int, *, protocol: str, **options: Any) -> None:
    from collector.simulator.server import serve

    spoken = "" if protocol == "binance" else f" --protocol {protocol}"
    async with serve(symbols, seed, protocol=protocol, **options) as simulator:
        typer.echo(
            f"listening; collect with: deltatape collect --exchange simulated{spoken}"
            f" --symbols {','.join(symbols)}"
            f" --ws-url {simulator.address.ws_url} --rest-url {simulator.address.rest_url}"
        )
        await simulator.wait()
