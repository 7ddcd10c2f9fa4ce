"""Binance USDⓈ-M futures over the simulated market, sans I/O: the split endpoints of 2026.

Source: https://developers.binance.com/docs/derivatives/usds-margined-futures, as of November 2026.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from collector.simulator.market import SimulatedMarket
from collector.simulator.protocol import Protocol, Query
from collector.simulator.protocols.binance import BinanceSession, session
from collector.simulator.protocols.binance_futures_rest import FuturesRest
from collector.simulator.protocols.binance_futures_texts import ContractTexts

_ENDPOINTS = {"/public": ("book",), "/market": ("trade", "candle"), "": ()}
"""What each carries. What stands on no endpoint was retired: it takes subscriptions and stays silent."""


class BinanceFutures(Protocol):
    """Aggregates of fills, books whose ids all symbols share, 1m candles."""

    name: ClassVar[str] = "binanceusdm"
    linear_quotes: ClassVar[frozenset[str]] = frozenset({"USDT", "USDC"})

    def __init__(self, symbols: Sequence[str], seed: int) -> None:
        super().__init__(symbols, seed)
        texts = [ContractTexts(market, place) for place, market in enumerate(self.markets.values())]
        self._rest = FuturesRest(texts)
        streams = [stream for text in texts for stream in text.streams.items()]
        self._streams = {
            endpoint: {name: channel for name, channel in streams if channel.kind in kinds}
            for endpoint, kinds in _ENDPOINTS.items()
        }

    def trade_id(self, market: SimulatedMarket, number: int) -> str:
        """An aggregate's."""
        return f"a{number}"

    def connect(self, target: str) -> BinanceSession | None:
        """/public for books, /market for trades and candles; below each what spot has."""
        endpoint = next(known for known in _ENDPOINTS if target.startswith(f"{known}/") or not known)
        return session(target.removeprefix(endpoint), self._streams[endpoint])

    def rest(self, path: str, query: Query, now: int) -> Any:
        """The paths under /fapi/v1."""
        return self._rest.get(path, query, now)
