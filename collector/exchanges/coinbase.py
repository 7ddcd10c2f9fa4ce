"""Coinbase Exchange: matches, the level-2 book and heartbeats over one websocket.

Source: https://docs.cdp.coinbase.com/exchange/websocket-feed, as of November 2026.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct, ValidationError, field
from msgspec.json import Decoder

from collector.exchanges import coinbase_history
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
from collector.exchanges.coinbase_history import TAKER, TIMEFRAMES, Id, MakerSide
from collector.exchanges.events import (
    BookDelta,
    BookReset,
    Event,
    Heard,
    Refused,
    Subscribed,
    TradeSeen,
    Unhandled,
)
from collector.exchanges.paging import decode_answer
from collector.exchanges.texts import iso_microseconds
from market import Instrument, Timeframe, Trade

CHANNELS = ("matches", "level2_batch", "heartbeat")


class _Match(Struct, tag_field="type", tag="match", gc=False):
    """{"type":"match","trade_id":280232,"side":"sell","size":"985","price":"0.00001305",…}."""

    trade_id: Id
    side: MakerSide
    size: str
    price: str
    product_id: str
    time: str


class _LastMatch(_Match, tag_field="type", tag="last_match", gc=False):
    """The newest trade, repeated after each subscribe."""


class _Update(Struct, tag_field="type", tag="l2update", gc=False):
    """{"type":"l2update","product_id":"SKL-BTC","changes":[["sell","0.00001306","660.5"]],"time":…}."""

    product_id: str
    changes: list[tuple[MakerSide, str, str]]
    time: str


class _Snapshot(Struct, tag_field="type", tag="snapshot", gc=False):
    """{"type":"snapshot","product_id":"NU-GBP","asks":[["0.4394","2000.000000"],…],"bids":[…]}."""

    product_id: str
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    time: str | None = None


class _Ticker(Struct, tag_field="type", tag="ticker", gc=False):
    """{"type":"ticker","product_id":"NU-GBP","time":…,"trade_id":563678,"price":…,"side":"buy",…}."""

    product_id: str
    time: str | None = None
    trade_id: Id | None = None


class _Heartbeat(Struct, tag_field="type", tag="heartbeat", gc=False):
    """{"type":"heartbeat","sequence":90,"last_trade_id":20,"product_id":"BTC-USD","time":…}."""

    product_id: str
    time: str
    last_trade_id: Id


class _Channel(Struct, gc=False):
    name: str
    product_ids: list[str] = []


class _Subscriptions(Struct, tag_field="type", tag="subscriptions", gc=False):
    """{"type":"subscriptions","channels":[{"name":"level2","product_ids":["BAND-GBP",…]}]}."""

    channels: list[_Channel]


class _Error(Struct, tag_field="type", tag="error", gc=False):
    """{"type":"error","message":"Failed to subscribe","reason":"FOO-USD is not a valid product"}."""

    message: str
    reason: str = ""


_Message = _Update | _Match | _LastMatch | _Snapshot | _Ticker | _Heartbeat | _Subscriptions | _Error


class _Product(Struct, gc=False):
    exchange_symbol: str = field(name="id")
    base: str = field(name="base_currency")
    quote: str = field(name="quote_currency")
    tick: str = field(name="quote_increment")
    lot: str = field(name="base_increment")
    status: str
    min_notional: str | None = field(name="min_market_funds", default=None)
    trading_disabled: bool = False


_TAGS = ("match", "last_match", "l2update", "snapshot", "ticker", "heartbeat", "subscriptions", "error")
_MESSAGE: Decoder[_Message] = Decoder(_Message)
_PRODUCTS = Decoder(list[_Product])
_ANY: Decoder[Any] = Decoder()


class CoinbaseBook(BookSequence):
    """No sequence and no checksum: after a snapshot every update follows."""

    shows_loss: ClassVar[bool] = False

    def __init__(self) -> None:
        self._is_known = False

    def reset(self, event: BookReset) -> None:
        """A snapshot came."""
        self._is_known = True

    def follows(self, event: BookDelta) -> bool | None:
        """Whether there was a snapshot."""
        return self._is_known


class Coinbase(Adapter):
    """Coinbase Exchange: every match, level 2, heartbeats that name the last trade. No candles."""

    exchange: ClassVar[str] = "coinbase"
    ws_url: ClassVar[str] = "wss://ws-feed.exchange.coinbase.com"
    rest_url: ClassVar[str] = "https://api.exchange.coinbase.com"
    book_rule: ClassVar[BookRule] = "stream_snapshot"
    has_consecutive_ids: ClassVar[bool] = True
    silence_limit: ClassVar[float] = 10.0
    rest_rate: ClassVar[tuple[float, float]] = (8.0, 15.0)
    facts: ClassVar[Facts] = Facts(
        title="Coinbase Exchange",
        trades="matches: every fill, ids +1",
        book="level2_batch, must never cross",
        candles="none",
        history="all, by id",
        source="https://docs.cdp.coinbase.com/exchange",
        as_of="2026-11",
    )

    def by_rule(self, exchange_symbol: str) -> Instrument | None:
        """BTC-USD is BTC/USD."""
        base, _, quote = exchange_symbol.partition("-")
        if base.isalnum() and quote.isalnum():
            return self._spot(exchange_symbol, base, quote)
        return None

    def by_symbol_rule(self, symbol: str) -> Instrument:
        """BTC/USD is BTC-USD."""
        base, quote = self._pair(symbol)
        return self._spot(f"{base}-{quote}", base, quote)

    def lines(self, symbols: Sequence[str]) -> list[Line]:
        """One endpoint, one request for all channels; it must go out within five seconds."""
        return [
            Line("/", share, (self._request("subscribe", share, CHANNELS),))
            for share in self._shares(symbols)
        ]

    def resubscribe_book(self, symbol: str) -> list[str]:
        """A new subscription begins with a snapshot."""
        return [self._request(verb, [symbol], ["level2_batch"]) for verb in ("unsubscribe", "subscribe")]

    def _request(self, verb: str, symbols: Iterable[str], channels: Sequence[str]) -> str:
        products = [self.instrument_for(symbol).exchange_symbol for symbol in symbols]
        request = {"type": verb, "product_ids": products, "channels": channels}
        return msgspec.json.encode(request).decode()

    def book_sequence(self, symbol: str) -> BookSequence:
        """Nothing but: first a snapshot."""
        return CoinbaseBook()

    def parse(self, message: bytes | str, path: str = "") -> list[Event]:
        """One message of the feed, told by its `type`."""
        try:
            return self._events(_MESSAGE.decode(message))
        except ValidationError as error:
            body = decode(_ANY, message)
            kind = body.get("type") if isinstance(body, dict) else type(body).__name__
            if kind in _TAGS:
                raise MalformedMessage(str(error)) from None
            return [Unhandled(str(kind)[:80])]
        except (ValueError, RecursionError) as error:
            raise MalformedMessage(str(error)) from None

    def _events(self, message: _Message) -> list[Event]:
        match message:
            case _Update(product_id=product, changes=changes, time=time):
                bids, asks = (
                    self.numbers.levels([(price, size) for side, price, size in changes if side == wanted])
                    for wanted in ("buy", "sell")
                )
                return [BookDelta(self._symbol(product), iso_microseconds(time), bids, asks)]
            case _Match():
                return [TradeSeen(self._trade(message))]
            case _Snapshot(product_id=product, bids=bids, asks=asks, time=snapshot_time):
                bids, asks = self.numbers.levels(bids), self.numbers.levels(asks)
                return [BookReset(self._symbol(product), _optional(snapshot_time), bids, asks)]
            case _Ticker(product_id=product, time=ticker_time, trade_id=trade_id):
                return [Heard("ticker", self._symbol(product), _optional(ticker_time), trade_id)]
            case _Heartbeat(product_id=product, time=time, last_trade_id=trade_id):
                return [Heard("heartbeat", self._symbol(product), iso_microseconds(time), trade_id)]
            case _Subscriptions(channels=channels):
                return [Subscribed(c.name, tuple(map(self._symbol, c.product_ids))) for c in channels]
            case _Error(message=text, reason=reason):
                return [Refused(f"{text}: {reason}"[:200] if reason else text[:200])]

    def _symbol(self, product: str) -> str:
        return self.instrument_of(product).symbol

    def _trade(self, match: _Match) -> Trade:
        return Trade(
            self._symbol(match.product_id),
            iso_microseconds(match.time),
            str(match.trade_id),
            match.trade_id,
            self.numbers.price(match.price),
            self.numbers.price(match.size),
            TAKER[match.side],
        )

    def instruments_requests(self) -> Sequence[RestRequest]:
        """Every product."""
        return (RestRequest("/products"),)

    def trade_pages(self, wanted: TradeRange) -> TradePages | None:
        """All history, downwards by id."""
        return coinbase_history.trade_pages(self.instrument_for(wanted.symbol), self.numbers, wanted)

    def candle_pages(self, symbol: str, timeframe: Timeframe, begin: int, end: int) -> CandlePages | None:
        """All history, upwards; of 4h there is none."""
        instrument = self.instrument_for(symbol)
        if timeframe not in TIMEFRAMES:
            return None
        return coinbase_history.candle_pages(instrument, self.numbers, timeframe, begin, end)

    def parse_rest(self, path: str, body: bytes | str) -> Sequence[Event] | Sequence[Instrument]:
        """The products; trades, candles and books of a product are heard."""
        parts = urlsplit(path).path.strip("/").split("/")
        if parts == ["products"]:
            return [
                self._instrument(each) for each in decode_answer(_PRODUCTS, body, coinbase_history.reason)
            ]
        words = coinbase_history.reason(decode(_ANY, body))
        if words is not None:
            raise MalformedMessage(words[:200])
        if len(parts) == 3 and parts[0] == "products" and parts[2] in ("trades", "candles", "book"):
            return [Heard(parts[2])]
        return [Unhandled(path[:80])]

    def _instrument(self, product: _Product) -> Instrument:
        return msgspec.structs.replace(
            self._spot(product.exchange_symbol, product.base, product.quote),
            tick_size=product.tick,
            lot_size=product.lot,
            min_notional=product.min_notional,
            is_active=product.status == "online" and not product.trading_disabled,
        )


def _optional(time: str | None) -> int | None:
    return None if time is None else iso_microseconds(time)
