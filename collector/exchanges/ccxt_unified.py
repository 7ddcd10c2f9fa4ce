"""Every exchange that ccxt listens to, through messages of our own that carry ccxt's unified structures.

`collector.ccxt_feed` makes these messages of what ccxt's `watch_…` methods give, so that they are recorded,
replayed and checked like any exchange's. Numbers are texts: the shortest decimal of the double that ccxt has.

Source: https://docs.ccxt.com, "Trade structure", "Order Book Structure", "OHLCV Structure", November 2026.
"""

import importlib
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct, ValidationError, structs
from msgspec.json import Decoder

from collector.exchanges.adapter import (
    Adapter,
    BookRule,
    BookSequence,
    Facts,
    Line,
    MalformedMessage,
    decode,
)
from collector.exchanges.events import (
    BookDelta,
    BookReset,
    CandleSeen,
    Event,
    Heard,
    Refused,
    TradeSeen,
    Unhandled,
)
from collector.exchanges.texts import MAX_SECONDS
from market import Instrument, Side, Timeframe, Trade, WrongUse
from market.instrument import MarketType

MAX_TIMES = 10_000
"""Times per symbol whose trades are counted: none comes later than that many others."""
_SYMBOL = re.compile(r"([^\s/:]+)/([^\s/:]+)(?::([^\s/:-]+)(?:-[0-9A-Z-]+)?)?")
_MAX_SEQ = 2**63 - 1

Milliseconds = Annotated[int, Meta(ge=0, le=MAX_SECONDS * 1000)]
CandleRow = tuple[Milliseconds, str, str, str, str, str]
Count = Annotated[int, Meta(ge=0, le=_MAX_SEQ)]


class UnifiedTrade(Struct, gc=False, omit_defaults=True):
    """{"timestamp":1760000000123,"price":"64000.1","amount":"0.02","id":"17","side":"buy"}."""

    timestamp: Milliseconds
    price: str
    amount: str
    id: str | None = None
    side: Literal["buy", "sell"] | None = None


class Trades(Struct, tag_field="channel", tag="trades", gc=False):
    """{"channel":"trades","symbol":"BTC/USDT","data":[…]}."""

    symbol: str
    data: list[UnifiedTrade]


class Book(Struct, tag_field="channel", tag="book", gc=False):
    """{"channel":"book","symbol":"BTC/USDT","timestamp":…,"bids":[["64000.1","2"],…],"asks":[…]}.

    The whole book, as deep as it is kept; `timestamp` is the exchange's, or else ours.
    """

    symbol: str
    timestamp: Milliseconds
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    sequence: Count | None = None


class Candles(Struct, tag_field="channel", tag="candles", gc=False):
    """{"channel":"candles","symbol":"BTC/USDT","timeframe":"1m","data":[[open time in ms,o,h,l,c,v],…]}."""

    symbol: str
    timeframe: Timeframe
    data: list[CandleRow]


class Market(Struct, gc=False, omit_defaults=True):
    """What ccxt's `markets` say of one symbol."""

    symbol: str
    id: str
    base: str
    quote: str
    type: MarketType = MarketType.SPOT
    expiry: Milliseconds | None = None
    tick_size: str | None = None
    lot_size: str | None = None
    contract_size: str | None = None
    min_notional: str | None = None
    is_active: bool = True


class Markets(Struct, tag_field="channel", tag="markets", gc=False):
    """{"channel":"markets","data":[…]}: the symbols listened to, after each opening."""

    data: list[Market]


class Opened(Struct, tag_field="channel", tag="opened", gc=False):
    """{"channel":"opened"}: ccxt listens anew; what it gives may repeat what it gave."""


class Failed(Struct, tag_field="channel", tag="failed", gc=False):
    """{"channel":"failed","reason":"BadSymbol: …"}: ccxt will not listen to this."""

    reason: str


Message = Trades | Book | Candles | Markets | Opened | Failed

_TAGS = ("trades", "book", "candles", "markets", "opened", "failed")
_MESSAGE: Decoder[Message] = Decoder(Message)
_ANY: Decoder[Any] = Decoder()


class CcxtBook(BookSequence):
    """What ccxt does: it keeps the book itself and gives it whole, so there are no changes."""

    def reset(self, event: BookReset) -> None:
        """A whole book follows from nothing."""

    def follows(self, event: BookDelta) -> bool | None:
        """No change ever does."""
        return False


