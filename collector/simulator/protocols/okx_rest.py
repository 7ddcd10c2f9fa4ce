"""OKX's public REST interface (v5) over the simulated market, sans I/O.

Source: https://www.okx.com/docs-v5/en/#order-book-trading-market-data, as of November 2026. All lists are
newest first; `after` means older than, `before` newer than, which alone gives the newest page.
"""

from collections.abc import Iterable
from typing import Any

from collector.simulator.bars import MINUTE, bars
from collector.simulator.funding import INTERVAL, payments
from collector.simulator.protocol import Query, Refused, whole_number
from collector.simulator.protocols.okx_texts import CONTRACT_DECIMALS, InstrumentTexts
from collector.simulator.tape import FIRST_MOMENT, end_number, fills, is_traded, next_number
from collector.simulator.texts import fixed

_MAX_TRADES = 500
_MAX_PAST_TRADES = 100
_MAX_CANDLES = 300
_NEWEST_CANDLES = 1440
_MAX_LEVELS = 400
_MAX_PAYMENTS = 400
_THREE_MONTHS = 90 * 24 * 60 * MINUTE
_BARS = {"1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1H": 60, "2H": 120, "4H": 240, "1Dutc": 1440}


class OkxRest:
    """Answers GETs. Holds nothing but the markets."""

    def __init__(self, texts: Iterable[InstrumentTexts]) -> None:
        self._texts = {text.name: text for text in texts}

    def get(self, path: str, query: Query, now: int) -> Any:
        """The answer to a GET at `now` (milliseconds UTC)."""
        match path.removeprefix("/api/v5"):
            case "/public/time":
                return _encoded(f'{{"ts":"{now}"}}')
            case "/public/instruments":
                return self._instruments(query, now)
            case "/market/trades":
                return _newest_trades(self._instrument(query), query, now)
            case "/market/history-trades":
                return _past_trades(self._instrument(query), query, now)
            case "/market/candles":
                return _candles(self._instrument(query), query, now, newest=_NEWEST_CANDLES)
            case "/market/history-candles":
                return _candles(self._instrument(query), query, now, newest=None)
            case "/public/funding-rate-history":
                return _funding(self._instrument(query), query, now)
            case "/market/books":
                return _book(self._instrument(query), query, now)
        raise Refused(404, {"code": "404", "msg": f"no {path} here", "data": []})

    def _instrument(self, query: Query) -> InstrumentTexts:
        instrument = self._texts.get(query.get("instId", ""))
        if instrument is None:
            raise _refused("51001", "Instrument ID, Instrument ID code, or Spread ID doesn't exist.")
        return instrument

    def _instruments(self, query: Query, now: int) -> dict[str, Any]:
        kind = query.get("instType")
        if kind not in ("SPOT", "SWAP", "FUTURES"):
            raise _refused("51000", "Parameter instType error")
        listed = [_listed(text, now) for text in self._texts.values() if text.kind == kind]
        return {"code": "0", "msg": "", "data": listed}


def _newest_trades(instrument: InstrumentTexts, query: Query, now: int) -> bytes:
    end = next_number(instrument.market, now)
    return _trades(instrument, end - _limit(query, 100, _MAX_TRADES), end)


def _past_trades(instrument: InstrumentTexts, query: Query, now: int) -> bytes:
    """By id (`type` 1) or time (2), of the last three months."""
    market, limit = instrument.market, _limit(query, 100, _MAX_PAST_TRADES)
    first, end = next_number(market, now - _THREE_MONTHS), next_number(market, now)
    if query.get("type", "1") == "2":
        end = min(end, next_number(market, min(_number(query, "after", now), now)))
        first = max(first, next_number(market, min(_number(query, "before", 0) + 1, now)))
    else:
        after = _number(query, "after", end)
        end = min(after, end_number(market, after - 1, now))
        first = max(first, _number(query, "before", 0) + 1)
    return _trades(instrument, max(first, end - limit), end)


