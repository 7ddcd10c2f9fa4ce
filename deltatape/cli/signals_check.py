"""`deltatape signals check`: proof, on stored candles, that a strategy neither looks ahead nor drifts."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deltatape import settings
from deltatape.cli import output
from market import Timeframe, WrongUse, format_time

if TYPE_CHECKING:
    from signals.check import Difference
    from signals.frame import CandleFrame
    from signals.higher import Higher
    from signals.strategies import Strategy
    from signals.target import Target
    from storage.database import Connection

_QUESTIONS = {
    "future": "without the future",
    "start": "from another beginning",
    "live": "candle by candle, as live",
    "calibration": "calibrated at cuts",
}


def check(
    strategy: Annotated[str, typer.Argument(help="Its name, as in the configuration.")],
    exchange: Annotated[str | None, typer.Option(help="Only this exchange.")] = None,
    symbol: Annotated[str | None, typer.Option(help="Only this symbol.")] = None,
    timeframe: Annotated[str | None, typer.Option(help="Only this timeframe: 1m 5m 15m 1h 4h 1d.")] = None,
    candles: Annotated[int, typer.Option(min=2, max=1_000_000, help="How many, the newest.")] = 20_000,
    places: Annotated[int, typer.Option(min=1, max=100_000, help="Candles at which to ask.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Prove that a strategy neither looks ahead nor drifts.

    On stored candles: cutting off the future, beginning elsewhere, and computing candle by candle
    must change no value. The indicator or rule at fault is named; then the exit code is 1.
    """
    from signals.judging import BadStrategy
    from signals.strategies import known
    from signals.target import Selection, stored_targets
    from storage.database import connect, require_schema

    options = settings.load()
    checked = known(strategy, options.signals)
    selection = Selection(
        exchange,
        None if symbol is None else (symbol,),
        None if timeframe is None else (Timeframe.parse(timeframe),),
    )
    found: list[dict[str, Any]] = []
    with connect(options.database(), read_only=True) as connection:
        require_schema(connection)
        targets = stored_targets(connection, selection)
        for target in targets:
            frame, higher = _frames(connection, checked, target, candles)
            try:
                found += _check(checked, target, frame, higher, places)
            except BadStrategy as error:
                output.fail(str(error))
                raise typer.Exit(1) from None
    if not found:
        raise WrongUse(
            "no closed candles are stored for that: deltatape replay or deltatape collect writes them"
            " (deltatape status shows what there is)"
        )
    _report(checked, found, as_json=as_json)
    if any(each["differences"] for each in found):
        raise typer.Exit(1)


def _frames(
    connection: Connection, strategy: Strategy, target: Target, candles: int
) -> tuple[CandleFrame, Higher]:
    from signals.follow import CHUNK_WITH_TRADES
    from signals.indicator_values import trades_of
    from signals.reading import Tape, last_before, read_higher

    if strategy.trade_candles:
        candles = min(candles, CHUNK_WITH_TRADES)
    last = last_before(connection, target, 2**52) or 0
    start, end = last - (candles - 1) * target.timeframe.microseconds, last + 1
    above = strategy.confirming(target.timeframe)
    tape = Tape(connection)
    higher = read_higher(tape, target, above, strategy.warmup, start, end)
    frame = tape.read(target, start, end)
    if strategy.trade_candles:
        frame = frame.with_trades(trades_of(connection, target, start, last + target.timeframe.microseconds))
    return frame, higher


def _check(
    strategy: Strategy, target: Target, frame: CandleFrame, higher: Higher, places: int
) -> list[dict[str, Any]]:
    """What each question found on one target; nothing where it has no candles."""
    from signals.check import CHECKS
    from signals.check import check as ask

    if not len(frame):
        return []
    asked = dict.fromkeys(CHECKS, 0)
    differences: dict[str, list[Difference]] = {name: [] for name in CHECKS}
    with output.errors.status(f"checking {strategy.name} on {target}", spinner="dots") as status:
        for name, difference in ask(strategy, frame, higher, places):
            asked[name] += 1
            if difference is not None:
                differences[name].append(difference)
            status.update(f"checking {strategy.name} on {target}: {asked[name]:,} of {places:,} places")
    return [
        {
            "exchange": target.exchange,
            "symbol": target.symbol,
            "timeframe": target.timeframe.value,
            "candles": len(frame),
            "check": name,
            "places": asked[name],
            "differences": [_plain(each) for each in differences[name]],
        }
        for name in CHECKS
    ]


def _plain(difference: Difference) -> dict[str, Any]:
    return asdict(difference) | {"timestamp": format_time(difference.timestamp)}


def _report(strategy: Strategy, found: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        output.print_json({"strategy": strategy.name, "config_hash": strategy.config_hash, "checks": found})
        return
    output.table(
        f"{strategy.name}: does anything change?",
        ["target", "candles", "computed", "places", "differ", "at fault"],
        [
            (
                f"{each['exchange']} {each['symbol']} {each['timeframe']}",
                f"{each['candles']:,}",
                _QUESTIONS[each["check"]],
                f"{each['places']:,}",
                f"{len(each['differences']):,}",
                _fault(each["differences"]),
            )
            for each in found
        ],
        "",
    )
    if not any(each["differences"] for each in found):
        output.console.print("no value changes: it neither looks ahead nor depends on where it begins")


def _fault(differences: list[dict[str, Any]]) -> str:
    if not differences:
        return ""
    first = min(differences, key=lambda each: each["timestamp"])
    return f"{first['culprit']} at {first['timestamp']}: {first['batch']:.6g}, not {first['other']:.6g}"
