"""Bybit's public REST interface (v5) over the simulated market, sans I/O.

Source: https://bybit-exchange.github.io/docs/v5/market, as of November 2026. Errors come with HTTP 200.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from collector.simulator.bars import MINUTE, bars
from collector.simulator.funding import INTERVAL, payments
from collector.simulator.protocol import Query, Refused, whole_number
from collector.simulator.protocols.bybit_texts import SymbolTexts
from collector.simulator.tape import FIRST_MOMENT, fills, is_traded, next_number

_MAX_TRADES = {"spot": 60, "linear": 1000}
_MAX_CANDLES = 1000
_MAX_LEVELS = 1000
_MAX_PAYMENTS = 200
_MINUTES = {name: int(name) for name in ("1", "3", "5", "15", "30", "60", "120", "240", "360", "720")}
_INTERVALS = _MINUTES | {"D": 1440}


class BybitRest:
    """Answers GETs. Holds nothing but the markets."""

    def __init__(self, texts: Iterable[SymbolTexts]) -> None:
        self._texts = {(text.category, text.name): text for text in texts}

    def get(self, path: str, query: Query, now: int) -> Any:
        """The answer to a GET at `now` (milliseconds UTC)."""
        match path:
            case "/v5/market/time":
                return _answer({"timeSecond": str(now // 1000), "timeNano": str(now * 1_000_000)}, now)
            case "/v5/market/instruments-info":
                return _answer(self._instruments(query, now), now)
            case "/v5/market/recent-trade":
                return _answer(_trades(self._symbol(query), query, now), now)
            case "/v5/market/kline":
                return _answer(_candles(self._symbol(query), query, now), now)
            case "/v5/market/funding/history":
                return _answer(_funding(self._symbol(query), query, now), now)
            case "/v5/market/orderbook":
                return _book(self._symbol(query), query, now)
        raise Refused(404, {"retCode": 404, "retMsg": f"no {path} here"})

    def _symbol(self, query: Query) -> SymbolTexts:
        symbol = self._texts.get((query.get("category", ""), query.get("symbol", "")))
        if symbol is None:
            raise _refused("params error: symbol invalid")
        return symbol

    def _instruments(self, query: Query, now: int) -> dict[str, Any]:
        """All on one page."""
        category = query.get("category", "")
        if category not in _MAX_TRADES:
            raise _refused("params error: category invalid")
        found = [self._symbol(query)] if "symbol" in query else list(self._texts.values())
        listed = [_instrument(text, now) for text in found if text.category == category]
        return {"category": category, "list": listed, "nextPageCursor": ""}


def _trades(symbol: SymbolTexts, query: Query, now: int) -> dict[str, Any]:
    """The newest, newest first: older ones cannot be had."""
    market = symbol.market
    most = _MAX_TRADES[symbol.category]
    limit = min(max(_number(query, "limit", 500), 1), most)
    end = next_number(market, now)
    found = [
        {
            "execId": symbol.execution_id(fill.number),
            "symbol": symbol.name,
            "price": market.price_text(fill.price),
            "size": market.size_text(fill.size),
            "side": fill.side.title(),
            "time": str(fill.time),
            "isBlockTrade": False,
            "isRPITrade": False,
            "seq": str(symbol.sequence(fill)),
        }
        for fill in fills(market, end - limit, end)
    ]
    return {"category": symbol.category, "list": found[::-1]}


def _candles(symbol: SymbolTexts, query: Query, now: int) -> dict[str, Any]:
    """Newest first, the first may be open: the newest up to `end`, or those from `start` on."""
    market = symbol.market
    if query.get("interval") not in _INTERVALS:
        raise _refused("params error: interval invalid")
    length = _INTERVALS[query["interval"]] * MINUTE
    limit = min(max(_number(query, "limit", 200), 1), _MAX_CANDLES)
    end = min(_number(query, "end", now - 1), now - 1)
    first = end // length * length - (limit - 1) * length
    if "start" in query:
        start = -(-_number(query, "start", 0) // length) * length
        first = max(start, first) if "end" in query else start
    first = max(first, FIRST_MOMENT)
    count = min(max((end - first) // length + 1, 0), limit)
    price = market.price_text
    found = [
        [
            str(bar.open_time),
            *map(price, (bar.open, bar.high, bar.low, bar.close)),
            market.size_text(bar.size),
            symbol.turnover(bar.quote),
        ]
        for bar in bars(market, length, first, count, now)
    ]
    return {"category": symbol.category, "symbol": symbol.name, "list": found[::-1]}


def _funding(symbol: SymbolTexts, query: Query, now: int) -> dict[str, Any]:
    """Newest first, the newest up to `endTime`, without which there must be no `startTime`."""
    if symbol.category != "linear":
        raise _refused("params error: category invalid")
    if "startTime" in query and "endTime" not in query:
        raise _refused("params error: endTime is required")
    limit = min(max(_number(query, "limit", _MAX_PAYMENTS), 1), _MAX_PAYMENTS)
    end = min(_number(query, "endTime", now - 1) + 1, now)
    begin = max(_number(query, "startTime", 0), end - limit * INTERVAL)
    found = [
        {
            "symbol": symbol.name,
            "fundingRate": paid.rate_text,
            "fundingRateTimestamp": str(paid.time),
        }
        for paid in payments(symbol.market, begin, end)
    ]
    return {"category": symbol.category, "list": found[::-1][:limit]}


def _book(symbol: SymbolTexts, query: Query, now: int) -> bytes:
    state = symbol.book.state((now - 1) // 1000)
    limit = min(max(_number(query, "limit", 25), 1), _MAX_LEVELS)
    best = msgspec.structs.replace(state, bids=state.bids[:limit], asks=state.asks[:limit])
    times = f'"ts":{now},"cts":{state.second * 1000},'
    result = symbol.book_text(best, times)
    return f'{{"retCode":0,"retMsg":"OK","result":{result},"retExtInfo":{{}},"time":{now}}}'.encode()


def _instrument(symbol: SymbolTexts, now: int) -> dict[str, Any]:
    market = symbol.market
    tick, lot = market.price_text(1), market.size_text(1)
    common = {
        "symbol": symbol.name,
        "status": "Trading" if is_traded(market, now) else "Closed",
        "baseCoin": market.base,
        "quoteCoin": market.quote,
        "priceFilter": {"tickSize": tick},
    }
    if symbol.category == "spot":
        lots = {"basePrecision": lot, "quotePrecision": "0.01", "minOrderQty": lot, "minOrderAmt": "5"}
        return common | {"innovation": "0", "marginTrading": "none", "lotSizeFilter": lots}
    return common | {
        "contractType": "LinearPerpetual",
        "launchTime": str(FIRST_MOMENT),
        "deliveryTime": "0",
        "settleCoin": market.settle,
        "lotSizeFilter": {"qtyStep": lot, "minOrderQty": lot, "minNotionalValue": "5"},
        "fundingInterval": 480,
    }


def _number(query: Query, name: str, default: int) -> int:
    return whole_number(query, name, default, _refused(f"params error: {name} invalid"))


def _refused(reason: str) -> Refused:
    return Refused(200, {"retCode": 10001, "retMsg": reason, "result": {}, "retExtInfo": {}})


def _answer(result: dict[str, Any], now: int) -> dict[str, Any]:
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": now}
