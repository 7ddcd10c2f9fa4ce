"""`deltatape indicators`: what there is, one over stored candles, and keeping its values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from deltatape import settings
from deltatape.cli import output
from market import Timeframe, WrongUse, format_time

if TYPE_CHECKING:
    from signals.target import Target

app = typer.Typer(epilog="Example: deltatape indicators show rsi_14 --exchange kraken --symbol BTC/USD")

Name = Annotated[str, typer.Argument(help="Indicator and parameters, such as rsi_14.")]
Exchange = Annotated[str, typer.Option(help="The exchange's id.")]
Symbol = Annotated[str, typer.Option(help="The unified symbol, such as BTC/USDT.")]
Interval = Annotated[str, typer.Option(help="1m 5m 15m 1h 4h 1d.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list", epilog="Example: deltatape indicators list volume")
def list_(
    word: Annotated[str, typer.Argument(help="Only those that have it in their name or description.")] = "",
    as_json: AsJson = False,
) -> None:
    """The indicators by name, with their parameters' defaults.

    Ours, and every function of TA-Lib. One of many outputs is named after a point: bbands_20_2.upper.
    """
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
        if word.lower() in f"{each.name} {each.summary}".lower()
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
        empty=f"no indicator has {word!r} in its name or description: deltatape indicators list",
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
    from signals.indicator_values import stored_values
    from signals.registry import locate
    from signals.target import Target

    target, bound = Target(exchange, symbol, Timeframe.parse(timeframe)), locate(name)[0]
    values = stored_values(settings.load().database(), target, name, limit=limit)
    if not len(values):
        raise WrongUse(_none(target))
    times = values["timestamp"].to_physical().to_list()
    numbers = (map(_known, values[column]) for column in values.columns[1:])
    rows = [(format_time(time), *each) for time, *each in zip(times, *numbers, strict=True)]
    if as_json:
        output.print_json([dict(zip(values.columns, row, strict=True)) for row in rows])
        return
    shown = [(time, *("" if x is None else f"{x:,.8g}" for x in each)) for time, *each in rows]
    output.table(f"{bound.name} of {target}", values.columns, shown, empty="")


@app.command(epilog="Example: deltatape indicators compute rsi_14 --exchange binance --symbol BTC/USDT")
def compute(
    name: Name, exchange: Exchange, symbol: Symbol, timeframe: Interval = "1m", as_json: AsJson = False
) -> None:
    """Keep an indicator's values in the database.

    For all stored candles, in the table `indicators`.
    `signals run` keeps those that the setting signals.indicators lists by itself.
    """
    from functools import partial

    from signals.frame import CandleFrame
    from signals.indicator_store import Values, write_indicators
    from signals.registry import find
    from signals.target import Target
    from storage import read
    from storage.database import connect

    full_name = find(name).name
    target = Target(exchange, symbol, Timeframe.parse(timeframe))
    url = settings.load().database()
    frame = CandleFrame.from_polars(read.candles(url, exchange, symbol, timeframe), target.timeframe)
    if not len(frame):
        raise WrongUse(_none(target))
    with connect(url) as connection:
        trades = partial(read.trades, url, exchange, symbol)
        written = write_indicators(connection, [Values(target, frame, 0, (full_name,), trades)])
    if as_json:
        output.print_json({"name": full_name, "candles": len(frame), "written": written})
        return
    output.console.print(f"{full_name}: {written:,} of {len(frame):,} values written or changed")


def _none(target: Target) -> str:
    return (
        f"no closed candles of {target} are stored: deltatape replay or deltatape collect writes them"
        " (deltatape status shows what there is)"
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
