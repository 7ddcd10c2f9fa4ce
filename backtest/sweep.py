"""A grid of parameters over the same candles, on all cores, every combination a stored run.

Threads share the candles: the compiled loops run without the interpreter's lock. Results come in the
grid's order whatever thread they ran on, so that a sweep is the same every time.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import nsmallest
from time import perf_counter
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from backtest import claims, provenance, store
from backtest.metrics import Metrics
from backtest.run import Result, Setup, execute
from market.errors import DeltatapeError, WrongUse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from signals.frame import CandleFrame
    from storage.database import Connection

_TOGETHER = 8
"""Combinations that a thread takes at once: enough that handing them over costs nothing."""

_SECONDS_BETWEEN_COMMITS = 0.5


@dataclass(frozen=True, slots=True)
class Best:
    """One of the best runs: its id, its setup and its figures."""

    backtest_id: UUID
    setup: Setup
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class Sweep:
    """A finished sweep.

    Attributes:
        sweep_id: of its row.
        total: combinations that ran.
        left_out: combinations of the grid that make no sense.
        best: the best ones, the best first.
        seconds: that it took.
    """

    sweep_id: UUID
    total: int
    left_out: int
    best: list[Best]
    seconds: float


def results(
    frame: CandleFrame, setups: Sequence[Setup], *, threads: int | None = None
) -> Iterator[list[Result]]:
    """Run every setup without its curve; gives the results in the setups' order, some at a time."""
    threads = threads or os.cpu_count() or 1
    parts = (setups[i : i + _TOGETHER] for i in range(0, len(setups), _TOGETHER))
    waiting: deque[Future[list[Result]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="sweep") as pool:
        try:
            for part in parts:
                waiting.append(pool.submit(_run_all, frame, part))
                # A bound on what is finished but not taken yet.
                if len(waiting) >= 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def sweep(
    connection: Connection,
    frame: CandleFrame,
    setups: Sequence[Setup],
    market: store.Market,
    *,
    definition: dict[str, Any],
    left_out: int = 0,
    rank_by: str = "sharpe_ratio",
    keep: int = 3,
    progress: Callable[[int], None] = lambda _: None,
) -> Sweep:
    """Run and store every setup; of the best ones the fills, positions and curves too.

    Runs are stored as they come: one that is interrupted keeps those that finished, and is marked
    cancelled (by Ctrl-C) or failed.

    Args:
        connection: for this sweep alone; it is committed.
        frame: checked candles.
        setups: what to run, at least one.
        market: whose candles they are.
        definition: what was asked for, kept as it is.
        left_out: combinations of the grid that make no sense.
        rank_by: the metric whose highest value is best; ties go to the earlier combination.
        keep: how many of the best keep everything.
        progress: told how many are finished.

    Raises:
        WrongUse: no such metric.
    """
    if rank_by not in Metrics._fields:
        raise WrongUse(f"cannot rank by {rank_by!r}: use one of {', '.join(Metrics._fields)}")
    begun = perf_counter()
    sweep_id = _insert(connection, definition, len(setups))
    try:
        ranked = _store_all(connection, sweep_id, frame, setups, market, rank_by, progress)
        chosen = nsmallest(keep, ranked)
        best = [_keep(connection, frame, setups[place], run, market) for _, place, run in chosen]
        statistics = {"left_out": left_out, "rank_by": rank_by, "seconds": perf_counter() - begun}
        _finish(connection, sweep_id, "completed", best[0].backtest_id if best else None, statistics)
    except BaseException as error:
        connection.rollback()
        status = "cancelled" if isinstance(error, KeyboardInterrupt) else "failed"
        _finish(connection, sweep_id, status, None, {"left_out": left_out, "error": str(error)})
        raise
    return Sweep(sweep_id, len(setups), left_out, best, perf_counter() - begun)


def _run_all(frame: CandleFrame, setups: Sequence[Setup]) -> list[Result]:
    finished = []
    for each in setups:
        begun = perf_counter()
        record, metrics = execute(each, frame, curve=False)
        finished.append(Result(each, frame, metrics, record, seconds=perf_counter() - begun))
    return finished


_Ranked = tuple[float, int, UUID]


def _store_all(
    connection: Connection,
    sweep_id: UUID,
    frame: CandleFrame,
    setups: Sequence[Setup],
    market: store.Market,
    rank_by: str,
    progress: Callable[[int], None],
) -> list[_Ranked]:
    """Store a row for every run; gives (minus the rank, place in the grid, run) of each."""
    fingerprint = provenance.data_fingerprint(frame)
    ranked: list[_Ranked] = []
    rows: list[dict[str, Any]] = []
    written = perf_counter()
    for part in results(frame, setups):
        for result in part:
            run_id = uuid4()
            base = store.base_row(run_id, result.setup, frame, market, "running", sweep_id, 0, fingerprint)
            rows.append({**base, **store.result_row(result)})
            ranked.append((-float(getattr(result.metrics, rank_by)), len(ranked), run_id))
        if perf_counter() - written > _SECONDS_BETWEEN_COMMITS:
            _write(connection, sweep_id, rows)
            rows, written = [], perf_counter()
        progress(len(ranked))
    _write(connection, sweep_id, rows)
    return ranked


def _write(connection: Connection, sweep_id: UUID, rows: list[dict[str, Any]]) -> None:
    with connection.transaction():
        store.insert_runs(connection, rows)
        connection.execute(
            "UPDATE sweeps SET finished_runs = finished_runs + %s WHERE id = %s", (len(rows), sweep_id)
        )
    connection.commit()


def _keep(
    connection: Connection, frame: CandleFrame, setup: Setup, run_id: UUID, market: store.Market
) -> Best:
    """Run one again with its curve and store everything of it."""
    begun = perf_counter()
    record, metrics = execute(setup, frame, curve=True)
    seconds = perf_counter() - begun
    result = Result(setup, frame, metrics, record, market.exchange, market.symbol, seconds)
    query = "SELECT fills_hash FROM backtest_runs WHERE backtest_id = %s"
    stored = connection.execute(query, (run_id,)).fetchone()
    if stored != (provenance.fills_hash(record),):
        raise DeltatapeError(f"run {run_id} came out differently when it ran again")
    with connection.transaction():
        store.write_all(connection, run_id, result, market)
    connection.commit()
    return Best(run_id, setup, metrics)


def _insert(connection: Connection, definition: dict[str, Any], total: int) -> UUID:
    sweep_id = uuid4()
    claims.claim(connection, sweep_id)
    connection.execute(
        "INSERT INTO sweeps (id, name, definition, status, total_runs, finished_runs, started_timestamp)"
        " VALUES (%s, %s, %s, 'running', %s, 0, %s)",
        (sweep_id, definition["strategy"], Jsonb(definition), total, datetime.now(UTC)),
    )
    connection.commit()
    return sweep_id


def _finish(
    connection: Connection,
    sweep_id: UUID,
    status: str,
    best: UUID | None,
    statistics: dict[str, Any],
) -> None:
    connection.execute(
        "UPDATE sweeps SET status = %s, best_backtest_id = %s, statistics = %s, finished_timestamp = %s"
        " WHERE id = %s",
        (status, best, Jsonb(statistics), datetime.now(UTC), sweep_id),
    )
    connection.commit()
