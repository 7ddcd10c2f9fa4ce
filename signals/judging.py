"""One strategy on one stretch of candles: pure where it ships, kept apart where somebody else wrote it.

What a strategy does wrong ends its own turn and no other's: it raises, it gives no scores, or it takes too
long. One of somebody's own is evaluated in a process beside ours, which is ended when its time is over.
"""

from __future__ import annotations

import multiprocessing
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from market import DeltatapeError
from signals.engine import SignalType, evaluate
from signals.rows import SignalRow, last_type, signal_rows
from signals.strategies import Strategy, known

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

    from signals.frame import CandleFrame
    from signals.higher import Higher
    from signals.options import SignalOptions


class BadStrategy(DeltatapeError):
    """A strategy cannot be evaluated; the others can."""


class TooSlow(BadStrategy):
    """It took longer than it may."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a strategy says of some candles.

    Attributes:
        rows: what is to be stored.
        last: its last defined type, None where there is none yet.
    """

    rows: list[SignalRow]
    last: SignalType | None


class Judge(Protocol):
    """What evaluates a strategy: the function `judge`, or `Apart.judge`."""

    def __call__(
        self,
        strategy: Strategy,
        frame: CandleFrame,
        start: int,
        last: SignalType | None,
        higher: Higher,
        *,
        is_explained: bool = True,
    ) -> Judged:
        """As the function `judge`."""


def judge(
    strategy: Strategy,
    frame: CandleFrame,
    start: int,
    last: SignalType | None,
    higher: Higher,
    *,
    is_explained: bool = True,
) -> Judged:
    """Evaluate the candles of `frame` from index `start` on.

    Args:
        strategy: what is evaluated.
        frame: its candles, with what they depend on before `start`.
        start: index of the first candle to evaluate.
        last: the last defined type before it.
        higher: candles of the timeframes that confirm it.
        is_explained: whether the rows are to have reasons, which take most of the time.

    Raises:
        BadStrategy: a rule or an indicator raises, or gives no scores.
    """
    try:
        series = evaluate(strategy, frame, start, higher)
        rows = signal_rows(strategy, frame, start, series, last, higher, is_explained=is_explained)
    except Exception as error:
        raise BadStrategy(f"strategy {strategy.name}: {type(error).__name__}: {error}") from error
    return Judged(rows, last_type(series.type) or last)


class Apart:
    """Evaluates strategies of one's own in a process that can be ended.

    Args:
        options: where they are, and how long they may take.

    Attributes:
        ended: names of those that took longer; they are not tried again.
    """

    def __init__(self, options: SignalOptions) -> None:
        self._options = options
        self.ended: set[str] = set()
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None

    def judge(
        self,
        strategy: Strategy,
        frame: CandleFrame,
        start: int,
        last: SignalType | None,
        higher: Higher,
        *,
        is_explained: bool = True,
    ) -> Judged:
        """As the function `judge`.

        Raises:
            BadStrategy: as there, or its process died.
            TooSlow: its time is over.
        """
        if not strategy.source:
            return judge(strategy, frame, start, last, higher, is_explained=is_explained)
        limit = self._options.time_limit
        too_slow = TooSlow(f"strategy {strategy.name}: not done after {limit:g} s, and ended")
        if strategy.name in self.ended:
            raise too_slow
        try:
            pipe = self._begin()
            # Parts of frames: what they remember stays here.
            seen = {timeframe: candles.part(0, len(candles)) for timeframe, candles in higher.items()}
            pipe.send((strategy.name, frame.part(0, len(frame)), start, last, seen, is_explained))
            if not pipe.poll(limit):
                self.close()
                self.ended.add(strategy.name)
                raise too_slow
            answer = pipe.recv()
        except (EOFError, OSError):
            self.close()
            raise BadStrategy(f"strategy {strategy.name}: its process died") from None
        if isinstance(answer, str):
            raise BadStrategy(answer)
        found: Judged = answer
        return found

    def _begin(self) -> Connection:
        if self._pipe is None:
            spawn = multiprocessing.get_context("spawn")
            self._pipe, theirs = spawn.Pipe()
            self._process = spawn.Process(target=_serve, args=(theirs, self._options), daemon=True)
            self._process.start()
            theirs.close()
            # Starting takes a second that is not the strategy's.
            self._pipe.recv()
        return self._pipe

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._pipe is not None:
            self._pipe.close()
            self._process.kill()
            self._process.join()
        self._process = self._pipe = None


def _serve(pipe: Connection, options: SignalOptions) -> None:
    # Ctrl-C in the terminal is for whoever asks.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe.send("ready")
    while True:
        try:
            name, frame, start, last, higher, is_explained = pipe.recv()
        except EOFError:
            return
        try:
            strategy = known(name, options)
            pipe.send(judge(strategy, frame, start, last, higher, is_explained=is_explained))
        except DeltatapeError as error:
            pipe.send(str(error))
