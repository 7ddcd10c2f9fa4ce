"""The best runs of a sweep, made again with their curves and stored with everything."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from queue import SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias

from backtest import provenance, store
from backtest.result import Result
from backtest.run import execute
from market.errors import DeltatapeError
from storage.database import another

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from backtest.feeds import Source
    from backtest.metrics import Metrics
    from backtest.setup import Setup
    from storage.database import Connection

    Candidate: TypeAlias = tuple[Setup, Source, UUID]
    """What ran, over what, and the run whose row is stored."""

_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Best:
    """One of the best runs: its id, its setup and its figures."""

    backtest_id: UUID
    setup: Setup
    metrics: Metrics


def keep_all(connection: Connection, market: store.Market, chosen: Sequence[Candidate]) -> list[Best]:
    """Keep everything of these, several at once: the server, which takes longest, has a process for each.

    Args:
        connection: to the database; each run is stored over a further one, in a transaction of its own.
        market: whose candles they are.
        chosen: in any order, which is kept.

    Raises:
        DeltatapeError: a run came out differently than before.
        Unavailable: the server takes no more connections.
    """
    free: SimpleQueue[Connection] = SimpleQueue()

    def kept(candidate: Candidate) -> Best:
        one = free.get()
        try:
            return _keep(one, market, *candidate)
        finally:
            free.put(one)

    with ExitStack() as stack:
        for _ in range(min(len(chosen), _AT_ONCE)):
            free.put(stack.enter_context(another(connection)))
        pool = stack.enter_context(ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="keep"))
        return list(pool.map(kept, chosen))


def _keep(connection: Connection, market: store.Market, setup: Setup, source: Source, run_id: UUID) -> Best:
    begun = perf_counter()
    record, metrics = execute(setup, source, curve=True)
    seconds = perf_counter() - begun
    query = "SELECT fills_hash FROM backtest_runs WHERE backtest_id = %s"
    if connection.execute(query, (run_id,)).fetchone() != (provenance.fills_hash(record),):
        raise DeltatapeError(f"run {run_id} came out differently when it ran again")
    result = Result(
        setup,
        source.frame,
        metrics,
        record,
        market.exchange,
        market.symbol,
        seconds,
        () if source.is_plain else (source,),
    )
    with connection.transaction():
        store.write_all(connection, run_id, result, market)
    connection.commit()
    return Best(run_id, setup, metrics)
