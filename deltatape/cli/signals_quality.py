"""`deltatape signals quality`: what became of signals, and what their confidence and reasons are worth."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from deltatape import settings
from deltatape.cli import output
from market import Timeframe, WrongUse

if TYPE_CHECKING:
    from signals.quality import Information, Point, Quality, Share


def quality(
    strategy: Annotated[str | None, typer.Option(help="Only this strategy.")] = None,
    exchange: Annotated[str | None, typer.Option(help="Only this exchange.")] = None,
    symbol: Annotated[str | None, typer.Option(help="Only this symbol.")] = None,
    timeframe: Annotated[str | None, typer.Option(help="Only this timeframe.")] = None,
    horizon: Annotated[
        int, typer.Option(help="Candles after which types, levels and reasons are judged.")
    ] = 16,
    plot: Annotated[Path | None, typer.Option(help="Draw it into this file: .png, .svg or .pdf.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, every horizon included.")] = False,
) -> None:
    """Show how often signals were right.

    And how far prices went their way, and which reasons earn. A signal is right when the move from the next
    open to the horizon pays for its costs.
    """
    from signals.quality import Selected, measure
    from signals.quality_plot import quality_plot
    from storage.database import connect, require_schema

    selected = Selected(strategy, exchange, symbol, Timeframe.parse(timeframe) if timeframe else None)
    with connect(settings.load().database(), read_only=True) as connection:
        require_schema(connection)
        found = measure(connection, selected)
    if plot and found.decay:
        output.say(f"drawn: {quality_plot(plot, found, horizon)}")
    if as_json:
        output.print_json(asdict(found))
        return
    _tables(found, horizon)


def _tables(found: "Quality", horizon: int) -> None:
    horizons = sorted({each.horizon for each in found.decay})
    if horizons and horizon not in horizons:
        raise WrongUse(
            f"no outcome {horizon} candles after a signal: choose of {', '.join(map(str, horizons))}"
        )
    _shares("all signals by horizon", found.decay, "")
    if not found.decay:
        return
    for title, shares in (
        ("types", found.types),
        ("confidence levels", found.levels),
        ("reasons", found.reasons),
    ):
        chosen = [each for each in shares if each.horizon == horizon]
        _shares(f"{title}, {horizon} candles after the signal", chosen, title.rstrip("s"))
    _information(found.information)
    _calibration(found.calibration)


def _shares(title: str, shares: Sequence["Share"], name: str) -> None:
    columns = ["strategy", name or "horizon", "signals", "right %", "95% band", "bps"]
    rows = [
        (
            f"{each.strategy} {each.interval}",
            each.name if name else each.horizon,
            _right(f"{each.signals:,}"),
            _right(f"{100 * each.hit_rate:.1f}"),
            _right(_band(each.low, each.high)),
            _signed(each.average_bps),
        )
        for each in shares
    ]
    output.table(
        title,
        columns,
        rows,
        empty="no outcomes: deltatape signals run or deltatape signals compute writes them"
        " once candles have closed after signals",
    )


def _information(found: Sequence["Information"]) -> None:
    columns = ["strategy", "horizon", "samples", "coefficient", "95% band", "says"]
    rows = [
        (
            f"{each.strategy} {each.interval}",
            each.horizon,
            _right(f"{each.samples:,}"),
            _right("" if each.value is None else f"{each.value:+.3f}"),
            _right("" if each.band is None else f"±{each.band:.3f}"),
            _says(each),
        )
        for each in found
    ]
    output.table("information coefficient", columns, rows, empty="")


def _says(each: "Information") -> str:
    if each.value is None or each.band is None:
        return "too few"
    return "something" if abs(each.value) > each.band else "within chance"


def _calibration(points: Sequence["Point"]) -> None:
    columns = ["strategy", "confidence %", "signals", "right %", "95% band", "kept"]
    rows = [
        (
            f"{each.strategy} {each.interval}",
            _right(f"{100 * each.promised:.1f}"),
            _right(f"{each.signals:,}"),
            _right(f"{100 * each.hit_rate:.1f}"),
            _right(_band(each.low, each.high)),
            "yes" if each.is_inside else "no",
        )
        for each in points
    ]
    output.table(
        "calibration: what confidence promised, and what came",
        columns,
        rows,
        empty="no calibrated signal has an outcome yet",
    )


def _band(low: float, high: float) -> str:
    return f"{100 * low:.1f} … {100 * high:.1f}"


def _signed(bps: float) -> Text:
    return Text(f"{bps:+,.1f}", justify="right", style="green" if bps > 0 else "red")


def _right(text: str) -> Text:
    return Text(text, justify="right")
