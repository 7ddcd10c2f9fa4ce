"""Coinbase Exchange's public REST interface over the simulated market, sans I/O.

Source: https://docs.cdp.coinbase.com/api-reference/exchange-api/rest-api, as of November 2026.
"""

from typing import Any

from collector.simulator.bars import bars
from collector.simulator.protocol import Query, Refused, whole_number
from collector.simulator.protocols.coinbase_texts import ProductTexts, maker_side
from collector.simulator.tape import end_number, fills, is_traded, next_number
from collector.simulator.texts import iso_time, microsecond_of
from market import WrongUse, parse_time

_MAX_TRADES = 1000
_MAX_CANDLES = 300
_GRANULARITIES = (60, 300, 900, 3600, 21600, 86400)


class CoinbaseRest:
    """Answers GETs. Holds nothing but the markets."""

    def __init__(self, texts: dict[str, ProductTexts]) -> None:
        self._texts = texts

    def get(self, path: str, query: Query, now: int) -> Any:
        """The answer to a GET at `now` (milliseconds UTC)."""
        match path.strip("/").split("/"):
            case ["time"]:
                return {"iso": iso_time(now * 1000), "epoch": now / 1000}
            case ["products"]:
                return [_product(product, now) for product in self._texts.values()]
            case ["products", name]:
                return _product(self._product(name), now)
            case ["products", name, "trades"]:
                return _trades(self._product(name), query, now)
            case ["products", name, "candles"]:
                return _candles(self._product(name), query, now)
            case ["products", name, "book"]:
                return _book(self._product(name), query, now)
        raise Refused(404, {"message": "Route not found"})

    def _product(self, name: str) -> ProductTexts:
        if name not in self._texts:
            raise Refused(404, {"message": "NotFound"})
        return self._texts[name]


def _trades(product: ProductTexts, query: Query, now: int) -> list[dict[str, Any]]:
    """Newest first: those before the id `after`; those after `before` are the newest page of all."""
    market = product.market
    end = next_number(market, now)
    first = _number(query, "before", 0) + 1
    if "after" in query:
        after = _number(query, "after", 0)
        end = min(after, end_number(market, after - 1, now))
    limit = min(max(_number(query, "limit", _MAX_TRADES), 1), _MAX_TRADES)
    found = [
        {
            "trade_id": fill.number,
            "side": maker_side(fill),
            "size": market.size_text(fill.size),
            "price": market.price_text(fill.price),
            "time": iso_time(microsecond_of(fill.time)),
        }
        for fill in fills(market, max(first, end - limit), end)
    ]
    return found[::-1]


def _candles(product: ProductTexts, query: Query, now: int) -> list[list[Any]]:
    """Newest first, none without trades; the first may be open."""
    market = product.market
    granularity = _number(query, "granularity", 60)
    if granularity not in _GRANULARITIES:
        raise Refused(400, {"message": "Unsupported granularity"})
    length = granularity * 1000
    end = _moment(query, "end", now - 1)
    start = _moment(query, "start", end - end % length - (_MAX_CANDLES - 1) * length)
    first = -(-start // length) * length
    count = (end - first) // length + 1
    if count > _MAX_CANDLES:
        reason = "granularity too small for the requested time range"
        raise Refused(400, {"message": f"{reason}. Count of aggregations requested exceeds {_MAX_CANDLES}"})
    found = [
        [
            bar.open_time // 1000,
            *(float(market.price_text(price)) for price in (bar.low, bar.high, bar.open, bar.close)),
            float(market.size_text(bar.size)),
        ]
        for bar in bars(market, length, first, max(count, 0), now)
        if bar.count
    ]
    return found[::-1]


def _book(product: ProductTexts, query: Query, now: int) -> dict[str, Any]:
    market = product.market
    state = product.book.state((now - 1) // 1000)
    depth = None if query.get("level") == "2" else 1
    bids, asks = (
        [[market.price_text(price), market.size_text(size), 1] for price, size in side[:depth]]
        for side in (state.bids, state.asks)
    )
    sequence = product.sequence(next_number(market, now) - 1, now - 1)
    return {"bids": bids, "asks": asks, "sequence": sequence, "time": iso_time(now * 1000)}


def _product(product: ProductTexts, now: int) -> dict[str, Any]:
    market = product.market
    return {
        "id": product.name,
        "base_currency": market.base,
        "quote_currency": market.quote,
        "quote_increment": market.price_text(1),
        "base_increment": market.size_text(1),
        "display_name": f"{market.base}-{market.quote}",
        "min_market_funds": "1",
        "margin_enabled": False,
        "post_only": False,
        "limit_only": False,
        "cancel_only": False,
        "status": "online" if is_traded(market, now) else "delisted",
        "status_message": "",
        "trading_disabled": not is_traded(market, now),
    }


def _number(query: Query, name: str, default: int) -> int:
    return whole_number(query, name, default, Refused(400, {"message": f"Invalid {name}"}))


def _moment(query: Query, name: str, default: int) -> int:
    """Milliseconds UTC of a time in ISO 8601 or unix seconds."""
    text = query.get(name)
    if text is None:
        return default
    if text.isascii() and text.isdecimal() and len(text) <= 11:
        return int(text) * 1000
    try:
        return parse_time(text) // 1000
    except WrongUse:
        raise Refused(400, {"message": f"Invalid {name}"}) from None
