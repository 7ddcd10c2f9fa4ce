"""Bybit's REST answers: the newest trades, past candles and funding, the instruments. Sans I/O.

Source: https://bybit-exchange.github.io/docs/v5/market, as of November 2026.
"""

from collections.abc import Generator, Iterable
from typing import TypeVar

from msgspec.json import Decoder

from collector.exchanges.adapter import (
    CandlePages,
    FundingPages,
    MalformedMessage,
    RestRequest,
    TradePage,
    TradePages,
    TradeRange,
    decode,
)
from collector.exchanges.bybit_messages import (
    FILLS_OF_ONE_SEQUENCE,
    MAX_SEQUENCE,
    Answer,
    PastBar,
    PastBars,
    PastFill,
    PastFills,
    PastPayments,
)
from collector.exchanges.events import CandleSeen
from collector.exchanges.funding import page, payment
from collector.exchanges.texts import MAX_SECONDS, Numbers
from market import DAY, Instrument, MarketType, Side, Timeframe, Trade

T = TypeVar("T")
BARS = 1000
FILLS = {"spot": 60, "linear": 1000}
"""How many of the newest trades there are, by category; there are no older ones."""
INTERVALS = {"1": Timeframe.M1, "5": Timeframe.M5, "15": Timeframe.M15, "60": Timeframe.H1}
INTERVALS |= {"240": Timeframe.H4, "D": Timeframe.D1}
SIDES = {"Buy": Side.BUY, "Sell": Side.SELL}
"""The taker's."""
_NAMES = {timeframe: name for name, timeframe in INTERVALS.items()}
_MILLISECOND = 1000
_PAYMENTS_A_PAGE = 200
_ANSWER = Decoder(Answer)
_FILLS = Decoder(PastFills)
_BARS = Decoder(PastBars)
_PAYMENTS = Decoder(PastPayments)


class Ordinals:
    """Numbers the fills of one message, oldest first: several of one order share a sequence."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def trade_seq(self, sequence: int) -> int:
        """The sequence, and the place among the fills that share it.

        Raises:
            ValueError: there are more of them than any message holds, or it is no sequence.
        """
        ordinal = self._counts.get(sequence, 0)
        self._counts[sequence] = ordinal + 1
        if ordinal >= FILLS_OF_ONE_SEQUENCE or not 0 <= sequence < MAX_SEQUENCE:
            raise ValueError(f"no {ordinal + 1}th fill of sequence {sequence}")
        return sequence * FILLS_OF_ONE_SEQUENCE + ordinal


def category_of(instrument: Instrument) -> str:
    """What Bybit calls the kind of market."""
    return "spot" if instrument.market_type is MarketType.SPOT else "linear"


def result(decoder: Decoder[T], body: bytes | str) -> tuple[T, int]:
    """What a REST answer holds, and Bybit's time then, in microseconds UTC.

    Raises:
        MalformedMessage: it is damaged, or an error in Bybit's words.
    """
    answer = decode(_ANSWER, body)
    if answer.ret_code:
        raise MalformedMessage(f"{answer.ret_code}: {answer.ret_msg}"[:200])
    return decode(decoder, answer.result), answer.time * _MILLISECOND


def trade_pages(instrument: Instrument, numbers: Numbers, wanted: TradeRange) -> TradePages:
    """One page of the newest trades.

    It is whole between its oldest and its newest time; of these two it may lack some.
    """
    category = category_of(instrument)
    body = yield RestRequest(
        f"/v5/market/recent-trade?category={category}&symbol={instrument.exchange_symbol}"
        f"&limit={FILLS[category]}"
    )
    fills = result(_FILLS, body)[0].fills
    if not fills:
        return
    times = [_microseconds(fill.time) for fill in fills]
    begin = max(min(times) + _MILLISECOND, wanted.begin)
    end = min(max(times), wanted.end)
    if begin >= end:
        return
    trades = [trade for trade in _trades(instrument, numbers, fills) if begin <= trade.timestamp < end]
    yield TradePage(trades=trades, from_timestamp=begin, to_timestamp=end)


def _trades(instrument: Instrument, numbers: Numbers, fills: list[PastFill]) -> list[Trade]:
    """Of the book, oldest first."""
    ordinals = Ordinals()
    try:
        trades = [
            Trade(
                instrument.symbol,
                _microseconds(fill.time),
                fill.exec_id,
                ordinals.trade_seq(int(fill.sequence)),
                numbers.price(fill.price),
                numbers.price(fill.size),
                SIDES[fill.side],
            )
            for fill in reversed(fills)
            if not fill.is_block_trade
        ]
    except ValueError as error:
        raise MalformedMessage(str(error)) from None
    return sorted(trades, key=lambda trade: trade.order)


def candle_pages(
    instrument: Instrument, numbers: Numbers, timeframe: Timeframe, begin: int, end: int
) -> CandlePages:
    """Upwards, a thousand at a time; a candle is closed once Bybit's clock has passed its end."""
    length = timeframe.microseconds
    start = timeframe.open_of(begin + length - 1)
    while start < end:
        until = min(start + BARS * length, end)
        bars, now = yield from _bars(instrument, _NAMES[timeframe], start, until)
        candles = [_candle(instrument.symbol, numbers, timeframe, bar) for bar in bars]
        candles = [c for c in candles if start <= c.open_time < until and c.open_time + length <= now]
        if candles:
            yield candles
        # Years may pass before a listing: days are seen from further away.
        start = until if bars else (yield from _first_day(instrument, until, end))


