"""A collector's readings into `system_metrics`, beside its writing and never in its way."""

import asyncio
import logging
from collections.abc import Callable

import psycopg

from collector.metrics import Readings
from market import DAY, DeltatapeError
from storage import database, metrics

log = logging.getLogger(__name__)

REPORT_SECONDS = 10.0
COMPONENT = "collector"
STATEMENT_MILLISECONDS = 5_000
"""A database that is slower than this has better things to do than to take metrics."""


async def keep_reporting(url: str, read: Callable[[], Readings], *, seconds: float = REPORT_SECONDS) -> None:
    """Write what `read()` says every so many seconds, until cancelled.

    It has a connection of its own. While the database is away, readings are skipped, never kept.
    """
    reporter = Reporter(url)
    try:
        while True:
            await asyncio.sleep(seconds)
            # Shielded: a thread cannot be cancelled, and its connection must not be closed under it.
            writing = asyncio.ensure_future(asyncio.to_thread(reporter.write, read()))
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

    def write(self, readings: Readings) -> bool:
        """Write one row for each number; False where the database did not take them."""
        try:
            self._write(readings)
        except (DeltatapeError, psycopg.Error) as error:
            if not self._is_away:
                log.info("metrics of %s are not stored: %s", readings.exchange, error)
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

    def _write(self, readings: Readings) -> None:
        if self._connection is None:
            # Not `deltatape …`: what runs is told by the collectors themselves.
            name = f"deltatape-metrics {readings.exchange}"
            self._connection = database.connect(self._url, application_name=name, autocommit=True)
            self._connection.execute(f"SET statement_timeout = {STATEMENT_MILLISECONDS}")
        labels = {"exchange": readings.exchange}
        metrics.write_metrics(self._connection, COMPONENT, readings.timestamp, readings.values(), labels)
        if readings.timestamp - self._forgotten >= DAY:
            self._forgotten = readings.timestamp
            metrics.forget_metrics(self._connection)
