"""Coinbase Exchange over the simulated market, sans I/O: the websocket feed.

Source: https://docs.cdp.coinbase.com/exchange/websocket-feed, as of November 2026.
"""

from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec

from collector.simulator.channels import ChannelSession
from collector.simulator.protocol import Protocol, Query
from collector.simulator.protocols.coinbase_rest import CoinbaseRest
from collector.simulator.protocols.coinbase_texts import ProductTexts
from collector.simulator.texts import microsecond_of


class Coinbase(Protocol):
    """Matches, level 2 in batches, heartbeats."""

    name: ClassVar[str] = "coinbase"
    spot_quotes: ClassVar[frozenset[str]] = frozenset({"USD", "USDT", "USDC", "EUR", "GBP"})
    recalled: ClassVar[int] = 1

    def __init__(self, symbols: Sequence[str], seed: int) -> None:
        super().__init__(symbols, seed)
        self._texts = {text.name: text for text in map(ProductTexts, self.markets.values())}
        self._rest = CoinbaseRest(self._texts)

    def timestamp(self, milliseconds: int) -> int:
        """Coinbase tells microseconds."""
        return microsecond_of(milliseconds)

    def connect(self, target: str) -> "CoinbaseSession | None":
        """There is one endpoint."""
        return CoinbaseSession(self._texts) if urlsplit(target).path == "/" else None

    def rest(self, path: str, query: Query, now: int) -> Any:
        """The products and what is below them."""
        return self._rest.get(path, query, now)


class CoinbaseSession(ChannelSession):
    """One connection: each request is answered by all that is subscribed then."""

    def __init__(self, texts: dict[str, ProductTexts]) -> None:
        super().__init__()
        self._texts = texts

    def receive(self, message: str | bytes) -> list[str | bytes]:
        """`subscriptions` or `error`."""
        return [msgspec.json.encode(self._answer(message)).decode()]

    def _answer(self, message: str | bytes) -> dict[str, Any]:
        try:
            request = msgspec.json.decode(message)
        except ValueError:
            return _error("Malformed JSON")
        verb = request.get("type") if isinstance(request, dict) else None
        if verb not in ("subscribe", "unsubscribe"):
            return _error("Failed to subscribe", "Type has to be either subscribe or unsubscribe")
        wanted = _wanted(request)
        if not wanted:
            return _error("Failed to subscribe", "channels and product_ids are required")
        for channel, product in wanted:
            if channel not in ProductTexts.CHANNELS:
                return _error("Failed to subscribe", f"{channel} is not a valid channel")
            if product not in self._texts:
                return _error("Failed to subscribe", f"{product} is not a valid product")
        for channel, product in wanted:
            if verb == "subscribe":
                self.subscribe(f"{channel} {product}", self._texts[product].channels[channel])
            else:
                self.unsubscribe(f"{channel} {product}")
        return self._subscriptions()

    def _subscriptions(self) -> dict[str, Any]:
        products: dict[str, list[str]] = {}
        for name in self.names:
            channel, _, product = name.partition(" ")
            products.setdefault(channel, []).append(product)
        channels = [{"name": channel, "product_ids": ids} for channel, ids in products.items()]
        return {"type": "subscriptions", "channels": channels}


def _wanted(request: dict[str, Any]) -> list[tuple[str, str]]:
    """(channel, product), of channels by name or as objects with products of their own."""
    products, channels = request.get("product_ids", []), request.get("channels", [])
    found = []
    for channel in channels if isinstance(channels, list) else []:
        own = channel if isinstance(channel, dict) else {"name": channel}
        ids = own.get("product_ids", products)
        if isinstance(ids, list):
            found += [(str(own.get("name")), str(product)) for product in ids]
    return found


def _error(message: str, reason: str = "") -> dict[str, str]:
    error = {"type": "error", "message": message}
    return error | {"reason": reason} if reason else error
