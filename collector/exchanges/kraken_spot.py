"""What both of Kraken's websocket dialects share: names, the REST interface and the book's checksum.

Source: https://docs.kraken.com/api/docs/guides/spot-ws-book-v2, as of November 2026.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit
from zlib import crc32

import msgspec
from msgspec import Struct
from msgspec.json import Decoder

from collector.exchanges.adapter import (
    Adapter,
    BookRule,
    BookSequence,
    MalformedMessage,
    RestRequest,
    decode,
)
from collector.exchanges.events import BookDelta, BookReset, Event, Heard, Unhandled
from market import Instrument, OrderBook

CHECKSUM_DEPTH = 10
UNIFIED = {"XBT": "BTC", "XDG": "DOGE"}
"""Kraken's own names of assets; everything else is called as elsewhere."""
_OWN = {theirs: ours for ours, theirs in UNIFIED.items()}
_PUBLIC = "/0/public/"
_NOT_STORED = frozenset(
    _PUBLIC + name
    for name in ("Trades", "OHLC", "Depth", "Ticker", "Spread", "Assets", "Time", "SystemStatus")
)


class _AssetPair(Struct, gc=False):
    pair_decimals: int
    lot_decimals: int
    wsname: str | None = None
    tick_size: str | None = None
    costmin: str | None = None
    status: str = "online"


class _AssetPairs(Struct, gc=False):
    error: list[str]
    result: dict[str, _AssetPair] = {}


_ASSET_PAIRS = Decoder(_AssetPairs)
_ANY: Decoder[Any] = Decoder()


def book_checksum(book: OrderBook) -> int:
    """CRC32 over the best ten asks, then the best ten bids: each price and size without point and zeros.

    Every text is taken as the exchange sent it, so trailing zeros count.
    """
    bids, asks = book.top(CHECKSUM_DEPTH)
    texts = [text.replace(".", "").lstrip("0") for level in asks + bids for text in level]
    return crc32("".join(texts).encode())


class KrakenBook(BookSequence):
    """No sequence: after a snapshot every update follows, as long as the checksums match."""

    def __init__(self) -> None:
        self._is_known = False
        self._depth: int | None = None

    def reset(self, event: BookReset) -> None:
        """A snapshot came, of as many levels as the stream keeps."""
        self._is_known = True
        self._depth = event.depth

    def follows(self, event: BookDelta) -> bool | None:
        """Whether there was a snapshot."""
        return self._is_known

    def check(self, event: BookDelta | BookReset, book: OrderBook) -> bool | None:
        """Cut to the subscribed depth (levels that fall out are not reported), then compare."""
        if self._depth is not None:
            book.cut(self._depth)
        return None if event.checksum is None else book_checksum(book) == int(event.checksum)


class KrakenSpot(Adapter):
    """Names and REST answers of Kraken's spot market."""

    ws_url: ClassVar[str]
    rest_url: ClassVar[str] = "https://api.kraken.com"
    book_rule: ClassVar[BookRule] = "stream_snapshot"

    @abstractmethod
    def exchange_symbol(self, base: str, quote: str) -> str:
        """What the websocket calls the pair of these unified assets."""

    def by_rule(self, exchange_symbol: str) -> Instrument | None:
        """XBT/USD and BTC/USD are BTC/USD."""
        base, _, quote = exchange_symbol.partition("/")
        if not (base.isalnum() and quote.isalnum()):
            return None
        return self._spot(exchange_symbol, UNIFIED.get(base, base), UNIFIED.get(quote, quote))

    def by_symbol_rule(self, symbol: str) -> Instrument:
        """The pair under the name that the websocket gives it."""
        base, quote = self._pair(symbol)
        return self._spot(self.exchange_symbol(base, quote), base, quote)

    def book_sequence(self, symbol: str) -> BookSequence:
        """Checksums, over the book cut to the depth that its snapshot came with."""
        return KrakenBook()

    def instruments_requests(self) -> Sequence[RestRequest]:
        """Every pair."""
        return (RestRequest(f"{_PUBLIC}AssetPairs"),)

    def parse_rest(self, path: str, body: bytes | str) -> Sequence[Event] | Sequence[Instrument]:
        """The pairs; other known answers are heard."""
        name = urlsplit(path).path
        if name == f"{_PUBLIC}AssetPairs":
            answer = decode(_ASSET_PAIRS, body)
            _raise(answer.error)
            found = (self._instrument(pair) for pair in answer.result.values())
            return [instrument for instrument in found if instrument is not None]
        untyped = decode(_ANY, body)
        _raise(untyped.get("error") if isinstance(untyped, dict) else None)
        if name in _NOT_STORED:
            return [Heard(name.removeprefix(_PUBLIC))]
        return [Unhandled(name[:80])]

    def _instrument(self, pair: _AssetPair) -> Instrument | None:
        # Dark pools have no name on the websocket.
        known = self.by_rule(pair.wsname) if pair.wsname else None
        if known is None:
            return None
        return msgspec.structs.replace(
            known,
            exchange_symbol=self.exchange_symbol(known.base, known.quote),
            tick_size=pair.tick_size or _step(pair.pair_decimals),
            lot_size=_step(pair.lot_decimals),
            min_notional=pair.costmin,
            is_active=pair.status == "online",
        )


def own_name(asset: str) -> str:
    """What Kraken itself calls a unified asset."""
    return _OWN.get(asset, asset)


def _step(decimals: int) -> str:
    return "0." + "0" * (decimals - 1) + "1" if 0 < decimals < 30 else "1"


def _raise(errors: Any) -> None:
    if errors:
        raise MalformedMessage(str(errors)[:200])
