"""Binance spot: combined streams over websocket, whole books and the instrument list over REST.

Source: https://developers.binance.com/docs/binance-spot-api-docs, as of November 2026.
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Meta, Struct, ValidationError, field
from msgspec.json import Decoder

from collector.exchanges.adapter import (
    Adapter,
    BookRule,
    BookSequence,
    MalformedMessage,
    RestRequest,
    decode,
)
from collector.exchanges.events import (
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
from collector.exchanges.texts import MAX_SECONDS
from market import Instrument, Side, Timeframe, Trade, WrongUse

STREAMS = ("@trade", "@depth@100ms", "@kline_1m")
MAX_STREAMS = 1024
BOOK_LIMIT = 1000
# fmt: off
QUOTES = tuple(sorted((
    "AEUR", "ARS", "AUD", "BFUSD", "BIDR", "BKRW", "BNB", "BRL", "BTC", "BUSD", "BVND", "COP", "CZK", "DAI",
    "DOGE", "DOT", "ETH", "EUR", "EURI", "FDUSD", "GBP", "GYEN", "IDR", "IDRT", "JPY", "MXN", "NGN", "PAX",
    "PLN", "RLUSD", "RON", "RUB", "SOL", "TRX", "TRY", "TUSD", "U", "UAH", "USD1", "USDC", "USDE", "USDP",
    "USDS", "USDT", "VAI", "XRP", "XUSD", "ZAR",
), key=len, reverse=True))
# fmt: on
"""What symbols end with, longest first."""
_NOT_STORED = frozenset(
    ("24hrTicker", "24hrMiniTicker", "1hTicker", "4hTicker", "1dTicker", "avgPrice", "blockTrade")
)
_NOT_STORED_PATHS = frozenset(
    f"/api/v3/{name}" for name in ("trades", "historicalTrades", "aggTrades", "klines")
)
_TIMEFRAMES = {timeframe.value: timeframe for timeframe in Timeframe}

_Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Milliseconds = Annotated[int, Meta(ge=0, le=MAX_SECONDS * 1000)]
_Levels = list[tuple[str, str]]


class _Trade(Struct, tag_field="e", tag="trade", gc=False):
    """{"e":"trade","E":…,"s":"BNBBTC","t":12345,"p":"0.001","q":"100","T":…,"m":true,"M":true}."""

    symbol: str = field(name="s")
    trade_id: _Id = field(name="t")
    price: str = field(name="p")
    size: str = field(name="q")
    time: _Milliseconds = field(name="T")
    is_buyer_maker: bool = field(name="m")


class _Aggregate(Struct, tag_field="e", tag="aggTrade", gc=False):
    """{"e":"aggTrade",…,"a":15683430,"p":"0.3528","q":"58.0","f":100,"l":105,"T":…,"m":false}."""

    symbol: str = field(name="s")
    trade_id: _Id = field(name="a")
    price: str = field(name="p")
    size: str = field(name="q")
    first_fill: _Id = field(name="f")
    last_fill: _Id = field(name="l")
    time: _Milliseconds = field(name="T")
    is_buyer_maker: bool = field(name="m")


class _Depth(Struct, tag_field="e", tag="depthUpdate", gc=False):
    """{"e":"depthUpdate","E":…,"s":"NKNUSDT","U":499869753,"u":499869754,"b":[["0.35","4.0"]],"a":[]}."""

    event_time: _Milliseconds = field(name="E")
    symbol: str = field(name="s")
    first: _Id = field(name="U")
    last: _Id = field(name="u")
    bids: _Levels = field(name="b")
    asks: _Levels = field(name="a")


class _Bar(Struct, gc=False):
    open_time: _Milliseconds = field(name="t")
    interval: str = field(name="i")
    open: str = field(name="o")
    high: str = field(name="h")
    low: str = field(name="l")
    close: str = field(name="c")
    volume: str = field(name="v")
    buy_volume: str = field(name="V")
    trade_count: _Id = field(name="n")
    is_closed: bool = field(name="x")


class _Kline(Struct, tag_field="e", tag="kline", gc=False):
    """{"e":"kline","E":…,"s":"NKNUSDT","k":{"t":…,"i":"1m","o":…,"c":…,"h":…,"l":…,"v":…,"x":false,…}}."""

    event_time: _Milliseconds = field(name="E")
    symbol: str = field(name="s")
    bar: _Bar = field(name="k")


class _Shutdown(Struct, tag_field="e", tag="serverShutdown", gc=False):
    event_time: _Milliseconds = field(name="E")


class _BestPrices(Struct, gc=False):
    """{"u":499869768,"s":"NKNUSDT","b":"0.3521","B":"672.0","a":"0.3526","A":"3199.0"}."""

    update_id: _Id = field(name="u")
    symbol: str = field(name="s")
    bid: str = field(name="b")
    ask: str = field(name="a")


_Payload = _Trade | _Depth | _Kline | _Aggregate | _Shutdown


class _Combined(Struct, gc=False):
    data: _Payload


class _WholeBook(Struct, gc=False):
    sequence: _Id = field(name="lastUpdateId")
    bids: _Levels
    asks: _Levels


class _Filter(Struct, gc=False, rename="camel"):
    filter_type: str
    tick_size: str | None = None
    step_size: str | None = None
    min_notional: str | None = None


class _Symbol(Struct, gc=False, rename="camel"):
    symbol: str
    status: str
    base_asset: str
    quote_asset: str
    filters: list[_Filter]


class _ExchangeInfo(Struct, gc=False):
    symbols: list[_Symbol]


_TAGS = frozenset(("trade", "depthUpdate", "kline", "aggTrade", "serverShutdown"))
_BARE: Decoder[_Payload] = Decoder(_Payload)
_COMBINED = Decoder(_Combined)
_WRAPPED = ('{"stream"', b'{"stream"')
_ANY: Decoder[Any] = Decoder()
_WHOLE_BOOK = Decoder(_WholeBook)
_EXCHANGE_INFO = Decoder(_ExchangeInfo)


class BinanceBook(BookSequence):
    """Update ids: a delta covers [U, u] and must reach from the id after the book's last one.

    Sizes are absolute, so a delta that also covers older ids (the first one after a snapshot) applies.
    """

    def __init__(self) -> None:
        self._last: int | None = None

    def reset(self, event: BookReset) -> None:
        """Go on from the snapshot's `lastUpdateId`."""
        self._last = event.sequence

    def follows(self, event: BookDelta) -> bool | None:
        """Whether [U, u] holds the next id; None where all of it is old."""
        if self._last is None or event.first_sequence is None or event.last_sequence is None:
            return False
        if event.last_sequence <= self._last:
            return None
        if event.first_sequence > self._last + 1:
            return False
        self._last = event.last_sequence
        return True


