"""Signals live: wakes when candles close, and brings every strategy up to the newest one."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from signals.calibrate import InForce
from signals.follow import Step, follow, jobs
from signals.judging import Apart, BadStrategy, TooSlow
from signals.recent import Recent
from signals.strategies import configured
from signals.target import Target, newest_closed, stored_targets
from storage.database import connect, require_schema
from storage.notify import listen
from storage.reconnect import reconnecting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from threading import Event

    from signals.options import SignalOptions
    from signals.store import Key, State
    from signals.target import Selection
    from storage.database import Connection

log = logging.getLogger(__name__)

CHANNEL = "candles"
POLL_SECONDS = 1.0
# Looking for new instruments costs a step of the index for each that is known.
_LOOK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a target was when it was last followed: its newest candle and tape revision."""

    candle: int
    revision: int


class Follower:
    """Follows the configured strategies on the selected targets; `advance` does what there is to do.

    Args:
        connection: in autocommit mode.
        options: strategies, indicators, thresholds, channels.
        selection: which targets.

    Raises:
        WrongUse: the options name a strategy that does not exist.
    """

    def __init__(self, connection: Connection, options: SignalOptions, selection: Selection) -> None:
        self._connection = connection
        self._options = options
        self._selection = selection
        self._strategies = configured(options)
        self._targets: list[Target] = []
        self._seen: dict[Target, _Seen] = {}
        self._untyped: dict[Key, State] = {}
        self._apart = Apart(options)
        self._recent = Recent()
        self._in_force = InForce()
        self._bad: dict[str, str] = {}
        self._too_slow: set[str] = set()

    def look(self) -> None:
        """Find the targets that candles are stored of by now."""
        self._targets = stored_targets(self._connection, self._selection)

    def advance(self) -> Iterator[Step]:
        """Follow each target with new candles or revisions to its end; yields each chunk's result."""
        revisions = _revisions(self._connection)
        for target, candle in newest_closed(self._connection, self._targets).items():
            seen = _Seen(candle, revisions.get((target.exchange, target.symbol), 0))
            if self._seen.get(target) != seen:
                yield from self._follow(target, candle)
                self._seen[target] = seen

    def _follow(self, target: Target, newest: int) -> Iterator[Step]:
        for job in jobs(self._strategies, target, self._options, self._options.alert_channels):
            name = job.strategy.name
            if name in self._too_slow:
                continue
            try:
                ways = (self._apart.judge, self._recent.read, self._in_force)
                steps = follow(self._connection, job, self._untyped, *ways)
                for step in steps:
                    yield step
                    if step.until >= newest:
                        # Looking for more would cost a transaction.
                        break
            except BadStrategy as error:
                # The others go on; this one is tried again when the next candle closes.
                if self._bad.get(name) != str(error):
                    log.warning("%s; the other strategies go on", error)
                self._bad[name] = str(error)
                if isinstance(error, TooSlow):
                    self._too_slow.add(name)

    def close(self) -> None:
        """End what was started beside it."""
        self._apart.close()


def run(url: str, options: SignalOptions, selection: Selection, stop: Event) -> Iterator[tuple[Step, ...]]:
    """Follow until `stop` is set; yields what each wake did, also when that is nothing.

    The database is the truth: a notification only wakes, and a poll each second finds what a lost one
    would have told. While the database is away it waits, and goes on where the tables say it was left.

    Args:
        url: the database.
        options: strategies, indicators, thresholds, channels.
        selection: which targets.
        stop: set to end between two transactions.

    Raises:
        WrongUse: the options name what does not exist.
        Unavailable: the database does not answer, or has no tables.
    """
    return reconnecting(url, lambda: _run(url, options, selection, stop), stop)


def _run(url: str, options: SignalOptions, selection: Selection, stop: Event) -> Iterator[tuple[Step, ...]]:
    with connect(url, application_name="deltatape signals", autocommit=True) as connection:
        require_schema(connection)
        follower = Follower(connection, options, selection)
        look_again = 0.0
        with closing(follower):
            for _ in listen(url, [CHANNEL], timeout=POLL_SECONDS):
                if time.monotonic() >= look_again:
                    follower.look()
                    look_again = time.monotonic() + _LOOK_SECONDS
                done: list[Step] = []
                for step in follower.advance():
                    done.append(step)
                    if stop.is_set():
                        break
                yield tuple(done)
                if stop.is_set():
                    return


def _revisions(connection: Connection) -> dict[tuple[str, str], int]:
    rows = connection.execute("SELECT exchange, symbol, max(id) FROM tape_revisions GROUP BY 1, 2")
    return {(exchange, symbol): number for exchange, symbol, number in rows}
