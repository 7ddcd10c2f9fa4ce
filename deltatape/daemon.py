"""Everything in one process: collectors, signals, alerts, scheduled sweeps and upkeep over one database.

The parts meet in the database alone, so each could as well run in a process of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from threading import Event as Stop
from typing import TYPE_CHECKING

from alerts.watching import tell_of_collectors
from collector.collect import open_collector, prepare_process
from deltatape import upkeep
from deltatape.outage import Outage
from deltatape.parts import Part
from deltatape.sweeps import sweep_of_the_day
from deltatape.telegram_bot import bot_options, is_configured
from market import DeltatapeError, Unavailable, WrongUse
from storage import database
from storage.clock import wall_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from apscheduler.schedulers.background import BackgroundScheduler

    from alerts.dispatcher import Outlet
    from collector.collect import Collector, Target
    from collector.metrics import Readings
    from deltatape.settings import Settings

log = logging.getLogger(__name__)

RESTART_SECONDS = 5.0
RECOVERED_SECONDS = 60.0
"""A part that failed is well again after it has run for so long."""


class Daemon:
    """Runs its parts until it is stopped; a part that fails for something outside is started again.

    Args:
        settings: what to follow, announce and sweep.
        url: the database.
        targets: what to collect, from where.
        outlets: where alerts go, by name.
        parts: what to run; all of it by default.
    """

    def __init__(
        self,
        settings: Settings,
        url: str,
        targets: Sequence[Target],
        outlets: Mapping[str, Outlet],
        parts: Collection[Part] = tuple(Part),
    ) -> None:
        self.collectors: list[Collector] = []
        """Those that run."""
        self._settings = settings
        self._url = url
        self._targets = targets if Part.COLLECTOR in parts else ()
        self._outlets = outlets
        self._parts = parts
        self._stop = Stop()
        self._waiting = list(self._targets)
        self._failures: dict[str, tuple[float, str]] = {}
        # Of several processes, the one that sends alerts says it.
        self._outage = Outage(settings if Part.ALERTS in parts else None)

    async def run(self, *, wait: bool = False) -> None:
        """Run until cancelled; what came is committed before it returns.

        Args:
            wait: wait for what is missing at the start instead of raising Unavailable.

        Raises:
            WrongUse: what is configured does not exist.
            Unavailable: an exchange or the database is missing at the start; or, at the end, the database is
                away, and what came last waits in the spool.
        """
        await self._reach_database(wait=wait)
        prepare_process()
        scheduler = self._schedule() if {Part.SWEEPS, Part.UPKEEP} & set(self._parts) else None
        collecting = [
            asyncio.create_task(self._keep_collecting(target, wait=wait)) for target in self._targets
        ]
        followed = {Part.SIGNALS: self._follow_signals, Part.ALERTS: self._send_alerts}
        if is_configured(self._settings):
            followed[Part.TELEGRAM] = self._answer_on_telegram
        following = [
            asyncio.create_task(asyncio.to_thread(self._keep, part, work))
            for part, work in followed.items()
            if part in self._parts
        ]
        watching = asyncio.create_task(self._watch_database())
        try:
            await asyncio.wait([*collecting, *following, watching], return_when=asyncio.FIRST_EXCEPTION)
        finally:
            # A thread's task cannot be cancelled: the threads see the event, and end between two steps.
            self._stop.set()
            for task in (*collecting, watching):
                task.cancel()
            ended = await asyncio.gather(*collecting, *following, watching, return_exceptions=True)
            if scheduler is not None:
                scheduler.shutdown(wait=False)
            for error in ended:
                if isinstance(error, Exception):
                    raise error

    def readings(self) -> list[Readings]:
        """What each collector measures."""
        return [collector.readings() for collector in self.collectors]

    def problems(self) -> list[str]:
        """What is wrong beside what the collectors say, a line each."""
        found = [f"{target.exchange}: not collecting" for target in self._waiting]
        now = time.monotonic()
        return found + [
            f"{name}: {reason}"
            for name, (failed, reason) in self._failures.items()
            if now - failed < RECOVERED_SECONDS
        ]

    async def _reach_database(self, *, wait: bool) -> None:
        while True:
            try:
                return await asyncio.to_thread(self._check_database)
            except Unavailable as error:
                if not wait:
                    raise
                self._failures["database"] = (time.monotonic(), str(error))
                log.warning("%s; trying again", error)
                await self._outage.note(str(error))
            await asyncio.sleep(RESTART_SECONDS)

    async def _watch_database(self) -> None:
        """Notice that the database is away even where nothing is written for a while."""
        while True:
            try:
                await asyncio.to_thread(self._check_database)
            except DeltatapeError as error:
                self._failures["database"] = (time.monotonic(), str(error))
                await self._outage.note(str(error))
            else:
                self._failures.pop("database", None)
                await self._outage.note(None)
            await asyncio.sleep(RESTART_SECONDS)

    def _check_database(self) -> None:
        with database.connect(self._url, application_name="deltatape-health") as connection:
            database.require_schema(connection)
            row = connection.execute("SELECT current_setting('transaction_read_only')").fetchone()
            if row != ("off",):
                raise Unavailable(f"{database.describe(self._url)} takes no writes")
            if Part.ALERTS in self._parts:
                alerts = self._settings.alerts
                tell_of_collectors(connection, alerts.routes(), alerts.down_seconds)

    async def _keep_collecting(self, target: Target, *, wait: bool) -> None:
        """Run one collector; when it fails, the others go on, and it is opened again.

        Raises:
            WrongUse, Unavailable: it cannot be opened the first time.
            Unavailable: stopped while the database is away.
        """
        has_begun = False
        while True:
            try:
                collector = await open_collector(
                    target,
                    self._url,
                    self._settings.spool,
                    spool_bytes=self._settings.spool_bytes,
                    wait=wait or has_begun,
                    routes=self._settings.alerts.routes(),
                )
            except DeltatapeError as error:
                if not has_begun:
                    raise
                log.warning("collecting from %s: %s; trying again", target.exchange, error)
            else:
                has_begun = True
                await self._collect(target, collector)
            await asyncio.sleep(RESTART_SECONDS)

    async def _collect(self, target: Target, collector: Collector) -> None:
        self.collectors.append(collector)
        self._waiting.remove(target)
        try:
            await collector.run()
        except Exception as error:
            if self._stop.is_set():
                raise
            log.warning("collecting from %s: %s; starting again", target.exchange, error)
        finally:
            self.collectors.remove(collector)
            self._waiting.append(target)
            await collector.close()

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
                self._failures[name] = (time.monotonic(), str(error))
                self._stop.wait(RESTART_SECONDS)

    def _follow_signals(self) -> None:
        from signals.run import run
        from signals.target import Selection

        routes = self._settings.alerts.routes()
        for _ in run(self._url, self._settings.signals, Selection(), self._stop, routes):
            pass

    def _send_alerts(self) -> None:
        from alerts.run import run

        run(self._url, self._outlets, wall_clock, self._stop)

    def _answer_on_telegram(self) -> None:
        from alerts.telegram.run import run

        try:
            run(self._url, bot_options(self._settings), self._stop)
        except WrongUse as error:
            # A token that was taken back must not end the collectors.
            raise Unavailable(str(error)) from None

    def _schedule(self) -> BackgroundScheduler:
        from apscheduler.schedulers.background import BackgroundScheduler

        scheduler = BackgroundScheduler(timezone="UTC")

        def each_day(at: str, work: Callable[..., None], *given: object) -> None:
            hour, minute = map(int, at.split(":"))
            timing = {"hour": hour, "minute": minute, "misfire_grace_time": 3600, "coalesce": True}
            scheduler.add_job(work, "cron", given, **timing)

        if Part.SWEEPS in self._parts:
            for options in self._settings.sweep:
                each_day(options.at, sweep_of_the_day, self._url, options, self._settings)
        if Part.UPKEEP in self._parts:
            each_day(self._settings.upkeep.at, upkeep.run, self._url, self._settings, self._stop)
        scheduler.start()
        return scheduler
