"""`deltatape backfill`: an exchange's past trades, candles and funding onto the tape, over REST."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from deltatape import settings
from deltatape.cli import output
from deltatape.cli.gaps import duration
from deltatape.cli.stopping import INTERRUPTED, until_stopped
from deltatape.cli.verify import parse_range
from market import Timeframe, Unavailable, WrongUse, format_time
from storage.clock import wall_clock

if TYPE_CHECKING:
    from collector.backfill import Filled
    from collector.collect import Target

app = typer.Typer()

OnProgress = Callable[[int, int], None]


@app.command(
    epilog="Example: deltatape backfill --exchange binance --symbol BTC/USDT"
    " --from 2026-01-31 --to 2026-02-01"
)
def backfill(
    exchange: Annotated[str, typer.Option(help="The exchange's id.")],
    symbol: Annotated[str, typer.Option(help="Unified symbol, like BTC/USDT.")],
    begin: Annotated[str, typer.Option("--from", help="Date or time (UTC).")],
    end: Annotated[str | None, typer.Option("--to", help="Date or time (UTC), exclusive; now.")] = None,
    candles: Annotated[
        str | None,
        typer.Option(help="Candles of these timeframes instead of trades, comma-separated: 1m,1h."),
    ] = None,
    funding: Annotated[
        bool, typer.Option("--funding", help="What a perpetual contract paid, instead of trades.")
    ] = False,
    trades: Annotated[
        bool, typer.Option("--trades", help="With --candles or --funding: trades as well.")
    ] = False,
    rest_url: Annotated[str | None, typer.Option(help="Replaces scheme, host and port of REST.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Fill what the tape does not have of a time, over REST; a collector may run meanwhile.

    Only what lies in no coverage is asked for: run it again after Ctrl-C or a failure, and it goes on;
    when all is there, it does nothing. Holes that it fills are healed. Candles fill only places where no
    trades are. Funding is asked for whole, as there is little of it.
    """
    from collector.collect import Target

    first, last = _range(begin, end)
    frames = tuple(Timeframe.parse(part.strip()) for part in (candles or "").split(",") if part.strip())
    if candles is not None and not frames:
        raise WrongUse("--candles: name a timeframe, like 1m,1h")
    target = Target(exchange=exchange, symbols=(symbol,), rest_url=rest_url)
    url = settings.load().database()
    done: dict[str, Any] = {"exchange": exchange, "symbol": symbol, "stopped": True}
    done |= {"from": format_time(first), "to": format_time(last)}
    has_ended = asyncio.run(
        until_stopped(
            _fill(
                target,
                url,
                first,
                last,
                frames,
                done,
                with_trades=trades or not (frames or funding),
                with_funding=funding,
            )
        )
    )
    done["stopped"] = not has_ended
    if as_json:
        output.print_json(done)
    else:
        _show(done)
    if not has_ended:
        raise typer.Exit(INTERRUPTED)


def _range(begin: str, end: str | None) -> tuple[int, int]:
    now = wall_clock()
    first, last = parse_range(begin, end)
    if first is None or first >= now:
        raise WrongUse(f"--from {begin} is still to come")
    return first, min(now, last or now)


async def _fill(
    target: "Target",
    url: str,
    begin: int,
    end: int,
    frames: tuple[Timeframe, ...],
    done: dict[str, Any],
    *,
    with_trades: bool,
    with_funding: bool,
) -> None:
    from collector.backfill import Backfill
    from collector.backfill_candles import backfill_candles
    from collector.backfill_funding import backfill_funding
    from collector.collect import learn_instruments
    from storage import database

    symbol = target.symbols[0]
    with database.connect(url) as connection:
        database.require_schema(connection)
    adapter = target.adapter()
    rest = target.rest(adapter)
    try:
        if rest.is_there:
            await learn_instruments(adapter, rest)
        if with_trades:
            with _progress(f"{target.exchange} {symbol} trades") as show:
                job = Backfill(adapter, rest, url, symbol, show)
                try:
                    await job.run(begin, end)
                finally:
                    done |= _record(job.filled)
        for frame in frames:
            with _progress(f"{target.exchange} {symbol} {frame} candles") as show:
                written = await backfill_candles(adapter, rest, url, symbol, frame, begin, end, show)
                done.setdefault("candles", {})[frame] = written
        if with_funding:
            with _progress(f"{target.exchange} {symbol} funding") as show:
                done["funding"] = await backfill_funding(adapter, rest, url, symbol, begin, end, show)
    except Unavailable as error:
        raise Unavailable(f"{error}; what came is stored: run it again to go on") from None
    finally:
        await rest.close()


@contextmanager
def _progress(name: str) -> Iterator[OnProgress]:
    """How much of the time is done, on stderr where that is a terminal."""
    bar = Progress(
        TextColumn(name),
        BarColumn(30),
        TaskProgressColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=output.errors,
        transient=True,
        disable=not output.errors.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=None)

        def show(done: int, total: int) -> None:
            text = f"{duration(done / 1e6)} of {duration(total / 1e6)}"
            bar.update(task, completed=done, total=max(total, 1), description=text)

        yield show


def _record(filled: "Filled") -> dict[str, Any]:
    return {
        "trades": filled.new_trades,
        "healed_holes": filled.healed_holes,
        "missing_seconds": filled.asked / 1e6,
        "covered_seconds": filled.covered / 1e6,
        "left_seconds": filled.left / 1e6,
    }


def _show(done: dict[str, Any]) -> None:
    rows: list[tuple[str, str]] = []
    if "trades" in done:
        rows = [
            ("new trades", f"{done['trades']:,}"),
            ("time that was not covered", duration(done["missing_seconds"])),
            ("covered now", duration(done["covered_seconds"])),
            ("holes healed", f"{done['healed_holes']:,}"),
        ]
    rows += [(f"new {frame} candles", f"{count:,}") for frame, count in done.get("candles", {}).items()]
    if "funding" in done:
        rows.append(("new payments of funding", f"{done['funding']:,}"))
    rows = [*((name, done[name].replace("T", " ")) for name in ("from", "to")), *rows]
    output.table(f"backfilled {done['exchange']} {done['symbol']}", ["what", "how much"], rows, empty="")
    if done["stopped"]:
        output.say("stopped; what came is stored, and the next run goes on with it")
    elif done.get("left_seconds"):
        left = duration(done["left_seconds"])
        output.say(f"{done['exchange']} shows no trades of {left} of that time: it stays outside of coverage")
