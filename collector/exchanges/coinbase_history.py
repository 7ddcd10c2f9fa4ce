"""Coinbase Exchange's past trades and candles over REST, sans I/O.

Source: https://docs.cdp.coinbase.com/exchange/reference, as of November 2026.
"""

from collections.abc import Generator
from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct
from msgspec.json import Decoder

from collector.exchanges.adapter import (
    CandlePages,
    MalformedMessage,
    RestRequest,
    TradePage,
    TradePages,
    TradeRange,
)
from collector.exchanges.events import CandleSeen
from collector.exchanges.paging import Downwards, decode_answer
from collector.exchanges.texts import MAX_SECONDS, Numbers, iso_microseconds
from market import Instrument, Side, Timeframe, Trade
from market.timeframe import MICROSECONDS, format_time

ROWS = 1000
CANDLES = 300
TIMEFRAMES = frozenset((Timeframe.M1, Timeframe.M5, Timeframe.M15, Timeframe.H1, Timeframe.D1))
Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
MakerSide = Literal["buy", "sell"]
TAKER: dict[MakerSide, Side] = {"sell": Side.BUY, "buy": Side.SELL}
"""Messages and answers name the maker's side: who sold at the ask was bought from."""


class _PastTrade(Struct, gc=False):
    """{"trade_id":74,"side":"sell","size":"0.01","price":"10.0","time":"2014-11-07T22:19:28.578544Z"}."""

    trade_id: Id
    side: MakerSide
    size: str
    price: str
    time: str


class _PastCandle(Struct, array_like=True, gc=False):
    """[1415398768,0.32,4.2,0.35,4.2,12.3]: bare numbers, low and high before open and close."""

    time: Annotated[int, Meta(ge=0, le=MAX_SECONDS)]
    low: Raw
    high: Raw
    open: Raw
    close: Raw
    volume: Raw


_TRADES = Decoder(list[_PastTrade])
_CANDLES = Decoder(list[_PastCandle])


def trade_pages(instrument: Instrument, numbers: Numbers, wanted: TradeRange) -> TradePages:
    """By id, downwards. The last id of a time is searched for by halving, unless it is a recent one."""
    pages = Downwards(wanted)
    if wanted.last_id is not None:
        # One more than the last: the trade after shows until when there was none.
        after: int | None = wanted.last_id + 2
    else:
        after = yield from _after_time(instrument, numbers, wanted.end)
    while not pages.is_done:
        body = yield _request(instrument, ROWS, after)
        trades = _past_trades(instrument, numbers, body)
        if not trades:
            page = pages.finish()
        elif after is not None and trades[-1].trade_seq >= after:
            return
        else:
            page = pages.take(trades)
            after = trades[0].trade_seq
        if page is not None:
            yield page


def _after_time(
    instrument: Instrument, numbers: Numbers, end: int
) -> Generator[RestRequest | TradePage, bytes, int | None]:
    """The id after that of the first trade at or after `end` (microseconds); None: begin with the newest."""
    newest = _past_trades(instrument, numbers, (yield _request(instrument, ROWS, None)))
    if not newest or newest[0].timestamp < end:
        return None
    low, high = 0, newest[0].trade_seq
    while high - low > 1:
        middle = (low + high) // 2
        found = _past_trades(instrument, numbers, (yield _request(instrument, 1, middle + 1)))
        if found and found[-1].timestamp >= end:
            high = min(middle, found[-1].trade_seq)
        else:
            low = middle
    return high + 1


def _request(instrument: Instrument, limit: int, after: int | None) -> RestRequest:
    cursor = "" if after is None else f"&after={after}"
    return RestRequest(f"/products/{instrument.exchange_symbol}/trades?limit={limit}{cursor}")


def _past_trades(instrument: Instrument, numbers: Numbers, body: bytes) -> list[Trade]:
    """Upwards, by id."""
    rows = decode_answer(_TRADES, body, reason)
    rows.sort(key=lambda row: row.trade_id)
    try:
        return [
            Trade(
                instrument.symbol,
                iso_microseconds(row.time),
                str(row.trade_id),
                row.trade_id,
                numbers.price(row.price),
                numbers.price(row.size),
                TAKER[row.side],
            )
            for row in rows
        ]
    except ValueError as error:
        raise MalformedMessage(str(error)) from None


def candle_pages(
    instrument: Instrument, numbers: Numbers, timeframe: Timeframe, begin: int, end: int
) -> CandlePages:
    """Upwards, 300 at a time. A candle counts as closed once a later one is there.

    There are none where nothing was traded, so the answer after the range is looked at too.
    """
    length = timeframe.microseconds
    start, held = timeframe.open_of(begin + length - 1), list[CandleSeen]()
    stop = end + CANDLES * length
    while start < stop and not (held and held[-1].open_time >= end):
        last = start + (CANDLES - 1) * length
        path = (
            f"/products/{instrument.exchange_symbol}/candles?granularity={length // MICROSECONDS}"
            f"&start={format_time(start)}&end={format_time(last)}"
        )
        rows = decode_answer(_CANDLES, (yield RestRequest(path)), reason)
        candles = [_candle(instrument.symbol, numbers, timeframe, row) for row in rows]
        candles = [candle for candle in candles if start <= candle.open_time <= last]
        held += sorted(candles, key=lambda candle: candle.open_time)
        closed = [candle for candle in held[:-1] if candle.open_time < end]
        if closed:
            yield closed
        held = held[-1:]
        start = last + length


def _candle(symbol: str, numbers: Numbers, timeframe: Timeframe, row: _PastCandle) -> CandleSeen:
    open_time = row.time * MICROSECONDS
    if timeframe.open_of(open_time) != open_time:
        raise MalformedMessage(f"a {timeframe} candle does not open at {open_time}")
    try:
        prices = (bytes(price).decode() for price in (row.open, row.high, row.low, row.close))
        first, high, low, last = numbers.candle(prices)
        volume = numbers.amount(bytes(row.volume).decode())
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
        trade_count=None,
        is_closed=True,
    )


def reason(answer: Any) -> str | None:
    """What an error says: {"message":"NotFound"}; None for what is no error."""
    return str(answer["message"]) if isinstance(answer, dict) and "message" in answer else None
