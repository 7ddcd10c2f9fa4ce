"""Binance USDⓈ-M futures: combined streams over two connections, whole books and the list over REST.

Source: https://developers.binance.com/docs/derivatives/usds-margined-futures, as of November 2026.
"""

import re
from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import structs
from msgspec.json import Decoder

from collector.exchanges import binance_futures_history
from collector.exchanges.adapter import (
    BookSequence,
    CandlePages,
    Facts,
    FundingPages,
    Line,
    MalformedMessage,
    RestRequest,
    Stream,
    TradePages,
    TradeRange,
    decode,
)
from collector.exchanges.binance import Binance
from collector.exchanges.binance_history import reason
from collector.exchanges.binance_messages import (
    CombinedFutures,
    FuturesDepthUpdate,
    FuturesInfo,
    FuturesPayload,
    ListedContract,
    WholeBook,
)
from collector.exchanges.contracts import Contract, contract_of, linear
from collector.exchanges.events import (
    BookDelta,
    BookReset,
    Event,
    Heard,
    Refused,
    Subscribed,
    Unhandled,
)
from collector.exchanges.funding import is_funded
from collector.exchanges.paging import decode_answer
from market import Instrument, Timeframe, WrongUse

ENDPOINTS: tuple[tuple[str, tuple[str, ...], frozenset[Stream]], ...] = (
    ("public", ("@depth@100ms",), frozenset(("book",))),
    ("market", ("@aggTrade", "@kline_1m"), frozenset(("trades", "candles"))),
)
"""Where the streams are to be had, and what they carry."""
BOOK_LIMIT = 1000
QUOTES = ("FDUSD", "USDT", "USDC", "BUSD", "USD1", "BTC")
"""What the names of contracts end with, before the date of a delivery."""
_API = "/fapi/v1"
_BOOK_WEIGHT = 20
_NAME = re.compile(rf"([^\W_a-z]+?)({'|'.join(QUOTES)})(?:_([0-9]{{6}}))?")
_TAGS = ("aggTrade", "depthUpdate", "kline", "serverShutdown")
# Single trades are not documented, and a tape of aggregates is never mixed with them.
_NOT_STORED = frozenset(
    (
        "trade",
        "bookTicker",
        "24hrTicker",
        "24hrMiniTicker",
        "markPriceUpdate",
        "forceOrder",
        "continuous_kline",
        "compositeIndex",
        "assetIndexUpdate",
        "contractInfo",
    )
)
_NOT_STORED_PATHS = frozenset(
    f"{_API}/{name}" for name in ("trades", "historicalTrades", "aggTrades", "klines")
)
_ANY: Decoder[Any] = Decoder()
_WHOLE_BOOK = Decoder(WholeBook)
_FUTURES_INFO = Decoder(FuturesInfo)


class UsdmBook(BookSequence):
    """Update ids, which all symbols share: a delta says which one the delta before it ended with.

    So it covers all that changed after that. The first one that reaches beyond a whole book must join it;
    from then on each must begin exactly where the one before ended.
    """

    def __init__(self) -> None:
        self._last: int | None = None
        self._is_joined = False

    def reset(self, event: BookReset) -> None:
        """Go on from the snapshot's `lastUpdateId`."""
        self._last, self._is_joined = event.sequence, False

    def follows(self, event: BookDelta) -> bool | None:
        """Whether nothing lies between; None where all of it is old."""
        if self._last is None or event.first_sequence is None or event.last_sequence is None:
            return False
        if event.last_sequence <= self._last:
            return None
        following = self._last + 1
        if event.first_sequence > following or (self._is_joined and event.first_sequence < following):
            return False
        self._last, self._is_joined = event.last_sequence, True
        return True


