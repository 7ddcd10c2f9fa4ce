"""What every exchange adapter is: a sans-IO translator between an exchange's protocol and our events."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Sequence
from typing import ClassVar, Literal, TypeVar

from msgspec import DecodeError, Struct
from msgspec.json import Decoder

from collector.exchanges.events import BookDelta, BookReset, CandleSeen, Event
from collector.exchanges.texts import Numbers
from market import FundingRate, Instrument, OrderBook, Timeframe, Trade, WrongUse

T = TypeVar("T")


class MalformedMessage(Exception):
    """The message is not what the exchange's protocol allows; the text says why."""


def decode(decoder: Decoder[T], message: bytes | str) -> T:
    """What `message` holds, or MalformedMessage."""
    try:
        return decoder.decode(message)
    except (DecodeError, UnicodeError, RecursionError) as error:
        raise MalformedMessage(str(error)) from None


class RestRequest(Struct, frozen=True):
    """A GET of `path` (with its query, from the root) on the exchange's REST host.

    `weight` is what it costs of the adapter's `rest_rate`.
    """

    path: str
    weight: float = 1.0


Stream = Literal["trades", "book", "candles"]
STREAMS: frozenset[Stream] = frozenset(("trades", "book", "candles"))


class Line(Struct, frozen=True):
    """One websocket connection: its path and query, what it carries, and what to send once it is open."""

    path: str
    symbols: tuple[str, ...]
    subscribe: tuple[str, ...] = ()
    streams: frozenset[Stream] = STREAMS


class TradeRange(Struct, frozen=True, kw_only=True):
    """Trades that are asked for over REST: those with begin <= time < end (microseconds UTC).

    Where ids are consecutive, `first_id` and `last_id` name them instead (inclusive, as `Trade.trade_seq`
    counts); the times are then a hint only.
    """

    symbol: str
    begin: int
    end: int
    first_id: int | None = None
    last_id: int | None = None


class TradePage(Struct, frozen=True, kw_only=True):
    """What REST answers prove about a part of the tape: `trades`, in tape order, are all there are in it.

    The part is [from_timestamp, to_timestamp) and, where ids are consecutive, the ids from `first_id` to
    `last_id`, inclusive: one between them that is not among `trades` was never given to a trade. An empty
    `trades` is a statement too. A page may reach beyond what was asked for.
    """

    trades: list[Trade]
    from_timestamp: int
    to_timestamp: int
    first_id: int | None = None
    last_id: int | None = None


TradePages = Generator[RestRequest | TradePage, bytes, None]
"""A conversation over REST, sans I/O: it yields what to ask, is sent the answer's body, and yields pages.

Pages adjoin: each goes on where the one before ended, upwards or downwards. It ends when the range is
covered, or when the exchange has no more to say.
"""
CandlePages = Generator[RestRequest | list[CandleSeen], bytes, None]
"""The same for candles: lists of closed ones, in the order of time."""
FundingPages = Generator[RestRequest | list[FundingRate], bytes, None]
"""The same for funding: lists of what was paid, in the order of time; pages go upwards or downwards."""


class Facts(Struct, frozen=True, kw_only=True):
    """What `deltatape exchanges` tells about an exchange: a few words each, with their source and date."""

    title: str
    trades: str
    book: str
    candles: str
    history: str
    """Which trades REST still gives: what can be healed and backfilled."""
    source: str
    as_of: str


BookRule = Literal["rest_snapshot", "stream_snapshot"]
"""Where a book starts: from a REST answer between buffered deltas, or from a message of the stream."""


class BookSequence(ABC):
    """Decides, per exchange, whether a delta follows from the book as it stands. One per symbol."""

    shows_loss: ClassVar[bool] = True
    """Whether the next change shows that one before it was lost."""

    @abstractmethod
    def reset(self, event: BookReset) -> None:
        """A whole book was applied."""

    @abstractmethod
    def follows(self, event: BookDelta) -> bool | None:
        """True: apply it; None: it is older than the book, skip it; False: something is missing."""

    def check(self, event: BookDelta | BookReset, book: OrderBook) -> bool | None:
        """After applying: True if `book` matches the event's checksum, False if not, None without one.

        May first cut the book to the subscribed depth. A crossed book fails in the session, not here.
        """
        return None


