"""`deltatape record`: what an exchange says, as it says it, into files."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deltatape.cli import output
from deltatape.cli.collect import parse_symbols
from deltatape.cli.stopping import Seconds, until_stopped
from market import Unavailable

if TYPE_CHECKING:
    from collector.collect import Target
    from collector.record import Recording

app = typer.Typer()


@app.command(epilog="Example: deltatape record --exchange kraken --symbols BTC/USD --dir recordings --for 60")
def record(
    exchange: Annotated[str, typer.Option(help="The exchange's id.")],
    symbols: Annotated[str, typer.Option(help="Unified symbols, comma-separated: BTC/USDT,ETH/USDT.")],
    folder: Annotated[Path, typer.Option("--dir", help="Where the files go; made if it is missing.")],
    ws_url: Annotated[
        str | None, typer.Option(help="Replaces scheme, host and port of the websocket.")
    ] = None,
    rest_url: Annotated[str | None, typer.Option(help="Replaces scheme, host and port of REST.")] = None,
    seconds: Seconds = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print counts and files as JSON.")] = False,
) -> None:
    """Keep an exchange's raw messages and the REST answers that belong to them, until Ctrl-C or for a while.

    No database is needed. The files are gzip, a new one begins each hour: `deltatape replay` writes them onto
    the tape, `deltatape serve-recording` plays them back.
    """
    from collector.collect import Target

    target = Target(exchange=exchange, symbols=parse_symbols(symbols), ws_url=ws_url, rest_url=rest_url)
    found: list[Recording] = []
    asyncio.run(_record(target, folder, seconds, found, is_quiet=as_json))
    for recording in found:
        _say(exchange, recording, as_json=as_json)
        if seconds is not None and not recording.counts.messages:
            raise Unavailable(f"{exchange} sent no message in {seconds:g} s")


async def _record(
    target: "Target", folder: Path, seconds: float | None, found: "list[Recording]", *, is_quiet: bool
) -> None:
    from collector.record import open_recording

    async def work() -> None:
        recording = await open_recording(target, folder)
        found.append(recording)
        showing = asyncio.create_task(_show(recording, is_quiet=is_quiet))
        try:
            await recording.run(seconds)
        finally:
            showing.cancel()
            await recording.close()

    await until_stopped(work())


def _say(exchange: str, recording: "Recording", *, as_json: bool) -> None:
    counts, files = asdict(recording.counts), recording.recorder.files
    size = sum(path.stat().st_size for path in files)
    if as_json:
        output.print_json(counts | {"bytes": size, "files": [str(path) for path in files]})
        return
    shown = {name: counts[name] for name in ("messages", "trades")}
    output.counts(f"recorded from {exchange}", shown | {"bytes": size})
    for path in files:
        output.console.print(str(path), markup=False, soft_wrap=True)


async def _show(recording: "Recording", *, is_quiet: bool) -> None:
    """Keep one line on the terminal up to date."""
    if is_quiet:
        return
    with output.errors.status("connecting", spinner="dots") as status:
        while True:
            state = "connected" if recording.feed.is_open else "not connected"
            messages, files = recording.recorder.messages, len(recording.recorder.files)
            status.update(f"{state}: {messages:,} messages and answers in {files} files (Ctrl-C stops)")
            await asyncio.sleep(0.5)