def _first_day(
    instrument: Instrument, start: int, end: int
) -> Generator[RestRequest | list[CandleSeen], bytes, int]:
    """From when on there is anything again, from `start` on; `end` if there is nothing."""
    while start < end:
        until = min(start + BARS * DAY, end)
        bars, _ = yield from _bars(instrument, "D", start - start % DAY, until)
        if bars:
            return max(start, _microseconds(bars[0].open_time))
        start = until
    return end


def _bars(
    instrument: Instrument, interval: str, begin: int, end: int
) -> Generator[RestRequest | list[CandleSeen], bytes, tuple[list[PastBar], int]]:
    """Candles that open in [begin, end), oldest first, and Bybit's time."""
    path = (
        f"/v5/market/kline?category={category_of(instrument)}&symbol={instrument.exchange_symbol}"
        f"&interval={interval}&start={begin // _MILLISECOND}&end={-(-end // _MILLISECOND) - 1}&limit={BARS}"
    )
    body = yield RestRequest(path)
    found, now = result(_BARS, body)
    return sorted(found.bars, key=lambda bar: _microseconds(bar.open_time)), now


def funding_pages(instrument: Instrument, numbers: Numbers, begin: int, end: int) -> FundingPages:
    """Downwards: of a time that holds more of them the newest 200 are given."""
    name, start = instrument.exchange_symbol, -(-begin // _MILLISECOND)
    while begin < end:
        times = f"startTime={start}&endTime={-(-end // _MILLISECOND) - 1}"
        path = f"/v5/market/funding/history?category=linear&symbol={name}&{times}&limit={_PAYMENTS_A_PAGE}"
        rows = result(_PAYMENTS, (yield RestRequest(path)))[0].payments
        found = [payment(instrument, numbers, int(row.time), row.rate) for row in rows]
        paid = page(found, begin, end)
        yield paid
        if len(rows) < _PAYMENTS_A_PAGE or not paid:
            return
        end = paid[0].timestamp


def _candle(symbol: str, numbers: Numbers, timeframe: Timeframe, bar: PastBar) -> CandleSeen:
    try:
        return candle_of(
            numbers,
            symbol=symbol,
            timestamp=None,
            timeframe=timeframe,
            open_time=_microseconds(bar.open_time),
            prices=(bar.open, bar.high, bar.low, bar.close),
            volume=bar.volume,
            is_closed=True,
        )
    except ValueError as error:
        raise MalformedMessage(str(error)) from None


def candle_of(
    numbers: Numbers,
    *,
    symbol: str,
    timestamp: int | None,
    timeframe: Timeframe,
    open_time: int,
    prices: Iterable[str],
    volume: str,
    is_closed: bool,
) -> CandleSeen:
    """A candle of Bybit, which does not say who bought and how many trades there were.

    Raises:
        ValueError: it is none.
    """
    first, high, low, last = numbers.candle(prices)
    if timeframe.open_of(open_time) != open_time:
        raise ValueError(f"a {timeframe} candle does not open at {open_time}")
    return CandleSeen(
        symbol=symbol,
        timestamp=timestamp,
        timeframe=timeframe,
        open_time=open_time,
        open=first,
        high=high,
        low=low,
        close=last,
        volume=numbers.amount(volume),
        buy_volume=None,
        trade_count=None,
        is_closed=is_closed,
    )


def _microseconds(text: str) -> int:
    """Of milliseconds as digits."""
    milliseconds = int(text)
    if milliseconds > MAX_SECONDS * 1000:
        raise MalformedMessage(f"no time: {text}")
    return milliseconds * _MILLISECOND
