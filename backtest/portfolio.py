"""Instruments that share one cash: their feeds merged, run, and summed up."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from backtest.batch import Floats, Integers, Record, walk
from backtest.costs import needs_changes
from backtest.feeds import columns
from backtest.merged import walk_tape
from backtest.metrics import Metrics, Profile, profile, summarise
from backtest.periods import held_profile
from backtest.policies import follow_signals
from backtest.state import CANDLE_PESSIMISTIC, MAX_INSTRUMENTS
from backtest.tape import merge
from market.errors import WrongUse
from market.timeframe import DAY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backtest.batch import Signals
    from backtest.feeds import Source
    from backtest.setup import Setup

Inside: TypeAlias = "Callable[[Source, Integers], Source]"
"""Gives the source with what is known of the inside of more of its candles, by their numbers."""


def run_sources(
    wanted: Setup, sources: Sequence[Source], inside: Inside | None = None
) -> tuple[Record, list[Source]]:
    """Signals and kernel over every instrument; gives the record, and the sources with what was looked up.

    Args:
        wanted: the same strategy and policy for each, one account for all.
        sources: in the order of their symbols.
        inside: looks into candles that do not say what came first. Only those where it decides a fill are
            looked into, again until every such fill is decided or nothing more is known.

    Raises:
        WrongUse: the instruments cannot trade together.
    """
    check(wanted, sources)
    signals = [wanted.strategy.signals(source.frame, wanted.values) for source in sources]
    asked: list[Integers] = [np.empty(0, dtype=np.int64) for _ in sources]
    now = list(sources)
    while True:
        record = walk_sources(wanted, now, signals, curve=True)
        unclear = _unclear(record, now) if inside is not None else []
        new = [np.setdiff1d(candles, known) for candles, known in zip(unclear, asked, strict=False)]
        if inside is None or not any(map(len, new)):
            return record, now
        for number, candles in enumerate(new):
            if len(candles):
                now[number] = inside(now[number], candles)
                asked[number] = np.union1d(asked[number], candles)


def check(wanted: Setup, sources: Sequence[Source]) -> None:
    """Refuse what cannot run over these instruments.

    Raises:
        WrongUse: they cannot trade together, or one is not fed with what the setup needs.
    """
    if len(sources) > MAX_INSTRUMENTS:
        raise WrongUse(f"at most {MAX_INSTRUMENTS} instruments at once, not {len(sources)}")
    if wanted.account.queue != "none" and any(source.depth is None for source in sources):
        raise needs_changes()
    if len(sources) == 1:
        return
    if wanted.policy.plan != "signals":
        raise WrongUse(f"the plan {wanted.policy.plan} trades one instrument: give it one symbol")
    money = {paid_in(source.symbol) for source in sources}
    if len(money) > 1:
        raise WrongUse(f"instruments that share their cash must be paid in one currency, not {_both(money)}")
    lengths = {str(source.frame.timeframe) for source in sources}
    if len(lengths) > 1:
        raise WrongUse(f"the candles of all instruments must be of one timeframe, not {_both(lengths)}")


def _both(names: set[str]) -> str:
    return " and ".join(sorted(names))


def paid_in(symbol: str) -> str:
    """The currency that profits come in: of BASE/QUOTE:SETTLE the last, of BASE/QUOTE the quote."""
    return symbol.rpartition("/")[2].rpartition(":")[2] or symbol


def walk_sources(
    wanted: Setup, sources: Sequence[Source], signals: Sequence[Signals], *, curve: bool
) -> Record:
    """The kernel once over every instrument; `curve` keeps the equity's points.

    Where candles are all that happens they are not kept, but made when they are asked for.
    """
    if wanted.own is None and len(sources) == 1 and sources[0].is_plain:
        record = _walk_candles(wanted, sources[0], signals[0], curve=False)
        again = partial(_walk_candles, wanted, sources[0], signals[0], curve=True)
        return replace(record, again=again) if curve else record
    state = wanted.account.state([source.terms for source in sources], most_open=wanted.policy.most_open)
    policy, on_event = wanted.policy.record(), follow_signals
    if wanted.own is not None:
        policy, on_event = wanted.own.record(), wanted.own.callback
        state["wake_at"] = 0
    feeds = [
        source.feed(each, _confidence(wanted, source, each))
        for source, each in zip(sources, signals, strict=True)
    ]
    return walk_tape(state, policy, on_event, merge(feeds), curve=curve)


def _walk_candles(wanted: Setup, source: Source, signals: Signals, *, curve: bool) -> Record:
    state = wanted.account.state([source.terms], most_open=wanted.policy.most_open)
    return walk(state, wanted.policy.record(), columns(source.frame), signals, curve=curve)


def _confidence(wanted: Setup, source: Source, signals: Signals) -> Floats | None:
    if wanted.strategy.confidence is None:
        return None
    return wanted.strategy.confidence(source.frame, wanted.values, signals.candle)


def _unclear(record: Record, sources: Sequence[Source]) -> list[Integers]:
    """Of each instrument the candles inside which something filled for the worse, as nobody knew better."""
    fills = record.fills[record.fills["source"] == CANDLE_PESSIMISTIC]
    found = []
    for number, source in enumerate(sources):
        times = fills["timestamp"][fills["instrument"] == number]
        found.append(np.unique(np.searchsorted(source.frame.timestamp, times, side="right") - 1))
    return found


def figures_of(wanted: Setup, sources: Sequence[Source], record: Record) -> Metrics:
    """The metrics of a record over these instruments."""
    changes = [source.frame.close[-1] / source.frame.open[0] - 1.0 for source in sources]
    figures: Metrics = summarise(
        wanted.account.capital,
        record.daily,
        record.fills,
        record.fees,
        record.drawdown,
        record.held / max(record.closes, 1),
        float(np.mean(changes)),
    )
    return figures


def held_of(sources: Sequence[Source]) -> Profile:
    """The figures of buying an equal part of each at its first open and holding, without costs."""
    if len(sources) == 1:
        return held_profile(sources[0].frame)
    first = min(int(source.frame.timestamp[0]) for source in sources) // DAY
    last = max(int(source.frame.timestamp[-1]) for source in sources) // DAY
    days = (first + np.arange(last - first + 1) + 1) * DAY
    figures: Profile = profile(1.0, worth_of(sources, days))
    return figures


def worth_of(sources: Sequence[Source], times: Integers) -> Floats:
    """What one unit of money, an equal part of it in each instrument from its first open, is worth then."""
    parts = []
    for source in sources:
        place = np.searchsorted(source.frame.close_time, times, side="right")
        worth = np.r_[1.0, source.frame.close / source.frame.open[0]]
        parts.append(worth[place])
    return np.asarray(np.mean(parts, axis=0))
