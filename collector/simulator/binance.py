"""Binance spot over the simulated market, sans I/O: what a connection subscribed, what it is to be sent.

Source: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams, as of November 2026.
"""

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from collector.simulator.binance_rest import BinanceRest
from collector.simulator.binance_texts import CHANNELS, SymbolTexts
from collector.simulator.market import SimulatedMarket
from market import WrongUse

MAX_STREAMS = 1024
"""Of a connection."""
MAX_SYMBOLS = 200
"""Of a simulator: each keeps some megabytes of messages at hand."""


class BinanceExchange:
    """The markets of one simulator, and the doors to them: `connect` for websockets, `rest.answer`."""

    def __init__(self, symbols: Sequence[str], seed: int) -> None:
        if not symbols or len(symbols) > MAX_SYMBOLS:
            raise WrongUse(f"the simulator takes 1 to {MAX_SYMBOLS} symbols, such as BTC/USDT,ETH/USDT")
        self.markets = {symbol: SimulatedMarket(seed, symbol) for symbol in symbols}
        texts = [SymbolTexts(market) for market in self.markets.values()]
        self.rest = BinanceRest(texts)
        self._texts = {text.name.lower(): text for text in texts}

    def connect(self, target: str) -> "BinanceSession | None":
        """A session for a websocket's path and query; None where Binance has no such endpoint."""
        path, query = urlsplit(target).path, urlsplit(target).query
        if path in ("/stream", "/stream/"):
            names = "/".join(parse_qs(query).get("streams", [])).split("/")
            return BinanceSession(self._texts, names, is_combined=True)
        if path == "/ws" or path.startswith("/ws/"):
            return BinanceSession(self._texts, path.split("/")[2:], is_combined=False)
        return None


class BinanceSession:
    """One connection: its streams, by name. A stream that nobody trades is accepted and stays silent."""

    def __init__(self, texts: dict[str, SymbolTexts], names: Iterable[str], *, is_combined: bool) -> None:
        self._texts = texts
        self._is_combined = is_combined
        self._streams: dict[str, tuple[SymbolTexts, str, int] | None] = {}
        self._subscribe(name for name in names if name)

    @property
    def symbols(self) -> list[str]:
        """The unified symbols of which some stream is subscribed."""
        return list({stream[0].market.symbol: None for stream in self._streams.values() if stream})

    def receive(self, message: str | bytes) -> str:
        """What Binance answers to a client's message."""
        try:
            request = msgspec.json.decode(message)
        except ValueError:
            return _refusal(3, "Invalid JSON", None)
        if not isinstance(request, dict):
            return _refusal(2, "Invalid request: an object is expected", None)
        number = request.get("id")
        method = request.get("method")
        if method == "LIST_SUBSCRIPTIONS":
            return _text({"result": list(self._streams), "id": number})
        names = request.get("params")
        if method not in ("SUBSCRIBE", "UNSUBSCRIBE"):
            return _refusal(2, f"Invalid request: unknown method {method!r}", number)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return _refusal(2, "Invalid request: params must be a list of stream names", number)
        if method == "SUBSCRIBE":
            self._subscribe(names)
        else:
            for name in names:
                self._streams.pop(name, None)
        return _text({"result": None, "id": number})

    def messages(self, begin: int, end: int) -> list[str]:
        """All messages with begin <= time < end (microseconds) of the subscribed streams, in order."""
        first, last = -(-begin // 1000), -(-end // 1000)
        found: list[tuple[int, int, str]] = []
        for name, stream in self._streams.items():
            if stream is None:
                continue
            texts, channel, rank = stream
            timed = texts.between(channel, first, last)
            if self._is_combined:
                head = f'{{"stream":"{name}","data":'
                found += [(time, rank, f"{head}{text}}}") for time, text in timed]
            else:
                found += [(time, rank, text) for time, text in timed]
        # Ties of time and channel keep their order, so that a symbol's trades stay in the order of their ids.
        found.sort(key=itemgetter(0, 1))
        return [text for _, _, text in found]

    def _subscribe(self, names: Iterable[str]) -> None:
        for name in names:
            if len(self._streams) >= MAX_STREAMS:
                return
            symbol, _, channel = name.partition("@")
            texts = self._texts.get(symbol)
            is_known = texts is not None and channel in CHANNELS
            self._streams[name] = (texts, channel, CHANNELS.index(channel)) if texts and is_known else None


def _refusal(code: int, reason: str, number: Any) -> str:
    return _text({"code": code, "msg": reason, "id": number})


def _text(answer: dict[str, Any]) -> str:
    return msgspec.json.encode(answer).decode()
