"""`deltatape signals`: compute signals live or in batch, and list them with their reasons."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deltatape import settings
from deltatape.cli import output, signals_check, signals_quality
from deltatape.cli.stopping import Seconds, stop_event
from market import Timeframe, WrongUse, format_time, parse_time

if TYPE_CHECKING:
    from signals.follow import Step
    from signals.target import Selection

app = typer.Typer(epilog="Example: deltatape signals list --limit 5")
app.command(epilog="Example: deltatape signals check composite --symbol BTC/USDT")(signals_check.check)
app.command(epilog="Example: deltatape signals quality --strategy composite --plot quality.png")(
    signals_quality.quality
)

Exchange = Annotated[str | None, typer.Option(help="Only this exchange.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_COLOURS = {
    "STRONG_BUY": "bold green",
    "BUY": "green",
    "NEUTRAL": "dim",
    "SELL": "red",
    "STRONG_SELL": "bold red",
}


@app.command(epilog="Example: deltatape signals run --exchange binance --timeframes 1m,5m")
def run(
    exchange: Exchange = None,
    symbols: Annotated[str | None, typer.Option(help="Only these, comma-separated.")] = None,
    timeframes: Annotated[str | None, typer.Option(help="Only these, comma-separated.")] = None,
    share: Annotated[
        str | None, typer.Option(help="Only this share of the instruments: 1/2 and 2/2, a process each.")
    ] = None,
    seconds: Seconds = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Follow the tape until Ctrl-C.

    Each candle is evaluated as it closes; after a pause all that closed meanwhile.
    """
    from signals.run import run as follow
    from signals.target import Share

    options = settings.load()
    _require_strategies(options)
    part = None if share is None else Share.parse(share)
    selection = replace(_selection(exchange, symbols, timeframes), share=part)
    steps: list[Step] = []
    with stop_event(seconds) as stop:
        url = options.database()
        with output.errors.status("waiting for candles to close", spinner="dots") as status:
            for done in follow(url, options.signals, selection, stop, options.alerts.routes()):
                steps.extend(done)
                if not as_json:
                    _show_new(done)
                status.update(f"following: {_total(steps)} (Ctrl-C stops)")
    _report("followed", steps, as_json=as_json)


@app.command(epilog="Example: deltatape signals compute --symbol BTC/USDT --from 2026-01-01")
def compute(
    exchange: Exchange = None,
    symbol: Annotated[str | None, typer.Option(help="Only this symbol.")] = None,
    timeframe: Annotated[str | None, typer.Option(help="Only this timeframe: 1m 5m 15m 1h 4h 1d.")] = None,
    start: Annotated[str, typer.Option("--from", help="First candle, UTC.")] = "1970-01-01",
    end: Annotated[str, typer.Option("--to", help="Stop before this time, UTC.")] = "9999-01-01",
    as_json: AsJson = False,
) -> None:
    """Recompute the signals of what is stored.

    Doing it again changes no row.
    """
    from signals.compute import compute as batch

    begin, until = parse_time(start), parse_time(end)
    if begin >= until:
        raise WrongUse(f"--from {start} must lie before --to {end}")
    selection = _selection(exchange, symbol, timeframe)
    options = settings.load()
    _require_strategies(options)
    url = options.database()
    steps: list[Step] = []
    bad: list[str] = []
    with output.errors.status("computing signals", spinner="dots") as status:
        for step in batch(url, options.signals, selection, begin, until, bad.append):
            steps.append(step)
            status.update(f"{step.job.target} {step.job.strategy.name}: {_total(steps)}")
    for reason in dict.fromkeys(bad):
        output.fail(reason)
    if not steps and not bad:
        raise WrongUse(
            "no closed candles are stored for that: deltatape replay or deltatape collect writes them"
            " (deltatape status shows what there is)"
        )
    _report("computed", steps, as_json=as_json)
    if bad:
        raise typer.Exit(1)


