"""From the tape to stored signals: the newest candles in order, each once, and what the tape revised.

Live and batch go through the same functions. Live, what has closed by now is one transaction, for all that
follow it; where many candles are new, a chunk of them. What nobody waits for, the outcomes of earlier signals
and the values of indicators, is a second one behind it; the state says how far that has come.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from signals.announce import announce
from signals.blocks import anchor
from signals.calibrate import InForce
from signals.indicator_store import Values, write_indicators
from signals.indicator_values import trades_of
from signals.judging import BadStrategy, judge
from signals.options import HORIZONS
from signals.outcomes import Ended, settle
from signals.reading import Tape, last_before, read_higher
from signals.recent import Recent
from signals.registry import find
from signals.rows import calibrated
from signals.store import (
    Key,
    Span,
    State,
    changed_from,
    lock,
    newest_revisions,
    read_states,
    reconcile,
    write_settled,
    write_states,
)
from storage.routes import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from signals.engine import SignalType
    from signals.frame import CandleFrame
    from signals.higher import Higher
    from signals.judging import Judge
    from signals.options import SignalOptions
    from signals.rows import SignalRow
    from signals.store import Written
    from signals.strategies import Strategy
    from signals.target import Target
    from storage.database import Connection
    from storage.routes import Routes

CHUNK = 50_000
"""Candles of one transaction at most."""
CHUNK_WITH_TRADES = 1_440
"""Candles of one transaction whose trades are read too, at most."""


@dataclass(frozen=True)
class Job:
    """A strategy to follow on a target.

    Attributes:
        strategy: what is evaluated.
        target: on whose candles.
        indicators: names whose values are kept on the way.
        routes: where a fresh signal is announced.
        horizons: candles after which it is written what became of its signals.
    """

    strategy: Strategy
    target: Target
    indicators: tuple[str, ...] = ()
    routes: Routes = SILENT
    horizons: tuple[int, ...] = HORIZONS

    @cached_property
    def key(self) -> Key:
        """Whose signals they are."""
        return Key.of(self.strategy, self.target)

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """Whose candles are read: the target's, and those of the timeframes that confirm it."""
        confirming = self.strategy.confirming(self.target.timeframe)
        return (self.target, *(replace(self.target, timeframe=timeframe) for timeframe in confirming))

    @cached_property
    def warmup(self) -> int:
        """Candles before a block that must be read."""
        return max(self.strategy.warmup, *(find(name).warmup for name in self.indicators), 0)


@dataclass(frozen=True, slots=True)
class Step:
    """What one transaction did for a job.

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


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Candles of a job that were evaluated, and what is still to be written of them."""

    job: Job
    span: Span
    frame: CandleFrame
    index: int
    rows: list[SignalRow]
    last: SignalType | None

    @property
    def until(self) -> int:
        """Open time of the last candle, microseconds UTC."""
        return self.span.end - self.job.target.timeframe.microseconds