class Ccxt(Adapter):
    """One exchange through ccxt; `unified` makes it. Like Kraken v1's it remembers which trades it has seen.

    A trade without an id is named after its time, side, price, amount and its place among those that share
    them; one without a number in its id takes its place among those of its symbol and time. Both are counted
    from each opening, so that what is given again afterwards is known again.
    """

    ws_url: ClassVar[str] = "ccxt://"
    rest_url: ClassVar[str] = ""
    book_rule: ClassVar[BookRule] = "stream_snapshot"
    has_consecutive_ids: ClassVar[bool] = False
    silence_limit: ClassVar[float] = 300.0
    symbols_per_line: ClassVar[int] = 100
    facts: ClassVar[Facts] = Facts(
        title="any exchange, through ccxt",
        trades="watch_trades: ids as the exchange has them, holes unproven",
        book="watch_order_book: whole, 100 levels, four times a second at most",
        candles="watch_ohlcv 1m where there is one",
        history="none",
        source="https://docs.ccxt.com",
        as_of="2026-11",
    )

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, dict[int, dict[str, int]]] = defaultdict(dict)

    def by_rule(self, exchange_symbol: str) -> Instrument | None:
        """The messages name unified symbols; an exchange's own cannot be told."""
        return self._by_name(exchange_symbol)

    def by_symbol_rule(self, symbol: str) -> Instrument:
        """BTC/USDT is spot, BTC/USDT:USDT linear, BTC/USD:BTC inverse, with an expiry after a dash."""
        found = self._by_name(symbol)
        if found is None:
            raise WrongUse(f"{self.exchange}: {symbol!r} is no unified symbol: write it like BTC/USDT")
        return found

    def _by_name(self, symbol: str) -> Instrument | None:
        found = _SYMBOL.fullmatch(symbol)
        if found is None or symbol != symbol.upper():
            return None
        base, quote, settle = found.groups()
        kind = MarketType.SPOT
        if settle is not None:
            kind = MarketType.INVERSE if settle == base else MarketType.LINEAR
        return structs.replace(self._spot(symbol, base, quote), symbol=symbol, market_type=kind)

    def lines(self, symbols: Sequence[str]) -> list[Line]:
        """A line is one client of ccxt, which opens the connections that it needs."""
        return [Line("/", share) for share in self._shares(symbols)]

    def book_sequence(self, symbol: str) -> BookSequence:
        """Whole books only."""
        return CcxtBook()

    def parse(self, message: bytes | str, path: str = "") -> list[Event]:
        """One message of our own making, told by its `channel`."""
        try:
            return self._events(_MESSAGE.decode(message))
        except ValidationError as error:
            body = decode(_ANY, message)
            kind = body.get("channel") if isinstance(body, dict) else type(body).__name__
            if kind in _TAGS:
                raise MalformedMessage(str(error)) from None
            return [Unhandled(str(kind)[:80])]
        except (ValueError, RecursionError) as error:
            raise MalformedMessage(str(error)) from None

    def _events(self, message: Message) -> list[Event]:
        match message:
            case Trades(symbol=symbol, data=trades):
                symbol = self.instrument_for(symbol).symbol
                return [TradeSeen(self._trade(symbol, trade)) for trade in trades]
            case Book():
                return [self._book(message)]
            case Candles(symbol=symbol, timeframe=timeframe, data=rows):
                symbol = self.instrument_for(symbol).symbol
                return [self._candle(symbol, timeframe, row) for row in rows]
            case Markets(data=markets):
                self.add_instruments([self._instrument(market) for market in markets])
                return [Heard("markets")]
            case Opened():
                self._counts.clear()
                return [Heard("opened")]
            case Failed(reason=reason):
                return [Refused(reason[:200])]

    def _trade(self, symbol: str, trade: UnifiedTrade) -> Trade:
        price, size = self.numbers.price(trade.price), self.numbers.price(trade.amount)
        timestamp, trade_id = trade.timestamp * 1000, trade.id
        if trade_id is None:
            name = f"{timestamp}-{trade.side or '?'}-{trade.price}-{trade.amount}"
            trade_id = f"{name}-{self._count(symbol, timestamp, name)}"
        if trade_id.isascii() and trade_id.isdigit() and int(trade_id) <= _MAX_SEQ:
            seq = int(trade_id)
        else:
            seq = self._count(symbol, timestamp, "")
        side = None if trade.side is None else Side(trade.side)
        return Trade(symbol, timestamp, trade_id, seq, price, size, side)

    def _count(self, symbol: str, timestamp: int, name: str) -> int:
        """How many of this name there were before at this time."""
        times = self._counts[symbol]
        counts = times.setdefault(timestamp, {})
        counts[name] = counts.get(name, -1) + 1
        if len(times) > MAX_TIMES:
            del times[next(iter(times))]
        return counts[name]

    def _book(self, book: Book) -> BookReset:
        return BookReset(
            self.instrument_for(book.symbol).symbol,
            book.timestamp * 1000,
            self.numbers.levels(book.bids),
            self.numbers.levels(book.asks),
            book.sequence,
        )

    def _candle(
        self, symbol: str, timeframe: Timeframe, row: tuple[int, str, str, str, str, str]
    ) -> CandleSeen:
        opened, *prices, volume = row
        first, high, low, last = self.numbers.candle(prices)
        if timeframe.open_of(opened * 1000) != opened * 1000:
            raise ValueError(f"a {timeframe} candle does not open at {opened}")
        return CandleSeen(
            symbol=symbol,
            timestamp=None,
            timeframe=timeframe,
            open_time=opened * 1000,
            open=first,
            high=high,
            low=low,
            close=last,
            volume=self.numbers.amount(volume),
            buy_volume=None,
            trade_count=None,
            is_closed=False,
        )

    def _instrument(self, market: Market) -> Instrument:
        return Instrument(
            exchange=self.exchange,
            symbol=market.symbol,
            exchange_symbol=market.id,
            base=market.base,
            quote=market.quote,
            market_type=market.type,
            expiry_timestamp=None if market.expiry is None else market.expiry * 1000,
            tick_size=market.tick_size,
            lot_size=market.lot_size,
            contract_size=market.contract_size,
            min_notional=market.min_notional,
            is_active=market.is_active,
        )

    def parse_rest(self, path: str, body: bytes | str) -> Sequence[Event] | Sequence[Instrument]:
        """REST is left to ccxt: whatever this is, it is not known."""
        decode(_ANY, body)
        return [Unhandled(path[:80])]


def knows(exchange: str) -> bool:
    """Whether ccxt can listen to the exchange with this id."""
    return exchange in exchanges()


def exchanges() -> list[str]:
    """The ids of the exchanges that ccxt can listen to. The first call imports ccxt: it takes a while."""
    return list(importlib.import_module("ccxt.pro").exchanges)


def unified(exchange: str) -> Adapter:
    """A new adapter for an exchange by its ccxt id."""
    made: type[Adapter] = type("Ccxt", (Ccxt,), {"exchange": exchange})
    return made()
