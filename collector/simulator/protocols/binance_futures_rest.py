"""Binance USDⓈ-M futures' public REST interface over the simulated market, sans I/O.

Source: https://developers.binance.com/docs/derivatives/usds-margined-futures, as of November 2026.
"""

from collections.abc import Sequence
from typing import Any

from collector.simulator.funding import INTERVAL, payments
from collector.simulator.protocol import Query
from collector.simulator.protocols.binance_futures_texts import ContractTexts
from collector.simulator.protocols.binance_rest import BinanceRest, number_of, refused, row_limit
from collector.simulator.tape import FIRST_MOMENT, HOUR, fills, is_traded, next_number

_REMEMBERED = 48 * HOUR
_BOOK_LIMITS = (5, 10, 20, 50, 100, 500, 1000)


class FuturesRest(BinanceRest):
    """Answers GETs: books and candles as spot does, of trades the aggregates of the last 48 hours."""

    def __init__(self, texts: Sequence[ContractTexts]) -> None:
        super().__init__(texts)
        self._contracts = {text.name: text for text in texts}
        self.routes = {
            "/fapi/v1/ping": lambda _query, _now: {},
            "/fapi/v1/time": lambda _query, now: {"serverTime": now},
            "/fapi/v1/exchangeInfo": self._contract_info,
            "/fapi/v1/depth": self._book,
            "/fapi/v1/aggTrades": self._past_aggregates,
            "/fapi/v1/klines": self.klines,
            "/fapi/v1/fundingRate": self._funding,
        }

    def _contract(self, query: Query) -> ContractTexts:
        return self._contracts[self.symbol(query).name]

    def _book(self, query: Query, now: int) -> dict[str, Any]:
        if number_of(query, "limit", 500) not in _BOOK_LIMITS:
            raise refused(-4021, "The depth limit is not valid.")
        contract = self._contract(query)
        second = now // 1000
        found = self.depth({"limit": "500"} | query, now)
        return found | {"lastUpdateId": contract.book_id(second), "E": now, "T": second * 1000}

    def _past_aggregates(self, query: Query, now: int) -> bytes:
        contract, limit = self._contract(query), row_limit(query)
        market = contract.market
        begin, until = number_of(query, "startTime", 0), number_of(query, "endTime", now)
        if "fromId" in query and ("startTime" in query or "endTime" in query):
            raise refused(-1128, "Combination of optional parameters invalid.")
        if "startTime" in query and "endTime" in query and until - begin >= HOUR:
            raise refused(-1127, "More than 1 hours between startTime and endTime.")
        end = next_number(market, min(until + 1, now))
        first = next_number(market, min(begin, now)) if "startTime" in query else end - limit
        if "fromId" in query:
            first = number_of(query, "fromId", 1)
        first = max(first, next_number(market, now - _REMEMBERED))
        found = fills(market, first, min(first + limit, end))
        return f"[{','.join(f'{{{contract.aggregate(fill)}}}' for fill in found)}]".encode()

    def _funding(self, query: Query, now: int) -> list[dict[str, Any]]:
        """The first ones from `startTime` on; without any time the newest."""
        contract, limit = self._contract(query), row_limit({"limit": "100"} | query)
        end = min(number_of(query, "endTime", now - 1) + 1, now)
        begin = number_of(query, "startTime", end - limit * INTERVAL)
        return [
            {
                "symbol": contract.name,
                "fundingRate": paid.rate_text,
                "fundingTime": paid.time,
                "markPrice": contract.price(paid.mark_price),
            }
            for paid in payments(contract.market, begin, min(end, begin + limit * INTERVAL))
        ][:limit]

    def _contract_info(self, _query: Query, now: int) -> dict[str, Any]:
        return {
            "timezone": "UTC",
            "serverTime": now,
            "futuresType": "U_MARGINED",
            "rateLimits": [
                {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 2400}
            ],
            "exchangeFilters": [],
            "symbols": [_listed(contract, now) for contract in self._contracts.values()],
        }


def _listed(contract: ContractTexts, now: int) -> dict[str, Any]:
    market = contract.market
    tick, lot = contract.price(1), contract.size(1)
    return {
        "symbol": contract.name,
        "pair": contract.name,
        "contractType": "PERPETUAL",
        "deliveryDate": 4_133_404_800_000,
        "onboardDate": FIRST_MOMENT,
        "status": "TRADING" if is_traded(market, now) else "CLOSE",
        "baseAsset": market.base,
        "quoteAsset": market.quote,
        "marginAsset": market.settle,
        "pricePrecision": market.price_decimals,
        "quantityPrecision": market.size_decimals,
        "underlyingType": "COIN",
        "filters": [
            {"minPrice": tick, "maxPrice": "1000000", "filterType": "PRICE_FILTER", "tickSize": tick},
            {"stepSize": lot, "filterType": "LOT_SIZE", "maxQty": "1000000", "minQty": lot},
            {"notional": "5", "filterType": "MIN_NOTIONAL"},
        ],
        "orderTypes": ["LIMIT", "MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
    }
