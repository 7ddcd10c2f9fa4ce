"""OKX's past trades, candles and funding over REST, sans I/O.

Source: https://www.okx.com/docs-v5/en/#order-book-trading-market-data, as of November 2026.
"""

from msgspec import Raw
from msgspec.json import Decoder

from collector.exchanges.adapter import (
    CandlePages,
    FundingPages,
    MalformedMessage,
    RestRequest,
    TradePages,
    TradeRange,
    decode,
)
from collector.exchanges.funding import page, payment
from collector.exchanges.okx_messages import BARS, Answer, Bar, PastPayment, TradeRow, candle, trade
from collector.exchanges.paging import Downwards
from collector.exchanges.texts import Numbers
from market import Instrument, Timeframe, Trade

ROWS = 100
CANDLES = 300
_BY_ID, _BY_TIME = 1, 2
_ANSWER = Decoder(Answer)
_TRADES = Decoder(list[TradeRow])
_BARS = Decoder(list[Bar])
_PAYMENTS = Decoder(list[PastPayment])
_NAMES = {timeframe: name for name, timeframe in BARS.items()}


def answered(body: bytes | str) -> Raw:
    """The `data` of an answer.

    Raises:
        MalformedMessage: it is damaged, or an error in the exchange's words.
    """
    answer = decode(_ANSWER, body)
    if answer.code != "0" or not bytes(answer.data):
        raise MalformedMessage(f"{answer.code}: {answer.msg}"[:200])
    return answer.data


def trade_pages(instrument: Instrument, numbers: Numbers, wanted: TradeRange) -> TradePages:
    """Single fills of the last three months, downwards."""
    pages = Downwards(wanted)
    if wanted.last_id is not None:
        # One more than the last: the trade after shows until when there was none.
        kind, after = _BY_ID, wanted.last_id + 2
    else:
        kind, after = _BY_TIME, -(-wanted.end // 1000)
    while not pages.is_done:
        path = f"/api/v5/market/history-trades?instId={instrument.exchange_symbol}"
        body = yield RestRequest(f"{path}&type={kind}&after={after}&limit={ROWS}")
        trades = _past_trades(instrument, numbers, body)
        lowest = min((each.trade_seq for each in trades), default=None)
        if lowest is None or (kind == _BY_ID and lowest >= after):
            # Three months ago, or before the first trade there was: nobody says which.
            page = pages.stop()
        else:
            page = pages.take(trades)
            kind, after = _BY_ID, lowest
        if page is not None:
            yield page


def _past_trades(instrument: Instrument, numbers: Numbers, body: bytes) -> list[Trade]:
    rows = decode(_TRADES, answered(body))
    try:
        return [trade(instrument, numbers, row) for row in rows]
    except ValueError as error:
        raise MalformedMessage(str(error)) from None


def candle_pages(
    instrument: Instrument, numbers: Numbers, timeframe: Timeframe, begin: int, end: int
) -> CandlePages:
    """Upwards, 300 at a time: those after one time and before another."""
    length, name = timeframe.microseconds, _NAMES[timeframe]
    start = timeframe.open_of(begin + length - 1)
    while start < end:
        stop = min(start + CANDLES * length, end)
        path = f"/api/v5/market/history-candles?instId={instrument.exchange_symbol}&bar={name}"
        # Both ends are exclusive.
        cursors = f"&after={-(-stop // 1000)}&before={start // 1000 - 1}&limit={CANDLES}"
        bars = decode(_BARS, answered((yield RestRequest(path + cursors))))
        try:
            candles = [candle(instrument, numbers, timeframe, bar) for bar in bars]
        except ValueError as error:
            raise MalformedMessage(str(error)) from None
        closed = [each for each in candles if each.is_closed and start <= each.open_time < stop]
        yield sorted(closed, key=lambda each: each.open_time)
        start = stop


def funding_pages(instrument: Instrument, numbers: Numbers, begin: int, end: int) -> FundingPages:
    """Those of the last three months, downwards, a hundred at a time: those before one time."""
    path = f"/api/v5/public/funding-rate-history?instId={instrument.exchange_symbol}"
    while begin < end:
        body = yield RestRequest(f"{path}&after={-(-end // 1000)}&limit={ROWS}")
        rows = decode(_PAYMENTS, answered(body))
        # What was paid, not what had been foretold.
        found = [payment(instrument, numbers, int(row.time), row.realized_rate) for row in rows]
        paid = page(found, begin, end)
        yield paid
        if len(rows) < ROWS or not paid:
            return
        end = paid[0].timestamp
