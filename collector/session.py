"""One exchange's session: messages in, rows and requests out. Pure: no I/O, no clock.

The same session serves the live daemon, a recording's replay and the simulator: whoever drives it passes
each message with the time it was received, does what `requests` asks for, and writes what `take` returns.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct, structs

from collector.book_sync import BookSync
from collector.exchanges.adapter import STREAMS, Adapter, MalformedMessage, RestRequest, Stream
from collector.exchanges.events import (
    Answer,
    BookDelta,
    BookReset,
    CandleSeen,
    Closing,
    Event,
    Heard,
    Refused,
    TradeSeen,
    Unhandled,
)
from collector.rows import StreamRows
from collector.stream import InstrumentStream
from market import DAY, Instrument, WrongUse

MAX_RAW = 4096
"""Bytes kept of a rejected message."""
MAX_KINDS = 1000
"""Distinct refusals, unresolved symbols and unknown shapes kept by name; the counts go on."""
MAX_REJECTED = 1000
"""Rejected messages kept between two writes; the count goes on."""
MAX_AGE = 30 * DAY
"""How long before the newest time that came an event may be: the newest trade of a market may be old."""
PLAUSIBLE_LAG = 60_000_000
"""A stream whose time is further than this from ours is played back: only its messages move its time."""


class Rejected(Struct, frozen=True):
    """A message that could not be taken: when it came, why, and its first bytes."""

    timestamp: int
    reason: str
    raw: bytes


class Reply(Struct, frozen=True):
    """Send this text over the connection on which the message came."""

    text: str


class Send(Struct, frozen=True):
    """Send this text over the connection that carries the book of `symbol`."""

    text: str
    symbol: str


class Fetch(Struct, frozen=True):
    """Get this over REST and pass the answer to `Session.rest`."""

    request: RestRequest
    symbol: str


class Reconnect(Struct, frozen=True):
    """Connect anew: the exchange is about to cut the connection."""

    reason: str


Request = Reply | Send | Fetch | Reconnect


@dataclass(slots=True)
class Counts:
    """What came over a session, by kind."""

    messages: int = 0
    trades: int = 0
    book_updates: int = 0
    candles: int = 0
    checksums: int = 0
    rejected: int = 0
    gaps: int = 0
    unhandled: int = 0


@dataclass(slots=True)
class TapeBatch:
    """Everything that one write commits together, by symbol."""

    rows: dict[str, StreamRows] = field(default_factory=dict)
    instruments: list[Instrument] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    bookless: dict[str, tuple[int, int]] = field(default_factory=dict)
    """The first and the last time of each symbol's book snapshots that were given up, and are not here."""

    def __len__(self) -> int:
        return sum(map(len, self.rows.values())) + len(self.instruments) + len(self.rejected)

    @property
    def books(self) -> int:
        """How many book snapshots it holds."""
        return sum(len(rows.books) for rows in self.rows.values())

    def without_books(self) -> "TapeBatch":
        """The same but for book snapshots and what says that they are there."""
        rows = {
            symbol: structs.replace(
                each, books=[], spans=[span for span in each.spans if span.stream != "book"]
            )
            for symbol, each in self.rows.items()
        }
        found = TapeBatch(rows, self.instruments, self.rejected, dict(self.bookless))
        for symbol, each in self.rows.items():
            if times := [book.timestamp for book in each.books]:
                found._miss_books(symbol, min(times), max(times))
        return found

    def extend(self, later: "TapeBatch") -> None:
        """Take in what came after it."""
        for symbol, rows in later.rows.items():
            if symbol in self.rows:
                self.rows[symbol].extend(rows)
            else:
                self.rows[symbol] = rows
        self.instruments += later.instruments
        self.rejected += later.rejected
        for symbol, (first, last) in later.bookless.items():
            self._miss_books(symbol, first, last)

    def _miss_books(self, symbol: str, first: int, last: int) -> None:
        known = self.bookless.get(symbol, (first, last))
        self.bookless[symbol] = (min(first, known[0]), max(last, known[1]))


