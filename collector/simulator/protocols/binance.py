"""Binance spot over the simulated market, sans I/O: what a connection subscribed, what it is to be sent.

Source: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams, as of November 2026.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import msgspec

from collector.simulator.channels import Channel, ChannelSession
from collector.simulator.protocol import Protocol, Query
from collector.simulator.protocols.binance_rest import BinanceRest
from collector.simulator.protocols.binance_texts import SymbolTexts

MAX_STREAMS = 1024
"""Of a connection."""


class Binance(Protocol):
    """Binance spot: combined and bare streams, REST under /api/v3."""

    name: ClassVar[str] = "binance"
    spot_quotes: ClassVar[frozenset[str]] = frozenset({"USDT"})

    def __init__(self, symbols: Sequence[str], seed: int) -> None:
        super().__init__(symbols, seed)
        texts = [SymbolTexts(market) for market in self.markets.values()]
        self._rest = BinanceRest(texts)
        self._streams = {name: channel for text in texts for name, channel in text.streams.items()}

    def connect(self, target: str) -> "BinanceSession | None":
        """/stream with names in its query, or /ws with names in the path."""
        return session(target, self._streams)

    def rest(self, path: str, query: Query, now: int) -> Any:
        """The paths under /api/v3."""
        return self._rest.get(path, query, now)


def session(target: str, streams: Mapping[str, Channel]) -> "BinanceSession | None":
    """A session for `target` that knows these streams; None where Binance has no such endpoint."""
    path, query = urlsplit(target).path, urlsplit(target).query
    if path in ("/stream", "/stream/"):
        names = "/".join(parse_qs(query).get("streams", [])).split("/")
        return BinanceSession(streams, names, is_combined=True)
    if path == "/ws" or path.startswith("/ws/"):
        return BinanceSession(streams, path.split("/")[2:], is_combined=False)
    return None


class BinanceSession(ChannelSession):
    """One connection: its streams, by name. A stream that nobody trades is accepted and stays silent."""

    def __init__(self, streams: Mapping[str, Channel], names: Iterable[str], *, is_combined: bool) -> None:
        super().__init__()
        self._streams = streams
        self._is_combined = is_combined
        self._subscribe(name for name in names if name)

    def receive(self, message: str | bytes) -> list[str | bytes]:
        """What Binance answers to a client's message."""
        return [_text(self._answer(message))]

    def _answer(self, message: str | bytes) -> dict[str, Any]:
        try:
            request = msgspec.json.decode(message)
        except ValueError:
            return _refusal(3, "Invalid JSON", None)
        if not isinstance(request, dict):
            return _refusal(2, "Invalid request: an object is expected", None)
        number = request.get("id")
        method = request.get("method")
        if method == "LIST_SUBSCRIPTIONS":
            return {"result": list(self.names), "id": number}
        names = request.get("params")
        if method not in ("SUBSCRIBE", "UNSUBSCRIBE"):
            return _refusal(2, f"Invalid request: unknown method {method!r}", number)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return _refusal(2, "Invalid request: params must be a list of stream names", number)
        if method == "SUBSCRIBE":
            self._subscribe(names)
        else:
            for name in names:
                self.unsubscribe(name)
        return {"result": None, "id": number}

    def frame(self, name: str, text: str) -> str | bytes:
        """A combined stream names the stream beside each payload."""
        return f'{{"stream":"{name}","data":{text}}}' if self._is_combined else text

    def _subscribe(self, names: Iterable[str]) -> None:
        for name in names:
            if len(self.names) >= MAX_STREAMS:
                return
            self.subscribe(name, self._streams.get(name))


def _refusal(code: int, reason: str, number: Any) -> dict[str, Any]:
    return {"code": code, "msg": reason, "id": number}


def _text(answer: dict[str, Any]) -> str:
    return msgspec.json.encode(answer).decode()
