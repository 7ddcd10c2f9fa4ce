"""Listens to an exchange through ccxt, and says what it hears in the messages of `ccxt_unified`."""

import asyncio
import importlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from decimal import Decimal
from functools import partial
from random import uniform
from typing import Any

import msgspec

from collector.connection import FIRST_DELAY, HEALTHY_SECONDS, LAST_DELAY, OPEN_TIMEOUT, Listener, rebase
from collector.exchanges.adapter import STREAMS, Adapter, Line
from collector.exchanges.ccxt_unified import (
    Book,
    Candles,
    Failed,
    Market,
    Markets,
    Message,
    Opened,
    Trades,
    UnifiedTrade,
)
from market import Timeframe, Unavailable, WrongUse
from market.instrument import MarketType

log = logging.getLogger(__name__)

BOOK_SECONDS = 0.25
BOOK_DEPTH = 100
"""Levels a side that are passed on."""
UNTIMED_SECONDS = 10.0
"""A book that names no time for so long will never name one."""
KEPT_TRADES = 10_000
"""Trades that ccxt keeps for us between two looks at them."""
_PLACES, _TICKS = 2, 4
"""ccxt's precision modes: decimal places, tick sizes."""

_encode = msgspec.json.Encoder().encode


class CcxtConnection:
    """Keeps one line open, as `collector.connection.Connection` does, but through one client of ccxt.

    Any failure of the network ends the client as a whole, and a new one is made: only so is it sure what
    may be missing.

    Args:
        adapter: what `collector.exchanges.find` gives for an exchange that ccxt speaks.
        line: the symbols to listen to.
        base: scheme, host and port instead of the exchange's own websockets.
        rest_base: the same for its REST interface, from which ccxt loads the markets.
        listener: told what happens.

    Raises:
        WrongUse: there is only a `base`.
    """

    def __init__(
        self,
        adapter: Adapter,
        line: Line,
        *,
        base: str | None,
        listener: Listener,
        rest_base: str | None = None,
    ) -> None:
        if base and not rest_base:
            raise WrongUse(f"{adapter.exchange} goes through ccxt: with --ws-url it needs --rest-url too")
        self.line = line
        self.url = f"ccxt://{adapter.exchange}/"
        self.is_open = False
        self.opened_at = 0.0
        self.opened = 0
        self._adapter = adapter
        self._listener = listener
        self._base, self._rest_base = base, rest_base
        self._client: Any = None
        self._books: dict[str, Any] = {}
        self._timed: set[str] = set()
        self._heard_at = 0.0
        self._end = asyncio.Event()

    async def probe(self) -> None:
        """Raise Unavailable when the exchange does not answer, WrongUse when it does not list a symbol."""
        client = self._make_client()
        errors = importlib.import_module("ccxt")
        try:
            async with asyncio.timeout(OPEN_TIMEOUT):
                markets = await client.load_markets()
        except (errors.BaseError, OSError, TimeoutError) as error:
            reason = str(error)[:200] or "no answer"
            raise Unavailable(f"cannot reach {self._adapter.exchange}: {reason}") from None
        finally:
            await client.close()
        for symbol in self.line.symbols:
            if symbol not in markets:
                raise WrongUse(f"{self._adapter.exchange} does not list {symbol}")

    async def run(self) -> None:
        """Listen until cancelled; a lost client is replaced, however often."""
        loop, failures = asyncio.get_running_loop(), 0
        while True:
            began = loop.time()
            try:
                reason = await self._live()
            except Exception as error:  # noqa: BLE001 - what ccxt's parsers may raise, nobody says
                reason = f"{type(error).__name__}: {error}"[:200]
            if self.is_open:
                self.is_open = False
                await self._listener.closed(self.line, reason)
            failures = 0 if loop.time() - began > HEALTHY_SECONDS else failures + 1
            log.info("%s: %s", self.url, reason)
            await asyncio.sleep(uniform(0, min(LAST_DELAY, FIRST_DELAY * 2 ** min(failures, 10))))

    async def send(self, text: str) -> None:
        """Nothing: ccxt does the talking."""

    async def reset(self) -> None:
        """Give the client up; `run` makes a new one."""
        self._end.set()

    def renew(self) -> None:
        """The same: ccxt cannot hand over."""
        self._end.set()

    # One life of a client

    def _make_client(self) -> Any:
        make = getattr(importlib.import_module("ccxt.pro"), self._adapter.exchange)
        client = make({"newUpdates": True, "options": {"tradesLimit": KEPT_TRADES}})
        client.urls["api"] = _rebased(client.urls["api"], self._base, self._rest_base)
        return client

    async def _live(self) -> str:
        """Listen to everything until something fails; why."""
        self._client = client = self._make_client()
        self._end.clear()
        tasks: list[asyncio.Task[None]] = []
        try:
            async with asyncio.timeout(OPEN_TIMEOUT):
                markets = await client.load_markets()
            self._begin()
            await self._listener.opened(self.line)
            await self._say(Opened())
            listed = [markets[symbol] for symbol in self.line.symbols if symbol in markets]
            await self._say(Markets([_market(item, client.precisionMode) for item in listed]))
            tasks = [asyncio.create_task(loop) for loop in self._loops([item["symbol"] for item in listed])]
            tasks.append(asyncio.create_task(self._watch_silence()))
            tasks.append(asyncio.create_task(self._until_end()))
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            return "given up"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._client = None
            await client.close()

    def _begin(self) -> None:
        self.is_open = True
        self.opened += 1
        self._books.clear()
        self._timed.clear()
        self.opened_at = self._heard_at = asyncio.get_running_loop().time()

    def _loops(self, symbols: list[str]) -> Iterable[Coroutine[Any, Any, None]]:
        """What to do at once: each stream of each symbol, or all symbols of one where the exchange can."""
        client = self._client
        if len(symbols) > 1 and client.has.get("watchTradesForSymbols") is True:
            yield self._watch(partial(client.watch_trades_for_symbols, symbols), self._say_trades)
        else:
            for symbol in symbols:
                yield self._watch(partial(client.watch_trades, symbol), self._say_trades)
        if client.has.get("watchOrderBook") is True:
            for symbol in symbols:
                yield self._watch(partial(client.watch_order_book, symbol), self._note_book)
            yield self._say_books()
        if client.has.get("watchOHLCV") is True and Timeframe.M1 in (client.timeframes or ()):
            for symbol in symbols:
                yield self._watch_candles(symbol)

    async def _watch(
        self, look: Callable[[], Awaitable[Any]], tell: Callable[[Any], Awaitable[None]]
    ) -> None:
        """Pass on what one of ccxt's methods gives, for ever; what it does not offer is refused once."""
        errors = importlib.import_module("ccxt")
        hopeless = (errors.NotSupported, errors.BadSymbol, errors.BadRequest, errors.AuthenticationError)
        try:
            while True:
                found = await look()
                self._heard_at = asyncio.get_running_loop().time()
                await tell(found)
        except hopeless as error:
            await self._say(Failed(f"{type(error).__name__}: {error}"[:200]))
            await asyncio.Event().wait()

    async def _watch_silence(self) -> None:
        loop, allowed = asyncio.get_running_loop(), self._adapter.silence_limit
        while loop.time() - self._heard_at < allowed:
            await asyncio.sleep(1.0)
        raise TimeoutError(f"silent for {allowed:.0f} s")

    async def _until_end(self) -> None:
        await self._end.wait()

    # What ccxt gives, in our words

    async def _say(self, message: Message | dict[str, Any]) -> None:
        work = self._listener.received(self.line, [_encode(message)], STREAMS)
        if work is not None:
            await work

    async def _say_trades(self, trades: list[dict[str, Any]]) -> None:
        by_symbol: dict[str, list[UnifiedTrade]] = {}
        for trade in trades:
            if None in (trade["timestamp"], trade["price"], trade["amount"]):
                # The adapter rejects it, and it is kept among what was rejected.
                bare = {name: part for name, part in trade.items() if name != "info"}
                await self._say({"channel": "trades", "symbol": trade["symbol"], "data": [bare]})
            else:
                by_symbol.setdefault(trade["symbol"], []).append(_trade(trade))
        for symbol, found in by_symbol.items():
            await self._say(Trades(symbol, found))

    async def _note_book(self, book: dict[str, Any]) -> None:
        self._books[book["symbol"]] = book

    async def _say_books(self) -> None:
        """Give each book that has changed, whole, but not more often than BOOK_SECONDS allows."""
        while True:
            await asyncio.sleep(BOOK_SECONDS)
            books, self._books = self._books, {}
            for symbol, book in books.items():
                if (moment := self._time_of(symbol, book)) is not None:
                    await self._say(_book(symbol, book, moment))

    def _time_of(self, symbol: str, book: Mapping[str, Any]) -> int | None:
        """When this book was, in milliseconds: ours, where the exchange turns out never to say it."""
        if (named := book.get("timestamp")) is not None:
            self._timed.add(symbol)
            return int(named)
        age = asyncio.get_running_loop().time() - self.opened_at
        return time.time_ns() // 1_000_000 if symbol not in self._timed and age > UNTIMED_SECONDS else None

    async def _watch_candles(self, symbol: str) -> None:
        async def tell(rows: list[list[Any]]) -> None:
            told = [(int(row[0]), *map(_text, row[1:6])) for row in rows if None not in row[:6]]
            await self._say(Candles(symbol, Timeframe.M1, told))  # type: ignore[arg-type]

        await self._watch(partial(self._client.watch_ohlcv, symbol, Timeframe.M1.value), tell)


