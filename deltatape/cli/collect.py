"""`deltatape collect`: an exchange's market data onto the tape, live."""

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from deltatape import settings
from deltatape.cli import output
from deltatape.cli.stopping import until_stopped
from market import Unavailable, WrongUse

if TYPE_CHECKING:
    from collector.collect import Collector, Target

app = typer.Typer()


@app.command(epilog="Example: deltatape collect --exchange kraken --symbols BTC/USD,ETH/USD --for 60")
def collect(
    exchange: Annotated[str, typer.Option(help="The exchange's id.")],
    symbols: Annotated[str, typer.Option(help="Unified symbols, comma-separated: BTC/USDT,ETH/USDT.")],
    ws_url: Annotated[
        str | None, typer.Option(help="Replaces scheme, host and port of the websocket.")
    ] = None,
    rest_url: Annotated[str | None, typer.Option(help="Replaces scheme, host and port of REST.")] = None,
    protocol: Annotated[str | None, typer.Option(help="What the simulated exchange speaks: binance.")] = None,
    seconds: Annotated[
        float | None, typer.Option("--for", min=0.1, help="Stop after so many seconds.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for what is missing at the start.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Write an exchange's trades, books, candles and CVD onto the tape until Ctrl-C, or for a while."""
    from collector.collect import Target

    if protocol is not None and exchange != "simulated":
        raise WrongUse("--protocol is for --exchange simulated")
    if protocol not in (None, "binance"):
        raise WrongUse(f"the simulated exchange does not speak {protocol!r}: use binance")
    target = Target(exchange=exchange, symbols=parse_symbols(symbols), ws_url=ws_url, rest_url=rest_url)
    wanted = settings.load()
    counts = asyncio.run(_collect(target, wanted, seconds, wait=wait, is_quiet=as_json))
    if as_json:
        output.print_json(counts)
    else:
        output.table(f"collected from {exchange}", ["what", "count"], counts.items(), empty="")
    if seconds is not None and not counts["messages"]:
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


async def _collect(
    target: "Target", wanted: settings.Settings, seconds: float | None, *, wait: bool, is_quiet: bool
) -> dict[str, int]:
    from collector.session import Counts
    from storage.ledger import Superseded

    found: list[Collector] = []
    counts = asdict(Counts())

    async def work() -> None:
        while True:
            collector = await _open(target, wanted, seconds, wait=wait)
            found.append(collector)
            showing = asyncio.create_task(_show(collector, is_quiet=is_quiet))
            try:
                return await collector.run(seconds)
            except Superseded as error:
                output.say(f"{error}, and stands by")
            finally:
                showing.cancel()
                await collector.close()

    await until_stopped(work())
    for collector in found:
        counts = asdict(collector.counts)
        _say_what_was_odd(target.exchange, collector)
    return counts


async def _open(
    target: "Target", wanted: settings.Settings, seconds: float | None, *, wait: bool
) -> "Collector":
    from collector.collect import open_collector

    url = wanted.database()
    try:
        async with asyncio.timeout(seconds):
            return await open_collector(target, url, wanted.spool, spool_bytes=wanted.spool_bytes, wait=wait)
    except TimeoutError:
        raise Unavailable(f"another collector writes {target.exchange}: stood by for {seconds:g} s") from None


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