class Adapter(ABC):
    """One exchange's protocol. Holds the symbol mapping and nothing else that a message changes."""

    exchange: ClassVar[str]
    ws_url: ClassVar[str]
    """Scheme, host and port of the websocket, without a path."""
    rest_url: ClassVar[str]
    """Scheme, host and port of the REST interface, without a path; empty where there is none."""
    book_rule: ClassVar[BookRule]
    has_consecutive_ids: ClassVar[bool]
    """Whether each trade's numeric id is the one before plus one, per symbol."""
    is_replay_only: ClassVar[bool] = False
    silence_limit: ClassVar[float] = 30.0
    """Seconds without any message after which a connection is dead."""
    symbols_per_line: ClassVar[int] = 50
    """Instruments that one connection carries, at most."""
    lifetime: ClassVar[float | None] = None
    """Seconds after which the exchange cuts every connection; None: it does not."""
    send_interval: ClassVar[float] = 0.1
    """Seconds to leave between two texts sent over one connection."""
    rest_rate: ClassVar[tuple[float, float]] = (1.0, 5.0)
    """Request weight a second over REST, and how much of it may be spent at once."""
    facts: ClassVar[Facts]

    def __init__(self) -> None:
        self.numbers = Numbers()
        self._has_list = False
        self._by_exchange_symbol: dict[str, Instrument] = {}
        self._by_symbol: dict[str, Instrument] = {}

    @property
    def inexact(self) -> int:
        """Numbers seen so far that no double holds exactly."""
        return self.numbers.inexact

    # Symbols

    def add_instruments(self, instruments: Iterable[Instrument]) -> None:
        """Learn the exchange's list of instruments; they win over the rule."""
        for instrument in instruments:
            self._has_list = True
            self._add(instrument)

    def _add(self, instrument: Instrument) -> Instrument:
        self._by_exchange_symbol[instrument.exchange_symbol] = instrument
        self._by_symbol[instrument.symbol] = instrument
        return instrument

    @property
    def instruments(self) -> list[Instrument]:
        """Every instrument learned so far, from the exchange's list or by rule."""
        return list(self._by_symbol.values())

    def instrument_of(self, exchange_symbol: str) -> Instrument:
        """The instrument that the exchange calls so, from its list, else by rule.

        Raises:
            WrongUse: neither resolves it.
        """
        instrument = self._by_exchange_symbol.get(exchange_symbol)
        if instrument is None:
            instrument = self.by_rule(exchange_symbol)
            if instrument is None:
                raise WrongUse(f"{self.exchange}: cannot resolve the symbol {exchange_symbol[:40]!r}")
            self._add(instrument)
        return instrument

    def instrument_for(self, symbol: str) -> Instrument:
        """The instrument of a unified symbol, from the exchange's list, else by rule.

        Raises:
            WrongUse: the exchange's list does not have it, or it is no unified symbol.
        """
        instrument = self._by_symbol.get(symbol)
        if instrument is None:
            instrument = self.by_symbol_rule(symbol)
            if self._has_list:
                raise WrongUse(f"{self.exchange} does not list {symbol}")
            self._add(instrument)
        return instrument

    @abstractmethod
    def by_rule(self, exchange_symbol: str) -> Instrument | None:
        """The instrument by the exchange's naming rule alone, None if the rule does not fit."""

    @abstractmethod
    def by_symbol_rule(self, symbol: str) -> Instrument:
        """The instrument of a unified symbol by the naming rule; raises WrongUse if it is malformed."""

    def _pair(self, symbol: str) -> tuple[str, str]:
        """Base and quote of a unified spot symbol; raises WrongUse if it is none."""
        base, _, quote = symbol.partition("/")
        if not (base.isalnum() and quote.isalnum()) or symbol != symbol.upper():
            raise WrongUse(f"{self.exchange}: {symbol!r} is no spot symbol: write it like BTC/USDT")
        return base, quote

    def _spot(self, exchange_symbol: str, base: str, quote: str) -> Instrument:
        """A spot instrument of which no more than its names is known."""
        return Instrument(
            exchange=self.exchange,
            symbol=f"{base}/{quote}",
            exchange_symbol=exchange_symbol,
            base=base,
            quote=quote,
            trade_ids_consecutive=self.has_consecutive_ids,
        )

    # Websocket

    @abstractmethod
    def lines(self, symbols: Sequence[str]) -> list[Line]:
        """The connections to open for these unified symbols: trades, level-2 book, candles where streamed.

        None carries more than `symbols_per_line` of them.
        """

    def _shares(self, symbols: Sequence[str]) -> Iterable[tuple[str, ...]]:
        """`symbols` in parts of at most `symbols_per_line`."""
        for begin in range(0, len(symbols), self.symbols_per_line):
            yield tuple(symbols[begin : begin + self.symbols_per_line])

    def resubscribe_book(self, symbol: str) -> list[str]:
        """Texts to send to get a whole new book of `symbol`, for `stream_snapshot` exchanges."""
        return []

    def keep_alive(self) -> tuple[float, str] | None:
        """(seconds, text): send `text` that often; None where the websocket's own pings are enough."""
        return None

    @abstractmethod
    def parse(self, message: bytes | str, path: str = "") -> list[Event]:
        """What one websocket message says, which came over the connection to `path` ("" if not known).

        Raises:
            MalformedMessage: it is damaged.
            WrongUse: it names a symbol that cannot be resolved.
        """

    @abstractmethod
    def book_sequence(self, symbol: str) -> BookSequence:
        """A fresh sequence check for the book of `symbol`."""

    # REST

    def instruments_requests(self) -> Sequence[RestRequest]:
        """Where the exchange lists its instruments; all the answers together are the whole list."""
        return ()

    def book_request(self, symbol: str) -> RestRequest | None:
        """Where to get a whole book of `symbol`, for `rest_snapshot` exchanges."""
        return None

    def trade_pages(self, wanted: TradeRange) -> TradePages | None:
        """How to get past trades over REST; None where the exchange gives none.

        The conversation raises MalformedMessage for an answer that is damaged or an error.
        """
        return None

    def candle_pages(self, symbol: str, timeframe: Timeframe, begin: int, end: int) -> CandlePages | None:
        """How to get the closed candles that open in [begin, end) over REST; None where there are none."""
        return None

    def funding_pages(self, symbol: str, begin: int, end: int) -> FundingPages | None:
        """How to get the funding that was paid in [begin, end) over REST; None where there is none."""
        return None

    @abstractmethod
    def parse_rest(self, path: str, body: bytes | str) -> Sequence[Event] | Sequence[Instrument]:
        """What a REST answer to `path` (with its query) says: events, or the exchange's instruments.

        An answer that is known but not stored gives a `Heard`; an unknown one an `Unhandled`.

        Raises:
            MalformedMessage: it is damaged, or an error in the exchange's words.
        """