@app.command("list", epilog="Example: deltatape signals list --limit 5 --symbol BTC/USDT")
def list_(
    limit: Annotated[
        int, typer.Option(min=1, max=output.MOST_LISTED, help="How many, the newest first.")
    ] = 20,
    exchange: Exchange = None,
    symbol: Annotated[str | None, typer.Option(help="Only this symbol.")] = None,
    timeframe: Annotated[str | None, typer.Option(help="Only this timeframe.")] = None,
    strategy: Annotated[str | None, typer.Option(help="Only this strategy.")] = None,
    as_json: AsJson = False,
) -> None:
    """The newest signals with their reasons and warnings."""
    from storage import read

    url = settings.load().database()
    found = read.signals(url, exchange, symbol, timeframe, strategy, limit=limit)
    rows = found.reverse().to_dicts()
    if as_json:
        output.print_json([_parsed(row) for row in rows])
        return
    if not rows:
        output.console.print(_none(url), markup=False, soft_wrap=True)
    for row in rows:
        _show(row)


def _require_strategies(options: settings.Settings) -> None:
    if not options.signals.strategies:
        raise WrongUse("the setting signals.strategies names none: composite is the default")


def _none(url: str) -> str:
    """Why the list is empty: there are no signals at all, or only of other markets."""
    from storage.database import connect
    from storage.overview import signal_markets

    with connect(url, read_only=True) as connection:
        markets = signal_markets(connection)
    if not markets:
        return "no signals: deltatape signals run or deltatape signals compute writes them"
    return "no such signals; there are some of " + ", ".join(" ".join(market) for market in markets)


def _selection(exchange: str | None, symbols: str | None, timeframes: str | None) -> Selection:
    from signals.target import Selection

    return Selection(
        exchange,
        _words(symbols),
        None if timeframes is None else tuple(map(Timeframe.parse, _words(timeframes) or ())),
    )


def _words(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _parsed(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "indicators": json.loads(row["indicators"]), "metadata": json.loads(row["metadata"])}


def _show_new(steps: list[Step]) -> None:
    for written in (written for step in steps for written in step.written[-3:]):
        if not written.is_withdrawn:
            target, row = written.key.target, written.row
            output.console.print(
                f"{format_time(row.timestamp)} {target} {row.signal_type} at {row.price:,.10g}"
                f" (score {row.score:+.2f}): {row.reasons[0]}",
                style=_COLOURS[row.signal_type],
                markup=False,
                soft_wrap=True,
            )


def _show(row: dict[str, Any]) -> None:
    head = (
        f"{row['timestamp']:%Y-%m-%d %H:%M:%S}Z  {row['exchange']} {row['symbol']} {row['interval']}"
        f"  {row['signal_type']}  at {row['price']:,.10g}  score {row['score']:+.2f}, confidence"
        f" {row['confidence_score']:.0f} ({row['confidence_level']})  {row['strategy_name']}"
    )
    output.console.print(head, style=_COLOURS[row["signal_type"]], markup=False, soft_wrap=True)
    for reason in row["reasons"]:
        output.console.print(f"    {reason}", markup=False, soft_wrap=True)
    for warning in row["warnings"]:
        output.console.print(f"    ! {warning}", style="yellow", markup=False, soft_wrap=True)


def _total(steps: list[Step]) -> str:
    written = sum(len(step.written) for step in steps)
    return f"{sum(step.candles for step in steps):,} candles, {written:,} signals"


def _report(title: str, steps: list[Step], *, as_json: bool) -> None:
    candles: Counter[tuple[str, ...]] = Counter()
    new, revised = candles.copy(), candles.copy()
    for step in steps:
        target = step.job.target
        key = (target.exchange, target.symbol, target.timeframe.value, step.job.strategy.name)
        candles[key] += step.candles
        new[key] += sum(written.revision == 0 for written in step.written)
        revised[key] += sum(written.revision > 0 for written in step.written)
    columns = ["exchange", "symbol", "interval", "strategy", "candles", "signals", "revised"]
    rows = [(*key, candles[key], new[key], revised[key]) for key in candles]
    if as_json:
        output.print_json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    output.table(title, columns, rows, empty="no candle closed; deltatape collect writes them")
