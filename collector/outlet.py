"""Batches on their way to the tape, in order: straight, or by way of the spool while the database is slow."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from random import uniform

import psycopg

from collector.session import TapeBatch
from collector.spool import Spool, SpoolFull
from collector.stream import InstrumentStream
from collector.writer import Writer
from market import Unavailable
from storage.ledger import Status, Superseded

log = logging.getLogger(__name__)

SLOW_SECONDS = 3.0
"""A write that takes longer is not waited for: what comes meanwhile goes to the spool."""
ROWS_A_WRITE = 50_000
"""Rows of spooled batches that are written together."""
MAX_BACKOFF = 5.0


class Outlet:
    """Writes batches in the order in which they are put in.

    Args:
        writer: its connection is used by one write at a time, in a thread.
        spool: where batches wait while the database is slow or away.
        on_written: told of each batch that is committed; a heartbeat is an empty one.
    """

    def __init__(self, writer: Writer, spool: Spool, on_written: Callable[[TapeBatch], None]) -> None:
        self.writer = writer
        self.spool = spool
        self.given_up_books = 0
        """Book snapshots that found no room."""
        self._on_written = on_written
        self._front: TapeBatch | None = None
        self._kept: TapeBatch | None = None
        self._front_since = 0.0
        self._overflow: TapeBatch | None = None
        self._is_full = False
        self._is_away = False
        self._is_stopping = False
        self._is_putting = False
        self._statuses: Mapping[str, tuple[Status, str]] | None = None
        self._writing = asyncio.Lock()
        self._spooling = asyncio.Lock()
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def is_idle(self) -> bool:
        """Whether everything is written."""
        return self._idle.is_set()

    @property
    def wants(self) -> bool:
        """Whether to put a batch in now, rather than let rows gather for a while longer."""
        if self._overflow is not None:
            return False
        is_slow = time.monotonic() - self._front_since > SLOW_SECONDS
        return self._front is None or self._is_away or is_slow

    async def idle(self, seconds: float) -> bool:
        """Wait until everything is written, so long at most; whether it is."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        return self.is_idle

    async def put(self, batch: TapeBatch) -> None:
        """Take a batch; it is written later, or waits in the spool."""
        if not len(batch):
            return
        self._idle.clear()
        if self._overflow is not None:
            self._overflow.extend(batch)
        elif self._front is None and not self.spool and not self._is_away:
            self._front, self._front_since = batch, time.monotonic()
        else:
            await self._append(batch)
        self._news.set()

    async def retry(self) -> None:
        """Try again to spool what found no room."""
        if self._overflow is not None:
            batch, self._overflow = self._overflow, None
            await self._append(batch)
            self._news.set()

    async def _append(self, batch: TapeBatch) -> None:
        # What is on its way to the disk is not written: nobody may take the tape for whole meanwhile.
        self._is_putting = True
        try:
            await self._spool(batch)
        finally:
            self._is_putting = False

    async def _spool(self, batch: TapeBatch) -> None:
        async with self._spooling:
            try:
                await self._keep_front()
                kept = await self._keep(self.spool.append, batch)
            except SpoolFull as error:
                reason = str(error)
            else:
                self.given_up_books += batch.books - kept.books
                self._is_full = False
                return
        if not self._is_full:
            log.error("%s: nothing more is read until there is room", reason)
        self._overflow, self._is_full = batch, True

    async def _keep_front(self) -> None:
        """What is being written lies on the disk before what follows it does.

        Should this process be killed, there is no later batch without the hole that an earlier one tells of.
        """
        if self._front is not None and self._kept is None:
            self._kept = await self._keep(self.spool.put_first, self._front)

    async def _keep(self, put: Callable[[TapeBatch], None], batch: TapeBatch) -> TapeBatch:
        """Put a batch on the disk, without its books where they find no room; what was put."""
        try:
            await asyncio.to_thread(put, batch)
        except SpoolFull:
            batch = batch.without_books()
            await asyncio.to_thread(put, batch)
        return batch

    # Writing

    def beat(self, statuses: Mapping[str, tuple[Status, str]]) -> None:
        """Tell the database soon that this collector lives, and how its streams are."""
        self._statuses = statuses
        self._news.set()

    async def restore(self, stream: InstrumentStream) -> None:
        """Let a stream go on from what is stored of it; everything must be written."""
        async with self._writing:
            restoring = asyncio.create_task(asyncio.to_thread(self.writer.restore, stream))
            try:
                await asyncio.shield(restoring)
            finally:
                # Cancelled or not, until it is done the thread has the connection.
                await asyncio.wait({restoring})

    def stop(self) -> None:
        """Let `run` end: once all is written, or at once while the database is away."""
        self._is_stopping = True
        self._news.set()

    async def run(self) -> None:
        """Write until `stop`.

        Raises:
            Superseded: another collector has taken over.
        """
        delay = 0.2
        while await self._has_work():
            try:
                await self._work()
            except Superseded:
                raise
            except (psycopg.OperationalError, psycopg.InterfaceError, Unavailable) as error:
                if not self._is_away:
                    reason = str(error).strip().partition("\n")[0]
                    log.warning("the database is away: %s; what comes is spooled", reason)
                self._is_away = True
                await self._put_back()
                await asyncio.sleep(uniform(delay / 2, delay))
                delay = min(2 * delay, MAX_BACKOFF)
                await self._reconnect()
            else:
                if self._is_away:
                    log.warning("the database is back")
                delay, self._is_away = 0.2, False

    async def _has_work(self) -> bool:
        """Wait for something to do; False once stopped, and nothing is left that can be done."""
        while True:
            is_left = self._front is not None or self._overflow is not None or bool(self.spool)
            has_news = is_left or self._statuses is not None
            if self._is_stopping and (self._is_away or not has_news):
                return False
            if has_news or self._is_away:
                return True
            if not self._is_putting:
                self._idle.set()
            self._news.clear()
            await self._news.wait()

    async def _work(self) -> None:
        statuses, self._statuses = self._statuses, None
        if statuses is not None or self._is_away:
            async with self._writing:
                await asyncio.to_thread(self.writer.beat, statuses or {})
            self._on_written(TapeBatch())
        batch = await self._next()
        if batch is not None:
            async with self._writing:
                await asyncio.to_thread(self.writer.write, batch)
            await self._written(batch)

    async def _next(self) -> TapeBatch | None:
        """The batch to write; None where there is none."""
        if self._front is None and self.spool:
            async with self._spooling:
                batch = await asyncio.to_thread(self.spool.first, ROWS_A_WRITE)
            if batch is not None:
                return batch
        if self._front is None:
            self._front, self._overflow = self._overflow, None
        return self._front

    async def _written(self, batch: TapeBatch) -> None:
        # While one from the spool is dropped, the next may be put straight to the front: it stays there.
        is_front = self._front is batch
        async with self._spooling:
            if is_front and self._kept is not None:
                await asyncio.to_thread(self.spool.first, 1)
            if not is_front or self._kept is not None:
                await asyncio.to_thread(self.spool.drop)
            if is_front:
                self._front = self._kept = None
        self._on_written(batch)

    async def _put_back(self) -> None:
        """What could not be written waits on the disk, where a kill does not reach it."""
        if self._front is None:
            return
        async with self._spooling:
            with suppress(SpoolFull):
                await self._keep_front()
                if self._kept is not None:
                    self.given_up_books += self._front.books - self._kept.books
                    self._front = self._kept = None

    async def _reconnect(self) -> None:
        with suppress(psycopg.Error):
            try:
                await asyncio.to_thread(self.writer.reconnect)
            except Superseded:
                raise
            except Unavailable as error:
                log.debug("%s", error)

    async def close(self) -> None:
        """Keep what is not written on the disk; raises Unavailable where even that is not possible."""
        await self._put_back()
        await self.retry()
        left = self.spool.batches
        await asyncio.to_thread(self.spool.close)
        if self._front is not None or self._overflow is not None:
            raise Unavailable("the database is away, and there is no room to keep the last rows")
        if left:
            raise Unavailable(
                f"the database is away: what came last waits in {self.spool.folder}, and is written when"
                " deltatape collect runs for this exchange again"
            )
