"""Binance USDⓈ-M futures' past trades, candles and funding over REST, sans I/O.

Source: https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api, as of
November 2026.
"""

from collections.abc import Generator

from msgspec import Struct, field, structs
from msgspec.json import Decoder

from collector.exchanges import binance_history
from collector.exchanges.adapter import (
    CandlePages,
    FundingPages,
    MalformedMessage,
    RestRequest,
    TradePage,
    TradePages,
    TradeRange,
)
from collector.exchanges.binance_history import ROWS, reason
from collector.exchanges.binance_messages import Id, Milliseconds
from collector.exchanges.funding import page, payment
from collector.exchanges.paging import Upwards, decode_answer
from collector.exchanges.texts import Numbers
from market import Instrument, Side, Timeframe, Trade

HISTORY = 48 * 3600 * 1_000_000
"""Microseconds: no older trades are given."""
_HOUR = 3_600_000
_TRADES_WEIGHT, _KLINES_WEIGHT = 20, 5
_FUNDING_WEIGHT = 12
"""500 requests are allowed in five minutes, where 6,000 of weight are."""


class _PastAggregate(Struct, gc=False):
    """{"a":26129,"p":"0.01633102","q":"4.70443515","f":27781,"l":27781,"T":1498793709153,"m":true}."""

    trade_id: Id = field(name="a")
    price: str = field(name="p")
    size: str = field(name="q")
    first_fill: Id = field(name="f")
    last_fill: Id = field(name="l")
    time: Milliseconds = field(name="T")
    is_buyer_maker: bool = field(name="m")


class _PastFunding(Struct, gc=False):
    """{"symbol":"BTCUSDT","fundingRate":"-0.03750000","fundingTime":1570608000000,"markPrice":"34287.5"}."""

    rate: str = field(name="fundingRate")
    time: Milliseconds = field(name="fundingTime")
    mark_price: str = field(name="markPrice", default="")


_AGGREGATES = Decoder(list[_PastAggregate])
_FUNDING = Decoder(list[_PastFunding])


def trade_pages(instrument: Instrument, numbers: Numbers, wanted: TradeRange) -> TradePages:
    """By id, upwards, from the trade before the first one: only that shows that none between is gone."""
    if wanted.first_id is not None:
        first_id = wanted.first_id
    else:
        first = yield from _first(instrument, numbers, wanted)
        if first is None:
            return
        first_id = first.trade_seq
    next_id = max(first_id - 1, 0)
    pages: Upwards | None = None
    while pages is None or not pages.is_done:
        trades = yield from _ask(instrument, numbers, f"&fromId={next_id}&limit={ROWS}")
        if pages is None:
            pages = Upwards(_given(wanted, trades, next_id))
        if not trades or trades[0].trade_seq < next_id:
            break
        page = pages.take(trades)
        if page is not None:
            yield page
        next_id = trades[-1].trade_seq + 1
    if not pages.is_done:
        page = pages.finish()
        if page is not None:
            yield page


def _given(wanted: TradeRange, trades: list[Trade], next_id: int) -> TradeRange:
    """What of `wanted` the exchange still has: of trades too long ago it gives those that came later."""
    if wanted.first_id is not None or not next_id or not trades or trades[0].trade_seq <= next_id:
        return wanted
    # Others of the first one's time may be gone: its id is where the pages begin.
    return structs.replace(wanted, first_id=trades[0].trade_seq)


def _first(
    instrument: Instrument, numbers: Numbers, wanted: TradeRange
) -> Generator[RestRequest | TradePage, bytes, Trade | None]:
    """The first trade with begin <= time < end that the exchange still has; None if there is none."""
    newest = yield from _ask(instrument, numbers, "&limit=1")
    if not newest:
        return None
    last = newest[-1].timestamp
    if last < wanted.begin:
        page = Upwards(wanted).finish()
        if page is not None:
            yield page
        return None
    start = -(-max(wanted.begin, last - HISTORY) // 1000)
    stop = -(-min(wanted.end, last + 1) // 1000)
    while start < stop:
        until = min(start + _HOUR, stop) - 1
        found = yield from _ask(instrument, numbers, f"&startTime={start}&endTime={until}&limit=1")
        if found:
            return found[0]
        start = until + 1
    return None


def _ask(
    instrument: Instrument, numbers: Numbers, query: str
) -> Generator[RestRequest | TradePage, bytes, list[Trade]]:
    """Aggregates, upwards by id."""
    path = f"/fapi/v1/aggTrades?symbol={instrument.exchange_symbol}{query}"
    body = yield RestRequest(path, weight=_TRADES_WEIGHT)
    rows = decode_answer(_AGGREGATES, body, reason)
    rows.sort(key=lambda row: row.trade_id)
    try:
        return [_trade(instrument.symbol, numbers, row) for row in rows]
    except ValueError as error:
        raise MalformedMessage(str(error)) from None


def _trade(symbol: str, numbers: Numbers, row: _PastAggregate) -> Trade:
    fill_count = row.last_fill - row.first_fill + 1
    if fill_count < 1:
        raise ValueError("the last fill of an aggregate is before its first")
    return Trade(
        symbol,
        row.time * 1000,
        f"a{row.trade_id}",
        row.trade_id,
        numbers.price(row.price),
        numbers.price(row.size),
        Side.SELL if row.is_buyer_maker else Side.BUY,
        fill_count,
    )


def candle_pages(
    instrument: Instrument, numbers: Numbers, timeframe: Timeframe, begin: int, end: int
) -> CandlePages:
    """As of spot."""
    endpoint = RestRequest("/fapi/v1/klines", weight=_KLINES_WEIGHT)
    return binance_history.candle_pages(instrument, numbers, timeframe, begin, end, endpoint)


def funding_pages(instrument: Instrument, numbers: Numbers, begin: int, end: int) -> FundingPages:
    """Upwards, a thousand at a time."""
    name = instrument.exchange_symbol
    while begin < end:
        times = f"startTime={-(-begin // 1000)}&endTime={-(-end // 1000) - 1}"
        path = f"/fapi/v1/fundingRate?symbol={name}&{times}&limit={ROWS}"
        body = yield RestRequest(path, weight=_FUNDING_WEIGHT)
        rows = decode_answer(_FUNDING, body, reason)
        found = [payment(instrument, numbers, row.time, row.rate, row.mark_price) for row in rows]
        paid = page(found, begin, end)
        yield paid
        if len(rows) < ROWS or not paid:
            return
        begin = paid[-1].timestamp + 1
