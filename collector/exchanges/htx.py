"""HTX spot: gzip messages with trades, whole books each second and 1m candles over one websocket.

Source: https://www.htx.com/en-us/opend/newApiPages (spot, websocket market data), as of November 2026.
"""

from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw, ValidationError
from msgspec.json import Decoder

from collector.exchanges import htx_history
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
from collector.exchanges.events import (
    Answer,
    BookDelta,
    BookReset,
    Event,
    Heard,
    Refused,
    Subscribed,
    TradeSeen,
    Unhandled,
)
from collector.exchanges.htx_messages import (
    PERIODS,
    Bar,
    Change,
    Depth,
    ListedSymbol,
    Message,
    Trades,
    WholeBook,
    candle,
    levels,
    trade,
)
from collector.exchanges.packed import is_packed, unpack
from market import Instrument, Timeframe

CHANNELS = ("trade.detail", "depth.step0", "kline.1min")
# fmt: off
QUOTES = tuple(sorted((
    "brl", "btc", "eth", "eur", "euroc", "gbp", "ht", "husd", "rub", "trx", "try", "uah", "usdc", "usdd",
    "usdt", "ustc",
), key=len, reverse=True))
# fmt: on
"""What symbols end with, longest first."""
_NOT_STORED = (
    "bbo",
    "detail",
    "ticker",
    "depth.step",
    "depth.size",
    "mbp.refresh.",
    "trade.clearing",
)
_SYMBOLS_PATH = "/v1/common/symbols"
_NOT_STORED_PATHS = ("/market/history/trade", "/market/history/kline", "/market/depth", "/market/trade")
_MESSAGE = Decoder(Message)
_TRADES = Decoder(Trades)
_DEPTH = Decoder(Depth)
_CHANGE = Decoder(Change)
_WHOLE_BOOK = Decoder(WholeBook)
_BAR = Decoder(Bar)
_SYMBOLS = Decoder(list[ListedSymbol])
_ANY: Decoder[Any] = Decoder()


class HtxBook(BookSequence):
    """Whole books replace each other; the changes of `mbp` name the one that they follow."""

    def __init__(self) -> None:
        self._last: int | None = None

    def reset(self, event: BookReset) -> None:
        """Go on from the whole book's `seqNum`; a `version` is one of its own and no change follows it."""
        self._last = event.sequence

    def follows(self, event: BookDelta) -> bool | None:
        """Whether `prevSeqNum` is the last `seqNum`; None where it is before."""
        previous = event.first_sequence
        if self._last is None or previous is None:
            return False
        if previous < self._last:
            return None
        if previous > self._last:
            return False
        self._last = event.last_sequence
        return True


