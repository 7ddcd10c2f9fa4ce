"""One websocket connection to an exchange that is opened again for ever: messages in, texts out."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from random import uniform
from typing import Protocol, cast
from urllib.parse import urlsplit, urlunsplit

import websockets
from websockets.asyncio.client import connect

from collector.burst import BurstConnection
from collector.exchanges.adapter import STREAMS, Adapter, Line, Stream
from collector.rest import DEFAULT_PAUSE, retry_after, without_user
from market import Unavailable

log = logging.getLogger(__name__)

OPEN_TIMEOUT = 10.0
CLOSE_TIMEOUT = 2.0
"""Seconds for the goodbye: one that sends faster than is read here may never get to it."""
FIRST_DELAY = 0.5
LAST_DELAY = 10.0
HEALTHY_SECONDS = 5.0
"""A connection that lived so long was no failure: the next one is tried without delay again."""
MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes of the largest message taken: a full level-2 snapshot of a big exchange is some megabytes."""
RENEW_BEFORE = 600.0
"""Seconds before the exchange's own cut at which a connection is replaced, spread over as long."""
MAX_WAITING = 10_000
"""Texts that wait for their turn to be sent, at most; with more of them a connection is of no use."""
OVERLAP_SECONDS = 5.0
"""How long the old and the new connection both give trades, at least."""
_TRADES: frozenset[Stream] = frozenset(("trades",))
_REFUSING = (403, 418, 429, 503)


def rebase(url: str, base: str | None) -> str:
    """`url` with the scheme, host and port of `base`, when there is one; path and query stay."""
    if not base:
        return url
    old, new = urlsplit(url), urlsplit(base)
    return urlunsplit((new.scheme, new.netloc, old.path, old.query, old.fragment))


class Listener(Protocol):
    """Who is told what a connection does, in the order of what happens, inside the event loop."""

    async def opened(self, line: Line) -> None:
        """It was opened: nothing is proven yet."""

    def received(
        self, line: Line, messages: list[bytes], streams: frozenset[Stream]
    ) -> Awaitable[None] | None:
        """Messages came, of which `streams` count; what is returned is awaited before the next ones."""

    async def moved(self, line: Line) -> None:
        """A new socket took over from the old one; no trade was missed, books begin anew."""

    async def closed(self, line: Line, reason: str) -> None:
        """It was lost."""

    def sent(self, line: Line, text: str) -> None:
        """A text was sent."""


class _Socket:
    """One opened websocket, the texts that wait to be sent over it, and the tasks that read and write."""

    def __init__(self, websocket: BurstConnection) -> None:
        self.websocket = websocket
        self.streams = STREAMS
        self.waiting: asyncio.Queue[str] = asyncio.Queue()
        self.reading: asyncio.Task[None] | None = None
        self.sending: asyncio.Task[None] | None = None
        self.beating: asyncio.Task[None] | None = None

    async def close(self) -> None:
        tasks = [task for task in (self.beating, self.sending, self.reading) if task is not None]
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.websocket.close()
        finally:
            # Cancelled under Python before 3.11.4, a closing that runs out of time leaves the socket open.
            self.websocket.transport.abort()


