"""Everything in one process: collectors, signals, alerts and scheduled sweeps over one database.

The parts meet in the database alone, so each could as well run in a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from threading import Event
from typing import TYPE_CHECKING

from collector.collect import open_collector, wall_clock
from market import DeltatapeError, WrongUse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from apscheduler.schedulers.background import BackgroundScheduler

    from alerts.channels import Channel
    from collector.collect import Collector, Target
    from deltatape.settings import Settings, SweepOptions

log = logging.getLogger(__name__)

RESTART_SECONDS = 5.0


class Daemon:
    """Runs every part until it is stopped; a part that fails for something outside is started again.

    Args:
        settings: what to follow, announce and sweep.
        url: the database.
        targets: what to collect, from where.
        channels: where alerts go, by name.
    """

    def __init__(
        self,
        settings: Settings,
        url: str,
        targets: Sequence[Target],
        channels: Mapping[str, Channel],
    ) -> None:
        self.collectors: list[Collector] = []
        self._settings = settings
        self._url = url
        self._targets = targets
        self._channels = channels
        self._stop = Event()

    async def run(self, *, wait: bool = False) -> None:
        """Run until cancelled; what came is committed before it returns.

        Args:
            wait: wait for an exchange that is missing at the start instead of raising Unavailable.

        Raises:
            WrongUse: what is configured does not exist.
            Unavailable: an exchange or the database is missing at the start.
        """
        scheduler = self._schedule()
        parts: list[asyncio.Task[None]] = []
        try:
            for target in self._targets:
                self.collectors.append(await open_collector(target, self._url, wait=wait))
            parts += [
                asyncio.create_task(self._keep_collecting(number)) for number in range(len(self._targets))
            ]
            parts += [
                asyncio.create_task(asyncio.to_thread(self._keep, "signals", self._follow_signals)),
                asyncio.create_task(asyncio.to_thread(self._keep, "alerts", self._send_alerts)),
            ]
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_EXCEPTION)
            for part in done:
                part.result()
        finally:
            # A thread's task cannot be cancelled: the threads see the event, and end between two steps.
            self._stop.set()
            for part in parts[: len(self._targets)]:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            scheduler.shutdown(wait=False)
            for collector in self.collectors:
                await collector.close()

    async def _keep_collecting(self, number: int) -> None:
        """Run one collector; when it fails, the others go on, and it is opened again."""
        while True:
            try:
                await self.collectors[number].run()
            except Exception as error:  # noqa: BLE001 - one exchange's trouble must not end the others
                log.warning("collecting from %s: %s; starting again", self._targets[number].exchange, error)
            await self.collectors[number].close()
            await asyncio.sleep(RESTART_SECONDS)
            with contextlib.suppress(DeltatapeError):
                self.collectors[number] = await open_collector(self._targets[number], self._url, wait=True)

    def _keep(self, name: str, work: Callable[[], None]) -> None:
        """Run a part until it is stopped; when it fails, the others go on, and it is started again.

        Raises:
            WrongUse: it is configured wrongly, which trying again does not mend.
        """
        while not self._stop.is_set():
            try:
                work()
            except WrongUse:
                raise
            except Exception as error:  # noqa: BLE001 - one part's trouble must not end the others
                log.warning("%s: %s; starting again", name, error)
                self._stop.wait(RESTART_SECONDS)

    def _follow_signals(self) -> None:
        from signals.run import run
        from signals.target import Selection

        for _ in run(self._url, self._settings.signals, Selection(), self._stop):
            pass

    def _send_alerts(self) -> None:
        from alerts.dispatcher import run

        for _ in run(self._url, self._channels, wall_clock, self._stop):
            pass

    def _schedule(self) -> BackgroundScheduler:
        from apscheduler.schedulers.background import BackgroundScheduler

        scheduler = BackgroundScheduler(timezone="UTC")
        for options in self._settings.sweep:
            hour, minute = options.at.split(":")
            scheduler.add_job(
                _sweep_quietly,
                "cron",
                (self._url, options),
                hour=int(hour),
                minute=int(minute),
                misfire_grace_time=3600,
                coalesce=True,
            )
        scheduler.start()
        return scheduler


def _sweep_quietly(url: str, options: SweepOptions) -> None:
    from deltatape.sweeps import run_sweep

    try:
        done = run_sweep(url, options)
    except DeltatapeError as error:
        log.warning("sweep of %s on %s: %s", options.strategy, options.symbol, error)
    else:
        log.info("sweep of %s on %s: %s runs", options.strategy, options.symbol, done.total if done else 0)
