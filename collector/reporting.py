"""The readings of collectors into `system_metrics`, beside their writing and never in its way."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

import psycopg

from collector.metrics import Readings
from market import DAY, DeltatapeError
from storage import database, metrics

log = logging.getLogger(__name__)

REPORT_SECONDS = 10.0
COMPONENT = "collector"
NAME = "deltatape-metrics"
STATEMENT_MILLISECONDS = 5_000
"""A database that is slower than this has better things to do than to take metrics."""


async def keep_reporting(
    url: str, read: Callable[[], Iterable[Readings]], *, seconds: float = REPORT_SECONDS
) -> None:
    """Write what `read()` says, one for each collector, every so many seconds, until cancelled.

    It has a connection of its own. While the database is away, readings are skipped, never kept.
    """
    reporter = Reporter(url)
    try:
        while True:
            await asyncio.sleep(seconds)
            # Shielded: a thread cannot be cancelled, and its connection must not be closed under it.
            writing = asyncio.ensure_future(asyncio.to_thread(reporter.write, list(read())))
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                await writing
                raise
    finally:
        reporter.close()


class Reporter:
    """Writes readings over a connection that it opens when it needs one."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: database.Connection | None = None
        self._forgotten = 0
        self._is_away = False

    def write(self, readings: Sequence[Readings]) -> bool:
        """Write one row for each number; False where the database did not take them."""
        if not readings:
            return True
        try:
            self._write(readings)
        except (DeltatapeError, psycopg.Error) as error:
            if not self._is_away:
                log.info("metrics are not stored: %s", error)
            self._is_away = True
            self.close()
            return False
        self._is_away = False
        return True

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _write(self, readings: Sequence[Readings]) -> None:
        if self._connection is None:
            # Not `deltatape …`: what runs is told by the collectors themselves.
            self._connection = database.connect(self._url, application_name=NAME, autocommit=True)
            self._connection.execute(f"SET statement_timeout = {STATEMENT_MILLISECONDS}")
        for one in readings:
            labels = {"exchange": one.exchange}
            metrics.write_metrics(self._connection, COMPONENT, one.timestamp, one.values(), labels)
        if readings[0].timestamp - self._forgotten >= DAY:
            self._forgotten = readings[0].timestamp
            metrics.forget_metrics(self._connection)
