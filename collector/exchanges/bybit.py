"""Bybit v5, spot and linear contracts: trades, the book and 1m candles over one websocket a category.

Messages name neither the category nor one that would follow from the symbol: `BTCUSDT` is both spot and a
contract. The path of the connection tells.

Source: https://bybit-exchange.github.io/docs/v5/ws/connect, as of November 2026.
"""

from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Raw, ValidationError, structs
from msgspec.json import Decoder

from collector.exchanges import bybit_history
from collector.exchanges.adapter import (
    Adapter,
    BookRule,
    BookSequence,
    CandlePages,
    Facts,
    FundingPages,
    Line,
    MalformedMessage,
    RestRequest,
    TradePages,
    TradeRange,
    decode,
)
from collector.exchanges.bybit_history import INTERVALS, SIDES, Ordinals, candle_of, category_of, result
from collector.exchanges.bybit_messages import Bar, Book, Fill, Instruments, Listed, Message
from collector.exchanges.bybit_symbols import contract_named, name_of, pair_of
from collector.exchanges.contracts import Contract, contract_of, linear
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
from collector.exchanges.funding import is_funded
from market import Instrument, Timeframe, Trade, WrongUse
from market.timeframe import to_datetime

CATEGORIES = ("spot", "linear")
TOPICS = ("publicTrade", "orderbook.200", "kline.1")
TOPICS_A_REQUEST = 10
"""Spot takes no more."""
PING_SECONDS = 20.0
_INSTRUMENTS = "/v5/market/instruments-info"
_MAX_INSTRUMENTS = 1000
_NOT_STORED = frozenset(
    ("tickers", "liquidation", "allLiquidation", "insurance", "priceLimit", "adlAlert", "system")
)
_NOT_STORED_PATHS = frozenset(
    f"/v5/market/{name}" for name in ("recent-trade", "kline", "orderbook", "tickers", "time")
)
_MESSAGE = Decoder(Message)
_FILLS = Decoder(list[Fill])
_BOOK = Decoder(Book)
_BARS = Decoder(list[Bar])
_INSTRUMENT_LIST = Decoder(Instruments)
_RAW = Decoder(Raw)
_ANY: Decoder[Any] = Decoder()


class BybitBook(BookSequence):
    """Each update's id is the one before plus one; a snapshot begins anew."""

    def __init__(self) -> None:
        self._last: int | None = None

    def reset(self, event: BookReset) -> None:
        """Go on from the snapshot's `u`."""
        self._last = event.sequence

    def follows(self, event: BookDelta) -> bool | None:
        """Whether it is the next one; None where it came before."""
        if self._last is None or event.last_sequence is None:
            return False
        if event.last_sequence <= self._last:
            return None
        if event.last_sequence != self._last + 1:
            return False
        self._last = event.last_sequence
        return True


