"""Collecting from an exchange, live: feed → outlet → tape, holes healed beside it, until told to stop."""

import asyncio
import contextlib
import gc
import logging
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import psycopg

from collector import exchanges
from collector.exchanges.adapter import Adapter, MalformedMessage
from collector.feed import Clock, Feed, Tap
from collector.heal import Healer
from collector.lookout import Lookout
from collector.metrics import Meter, Readings
from collector.outlet import Outlet
from collector.rest import Rest
from collector.session import Counts, Session, TapeBatch
from collector.spool import Spool, left_behind, own_spool
from collector.stream import InstrumentStream
from collector.writer import Taken, Writer, proof_of
from market import Instrument, Trade, Unavailable, WrongUse
from storage import database, healing
from storage.clock import wall_clock
from storage.instruments import refresh_instruments
from storage.ledger import Status
from storage.routes import SILENT, Routes

log = logging.getLogger(__name__)

FLUSH_SECONDS = 0.25
"""How long rows gather before they are written."""
MANY_MESSAGES = 5_000
"""With so many taken, what they became is written as soon as the batch before it is."""
TRACKED_OBJECTS = 20_000
"""How many more there must be before cycles are looked for."""
SWITCH_SECONDS = 0.001
"""How long one thread may keep another waiting."""
BEAT_SECONDS = 1.0
"""How often the database is told that this collector lives, at least."""
STANDBY_SECONDS = 0.25
"""How often a collector that stands by looks whether its turn has come."""
RESTORE_SECONDS = 2.0
"""How long reading may be held up until all is written and a stream can go on from the rows."""
REFRESH_SECONDS = 86_400.0
"""How often the exchange's instruments are asked for."""
MAX_BACKOFF = 10.0
STOP_SECONDS = 10.0
"""How long the database may be away before a collector that is stopping leaves the rest in the spool."""
DEFAULT_SPOOL_BYTES = 4 * 1024**3
_ROWS_A_DRAIN = 50_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What to collect, and from where: URLs replace scheme, host and port of the exchange's own.

    `protocol` is what the simulated exchange speaks.
    """

    exchange: str
    symbols: tuple[str, ...]
    ws_url: str | None = None
    rest_url: str | None = None
    protocol: str | None = None

    def __post_init__(self) -> None:
        check_url("--ws-url", self.ws_url, "ws", "wss")
        check_url("--rest-url", self.rest_url, "http", "https")

    def adapter(self) -> Adapter:
        """A new adapter of the exchange.

        Raises:
            WrongUse: there is none, or nobody speaks its protocol any more.
        """
        if self.exchange == "simulated" and self.protocol is not None:
            return exchanges.simulated(self.protocol)
        adapter = exchanges.find(self.exchange)
        if adapter.is_replay_only and not self.ws_url:
            raise WrongUse(
                f"{self.exchange} is no longer spoken by its exchange: "
                "replay a recording of it, or name a server with --ws-url"
            )
        return adapter

    def rest(self, adapter: Adapter, tap: Tap | None = None, clock: Clock = wall_clock) -> Rest:
        """The exchange's REST interface; nowhere, when only a websocket's URL was named."""
        base = self.rest_url or ("" if self.ws_url else adapter.rest_url)

        def tell(url: str, body: bytes) -> None:
            if tap is not None:
                tap.answered(url, clock(), body)

        return Rest(self.exchange, base, adapter.rest_rate, tell)


def check_url(name: str, url: str | None, *schemes: str) -> None:
    """Raise WrongUse unless `url`, as given to option `name`, is None or of one of these schemes."""
    if url is None:
        return
    try:
        parts = urlsplit(url)
        is_sound = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_sound = False
    if not is_sound:
        raise WrongUse(f"{name}: {url!r} is no address: write it like {schemes[0]}://127.0.0.1:8765")


async def open_collector(
    target: Target,
    url: str,
    spool: Path,
    *,
    spool_bytes: int = DEFAULT_SPOOL_BYTES,
    wait: bool = False,
    clock: Clock = wall_clock,
    tap: Tap | None = None,
    routes: Routes = SILENT,
) -> "Collector":
    """Reach the database and the exchange, learn its instruments, and go on from what is stored.

    While another collector writes one of the instruments, this one stands by: it returns when its turn comes.

    Args:
        target: what to collect, and from where.
        url: the database.
        spool: the folder where batches wait while the database is away, one below it for each collector.
        spool_bytes: what they may take there.
        wait: try for ever instead of raising Unavailable.
        clock: microseconds UTC now.
        tap: hears everything that comes, too.
        routes: where it is told of holes.

    Raises:
        WrongUse: the exchange or a symbol is unknown.
        Unavailable: the database or the exchange does not answer.
    """
    adapter = target.adapter()
    rest = target.rest(adapter, tap, clock)
    folder = spool / target.exchange
    try:
        # Who has no database is told so before anything is asked of the exchange.
        await _eventually(lambda: asyncio.to_thread(_reach, url), wait=wait)
        listed = await _eventually(lambda: learn_instruments(adapter, rest), wait=wait)
        session = Session(adapter, target.symbols)
        streams = [session.stream(symbol) for symbol in target.symbols]
        writer = await _eventually(lambda: _take_over(url, adapter, folder, streams, routes), wait=wait)
        try:
            feed = Feed(session, target.symbols, ws_url=target.ws_url, rest=rest, clock=clock, tap=tap)
            await _eventually(feed.probe, wait=wait)
        except BaseException:
            writer.close()
            raise
    except BaseException:
        await rest.close()
        raise
    healer = Healer(adapter, rest, url, target.symbols, lambda symbol: session.streams[symbol].time, routes)
    return Collector(feed, writer, own_spool(folder, spool_bytes), healer, url, listed)


async def _eventually(attempt: Callable[[], Awaitable[T]], *, wait: bool) -> T:
    delay = 0.5
    while True:
        try:
            return await attempt()
        except Unavailable as error:
            if not wait:
                raise
            log.warning("%s; trying again", error)
        await asyncio.sleep(delay)
        delay = min(delay * 2, MAX_BACKOFF)


def _reach(url: str) -> None:
    with database.connect(url) as connection:
        database.require_schema(connection)


async def _take_over(
    url: str, adapter: Adapter, folder: Path, streams: Sequence[InstrumentStream], routes: Routes
) -> Writer:
    """Become the one writer of these streams, and let them go on from all that was collected.

    Raises:
        Unavailable: the database does not answer, or no more.
    """
    exchange = adapter.exchange
    writer = await asyncio.to_thread(
        Writer, url, exchange, origin="live", proof=proof_of(adapter), routes=routes
    )
    try:
        await asyncio.to_thread(drain_left_behind, url, exchange, folder)
        await _claim(writer, sorted(stream.symbol for stream in streams))
        await asyncio.to_thread(drain_left_behind, url, exchange, folder)
        for stream in streams:
            await asyncio.to_thread(writer.restore, stream)
    except psycopg.OperationalError as error:
        writer.close()
        raise Unavailable(f"the database went away: {str(error).splitlines()[0]}") from None
    except BaseException:
        writer.close()
        raise
    return writer


async def _claim(writer: Writer, symbols: Iterable[str]) -> None:
    """Become the one writer of these instruments; while another one is, stand by."""
    for symbol in symbols:
        is_said = False
        while True:
            try:
                await asyncio.to_thread(writer.claim, symbol)
            except Taken as error:
                if not is_said:
                    log.warning("%s: standing by", error)
                is_said = True
            else:
                if is_said:
                    log.warning("%s of %s: taking over", symbol, writer.exchange)
                break
            await asyncio.sleep(STANDBY_SECONDS)


async def learn_instruments(adapter: Adapter, rest: Rest) -> list[Instrument]:
    """Ask the exchange for its instruments, and tell the adapter; what they are.

    Raises:
        Unavailable: no answer, or none that can be read.
    """
    learned: list[Instrument] = []
    for request in adapter.instruments_requests():
        body = await rest.get(request)
        if body is None:
            continue
        try:
            found = adapter.parse_rest(request.path, body)
        except MalformedMessage as error:
            raise Unavailable(f"{adapter.exchange} does not list its instruments: {error}") from None
        learned += (item for item in found if isinstance(item, Instrument))
    adapter.add_instruments(learned)
    return learned


def drain_left_behind(url: str, exchange: str, folder: Path) -> int:
    """Write what collectors that are gone left in their spools; the number of batches.

    It is merged in, so that it does not matter what was written since, or by whom.
    """
    batches = 0
    proof = proof_of(exchanges.find(exchange))
    for spool in left_behind(folder, 0):
        writer = Writer(url, exchange, origin="live", proof=proof)
        try:
            while (batch := spool.first(_ROWS_A_DRAIN)) is not None:
                writer.merging |= batch.rows.keys()
                writer.write(batch)
                spool.drop()
                batches += 1
        finally:
            writer.close()
            spool.close()
    return batches


def prepare_process() -> None:
    """Make the interpreter fit for collecting, where reading and writing go on at the same time.

    Rows hold no cycles: the garbage collector leaves them alone. And a thread that writes waits for the
    interpreter each time the server has taken something: never long, or the server would wait as well.
    """
    gc.freeze()
    gc.set_threshold(TRACKED_OBJECTS)
    sys.setswitchinterval(SWITCH_SECONDS)


class Collector:
    """Collects one exchange's instruments; `open_collector` makes it.

    Everything runs in one event loop but the writes, which run in threads.
    """

    def __init__(
        self,
        feed: Feed,
        writer: Writer,
        spool: Spool,
        healer: Healer,
        url: str,
        listed: list[Instrument],
    ) -> None:
        self.feed = feed
        self._url = url
        self._listed = listed
        self.outlet = Outlet(writer, spool, self._written)
        self.healer = healer
        self.meter = Meter(self.session.adapter.exchange)
        self.session.lag = self.meter.received
        self._is_stopping = False
        self._due = asyncio.Event()
        """Set where the next flush should not wait for its time."""
        self._holding = asyncio.Lock()

    @property
    def session(self) -> Session:
        """The streams, and what came that is not on the tape."""
        return self.feed.session

    @property
    def counts(self) -> Counts:
        """What came so far."""
        return self.session.counts

    def readings(self) -> Readings:
        """What it measures now."""
        statuses = self._statuses()
        stale = [
            f"{symbol}: {detail or status}"
            for symbol, (status, detail) in statuses.items()
            if status in ("stale", "down")
        ]
        spool = self.outlet.spool
        return self.meter.reading(
            wall_clock(),
            self.counts,
            queue_depth=self.feed.unwritten,
            spool_bytes=spool.size if spool else 0,
            spool_batches=spool.batches,
            reconnects=sum(max(line.opened - 1, 0) for line in self.feed.connections),
            inexact=self.session.adapter.inexact,
            healed=self.healer.healed,
            streams_live=len(statuses) - len(stale),
            stale=stale,
        )

    async def run(self, seconds: float | None = None) -> None:
        """Collect until cancelled, or for `seconds`; what came is written before it returns.

        Raises:
            Superseded: another collector has taken over; what this one holds waits in its spool.
            Unavailable: the database is away, and what came last waits in the spool.
        """
        feeding = asyncio.create_task(self.feed.run())
        # What writes is never cancelled: a thread that writes goes on, and a second one would be in its way.
        writing = asyncio.create_task(self.outlet.run())
        flushing = asyncio.create_task(self._flush_until_stopped())
        lookout = Lookout(self.feed, self._take_missed)
        beside = [asyncio.create_task(each) for each in (self.healer.run(), lookout.run(), self._refresh())]
        needed = {feeding, writing, flushing}
        try:
            await asyncio.wait(needed, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (feeding, *beside):
                task.cancel()
            await asyncio.gather(feeding, *beside, return_exceptions=True)
            self._is_stopping = True
            self._due.set()
            await asyncio.wait({flushing})
            await self._finish(writing)
        for task in (flushing, feeding):
            if task.done() and not task.cancelled():
                task.result()

    async def _finish(self, writing: asyncio.Task[None]) -> None:
        """Write the last rows; what the database does not take in time stays in the spool."""
        self.session.disconnected()
        await self.outlet.put(self.feed.take())
        if not writing.done():
            idle = asyncio.create_task(self.outlet.idle(STOP_SECONDS))
            await asyncio.wait({writing, idle}, return_when=asyncio.FIRST_COMPLETED)
            idle.cancel()
            self.outlet.beat(dict.fromkeys(self.feed.symbols, ("down", "stopped")))
            self.outlet.stop()
            await asyncio.wait({writing})
        failure = writing.exception()
        try:
            await self.outlet.close()
        except Unavailable:
            if failure is None:
                raise
        if failure is not None:
            raise failure

    async def close(self) -> None:
        """Give everything back."""
        await self.feed.close()
        await asyncio.to_thread(self.outlet.writer.close)

    # Beside what comes

    async def _flush_until_stopped(self) -> None:
        beaten = 0.0
        while not self._is_stopping:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self._due.wait()
            self._due.clear()
            self.feed.advance()
            await self.outlet.retry()
            if self.outlet.writer.merging and self.outlet.is_idle:
                await self._restore()
            if self.outlet.wants:
                await self.outlet.put(self.feed.take())
            if time.monotonic() - beaten > BEAT_SECONDS:
                beaten = time.monotonic()
                self.outlet.beat(self._statuses())

    def _written(self, batch: TapeBatch) -> None:
        if self.feed.unwritten >= MANY_MESSAGES:
            self._due.set()
        times = [time for rows in batch.rows.values() for time in rows.received]
        self.meter.committed(times, wall_clock())
        if any(gap.stream == "trades" for rows in batch.rows.values() for gap in rows.gaps):
            self.healer.wake()

    async def _take_missed(self, symbol: str, last_id: int, trades: list[Trade]) -> bool:
        """Put trades onto the tape that the stream of `symbol` should have given after `last_id`.

        Whether it was done: not where the stream went on by itself, or the database is away.
        """
        async with self._hold():
            if not await self.outlet.idle(RESTORE_SECONDS):
                # Where nothing can be written, nothing more is taken.
                return False
            await self.outlet.put(self.feed.take())
            stream = self.session.stream(symbol)
            since = stream.last_trade_time
            went_on = stream.last_id != last_id or stream.is_holding
            if went_on or since is None or not await self.outlet.idle(RESTORE_SECONDS):
                return False
            with contextlib.suppress(psycopg.Error, Unavailable):
                is_new = await asyncio.to_thread(self._record_missed, symbol, since, trades)
                await self.outlet.restore(stream)
                self.healer.healed += is_new
                return is_new
            return False

    def _record_missed(self, symbol: str, since: int, trades: list[Trade]) -> bool:
        exchange = self.session.adapter.exchange
        with database.connect(self._url, application_name=f"deltatape heal {exchange}") as connection:
            return healing.record_missed(connection, exchange, symbol, since, trades)

    async def _restore(self) -> None:
        """Let streams whose rows were merged go on from the rows."""
        async with self._hold():
            await self.outlet.put(self.feed.take())
            if not await self.outlet.idle(RESTORE_SECONDS):
                return
            with contextlib.suppress(psycopg.Error):
                for symbol in sorted(self.outlet.writer.merging):
                    await self.outlet.restore(self.session.stream(symbol))

    @contextlib.asynccontextmanager
    async def _hold(self) -> AsyncIterator[None]:
        """Read nothing meanwhile: what the streams hold is about to be replaced."""
        async with self._holding:
            self.feed.hold()
            try:
                yield
            finally:
                self.feed.held_up()
                self.feed.go_on()

    def _statuses(self) -> dict[str, tuple[Status, str]]:
        statuses = self.feed.statuses()
        for symbol in self.healer.healing & statuses.keys():
            statuses[symbol] = ("healing", statuses[symbol][1])
        return statuses

    async def _refresh(self) -> None:
        """Ask for the exchange's instruments again each day: some are listed, some delisted."""
        listed = self._listed
        while True:
            try:
                await asyncio.to_thread(self._note_instruments, listed)
                await asyncio.sleep(REFRESH_SECONDS)
                listed = await learn_instruments(self.session.adapter, self.feed.rest)
            except (Unavailable, psycopg.Error) as error:
                log.warning("instruments of %s: %s", self.session.adapter.exchange, error)
                await asyncio.sleep(MAX_BACKOFF)

    def _note_instruments(self, listed: list[Instrument]) -> None:
        exchange = self.session.adapter.exchange
        with database.connect(self._url, application_name=f"deltatape instruments {exchange}") as connection:
            changes = refresh_instruments(connection, exchange, listed)
        for what in ("listed", "delisted", "changed"):
            if symbols := getattr(changes, what):
                log.info("%s: %s: %s", exchange, what, ", ".join(sorted(symbols)[:20]))
