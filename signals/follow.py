"""From the tape to stored signals: the newest candles in order, each once, and what the tape revised.

Live and batch go through the same functions; a chunk of candles is one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from signals.announce import announce
from signals.blocks import anchor
from signals.calibrate import InForce
from signals.indicator_store import write_indicators
from signals.indicator_values import trades_of
from signals.judging import judge
from signals.options import HORIZONS
from signals.outcomes import settle
from signals.reading import first_from, last_before, read_frame, read_higher
from signals.registry import find
from signals.rows import calibrated
from signals.store import (
    Key,
    State,
    changed_from,
    lock,
    newest_revision,
    read_state,
    reconcile,
    write_state,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from signals.engine import SignalType
    from signals.frame import CandleFrame
    from signals.higher import Higher
    from signals.judging import Judge
    from signals.options import SignalOptions
    from signals.reading import Read
    from signals.store import Written
    from signals.strategies import Strategy
    from signals.target import Target
    from storage.database import Connection

CHUNK = 50_000
"""Candles of one read at most."""
CHUNK_WITH_TRADES = 1_440
"""Candles of one read whose trades are read too, at most."""


@dataclass(frozen=True, slots=True)
class Job:
    """A strategy to follow on a target.

    Attributes:
        strategy: what is evaluated.
        target: on whose candles.
        indicators: names whose values are kept on the way.
        channels: where a fresh signal is announced.
        horizons: candles after which it is written what became of its signals.
    """

    strategy: Strategy
    target: Target
    indicators: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    horizons: tuple[int, ...] = HORIZONS

    @property
    def key(self) -> Key:
        """Whose signals they are."""
        return Key.of(self.strategy, self.target)

    @property
    def warmup(self) -> int:
        """Candles before a block that must be read."""
        return max(self.strategy.warmup, *(find(name).warmup for name in self.indicators), 0)


@dataclass(frozen=True, slots=True)
class Step:
    """What one transaction did.

    Attributes:
        job: whose.
        candles: how many were evaluated.
        until: open time of the last one, microseconds UTC.
        written: rows added to `signals`, in order of time.
        last: the last defined type, None while there is none.
    """

    job: Job
    candles: int
    until: int
    written: tuple[Written, ...]
    last: SignalType | None


def jobs(
    strategies: Sequence[Strategy], target: Target, options: SignalOptions, channels: tuple[str, ...] = ()
) -> list[Job]:
    """What there is to do on `target`: a job for each strategy that is meant for its timeframe."""
    meant = [each for each in strategies if not each.timeframes or target.timeframe in each.timeframes]
    return [
        # The values kept are the same for every strategy: once is enough.
        Job(each, target, options.indicators if i == 0 else (), channels, options.horizons)
        for i, each in enumerate(meant)
    ]


def follow(
    connection: Connection,
    job: Job,
    untyped: dict[Key, State] | None = None,
    judge: Judge = judge,
    read: Read = read_frame,
    in_force: InForce | None = None,
) -> Iterator[Step]:
    """Bring a job up to the newest closed candle, from where it was left, chunk by chunk.

    A tape revision makes it recompute from the first candle that changed; what differs becomes a new
    revision beside the old one. Nothing is lost or written twice when the process dies, or when two
    processes follow the same job.

    Args:
        connection: in autocommit mode; every chunk is a transaction of its own.
        job: what to follow.
        untyped: where jobs were left that have no type yet, which the table cannot remember; kept by
            the caller between calls, or else such a job begins anew.
        judge: what evaluates the strategy.
        read: what reads the candles.
        in_force: what finds calibrations; kept by the caller between calls, since it remembers.

    Raises:
        BadStrategy: it cannot be evaluated; what came before is stored.
    """
    untyped = {} if untyped is None else untyped
    in_force = in_force or InForce()
    while True:
        with connection.transaction():
            lock(connection, job.key)
            # Before any candle is read: what is revised later will be read again.
            newest = newest_revision(connection, job.target)
            state = read_state(connection, job.key) or untyped.get(job.key)
            state = state or State(-job.target.timeframe.microseconds, newest, None)
            is_revised = newest > state.revision_watermark
            step = (
                _redo(connection, job, state, newest, judge, in_force)
                if is_revised
                else _advance(connection, job, state, judge, in_force, read)
            )
            if step is None:
                return
            state = State(step.until, newest, step.last)
            write_state(connection, job.key, state)
        # Not before the commit: a transaction that fails is begun anew from where it began.
        untyped.pop(job.key, None)
        if state.last_type is None:
            untyped[job.key] = state
        yield step


def recompute(connection: Connection, job: Job, start: int, end: int, judge: Judge = judge) -> Iterator[Step]:
    """Make signals and indicators equal to today's tape for the candles that open in [start, end).

    It neither announces anything nor moves the watermark of `follow`.

    Args:
        connection: in autocommit mode; every chunk is a transaction of its own.
        job: what to compute.
        start: microseconds UTC.
        end: microseconds UTC.
        judge: what evaluates the strategy.

    Raises:
        BadStrategy: it cannot be evaluated; what came before is stored.
    """
    last = _type_before(connection, job, start, judge)
    in_force = InForce()
    while True:
        with connection.transaction():
            lock(connection, job.key)
            step = _span(connection, job, start, end, last, judge, in_force)
        if step is None:
            return
        yield step
        start, last = step.until + job.target.timeframe.microseconds, step.last


def _advance(
    connection: Connection, job: Job, state: State, judge: Judge, in_force: InForce, read: Read
) -> Step | None:
    """The next chunk of new candles; None when there is none."""
    start = state.candle_watermark + job.target.timeframe.microseconds
    step = _span(connection, job, start, None, state.last_type, judge, in_force, read)
    if step is not None:
        announce(connection, step.written, job.channels)
    return step


def _redo(
    connection: Connection, job: Job, state: State, newest: int, judge: Judge, in_force: InForce
) -> Step:
    """Everything up to the watermark that newer revisions of the tape may have changed."""
    length = job.target.timeframe.microseconds
    changed = changed_from(connection, job.target, state.revision_watermark, newest)
    step = Step(job, 0, state.candle_watermark, (), state.last_type)
    if changed is None or job.target.timeframe.open_of(changed) > state.candle_watermark:
        return step
    start, end = job.target.timeframe.open_of(changed), state.candle_watermark + length
    step = replace(step, last=_type_before(connection, job, start, judge))
    while part := _span(connection, job, start, end, step.last, judge, in_force):
        step = Step(job, step.candles + part.candles, step.until, step.written + part.written, part.last)
        start = part.until + length
    return step


def _span(
    connection: Connection,
    job: Job,
    start: int,
    end: int | None,
    last: SignalType | None,
    judge: Judge,
    in_force: InForce,
    read: Read = read_frame,
) -> Step | None:
    """One chunk of the candles that open in [start, end); None when there is none."""
    length = job.target.timeframe.microseconds
    first = first_from(connection, job.target, start)
    if first is None or (end is not None and first >= end):
        if end is not None:
            # Candles that gave signals once may be gone.
            reconcile(connection, job.key, [], start, end)
            settle(connection, job.key, job.horizons, start, end)
        return None
    stop = first + (CHUNK_WITH_TRADES if job.strategy.trade_candles else CHUNK) * length
    stop = stop if end is None else min(stop, end)
    lead = anchor(job.target.timeframe, first, job.warmup)
    frame = _with_trades(connection, job, read(connection, job.target, lead, stop), first, stop)
    index = frame.find(first)
    higher = _higher(connection, job, first, stop, read)
    judged = judge(job.strategy, frame, index, last, higher)
    calibrations = in_force.find(connection, job.strategy, job.target, judged.rows, judge)
    rows = calibrated(judged.rows, calibrations, job.strategy.thresholds)
    until = int(frame.timestamp[-1])
    written = reconcile(connection, job.key, rows, start, until + length)
    settle(connection, job.key, job.horizons, start, until + length, frame if end is None else None)
    write_indicators(connection, job.target, frame, index, job.indicators)
    return Step(job, len(frame) - index, until, tuple(written), judged.last)


def _with_trades(connection: Connection, job: Job, frame: CandleFrame, start: int, stop: int) -> CandleFrame:
    """The frame with the trades that the rules read to score its candles from `start` on, where they do."""
    if not job.strategy.trade_candles:
        return frame
    since = start - job.strategy.trade_candles * job.target.timeframe.microseconds
    return frame.with_trades(trades_of(connection, job.target, since, stop))


def _higher(connection: Connection, job: Job, start: int, stop: int, read: Read = read_frame) -> Higher:
    timeframes = job.strategy.confirming(job.target.timeframe)
    return read_higher(connection, job.target, timeframes, job.strategy.warmup, start, stop, read)


def _type_before(connection: Connection, job: Job, start: int, judge: Judge) -> SignalType | None:
    """The last defined type of the candles before `start`, on today's tape."""
    timeframe, stop = job.target.timeframe, start
    while (before := last_before(connection, job.target, stop)) is not None:
        block = anchor(timeframe, before, 0)
        lead = anchor(timeframe, before, job.strategy.warmup)
        frame = read_frame(connection, job.target, lead, stop)
        frame = _with_trades(connection, job, frame, block, stop)
        higher = _higher(connection, job, block, stop)
        found = judge(job.strategy, frame, frame.find(block), None, higher).last
        if found is not None:
            return found
        stop = block
    return None
