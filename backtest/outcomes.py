"""What runs of a sweep bring home: figures and the hash of their fills, not the fills themselves.

Threads share the candles: the compiled loops run without the interpreter's lock. What comes out comes in
the setups' order whatever thread it ran on, so that a sweep is the same every time.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from backtest.provenance import fills_hash
from backtest.ratios import daily_returns
from backtest.run import execute
from backtest.tables import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from backtest.batch import Floats, Record
    from backtest.feeds import Source
    from backtest.metrics import Metrics
    from backtest.setup import Setup
    from backtest.strategies import SignalsOf

    Runner: TypeAlias = Callable[[Source, Sequence[Setup]], Iterator[list["Outcome"]]]
    """What runs setups as `results` does: on this machine's threads, or see `backtest.cluster`."""

TOGETHER = 8
"""Combinations that a thread takes at once: enough that handing them over costs nothing."""
_AHEAD = 32
"""How many times as much is begun at most before what is finished is taken: who takes it may be storing."""


class Outcome(NamedTuple):
    """What a run's row keeps of it.

    Attributes:
        metrics: its figures.
        returns: of each UTC day, the first one from the initial capital.
        fills_hash: see `backtest.provenance.fills_hash`.
        fills_by_source, fills_by_reason: how many fills had each.
        fills, events, rejected, funding: as in `backtest.tally.Record`; fills are counted.
        seconds: that it took.
    """

    metrics: Metrics
    returns: Floats
    fills_hash: str
    fills_by_source: Mapping[str, int]
    fills_by_reason: Mapping[str, int]
    fills: int
    events: int
    rejected: int
    funding: float
    seconds: float


def outcome_of(setup: Setup, metrics: Metrics, record: Record, seconds: float) -> Outcome:
    """What is kept of a run of this setup."""
    return Outcome(
        metrics,
        daily_returns(setup.account.capital, record.daily),
        fills_hash(record),
        counted(record, "source"),
        counted(record, "reason"),
        len(record.fills),
        record.events,
        record.rejected,
        record.funding,
        seconds,
    )


def ran(source: Source, setups: Sequence[Setup], signals_of: SignalsOf | None = None) -> list[Outcome]:
    """What comes out of each setup, without its curve.

    Neighbours in a grid that differ in their policy alone trade the same signals.

    Args:
        source: what they run over.
        setups: of one strategy.
        signals_of: what its `over` gave, where several calls share it.
    """
    signals_of = signals_of or setups[0].strategy.over(source.frame)
    finished: list[Outcome] = []
    signals, before = None, None
    for each in setups:
        begun = perf_counter()
        if before is None or each.values != before.values:
            signals, before = signals_of(each.values), each
        record, metrics = execute(each, source, curve=False, signals=signals)
        finished.append(outcome_of(each, metrics, record, perf_counter() - begun))
    return finished


def results(
    source: Source, setups: Sequence[Setup], *, threads: int | None = None
) -> Iterator[list[Outcome]]:
    """Run every setup, of one strategy; gives what came out in the setups' order, some at a time."""
    signals_of = setups[0].strategy.over(source.frame)
    # The first alone: what numba notes of a type when it first meets it is not made for threads.
    yield ran(source, setups[:1], signals_of)
    threads = threads or os.cpu_count() or 1
    parts = (setups[i : i + TOGETHER] for i in range(1, len(setups), TOGETHER))
    waiting: deque[Future[list[Outcome]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="sweep") as pool:
        try:
            for part in parts:
                waiting.append(pool.submit(ran, source, part, signals_of))
                if len(waiting) >= _AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