class BinanceUsdm(Binance):
    """Binance USDⓈ-M futures: aggregates of fills, the diff book, 1m candles. Sizes are in base units."""

    exchange: ClassVar[str] = "binanceusdm"
    ws_url: ClassVar[str] = "wss://fstream.binance.com"
    rest_url: ClassVar[str] = "https://fapi.binance.com"
    rest_rate: ClassVar[tuple[float, float]] = (20.0, 400.0)
    facts: ClassVar[Facts] = Facts(
        title="Binance USDⓈ-M futures",
        trades="@aggTrade: fills of one price and side within 100 ms, ids +1",
        book="@depth@100ms on a REST snapshot, update ids checked",
        candles="@kline_1m",
        history="the last 48 hours, by id",
        source="https://developers.binance.com/docs/derivatives/usds-margined-futures",
        as_of="2026-11",
    )
    _combined: ClassVar[Decoder[Any]] = Decoder(CombinedFutures)
    _payload: ClassVar[Decoder[Any]] = Decoder(FuturesPayload)

    def __init__(self) -> None:
        super().__init__()
        self._readers[FuturesDepthUpdate] = self._changes

    def by_rule(self, exchange_symbol: str) -> Instrument | None:
        """BTCUSDT is BTC/USDT:USDT, BTCUSDT_210924 is BTC/USDT:USDT-210924."""
        found = _NAME.fullmatch(exchange_symbol)
        if found is None or exchange_symbol != exchange_symbol.upper():
            return None
        base, quote, delivery = found.groups()
        return self._contract(exchange_symbol, Contract(base, quote, quote, delivery or ""))

    def by_symbol_rule(self, symbol: str) -> Instrument:
        """BTC/USDT:USDT-210924 is BTCUSDT_210924."""
        contract = contract_of(symbol)
        if contract is None or contract.settle != contract.quote:
            raise WrongUse(f"{self.exchange}: {symbol!r} is no linear contract: write it like BTC/USDT:USDT")
        name = contract.base + contract.quote
        return self._contract(f"{name}_{contract.delivery}" if contract.delivery else name, contract)

    def _contract(self, exchange_symbol: str, contract: Contract) -> Instrument:
        return linear(self.exchange, exchange_symbol, contract, has_consecutive_ids=self.has_consecutive_ids)

    def lines(self, symbols: Sequence[str]) -> list[Line]:
        """Books come over one endpoint, everything else over another; the streams stand in the path."""
        found = []
        for share in self._shares(symbols):
            names = [self.instrument_for(symbol).exchange_symbol.lower() for symbol in share]
            for endpoint, streams, carried in ENDPOINTS:
                wanted = "/".join(name + stream for name in names for stream in streams)
                found.append(Line(f"/{endpoint}/stream?streams={wanted}", share, (), carried))
        return found

    def book_sequence(self, symbol: str) -> BookSequence:
        """The check of `pu` and `u`."""
        return UsdmBook()

    def _changes(self, payload: FuturesDepthUpdate) -> BookDelta:
        if not payload.previous < payload.first <= payload.last:
            raise ValueError("the update ids do not rise")
        return BookDelta(
            self.instrument_of(payload.symbol).symbol,
            payload.time * 1000,
            *self.numbers.read_sides(payload.bids, payload.asks),
            # The ids between belong to other symbols: of this one nothing changed there.
            payload.previous + 1,
            payload.last,
        )

    def _untyped(self, body: Any) -> list[Event]:
        """What is not in the union of payloads: other streams, answers, and what nobody knows."""
        payload = body.get("data", body) if isinstance(body, dict) else body
        if not isinstance(payload, dict):
            return [Unhandled(f"a {type(payload).__name__}")]
        kind = payload.get("e")
        if kind in _TAGS:
            try:
                return self._events(self._decode_payload(msgspec.json.encode(payload)))
            except ValueError as error:
                raise MalformedMessage(str(error)) from None
        if isinstance(kind, str) and kind in _NOT_STORED:
            return [Heard(kind)]
        if kind is None:
            if (refusal := reason(payload)) is not None:
                return [Refused(refusal)]
            if "result" in payload and "id" in payload:
                return [Subscribed("streams")]
        return [Unhandled(str(kind or sorted(payload))[:80])]

    # REST

    def instruments_requests(self) -> Sequence[RestRequest]:
        """Every contract, with its filters."""
        return (RestRequest(f"{_API}/exchangeInfo"),)

    def book_request(self, symbol: str) -> RestRequest | None:
        """The best 1000 levels a side."""
        name = self.instrument_for(symbol).exchange_symbol
        return RestRequest(f"{_API}/depth?symbol={name}&limit={BOOK_LIMIT}", weight=_BOOK_WEIGHT)

    def trade_pages(self, wanted: TradeRange) -> TradePages | None:
        """By id, upwards, as far back as 48 hours."""
        return binance_futures_history.trade_pages(self.instrument_for(wanted.symbol), self.numbers, wanted)

    def candle_pages(self, symbol: str, timeframe: Timeframe, begin: int, end: int) -> CandlePages | None:
        """Upwards."""
        instrument = self.instrument_for(symbol)
        return binance_futures_history.candle_pages(instrument, self.numbers, timeframe, begin, end)

    def funding_pages(self, symbol: str, begin: int, end: int) -> FundingPages | None:
        """Upwards."""
        instrument = self.instrument_for(symbol)
        if not is_funded(instrument):
            return None
        return binance_futures_history.funding_pages(instrument, self.numbers, begin, end)

    def parse_rest(self, path: str, body: bytes | str) -> Sequence[Event] | Sequence[Instrument]:
        """Books and the list of contracts; other known answers are heard."""
        url = urlsplit(path)
        if url.path == f"{_API}/exchangeInfo":
            info = decode_answer(_FUTURES_INFO, body, reason)
            return [self._listed_contract(contract) for contract in info.symbols]
        if url.path == f"{_API}/depth":
            return [self._snapshot(parse_qs(url.query).get("symbol", []), body)]
        refusal = reason(decode(_ANY, body))
        if refusal is not None:
            raise MalformedMessage(refusal)
        if url.path in _NOT_STORED_PATHS:
            return [Heard(url.path)]
        return [Unhandled(url.path[:80])]

    def _snapshot(self, names: list[str], body: bytes | str) -> BookReset:
        book = decode_answer(_WHOLE_BOOK, body, reason)
        if not names:
            raise MalformedMessage("a book without the symbol in its request")
        try:
            return BookReset(
                self.instrument_of(names[0]).symbol,
                # It names its time, but proves itself by the first change that follows.
                None,
                *self.numbers.read_sides(book.bids, book.asks),
                book.sequence,
            )
        except ValueError as error:
            raise MalformedMessage(str(error)) from None

    def _listed_contract(self, listed: ListedContract) -> Instrument:
        filters = {item.filter_type: item for item in listed.filters}
        price, lot, notional = (filters.get(n) for n in ("PRICE_FILTER", "LOT_SIZE", "MIN_NOTIONAL"))
        _, _, delivery = listed.symbol.partition("_")
        contract = Contract(listed.base_asset, listed.quote_asset, listed.margin_asset, delivery)
        return structs.replace(
            self._contract(listed.symbol, contract),
            expiry_timestamp=listed.delivery_date * 1000 if delivery else None,
            tick_size=price.tick_size if price else None,
            lot_size=lot.step_size if lot else None,
            min_notional=notional.notional if notional else None,
            is_active=listed.status == "TRADING",
        )
