"""A grid of parameters over the same candles, on all cores, every combination a stored run.

Threads share the candles: the compiled loops run without the interpreter's lock. Results come in the
grid's order whatever thread they ran on, so that a sweep is the same every time. With folds the grid walks
forward: what is best over one span is judged over the next.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import nsmallest
from math import prod
from time import perf_counter
from typing import TYPE_CHECKING, Any, LiteralString, NamedTuple, TypeAlias
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from backtest import claims, provenance, store
from backtest.folds import Fold, walk_forward
from backtest.labels import label
from backtest.metrics import Metrics
from backtest.result import Result
from backtest.run import execute
from backtest.setup import Setup
from market.errors import DeltatapeError, WrongUse
from market.timeframe import format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from backtest.tally import Record
    from signals.frame import CandleFrame
    from storage.database import Connection

    Runner: TypeAlias = Callable[[CandleFrame, Sequence[Setup]], Iterator[list[Result]]]
    """What runs setups as `results` does: on this machine's threads, or see `backtest.cluster`."""

TOGETHER = 8
"""Combinations that a thread takes at once: enough that handing them over costs nothing."""

IN_SAMPLE, OUT_OF_SAMPLE = "in_sample", "out_of_sample"

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
        total: combinations that ran; with folds, runs.
        left_out: combinations of the grid that make no sense.
        best: the best ones, the best first; with folds, of those that judged.
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
    parts = (setups[i : i + TOGETHER] for i in range(0, len(setups), TOGETHER))
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
    folds: int = 0,
    runner: Runner = results,
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
        folds: steps forward, see `backtest.folds`: in each every setup runs in sample, and the best of them
            out of sample too. 0: every setup runs over all candles.
        runner: runs the setups.
        progress: told how many are finished.

    Raises:
        WrongUse: no such metric, or too few candles for the folds.
    """
    if rank_by not in Metrics._fields:
        raise WrongUse(f"cannot rank by {rank_by!r}: use one of {', '.join(Metrics._fields)}")
    begun = perf_counter()
    steps = walk_forward(frame, folds) if folds else []
    total = max(1, folds) * len(setups) + folds
    work = _Work(connection, _insert(connection, definition, total), market, rank_by, runner, progress)
    try:
        judged: list[dict[str, Any]] = []
        candidates = [_forward(work, fold, setups, judged) for fold in steps] or _all(work, frame, setups)
        best = [_keep(work, *each[2:]) for each in nsmallest(keep, candidates, key=lambda each: each[:2])]
        statistics: dict[str, Any] = {"left_out": left_out, "rank_by": rank_by}
        statistics["seconds"] = perf_counter() - begun
        if judged:
            whole = prod(1.0 + each["return_pct"] / 100.0 for each in judged)
            statistics |= {"folds": judged, "out_of_sample_return_pct": 100.0 * (whole - 1.0)}
        _finish(connection, work.sweep_id, "completed", best[0].backtest_id if best else None, statistics)
    except BaseException as error:
        connection.rollback()
        status = "cancelled" if isinstance(error, KeyboardInterrupt) else "failed"
        _finish(connection, work.sweep_id, status, None, {"left_out": left_out, "error": str(error)})
        raise
    return Sweep(work.sweep_id, total, left_out, best, perf_counter() - begun)


class _Work(NamedTuple):
    """What every part of a sweep needs."""

    connection: Connection
    sweep_id: UUID
    market: store.Market
    rank_by: str
    runner: Runner
    progress: Callable[[int], None]


_Candidate = tuple[float, int, Setup, "CandleFrame", UUID]
"""Minus its rank, the place in its order that ties go by, and the run."""


def _all(work: _Work, frame: CandleFrame, setups: Sequence[Setup]) -> list[_Candidate]:
    runs = _store_all(work, frame, setups)
    return [(rank, place, setups[place], frame, run_id) for place, (rank, run_id) in enumerate(runs)]


def _forward(work: _Work, fold: Fold, setups: Sequence[Setup], judged: list[dict[str, Any]]) -> _Candidate:
    """One step: every setup in sample, and the best of them out of sample, which is told to `judged`."""
    done = (fold.number - 1) * (len(setups) + 1)
    runs = _store_all(work, fold.in_sample, setups, IN_SAMPLE, fold.number, done)
    place = min(range(len(runs)), key=lambda each: (runs[each][0], each))
    after, chosen = fold.out_of_sample, setups[place]
    ((rank, run_id),) = _store_all(work, after, [chosen], OUT_OF_SAMPLE, fold.number, done + len(setups))
    query = "SELECT total_return_pct FROM backtest_runs WHERE backtest_id = %s"
    judged.append(
        {
            "fold": fold.number,
            "in_sample_from": format_time(int(fold.in_sample.timestamp[0])),
            "out_of_sample_from": format_time(int(after.timestamp[0])),
            "out_of_sample_to": format_time(int(after.close_time[-1])),
            "parameters": label(chosen.config()),
            "in_sample_id": str(runs[place][1]),
            "in_sample": -runs[place][0],
            "out_of_sample_id": str(run_id),
            "out_of_sample": -rank,
            "return_pct": _one_value(work.connection, query, run_id),
        }
    )
    return rank, fold.number, chosen, after, run_id


def _one_value(connection: Connection, query: LiteralString, run_id: UUID) -> Any:
    row = connection.execute(query, (run_id,)).fetchone()
    return row and row[0]


def ran(frame: CandleFrame, setups: Sequence[Setup]) -> list[tuple[Record, Metrics, float]]:
    """What came out of each setup, and the seconds that it took."""
    finished = []
    for each in setups:
        begun = perf_counter()
        record, metrics = execute(each, frame, curve=False)
        finished.append((record, metrics, perf_counter() - begun))
    return finished


def _run_all(frame: CandleFrame, setups: Sequence[Setup]) -> list[Result]:
    return [
        Result(each, frame, metrics, record, seconds=seconds)
        for each, (record, metrics, seconds) in zip(setups, ran(frame, setups), strict=True)
    ]


def _store_all(
    work: _Work,
    frame: CandleFrame,
    setups: Sequence[Setup],
    split: str | None = None,
    fold: int | None = None,
    done: int = 0,
) -> list[tuple[float, UUID]]:
    """Store a row for every run; gives (minus the rank, run) of each; `done` ran before."""
    fingerprint = provenance.data_fingerprint(frame)
    ranked: list[tuple[float, UUID]] = []
    rows: list[dict[str, Any]] = []
    written = perf_counter()
    for part in work.runner(frame, setups):
        for result in part:
            run_id = uuid4()
            base = store.base_row(
                run_id, result.setup, frame, work.market, "running", work.sweep_id, 0, fingerprint
            )
            rows.append({**base, "split": split, "fold": fold, **store.result_row(result)})
            ranked.append((-float(getattr(result.metrics, work.rank_by)), run_id))
        if perf_counter() - written > _SECONDS_BETWEEN_COMMITS:
            _write(work.connection, work.sweep_id, rows)
            rows, written = [], perf_counter()
        work.progress(done + len(ranked))
    _write(work.connection, work.sweep_id, rows)
    return ranked


def _write(connection: Connection, sweep_id: UUID, rows: list[dict[str, Any]]) -> None:
    with connection.transaction():
        store.insert_runs(connection, rows)
        connection.execute(
            "UPDATE sweeps SET finished_runs = finished_runs + %s WHERE id = %s", (len(rows), sweep_id)
        )
    connection.commit()


def _keep(work: _Work, setup: Setup, frame: CandleFrame, run_id: UUID) -> Best:
    """Run one again with its curve and store everything of it."""
    connection, market = work.connection, work.market
    begun = perf_counter()
    record, metrics = execute(setup, frame, curve=True)
    seconds = perf_counter() - begun
    result = Result(setup, frame, metrics, record, market.exchange, market.symbol, seconds)
    stored = _one_value(connection, "SELECT fills_hash FROM backtest_runs WHERE backtest_id = %s", run_id)
    if stored != provenance.fills_hash(record):
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
