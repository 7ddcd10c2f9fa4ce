"""HTX's past trades and candles over REST, sans I/O: the newest 2000 of each, without paging.

Source: https://www.htx.com/en-us/opend/newApiPages (spot, market data), as of November 2026.
"""

from msgspec import Raw
from msgspec.json import Decoder

from collector.exchanges.adapter import (
    CandlePages,
    MalformedMessage,
    RestRequest,
    TradePages,
    TradeRange,
    decode,
)
from collector.exchanges.htx_messages import PERIODS, Answer, Bar, PastTrades, candle, trade
from collector.exchanges.paging import Downwards
from collector.exchanges.texts import Numbers
from market import Instrument, Timeframe

SIZE = 2000
_ANSWER = Decoder(Answer)
_TRADES = Decoder(list[PastTrades])
_BARS = Decoder(list[Bar])
_NAMES = {timeframe: name for name, timeframe in PERIODS.items()}


def answered(body: bytes | str) -> Raw:
    """The `data` of an answer.

    Raises:
        MalformedMessage: it is damaged, or an error in the exchange's words.
    """
    answer = decode(_ANSWER, body)
    if answer.status != "ok" or not bytes(answer.data):
        raise MalformedMessage(f"{answer.err_code or answer.status}: {answer.err_msg}"[:200])
    return answer.data


def trade_pages(instrument: Instrument, numbers: Numbers, wanted: TradeRange) -> TradePages:
    """What of the range is among the newest trades: nothing older is to be had."""
    body = yield RestRequest(f"/market/history/trade?symbol={instrument.exchange_symbol}&size={SIZE}")
    groups = decode(_TRADES, answered(body))
    try:
        trades = [trade(instrument.symbol, numbers, row) for group in groups for row in group.data]
    except ValueError as error:
        raise MalformedMessage(str(error)) from None
    pages = Downwards(wanted)
    if (page := pages.take(trades)) is not None:
        yield page
    if not pages.is_done and (page := pages.stop()) is not None:
        yield page


def candle_pages(
    instrument: Instrument, numbers: Numbers, timeframe: Timeframe, begin: int, end: int
) -> CandlePages | None:
    """Those of the range that are among the newest; the last of them is still open."""
    period = _NAMES.get(timeframe)
    return None if period is None else _candle_pages(instrument, numbers, period, begin, end)


def _candle_pages(instrument: Instrument, numbers: Numbers, period: str, begin: int, end: int) -> CandlePages:
    path = f"/market/history/kline?symbol={instrument.exchange_symbol}&period={period}&size={SIZE}"
    bars = decode(_BARS, answered((yield RestRequest(path))))
    bars.sort(key=lambda bar: bar.open_time)
    symbol, timeframe = instrument.symbol, PERIODS[period]
    try:
        candles = [candle(symbol, numbers, timeframe, bar, None, is_closed=True) for bar in bars[:-1]]
    except ValueError as error:
        raise MalformedMessage(str(error)) from None
    yield [each for each in candles if begin <= each.open_time < end]
