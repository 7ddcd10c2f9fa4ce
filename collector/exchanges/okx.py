"""OKX v5: books over its public websocket, single fills and 1m candles over its business websocket.

Source: https://www.okx.com/docs-v5/en, as of November 2026.
"""

from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Raw, ValidationError
from msgspec.json import Decoder

from collector.exchanges import okx_history
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
from collector.exchanges.contracts import Contract, contract_of
from collector.exchanges.events import (
    BookDelta,
    BookReset,
    Closing,
    Event,
    Heard,
    Refused,
    Subscribed,
    TradeSeen,
    Unhandled,
)
from collector.exchanges.funding import is_funded
from collector.exchanges.okx_book import OkxBook
from collector.exchanges.okx_messages import (
    BARS,
    Argument,
    Bar,
    Book,
    ListedInstrument,
    Message,
    TradeRow,
    candle,
    contract_text,
    levels,
    linear_contract,
    microseconds,
    number,
    trade,
)
from market import Instrument, MarketType, Timeframe, WrongUse

TYPES = ("SPOT", "SWAP", "FUTURES")
"""Kinds of instruments that are collected."""
_MARKET_TYPES = {"linear": MarketType.LINEAR, "inverse": MarketType.INVERSE}
# fmt: off
_NOT_STORED = frozenset((
    "tickers", "books5", "bbo-tbt", "books-l2-tbt", "books50-l2-tbt", "instruments", "status",
    "index-tickers", "mark-price", "funding-rate", "open-interest", "price-limit", "estimated-price",
    "liquidation-orders",
))
# fmt: on
_CUT_SOON = "64008"
_INSTRUMENTS = "/api/v5/public/instruments"
_NOT_STORED_PATHS = frozenset(
    f"/api/v5/market/{name}" for name in ("trades", "history-trades", "candles", "history-candles", "books")
)
_MESSAGE = Decoder(Message)
_TRADES = Decoder(list[TradeRow])
_BOOKS = Decoder(list[Book])
_BARS = Decoder(list[Bar])
_LISTED = Decoder(list[ListedInstrument])
_ANY: Decoder[Any] = Decoder()


