"""Binance spot's past trades and candles over REST, sans I/O.

Source: https://developers.binance.com/docs/binance-spot-api-docs/rest-api, as of November 2026.
"""

from collections.abc import Generator
from typing import Any

from msgspec import Struct, field, structs
from msgspec.json import Decoder

from collector.exchanges.adapter import (
    CandlePages,
    MalformedMessage,
    RestRequest,
    TradePage,
    TradePages,
    TradeRange,
)
from collector.exchanges.binance_messages import Id, Milliseconds
from collector.exchanges.events import CandleSeen
from collector.exchanges.paging import Upwards, decode_answer
from collector.exchanges.texts import Numbers
from market import Instrument, Side, Timeframe, Trade

ROWS = 1000
_HOUR = 3_600_000
_TRADES_WEIGHT, _AGGREGATES_WEIGHT, _KLINES_WEIGHT = 25, 4, 2
KLINES = RestRequest("/api/v3/klines", weight=_KLINES_WEIGHT)


class _PastTrade(Struct, gc=False, rename="camel"):
    """{"id":28457,"price":"4.0","qty":"12.0","quoteQty":"48.0","time":1499865549590,"isBuyerMaker":true,…}."""

    trade_id: Id = field(name="id")
    price: str
    size: str = field(name="qty")
    time: Milliseconds
    is_buyer_maker: bool


class _PastAggregate(Struct, gc=False):
    """{"a":26129,"p":"0.01633102","q":"4.70443515","f":27781,"l":27781,"T":1498793709153,"m":true,…}."""

    first_fill: Id = field(name="f")


class _PastKline(Struct, array_like=True, gc=False):
    """[1499040000000,"0.0163","0.8000","0.0157","0.0157","148976.1",1499644799999,"2434.1",308,"1756.8",…]."""

    open_time: Milliseconds
    open: str
    high: str
    low: str
    close: str
    volume: str
    close_time: Milliseconds
    quote_volume: str
    trade_count: Id
    buy_volume: str


_TRADES = Decoder(list[_PastTrade])
_AGGREGATES = Decoder(list[_PastAggregate])
_KLINES = Decoder(list[_PastKline])


def trade_pages(instrument: Instrument, numbers: Numbers, wanted: TradeRange) -> TradePages:
    """By id, upwards; the first id of a time comes from the aggregates, which name the ids of their fills."""
    if wanted.first_id is not None:
        # The trade before shows since when there was none.
        pages = Upwards(wanted, wanted.first_id)
        yield from _upwards(instrument, numbers, wanted, pages, max(wanted.first_id - 1, 0))
        return
    begin = wanted.begin
    while True:
        rest = structs.replace(wanted, begin=begin)
        first_id = yield from _first_id(instrument.exchange_symbol, begin, wanted.end)
        if first_id is None:
            yield TradePage(trades=[], from_timestamp=begin, to_timestamp=wanted.end)
            return
        pages = Upwards(rest, first_id)
        yield from _upwards(instrument, numbers, rest, pages, first_id)
        # Ids may end before the time does, and begin anew after it.
        if pages.reached is None or not begin < pages.reached < wanted.end:
            return
        begin = pages.reached


def _upwards(
    instrument: Instrument, numbers: Numbers, wanted: TradeRange, pages: Upwards, next_id: int
) -> TradePages:
    while not pages.is_done:
        path = f"/api/v3/historicalTrades?symbol={instrument.exchange_symbol}&fromId={next_id}&limit={ROWS}"
        body = yield RestRequest(path, weight=_TRADES_WEIGHT)
        if not body:
            yield from _newest(instrument, numbers, wanted)
            return
        trades = _past_trades(instrument, numbers, body)
        if not trades:
            break
        if trades[0].trade_seq < next_id:
            return
        page = pages.take(trades)
        if page is not None:
            yield page
        next_id = trades[-1].trade_seq + 1
    if not pages.is_done:
        page = pages.finish(is_all=False)
        if page is not None:
            yield page


def _newest(instrument: Instrument, numbers: Numbers, wanted: TradeRange) -> TradePages:
    """What a mirror without the history still shows: the newest trades."""
    path = f"/api/v3/trades?symbol={instrument.exchange_symbol}&limit={ROWS}"
    body = yield RestRequest(path, weight=_TRADES_WEIGHT)
    trades = _past_trades(instrument, numbers, body) if body else []
    if not trades:
        return
    first = trades[0]
    begin = max(wanted.begin, first.timestamp + 1)
    first_id = None if wanted.first_id is None else max(wanted.first_id, first.trade_seq)
    shown = TradeRange(
        symbol=wanted.symbol, begin=begin, end=wanted.end, first_id=first_id, last_id=wanted.last_id
    )
    pages = Upwards(shown)
    for page in (pages.take(trades), None if pages.is_done else pages.finish()):
        if page is not None:
            yield page


