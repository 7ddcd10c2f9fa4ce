"""OKX v5 over the simulated market, sans I/O: the public and the business websocket.

Source: https://www.okx.com/docs-v5/en/#overview-websocket, as of November 2026.
"""

from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec

from collector.simulator.channels import Channel, ChannelSession
from collector.simulator.protocol import Protocol, Query
from collector.simulator.protocols.okx_rest import OkxRest
from collector.simulator.protocols.okx_texts import InstrumentTexts

_CONNECTION = "a4d3ae55"
_Argument = tuple[str, str]
"""Channel and instrument."""


class Okx(Protocol):
    """Single and merged trades, books of all levels, 1m candles; spot and linear swaps."""

    name: ClassVar[str] = "okx"
    spot_quotes: ClassVar[frozenset[str]] = frozenset({"USDT", "USDC", "USD", "EUR"})
    linear_quotes: ClassVar[frozenset[str]] = frozenset({"USDT", "USDC"})
    recalled: ClassVar[int] = 1

    def __init__(self, symbols: Sequence[str], seed: int) -> None:
        super().__init__(symbols, seed)
        self._texts = list(map(InstrumentTexts, self.markets.values()))
        self._rest = OkxRest(self._texts)

    def connect(self, target: str) -> "OkxSession | None":
        """Trades and books are on one endpoint; single trades and candles on the other."""
        match urlsplit(target).path:
            case "/ws/v5/public":
                return OkxSession({(name, t.name): c for t in self._texts for name, c in t.public.items()})
            case "/ws/v5/business":
                return OkxSession({(name, t.name): c for t in self._texts for name, c in t.business.items()})
        return None

    def rest(self, path: str, query: Query, now: int) -> Any:
        """The paths under /api/v5."""
        return self._rest.get(path, query, now)


class OkxSession(ChannelSession):
    """One connection: each argument of a request is answered by itself."""

    def __init__(self, channels: dict[_Argument, Channel]) -> None:
        super().__init__()
        self._known = channels

    def receive(self, message: str | bytes) -> list[str | bytes]:
        """Acknowledgements and errors; the bare text `pong` for `ping`."""
        if message in ("ping", b"ping"):
            return ["pong"]
        try:
            request = msgspec.json.decode(message)
        except ValueError:
            request = None
        operation = request.get("op") if isinstance(request, dict) else None
        arguments = request.get("args") if isinstance(request, dict) else None
        if operation not in ("subscribe", "unsubscribe") or not isinstance(arguments, list):
            reason = f"Invalid request: {message!r}"
            return [_text({"event": "error", "code": "60012", "msg": reason, "connId": _CONNECTION})]
        number = {"id": request["id"]} if "id" in request else {}
        return [_text(number | self._answer(operation, argument)) for argument in arguments]

    def _answer(self, operation: str, argument: Any) -> dict[str, Any]:
        asked = argument if isinstance(argument, dict) else {}
        channel, instrument = str(asked.get("channel")), str(asked.get("instId"))
        known = self._known.get((channel, instrument))
        if known is None:
            reason = (
                f"Wrong URL or channel:{channel},instId:{instrument} doesn't exist. Please use the correct "
                "URL, channel and parameters referring to API document."
            )
            return {"event": "error", "code": "60018", "msg": reason, "connId": _CONNECTION}
        if operation == "subscribe":
            self.subscribe(f"{channel} {instrument}", known)
        else:
            self.unsubscribe(f"{channel} {instrument}")
        arg = {"channel": channel, "instId": instrument}
        return {"event": operation, "arg": arg, "connId": _CONNECTION}


def _text(answer: dict[str, Any]) -> str:
    return msgspec.json.encode(answer).decode()