class Session:
    """The streams of one exchange, fed by its messages.

    Args:
        adapter: the exchange's protocol.
        symbols: the unified symbols to keep; None keeps whatever comes.
    """

    def __init__(self, adapter: Adapter, symbols: Collection[str] | None = None) -> None:
        self.adapter = adapter
        self.counts = Counts()
        self.refusals: dict[str, int] = {}
        self.unresolved: dict[str, int] = {}
        self.shapes: dict[str, int] = {}
        self.streams: dict[str, InstrumentStream] = {}
        self.books_heard: dict[str, int] = {}
        """When the last message of each symbol's book was received, in microseconds UTC."""
        self.behind: dict[str, tuple[int, int]] = {}
        """Symbols of which the exchange named a newer trade than came: its id, and when it was named."""
        self._symbols = None if symbols is None else frozenset(symbols)
        self._requests: list[Request] = []
        self._rejected: list[Rejected] = []
        self._announced: set[str] = set()
        self._awaited: set[str] = set()
        self.lag: Callable[[Sequence[int]], object] = _ignore
        """Told of the lags of the trades that are taken: microseconds from the exchange's time to receipt."""
        self._takers: dict[type[Event], Callable[[Any, int], None]] = {
            TradeSeen: self._trade,
            BookDelta: self._book_delta,
            BookReset: self._book_reset,
            CandleSeen: self._candle,
            Heard: self._hear,
        }
        self._min_lag: int | None = None
        self._newest = 0
        self._shows_book = True

    # What comes in

    def message(
        self, raw: bytes | str, received: int, path: str = "", streams: frozenset[Stream] = STREAMS
    ) -> list[Request]:
        """Take one websocket message; as `messages`."""
        return self.messages((raw,), received, path, streams)

    def messages(
        self, raws: Sequence[bytes | str], received: int, path: str, streams: frozenset[Stream]
    ) -> list[Request]:
        """Take websocket messages that came together; what to do about them.

        Args:
            raws: as they came, in order.
            received: when, in microseconds UTC.
            path: of the connection that they came over.
            streams: what to take of them: a second connection gives trades only while the first still lives.
        """
        self.counts.messages += len(raws)
        self._shows_book = "book" in streams
        parse, takes_all = self.adapter.parse, streams == STREAMS
        for raw in raws:
            try:
                events = parse(raw, path)
                if not takes_all:
                    events = [event for event in events if _stream_of(event) in (None, *streams)]
                self._take_events(events, received)
            except MalformedMessage as error:
                self._reject(raw, received, str(error))
            except WrongUse as error:
                _count(self.unresolved, str(error))
                self._reject(raw, received, str(error))
        return self._take_requests() if self._requests else []

    def rest(self, path: str, body: bytes | str, received: int) -> list[Request]:
        """Take the answer to a REST request for `path`; what to do about it."""
        self._shows_book = True
        try:
            found = self.adapter.parse_rest(path, body)
            self.adapter.add_instruments([item for item in found if isinstance(item, Instrument)])
            self._take_events([item for item in found if not isinstance(item, Instrument)], received)
        except (MalformedMessage, WrongUse) as error:
            self._reject(body, received, str(error))
        return self._take_requests()

    def connected(
        self, symbols: Collection[str] | None = None, streams: frozenset[Stream] = STREAMS
    ) -> list[Request]:
        """A connection that carries these streams (all of them, unless named) was opened; what to ask for.

        Lags are measured anew.
        """
        if "trades" in streams:
            self._min_lag = None
        if "book" in streams:
            for symbol in list(self.streams) if symbols is None else symbols:
                self._awaited.discard(symbol)
                self._ask_for_book(symbol)
        return self._take_requests()

    def moved(self, symbols: Collection[str], cause: str) -> list[Request]:
        """Another connection carries the books of `symbols` now: they begin anew; what to ask for."""
        for symbol in symbols:
            stream = self.streams[symbol]
            stream.disconnected(frozenset(("book",)), cause)
            self._want_book(stream)
        return self._take_requests()

    def awaits_book(self, symbol: str) -> bool:
        """Whether a whole book of `symbol` was asked for over REST and has not come."""
        return symbol in self._awaited

    def disconnected(
        self, symbols: Collection[str] | None = None, streams: frozenset[Stream] = STREAMS
    ) -> None:
        """The connection that carries these streams was lost, or the recording ended (all of them)."""
        for symbol in list(self.streams) if symbols is None else symbols:
            self.streams[symbol].disconnected(streams)

    def silent(self, now: int, symbols: Collection[str], with_book: Collection[str]) -> None:
        """It is `now` on the wall clock, and the connections of `symbols` live: advance silent ones.

        Those books that are `with_book` count as unchanged; of the others nobody knows.
        """
        if self._min_lag is None or abs(self._min_lag) > PLAUSIBLE_LAG:
            return
        for symbol in symbols:
            stream = self.streams[symbol]
            if stream.time:
                stream.silent_until(now - self._min_lag, shows_book=symbol in with_book)

    def damaged(self, raw: bytes, received: int, reason: str) -> None:
        """A line of a recording is no message at all."""
        self._reject(raw, received, reason)

    # What goes out

    def take(self) -> TapeBatch:
        """The rows that came since the last call."""
        batch = TapeBatch(rejected=self._rejected)
        self._rejected = []
        for symbol, stream in self.streams.items():
            rows = stream.take()
            if len(rows):
                batch.rows[symbol] = rows
                self.counts.gaps += len(rows.gaps)
                self.lag(rows.lags())
                if symbol not in self._announced:
                    self._announced.add(symbol)
                    batch.instruments.append(self.adapter.instrument_for(symbol))
        self.counts.candles = sum(stream.candle_count for stream in self.streams.values())
        self.counts.checksums = sum(stream.book.checksums for stream in self.streams.values())
        return batch

    # Events

    def _take_events(self, events: list[Event], received: int) -> None:
        """Take what events say; raises MalformedMessage at the first whose time or id cannot be."""
        for event in events:
            self._takers.get(type(event), self._take_other)(event, received)

    def _believe(self, time: int, received: int) -> None:
        """Raise MalformedMessage for a time that cannot be: candles of all between would be made."""
        if time > self._newest:
            if time > received + DAY:
                raise MalformedMessage("its time lies more than a day ahead of ours")
            self._newest = time
        elif time < self._newest - MAX_AGE:
            raise MalformedMessage("its time lies more than a month before what came")

    def _take_other(self, event: Event, _: int) -> None:
        match event:
            case Answer(text):
                self._requests.append(Reply(text))
            case Refused(reason):
                _count(self.refusals, reason)
            case Closing(reason):
                self._requests.append(Reconnect(reason))
            case Unhandled(shape):
                self.counts.unhandled += 1
                _count(self.shapes, shape)

    def _trade(self, event: TradeSeen, received: int) -> None:
        trade = event.trade
        stream = self._wanted(trade.symbol, trade.timestamp, received)
        if stream is None:
            return
        stream.trade(trade, received)
        self.counts.trades += 1
        lag = received - trade.timestamp
        if self._min_lag is None or lag < self._min_lag:
            self._min_lag = lag
        if self.behind and (missed := self.behind.get(trade.symbol)) and missed[0] <= trade.trade_seq:
            del self.behind[trade.symbol]

    def _book_delta(self, event: BookDelta, received: int) -> None:
        stream = self._wanted(event.symbol, event.timestamp, received)
        if stream is not None:
            self.counts.book_updates += 1
            stream.book_delta(event)
            self._hear_book(stream, received)

    def _book_reset(self, event: BookReset, received: int) -> None:
        stream = self._wanted(event.symbol, event.timestamp, received)
        if stream is not None:
            self._awaited.discard(event.symbol)
            stream.book_reset(event)
            self._hear_book(stream, received)

    def _hear_book(self, stream: InstrumentStream, received: int) -> None:
        self.books_heard[stream.symbol] = received
        if stream.book.wants_book:
            self._want_book(stream)

    def _candle(self, event: CandleSeen, received: int) -> None:
        stream = self._wanted(event.symbol, event.timestamp, received)
        self._believe(event.open_time, received)
        if stream is not None:
            stream.candle(event)

    def _want_book(self, stream: InstrumentStream) -> None:
        stream.book.wants_book = False
        self._ask_for_book(stream.symbol)
        self._requests += [Send(text, stream.symbol) for text in self.adapter.resubscribe_book(stream.symbol)]

    def _hear(self, event: Heard, received: int) -> None:
        stream = self._wanted(event.symbol, event.timestamp, received)
        if stream is None:
            return
        newest = event.last_trade_id
        if newest is not None and stream.last_id is not None and newest > stream.last_id:
            self.behind.setdefault(stream.symbol, (newest, received))
        if event.timestamp is not None:
            stream.show(event.timestamp)

    def _ask_for_book(self, symbol: str) -> None:
        if symbol in self._awaited:
            return
        if request := self.adapter.book_request(symbol):
            self._awaited.add(symbol)
            self._requests.append(Fetch(request, symbol))

    def _take_requests(self) -> list[Request]:
        requests, self._requests = self._requests, []
        return requests

    def stream(self, symbol: str) -> InstrumentStream:
        """The stream of one instrument, a new one if it has none yet."""
        stream = self.streams.get(symbol)
        if stream is None:
            adapter = self.adapter
            adapter.instrument_for(symbol)
            book = BookSync(symbol, adapter.book_rule, adapter.book_sequence(symbol))
            stream = InstrumentStream(symbol, book, has_consecutive_ids=adapter.has_consecutive_ids)
            self.streams[symbol] = stream
        return stream

    def _wanted(self, symbol: str | None, time: int | None, received: int) -> InstrumentStream | None:
        """The stream of a symbol that is collected; raises MalformedMessage for a time that cannot be."""
        if time is not None:
            self._believe(time, received)
        if symbol is None:
            return None
        stream = self.streams.get(symbol)
        if stream is None:
            if self._symbols is not None and symbol not in self._symbols:
                return None
            stream = self.stream(symbol)
        stream.shows_book = self._shows_book
        return stream

    def _reject(self, raw: bytes | str, received: int, reason: str) -> None:
        self.counts.rejected += 1
        for stream in self.streams.values():
            stream.book.doubt("rejected")
            if stream.book.wants_book:
                self._want_book(stream)
        if len(self._rejected) < MAX_REJECTED:
            data = raw.encode() if isinstance(raw, str) else raw
            self._rejected.append(Rejected(received, reason, data[:MAX_RAW]))


def _stream_of(event: Event) -> Stream | None:
    """Which stream an event belongs to; None for what concerns the connection itself."""
    match event:
        case BookDelta() | BookReset():
            return "book"
        case CandleSeen():
            return "candles"
        case TradeSeen():
            return "trades"
        case _:
            return None


def _count(kinds: dict[str, int], kind: str) -> None:
    if kind in kinds or len(kinds) < MAX_KINDS:
        kinds[kind] = kinds.get(kind, 0) + 1


def _ignore(_: Sequence[int]) -> None:
    """Nobody measures."""