def _first_id(name: str, begin: int, end: int) -> Generator[RestRequest | TradePage, bytes, int | None]:
    """The id of the first trade with begin <= time < end (microseconds); None if there is none."""
    start, stop = -(-begin // 1000), -(-end // 1000)
    while start < stop:
        until = min(start + _HOUR, stop) - 1
        path = f"/api/v3/aggTrades?symbol={name}&startTime={start}&endTime={until}&limit=1"
        found = decode_answer(_AGGREGATES, (yield RestRequest(path, weight=_AGGREGATES_WEIGHT)), reason)
        if found:
            return found[0].first_fill
        start = until + 1
        # Years may pass before a listing: the candles name the next hour with trades.
        path = f"/api/v3/klines?symbol={name}&interval=1h&startTime={start - start % _HOUR}&limit={ROWS}"
        body = yield RestRequest(path, weight=_KLINES_WEIGHT)
        if body:
            hours = decode_answer(_KLINES, body, reason)
            if not hours:
                return None
            busy = (hour.open_time for hour in hours if hour.trade_count)
            start = max(start, next(busy, hours[-1].close_time + 1))
    return None


def _past_trades(instrument: Instrument, numbers: Numbers, body: bytes) -> list[Trade]:
    """Upwards, by id."""
    rows = decode_answer(_TRADES, body, reason)
    rows.sort(key=lambda row: row.trade_id)
    try:
        return [
            Trade(
                instrument.symbol,
                row.time * 1000,
                str(row.trade_id),
                row.trade_id,
                numbers.price(row.price),
                numbers.price(row.size),
                Side.SELL if row.is_buyer_maker else Side.BUY,
            )
            for row in rows
        ]
    except ValueError as error:
        raise MalformedMessage(str(error)) from None


def candle_pages(
    instrument: Instrument,
    numbers: Numbers,
    timeframe: Timeframe,
    begin: int,
    end: int,
    endpoint: RestRequest = KLINES,
) -> CandlePages:
    """Upwards; a candle counts as closed once a later one is there, so the newest of all is left out."""
    start, held = -(-begin // 1000), list[CandleSeen]()
    while not held or held[-1].open_time < end:
        path = (
            f"{endpoint.path}?symbol={instrument.exchange_symbol}&interval={timeframe}"
            f"&startTime={start}&limit={ROWS}"
        )
        body = yield RestRequest(path, weight=endpoint.weight)
        rows = decode_answer(_KLINES, body, reason)
        new = [row for row in sorted(rows, key=lambda row: row.open_time) if row.open_time >= start]
        if not new:
            return
        held += [_candle(instrument.symbol, numbers, timeframe, row) for row in new]
        closed = [candle for candle in held[:-1] if candle.open_time < end]
        if closed:
            yield closed
        held = held[-1:]
        start = new[-1].open_time + 1


def _candle(symbol: str, numbers: Numbers, timeframe: Timeframe, row: _PastKline) -> CandleSeen:
    open_time = row.open_time * 1000
    if timeframe.open_of(open_time) != open_time:
        raise MalformedMessage(f"a {timeframe} candle does not open at {open_time}")
    try:
        first, high, low, last = numbers.candle((row.open, row.high, row.low, row.close))
        volume, buy_volume = numbers.amount(row.volume), numbers.amount(row.buy_volume)
    except ValueError as error:
        raise MalformedMessage(str(error)) from None
    return CandleSeen(
        symbol=symbol,
        timestamp=None,
        timeframe=timeframe,
        open_time=open_time,
        open=first,
        high=high,
        low=low,
        close=last,
        volume=volume,
        buy_volume=buy_volume,
        trade_count=row.trade_count,
        is_closed=True,
    )


def reason(answer: Any) -> str | None:
    """What an error says: {"code":-1121,"msg":"Invalid symbol."}; None for what is no error."""
    if not isinstance(answer, dict):
        return None
    error = answer.get("error")
    found = error if isinstance(error, dict) else answer
    return f"{found['code']}: {found.get('msg')}"[:200] if "code" in found else None
