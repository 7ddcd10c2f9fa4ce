"""HTX's public REST interface over the simulated market, sans I/O.

Source: https://www.htx.com/en-us/opend/newApiPages, as of November 2026. Errors come with HTTP 200.
"""

from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter
from typing import Any

from collector.simulator.bars import MINUTE, bars
from collector.simulator.protocol import Query, Refused, whole_number
from collector.simulator.protocols.htx_texts import SymbolTexts
from collector.simulator.tape import fills, is_traded, next_number

_MAX_ROWS = 2000
_PERIODS = {"1min": 1, "5min": 5, "15min": 15, "30min": 30, "60min": 60, "4hour": 240, "1day": 1440}


class HtxRest:
    """Answers GETs. Holds nothing but the markets."""

    def __init__(self, texts: Iterable[SymbolTexts]) -> None:
        self._texts = {text.name: text for text in texts}

    def get(self, path: str, query: Query, now: int) -> Any:
        """The answer to a GET at `now` (milliseconds UTC)."""
        match path:
            case "/v1/common/timestamp":
                return {"status": "ok", "data": now}
            case "/v1/common/symbols":
                return {"status": "ok", "data": [_listed(text, now) for text in self._texts.values()]}
            case "/market/history/trade":
                return _trades(self._symbol(query), query, now)
            case "/market/history/kline":
                return _candles(self._symbol(query), query, now)
            case "/market/depth":
                return _book(self._symbol(query), query, now)
        raise Refused(404, {"status": "error", "err-code": "not-found", "err-msg": f"no {path} here"})

    def _symbol(self, query: Query) -> SymbolTexts:
        symbol = self._texts.get(query.get("symbol", ""))
        if symbol is None:
            raise _refused("invalid symbol")
        return symbol


def _trades(symbol: SymbolTexts, query: Query, now: int) -> bytes:
    """The newest, newest first, those of one moment together: older ones cannot be had."""
    end = next_number(symbol.market, now)
    newest_first = reversed(list(fills(symbol.market, end - _size(query, 1), end)))
    groups = []
    for time, group in groupby(newest_first, key=attrgetter("time")):
        tied = list(group)
        rows = ",".join(symbol.trade(fill, "trade-id") for fill in tied)
        groups.append(f'{{"id":{symbol.sequence(tied[0])},"ts":{time},"data":[{rows}]}}')
    return _encoded(symbol.detail, now, f'"data":[{",".join(groups)}]')


def _candles(symbol: SymbolTexts, query: Query, now: int) -> bytes:
    """Newest first, the first one open."""
    if query.get("period") not in _PERIODS:
        raise _refused("invalid period")
    length = _PERIODS[query["period"]] * MINUTE
    count = _size(query, 150)
    first = (now - 1) // length * length - (count - 1) * length
    rows = [symbol.candle(bar) for bar in bars(symbol.market, length, first, count, now)]
    topic = f"market.{symbol.name}.kline.{query['period']}"
    return _encoded(topic, now, f'"data":[{",".join(reversed(rows))}]')


def _book(symbol: SymbolTexts, query: Query, now: int) -> bytes:
    if query.get("type") != "step0":
        raise _refused("invalid type")
    return _encoded(symbol.depth, now, f'"tick":{symbol.whole(symbol.book.state((now - 1) // 1000))}')


def _listed(symbol: SymbolTexts, now: int) -> dict[str, Any]:
    market = symbol.market
    return {
        "base-currency": market.base.lower(),
        "quote-currency": market.quote.lower(),
        "price-precision": market.price_decimals,
        "amount-precision": market.size_decimals,
        "symbol-partition": "main",
        "symbol": symbol.name,
        "state": "online" if is_traded(market, now) else "offline",
        "value-precision": 8,
        "min-order-value": 5,
        "api-trading": "enabled",
    }


def _size(query: Query, default: int) -> int:
    size = whole_number(query, "size", default, _refused("invalid size"))
    if not 1 <= size <= _MAX_ROWS:
        raise _refused(f"invalid size, valid range: [1,{_MAX_ROWS}]")
    return size


def _refused(reason: str) -> Refused:
    return Refused(200, {"status": "error", "err-code": "invalid-parameter", "err-msg": reason, "data": None})


def _encoded(topic: str, now: int, content: str) -> bytes:
    return f'{{"ch":"{topic}","status":"ok","ts":{now},{content}}}'.encode()