class Following:
    """Brings jobs up to the newest closed candle, from where they were left, and remembers what it read.

    A tape revision makes a job recompute from the first candle that changed; what differs becomes a new
    revision beside the old one. Nothing is lost or written twice when the process dies, or when two
    processes follow the same job.

    Args:
        connection: in autocommit mode.
        judge: what evaluates a strategy.
        on_bad: told of a job that cannot be evaluated, and why; the others go on. What came before is stored.
    """

    def __init__(
        self,
        connection: Connection,
        judge: Judge = judge,
        on_bad: Callable[[Job, BadStrategy], None] | None = None,
    ) -> None:
        self._connection = connection
        self._judge = judge
        self._on_bad = on_bad
        self._recent = Recent()
        self._in_force = InForce()
        # Where jobs were left that have no type yet, which the table cannot remember.
        self._untyped: dict[Key, State] = {}
        self._unsettled: list[_Part] = []

    def follow(
        self, wanted: Sequence[Job], newest: Mapping[Target, int] | None = None
    ) -> Iterator[list[Step]]:
        """Bring some jobs up to date, transaction by transaction; yields what each did, and then settles it.

        Args:
            wanted: which, in order.
            newest: the open time of each target's newest candle, microseconds UTC, where that is known:
                to look whether there is another one would cost a transaction.

        Raises:
            BadStrategy: one cannot be evaluated, and there is no `on_bad`.
        """
        while wanted:
            steps = self._round(wanted)
            yield steps
            self.settle()
            wanted = [step.job for step in steps if newest is None or step.until < newest[step.job.target]]

    def settle(self) -> None:
        """Write what became of earlier signals, and values of indicators, at the candles followed last.

        A process that dies before leaves it to the next one that follows the job.
        """
        parts, self._unsettled = self._unsettled, []
        if parts:
            with self._connection.transaction():
                lock(self._connection, [part.job.key for part in parts])
                _settle(self._connection, parts, is_newest=True)
                write_settled(self._connection, {part.job.key: part.until for part in parts})

    def _round(self, wanted: Sequence[Job]) -> list[Step]:
        """One transaction: the next chunk of each."""
        connection, keys = self._connection, [job.key for job in wanted]
        with connection.transaction():
            lock(connection, keys)
            # Before any candle is read: what is revised later will be read again.
            revisions = newest_revisions(connection, {job.target for job in wanted})
            states = self._untyped | read_states(connection, keys)
            read = dict.fromkeys(target for job in wanted for target in job.targets)
            tape = self._recent.tape(connection, read, revisions)
            steps: list[Step] = []
            parts: list[_Part] = []
            unsettled: list[_Part] = []
            for job in wanted:
                revision = revisions.get(job.target.instrument, 0)
                state = states.setdefault(job.key, _new_state(job, revision))
                if state.settled_watermark < state.candle_watermark:
                    unsettled.append(_unsettled(job, state, tape))
                try:
                    if revision > state.revision_watermark:
                        steps.append(_redo(connection, job, state, revision, self._judge, self._in_force))
                    elif part := self._next(job, state, revision, tape, len(wanted)):
                        parts.append(part)
                except BadStrategy as error:
                    # A calibration that it found may have been undone.
                    self._in_force = InForce()
                    if self._on_bad is None:
                        raise
                    self._on_bad(job, error)
            written = _write(connection, parts)
            for routes in {step.job.routes for step in written}:
                news = [each for step in written for each in step.written if step.job.routes == routes]
                announce(connection, news, routes)
            steps += written
            new = {
                step.job.key: State(
                    step.until,
                    states[step.job.key].settled_watermark,
                    revisions.get(step.job.target.instrument, 0),
                    step.last,
                )
                for step in steps
            }
            write_states(connection, new)
        self._unsettled = unsettled + parts
        # Not before the commit: a transaction that fails is begun anew from where it began.
        for key, state in new.items():
            self._untyped.pop(key, None)
            if state.last_type is None:
                self._untyped[key] = replace(state, settled_watermark=state.candle_watermark)
        return steps

    def _next(self, job: Job, state: State, revision: int, tape: Tape, among: int) -> _Part | None:
        start = state.candle_watermark + job.target.timeframe.microseconds
        judged = self._judge, self._in_force, revision
        return _part(self._connection, job, start, None, state.last_type, *judged, tape, among)


def jobs(
    strategies: Sequence[Strategy], target: Target, options: SignalOptions, routes: Routes = SILENT
) -> list[Job]:
    """What there is to do on `target`: a job for each strategy that is meant for its timeframe."""
    meant = [each for each in strategies if not each.timeframes or target.timeframe in each.timeframes]
    return [
        # The values kept are the same for every strategy: once is enough.
        Job(each, target, options.indicators if i == 0 else (), routes, options.horizons)
        for i, each in enumerate(meant)
    ]


def _new_state(job: Job, revision: int) -> State:
    """That of a job that nobody has followed yet."""
    before = -job.target.timeframe.microseconds
    return State(before, before, revision, None)


def _unsettled(job: Job, state: State, tape: Tape) -> _Part:
    """What somebody who followed the job left unsettled."""
    length = job.target.timeframe.microseconds
    span = Span(job.key, state.settled_watermark + length, state.candle_watermark + length)
    frame = tape.read(job.target, anchor(job.target.timeframe, span.start, job.warmup), span.end)
    return _Part(job, span, frame, frame.find(span.start), [], state.last_type)


