"""Kraken's websocket v2: trades, the book with checksums, 1m candles.

Source: https://docs.kraken.com/api/docs/websocket-v2, as of November 2026.
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, Raw, Struct, ValidationError
from msgspec.json import Decoder

from collector.exchanges import kraken_history
from collector.exchanges.adapter import (
    CandlePages,
    Facts,
    Line,
    MalformedMessage,
    TradePages,
    TradeRange,
    decode,
)
from collector.exchanges.events import (
    BookDelta,
    BookReset,
    CandleSeen,
    Event,
    Heard,
    Refused,
    Subscribed,
    TradeSeen,
    Unhandled,
)
from collector.exchanges.kraken_spot import KrakenSpot
from collector.exchanges.texts import iso_microseconds
from market import Side, Timeframe, Trade

DEPTHS = (10, 25, 100, 500, 1000)
"""Levels a side that can be subscribed to."""
BOOK_DEPTH = 100
_MINUTES = {timeframe.microseconds // 60_000_000: timeframe for timeframe in Timeframe}
_Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Kind = Literal["snapshot", "update"]


class _TradeRow(Struct, gc=False):
    symbol: str
    side: Literal["buy", "sell"]
    price: Raw
    qty: Raw
    trade_id: _Id
    timestamp: str


class _Trades(Struct, tag_field="channel", tag="trade", gc=False):
    """{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":105944.20,…}]}."""

    type: _Kind
    data: list[_TradeRow]


class _Level(Struct, gc=False):
    """Bare numbers, kept as their text: the checksum counts trailing zeros."""

    price: Raw
    qty: Raw


class _BookRow(Struct, gc=False):
    symbol: str
    bids: list[_Level] = []
    asks: list[_Level] = []
    checksum: Annotated[int, Meta(ge=0, lt=2**32)] | None = None
    timestamp: str | None = None


class _Books(Struct, tag_field="channel", tag="book", gc=False):
    """{"channel":"book","type":"update","data":[{"symbol":…,"bids":[{"price":1.20,"qty":0.25}],…}]}."""

    type: _Kind
    data: list[_BookRow]


class _CandleRow(Struct, gc=False):
    symbol: str
    interval: int
    interval_begin: str
    open: Raw
    high: Raw
    low: Raw
    close: Raw
    volume: Raw
    trades: _Id


class _Candles(Struct, tag_field="channel", tag="ohlc", gc=False):
    """{"channel":"ohlc","type":"update","timestamp":…,"data":[{"symbol":…,"interval":1,…,"trades":12}]}."""

    data: list[_CandleRow]
    timestamp: str | None = None


class _TickerRow(Struct, gc=False):
    symbol: str
    timestamp: str | None = None


class _Tickers(Struct, tag_field="channel", tag="ticker", gc=False):
    data: list[_TickerRow]


class _Heartbeat(Struct, tag_field="channel", tag="heartbeat", gc=False):
    pass


class _Status(Struct, tag_field="channel", tag="status", gc=False):
    pass


class _Instruments(Struct, tag_field="channel", tag="instrument", gc=False):
    pass


class _Result(Struct, gc=False):
    channel: str
    symbol: str | None = None
    depth: int | None = None


class _Answer(Struct, gc=False):
    """{"method":"subscribe","success":true,"result":{"channel":"book","symbol":"BTC/USD","depth":10}}."""

    method: str
    success: bool | None = None
    result: _Result | None = None
    error: str = ""
    symbol: str | None = None


_Message = _Books | _Trades | _Heartbeat | _Candles | _Tickers | _Status | _Instruments
_TAGS = ("book", "trade", "heartbeat", "ohlc", "ticker", "status", "instrument")
_MESSAGE: Decoder[_Message] = Decoder(_Message)
_ANY: Decoder[Any] = Decoder()


class Kraken(KrakenSpot):
    """Kraken v2.

    The stream marks no candle as closed: `is_closed` is always False, and a candle is final once one that
    opens later comes. The book's depth is not in its messages, so the adapter remembers what each
    subscription's answer said; without one it is the smallest that holds the snapshot.
    """

    exchange: ClassVar[str] = "kraken"
    ws_url: ClassVar[str] = "wss://ws.kraken.com"
    has_consecutive_ids: ClassVar[bool] = True
    silence_limit: ClassVar[float] = 5.0
    rest_rate: ClassVar[tuple[float, float]] = (0.9, 3.0)
    facts: ClassVar[Facts] = Facts(
        title="Kraken (websocket v2)",
        trades="trade: every fill, ids +1",
        book="book, 100 levels, CRC32 checked",
        candles="ohlc 1m",
        history="all, by time",
        source="https://docs.kraken.com/api",
        as_of="2026-11",
    )

    def __init__(self) -> None:
        super().__init__()
        self._depths: dict[str, int] = {}

    def exchange_symbol(self, base: str, quote: str) -> str:
        """BTC/USD is BTC/USD."""
        return f"{base}/{quote}"

    def lines(self, symbols: Sequence[str]) -> list[Line]:
        """One endpoint: the last 50 trades and all that follow, the book, candles."""
        return [Line("/v2", share, self._subscribe(share)) for share in self._shares(symbols)]

    def _subscribe(self, symbols: Sequence[str]) -> tuple[str, ...]:
        names = [self.instrument_for(symbol).exchange_symbol for symbol in symbols]
        return (
            _request("subscribe", channel="trade", symbol=names, snapshot=True),
            _request("subscribe", channel="book", symbol=names, depth=BOOK_DEPTH, snapshot=True),
            _request("subscribe", channel="ohlc", symbol=names, interval=1, snapshot=True),
        )

    def resubscribe_book(self, symbol: str) -> list[str]:
        """A new subscription begins with a snapshot."""
        names = [self.instrument_for(symbol).exchange_symbol]
        return [
            _request("unsubscribe", channel="book", symbol=names, depth=BOOK_DEPTH),
            _request("subscribe", channel="book", symbol=names, depth=BOOK_DEPTH, snapshot=True),
        ]

    def keep_alive(self) -> tuple[float, str] | None:
        """A ping now and then; while anything is subscribed, heartbeats come each second."""
        return 30.0, '{"method":"ping"}'

    def trade_pages(self, wanted: TradeRange) -> TradePages | None:
        """All history, upwards by time."""
        return kraken_history.trade_pages(self.instrument_for(wanted.symbol), self.numbers, wanted)

    def candle_pages(self, symbol: str, timeframe: Timeframe, begin: int, end: int) -> CandlePages | None:
        """The newest 720."""
        instrument = self.instrument_for(symbol)
        return kraken_history.candle_pages(instrument, self.numbers, timeframe, begin, end)

    def parse(self, message: bytes | str, path: str = "") -> list[Event]:
        """One message, told by its `channel`, or the answer to a request, told by its `method`."""
        try:
            return self._events(_MESSAGE.decode(message))
        except ValidationError as error:
            return self._untyped(decode(_ANY, message), str(error))
        except (ValueError, RecursionError) as error:
            raise MalformedMessage(str(error)) from None

    def _events(self, message: _Message) -> list[Event]:
        match message:
            case _Books(type=kind, data=books):
                return [self._book(row, is_whole=kind == "snapshot") for row in books]
            case _Trades(type=kind, data=trades):
                if kind == "snapshot":
                    trades.sort(key=lambda row: row.trade_id)
                return [TradeSeen(self._trade(row)) for row in trades]
            case _Candles(data=candles, timestamp=time):
                return [self._candle(row, _optional(time)) for row in candles]
            case _Tickers(data=tickers):
                return [
                    Heard("ticker", self._symbol(row.symbol), _optional(row.timestamp)) for row in tickers
                ]
            case _Heartbeat():
                return [Heard("heartbeat")]
            case _Status():
                return [Heard("status")]
            case _Instruments():
                return [Heard("instrument")]

    def _symbol(self, name: str) -> str:
        return self.instrument_of(name).symbol

    def _trade(self, row: _TradeRow) -> Trade:
        return Trade(
            self._symbol(row.symbol),
            iso_microseconds(row.timestamp),
            str(row.trade_id),
            row.trade_id,
            self.numbers.price(_text(row.price)),
            self.numbers.price(_text(row.qty)),
            Side(row.side),
        )

    def _book(self, row: _BookRow, *, is_whole: bool) -> BookReset | BookDelta:
        symbol, time = self._symbol(row.symbol), _optional(row.timestamp)
        bids, asks = (
            self.numbers.levels([(_text(level.price), _text(level.qty)) for level in side])
            for side in (row.bids, row.asks)
        )
        if is_whole:
            depth = self._depths.get(symbol) or _smallest_depth(max(len(bids), len(asks)))
            return BookReset(symbol, time, bids, asks, depth=depth)
        checksum = None if row.checksum is None else str(row.checksum)
        return BookDelta(symbol, time, bids, asks, checksum=checksum)

    def _candle(self, row: _CandleRow, time: int | None) -> CandleSeen | Heard:
        symbol = self._symbol(row.symbol)
        timeframe = _MINUTES.get(row.interval)
        if timeframe is None:
            return Heard(f"ohlc-{row.interval}", symbol, time)
        open_time = iso_microseconds(row.interval_begin)
        if timeframe.open_of(open_time) != open_time:
            raise ValueError(f"a {timeframe} candle does not open at {row.interval_begin[:40]}")
        first, high, low, last = self.numbers.candle(map(_text, (row.open, row.high, row.low, row.close)))
        return CandleSeen(
            symbol=symbol,
            timestamp=time,
            timeframe=timeframe,
            open_time=open_time,
            open=first,
            high=high,
            low=low,
            close=last,
            volume=self.numbers.amount(_text(row.volume)),
            buy_volume=None,
            trade_count=row.trades,
            is_closed=False,
        )

    def _untyped(self, body: Any, reason: str) -> list[Event]:
        """Answers to requests, and what nobody knows."""
        if not isinstance(body, dict):
            return [Unhandled(f"a {type(body).__name__}")]
        if body.get("channel") in _TAGS:
            raise MalformedMessage(reason)
        if "method" not in body and "error" not in body:
            return [Unhandled(str(body.get("channel", sorted(body)))[:80])]
        try:
            answer = msgspec.convert({"method": "", **body}, _Answer)
        except ValidationError as error:
            raise MalformedMessage(str(error)) from None
        return [self._answered(answer)]

    def _answered(self, answer: _Answer) -> Event:
        if answer.error or answer.success is False:
            return Refused(f"{answer.error} {answer.symbol or ''}".strip()[:200])
        if answer.method == "subscribe" and answer.result is not None:
            result = answer.result
            if result.symbol is None:
                return Subscribed(result.channel)
            symbol = self._symbol(result.symbol)
            if result.channel == "book" and result.depth in DEPTHS:
                self._depths[symbol] = result.depth
            return Subscribed(result.channel, (symbol,))
        if answer.method in ("pong", "unsubscribe"):
            return Heard(answer.method)
        return Unhandled(answer.method[:80])


def _request(method: str, **parameters: Any) -> str:
    return msgspec.json.encode({"method": method, "params": parameters}).decode()


def _text(number: Raw) -> str:
    return bytes(number).decode()


def _smallest_depth(levels: int) -> int:
    return next((depth for depth in DEPTHS if depth >= levels), DEPTHS[-1])


def _optional(time: str | None) -> int | None:
    return None if time is None else iso_microseconds(time)
