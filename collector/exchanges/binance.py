"""Binance spot: combined streams over websocket, whole books and the instrument list over REST.

Source: https://developers.binance.com/docs/binance-spot-api-docs, as of November 2026.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import ValidationError, structs
from msgspec.json import Decoder

from collector.exchanges import binance_history
from collector.exchanges.adapter import (
    Adapter,
    BookRule,
    BookSequence,
    CandlePages,
    Facts,
    Line,
    MalformedMessage,
    RestRequest,
    TradePages,
    TradeRange,
    decode,
)
from collector.exchanges.binance_messages import (
    AggregateTrade,
    BestPrices,
    Combined,
    DepthUpdate,
    ExchangeInfo,
    Kline,
    ListedSymbol,
    Payload,
    Shutdown,
    SingleTrade,
    WholeBook,
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
from collector.exchanges.paging import decode_answer
from market import Instrument, Side, Timeframe, Trade

STREAMS = ("@trade", "@depth@100ms", "@kline_1m")
BOOK_LIMIT = 1000
# fmt: off
QUOTES = tuple(sorted((
    "ARS", "AUD", "BIDR", "BKRW", "BNB", "BRL", "BTC", "BUSD", "BVND", "COP", "CZK", "DAI", "DOGE", "DOT",
    "ETH", "EUR", "EURI", "FDUSD", "GBP", "GYEN", "IDRT", "JPY", "MXN", "NGN", "PAX", "PLN", "RLUSD", "RON",
    "RUB", "SOL", "TRX", "TRY", "TUSD", "UAH", "USD1", "USDC", "USDE", "USDP", "USDS", "USDT", "VAI", "XRP",
    "ZAR",
), key=len, reverse=True))
# fmt: on
"""What symbols end with, longest first."""
_NOT_STORED = ("24hrTicker", "24hrMiniTicker", "1hTicker", "4hTicker", "1dTicker", "avgPrice", "blockTrade")
_NOT_STORED_PATHS = frozenset(
    f"/api/v3/{name}" for name in ("trades", "historicalTrades", "aggTrades", "klines")
)
_TIMEFRAMES = {timeframe.value: timeframe for timeframe in Timeframe}
_BUY, _SELL = Side.BUY, Side.SELL  # Python 3.11 takes its time to look up an enumeration's member

_TAGS = ("trade", "depthUpdate", "kline", "aggTrade", "serverShutdown")
_ANY: Decoder[Any] = Decoder()
_WHOLE_BOOK = Decoder(WholeBook)
_EXCHANGE_INFO = Decoder(ExchangeInfo)


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
    lifetime: ClassVar[float | None] = 24 * 3600.0
    rest_rate: ClassVar[tuple[float, float]] = (50.0, 1000.0)
    facts: ClassVar[Facts] = Facts(
        title="Binance spot",
        trades="@trade: every fill, ids +1",
        book="@depth@100ms on a REST snapshot, update ids checked",
        candles="@kline_1m",
        history="all, by id",
        source="https://developers.binance.com/docs/binance-spot-api-docs",
        as_of="2026-11",
    )

    _combined: ClassVar[Decoder[Any]] = Decoder(Combined)
    _payload: ClassVar[Decoder[Any]] = Decoder(Payload)

    def __init__(self) -> None:
        super().__init__()
        # By type, as `isinstance` takes long where it is not.
        self._readers: dict[type, Callable[[Any], Event]] = {
            SingleTrade: self._single_trade,
            AggregateTrade: self._aggregate,
            DepthUpdate: self._depth,
            Kline: self._candle,
            Shutdown: _closing,
        }
        self._decode_combined, self._decode_payload = self._combined.decode, self._payload.decode

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

    def lines(self, symbols: Sequence[str]) -> list[Line]:
        """The streams of the symbols stand in the path: nothing is left to subscribe."""
        return [Line(self._path(share), share) for share in self._shares(symbols)]

    def _path(self, symbols: Sequence[str]) -> str:
        names = [self.instrument_for(symbol).exchange_symbol.lower() for symbol in symbols]
        return "/stream?streams=" + "/".join(name + stream for name in names for stream in STREAMS)

    def book_sequence(self, symbol: str) -> BookSequence:
        """The check of `U` and `u`."""
        return BinanceBook()

    def parse(self, message: bytes | str, path: str = "") -> list[Event]:
        """Combined and bare payloads alike."""
        try:
            return self._events(self._decode_combined(message).data)
        except ValidationError:
            return self._bare(message)
        except (ValueError, RecursionError) as error:
            raise MalformedMessage(str(error)) from None

    def _bare(self, message: bytes | str) -> list[Event]:
        """What is no combined payload, as nearly all are."""
        try:
            return self._events(self._decode_payload(message))
        except ValidationError:
            return self._untyped(decode(_ANY, message))
        except (ValueError, RecursionError) as error:
            raise MalformedMessage(str(error)) from None

    def _events(self, payload: Any) -> list[Event]:
        return [self._readers[type(payload)](payload)]

    def _single_trade(self, payload: SingleTrade) -> TradeSeen:
        return TradeSeen(self._trade(payload, str(payload.trade_id), 1))

    def _aggregate(self, payload: AggregateTrade) -> TradeSeen:
        fill_count = payload.last_fill - payload.first_fill + 1
        if fill_count < 1:
            raise ValueError("the last fill of an aggregate is before its first")
        return TradeSeen(self._trade(payload, f"a{payload.trade_id}", fill_count))

    def _trade(self, payload: SingleTrade | AggregateTrade, trade_id: str, fill_count: int) -> Trade:
        return Trade(
            self.instrument_of(payload.symbol).symbol,
            payload.time * 1000,
            trade_id,
            payload.trade_id,
            self.numbers.price(payload.price),
            self.numbers.price(payload.size),
            _SELL if payload.is_buyer_maker else _BUY,
            fill_count,
        )

    def _depth(self, payload: DepthUpdate) -> BookDelta:
        if payload.last < payload.first:
            raise ValueError("the last update id is before the first")
        return BookDelta(
            self.instrument_of(payload.symbol).symbol,
            payload.event_time * 1000,
            *self.numbers.read_sides(payload.bids, payload.asks),
            payload.first,
            payload.last,
        )

    def _candle(self, payload: Kline) -> CandleSeen | Heard:
        symbol, timestamp = self.instrument_of(payload.symbol).symbol, payload.event_time * 1000
        bar = payload.bar
        timeframe = _TIMEFRAMES.get(bar.interval)
        if timeframe is None:
            return Heard(f"kline_{bar.interval[:8]}", symbol, timestamp)
        open_time = bar.open_time * 1000
        if timeframe.open_of(open_time) != open_time:
            raise ValueError(f"a {timeframe} candle does not open at {open_time}")
        return CandleSeen(
            symbol,
            timestamp,
            timeframe,
            open_time,
            *self.numbers.candle((bar.open, bar.high, bar.low, bar.close)),
            self.numbers.amount(bar.volume),
            self.numbers.amount(bar.buy_volume),
            bar.trade_count,
            bar.is_closed,
        )

    def _untyped(self, body: Any) -> list[Event]:
        """What is not in the union of payloads: best prices, answers, and what nobody knows."""
        payload = body.get("data", body) if isinstance(body, dict) else body
        if not isinstance(payload, dict):
            return [Unhandled(f"a {type(payload).__name__}")]
        kind = payload.get("e")
        try:
            if kind in _TAGS:
                return self._events(self._decode_payload(msgspec.json.encode(payload)))
            if kind is None and "B" in payload and "A" in payload:
                prices = msgspec.convert(payload, BestPrices)
                return [Heard("bookTicker", self.instrument_of(prices.symbol).symbol)]
        except ValueError as error:
            raise MalformedMessage(str(error)) from None
        if kind in _NOT_STORED or (kind is None and "lastUpdateId" in payload):
            return [Heard(kind or "depth")]
        if kind is None and ("error" in payload or "code" in payload):
            return [Refused(binance_history.reason(payload) or "no reason given")]
        if kind is None and "result" in payload and "id" in payload:
            return [Subscribed("streams")]
        return [Unhandled(str(kind or sorted(payload))[:80])]

    def instruments_requests(self) -> Sequence[RestRequest]:
        """Every symbol, with its filters."""
        return (RestRequest("/api/v3/exchangeInfo"),)

    def book_request(self, symbol: str) -> RestRequest | None:
        """The best 1000 levels a side (weight 50 of 6000 a minute)."""
        name = self.instrument_for(symbol).exchange_symbol
        return RestRequest(f"/api/v3/depth?symbol={name}&limit={BOOK_LIMIT}")

    def trade_pages(self, wanted: TradeRange) -> TradePages | None:
        """All history, upwards by id."""
        return binance_history.trade_pages(self.instrument_for(wanted.symbol), self.numbers, wanted)

    def candle_pages(self, symbol: str, timeframe: Timeframe, begin: int, end: int) -> CandlePages | None:
        """All history, upwards."""
        instrument = self.instrument_for(symbol)
        return binance_history.candle_pages(instrument, self.numbers, timeframe, begin, end)

    def parse_rest(self, path: str, body: bytes | str) -> Sequence[Event] | Sequence[Instrument]:
        """Books and the instrument list; other known answers are heard."""
        url = urlsplit(path)
        if url.path == "/api/v3/exchangeInfo":
            return [
                self._instrument(symbol)
                for symbol in decode_answer(_EXCHANGE_INFO, body, binance_history.reason).symbols
            ]
        if url.path == "/api/v3/depth":
            return [self._whole_book(parse_qs(url.query).get("symbol", []), body)]
        words = binance_history.reason(decode(_ANY, body))
        if words is not None:
            raise MalformedMessage(words)
        if url.path in _NOT_STORED_PATHS:
            return [Heard(url.path)]
        return [Unhandled(url.path[:80])]

    def _whole_book(self, names: list[str], body: bytes | str) -> BookReset:
        book = decode_answer(_WHOLE_BOOK, body, binance_history.reason)
        if not names:
            raise MalformedMessage("a book without the symbol in its request")
        try:
            return BookReset(
                self.instrument_of(names[0]).symbol,
                None,
                *self.numbers.read_sides(book.bids, book.asks),
                book.sequence,
            )
        except ValueError as error:
            raise MalformedMessage(str(error)) from None

    def _instrument(self, listed: ListedSymbol) -> Instrument:
        filters = {item.filter_type: item for item in listed.filters}
        price, lot = filters.get("PRICE_FILTER"), filters.get("LOT_SIZE")
        notional = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL")
        return structs.replace(
            self._spot(listed.symbol, listed.base_asset, listed.quote_asset),
            tick_size=price.tick_size if price else None,
            lot_size=lot.step_size if lot else None,
            min_notional=notional.min_notional if notional else None,
            is_active=listed.status == "TRADING",
        )


def _closing(_: Shutdown) -> Closing:
    return Closing("the server is shutting down")
