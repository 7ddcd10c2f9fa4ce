"""Kraken's past trades and candles over REST, sans I/O.

Source: https://docs.kraken.com/api/docs/rest-api/get-recent-trades, as of November 2026.
"""

from typing import Annotated, Any, Literal, TypeVar

from msgspec import Meta, Raw, Struct
from msgspec.json import Decoder

from collector.exchanges.adapter import (
    CandlePages,
    MalformedMessage,
    RestRequest,
    TradePages,
    TradeRange,
)
from collector.exchanges.events import CandleSeen
from collector.exchanges.kraken_spot import own_name
from collector.exchanges.paging import Upwards, decode_answer
from collector.exchanges.texts import MAX_SECONDS, Numbers, seconds_microseconds
from market import Instrument, Side, Timeframe, Trade
from market.timeframe import MICROSECONDS

ROWS = 1000
_SIDES = {"b": Side.BUY, "s": Side.SELL}
T = TypeVar("T")


class _PastTrade(Struct, array_like=True, gc=False):
    """["105433.60000","0.00027625",1762795433.9717445,"b","l","",10218208]: the taker's side."""

    price: str
    size: str
    time: Raw
    side: Literal["b", "s"]
    order_type: str
    misc: str
    trade_id: Annotated[int, Meta(ge=0, le=2**63 - 1)]


class _PastCandle(Struct, array_like=True, gc=False):
    """[1688671200,"30306.1","30306.2","30305.7","30305.7","30306.1","3.39243896",23]."""

    time: Annotated[int, Meta(ge=0, le=MAX_SECONDS)]
    open: str
    high: str
    low: str
    close: str
    vwap: str
    volume: str
    trade_count: Annotated[int, Meta(ge=0, le=2**63 - 1)]


class _Trades(Struct, gc=False):
    """{"error":[],"result":{"XXBTZUSD":[…],"last":"1762820035982277754"}}."""

    result: dict[str, list[_PastTrade] | str | int] = {}
    error: list[str] = []


class _Candles(Struct, gc=False):
    """{"error":[],"result":{"XXBTZUSD":[…],"last":1688672160}}."""

    result: dict[str, list[_PastCandle] | str | int] = {}
    error: list[str] = []


_TRADES = Decoder(_Trades)
_CANDLES = Decoder(_Candles)


def trade_pages(instrument: Instrument, numbers: Numbers, wanted: TradeRange) -> TradePages:
    """By time, upwards, judged by the ids that come."""
    pages = Upwards(wanted)
    # A second earlier: the trade before shows since when there was none, whatever `since` includes.
    since = max(wanted.begin - MICROSECONDS, 0)
    while not pages.is_done:
        path = f"/0/public/Trades?pair={_pair(instrument)}&since={since * 1000}&count={ROWS}"
        trades = _past_trades(instrument, numbers, (yield RestRequest(path)))
        last = pages.last
        page = pages.take(trades)
        if page is not None:
            yield page
        if pages.last is None or pages.last is last:
            # No trade is left, unless the answer is not to what was asked.
            page = pages.finish() if all(since <= trade.timestamp for trade in trades) else None
            if page is not None:
                yield page
            return
        # The last time once more: some of its trades may not have fitted, and its text may be rounded.
        since = max(since, pages.last.timestamp - 1)


def _pair(instrument: Instrument) -> str:
    return own_name(instrument.base) + own_name(instrument.quote)


def _past_trades(instrument: Instrument, numbers: Numbers, body: bytes) -> list[Trade]:
    """Upwards, by id."""
    answer = decode_answer(_TRADES, body, _reason)
    rows = _rows(answer.result, answer.error)
    rows.sort(key=lambda row: row.trade_id)
    try:
        return [
            Trade(
                instrument.symbol,
                seconds_microseconds(bytes(row.time).decode()),
                str(row.trade_id),
                row.trade_id,
                numbers.price(row.price),
                numbers.price(row.size),
                _SIDES[row.side],
            )
            for row in rows
        ]
    except ValueError as error:
        raise MalformedMessage(str(error)) from None


def candle_pages(
    instrument: Instrument, numbers: Numbers, timeframe: Timeframe, begin: int, end: int
) -> CandlePages:
    """One answer: the newest 720, the last of which is open."""
    minutes = timeframe.microseconds // (60 * MICROSECONDS)
    since = max(begin // MICROSECONDS - 1, 0)
    path = f"/0/public/OHLC?pair={_pair(instrument)}&interval={minutes}&since={since}"
    answer = decode_answer(_CANDLES, (yield RestRequest(path)), _reason)
    rows = sorted(_rows(answer.result, answer.error), key=lambda row: row.time)
    candles = [
        _candle(instrument.symbol, numbers, timeframe, row)
        for row in rows[:-1]
        if begin <= row.time * MICROSECONDS < end
    ]
    if candles:
        yield candles


def _candle(symbol: str, numbers: Numbers, timeframe: Timeframe, row: _PastCandle) -> CandleSeen:
    open_time = row.time * MICROSECONDS
    if timeframe.open_of(open_time) != open_time:
        raise MalformedMessage(f"a {timeframe} candle does not open at {open_time}")
    try:
        first, high, low, last = numbers.candle((row.open, row.high, row.low, row.close))
        volume = numbers.amount(row.volume)
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
        buy_volume=None,
        trade_count=row.trade_count,
        is_closed=True,
    )


def _rows(result: dict[str, list[T] | str | int], errors: list[str]) -> list[T]:
    """The rows of the one pair that was asked for, under whatever name it comes."""
    if errors:
        raise MalformedMessage(str(errors)[:200])
    found = [rows for name, rows in result.items() if name != "last" and isinstance(rows, list)]
    if len(found) != 1:
        raise MalformedMessage(f"an answer with {len(found)} pairs")
    return found[0]


def _reason(answer: Any) -> str | None:
    return str(answer["error"]) if isinstance(answer, dict) and answer.get("error") else None
