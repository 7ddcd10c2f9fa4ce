"""Signals in batch: everything stored, or a part of it, recomputed on today's tape."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from signals.follow import jobs, recompute
from signals.judging import Apart, BadStrategy
from signals.reading import first_from
from signals.strategies import configured
from signals.target import newest_closed, stored_targets
from storage.database import connect, require_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from signals.follow import Job, Step
    from signals.options import SignalOptions
    from signals.target import Selection

log = logging.getLogger(__name__)

MANY_CANDLES = 100_000
"""With fewer, starting processes takes longer than it saves."""


@dataclass(frozen=True, slots=True)
class _Work:
    """One job of a batch, as another process gets it."""

    url: str
    options: SignalOptions
    job: Job
    start: int
    end: int


def compute(
    url: str,
    options: SignalOptions,
    selection: Selection,
    start: int,
    end: int,
    on_bad: Callable[[str], object] = log.warning,
) -> Iterator[Step]:
    """Make signals and indicators equal to today's tape, on all cores; yields each chunk's result.

    What is equal already is left alone, what differs becomes a new revision; nothing is announced.

    Args:
        url: the database.
        options: strategies, indicators, thresholds.
        selection: which targets.
        start: first open time, microseconds UTC.
        end: open time to stop before, microseconds UTC.
        on_bad: told why a strategy cannot be evaluated; the others can.

    Raises:
        WrongUse: the options name what does not exist.
        Unavailable: the database does not answer, or has no tables.
    """
    strategies = configured(options)
    with connect(url, application_name="deltatape signals", autocommit=True) as connection:
        require_schema(connection)
        targets = newest_closed(connection, stored_targets(connection, selection))
        begins = {target: first_from(connection, target, start) for target in targets}
    work = [
        _Work(url, options, job, start, end)
        for target in targets
        for job in jobs(strategies, target, options)
    ]
    candles = sum(
        (min(newest, end) - (begins[target] or newest)) // target.timeframe.microseconds
        for target, newest in targets.items()
    )
    for done in _results(work, is_much=candles > MANY_CANDLES):
        if isinstance(done, str):
            on_bad(done)
        else:
            yield from done


def _results(work: list[_Work], *, is_much: bool) -> Iterator[list[Step] | str]:
    processes = min(len(work), os.cpu_count() or 1)
    if processes < 2 or not is_much:
        yield from map(_do, work)
        return
    with multiprocessing.get_context("spawn").Pool(processes, _leave_ctrl_c_to_others) as pool:
        yield from pool.imap_unordered(_do, work)


def _leave_ctrl_c_to_others() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _do(work: _Work) -> list[Step] | str:
    with (
        connect(work.url, application_name="deltatape signals", autocommit=True) as connection,
        closing(Apart(work.options)) as apart,
    ):
        try:
            return list(recompute(connection, work.job, work.start, work.end, apart.judge))
        except BadStrategy as error:
            return str(error)
