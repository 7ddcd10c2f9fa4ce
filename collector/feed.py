"""An exchange, live: its connections, its session, and the books asked for over REST. No database."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from math import inf
from typing import TYPE_CHECKING, Protocol

from collector.connection import Connection
from collector.exchanges.adapter import STREAMS, Line, Stream
from collector.exchanges.ccxt_unified import Ccxt
from collector.rest import Rest
from collector.session import Fetch, Reconnect, Reply, Request, Send, Session, TapeBatch
from market import MICROSECONDS, Unavailable
from storage.ledger import Status

if TYPE_CHECKING:
    from collector.ccxt_feed import CcxtConnection

log = logging.getLogger(__name__)

MAX_UNWRITTEN = 50_000
"""Messages taken but not passed on; with so many sockets are not read, and their senders must wait."""
BOOK_RETRY_SECONDS = 2.0
MAX_BOOK_RETRY_SECONDS = 60.0
MAX_BOOK_PAUSE = 8.0
"""Seconds between two requests for a book that each came, at most."""
BACKLOG_SECONDS = 2.0
"""After reading was held up, what has piled up gets this long to be read before silence means anything."""
BOOK_SILENCE = 60.0
"""Seconds after which a connection whose books all are silent, while others speak, is opened anew."""
STANDSTILL_SECONDS = 3.0
"""Seconds of silence about all books of a connection after which time stands still for them.

