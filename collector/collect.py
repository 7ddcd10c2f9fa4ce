"""Collecting from an exchange, live: connection → session → writer, until told to stop."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import inf
from random import uniform
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
import psycopg

from collector import exchanges
from collector.connection import Connection
from collector.exchanges.adapter import Adapter, MalformedMessage, RestRequest
from collector.session import Counts, Fetch, Reconnect, Reply, Request, Send, Session, TapeBatch
from collector.writer import Proof, Writer
from market import Instrument, Unavailable, WrongUse
from storage.ledger import Superseded

log = logging.getLogger(__name__)

FLUSH_SECONDS = 0.25
MAX_UNWRITTEN = 50_000
"""Messages taken but not written, at most: beyond it the socket is not read, and its sender must wait."""
REST_TIMEOUT = 20.0
BOOK_RETRY_SECONDS = 2.0
MAX_BOOK_RETRY_SECONDS = 60.0
BACKLOG_SECONDS = 2.0
"""After reading was held up, what has piled up gets this long to be read before silence means anything."""
USER_AGENT = "deltatape"
MAX_BACKOFF = 10.0
STOP_SECONDS = 10.0
"""How long the database may be away before a collector that is stopping gives up."""


Clock = Callable[[], int]
T = TypeVar("T")


def wall_clock() -> int:
    """Microseconds UTC."""
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What to collect, and from where: URLs replace scheme, host and port of the exchange's own."""

    exchange: str
    symbols: tuple[str, ...]
    ws_url: str | None = None
    rest_url: str | None = None

    def __post_init__(self) -> None:
        _check_url("--ws-url", self.ws_url, "ws", "wss")
        _check_url("--rest-url", self.rest_url, "http", "https")


def _check_url(name: str, url: str | None, *schemes: str) -> None:
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
    target: Target, url: str, *, wait: bool = False, clock: Clock = wall_clock
) -> "Collector":
    """Reach the database and the exchange, learn its instruments, and go on from what is stored.

    Args:
        target: what to collect, and from where.
        url: the database.
        wait: try for ever instead of raising Unavailable.
        clock: microseconds UTC now.

    Raises:
        WrongUse: the exchange or a symbol is unknown, or another collector has it.
        Unavailable: the database or the exchange does not answer.
    """
    adapter = exchanges.find(target.exchange)
    if adapter.is_replay_only and not target.ws_url:
        raise WrongUse(
            f"{target.exchange} is no longer spoken by its exchange: "
            "replay a recording of it, or name a server with --ws-url"
        )
    proof: Proof = "ids" if adapter.has_consecutive_ids else "connection"

    async def open_writer() -> Writer:
        return await asyncio.to_thread(Writer, url, target.exchange, origin="live", proof=proof)

    writer = await _eventually(open_writer, wait=wait)
    rest = Rest(target, adapter)
    try:
        await _eventually(lambda: _learn_instruments(adapter, rest), wait=wait)
        session = Session(adapter, target.symbols)
        for stream in [session.stream(symbol) for symbol in target.symbols]:
            await asyncio.to_thread(writer.claim, stream.symbol)
            await asyncio.to_thread(writer.restore, stream)
        collector = Collector(target, session, writer, rest, clock)
        await _eventually(collector.connection.probe, wait=wait)
    except BaseException:
        writer.close()
        await rest.close()
        raise
    return collector


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


async def _learn_instruments(adapter: Adapter, rest: "Rest") -> None:
    for request in adapter.instruments_requests():
        body = await rest.get(request)
        if body is None:
            continue
        try:
            found = adapter.parse_rest(request.path, body)
        except MalformedMessage as error:
            raise Unavailable(f"{adapter.exchange} does not list its instruments: {error}") from None
        adapter.add_instruments(item for item in found if isinstance(item, Instrument))


class Rest:
    """The exchange's REST interface; nowhere, when only a websocket's URL was named."""

    def __init__(self, target: Target, adapter: Adapter) -> None:
        self._exchange = target.exchange
        self._base = (target.rest_url or ("" if target.ws_url else adapter.rest_url)).rstrip("/")
        self._http = httpx.AsyncClient(timeout=REST_TIMEOUT, headers={"User-Agent": USER_AGENT})

    async def get(self, request: RestRequest) -> bytes | None:
        """The answer's body; None for what the other side does not have (404).

        Raises:
            Unavailable: no answer, or an error.
        """
        if not self._base:
            return None
        url = f"{self._base}{request.path}"
        try:
            response = await self._http.get(url)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            raise Unavailable(f"cannot reach {self._exchange} at {url}: {reason}") from None
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        if response.is_error:
            raise Unavailable(f"{url} answers {response.status_code}: {response.text[:200]}")
        return response.content

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()