class Connection:
    """Keeps one line open.

    Args:
        adapter: says what keeps a connection alive, how long silence and the connection itself may last.
        line: what to connect to, and what to send.
        base: scheme, host and port instead of the exchange's own.
        listener: told what happens.
        chance: a number between two, for how long to wait and to live.
    """

    def __init__(
        self,
        adapter: Adapter,
        line: Line,
        *,
        base: str | None,
        listener: Listener,
        chance: Callable[[float, float], float] = uniform,
    ) -> None:
        self.line = line
        self._address = rebase(adapter.ws_url + line.path, base)
        self.url = without_user(self._address)
        """Where it leads to, as it may be shown."""
        self.is_open = False
        self.opened_at = 0.0
        """When it was last opened, in seconds of the event loop's clock."""
        self.opened = 0
        """How often it was opened."""
        self.connects = 0
        self._adapter = adapter
        self._listener = listener
        self._chance = chance
        self._socket: _Socket | None = None
        self._renewal = asyncio.Event()

    async def probe(self) -> None:
        """Raise Unavailable when nobody answers at the address."""
        parts = urlsplit(self.url)
        port = parts.port or (443 if parts.scheme == "wss" else 80)
        try:
            async with asyncio.timeout(OPEN_TIMEOUT):
                _, writer = await asyncio.open_connection(parts.hostname, port)
        except (OSError, TimeoutError) as error:
            reason = str(error) or "no answer"
            raise Unavailable(f"cannot reach {self._adapter.exchange} at {self.url}: {reason}") from None
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def run(self) -> None:
        """Connect and take messages until cancelled; a lost connection is opened again, however often."""
        loop, failures = asyncio.get_running_loop(), 0
        while True:
            pause, is_healthy = 0.0, False
            try:
                reason = await self._live()
            except websockets.InvalidStatus as error:
                reason, pause = str(error), _asked_pause(error)
            except (OSError, TimeoutError, websockets.WebSocketException) as error:
                reason = str(error) or type(error).__name__
            if self.is_open:
                self.is_open = False
                is_healthy = loop.time() - self.opened_at > HEALTHY_SECONDS
                await self._listener.closed(self.line, reason)
            failures = 0 if is_healthy else failures + 1
            log.info("%s: %s", self.url, reason)
            # Full jitter, so that many clients do not come back at one moment.
            delay = self._chance(0, min(LAST_DELAY, FIRST_DELAY * 2 ** min(failures, 10)))
            await asyncio.sleep(pause + delay)

    async def send(self, text: str) -> None:
        """Send a text in its turn; what a lost connection has not sent is dropped."""
        if (socket := self._socket) is not None:
            socket.waiting.put_nowait(text)
            if socket.waiting.qsize() > MAX_WAITING:
                log.warning("%s: the exchange does not take what it asks for", self.url)
                socket.websocket.transport.abort()

    async def reset(self) -> None:
        """Close the socket, which is of no use any more; `run` opens a new one."""
        if self._socket is not None:
            self._socket.websocket.transport.abort()

    def renew(self) -> None:
        """The exchange will cut this connection soon: open another one before it does."""
        self._renewal.set()

    # One life, from opening to loss

    async def _live(self) -> str:
        """Open it, and hand over to new sockets in time, until it is lost; why."""
        self._socket = socket = await self._open()
        self.is_open = True
        self.opened_at = asyncio.get_running_loop().time()
        self.opened += 1
        try:
            await self._listener.opened(self.line)
            self._begin(socket)
            while True:
                reading = self._socket.reading
                renewal = asyncio.create_task(self._until_renewal())
                await asyncio.wait(
                    {reading, renewal} if reading else {renewal}, return_when=asyncio.FIRST_COMPLETED
                )
                renewal.cancel()
                if reading is None or reading.done() or not await self._replace():
                    return await self._ending()
        finally:
            lost, self._socket = self._socket, None
            await lost.close()

    async def _open(self) -> _Socket:
        websocket = await connect(
            self._address,
            compression=None,
            max_size=MAX_MESSAGE,
            open_timeout=OPEN_TIMEOUT,
            close_timeout=CLOSE_TIMEOUT,
            # Whether the exchange lives, its messages tell; what it wants to hear, the adapter says.
            ping_interval=None,
            create_connection=BurstConnection,
        )
        self.connects += 1
        return _Socket(cast("BurstConnection", websocket))

    def _begin(self, socket: _Socket) -> None:
        """Subscribe and read."""
        socket.reading = asyncio.create_task(self._read(socket))
        socket.sending = asyncio.create_task(self._send(socket))
        for text in self.line.subscribe:
            socket.waiting.put_nowait(text)
        if beat := self._adapter.keep_alive():
            socket.beating = asyncio.create_task(self._beat(socket, *beat))

    async def _ending(self) -> str:
        """Why the current socket is not read any more."""
        socket = self._socket
        if socket is None or socket.reading is None:
            return "closed"
        await socket.reading
        return "closed by the exchange"

    async def _until_renewal(self) -> None:
        lifetime = self._adapter.lifetime
        early = RENEW_BEFORE * self._chance(1, 2)
        allowed = None if lifetime is None else max(lifetime - early, lifetime / 2)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(allowed):
                await self._renewal.wait()
        self._renewal.clear()

    async def _replace(self) -> bool:
        """Open a second socket beside the first, and go on with it once both have given trades for a while.

        Whether the connection goes on.
        """
        old = self._socket
        try:
            new = await self._open()
        except (OSError, TimeoutError, websockets.WebSocketException) as error:
            log.warning("%s: no second connection: %s", self.url, error)
            return old is not None and old.reading is not None and not old.reading.done()
        new.streams = _TRADES
        self._begin(new)
        reading = [socket.reading for socket in (old, new) if socket and socket.reading]
        # The time that both give trades begins when the new one has subscribed.
        overlap = len(self.line.subscribe) * self._adapter.send_interval + OVERLAP_SECONDS
        try:
            await asyncio.wait(reading, timeout=overlap, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await new.close()
            raise
        if new.reading is not None and new.reading.done():
            await new.close()
            return old is not None and old.reading is not None and not old.reading.done()
        self._socket = new
        self.opened_at = asyncio.get_running_loop().time()
        self.opened += 1
        if old is not None:
            await old.close()
        new.streams = STREAMS
        await self._listener.moved(self.line)
        log.info("%s: a new connection took over", self.url)
        return True

    async def _read(self, socket: _Socket) -> None:
        loop, allowed = asyncio.get_running_loop(), self._adapter.silence_limit
        line, received, burst = self.line, self._listener.received, socket.websocket.burst
        try:
            # One time-out around many messages: a timer for each would cost more than the message.
            async with asyncio.timeout(allowed) as limit:
                while True:
                    if (work := received(line, await burst(), socket.streams)) is not None:
                        # It is we who are busy, not the exchange that is silent.
                        limit.reschedule(None)
                        await work
                    limit.reschedule(loop.time() + allowed)
        except TimeoutError:
            raise TimeoutError(f"silent for {allowed:.0f} s") from None
        except websockets.ConnectionClosedOK:
            return

    async def _beat(self, socket: _Socket, seconds: float, text: str) -> None:
        while True:
            await asyncio.sleep(seconds)
            socket.waiting.put_nowait(text)

    async def _send(self, socket: _Socket) -> None:
        """Send what waits at the rate that the exchange allows, beside the reading."""
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                text = await socket.waiting.get()
                await socket.websocket.send(text)
                self._listener.sent(self.line, text)
                await asyncio.sleep(self._adapter.send_interval)


def _asked_pause(error: websockets.InvalidStatus) -> float:
    """The seconds that a refused handshake asks us to stay away."""
    response = error.response
    if response.status_code not in _REFUSING:
        return 0.0
    asked = retry_after(response.headers.get("Retry-After"))
    if asked is not None:
        return asked
    return 0.0 if response.status_code == 503 else DEFAULT_PAUSE