def _rebased(urls: Any, base: str | None, rest_base: str | None) -> Any:
    """The addresses that ccxt has, a tree of texts, with another scheme, host and port."""
    if isinstance(urls, Mapping):
        return {name: _rebased(part, base, rest_base) for name, part in urls.items()}
    if not isinstance(urls, str):
        return urls
    return rebase(urls, base if urls.startswith("ws") else rest_base)


def _text(number: float) -> str:
    return repr(number)


def _trade(trade: Mapping[str, Any]) -> UnifiedTrade:
    side, trade_id = trade.get("side"), trade.get("id")
    return UnifiedTrade(
        timestamp=int(trade["timestamp"]),
        price=_text(trade["price"]),
        amount=_text(trade["amount"]),
        id=None if trade_id is None else str(trade_id),
        side=side if side in ("buy", "sell") else None,
    )


def _book(symbol: str, book: Mapping[str, Any], timestamp: int) -> Book:
    bids, asks = (
        [(_text(level[0]), _text(level[1])) for level in book[side][:BOOK_DEPTH]] for side in ("bids", "asks")
    )
    nonce = book.get("nonce")
    return Book(
        symbol=symbol,
        timestamp=timestamp,
        bids=bids,
        asks=asks,
        sequence=nonce if isinstance(nonce, int) and nonce >= 0 else None,
    )


def _market(market: Mapping[str, Any], precision_mode: int) -> Market:
    kind = MarketType.SPOT
    if market.get("contract"):
        kind = MarketType.INVERSE if market.get("inverse") else MarketType.LINEAR
    precision, cost = market.get("precision") or {}, (market.get("limits") or {}).get("cost") or {}
    return Market(
        symbol=market["symbol"],
        id=str(market["id"]),
        base=market["base"],
        quote=market["quote"],
        type=kind,
        expiry=market.get("expiry"),
        tick_size=_step(precision.get("price"), precision_mode),
        lot_size=_step(precision.get("amount"), precision_mode),
        contract_size=_decimal(market.get("contractSize")),
        min_notional=_decimal(cost.get("min")),
        is_active=market.get("active") is not False,
    )


def _step(precision: float | None, mode: int) -> str | None:
    """The tick of a precision; None where it is given as significant digits."""
    if precision is None or mode not in (_PLACES, _TICKS):
        return None
    return _decimal(precision) if mode == _TICKS else format(Decimal(1).scaleb(-int(precision)), "f")


def _decimal(number: float | None) -> str | None:
    return None if number is None else format(Decimal(repr(number)), "f")
