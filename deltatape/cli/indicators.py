"""`deltatape indicators`: what there is, one over stored candles, and keeping its values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from deltatape import settings
from deltatape.cli import output
from market import Timeframe, WrongUse, format_time

if TYPE_CHECKING:
    from signals.frame import CandleFrame
    from signals.target import Target

app = typer.Typer(epilog="Example: deltatape indicators show rsi_14 --exchange kraken --symbol BTC/USD")

Name = Annotated[str, typer.Argument(help="Indicator and parameters, such as rsi_14.")]
Exchange = Annotated[str, typer.Option(help="The exchange's id.")]
Symbol = Annotated[str, typer.Option(help="The unified symbol, such as BTC/USDT.")]
Interval = Annotated[str, typer.Option(help="1m 5m 15m 1h 4h 1d.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list", epilog="Example: deltatape indicators list")
def list_(as_json: AsJson = False) -> None:
    """The indicators by name, with their parameters and defaults."""
    from signals.registry import available

    rows = [
        {
            "name": each.default_name,
            "parameters": {parameter.name: parameter.default for parameter in each.parameters},
            "inputs": each.inputs,
            "outputs": each.outputs,
            "summary": each.summary,
        }
        for each in available()
    ]
    if as_json:
        output.print_json(rows)
        return
    output.table(
        "indicators",
        ["name", "parameters", "reads", "what it is"],
        [
            (
                row["name"],
                ", ".join(row["parameters"]),
                ", ".join(row["inputs"]),
                row["summary"],
            )
            for row in rows
        ],
        empty="",
    )


@app.command(epilog="Example: deltatape indicators show rsi_14 --exchange binance --symbol BTC/USDT")
def show(
    name: Name,
    exchange: Exchange,
    symbol: Symbol,
    timeframe: Interval = "1m",
    limit: Annotated[
        int, typer.Option(min=1, max=output.MOST_LISTED, help="How many candles, the newest.")
    ] = 20,
    as_json: AsJson = False,
) -> None:
    """An indicator's newest values, computed from the stored candles."""
    from signals.blocks import BLOCK
    from signals.blocks import compute as values_of
    from signals.registry import find
    from signals.target import Target

    warmup = find(name).warmup
    target = Target(exchange, symbol, Timeframe.parse(timeframe))
    # What the first candle shown depends on begins at most a block and a warm-up before it.
    frame = _candles(settings.load().database(), target, limit + BLOCK + warmup)
    start = max(len(frame) - limit, 0)
    outputs = values_of(frame, name, start)
    rows = [
        (
            format_time(int(frame.timestamp[i])),
            float(frame.close[i]),
            *(_known(values[i - start]) for values in outputs.values()),
        )
        for i in range(start, len(frame))
    ]
    columns = ["timestamp", "close", *outputs]
    if as_json:
        output.print_json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    output.table(f"{name} of {exchange} {symbol} {timeframe}", columns, rows, empty="")


@app.command(epilog="Example: deltatape indicators compute rsi_14 --exchange binance --symbol BTC/USDT")
def compute(
    name: Name, exchange: Exchange, symbol: Symbol, timeframe: Interval = "1m", as_json: AsJson = False
) -> None:
    """Keep an indicator's values in the database.

    For all stored candles, in the table `indicators`.
    `signals run` keeps those that the setting signals.indicators lists by itself.
    """
    from signals.indicator_store import write_indicators
    from signals.registry import find
    from signals.target import Target
    from storage.database import connect

    full_name = find(name).name
    target = Target(exchange, symbol, Timeframe.parse(timeframe))
    url = settings.load().database()
    frame = _candles(url, target)
    with connect(url) as connection:
        written = write_indicators(connection, target, frame, 0, [full_name])
    if as_json:
        output.print_json({"name": full_name, "candles": len(frame), "written": written})
        return
    output.console.print(f"{full_name}: {written:,} of {len(frame):,} values written or changed")


def _candles(url: str, target: Target, limit: int | None = None) -> CandleFrame:
    """The stored candles of a target, or the newest `limit`."""
    from signals.frame import CandleFrame
    from storage import read

    place = (target.exchange, target.symbol, target.timeframe)
    frame = CandleFrame.from_polars(read.candles(url, *place, limit=limit), target.timeframe)
    if not len(frame):
        raise WrongUse(
            f"no closed candles of {target} are stored: deltatape replay or deltatape collect writes them"
        )
    return frame


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