def _trades(instrument: InstrumentTexts, first: int, end: int) -> bytes:
    found = [f'{{{instrument.trade(fill)},"source":"0"}}' for fill in fills(instrument.market, first, end)]
    return _encoded(",".join(reversed(found)))


def _candles(instrument: InstrumentTexts, query: Query, now: int, *, newest: int | None) -> bytes:
    bar_name = query.get("bar", "1m")
    if bar_name not in _BARS:
        raise _refused("51000", "Parameter bar error")
    length = _BARS[bar_name] * MINUTE
    last = (now - 1) // length * length
    oldest = FIRST_MOMENT if newest is None else last - (newest - 1) * length
    last = min(last, (_number(query, "after", now) - 1) // length * length)
    first = max(last - (_limit(query, 100, _MAX_CANDLES) - 1) * length, oldest)
    first = max(first, (_number(query, "before", 0) // length + 1) * length)
    rows = [
        f'[{instrument.row(bar)},"{int(bar.open_time + length <= now)}"]'
        for bar in bars(instrument.market, length, first, max((last - first) // length + 1, 0), now)
    ]
    return _encoded(",".join(reversed(rows)))


def _funding(instrument: InstrumentTexts, query: Query, now: int) -> bytes:
    """Of the last three months."""
    if instrument.kind != "SWAP":
        raise _refused("51000", "Parameter instId error")
    limit = _limit(query, _MAX_PAYMENTS, _MAX_PAYMENTS)
    end = min(_number(query, "after", now), now)
    begin = max(_number(query, "before", 0) + 1, now - _THREE_MONTHS, end - limit * INTERVAL)
    rows = [
        f'{{"instType":"SWAP","instId":"{instrument.name}","fundingRate":"{paid.rate_text}",'
        f'"realizedRate":"{paid.rate_text}","fundingTime":"{paid.time}","method":"current_period"}}'
        for paid in payments(instrument.market, begin, end)
    ]
    return _encoded(",".join(reversed(rows[-limit:])))


def _book(instrument: InstrumentTexts, query: Query, now: int) -> bytes:
    state = instrument.book.state((now - 1) // 1000)
    size = min(max(_number(query, "sz", 1), 1), _MAX_LEVELS)
    asks, bids = (instrument.levels(side[:size]) for side in (state.asks, state.bids))
    return _encoded(f'{{"asks":{asks},"bids":{bids},"ts":"{now}","seqId":{state.update_id}}}')


def _listed(instrument: InstrumentTexts, now: int) -> dict[str, Any]:
    market = instrument.market
    is_spot = market.settle is None
    lot = market.size_text(1) if is_spot else fixed(1, CONTRACT_DECIMALS, CONTRACT_DECIMALS)
    return {
        "instType": instrument.kind,
        "instId": instrument.name,
        "instFamily": "" if is_spot else instrument.family,
        "uly": "" if is_spot else instrument.family,
        "baseCcy": market.base if is_spot else "",
        "quoteCcy": market.quote if is_spot else "",
        "settleCcy": "" if is_spot else market.settle,
        "ctVal": "" if is_spot else instrument.contract_size,
        "ctMult": "" if is_spot else "1",
        "ctValCcy": "" if is_spot else market.base,
        "ctType": "" if is_spot else "linear",
        "expTime": "",
        "listTime": str(FIRST_MOMENT),
        "tickSz": market.price_text(1),
        "lotSz": lot,
        "minSz": lot,
        "state": "live" if is_traded(market, now) else "suspend",
    }


def _limit(query: Query, default: int, most: int) -> int:
    return min(max(_number(query, "limit", default), 1), most)


def _number(query: Query, name: str, default: int) -> int:
    return whole_number(query, name, default, _refused("51000", f"Parameter {name} error"))


def _refused(code: str, reason: str) -> Refused:
    return Refused(200, {"code": code, "msg": reason, "data": []})


def _encoded(data: str) -> bytes:
    return f'{{"code":"0","msg":"","data":[{data}]}}'.encode()
