"""Signals in batch: everything stored, or a part of it, recomputed on today's tape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from signals.follow import Job, Step, recompute
from signals.strategies import configured
from signals.target import stored_targets
from storage.database import connect, require_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from signals.options import SignalOptions
    from signals.target import Selection


def compute(url: str, options: SignalOptions, selection: Selection, start: int, end: int) -> Iterator[Step]:
    """Make signals and indicators equal to today's tape; yields each chunk's result.

    What is equal already is left alone, what differs becomes a new revision; nothing is announced.

    Args:
        url: the database.
        options: strategies, indicators, thresholds.
        selection: which targets.
        start: first open time, microseconds UTC.
        end: open time to stop before, microseconds UTC.

    Raises:
        WrongUse: the options name what does not exist.
        Unavailable: the database does not answer, or has no tables.
    """
    strategies = configured(options)
    with connect(url, application_name="deltatape signals", autocommit=True) as connection:
        require_schema(connection)
        for target in stored_targets(connection, selection):
            for i, strategy in enumerate(strategies):
                kept = options.indicators if i == 0 else ()
                yield from recompute(connection, Job(strategy, target, kept), start, end)
