"""Binance spot's public REST interface over the simulated market, sans I/O: path and time to answer.

Source: https://developers.binance.com/docs/binance-spot-api-docs/rest-api, as of November 2026.
"""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from collector.simulator.bars import bars
from collector.simulator.protocol import Query, Refused
from collector.simulator.protocols.binance_texts import SymbolTexts
from collector.simulator.tape import FIRST_MOMENT, end_number, fills, is_traded, next_number
from market import Timeframe, WrongUse

_MAX_ROWS = 1000
_MAX_LEVELS = 5000


class BinanceRest:
    """Answers GETs. Holds nothing but the markets: an answer depends on the path and the time alone."""

    def __init__(self, texts: Iterable[SymbolTexts]) -> None:
        self._texts = {text.name: text for text in texts}
        self.routes: dict[str, Callable[[Query, int], Any]] = {
            "/api/v3/ping": lambda _query, _now: {},
            "/api/v3/time": lambda _query, now: {"serverTime": now},
            "/api/v3/exchangeInfo": self._exchange_info,
            "/api/v3/depth": self.depth,
            "/api/v3/trades": self._trades,
            "/api/v3/historicalTrades": self._trades,
            "/api/v3/aggTrades": self._aggregates,
            "/api/v3/klines": self.klines,
        }

    def get(self, path: str, query: Query, now: int) -> Any:
        """The answer to a GET at `now` (milliseconds UTC)."""
        route = self.routes.get(path)
        if route is None:
            raise Refused(404, {"code": -1000, "msg": f"no {path} here"})
        return route(query, now)

    def _exchange_info(self, query: Query, now: int) -> dict[str, Any]:
        names = list(self._texts)
        if "symbol" in query:
            names = [self.symbol(query).name]
        elif "symbols" in query:
            names = [self.symbol({"symbol": name}).name for name in _name_list(query["symbols"])]
        limit = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}
        return {
            "timezone": "UTC",
            "serverTime": now,
            "rateLimits": [limit],
            "exchangeFilters": [],
            "symbols": [_symbol_info(self._texts[name], now) for name in names],
        }

    def depth(self, query: Query, now: int) -> dict[str, Any]:
        """The best levels of a book."""
        symbol = self.symbol(query)
        limit = min(number_of(query, "limit", 100), _MAX_LEVELS)
        state = symbol.book.state(now // 1000)
        bids, asks = (
            [(symbol.price(price), symbol.size(size)) for price, size in side[:limit]]
            for side in (state.bids, state.asks)
        )
        return {"lastUpdateId": state.update_id, "bids": bids, "asks": asks}

    def _trades(self, query: Query, now: int) -> list[dict[str, Any]]:
        symbol, limit = self.symbol(query), row_limit(query)
        first = max(number_of(query, "fromId", next_number(symbol.market, now) - limit), 1)
        end = end_number(symbol.market, first, now)
        return [
            {
                "id": fill.number,
                "price": symbol.price(fill.price),
                "qty": symbol.size(fill.size),
                "quoteQty": symbol.quote(fill.price * fill.size),
                "time": fill.time,
                "isBuyerMaker": not fill.is_buy,
                "isBestMatch": True,
            }
            for fill in fills(symbol.market, first, min(first + limit, end))
        ]

    def _aggregates(self, query: Query, now: int) -> list[dict[str, Any]]:
        symbol, limit = self.symbol(query), row_limit(query)
        end = next_number(symbol.market, now)
        if "endTime" in query:
            end = next_number(symbol.market, min(number_of(query, "endTime", 0) + 1, now))
        if "fromId" in query:
            first = max(number_of(query, "fromId", 1), 1)
        elif "startTime" in query:
            first = next_number(symbol.market, min(number_of(query, "startTime", 0), now))
        else:
            first = max(end - limit, 1)
        end = max(end, end_number(symbol.market, first, now)) if first > end else end
        return [
            {
                "a": fill.number,
                "p": symbol.price(fill.price),
                "q": symbol.size(fill.size),
                "f": fill.number,
                "l": fill.number,
                "T": fill.time,
                "m": not fill.is_buy,
                "M": True,
            }
            for fill in fills(symbol.market, first, min(first + limit, end))
        ]

    def klines(self, query: Query, now: int) -> list[list[Any]]:
        """Candles, ascending; the last may be open."""
        symbol, limit = self.symbol(query), row_limit(query)
        try:
            length = Timeframe.parse(query.get("interval", "")).microseconds // 1000
        except WrongUse:
            raise refused(-1120, "Invalid interval.") from None
        end = min(number_of(query, "endTime", now), now)
        first = number_of(query, "startTime", max(end - end % length - (limit - 1) * length, FIRST_MOMENT))
        first = -(-max(first, FIRST_MOMENT) // length) * length
        count = min(limit, max(end - first, -1) // length + 1)
        return [
            [
                bar.open_time,
                *map(symbol.price, (bar.open, bar.high, bar.low, bar.close)),
                symbol.size(bar.size),
                bar.open_time + length - 1,
                symbol.quote(bar.quote),
                bar.count,
                symbol.size(bar.buy_size),
                symbol.quote(bar.buy_quote),
                "0",
            ]
            for bar in map(symbol.told, bars(symbol.market, length, first, count, now))
        ]

    def symbol(self, query: Query) -> SymbolTexts:
        """The symbol that a query names; raises Refused."""
        name = query.get("symbol")
        if not name:
            raise refused(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        if name not in self._texts:
            raise refused(-1121, "Invalid symbol.")
        return self._texts[name]


def refused(code: int, reason: str) -> Refused:
    """An error in Binance's form."""
    return Refused(400, {"code": code, "msg": reason})


def row_limit(query: Query) -> int:
    """How many rows a query asks for."""
    return min(max(number_of(query, "limit", 500), 1), _MAX_ROWS)


def number_of(query: Query, name: str, default: int) -> int:
    """The number that a query names, or `default`; raises Refused."""
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        reason = f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'."
        raise refused(-1100, reason)
    return int(text)


def _name_list(text: str) -> list[str]:
    try:
        return msgspec.json.decode(text, type=list[str])
    except ValueError:
        raise refused(-1100, "Illegal characters found in parameter 'symbols'.") from None


def _symbol_info(symbol: SymbolTexts, now: int) -> dict[str, Any]:
    market = symbol.market
    tick, lot = symbol.price(1), symbol.size(1)
    return {
        "symbol": symbol.name,
        "status": "TRADING" if is_traded(market, now) else "BREAK",
        "baseAsset": market.base,
        "baseAssetPrecision": 8,
        "quoteAsset": market.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"],
        "icebergAllowed": True,
        "ocoAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": tick,
                "maxPrice": "9999999.00000000",
                "tickSize": tick,
            },
            {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "9000000.00000000", "stepSize": lot},
            {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True},
        ],
        "permissions": ["SPOT"],
    }
