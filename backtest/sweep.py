"""A grid of parameters over the same candles, on all cores, every combination a stored run.

With folds the grid walks forward: what is best over one span is judged over the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import nsmallest
from math import prod
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from backtest import claims, rows
from backtest.best import Best, keep_all
from backtest.feeds import Source, fingerprint
from backtest.folds import Fold, walk_forward
from backtest.labels import label
from backtest.metrics import Metrics
from backtest.outcomes import results
from backtest.setup import Setup
from backtest.telling import Work, outcome, tell_completed, tell_failed
from market.errors import WrongUse
from market.timeframe import format_time
from storage.routes import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backtest.outcomes import Runner
    from backtest.store import Market
    from storage.database import Connection
    from storage.routes import Routes

IN_SAMPLE, OUT_OF_SAMPLE = "in_sample", "out_of_sample"

_SECONDS_BETWEEN_COMMITS = 0.2


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


def sweep(
    connection: Connection,
    source: Source,
    setups: Sequence[Setup],
    market: Market,
    *,
    definition: dict[str, Any],
    left_out: int = 0,
    rank_by: str = "sharpe_ratio",
    keep: int = 3,
    folds: int = 0,
    runner: Runner = results,
    progress: Callable[[int], None] = lambda _: None,
    routes: Routes = SILENT,
) -> Sweep:
    """Run and store every setup; of the best ones the fills, positions and curves too.

    Runs are stored as they come: one that is interrupted keeps those that finished, and is marked
    cancelled (by Ctrl-C) or failed.

    Args:
        connection: for this sweep alone; it is committed.
        source: an instrument, with checked candles, and funding where it is a contract.
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
        routes: told once how it ended, unless it was cancelled.

    Raises:
        WrongUse: no such metric, or too few candles for the folds.
    """
    if rank_by not in Metrics._fields:
        raise WrongUse(f"cannot rank by {rank_by!r}: use one of {', '.join(Metrics._fields)}")
    begun = perf_counter()
    steps = walk_forward(source, folds) if folds else []
    total = max(1, folds) * len(setups) + folds
    work = _Work(connection, _insert(connection, definition, total), market, rank_by, runner, progress)
    told = Work(
        "sweep",
        work.sweep_id,
        setups[0].strategy.name,
        market.exchange,
        market.symbols,
        str(source.frame.timeframe),
    )
    try:
        judged: list[dict[str, Any]] = []
        candidates = [_forward(work, fold, setups, judged) for fold in steps] or _all(work, source, setups)
        chosen = nsmallest(keep, candidates, key=lambda each: each[:2])
        best = keep_all(connection, market, [each[2:] for each in chosen])
        statistics: dict[str, Any] = {"left_out": left_out, "rank_by": rank_by}
        statistics["seconds"] = perf_counter() - begun
        if judged:
            whole = prod(1.0 + each["return_pct"] / 100.0 for each in judged)
            statistics |= {"folds": judged, "out_of_sample_return_pct": 100.0 * (whole - 1.0)}
        message = f"{total:,} runs in {statistics['seconds']:.1f} s"
        if best:
            message += f"; the best by {rank_by}: {label(best[0].setup.config())}\n{outcome(best[0].metrics)}"
        tell_completed(connection, routes, told, message, {"runs": total, "rank_by": rank_by})
        _finish(connection, work.sweep_id, "completed", best[0].backtest_id if best else None, statistics)
    except BaseException as error:
        connection.rollback()
        status = "cancelled" if isinstance(error, KeyboardInterrupt) else "failed"
        if status == "failed":
            tell_failed(connection, routes, told, f"{type(error).__name__}: {error}")
        _finish(connection, work.sweep_id, status, None, {"left_out": left_out, "error": str(error)})
        raise
    return Sweep(work.sweep_id, total, left_out, best, perf_counter() - begun)


class _Work(NamedTuple):
    """What every part of a sweep needs."""

    connection: Connection
    sweep_id: UUID
    market: Market
    rank_by: str
    runner: Runner
    progress: Callable[[int], None]


_Candidate = tuple[float, int, Setup, "Source", UUID]
"""Minus its rank, the place in its order that ties go by, and the run."""


def _all(work: _Work, source: Source, setups: Sequence[Setup]) -> list[_Candidate]:
    runs = _store_all(work, source, setups)
    return [(rank, place, setups[place], source, run_id) for place, (rank, run_id) in enumerate(runs)]


def _forward(work: _Work, fold: Fold, setups: Sequence[Setup], judged: list[dict[str, Any]]) -> _Candidate:
    """One step: every setup in sample, and the best of them out of sample, which is told to `judged`."""
    done = (fold.number - 1) * (len(setups) + 1)
    runs = _store_all(work, fold.in_sample, setups, IN_SAMPLE, fold.number, done)
    place = min(range(len(runs)), key=lambda each: (runs[each][0], each))
    after, chosen = fold.out_of_sample, setups[place]
    ((rank, run_id),) = _store_all(work, after, [chosen], OUT_OF_SAMPLE, fold.number, done + len(setups))
    decides, judges = fold.in_sample.frame, after.frame
    query = "SELECT total_return_pct FROM backtest_runs WHERE backtest_id = %s"
    (gained,) = work.connection.execute(query, (run_id,)).fetchone() or (0.0,)
    judged.append(
        {
            "fold": fold.number,
            "in_sample_from": format_time(int(decides.timestamp[0])),
            "out_of_sample_from": format_time(int(judges.timestamp[0])),
            "out_of_sample_to": format_time(int(judges.close_time[-1])),
            "parameters": label(chosen.config()),
            "in_sample_id": str(runs[place][1]),
            "in_sample": -runs[place][0],
            "out_of_sample_id": str(run_id),
            "out_of_sample": -rank,
            "return_pct": gained,
        }
    )
    return rank, fold.number, chosen, after, run_id


def _store_all(
    work: _Work,
    source: Source,
    setups: Sequence[Setup],
    split: str | None = None,
    fold: int | None = None,
    done: int = 0,
) -> list[tuple[float, UUID]]:
    """Store a row for every run; gives (minus the rank, run) of each; `done` ran before."""
    same = {"split": split, "fold": fold} if split else {}
    same |= rows.base_row(source.frame, work.market, work.sweep_id, 0)
    same |= {"status": "completed", "data_fingerprint": fingerprint([source])}
    ranked: list[tuple[float, UUID]] = []
    finished: list[dict[str, Any]] = []
    written = perf_counter()
    for part in work.runner(source, setups):
        for each in part:
            run_id = uuid4()
            row = rows.setup_row(run_id, setups[len(ranked)])
            finished.append(row | rows.result_row(each, len(source.frame)))
            ranked.append((-float(getattr(each.metrics, work.rank_by)), run_id))
        if perf_counter() - written > _SECONDS_BETWEEN_COMMITS:
            _write(work, finished, same)
            finished, written = [], perf_counter()
        work.progress(done + len(ranked))
    _write(work, finished, same)
    return ranked


def _write(work: _Work, finished: list[dict[str, Any]], same: dict[str, Any]) -> None:
    if not finished:
        return
    query = "UPDATE sweeps SET finished_runs = finished_runs + %s WHERE id = %s"
    with work.connection.transaction():
        rows.insert_runs(work.connection, finished, same)
        work.connection.execute(query, (len(finished), work.sweep_id))
    work.connection.commit()


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