class Collector:
    """Collects one exchange's instruments; `open_collector` makes it.

    Everything runs in one event loop but the writes, which run in a thread; while one runs, at most
    MAX_UNWRITTEN further messages are taken.
    """

    def __init__(self, target: Target, session: Session, writer: Writer, rest: Rest, clock: Clock) -> None:
        self.session = session
        self.connection = Connection(
            session.adapter,
            target.symbols,
            base=target.ws_url,
            on_open=self._opened,
            on_message=self._message,
            on_close=self._closed,
        )
        self._exchange = target.exchange
        self._writer = writer
        self._rest = rest
        self._clock = clock
        self._unwritten = 0
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._stopping = asyncio.Event()
        self._fetches: dict[str, asyncio.Task[None]] = {}
        self._refusals = 0
        self._held_up_at = -inf

    @property
    def counts(self) -> Counts:
        """What came so far."""
        return self.session.counts

    async def run(self, seconds: float | None = None) -> None:
        """Collect until cancelled, or for `seconds`; what came is written before it returns."""
        connecting = asyncio.create_task(self.connection.run())
        # The writer is never cancelled: a thread that writes goes on, and a second one would be in its way.
        flushing = asyncio.create_task(self._flush_until_stopped())
        try:
            await asyncio.wait({connecting, flushing}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            connecting.cancel()
            self._cancel_fetches()
            await asyncio.gather(connecting, *self._fetches.values(), return_exceptions=True)
            self._stopping.set()
            self._may_read.set()
            await flushing
            self.session.disconnected()
            await self._flush()
        if not connecting.cancelled():
            connecting.result()

    async def close(self) -> None:
        """Give everything back."""
        await self._rest.close()
        self._writer.close()

    # What the connection says

    async def _opened(self) -> None:
        await self._do(self.session.connected())

    def _message(self, message: bytes) -> Awaitable[None] | None:
        """Take a message; what is still to be done for it, if anything."""
        if not self._may_read.is_set() or self._unwritten >= MAX_UNWRITTEN:
            return self._message_later(message)
        self._unwritten += 1
        requests = self.session.message(message, self._clock())
        return self._do(requests) if requests else None

    async def _message_later(self, message: bytes) -> None:
        self._may_read.clear()
        await self._may_read.wait()
        self._unwritten += 1
        await self._do(self.session.message(message, self._clock()))

    async def _closed(self, reason: str) -> None:
        log.warning("%s: connection lost: %s", self._exchange, reason)
        self._cancel_fetches()
        await self._may_read.wait()
        self.session.disconnected()

    async def _do(self, requests: Sequence[Request]) -> None:
        for request in requests:
            match request:
                case Reply(text) | Send(text):
                    await self.connection.send(text)
                case Fetch(symbol=symbol):
                    if before := self._fetches.get(symbol):
                        before.cancel()
                    self._fetches[symbol] = asyncio.create_task(self._fetch(request))
                case Reconnect(reason):
                    log.info("%s asks to reconnect: %s", self._exchange, reason)
                    await self.connection.close()

    def _cancel_fetches(self) -> None:
        for task in self._fetches.values():
            task.cancel()

    async def _fetch(self, fetch: Fetch) -> None:
        """Get a book and pass it on; one that is too old, unreadable or not to be had is asked for again."""
        delay = BOOK_RETRY_SECONDS
        while self.session.awaits_book(fetch.symbol):
            try:
                answer = await self._rest.get(fetch.request)
            except Unavailable as error:
                log.warning("%s", error)
                answer = None
            if answer is not None:
                await self._may_read.wait()
                self.session.rest(fetch.request.path, answer, self._clock())
                if not self.session.awaits_book(fetch.symbol):
                    return
            await asyncio.sleep(delay)
            delay = min(2 * delay, MAX_BOOK_RETRY_SECONDS)

    # Writing

    async def _flush_until_stopped(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                pause = 0 if self._unwritten >= MAX_UNWRITTEN else FLUSH_SECONDS
                await asyncio.wait_for(self._stopping.wait(), pause)
            is_caught_up = time.monotonic() - self._held_up_at > BACKLOG_SECONDS
            if self.connection.is_open and self._may_read.is_set() and is_caught_up:
                self.session.silent(self._clock())
            began = time.monotonic()
            await self._flush()
            if time.monotonic() - began > FLUSH_SECONDS:
                self._held_up_at = time.monotonic()
            for reason in list(self.session.refusals)[self._refusals :]:
                log.warning("%s refused: %s", self._exchange, reason)
                self._refusals += 1

    async def _flush(self) -> None:
        """Write what came. While an instrument is merged nothing is read, so that it can go on after."""
        writer = self._writer
        if writer.merging:
            self._may_read.clear()
        batch = self.session.take()
        merging = set(writer.merging)
        self._unwritten = 0
        if not writer.merging:
            self._may_read.set()
        if len(batch):
            await self._write(writer, batch)
        for symbol in merging:
            await asyncio.to_thread(writer.restore, self.session.stream(symbol))
        self._may_read.set()

    async def _write(self, writer: Writer, batch: TapeBatch) -> None:
        """Write a batch, however long the database is away; once stopping, STOP_SECONDS at most."""
        delay = 0.2
        last_try = inf
        while True:
            try:
                return await asyncio.to_thread(writer.write, batch)
            except Superseded:
                raise
            except (psycopg.OperationalError, psycopg.InterfaceError, Unavailable) as error:
                reason = str(error).strip()
            if self._stopping.is_set():
                last_try = min(last_try, time.monotonic() + STOP_SECONDS)
                if time.monotonic() > last_try:
                    raise Unavailable(f"the database is away, {len(batch)} rows are not written: {reason}")
            log.warning("the database is away: %s; trying again", reason)
            await asyncio.sleep(uniform(0, delay))
            delay = min(delay * 2, MAX_BACKOFF)
            with contextlib.suppress(Unavailable, WrongUse, psycopg.Error):
                await asyncio.to_thread(writer.reconnect)
