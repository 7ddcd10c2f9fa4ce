"""Kraken over the simulated market, sans I/O: websocket v2.

Source: https://docs.kraken.com/api/docs/websocket-v2, as of November 2026. Answers do not say when they were
made (`time_in`, `time_out`).
"""

from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec

from collector.simulator.channels import Channel, ChannelSession, Texts
from collector.simulator.protocol import Protocol, Query
from collector.simulator.protocols.kraken_rest import KrakenRest
from collector.simulator.protocols.kraken_texts import DEPTHS, RECALLED, PairTexts
from collector.simulator.texts import microsecond_of

_SECOND = 1000
_STATUS = (
    '{"channel":"status","type":"update","data":[{"version":"2.0.0","system":"online","api_version":"v2",'
    '"connection_id":1}]}'
)


def _heartbeats(begin: int, end: int) -> Texts:
    return [(time, '{"channel":"heartbeat"}') for time in range(-(-begin // _SECOND) * _SECOND, end, _SECOND)]


_HEARTBEAT = Channel("other", None, _heartbeats)


class Kraken(Protocol):
    """Trades, books with checksums, 1m candles, a heartbeat each second."""

    name: ClassVar[str] = "kraken"
    spot_quotes: ClassVar[frozenset[str]] = frozenset({"USD", "USDT", "USDC", "EUR", "GBP"})
    recalled: ClassVar[int] = RECALLED

    def __init__(self, symbols: Sequence[str], seed: int) -> None:
        super().__init__(symbols, seed)
        self._texts = {text.name: text for text in map(PairTexts, self.markets.values())}
        self._rest = KrakenRest(self._texts.values())

    def timestamp(self, milliseconds: int) -> int:
        """Kraken tells microseconds."""
        return microsecond_of(milliseconds)

    def connect(self, target: str) -> "KrakenSession | None":
        """There is one endpoint."""
        return KrakenSession(self._texts) if urlsplit(target).path == "/v2" else None

    def rest(self, path: str, query: Query, now: int) -> Any:
        """The paths under /0/public."""
        return self._rest.get(path, query, now)


class KrakenSession(ChannelSession):
    """One connection: each request is answered once a symbol."""

    def __init__(self, texts: dict[str, PairTexts]) -> None:
        super().__init__()
        self._texts = texts

    def greeting(self) -> list[str | bytes]:
        """The system's status."""
        return [_STATUS]

    def receive(self, message: str | bytes) -> list[str | bytes]:
        """Acknowledgements, one a symbol, or an error."""
        try:
            request = msgspec.json.decode(message)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            return [_text({"error": "Malformed request", "success": False})]
        method, number = request.get("method"), request.get("req_id")
        frame: dict[str, Any] = {"method": method} | ({} if number is None else {"req_id": number})
        if method == "ping":
            return [_text(frame | {"method": "pong"})]
        if method not in ("subscribe", "unsubscribe"):
            return [_text(frame | {"error": "Method not supported", "success": False})]
        params = request.get("params")
        params = params if isinstance(params, dict) else {}
        symbols = params.get("symbol")
        if not isinstance(symbols, list) or not symbols:
            return [_text(frame | {"error": "Symbol(s) not found", "success": False})]
        return [_text(frame | self._answer(method, params, str(symbol))) for symbol in symbols]

    def _answer(self, method: str, params: dict[str, Any], symbol: str) -> dict[str, Any]:
        texts = self._texts.get(symbol)
        if texts is None:
            error = f"Currency pair not supported {symbol}"
            return {"error": error, "success": False, "symbol": symbol}
        name = params.get("channel")
        snapshot = bool(params.get("snapshot", name != "trade"))
        result: dict[str, Any] = {"channel": name, "snapshot": snapshot, "symbol": symbol}
        match name:
            case "trade":
                channel = texts.trades(snapshot=snapshot)
            case "book":
                depth = result["depth"] = params.get("depth", DEPTHS[0])
                if depth not in DEPTHS:
                    return {"error": "Subscription depth not supported", "success": False, "symbol": symbol}
                channel = texts.books(depth)
            case "ohlc":
                result["interval"] = params.get("interval", 1)
                if result["interval"] != 1:
                    return {"error": "Ohlc interval not supported", "success": False, "symbol": symbol}
                channel = texts.candles(snapshot=snapshot)
            case _:
                return {"error": "Channel not supported", "success": False, "symbol": symbol}
        if method == "subscribe":
            self.subscribe("heartbeat", _HEARTBEAT)
            self.subscribe(f"{name} {symbol}", channel)
        elif not self.unsubscribe(f"{name} {symbol}"):
            return {"error": "Subscription Not Found", "success": False, "symbol": symbol}
        return {"result": result, "success": True}


def _text(answer: dict[str, Any]) -> str:
    return msgspec.json.encode(answer).decode()
