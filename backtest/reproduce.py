"""A stored run made anew: the same setup over today's tape, and what came out differently.

What decides is the hash of the raw fills and daily equity. The code, the machine and the data are compared
too, since they say why it differs.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from backtest import provenance
from backtest.account import Account, Terms
from backtest.feeds import fingerprint
from backtest.labels import figures
from backtest.run import checked, run_markets
from backtest.setup import Setup, setup
from backtest.strategies import find
from market.errors import WrongUse
from market.instrument import MarketType
from market.timeframe import Timeframe, format_time, from_datetime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backtest.feeds import Source
    from backtest.portfolio import Inside
    from backtest.recordings import Recording
    from backtest.result import Result
    from signals.frame import CandleFrame
    from signals.options import SignalOptions

_SHOWN = 16


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was; `stored` and `now` are for people."""

    what: str
    stored: str
    now: str


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A run made anew.

    Attributes:
        result: what came out now.
        is_same: whether every fill and every day's equity is the same, bit by bit.
        causes: what it rests on that is not as it was: data, code, machine.
        effects: figures that differ.
    """

    result: Result
    is_same: bool
    causes: list[Difference]
    effects: list[Difference]


def reproduce(
    url: str,
    row: Mapping[str, Any],
    options: SignalOptions | None = None,
    recorded: Callable[[Mapping[str, str], str, str], Recording] | None = None,
) -> Reproduction:
    """Run a stored run again, storing nothing.

    Args:
        url: of the database, whose tape it reads.
        row: of `backtest_runs`.
        options: the settings of signals, which may name its strategy.
        recorded: reads recordings again: SHA-256 by path, the exchange, the symbol.

    Raises:
        WrongUse: the run never finished, its candles or recordings are gone, or its strategy is not known by
            name.
    """
    if row["status"] != "completed":
        raise WrongUse(f"this run is {row['status']}: only a completed one can be made anew")
    wanted = setup_of(row, options)
    if files := wanted.sources.get("recording"):
        if recorded is None:
            raise WrongUse("this run was fed with recordings: deltatape backtest reproduce reads them again")
        tapes = [recorded(files, row["exchange"], symbol) for symbol in row["symbols"]]
        sources, inside = [_recorded_again(row, tape) for tape in tapes], None
    else:
        sources, inside = fed_again(url, row, frames_of_run(url, row))
    result = run_markets(wanted, sources, inside, row["exchange"])
    record = result.record
    now = {
        "data": fingerprint(result.markets),
        "code": provenance.code_version(),
        "machine": provenance.machine(),
    }
    stored = {"data": row["data_fingerprint"], "code": row["code_version"], "machine": row["machine"]}
    causes = [Difference(n, _short(stored[n]), _short(now[n])) for n in now if now[n] != stored[n]]
    config = wanted.config()
    known = _with_defaults(row["strategy_config"], config)
    if known != config:
        causes.append(Difference("setup", str(known), str(config)))
    is_same = provenance.fills_hash(record) == row["fills_hash"]
    return Reproduction(result, is_same, causes, [] if is_same else _effects(row, result))


def setup_of(row: Mapping[str, Any], options: SignalOptions | None = None) -> Setup:
    """The setup that a row of `backtest_runs` names.

    Raises:
        WrongUse: its strategy is not known by this name.
    """
    config = row["strategy_config"]
    try:
        strategy = find(row["strategy_name"], options)
    except WrongUse:
        raise WrongUse(
            f"the strategy {row['strategy_name']!r} is not known by name (it was given to dt.backtest, or its"
            " file is gone): it can only be made anew where it is"
        ) from None
    known = {each.name for each in fields(Account)}
    account = {name: value for name, value in config["account"].items() if name in known}
    account["market_type"] = MarketType(account["market_type"])
    account["lags"] = tuple(account.get("lags", ()))
    given = {**config["parameters"], **config["policy"]}
    return setup(strategy, given, Account(**account), config.get("sources"))


def _with_defaults(stored: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """A stored setup, and what it did not know of yet as it is by default: that is how it ran."""
    parts = {name: {**now[name], **stored[name]} for name in ("parameters", "policy", "account")}
    return {**stored, **parts}


def _recorded_again(row: Mapping[str, Any], tape: Recording) -> Source:
    """What the run was fed with: the same part of a recording, with the steps that it had then."""
    since, until = from_datetime(row["start_date"]), from_datetime(row["end_date"])
    source = tape.source(row["interval"], since, until)
    steps = row["strategy_config"]["sources"]["terms"].get(tape.symbol, {})
    return replace(source, terms=Terms(**steps))


def fed_again(
    url: str, row: Mapping[str, Any], frames: Mapping[str, CandleFrame]
) -> tuple[list[Source], Inside | None]:
    """What a stored run was fed with beside its candles, as the tape holds it today.

    Raises:
        WrongUse: it was given by hand, or is gone.
    """
    from backtest.stored_feeds import INSIDES, Facts, LookInside, Wanted, read_sources

    sources = row["strategy_config"].get("sources", {})
    inside = sources.get("inside", "candles")
    if inside not in INSIDES or sources.get("given"):
        raise WrongUse(
            "this run was fed with tables that were given to dt.backtest: it can only be made anew there"
        )
    account, terms, ends = (
        row["strategy_config"]["account"],
        sources.get("terms", {}),
        sources.get("ends", {}),
    )
    facts = {
        symbol: Facts(MarketType(row["market_type"]), Terms(**terms.get(symbol, {})), ends.get(symbol))
        for symbol in frames
    }
    wanted = Wanted(inside, account.get("slippage", "fixed"), sources.get("funding", False))
    found = read_sources(url, row["exchange"], frames, wanted, facts)
    return found, LookInside(url, row["exchange"]) if inside == "stored" else None


def frames_of_run(url: str, row: Mapping[str, Any]) -> dict[str, CandleFrame]:
    """The candles that the tape holds today for a stored run, by instrument.

    Raises:
        WrongUse: there is none any more.
    """
    from signals.frame import CandleFrame
    from storage import read

    timeframe = Timeframe.parse(row["interval"])
    since, until = from_datetime(row["start_date"]), from_datetime(row["end_date"])
    frames = {}
    for symbol in row["symbols"]:
        candles = read.candles(url, row["exchange"], symbol, timeframe, since, until)
        if candles.is_empty():
            raise WrongUse(
                f"the {timeframe} candles of {symbol} on {row['exchange']} from {format_time(since)}"
                f" to {format_time(until)} are not stored any more"
            )
        frames[symbol] = checked(CandleFrame.from_polars(candles, timeframe))
    return frames


def _effects(row: Mapping[str, Any], result: Result) -> list[Difference]:
    fills = Difference("fills", f"{row['engine_stats']['fills']:,}", f"{len(result.record.fills):,}")
    days = len(row["daily_returns"])
    before = figures({**row["metrics"], **row}, {}, days)
    after = figures(result.metrics._asdict(), {}, days)
    differing = [
        Difference(name, one, other)
        for (name, one, _), (_, other, _) in zip(before, after, strict=True)
        if one != other
    ]
    return [*([fills] if fills.stored != fills.now else []), *differing]


def _short(text: str) -> str:
    """A hash cut short; everything else as it is."""
    return text[:_SHOWN] if len(text) == 64 and " " not in text else text