class Okx(Adapter):
    """OKX spot, swaps and dated futures.

    What is stored are single fills, `trades-all`. A row of the channel `trades` is one too, unless its
    `count` says that several were merged: such a row is heard, and not stored. Sizes of linear contracts are
    contracts times ctVal times ctMult, those of inverse ones contracts: so a derivative is only known from
    the exchange's list.
    """

    exchange: ClassVar[str] = "okx"
    ws_url: ClassVar[str] = "wss://ws.okx.com:8443"
    rest_url: ClassVar[str] = "https://www.okx.com"
    book_rule: ClassVar[BookRule] = "stream_snapshot"
    has_consecutive_ids: ClassVar[bool] = True
    silence_limit: ClassVar[float] = 30.0
    symbols_per_line: ClassVar[int] = 25
    rest_rate: ClassVar[tuple[float, float]] = (9.0, 18.0)
    facts: ClassVar[Facts] = Facts(
        title="OKX v5: spot, swaps, futures",
        trades="trades-all: every fill, ids +1",
        book="books: 400 levels, seqId checked, CRC32 where sent",
        candles="candle1m",
        history="three months, by id",
        source="https://www.okx.com/docs-v5/en",
        as_of="2026-11",
    )

    def by_rule(self, exchange_symbol: str) -> Instrument | None:
        """BTC-USDT is BTC/USDT; what has a third part is known from the list only."""
        base, _, quote = exchange_symbol.partition("-")
        if base.isalnum() and quote.isalnum() and exchange_symbol == exchange_symbol.upper():
            return self._spot(exchange_symbol, base, quote)
        return None

    def by_symbol_rule(self, symbol: str) -> Instrument:
        """BTC/USDT is BTC-USDT."""
        if contract_of(symbol) is not None:
            reason = "does not list" if self._has_list else "did not give its list, which has the contract of"
            raise WrongUse(f"{self.exchange} {reason} {symbol}")
        base, quote = self._pair(symbol)
        return self._spot(f"{base}-{quote}", base, quote)

    # Websocket

    def lines(self, symbols: Sequence[str]) -> list[Line]:
        """Two connections for each share of the symbols: their books, and their trades and candles."""
        found: list[Line] = []
        for share in self._shares(symbols):
            books = self._request("subscribe", share, "books")
            others = self._request("subscribe", share, "trades-all", "candle1m")
            found.append(Line("/ws/v5/public", share, (books,), frozenset(("book",))))
            found.append(Line("/ws/v5/business", share, (others,), frozenset(("trades", "candles"))))
        return found

    def resubscribe_book(self, symbol: str) -> list[str]:
        """A new subscription begins with a snapshot."""
        return [self._request(verb, [symbol], "books") for verb in ("unsubscribe", "subscribe")]

    def _request(self, verb: str, symbols: Sequence[str], *channels: str) -> str:
        names = [self.instrument_for(symbol).exchange_symbol for symbol in symbols]
        arguments = [{"channel": channel, "instId": name} for channel in channels for name in names]
        return msgspec.json.encode({"id": "1", "op": verb, "args": arguments}).decode()

    def keep_alive(self) -> tuple[float, str] | None:
        """A bare text: 30 seconds without data, and the connection is cut."""
        return 20.0, "ping"

    def book_sequence(self, symbol: str) -> BookSequence:
        """The chain of `prevSeqId`, and checksums where there are any."""
        return OkxBook(linear_contract(self.instrument_for(symbol)))

    def parse(self, message: bytes | str, path: str = "") -> list[Event]:
        """One message, told by its `event` or by its `arg`; the answer to a ping is no JSON."""
        if message in (b"pong", "pong"):
            return [Heard("pong")]
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
        if message.event is not None:
            return [self._control(message, message.event)]
        if message.arg is not None and bytes(message.data):
            return self._data(message.arg, message.action, message.data)
        return [Unhandled("neither event nor arg and data")]

    def _control(self, message: Message, event: str) -> Event:
        if event == "subscribe" and message.arg is not None:
            return Subscribed(message.arg.channel[:80], (self.instrument_of(message.arg.name).symbol,))
        if event in ("error", "channel-conn-count-error"):
            return Refused(f"{message.code}: {message.msg}"[:200])
        if event == "notice" and message.code == _CUT_SOON:
            return Closing(message.msg[:200])
        if event in ("unsubscribe", "notice", "channel-conn-count"):
            return Heard(event)
        return Unhandled(event[:80])

    def _data(self, argument: Argument, action: str | None, data: Raw) -> list[Event]:
        channel = argument.channel
        if channel in ("trades", "trades-all"):
            instrument = self.instrument_of(argument.name)
            rows = sorted(_TRADES.decode(data), key=lambda row: number(row.trade_id))
            return [self._trade(instrument, row) for row in rows]
        if channel == "books" and action is not None:
            instrument = self.instrument_of(argument.name)
            return [self._book(instrument, book, action) for book in _BOOKS.decode(data)]
        if channel.startswith("candle"):
            instrument = self.instrument_of(argument.name)
            timeframe = BARS.get(channel.removeprefix("candle"))
            if timeframe is None:
                return [Heard(channel[:80], instrument.symbol)]
            return [candle(instrument, self.numbers, timeframe, bar) for bar in _BARS.decode(data)]
        return [Heard(channel) if channel in _NOT_STORED else Unhandled(channel[:80])]

    def _trade(self, instrument: Instrument, row: TradeRow) -> Event:
        if number(row.count) > 1:
            return Heard("trades", instrument.symbol, microseconds(row.time), number(row.trade_id))
        return TradeSeen(trade(instrument, self.numbers, row))

    def _book(self, instrument: Instrument, book: Book, action: str) -> Event:
        symbol, time = instrument.symbol, microseconds(book.time)
        bids, asks = (levels(instrument, self.numbers, side) for side in (book.bids, book.asks))
        # Since 2026 it is always 0, which says nothing.
        checksum = str(book.checksum) if book.checksum else None
        if action == "snapshot":
            return BookReset(symbol, time, bids, asks, book.sequence, checksum=checksum)
        return BookDelta(symbol, time, bids, asks, book.previous, book.sequence, checksum)

    # REST

    def instruments_requests(self) -> Sequence[RestRequest]:
        """Every instrument, one answer for each kind."""
        return [RestRequest(f"{_INSTRUMENTS}?instType={kind}") for kind in TYPES]

    def trade_pages(self, wanted: TradeRange) -> TradePages:
        """Single fills of the last three months."""
        return okx_history.trade_pages(self.instrument_for(wanted.symbol), self.numbers, wanted)

    def candle_pages(self, symbol: str, timeframe: Timeframe, begin: int, end: int) -> CandlePages:
        """Those of years."""
        return okx_history.candle_pages(self.instrument_for(symbol), self.numbers, timeframe, begin, end)

    def funding_pages(self, symbol: str, begin: int, end: int) -> FundingPages | None:
        """Of perpetual contracts, downwards, three months back."""
        instrument = self.instrument_for(symbol)
        if not is_funded(instrument):
            return None
        return okx_history.funding_pages(instrument, self.numbers, begin, end)

    def parse_rest(self, path: str, body: bytes | str) -> Sequence[Event] | Sequence[Instrument]:
        """The instruments that are collected; other known answers are heard."""
        url = urlsplit(path)
        if url.path != _INSTRUMENTS and url.path not in _NOT_STORED_PATHS:
            return [Unhandled(url.path[:80])]
        data = okx_history.answered(body)
        kinds = parse_qs(url.query).get("instType", [])
        if url.path != _INSTRUMENTS or kinds[:1] == ["OPTION"]:
            return [Heard(url.path)]
        try:
            found = [self._instrument(listed) for listed in decode(_LISTED, data)]
        except ValueError as error:
            raise MalformedMessage(str(error)) from None
        return [instrument for instrument in found if instrument is not None]

    def _instrument(self, listed: ListedInstrument) -> Instrument | None:
        known = self._contract(listed) if listed.inst_type != "SPOT" else self.by_rule(listed.inst_id)
        if known is None:
            return None
        return msgspec.structs.replace(
            known, tick_size=listed.tick_sz, lot_size=listed.lot_sz, is_active=listed.state == "live"
        )

    def _contract(self, listed: ListedInstrument) -> Instrument | None:
        """A derivative; None for one that is no swap or dated future, or does not say what a contract is."""
        base, _, quote = listed.uly.partition("-")
        last = listed.inst_id.rpartition("-")[2]
        contract = Contract(base, quote, listed.settle_ccy, "" if last == "SWAP" else last)
        market_type = _MARKET_TYPES.get(listed.ct_type)
        if contract_of(contract.symbol) != contract or market_type is None or not listed.ct_val:
            return None
        return msgspec.structs.replace(
            self._spot(listed.inst_id, base, quote),
            symbol=contract.symbol,
            market_type=market_type,
            contract_size=contract_text(listed),
            expiry_timestamp=microseconds(listed.exp_time) if listed.exp_time else None,
        )
