"""One websocket connection to an exchange that is opened again for ever: messages in, texts out."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from random import uniform
from urllib.parse import urlsplit, urlunsplit

import websockets
from websockets.asyncio.client import ClientConnection, connect

from collector.exchanges.adapter import Adapter
from market import Unavailable

log = logging.getLogger(__name__)

OPEN_TIMEOUT = 10.0
CLOSE_TIMEOUT = 2.0
"""Seconds for the goodbye: one that sends faster than is read here may never get to it."""
FIRST_DELAY = 0.5
LAST_DELAY = 30.0
MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes of the largest message taken: a full level-2 snapshot of a big exchange is some megabytes."""


def rebase(url: str, base: str | None) -> str:
    """`url` with the scheme, host and port of `base`, when there is one; path and query stay."""
    if not base:
        return url
    old, new = urlsplit(url), urlsplit(base)
    return urlunsplit((new.scheme, new.netloc, old.path, old.query, old.fragment))


class Connection:
    """Keeps one websocket open. The callbacks run in the event loop, in the order of what happens.

    Args:
        adapter: says where to connect, what to send, how long silence may last.
        symbols: unified symbols to subscribe to.
        base: scheme, host and port instead of the exchange's own.
        on_open: awaited after connecting, before the first message.
        on_message: called with each message's bytes; what it returns is awaited before the next one.
        on_close: awaited after the connection is gone, with the reason.
    """

    def __init__(
        self,
        adapter: Adapter,
        symbols: Sequence[str],
        *,
        base: str | None,
        on_open: Callable[[], Awaitable[None]],
        on_message: Callable[[bytes], Awaitable[None] | None],
        on_close: Callable[[str], Awaitable[None]],
    ) -> None:
        self.url = rebase(adapter.ws_url + adapter.lines(symbols)[0].path, base)
        self.is_open = False
        self._adapter = adapter
        self._symbols = symbols
        self._on_open, self._on_message, self._on_close = on_open, on_message, on_close
        self._socket: ClientConnection | None = None

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
        failures = count()
        while True:
            reason = "closed by the exchange"
            try:
                socket = await connect(
                    self.url,
                    compression=None,
                    max_size=MAX_MESSAGE,
                    open_timeout=OPEN_TIMEOUT,
                    close_timeout=CLOSE_TIMEOUT,
                )
                failures = count()
                try:
                    await self._converse(socket)
                finally:
                    await _leave(socket)
            except (OSError, TimeoutError, websockets.WebSocketException) as error:
                reason = str(error) or type(error).__name__
            if self.is_open:
                self.is_open = False
                await self._on_close(reason)
            log.info("%s: %s", self.url, reason)
            # Full jitter, so that many clients do not come back at one moment.
            await asyncio.sleep(uniform(0, min(LAST_DELAY, FIRST_DELAY * 2 ** min(next(failures), 10))))

    async def send(self, text: str) -> None:
        """Send a text; one for a connection that is gone is dropped, since a new one subscribes anew."""
        if self._socket is not None:
            with contextlib.suppress(websockets.ConnectionClosed):
                await self._socket.send(text)

    async def close(self) -> None:
        """Close the socket; `run` opens a new one."""
        if self._socket is not None:
            await self._socket.close()

    async def _converse(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.is_open = True
        await self._on_open()
        keep_alive: asyncio.Task[None] | None = None
        try:
            for text in self._adapter.lines(self._symbols)[0].subscribe:
                await socket.send(text)
            if beat := self._adapter.keep_alive():
                keep_alive = asyncio.create_task(self._beat(*beat))
            await self._receive(socket)
        finally:
            self._socket = None
            if keep_alive is not None:
                keep_alive.cancel()

    async def _receive(self, socket: ClientConnection) -> None:
        loop, allowed = asyncio.get_running_loop(), self._adapter.silence_limit
        while True:
            # One time-out around many messages: a timer for each would cost more than the message.
            try:
                async with asyncio.timeout(allowed) as limit:
                    while True:
                        message = await socket.recv(decode=False)
                        if (work := self._on_message(message)) is not None:
                            # It is we who are busy, not the exchange that is silent.
                            limit.reschedule(None)
                            await work
                            limit.reschedule(loop.time() + allowed)
                        elif (limit.when() or 0) - loop.time() < 0.9 * allowed:
                            limit.reschedule(loop.time() + allowed)
            except TimeoutError:
                raise TimeoutError(f"silent for {self._adapter.silence_limit:.0f} s") from None
            except websockets.ConnectionClosedOK:
                return

    async def _beat(self, seconds: float, text: str) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self.send(text)


async def _leave(socket: ClientConnection) -> None:
    try:
        await socket.close()
    finally:
        # Cancelled under Python before 3.11.4, a closing that runs out of time leaves the socket open.
        socket.transport.abort()