class Bybit(Adapter):
    """Bybit spot (BTC/USDT) and linear contracts (BTC/USDT:USDT, BTC/USDC:USDC); sizes are in base units.

    Block trades are agreed off the book and not stored; those of retail price improvement are.
    """

    exchange: ClassVar[str] = "bybit"
    ws_url: ClassVar[str] = "wss://stream.bybit.com"
    rest_url: ClassVar[str] = "https://api.bybit.com"
    book_rule: ClassVar[BookRule] = "stream_snapshot"
    has_consecutive_ids: ClassVar[bool] = False
    rest_rate: ClassVar[tuple[float, float]] = (50.0, 100.0)
    facts: ClassVar[Facts] = Facts(
        title="Bybit spot and linear",
        trades="publicTrade: every fill of the book, ids do not count",
        book="orderbook.200, update ids checked",
        candles="kline.1",
        history="the newest 60 (spot) or 1000 (linear) trades",
        source="https://bybit-exchange.github.io/docs/v5",
        as_of="2026-11",
    )

    # Symbols

    def instrument_of(self, exchange_symbol: str) -> Instrument:
        """As of every adapter; of spot, unless `linear/` stands before the name."""
        return super().instrument_of(exchange_symbol if "/" in exchange_symbol else f"spot/{exchange_symbol}")

    def _add(self, instrument: Instrument) -> Instrument:
        self._by_exchange_symbol[f"{category_of(instrument)}/{instrument.exchange_symbol}"] = instrument
        self._by_symbol[instrument.symbol] = instrument
        return instrument

    def by_rule(self, exchange_symbol: str) -> Instrument | None:
        """spot/BTCUSDT is BTC/USDT; linear/BTCUSDT, linear/BTCPERP and linear/BTC-26SEP25 are contracts."""
        category, _, name = exchange_symbol.partition("/")
        if category == "spot":
            pair = pair_of(name)
            return self._spot(name, *pair) if pair else None
        contract = contract_named(name) if category == "linear" else None
        return self._contract(name, contract) if contract else None

    def by_symbol_rule(self, symbol: str) -> Instrument:
        """BTC/USDT is BTCUSDT in spot, BTC/USDT:USDT is BTCUSDT in linear, BTC/USDC:USDC is BTCPERP."""
        if ":" not in symbol:
            base, quote = self._pair(symbol)
            return self._spot(base + quote, base, quote)
        contract = contract_of(symbol)
        name = name_of(contract) if contract else None
        if contract is None or name is None:
            raise WrongUse(f"{self.exchange}: {symbol!r} is no linear contract: write it like BTC/USDT:USDT")
        return self._contract(name, contract)

    def _contract(self, exchange_symbol: str, contract: Contract) -> Instrument:
        return linear(self.exchange, exchange_symbol, contract, has_consecutive_ids=self.has_consecutive_ids)

    # Websocket

    def lines(self, symbols: Sequence[str]) -> list[Line]:
        """Each category has its endpoint."""
        found = []
        for category in CATEGORIES:
            ours = [s for s in symbols if category_of(self.instrument_for(s)) == category]
            for share in self._shares(ours):
                names = [self.instrument_for(symbol).exchange_symbol for symbol in share]
                topics = [f"{topic}.{name}" for name in names for topic in TOPICS]
                parts = range(0, len(topics), TOPICS_A_REQUEST)
                texts = tuple(_request("subscribe", topics[at : at + TOPICS_A_REQUEST]) for at in parts)
                found.append(Line(f"/v5/public/{category}", share, texts))
        return found

    def resubscribe_book(self, symbol: str) -> list[str]:
        """A new subscription begins with a snapshot."""
        topic = f"orderbook.200.{self.instrument_for(symbol).exchange_symbol}"
        return [_request(verb, [topic]) for verb in ("unsubscribe", "subscribe")]

    def keep_alive(self) -> tuple[float, str] | None:
        """A ping every 20 seconds."""
        return PING_SECONDS, '{"op":"ping"}'

    def book_sequence(self, symbol: str) -> BookSequence:
        """The check of `u`."""
        return BybitBook()

    def parse(self, message: bytes | str, path: str = "") -> list[Event]:
        """Data names its topic, everything else is control; `path` tells the category."""
        try:
            said = _MESSAGE.decode(message)
            return _control(said) if said.topic is None else self._data(said, said.topic, path)
        except ValidationError as error:
            body = decode(_ANY, message)
            if isinstance(body, dict) and ("topic" in body or "op" in body):
                raise MalformedMessage(str(error)) from None
            return [Unhandled(f"a {type(body).__name__}")]
        except (ValueError, RecursionError) as error:
            raise MalformedMessage(str(error)) from None

    def _data(self, said: Message, topic: str, path: str) -> list[Event]:
        channel, _, rest = topic.partition(".")
        kind, _, name = rest.rpartition(".")
        if channel in _NOT_STORED:
            return [Heard(channel)]
        if channel not in ("publicTrade", "orderbook", "kline"):
            return [Unhandled(channel[:80])]
        category = path.partition("?")[0].rstrip("/").rpartition("/")[2]
        if category not in CATEGORIES:
            raise MalformedMessage(
                "whether it is spot or linear only its connection tells: that is not known"
            )
        symbol = self.instrument_of(f"{category}/{name}").symbol
        if channel == "publicTrade":
            return self._trades(_FILLS.decode(said.data), name, symbol)
        if channel == "kline":
            return [self._candle(bar, symbol) for bar in _BARS.decode(said.data)]
        if not kind.isdecimal():
            return [Heard(f"orderbook.{kind[:40]}", symbol)]
        return [self._book(_BOOK.decode(said.data), said, name, symbol)]

    def _trades(self, fills: list[Fill], name: str, symbol: str) -> list[Event]:
        ordinals = Ordinals()
        events: list[Event] = []
        for fill in fills:
            if fill.symbol != name:
                raise ValueError(f"a trade of {fill.symbol[:40]} among those of {name[:40]}")
            if fill.is_block_trade:
                events.append(Heard("blockTrade", symbol))
            else:
                events.append(TradeSeen(self._trade(fill, symbol, ordinals.trade_seq(fill.sequence))))
        return events

    def _trade(self, fill: Fill, symbol: str, trade_seq: int) -> Trade:
        price, size = self.numbers.price(fill.price), self.numbers.price(fill.size)
        return Trade(symbol, fill.time * 1000, fill.trade_id, trade_seq, price, size, SIDES[fill.side])

    def _book(self, book: Book, said: Message, name: str, symbol: str) -> Event:
        if book.symbol != name:
            raise ValueError(f"the book of {book.symbol[:40]} as that of {name[:40]}")
        # The engine's time is the one that trades have.
        time = said.time if said.engine_time is None else said.engine_time
        if time is None or said.kind not in ("snapshot", "delta"):
            raise ValueError(f"a book without a time, or neither snapshot nor delta: {said.kind[:40]!r}")
        bids, asks = self.numbers.levels(book.bids), self.numbers.levels(book.asks)
        # Number one comes after a restart of the service, with the whole book.
        if said.kind == "snapshot" or book.update_id == 1:
            return BookReset(symbol, time * 1000, bids, asks, book.update_id)
        return BookDelta(symbol, time * 1000, bids, asks, book.update_id, book.update_id)

    def _candle(self, bar: Bar, symbol: str) -> Event:
        timeframe = INTERVALS.get(bar.interval)
        if timeframe is None:
            return Heard(f"kline.{bar.interval[:8]}", symbol)
        return candle_of(
            self.numbers,
            symbol=symbol,
            timestamp=bar.time * 1000,
            timeframe=timeframe,
            open_time=bar.open_time * 1000,
            prices=(bar.open, bar.high, bar.low, bar.close),
            volume=bar.volume,
            is_closed=bar.is_closed,
        )

    # REST

    def instruments_requests(self) -> Sequence[RestRequest]:
        """Every pair and every linear contract."""
        return (
            RestRequest(f"{_INSTRUMENTS}?category=spot"),
            RestRequest(f"{_INSTRUMENTS}?category=linear&limit={_MAX_INSTRUMENTS}"),
        )

    def trade_pages(self, wanted: TradeRange) -> TradePages | None:
        """The newest trades only."""
        return bybit_history.trade_pages(self.instrument_for(wanted.symbol), self.numbers, wanted)

    def candle_pages(self, symbol: str, timeframe: Timeframe, begin: int, end: int) -> CandlePages | None:
        """Upwards."""
        return bybit_history.candle_pages(self.instrument_for(symbol), self.numbers, timeframe, begin, end)

    def funding_pages(self, symbol: str, begin: int, end: int) -> FundingPages | None:
        """Of perpetual contracts, downwards."""
        instrument = self.instrument_for(symbol)
        if not is_funded(instrument):
            return None
        return bybit_history.funding_pages(instrument, self.numbers, begin, end)

    def parse_rest(self, path: str, body: bytes | str) -> Sequence[Event] | Sequence[Instrument]:
        """The instruments; other known answers are heard."""
        url = urlsplit(path)
        if url.path != _INSTRUMENTS:
            result(_RAW, body)
            return [Heard(url.path) if url.path in _NOT_STORED_PATHS else Unhandled(url.path[:80])]
        category = parse_qs(url.query).get("category", [""])[0]
        if category not in CATEGORIES:
            raise MalformedMessage("instruments without the category in their request")
        found = result(_INSTRUMENT_LIST, body)[0]
        if found.cursor and len(found.instruments) >= _MAX_INSTRUMENTS:
            raise MalformedMessage(f"there are more than {_MAX_INSTRUMENTS} instruments")
        return [self._instrument(listed, category) for listed in found.instruments]

    def _instrument(self, listed: Listed, category: str) -> Instrument:
        name, base, quote, lot = listed.symbol, listed.base_coin, listed.quote_coin, listed.lot_size_filter
        if category == "spot":
            known = self._spot(name, base, quote)
        else:
            is_dated = listed.contract_type == "LinearFutures"
            expiry = int(listed.delivery_time) * 1000 if is_dated else None
            delivery = f"{to_datetime(expiry):%y%m%d}" if expiry else ""
            contract = Contract(base, quote, listed.settle_coin or quote, delivery)
            known = structs.replace(self._contract(name, contract), expiry_timestamp=expiry)
        return structs.replace(
            known,
            tick_size=listed.price_filter.tick_size,
            lot_size=lot.base_precision or lot.qty_step,
            min_notional=lot.min_order_amt or lot.min_notional_value,
            is_active=listed.status == "Trading",
        )


def _control(said: Message) -> list[Event]:
    if said.op in ("ping", "pong"):
        return [Heard("pong")]
    if said.success is False:
        return [Refused(said.reason[:200])]
    if said.success:
        return [Heard("unsubscribe") if said.op == "unsubscribe" else Subscribed("topics")]
    return [Unhandled(f"op {said.op}"[:80])]


def _request(verb: str, topics: Sequence[str]) -> str:
    return msgspec.json.encode({"op": verb, "args": topics}).decode()
