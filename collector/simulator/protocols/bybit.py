"""Bybit v5 over the simulated market, sans I/O: the public websockets, spot and linear.

Source: https://bybit-exchange.github.io/docs/v5/ws/connect, as of November 2026.
"""

from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec

from collector.simulator.channels import ChannelSession
from collector.simulator.market import SimulatedMarket
from collector.simulator.protocol import Protocol, Query
from collector.simulator.protocols.bybit_rest import BybitRest
from collector.simulator.protocols.bybit_texts import SymbolTexts

_PUBLIC = "/v5/public/"
_MAX_SPOT_TOPICS = 10
"""Of one request."""
_CONNECTION = "cejreaspqfm9se7usbrg-2xh"


class Bybit(Protocol):
    """Trades with ids that do not count, books that do, 1m candles."""

    name: ClassVar[str] = "bybit"
    spot_quotes: ClassVar[frozenset[str]] = frozenset({"USDT", "USDC"})
    linear_quotes: ClassVar[frozenset[str]] = frozenset({"USDT", "USDC"})

    def __init__(self, symbols: Sequence[str], seed: int) -> None:
        super().__init__(symbols, seed)
        self._texts = {symbol: SymbolTexts(market) for symbol, market in self.markets.items()}
        self._rest = BybitRest(self._texts.values())

    def trade_id(self, market: SimulatedMarket, number: int) -> str:
        """A UUID."""
        return self._texts[market.symbol].execution_id(number)

    def connect(self, target: str) -> "BybitSession | None":
        """One endpoint a category, which no message names."""
        category = urlsplit(target).path.removeprefix(_PUBLIC)
        if category not in ("spot", "linear"):
            return None
        texts = [text for text in self._texts.values() if text.category == category]
        return BybitSession(texts, is_spot=category == "spot")

    def rest(self, path: str, query: Query, now: int) -> Any:
        """The paths under /v5/market."""
        return self._rest.get(path, query, now)


class BybitSession(ChannelSession):
    """One connection: its topics."""

    def __init__(self, texts: Sequence[SymbolTexts], *, is_spot: bool) -> None:
        super().__init__()
        self._topics = {topic: channel for text in texts for topic, channel in text.channels.items()}
        self._is_spot = is_spot

    def receive(self, message: str | bytes) -> list[str | bytes]:
        """What Bybit answers to a request: all its topics are accepted, or none."""
        try:
            request = msgspec.json.decode(message)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            return [_answer("", None, "invalid json", is_success=False)]
        operation, number = request.get("op"), request.get("req_id")
        if operation == "ping":
            return [_answer("ping", number, "pong", is_success=True)]
        topics = request.get("args")
        if operation not in ("subscribe", "unsubscribe") or not isinstance(topics, list):
            return [_answer(str(operation), number, "error:request not supported", is_success=False)]
        if self._is_spot and len(topics) > _MAX_SPOT_TOPICS:
            return [_answer(operation, number, f"args size >{_MAX_SPOT_TOPICS}", is_success=False)]
        for topic in topics:
            if topic not in self._topics:
                return [_answer(operation, number, f"Invalid topic: {topic}", is_success=False)]
        for topic in topics:
            if operation == "subscribe":
                self.subscribe(topic, self._topics[topic])
            else:
                self.unsubscribe(topic)
        return [_answer(operation, number, "", is_success=True)]


def _answer(operation: str, number: Any, reason: str, *, is_success: bool) -> str:
    answer = {"success": is_success, "ret_msg": reason, "conn_id": _CONNECTION, "op": operation}
    return msgspec.json.encode(answer if number is None else answer | {"req_id": number}).decode()