class Htx(Adapter):
    """HTX spot: single trades, a whole book of 150 levels each second, 1m candles.

    The book comes from `depth.step0`, not from the changes of `mbp.150`: each of its messages is whole, so a
    lost one costs a second and never leaves a wrong book behind, nothing is held in step over two connections
    (`mbp` has an endpoint of its own and must be asked for its start), and it is what the recordings show.
    A snapshot of ours is at most a second older than its time. Where a recording has `mbp`, it is read too.

    The stream marks no candle as closed: `is_closed` is always False, and a candle is final once one that
    opens later comes. Assets are called as HTX calls them.
    """

    exchange: ClassVar[str] = "htx"
    ws_url: ClassVar[str] = "wss://api.huobi.pro"
    rest_url: ClassVar[str] = "https://api.huobi.pro"
    book_rule: ClassVar[BookRule] = "stream_snapshot"
    has_consecutive_ids: ClassVar[bool] = True
    silence_limit: ClassVar[float] = 12.0
    rest_rate: ClassVar[tuple[float, float]] = (8.0, 10.0)
    facts: ClassVar[Facts] = Facts(
        title="HTX spot",
        trades="trade.detail: every fill, ids +1",
        book="depth.step0: whole, 150 levels, each second",
        candles="kline.1min",
        history="the newest 2000",
        source="https://www.htx.com/en-us/opend/newApiPages",
        as_of="2026-11",
    )

    def by_rule(self, exchange_symbol: str) -> Instrument | None:
        """Btcusdt is BTC/USDT: the longest known quote that it ends with."""
        for quote in QUOTES:
            base = exchange_symbol.removesuffix(quote)
            if base != exchange_symbol and base.isalnum() and exchange_symbol == exchange_symbol.lower():
                return self._spot(exchange_symbol, base.upper(), quote.upper())
        return None

    def by_symbol_rule(self, symbol: str) -> Instrument:
        """BTC/USDT is btcusdt."""
        base, quote = self._pair(symbol)
        return self._spot((base + quote).lower(), base, quote)

    def lines(self, symbols: Sequence[str]) -> list[Line]:
        """One endpoint, and a request for each topic."""
        return [Line("/ws", share, self._subscribe(share)) for share in self._shares(symbols)]

    def _subscribe(self, symbols: Sequence[str]) -> tuple[str, ...]:
        return tuple(
            _request("sub", self._topic(symbol, channel)) for symbol in symbols for channel in CHANNELS
        )

    def _topic(self, symbol: str, channel: str) -> str:
        return f"market.{self.instrument_for(symbol).exchange_symbol}.{channel}"

    def resubscribe_book(self, symbol: str) -> list[str]:
        """A new subscription begins at once with a whole book."""
        topic = self._topic(symbol, "depth.step0")
        return [_request("unsub", topic), _request("sub", topic)]

    def book_sequence(self, symbol: str) -> BookSequence:
        """Whole books, or the chain of `prevSeqNum`."""
        return HtxBook()

    def parse(self, message: bytes | str, path: str = "") -> list[Event]:
        """One message, gzip as it came or plain JSON; which fields it has says what it is."""
        if isinstance(message, bytes) and is_packed(message):
            message = unpack(message)
        try:
            return self._events(_MESSAGE.decode(message))
        except ValidationError as error:
            body = decode(_ANY, message)
            if isinstance(body, dict):
                raise MalformedMessage(str(error)) from None
            return [Unhandled(f"a {type(body).__name__}")]
        except (ValueError, RecursionError) as error:
            raise MalformedMessage(str(error)) from None

    def _events(self, message: Message) -> list[Event]:
        if message.ch is not None and bytes(message.tick):
            return self._data(message.ch, message.tick, message.ts)
        if message.ping is not None:
            return [Answer(f'{{"pong":{message.ping}}}')]
        if message.status == "error":
            return [Refused(f"{message.err_code}: {message.err_msg}"[:200])]
        if message.subbed is not None:
            symbol, channel = self._of_topic(message.subbed)
            return [Subscribed(channel[:80], (symbol,))]
        if message.unsubbed is not None:
            return [Heard("unsubbed")]
        if message.rep is not None and bytes(message.data):
            return [self._answered(message.rep, message.data, message.ts)]
        return [Unhandled("none of ch, ping, status, subbed, rep")]

    def _of_topic(self, topic: str) -> tuple[str, str]:
        """The unified symbol and the channel of `market.btcusdt.trade.detail`."""
        parts = topic.split(".", 2)
        if len(parts) < 3 or parts[0] != "market":
            raise ValueError(f"no topic of a market: {topic[:40]!r}")
        return self.instrument_of(parts[1]).symbol, parts[2]

    def _data(self, topic: str, tick: Raw, milliseconds: int | None) -> list[Event]:
        symbol, channel = self._of_topic(topic)
        time = None if milliseconds is None else milliseconds * 1000
        if channel == "trade.detail":
            trades = [trade(symbol, self.numbers, row) for row in _TRADES.decode(tick).data]
            # The newest stands first.
            return [TradeSeen(each) for each in sorted(trades, key=lambda each: each.trade_seq)]
        if channel == "depth.step0":
            depth = _DEPTH.decode(tick)
            bids, asks = levels(self.numbers, depth.bids), levels(self.numbers, depth.asks)
            return [BookReset(symbol, depth.time * 1000, bids, asks, depth.version)]
        if channel.startswith(_NOT_STORED):
            return [Heard(channel[:80], symbol, time)]
        if channel.startswith("mbp."):
            change = _CHANGE.decode(tick)
            bids, asks = levels(self.numbers, change.bids), levels(self.numbers, change.asks)
            return [BookDelta(symbol, time, bids, asks, change.previous, change.sequence)]
        if channel.startswith("kline."):
            timeframe = PERIODS.get(channel.removeprefix("kline."))
            if timeframe is None:
                return [Heard(channel[:80], symbol, time)]
            return [candle(symbol, self.numbers, timeframe, _BAR.decode(tick), time, is_closed=False)]
        return [Unhandled(channel[:80])]

    def _answered(self, topic: str, data: Raw, milliseconds: int | None) -> Event:
        symbol, channel = self._of_topic(topic)
        if not channel.startswith("mbp."):
            return Heard(channel[:80], symbol)
        book = _WHOLE_BOOK.decode(data)
        time = None if milliseconds is None else milliseconds * 1000
        bids, asks = levels(self.numbers, book.bids), levels(self.numbers, book.asks)
        return BookReset(symbol, time, bids, asks, book.sequence)

    # REST

    def instruments_requests(self) -> Sequence[RestRequest]:
        """Every symbol."""
        return (RestRequest(_SYMBOLS_PATH),)

    def trade_pages(self, wanted: TradeRange) -> TradePages:
        """The newest 2000, in one answer."""
        return htx_history.trade_pages(self.instrument_for(wanted.symbol), self.numbers, wanted)

    def candle_pages(self, symbol: str, timeframe: Timeframe, begin: int, end: int) -> CandlePages | None:
        """The newest 2000, in one answer; no days, which are not those of UTC."""
        instrument = self.instrument_for(symbol)
        return htx_history.candle_pages(instrument, self.numbers, timeframe, begin, end)

    def parse_rest(self, path: str, body: bytes | str) -> Sequence[Event] | Sequence[Instrument]:
        """The symbols; other known answers are heard."""
        name = urlsplit(path).path
        if name != _SYMBOLS_PATH and name not in _NOT_STORED_PATHS:
            return [Unhandled(name[:80])]
        data = htx_history.answered(body)
        if name != _SYMBOLS_PATH:
            return [Heard(name)]
        return [self._instrument(listed) for listed in decode(_SYMBOLS, data)]

    def _instrument(self, listed: ListedSymbol) -> Instrument:
        return msgspec.structs.replace(
            self._spot(listed.symbol, listed.base_currency.upper(), listed.quote_currency.upper()),
            tick_size=_step(listed.price_precision),
            lot_size=_step(listed.amount_precision),
            min_notional=bytes(listed.min_order_value).decode() or None,
            is_active=listed.state == "online",
        )


def _request(verb: str, topic: str) -> str:
    return msgspec.json.encode({verb: topic, "id": topic}).decode()


def _step(decimals: int) -> str:
    return "0." + "0" * (decimals - 1) + "1" if decimals else "1"