Less than a silent stream's caution: no second is given out on the strength of silence alone.
"""
BEHIND_SECONDS = 5.0
"""How long a trade that the exchange has named may take to come over its stream."""

Clock = Callable[[], int]


class Tap(Protocol):
    """Who hears everything as it came, as a recorder does; times in microseconds UTC.

    No two connections have the same URL: those to one address differ in what stands behind a `#`.
    """

    def named(self, url: str, t: int, symbols: Collection[str], streams: frozenset[Stream]) -> None:
        """There is a connection, which carries these streams of these symbols."""

    def opened(self, url: str, t: int) -> None:
        """A connection was opened."""

    def sent(self, url: str, t: int, text: str) -> None:
        """We sent a text."""

    def received(self, url: str, t: int, message: bytes, *, is_beside: bool = False) -> None:
        """The exchange sent a message, maybe over a second socket, of which trades count only."""

    def moved(self, url: str, t: int) -> None:
        """The second socket took over."""

    def closed(self, url: str, t: int) -> None:
        """A connection was lost."""

    def answered(self, url: str, t: int, body: bytes) -> None:
        """The exchange answered a REST request."""


class Feed:
    """Keeps an exchange's connections open and its session fed.

    Args:
        session: takes what comes; its streams are those of `symbols`.
        symbols: what to listen to.
        ws_url: scheme, host and port instead of the exchange's own.
        rest: where books are asked for.
        clock: microseconds UTC.
        tap: hears everything too.
    """

    def __init__(
        self,
        session: Session,
        symbols: Sequence[str],
        *,
        ws_url: str | None,
        rest: Rest,
        clock: Clock,
        tap: Tap | None = None,
    ) -> None:
        self.session = session
        self.rest = rest
        self.symbols = tuple(symbols)
        self.refused = 0
        """Refusals that were logged."""
        self.clock = clock
        self._tap = tap
        self._connections = {
            id(line): self._connection(line, ws_url) for line in session.adapter.lines(symbols)
        }
        self._names = self._name()
        self._unwritten = 0
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._fetches: dict[str, asyncio.Task[None]] = {}
        self._book_turns: dict[str, tuple[float, float]] = {}
        self._held_up_at = -inf

    def _connection(self, line: Line, ws_url: str | None) -> "Connection | CcxtConnection":
        adapter = self.session.adapter
        if isinstance(adapter, Ccxt):
            from collector.ccxt_feed import CcxtConnection  # ccxt takes a second to import

            return CcxtConnection(adapter, line, base=ws_url, rest_base=self.rest.base or None, listener=self)
        return Connection(adapter, line, base=ws_url, listener=self)

    def _name(self) -> dict[int, str]:
        """What the tap knows each line by."""
        urls = [connection.url for connection in self.connections]
        found: dict[int, str] = {}
        for number, (key, connection) in enumerate(self._connections.items(), 1):
            found[key] = connection.url if urls.count(connection.url) == 1 else f"{connection.url}#{number}"
            if self._tap is not None:
                line = connection.line
                self._tap.named(found[key], self.clock(), line.symbols, line.streams)
        return found

    @property
    def connections(self) -> "list[Connection | CcxtConnection]":
        """One for each line."""
        return list(self._connections.values())

    @property
    def unwritten(self) -> int:
        """Messages taken since `take` was last called."""
        return self._unwritten

    @property
    def is_open(self) -> bool:
        """Whether every connection is open."""
        return all(connection.is_open for connection in self.connections)

    async def probe(self) -> None:
        """Raise Unavailable when nobody answers where the first line leads to."""
        await self.connections[0].probe()

    async def run(self) -> None:
        """Listen until cancelled."""
        tasks = [asyncio.create_task(connection.run()) for connection in self.connections]
        tasks.append(asyncio.create_task(self._watch()))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*tasks, *self._fetches.values()):
                task.cancel()
            await asyncio.gather(*tasks, *self._fetches.values(), return_exceptions=True)

    # What goes out

    def take(self) -> TapeBatch:
        """The rows that came since the last call."""
        self._unwritten = 0
        return self.session.take()

    def hold(self) -> None:
        """Take no message until `go_on`: the session's state is about to be replaced."""
        self._may_read.clear()

    def go_on(self) -> None:
        """Take messages again."""
        self._may_read.set()

    def held_up(self) -> None:
        """Reading was held up for a while by us, so that silence means nothing for a moment."""
        self._held_up_at = asyncio.get_running_loop().time()

    def advance(self) -> None:
        """Let the time of silent streams go on, where their connections live and all that came was read."""
        is_caught_up = asyncio.get_running_loop().time() - self._held_up_at > BACKLOG_SECONDS
        if self._may_read.is_set() and is_caught_up:
            live = [symbol for symbol in self.symbols if self._is_open(symbol, "trades")]
            now = self.clock()
            self.session.silent(now, live, {symbol for symbol in live if self._speaks_of_books(symbol, now)})

    def _speaks_of_books(self, symbol: str, now: int) -> bool:
        """Whether the connection that carries this book has lately given a change of any book."""
        return any(
            now - self.session.books_heard.get(each, 0) < STANDSTILL_SECONDS * MICROSECONDS
            for connection in self.connections
            if "book" in connection.line.streams and symbol in connection.line.symbols
            for each in connection.line.symbols
        )

    def statuses(self) -> dict[str, tuple[Status, str]]:
        """How each symbol's stream of trades is, and what there is to say of it."""
        found: dict[str, tuple[Status, str]] = {}
        for symbol in self.symbols:
            if not self._is_open(symbol, "trades"):
                found[symbol] = ("down", "not connected")
            elif symbol in self.session.behind:
                found[symbol] = ("stale", "the exchange named trades that did not come")
            elif not self.session.streams[symbol].time:
                found[symbol] = ("stale", "nothing came yet")
            else:
                found[symbol] = ("live", "" if self.session.streams[symbol].book.is_live else "no book")
        return found

    def _is_open(self, symbol: str, stream: Stream) -> bool:
        return any(
            connection.is_open
            for connection in self.connections
            if stream in connection.line.streams and symbol in connection.line.symbols
        )

    # What the connections say

    async def opened(self, line: Line) -> None:
        """A line was opened: ask for its books."""
        if self._tap is not None:
            self._tap.opened(self._names[id(line)], self.clock())
        await self._do(line, self.session.connected(line.symbols, line.streams))

    def received(
        self, line: Line, messages: list[bytes], streams: frozenset[Stream]
    ) -> Awaitable[None] | None:
        """Messages came together; what is still to be done for them, if anything."""
        if self._unwritten >= MAX_UNWRITTEN or not self._may_read.is_set():
            return self._receive_later(line, messages, streams)
        self._unwritten += len(messages)
        now = self.clock()
        if self._tap is not None:
            url, is_beside = self._names[id(line)], streams is not STREAMS
            for message in messages:
                self._tap.received(url, now, message, is_beside=is_beside)
        wanted = line.streams if streams is STREAMS else streams & line.streams
        requests = self.session.messages(messages, now, line.path, wanted)
        return self._do(line, requests) if requests else None

    async def _receive_later(self, line: Line, messages: list[bytes], streams: frozenset[Stream]) -> None:
        while not self._may_read.is_set() or self._unwritten >= MAX_UNWRITTEN:
            await self._may_read.wait()
            if self._unwritten >= MAX_UNWRITTEN:
                await asyncio.sleep(0.01)
        if (work := self.received(line, messages, streams)) is not None:
            await work

    async def moved(self, line: Line) -> None:
        """A new socket took over: its books begin anew."""
        if self._tap is not None:
            self._tap.moved(self._names[id(line)], self.clock())
        if "book" in line.streams:
            await self._do(line, self.session.moved(line.symbols, "reconnected"))

    async def closed(self, line: Line, reason: str) -> None:
        """A line was lost."""
        log.warning("%s: connection lost: %s", self.session.adapter.exchange, reason)
        for symbol in line.symbols:
            if "book" in line.streams and (fetch := self._fetches.get(symbol)):
                fetch.cancel()
        await self._may_read.wait()
        if self._tap is not None:
            self._tap.closed(self._names[id(line)], self.clock())
        self.session.disconnected(line.symbols, line.streams)

    def sent(self, line: Line, text: str) -> None:
        """We sent a text."""
        if self._tap is not None:
            self._tap.sent(self._names[id(line)], self.clock(), text)

    # What the session wants

    async def _do(self, line: Line, requests: Sequence[Request]) -> None:
        for request in requests:
            match request:
                case Reply(text):
                    await self._connections[id(line)].send(text)
                case Send(text, symbol):
                    for connection in self.connections:
                        if "book" in connection.line.streams and symbol in connection.line.symbols:
                            await connection.send(text)
                case Fetch(symbol=symbol):
                    if before := self._fetches.get(symbol):
                        before.cancel()
                    self._fetches[symbol] = asyncio.create_task(self._fetch(line, request))
                case Reconnect(reason):
                    log.info("%s asks to reconnect: %s", self.session.adapter.exchange, reason)
                    self._connections[id(line)].renew()

    async def _fetch(self, line: Line, fetch: Fetch) -> None:
        """Get a book and pass it on; one that is too old, unreadable or not to be had is asked for again."""
        delay = BOOK_RETRY_SECONDS
        await self._book_turn(fetch.symbol)
        while self.session.awaits_book(fetch.symbol):
            try:
                answer = await self.rest.get(fetch.request)
            except Unavailable as error:
                log.warning("%s", error)
                answer = None
            if answer is not None:
                await self._may_read.wait()
                requests = self.session.rest(fetch.request.path, answer, self.clock())
                # Where it was too old the session asks for it again: that is done here, after a while.
                await self._do(line, [each for each in requests if not isinstance(each, Fetch)])
                if not self.session.awaits_book(fetch.symbol):
                    return
            await asyncio.sleep(delay)
            delay = min(2 * delay, MAX_BOOK_RETRY_SECONDS)

    async def _book_turn(self, symbol: str) -> None:
        """Wait where the symbol's book was asked for just now: a stream may break it with each message."""
        now = asyncio.get_running_loop().time()
        at, delay = self._book_turns.get(symbol, (-inf, 0.0))
        if now - at > 2 * delay:
            delay = 0.0
        turn = at if at > now else max(now, at + delay)
        if at <= now:
            self._book_turns[symbol] = turn, min(max(2 * delay, BOOK_RETRY_SECONDS), MAX_BOOK_PAUSE)
        await asyncio.sleep(turn - now)

    # Connected but silent

    async def _watch(self) -> None:
        """Open connections anew that live, and give nothing of what they should."""
        while True:
            await asyncio.sleep(1.0)
            self._say_refusals()
            now = self.clock()
            for connection in self.connections:
                if connection.is_open and (reason := self._silent_part(connection, now)):
                    log.warning("%s: %s: connecting anew", connection.url, reason)
                    await connection.reset()

    def _silent_part(self, connection: "Connection | CcxtConnection", now: int) -> str | None:
        line, session = connection.line, self.session
        age = asyncio.get_running_loop().time() - connection.opened_at
        if not self._may_read.is_set() or age < BEHIND_SECONDS:
            return None
        if "trades" in line.streams:
            for symbol in line.symbols:
                if (behind := session.behind.get(symbol)) and now - behind[1] > BEHIND_SECONDS * MICROSECONDS:
                    del session.behind[symbol]
                    return f"trades of {symbol} up to {behind[0]} do not come"
        if "book" in line.streams and age > BOOK_SILENCE:
            heard = max((session.books_heard.get(symbol, 0) for symbol in line.symbols), default=0)
            if now - heard > BOOK_SILENCE * MICROSECONDS:
                return "no book changes"
        return None

    def _say_refusals(self) -> None:
        refusals = list(self.session.refusals)
        for reason in refusals[self.refused :]:
            log.warning("%s refused: %s", self.session.adapter.exchange, reason)
        self.refused = len(refusals)

    async def close(self) -> None:
        """Give the REST connections back."""
        with contextlib.suppress(Exception):
            await self.rest.close()
