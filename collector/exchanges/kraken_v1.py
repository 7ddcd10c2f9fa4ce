"""Kraken's v1 array dialect, for recordings: trades without ids, books with checksums.

Source: https://docs.kraken.com/api/docs/websocket-v1/book and …/trade, as of November 2026.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct, ValidationError, field
from msgspec.json import Decoder

from collector.exchanges.adapter import Facts, Line, MalformedMessage, decode
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
from collector.exchanges.kraken_spot import KrakenSpot, own_name
from collector.exchanges.texts import seconds_microseconds
from market import Side, Trade

BOOK_DEPTH = 1000
MAX_TIMES = 10_000
"""Times per symbol whose ordinals are remembered: no trade comes later than that many others."""
_NUMBER = re.compile("[0-9]{1,10}")
_NOT_STORED = ("ticker", "spread", "ohlc")
_HEARD = frozenset(("heartbeat", "systemStatus", "pong"))
_SIDES = {"b": Side.BUY, "s": Side.SELL}


_Level = Annotated[list[str], Meta(min_length=3)]
"""[price, volume, time], and "r" where it is only republished."""


class _Book(Struct, gc=False):
    """{"as":[[price,volume,time],…],"bs":[…]}, {"a":[…],"c":"2583817756"}, {"b":[…],"c":…} or both."""

    all_asks: list[_Level] | None = field(name="as", default=None)
    all_bids: list[_Level] | None = field(name="bs", default=None)
    asks: list[_Level] = field(name="a", default=[])
    bids: list[_Level] = field(name="b", default=[])
    checksum: str | None = field(name="c", default=None)


class _Control(Struct, gc=False):
    """{"event":"subscriptionStatus","channelName":"book-1000","pair":"XBT/USD","status":"subscribed"}."""

    event: str
    status: str = ""
    channel: str = field(name="channelName", default="")
    pair: str | None = None
    error: str = field(name="errorMessage", default="")


_Part = _Book | list[list[str]] | str | int
_MESSAGE: Decoder[_Control | list[_Part]] = Decoder(_Control | list[_Part])
_ANY: Decoder[Any] = Decoder()


class KrakenV1(KrakenSpot):
    """Kraken v1. Unlike other adapters it remembers trades: their ids are made of time and ordinal.

    A trade's id is `<microseconds>-<ordinal>`: its place among the trades of its symbol and time, counted
    over all that this adapter has parsed. So each run over a recording takes an adapter of its own.
    """

    exchange: ClassVar[str] = "kraken_v1"
    ws_url: ClassVar[str] = "wss://ws.kraken.com"
    has_consecutive_ids: ClassVar[bool] = False
    is_replay_only: ClassVar[bool] = True
    silence_limit: ClassVar[float] = 10.0
    facts: ClassVar[Facts] = Facts(
        title="Kraken (websocket v1)",
        trades="trade: no ids",
        book="book, 1000 levels, CRC32 checked",
        candles="none",
        history="none: recordings only",
        source="https://docs.kraken.com/api/docs/websocket-v1",
        as_of="2022-04",
    )

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, dict[int, int]] = {}

    def exchange_symbol(self, base: str, quote: str) -> str:
        """BTC/USD is XBT/USD."""
        return f"{own_name(base)}/{own_name(quote)}"

    def lines(self, symbols: Sequence[str]) -> list[Line]:
        """One endpoint: trades and books."""
        return [
            Line(
                "/",
                share,
                (
                    self._request("subscribe", share, {"name": "trade"}),
                    self._request("subscribe", share, {"name": "book", "depth": BOOK_DEPTH}),
                ),
            )
            for share in self._shares(symbols)
        ]

    def resubscribe_book(self, symbol: str) -> list[str]:
        """A new subscription begins with a snapshot."""
        book = {"name": "book", "depth": BOOK_DEPTH}
        return [self._request(verb, [symbol], book) for verb in ("unsubscribe", "subscribe")]

    def _request(self, verb: str, symbols: Iterable[str], subscription: dict[str, Any]) -> str:
        pairs = [self.instrument_for(symbol).exchange_symbol for symbol in symbols]
        return msgspec.json.encode({"event": verb, "pair": pairs, "subscription": subscription}).decode()

    def parse(self, message: bytes | str, path: str = "") -> list[Event]:
        """An object is control; an array is data, whose channel and pair are its last two."""
        try:
            parts = _MESSAGE.decode(message)
            return self._control(parts) if isinstance(parts, _Control) else self._data(parts)
        except ValidationError as error:
            return self._untyped(decode(_ANY, message), str(error))
        except (ValueError, RecursionError) as error:
            raise MalformedMessage(str(error)) from None

    def _control(self, control: _Control) -> list[Event]:
        if control.event == "subscriptionStatus":
            if control.status == "error":
                return [Refused(f"{control.error} {control.pair or ''}".strip()[:200])]
            if control.status == "subscribed":
                symbols = () if control.pair is None else (self.instrument_of(control.pair).symbol,)
                return [Subscribed(control.channel, symbols)]
            return [Heard(control.event)]
        if control.event == "error":
            return [Refused(control.error[:200])]
        if control.event in _HEARD:
            return [Heard(control.event)]
        return [Unhandled(control.event[:80])]

    def _data(self, parts: list[_Part]) -> list[Event]:
        if len(parts) < 4:
            raise ValueError(f"{len(parts)} parts are too few for data")
        _, *payload, channel, pair = parts
        if not (isinstance(channel, str) and isinstance(pair, str)):
            raise ValueError("data without channel and pair")  # noqa: TRY004 - it is about the message
        if channel == "trade":
            return self._trades(payload, self.instrument_of(pair).symbol)
        if channel.startswith("book-"):
            return [self._book(payload, self.instrument_of(pair).symbol, channel)]
        if channel.startswith(_NOT_STORED):
            return [Heard(channel[:80], self.instrument_of(pair).symbol)]
        return [Unhandled(channel[:80])]

    def _trades(self, payload: list[_Part], symbol: str) -> list[Event]:
        events: list[Event] = []
        for rows in payload:
            if not isinstance(rows, list):
                raise ValueError("trades are no array")  # noqa: TRY004 - it is about the message
            trades = [self._trade(row, symbol) for row in rows]
            events += [TradeSeen(trade) for trade in trades]
        return events

    def _trade(self, row: list[str], symbol: str) -> Trade:
        if len(row) < 4 or row[3] not in _SIDES:
            raise ValueError(f"no trade: {row!r:.80}")
        timestamp = seconds_microseconds(row[2])
        price, size = self.numbers.price(row[0]), self.numbers.price(row[1])
        ordinal = self._ordinal(symbol, timestamp)
        return Trade(symbol, timestamp, f"{timestamp}-{ordinal}", ordinal, price, size, _SIDES[row[3]])

    def _ordinal(self, symbol: str, timestamp: int) -> int:
        counts = self._counts.setdefault(symbol, {})
        ordinal = counts.get(timestamp, 0)
        counts[timestamp] = ordinal + 1
        if len(counts) > MAX_TIMES:
            del counts[next(iter(counts))]
        return ordinal

    def _book(self, payload: list[_Part], symbol: str, channel: str) -> Event:
        bids: list[_Level] = []
        asks: list[_Level] = []
        checksum: str | None = None
        is_whole = False
        for part in payload:
            if not isinstance(part, _Book):
                raise ValueError("a book that is no object")  # noqa: TRY004 - it is about the message
            is_whole = is_whole or part.all_asks is not None or part.all_bids is not None
            bids += part.all_bids or part.bids
            asks += part.all_asks or part.asks
            checksum = part.checksum or checksum
        if checksum is not None and not _NUMBER.fullmatch(checksum):
            raise ValueError(f"no checksum: {checksum[:40]!r}")
        time = max((seconds_microseconds(level[2]) for level in bids + asks), default=None)
        bid_levels, ask_levels = (
            self.numbers.levels([(level[0], level[1]) for level in side]) for side in (bids, asks)
        )
        if is_whole:
            if not _NUMBER.fullmatch(channel, 5):
                raise ValueError(f"no depth: {channel[:40]!r}")
            depth = int(channel.removeprefix("book-"))
            return BookReset(symbol, time, bid_levels, ask_levels, depth=depth)
        return BookDelta(symbol, time, bid_levels, ask_levels, checksum=checksum)

    def _untyped(self, body: Any, reason: str) -> list[Event]:
        """Channels that are not stored have shapes of their own."""
        if isinstance(body, list) and len(body) >= 4 and isinstance(body[-2], str):
            if body[-2].startswith(_NOT_STORED) and isinstance(body[-1], str):
                return [Heard(body[-2][:80], self.instrument_of(body[-1]).symbol)]
            if body[-2] == "trade" or body[-2].startswith("book-"):
                raise MalformedMessage(reason)
            return [Unhandled(body[-2][:80])]
        if isinstance(body, dict) and "event" in body:
            raise MalformedMessage(reason)
        return [Unhandled(f"a {type(body).__name__}")]
