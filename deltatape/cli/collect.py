"""`deltatape collect`: an exchange's market data onto the tape, live."""

import asyncio
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deltatape import settings
from deltatape.cli import output
from deltatape.cli.stopping import Seconds, until_stopped
from market import Unavailable, WrongUse

if TYPE_CHECKING:
    from collector.collect import Collector, Target
    from collector.feed import Tap

app = typer.Typer()


@app.command(epilog="Example: deltatape collect --exchange kraken --symbols BTC/USD,ETH/USD --for 60")
def collect(
    exchange: Annotated[str, typer.Option(help="The exchange's id.")],
    symbols: Annotated[str, typer.Option(help="Unified symbols, comma-separated: BTC/USDT,ETH/USDT.")],
    ws_url: Annotated[
        str | None, typer.Option(help="Replaces scheme, host and port of the websocket.")
    ] = None,
    rest_url: Annotated[str | None, typer.Option(help="Replaces scheme, host and port of REST.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="What the simulated exchange speaks; binance by default.")
    ] = None,
    seconds: Seconds = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for what is missing at the start.")] = False,
    record: Annotated[
        Path | None, typer.Option(help="Keep the raw messages too, in files in this folder.")
    ] = None,
    listen: Annotated[
        str | None, typer.Option(help="Answer /metrics and /health here, such as 127.0.0.1:9464.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Write an exchange's trades, books, candles and CVD onto the tape until Ctrl-C, or for a while."""
    from collector.collect import Target

    if protocol is not None and exchange != "simulated":
        raise WrongUse("--protocol is for --exchange simulated")
    target = Target(
        exchange=exchange,
        symbols=parse_symbols(symbols),
        ws_url=ws_url,
        rest_url=rest_url,
        protocol=protocol,
    )
    target.adapter()  # a name that is unknown is said before anything is started
    options = _Options(seconds=seconds, wait=wait, is_quiet=as_json, record=record, listen=listen)
    counts = asyncio.run(_collect(target, settings.load(), options))
    if as_json:
        output.print_json(counts)
    elif counts:
        output.counts(f"collected from {exchange}", counts)
    if seconds is not None and not counts.get("messages"):
        raise Unavailable(f"{exchange} sent no message in {seconds:g} s")


def parse_symbols(text: str) -> tuple[str, ...]:
    """Comma-separated unified symbols, each once."""
    symbols = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not symbols:
        raise WrongUse("name at least one symbol, like BTC/USDT")
    for symbol in symbols:
        if "/" not in symbol:
            raise WrongUse(f"{symbol!r} is no unified symbol: write it like BTC/USDT")
    return symbols


@dataclass(frozen=True, kw_only=True)
class _Options:
    """What the command line says beside what to collect."""

    seconds: float | None
    wait: bool
    is_quiet: bool
    record: Path | None
    listen: str | None


async def _collect(target: "Target", wanted: settings.Settings, options: _Options) -> dict[str, int]:
    from collector.recorder import Recorder
    from deltatape.endpoint import Health
    from deltatape.observing import observed

    url = wanted.database()
    found: list[Collector] = []
    health = Health(lambda: [each.readings() for each in found[-1:]], list)
    recorder = None if options.record is None else Recorder(options.record, target.exchange)

    async def work() -> None:
        async with observed(wanted, url, health, listen=options.listen) as address:
            if address is not None:
                output.say(f"metrics and health: {address}/metrics, {address}/health")
            await _collect_in_turn(target, wanted, url, options, found, recorder)

    try:
        await until_stopped(work())
    finally:
        if recorder is not None:
            recorder.close()
    counts = asdict(found[-1].counts) if found else {}
    for collector in found:
        _say_what_was_odd(target.exchange, collector)
    return counts


async def _collect_in_turn(
    target: "Target",
    wanted: settings.Settings,
    url: str,
    options: _Options,
    found: "list[Collector]",
    tap: "Tap | None",
) -> None:
    """Collect; when another collector takes over, stand by until its turn comes again."""
    from collector.collect import open_collector, prepare_process
    from storage.ledger import Superseded

    prepare_process()
    while True:
        try:
            async with asyncio.timeout(options.seconds):
                collector = await open_collector(
                    target,
                    url,
                    wanted.spool,
                    spool_bytes=wanted.spool_bytes,
                    wait=options.wait,
                    tap=tap,
                    routes=wanted.alerts.routes(),
                )
        except TimeoutError:
            reason = f"another collector writes {target.exchange}: stood by for {options.seconds:g} s"
            raise Unavailable(reason) from None
        found.append(collector)
        showing = asyncio.create_task(_show(collector, is_quiet=options.is_quiet))
        try:
            return await collector.run(options.seconds)
        except Superseded as error:
            output.say(f"lost its turn: {error}")
        finally:
            showing.cancel()
            await collector.close()


def _say_what_was_odd(exchange: str, collector: "Collector") -> None:
    for shape, count in sorted(collector.session.shapes.items()):
        output.say(f"unhandled shape, {count} times: {shape}")
    for reason in sorted(collector.session.unresolved):
        output.say(reason)


async def _show(collector: "Collector", *, is_quiet: bool) -> None:
    """Keep one line on the terminal up to date."""
    if is_quiet:
        return
    with output.errors.status("connecting", spinner="dots") as status:
        while True:
            counts = collector.counts
            state = "connected" if collector.feed.is_open else "not connected"
            status.update(
                f"{state}: {counts.messages:,} messages, {counts.trades:,} trades, "
                f"{counts.book_updates:,} book updates, {counts.gaps} gaps (Ctrl-C stops)"
            )
            await asyncio.sleep(0.5)
