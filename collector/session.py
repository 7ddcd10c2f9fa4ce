"""One exchange's session: messages in, rows and requests out. Pure: no I/O, no clock.

The same session serves the live daemon, a recording's replay and the simulator: whoever drives it passes
each message with the time it was received, does what `requests` asks for, and writes what `take` returns.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from msgspec import Struct

from collector.book_sync import BookSync
from collector.exchanges.adapter import Adapter, MalformedMessage, RestRequest
from collector.exchanges.events import (
    Answer,
    BookDelta,
    BookReset,
    CandleSeen,
    Closing,
    Event,
    Heard,
    Refused,
    Subscribed,
    TradeSeen,
    Unhandled,
)
from collector.stream import InstrumentStream, StreamRows
from market import DAY, Instrument, WrongUse

MAX_RAW = 4096
"""Bytes kept of a rejected message."""
MAX_KINDS = 1000
"""Distinct refusals, unresolved symbols and unknown shapes kept by name; the counts go on."""
MAX_REJECTED = 1000
"""Rejected messages kept between two writes; the count goes on."""
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

    def __len__(self) -> int:
        return sum(map(len, self.rows.values())) + len(self.instruments) + len(self.rejected)


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
        self._symbols = None if symbols is None else frozenset(symbols)
        self._requests: list[Request] = []
        self._rejected: list[Rejected] = []
        self._announced: set[str] = set()
        self._awaited: set[str] = set()
        self._min_lag: int | None = None

    # What comes in

    def message(self, raw: bytes | str, received: int) -> list[Request]:
        """Take one websocket message, received at `received` (microseconds UTC); what to do about it."""
        self.counts.messages += 1
        try:
            events = self.adapter.parse(raw)
        except MalformedMessage as error:
            self._reject(raw, received, str(error))
        except WrongUse as error:
            _count(self.unresolved, str(error))
            self._reject(raw, received, str(error))
        else:
            self._take_events(raw, events, received)
        return self._take_requests()

    def rest(self, path: str, body: bytes | str, received: int) -> list[Request]:
        """Take the answer to a REST request for `path`; what to do about it."""
        try:
            found = self.adapter.parse_rest(path, body)
        except (MalformedMessage, WrongUse) as error:
            self._reject(body, received, str(error))
        else:
            instruments = [item for item in found if isinstance(item, Instrument)]
            self.adapter.add_instruments(instruments)
            self._take_events(body, [item for item in found if not isinstance(item, Instrument)], received)
        return self._take_requests()

    def connected(self) -> list[Request]:
        """A connection was opened: nothing is proven yet, and lags are measured anew; what to ask for."""
        self._min_lag = None
        self._awaited.clear()
        for symbol in self.streams:
            self._ask_for_book(symbol)
        return self._take_requests()

    def awaits_book(self, symbol: str) -> bool:
        """Whether a whole book of `symbol` was asked for over REST and has not come."""
        return symbol in self._awaited

    def disconnected(self) -> None:
        """The connection was lost, or the recording ended."""
        for stream in self.streams.values():
            stream.disconnected()

    def silent(self, now: int) -> None:
        """It is `now` on the wall clock and the connection is alive: advance the streams that are silent."""
        if self._min_lag is None or abs(self._min_lag) > PLAUSIBLE_LAG:
            return
        for stream in self.streams.values():
            if stream.time:
                stream.silent_until(now - self._min_lag)

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
                if symbol not in self._announced:
                    self._announced.add(symbol)
                    batch.instruments.append(self.adapter.instrument_for(symbol))
        self.counts.candles = sum(stream.candle_count for stream in self.streams.values())
        return batch

    # Events

    def _take_events(self, raw: bytes | str, events: list[Event], received: int) -> None:
        for event in events:
            if _time_of(event) > received + DAY:
                # Time only goes on: one wrong year would close every candle until then.
                self._reject(raw, received, "its time lies more than a day ahead of ours")
                return
            self._take(event, received)

    def _take(self, event: Event, received: int) -> None:
        match event:
            case TradeSeen(trade):
                self._trade(trade.symbol, event, received)
            case BookDelta(symbol) | BookReset(symbol):
                self._book(symbol, event)
            case CandleSeen(symbol):
                if stream := self._wanted(symbol):
                    stream.candle(event)
            case Heard(symbol=symbol, timestamp=timestamp):
                if symbol is not None and timestamp is not None and (stream := self._wanted(symbol)):
                    stream.show(timestamp)
            case Subscribed():
                pass
            case Answer(text):
                self._requests.append(Reply(text))
            case Refused(reason):
                _count(self.refusals, reason)
            case Closing(reason):
                self._requests.append(Reconnect(reason))
            case Unhandled(shape):
                self.counts.unhandled += 1
                _count(self.shapes, shape)

    def _trade(self, symbol: str, event: TradeSeen, received: int) -> None:
        stream = self._wanted(symbol)
        if stream is None:
            return
        self.counts.trades += 1
        lag = received - event.trade.timestamp
        if self._min_lag is None or lag < self._min_lag:
            self._min_lag = lag
        stream.trade(event.trade, received)

    def _book(self, symbol: str, event: BookDelta | BookReset) -> None:
        stream = self._wanted(symbol)
        if stream is None:
            return
        before = stream.book.checksums
        if isinstance(event, BookDelta):
            self.counts.book_updates += 1
            stream.book_delta(event)
        else:
            self._awaited.discard(symbol)
            stream.book_reset(event)
        self.counts.checksums += stream.book.checksums - before
        if stream.book.wants_book:
            stream.book.wants_book = False
            self._ask_for_book(symbol)
            self._requests += [Send(text, symbol) for text in self.adapter.resubscribe_book(symbol)]

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

    def _wanted(self, symbol: str) -> InstrumentStream | None:
        stream = self.streams.get(symbol)
        if stream is None and (self._symbols is None or symbol in self._symbols):
            stream = self.stream(symbol)
        return stream

    def _reject(self, raw: bytes | str, received: int, reason: str) -> None:
        self.counts.rejected += 1
        if len(self._rejected) < MAX_REJECTED:
            data = raw.encode() if isinstance(raw, str) else raw
            self._rejected.append(Rejected(received, reason, data[:MAX_RAW]))


def _time_of(event: Event) -> int:
    if isinstance(event, TradeSeen):
        return event.trade.timestamp
    return getattr(event, "timestamp", None) or 0


def _count(kinds: dict[str, int], kind: str) -> None:
    if kind in kinds or len(kinds) < MAX_KINDS:
        kinds[kind] = kinds.get(kind, 0) + 1