def recompute(connection: Connection, job: Job, start: int, end: int, judge: Judge = judge) -> Iterator[Step]:
    """Make signals and indicators equal to today's tape for the candles that open in [start, end).

    It neither announces anything nor moves the watermark of who follows the job.

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
            lock(connection, [job.key])
            revision = newest_revisions(connection, [job.target]).get(job.target.instrument, 0)
            step = _span(connection, job, start, end, last, judge, in_force, revision)
        if step is None:
            return
        yield step
        start, last = step.until + job.target.timeframe.microseconds, step.last


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
    # A savepoint: a strategy that fails half-way leaves nothing.
    with connection.transaction():
        step = replace(step, last=_type_before(connection, job, start, judge))
        while part := _span(connection, job, start, end, step.last, judge, in_force, newest):
            step = Step(job, step.candles + part.candles, step.until, step.written + part.written, part.last)
            start = part.until + length
    return step


def _span(
    connection: Connection,
    job: Job,
    start: int,
    end: int,
    last: SignalType | None,
    judge: Judge,
    in_force: InForce,
    revision: int,
) -> Step | None:
    """One chunk of the candles that open in [start, end), written; None when there is none."""
    tape = Tape(connection)
    part = _part(connection, job, start, end, last, judge, in_force, revision, tape)
    if part is None:
        # Candles that gave signals once may be gone.
        span = Span(job.key, start, end)
        reconcile(connection, {span: ()})
        settle(connection, [Ended(span, job.horizons)])
        return None
    (step,) = _write(connection, [part])
    _settle(connection, [part], is_newest=False)
    return step


def _part(
    connection: Connection,
    job: Job,
    start: int,
    end: int | None,
    last: SignalType | None,
    judge: Judge,
    in_force: InForce,
    revision: int,
    tape: Tape,
    among: int = 1,
) -> _Part | None:
    """One chunk of the candles that open in [start, end), evaluated; None when there is none.

    Args:
        connection: its transaction is the caller's.
        job: whose.
        start: microseconds UTC.
        end: microseconds UTC; None: to the newest.
        last: the last defined type before.
        judge: what evaluates the strategy.
        in_force: finds calibrations.
        revision: of the tape.
        tape: what is read.
        among: how many share the transaction.
    """
    length = job.target.timeframe.microseconds
    first = tape.first_from(job.target, start)
    if first is None or (end is not None and first >= end):
        return None
    stop = first + -(-(CHUNK_WITH_TRADES if job.strategy.trade_candles else CHUNK) // among) * length
    stop = stop if end is None else min(stop, end)
    frame = tape.read(job.target, anchor(job.target.timeframe, first, job.warmup), stop)
    index = frame.find(first)
    higher = _higher(tape, job, first, stop)
    judged = judge(job.strategy, _with_trades(connection, job, frame, first, stop), index, last, higher)
    found = in_force.find(connection, job.strategy, job.target, judged.rows, judge, revision)
    rows = calibrated(judged.rows, found, job.strategy.thresholds)
    span = Span(job.key, start, int(frame.timestamp[-1]) + length)
    return _Part(job, span, frame, index, rows, judged.last)


def _write(connection: Connection, parts: Sequence[_Part]) -> list[Step]:
    """Store what was evaluated, all of it together."""
    if not parts:
        return []
    written = reconcile(connection, {part.span: part.rows for part in parts})
    return [
        Step(part.job, len(part.frame) - part.index, part.until, written[part.span], part.last)
        for part in parts
    ]


def _settle(connection: Connection, parts: Sequence[_Part], *, is_newest: bool) -> None:
    """Outcomes that end at what was evaluated, and values of indicators there."""
    settle(
        connection,
        [Ended(part.span, part.job.horizons, part.frame if is_newest else None) for part in parts],
    )
    values = (Values(part.job.target, part.frame, part.index, part.job.indicators) for part in parts)
    write_indicators(connection, values)


def _with_trades(connection: Connection, job: Job, frame: CandleFrame, start: int, stop: int) -> CandleFrame:
    """The frame with the trades that the rules read to score its candles from `start` on, where they do."""
    if not job.strategy.trade_candles:
        return frame
    since = start - job.strategy.trade_candles * job.target.timeframe.microseconds
    return frame.with_trades(trades_of(connection, job.target, since, stop))


def _higher(tape: Tape, job: Job, start: int, stop: int) -> Higher:
    timeframes = job.strategy.confirming(job.target.timeframe)
    return read_higher(tape, job.target, timeframes, job.strategy.warmup, start, stop)


def _type_before(connection: Connection, job: Job, start: int, judge: Judge) -> SignalType | None:
    """The last defined type of the candles before `start`, on today's tape."""
    timeframe, stop, tape = job.target.timeframe, start, Tape(connection)
    while (before := last_before(connection, job.target, stop)) is not None:
        block = anchor(timeframe, before, 0)
        frame = tape.read(job.target, anchor(timeframe, before, job.strategy.warmup), stop)
        frame = _with_trades(connection, job, frame, block, stop)
        found = judge(job.strategy, frame, frame.find(block), None, _higher(tape, job, block, stop)).last
        if found is not None:
            return found
        stop = block
    return None