class Binance(Adapter):
    """Binance spot: single trades, the diff book, 1m candles."""

    exchange: ClassVar[str] = "binance"
    ws_url: ClassVar[str] = "wss://stream.binance.com:9443"
    rest_url: ClassVar[str] = "https://api.binance.com"
    book_rule: ClassVar[BookRule] = "rest_snapshot"
    has_consecutive_ids: ClassVar[bool] = True
    silence_limit: ClassVar[float] = 60.0

    def by_rule(self, exchange_symbol: str) -> Instrument | None:
        """BTCUSDT is BTC/USDT: the longest known quote that it ends with."""
        for quote in QUOTES:
            base = exchange_symbol.removesuffix(quote)
            if base != exchange_symbol and base.isalnum() and exchange_symbol == exchange_symbol.upper():
                return self._spot(exchange_symbol, base, quote)
        return None

    def by_symbol_rule(self, symbol: str) -> Instrument:
        """BTC/USDT is BTCUSDT."""
        base, quote = self._pair(symbol)
        return self._spot(base + quote, base, quote)

    def path(self, symbols: Sequence[str]) -> str:
        """The streams of the symbols, in the path: nothing is left to subscribe."""
        names = [self.instrument_for(symbol).exchange_symbol.lower() for symbol in symbols]
        streams = [name + stream for name in names for stream in STREAMS]
        if len(streams) > MAX_STREAMS:
            raise WrongUse(
                f"{self.exchange}: {len(symbols)} symbols need {len(streams)} streams, a connection carries"
                f" {MAX_STREAMS}: collect at most {MAX_STREAMS // len(STREAMS)} symbols a process"
            )
        return "/stream?streams=" + "/".join(streams)

    def subscribe(self, symbols: Sequence[str]) -> list[str]:
        """Nothing: the path names the streams."""
        return []

    def book_sequence(self, symbol: str) -> BookSequence:
        """The check of `U` and `u`."""
        return BinanceBook()

    def parse(self, message: bytes | str) -> list[Event]:
        """Combined and bare payloads alike."""
        try:
            if message[:9] in _WRAPPED:
                return self._events(_COMBINED.decode(message).data)
            return self._events(_BARE.decode(message))
        except ValidationError:
            return self._untyped(decode(_ANY, message))
        except (ValueError, RecursionError) as error:
            raise MalformedMessage(str(error)) from None

    def _events(self, payload: _Payload) -> list[Event]:
        if isinstance(payload, _Trade):
            return [TradeSeen(self._trade(payload, str(payload.trade_id), 1))]
        if isinstance(payload, _Depth):
            return [self._depth(payload)]
        if isinstance(payload, _Kline):
            return [self._candle(payload)]
        if isinstance(payload, _Aggregate):
            fill_count = payload.last_fill - payload.first_fill + 1
            if fill_count < 1:
                raise ValueError("the last fill of an aggregate is before its first")
            return [TradeSeen(self._trade(payload, f"a{payload.trade_id}", fill_count))]
        return [Closing("the server is shutting down")]

    def _trade(self, payload: _Trade | _Aggregate, trade_id: str, fill_count: int) -> Trade:
        return Trade(
            self.instrument_of(payload.symbol).symbol,
            payload.time * 1000,
            trade_id,
            payload.trade_id,
            self.numbers.price(payload.price),
            self.numbers.price(payload.size),
            Side.SELL if payload.is_buyer_maker else Side.BUY,
            fill_count,
        )

    def _depth(self, payload: _Depth) -> BookDelta:
        if payload.last < payload.first:
            raise ValueError("the last update id is before the first")
        return BookDelta(
            self.instrument_of(payload.symbol).symbol,
            payload.event_time * 1000,
            self.numbers.levels(payload.bids),
            self.numbers.levels(payload.asks),
            payload.first,
            payload.last,
        )

    def _candle(self, payload: _Kline) -> CandleSeen | Heard:
        symbol, timestamp = self.instrument_of(payload.symbol).symbol, payload.event_time * 1000
        bar = payload.bar
        timeframe = _TIMEFRAMES.get(bar.interval)
        if timeframe is None:
            return Heard(f"kline_{bar.interval[:8]}", symbol, timestamp)
        first, high, low, last = self.numbers.candle((bar.open, bar.high, bar.low, bar.close))
        open_time = bar.open_time * 1000
        if timeframe.open_of(open_time) != open_time:
            raise ValueError(f"a {timeframe} candle does not open at {open_time}")
        return CandleSeen(
            symbol=symbol,
            timestamp=timestamp,
            timeframe=timeframe,
            open_time=open_time,
            open=first,
            high=high,
            low=low,
            close=last,
            volume=self.numbers.amount(bar.volume),
            buy_volume=self.numbers.amount(bar.buy_volume),
            trade_count=bar.trade_count,
            is_closed=bar.is_closed,
        )

    def _untyped(self, body: Any) -> list[Event]:
        """What is not in the union of payloads: best prices, answers, and what nobody knows."""
        payload = body.get("data", body) if isinstance(body, dict) else body
        if not isinstance(payload, dict):
            return [Unhandled(f"a {type(payload).__name__}")]
        kind = payload.get("e")
        try:
            if kind in _TAGS:
                return self._events(msgspec.convert(payload, _Payload))
            if kind is None and "B" in payload and "A" in payload:
                prices = msgspec.convert(payload, _BestPrices)
                return [Heard("bookTicker", self.instrument_of(prices.symbol).symbol)]
        except ValueError as error:
            raise MalformedMessage(str(error)) from None
        if kind in _NOT_STORED or (kind is None and "lastUpdateId" in payload):
            return [Heard(kind or "depth")]
        if kind is None and ("error" in payload or "code" in payload):
            return [Refused(_reason(payload))]
        if kind is None and "result" in payload and "id" in payload:
            return [Subscribed("streams")]
        return [Unhandled(str(kind or sorted(payload))[:80])]

    def instruments_request(self) -> RestRequest | None:
        """Every symbol, with its filters."""
        return RestRequest("/api/v3/exchangeInfo")

    def book_request(self, symbol: str) -> RestRequest | None:
        """The best 1000 levels a side (weight 50 of 6000 a minute)."""
        name = self.instrument_for(symbol).exchange_symbol
        return RestRequest(f"/api/v3/depth?symbol={name}&limit={BOOK_LIMIT}")

    def parse_rest(self, path: str, body: bytes | str) -> Sequence[Event] | Sequence[Instrument]:
        """Books and the instrument list; other known answers are heard."""
        url = urlsplit(path)
        if url.path == "/api/v3/exchangeInfo":
            return [self._instrument(symbol) for symbol in self._answer(_EXCHANGE_INFO, body).symbols]
        if url.path == "/api/v3/depth":
            return [self._whole_book(parse_qs(url.query).get("symbol", []), body)]
        answer = decode(_ANY, body)
        if isinstance(answer, dict) and "code" in answer:
            raise MalformedMessage(_reason(answer))
        if url.path in _NOT_STORED_PATHS:
            return [Heard(url.path)]
        return [Unhandled(url.path[:80])]

    def _answer(self, decoder: "Decoder[Any]", body: bytes | str) -> Any:
        try:
            return decode(decoder, body)
        except MalformedMessage:
            answer = decode(_ANY, body)
            if isinstance(answer, dict) and "code" in answer:
                raise MalformedMessage(_reason(answer)) from None
            raise

    def _whole_book(self, names: list[str], body: bytes | str) -> BookReset:
        book: _WholeBook = self._answer(_WHOLE_BOOK, body)
        if not names:
            raise MalformedMessage("a book without the symbol in its request")
        try:
            return BookReset(
                self.instrument_of(names[0]).symbol,
                None,
                self.numbers.levels(book.bids),
                self.numbers.levels(book.asks),
                book.sequence,
            )
        except ValueError as error:
            raise MalformedMessage(str(error)) from None

    def _instrument(self, listed: _Symbol) -> Instrument:
        filters = {item.filter_type: item for item in listed.filters}
        price, lot = filters.get("PRICE_FILTER"), filters.get("LOT_SIZE")
        notional = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL")
        return msgspec.structs.replace(
            self._spot(listed.symbol, listed.base_asset, listed.quote_asset),
            tick_size=price.tick_size if price else None,
            lot_size=lot.step_size if lot else None,
            min_notional=notional.min_notional if notional else None,
            is_active=listed.status == "TRADING",
        )


class Simulated(Binance):
    """The simulator on this machine: Binance's protocol under an id of its own."""

    exchange: ClassVar[str] = "simulated"
    ws_url: ClassVar[str] = "ws://127.0.0.1:8765"
    rest_url: ClassVar[str] = "http://127.0.0.1:8765"


def _reason(answer: dict[str, Any]) -> str:
    error = answer.get("error")
    found = error if isinstance(error, dict) else answer
    return f"{found.get('code')}: {found.get('msg')}"[:200]
