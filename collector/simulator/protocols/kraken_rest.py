"""Kraken's public REST interface over the simulated market, sans I/O.

Source: https://docs.kraken.com/api/docs/rest-api, as of November 2026. Errors come with HTTP 200.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any

from collector.simulator.bars import MINUTE, bars
from collector.simulator.protocol import Query, Refused, whole_number
from collector.simulator.protocols.kraken_texts import DECIMALS, PairTexts, order_type
from collector.simulator.tape import Fill, end_number, fills, is_traded, next_number
from collector.simulator.texts import fixed, iso_time, microsecond_of

_PUBLIC = "/0/public/"
_MAX_TRADES = 1000
_MAX_CANDLES = 720
_MAX_LEVELS = 500
_INTERVALS = (1, 5, 15, 30, 60, 240, 1440)
_PRICE_DECIMALS = 10


class KrakenRest:
    """Answers GETs. Holds nothing but the markets."""

    def __init__(self, texts: Iterable[PairTexts]) -> None:
        self._keys = {text.base + text.quote: text for text in texts}
        names = (
            {key: text, text.altname: text, text.wsname: text, text.name: text}
            for key, text in self._keys.items()
        )
        self._pairs = {name: text for by_name in names for name, text in by_name.items()}

    def get(self, path: str, query: Query, now: int) -> Any:
        """The answer to a GET at `now` (milliseconds UTC)."""
        match path.removeprefix(_PUBLIC):
            case "Time":
                return _result({"unixtime": now // 1000, "rfc1123": iso_time(now * 1000)})
            case "SystemStatus":
                return _result({"status": "online", "timestamp": iso_time(now * 1000)})
            case "AssetPairs":
                pairs = self._asked(query["pair"]) if "pair" in query else list(self._keys.values())
                return _result({pair.base + pair.quote: _asset_pair(pair, now) for pair in pairs})
            case "Trades":
                return _trades(self._pair(query), query, now)
            case "OHLC":
                return _candles(self._pair(query), query, now)
            case "Depth":
                return _depth(self._pair(query), query, now)
        raise Refused(404, {"error": ["EGeneral:Unknown method"]})

    def _asked(self, names: str) -> list[PairTexts]:
        return [self._pair({"pair": name}) for name in names.split(",")]

    def _pair(self, query: Query) -> PairTexts:
        pair = self._pairs.get(query.get("pair", ""))
        if pair is None:
            raise Refused(200, {"error": ["EQuery:Unknown asset pair"]})
        return pair


def _trades(pair: PairTexts, query: Query, now: int) -> dict[str, Any]:
    """Those after `since` (nanoseconds), ascending, or the newest; `last` is where the next page begins."""
    market = pair.market
    limit = min(max(_number(query, "count", _MAX_TRADES), 1), _MAX_TRADES)
    if "since" in query:
        since = _number(query, "since", 0)
        first = next_number(market, since // 1_000_000)
        later = fills(market, first, end_number(market, first, now))
        found = list(islice((fill for fill in later if nanosecond_of(pair, fill) > since), limit))
    else:
        since, end = 0, next_number(market, now)
        found = list(fills(market, end - limit, end))
    last = nanosecond_of(pair, found[-1]) if found else since
    return _result({pair.base + pair.quote: [_row(pair, fill) for fill in found], "last": str(last)})


def _row(pair: PairTexts, fill: Fill) -> list[Any]:
    return [
        _price(pair, fill.price),
        pair.size(fill.size),
        microsecond_of(fill.time) / 1e6,
        fill.side[0],
        order_type(fill)[0],
        "",
        fill.number,
    ]


def nanosecond_of(pair: PairTexts, fill: Fill) -> int:
    """A trade's time in nanoseconds, which no two trades share."""
    return microsecond_of(fill.time) * 1000 + fill.number - next_number(pair.market, fill.time)


def _candles(pair: PairTexts, query: Query, now: int) -> dict[str, Any]:
    """The newest 720 at most, ascending, the last one open; `last` is when the last whole one opened."""
    minutes = _number(query, "interval", 1)
    if minutes not in _INTERVALS:
        raise Refused(200, {"error": ["EGeneral:Invalid arguments:interval"]})
    length = minutes * MINUTE
    newest = (now - 1) // length * length
    first = newest - (_MAX_CANDLES - 1) * length
    first = max(first, (_number(query, "since", 0) * 1000 // length + 1) * length)
    found = [
        [
            bar.open_time // 1000,
            *(_price(pair, price) for price in (bar.open, bar.high, bar.low, bar.close)),
            pair.vwap(bar),
            pair.size(bar.size),
            bar.count,
        ]
        for bar in bars(pair.market, length, first, max((newest - first) // length + 1, 0), now)
        if bar.count
    ]
    return _result({pair.base + pair.quote: found, "last": (newest - length) // 1000})


def _depth(pair: PairTexts, query: Query, now: int) -> dict[str, Any]:
    state = pair.book.state((now - 1) // 1000)
    count = min(max(_number(query, "count", 100), 1), _MAX_LEVELS)
    asks, bids = (
        [[_price(pair, price), pair.size(size), state.second] for price, size in side[:count]]
        for side in (state.asks, state.bids)
    )
    return _result({pair.base + pair.quote: {"asks": asks, "bids": bids}})


def _asset_pair(pair: PairTexts, now: int) -> dict[str, Any]:
    market = pair.market
    return {
        "altname": pair.altname,
        "wsname": pair.wsname,
        "aclass_base": "currency",
        "base": pair.base,
        "aclass_quote": "currency",
        "quote": pair.quote,
        "lot": "unit",
        "pair_decimals": market.price_decimals,
        "lot_decimals": DECIMALS,
        "lot_multiplier": 1,
        "ordermin": market.size_text(1),
        "costmin": "0.5",
        "tick_size": market.price_text(1),
        "status": "online" if is_traded(market, now) else "cancel_only",
    }


def _price(pair: PairTexts, ticks: int) -> str:
    return fixed(ticks, pair.market.price_decimals, _PRICE_DECIMALS)


def _number(query: Query, name: str, default: int) -> int:
    wrong = Refused(200, {"error": [f"EGeneral:Invalid arguments:{name}"]})
    return whole_number(query, name, default, wrong)


def _result(result: dict[str, Any]) -> dict[str, Any]:
    return {"error": [], "result": result}
