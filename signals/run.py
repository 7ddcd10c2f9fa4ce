"""Signals live: wakes when candles close, and brings every strategy up to the newest one."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from signals.follow import Following, Job, Step, jobs
from signals.judging import Apart, BadStrategy
from signals.store import newest_revisions
from signals.strategies import configured
from signals.target import Target, newest_closed, stored_targets
from storage.database import connect, require_schema
from storage.notify import listen
from storage.reconnect import reconnecting
from storage.routes import TO_CONSOLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from threading import Event

    from signals.options import SignalOptions
    from signals.target import Selection
    from storage.database import Connection
    from storage.routes import Routes

log = logging.getLogger(__name__)

CHANNEL = "candles"
POLL_SECONDS = 1.0
# Looking for new instruments costs a step of the index for each that is known.
_LOOK_SECONDS = 5.0
# With more new candles than this a target is followed by itself, in chunks.
_NEAR = 60


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a target was when it was last followed: its newest candle and tape revision."""

    candle: int
    revision: int


class Follower:
    """Follows the configured strategies on the selected targets; `advance` does what there is to do.

    Args:
        connection: in autocommit mode.
        options: strategies, indicators, thresholds.
        selection: which targets.
        routes: where fresh signals are announced.

    Raises:
        WrongUse: the options name a strategy that does not exist.
    """

    def __init__(
        self,
        connection: Connection,
        options: SignalOptions,
        selection: Selection,
        routes: Routes = TO_CONSOLE,
    ) -> None:
        self._connection = connection
        self._options = options
        self._selection = selection
        self._routes = routes
        self._strategies = configured(options)
        self._targets: list[Target] = []
        self._seen: dict[Target, _Seen] = {}
        self._apart = Apart(options)
        self._following = Following(connection, self._apart.judge, self._tell)
        self._jobs: dict[Target, list[Job]] = {}
        self._bad: dict[str, str] = {}

    def look(self) -> None:
        """Find the targets that candles are stored of by now."""
        self._targets = stored_targets(self._connection, self._selection)
        for target in self._targets:
            if target not in self._jobs:
                self._jobs[target] = jobs(self._strategies, target, self._options, self._routes)

    def advance(self) -> Iterator[list[Step]]:
        """Follow each target with new candles or revisions to its end; yields what each transaction did.

        Those that only a few candles have closed of go first, together.
        """
        revisions = newest_revisions(self._connection, self._targets)
        newest = newest_closed(self._connection, self._targets)
        now = {
            target: _Seen(candle, revisions.get(target.instrument, 0)) for target, candle in newest.items()
        }
        changed = [target for target, seen in now.items() if self._seen.get(target) != seen]
        near = [target for target in changed if self._is_near(target, now[target])]
        for together in (near, *([target] for target in changed if target not in near)):
            yield from self._follow(together, newest)
            self._seen |= {target: now[target] for target in together}

    def _is_near(self, target: Target, now: _Seen) -> bool:
        seen = self._seen.get(target)
        if seen is None or seen.revision != now.revision:
            return False
        return now.candle - seen.candle <= _NEAR * target.timeframe.microseconds

    def settle(self) -> None:
        """Write what nobody waits for, of what was yielded last; asking for the next does so too."""
        self._following.settle()

    def _follow(self, targets: Sequence[Target], newest: Mapping[Target, int]) -> Iterator[list[Step]]:
        for together in self._together([job for target in targets for job in self._jobs[target]]):
            yield from self._following.follow(together, newest)

    def _together(self, wanted: Sequence[Job]) -> Iterator[list[Job]]:
        """Those that ship, and then each of one's own, which may take its time, by itself."""
        for name in dict.fromkeys(job.strategy.name if job.strategy.source else "" for job in wanted):
            yield [
                job
                for job in wanted
                if name == (job.strategy.name if job.strategy.source else "")
                and name not in self._apart.ended
            ]

    def _tell(self, job: Job, error: BadStrategy) -> None:
        # The others go on; this one is tried again when the next candle closes.
        name = job.strategy.name
        if self._bad.get(name) != str(error):
            log.warning("%s; the other strategies go on", error)
        self._bad[name] = str(error)

    def close(self) -> None:
        """End what was started beside it."""
        self._apart.close()


def run(
    url: str, options: SignalOptions, selection: Selection, stop: Event, routes: Routes = TO_CONSOLE
) -> Iterator[list[Step]]:
    """Follow until `stop` is set; yields what each transaction did, and after each wake an empty list.

    The database is the truth: a notification only wakes, and a poll each second finds what a lost one
    would have told. While the database is away it waits, and goes on where the tables say it was left.

    Args:
        url: the database.
        options: strategies, indicators, thresholds.
        selection: which targets.
        stop: set to end between two transactions.
        routes: where fresh signals are announced.

    Raises:
        WrongUse: the options name what does not exist.
        Unavailable: the database does not answer, or has no tables.
    """
    return reconnecting(url, lambda: _run(url, options, selection, stop, routes), stop)


def _run(
    url: str, options: SignalOptions, selection: Selection, stop: Event, routes: Routes
) -> Iterator[list[Step]]:
    with connect(url, application_name="deltatape signals", autocommit=True) as connection:
        require_schema(connection)
        follower = Follower(connection, options, selection, routes)
        follower.look()
        look_again = time.monotonic() + _LOOK_SECONDS
        with closing(follower):
            for _ in listen(url, [CHANNEL], timeout=POLL_SECONDS):
                for steps in follower.advance():
                    yield steps
                    follower.settle()
                    if stop.is_set():
                        return
                yield []
                if stop.is_set():
                    return
                # Once what has closed is done, which somebody waits for.
                if time.monotonic() >= look_again:
                    follower.look()
                    look_again = time.monotonic() + _LOOK_SECONDS
