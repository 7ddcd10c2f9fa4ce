"""The shapes of HTX's messages and answers, as msgspec decodes them, and what their rows are in our words.

Unknown fields are ignored. Numbers are bare, `9.121e-07` among them: they are kept as their text. A trade's
`id` has up to 27 digits and is not read; `tradeId` is the one that counts.
"""

from typing import Annotated, Literal

from msgspec import Meta, Raw, Struct, field

from collector.exchanges.events import CandleSeen
from collector.exchanges.texts import MAX_SECONDS, Numbers
from market import Side, Timeframe, Trade
from market.levels import Levels
from market.timeframe import MICROSECONDS

Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Milliseconds = Annotated[int, Meta(ge=0, le=MAX_SECONDS * 1000)]
Seconds = Annotated[int, Meta(ge=0, le=MAX_SECONDS)]
NOTHING = Raw()
"""What a field holds that is not there."""
RawLevels = list[tuple[Raw, Raw]]
PERIODS = {
    "1min": Timeframe.M1,
    "5min": Timeframe.M5,
    "15min": Timeframe.M15,
    "60min": Timeframe.H1,
    "4hour": Timeframe.H4,
}
"""Candles by HTX's name. Its days begin at midnight in Singapore: they are none of ours."""


class Message(Struct, gc=False, rename="kebab"):
    """Everything on the websocket; which fields are there says what it is.

    {"ping":1618678073643}
    {"ch":"market.btcusdt.trade.detail","ts":1618678027942,"tick":{…}}
    {"id":"1","status":"ok","subbed":"market.btcusdt.depth.step0","ts":…} and "unsubbed"
    {"id":"1","status":"ok","rep":"market.btcusdt.mbp.150","data":{…}}
    {"id":"1","status":"error","err-code":"bad-request","err-msg":"invalid topic …","ts":…}
    """

    ch: str | None = None
    ts: Milliseconds | None = None
    tick: Raw = NOTHING
    ping: Annotated[int, Meta(ge=0)] | None = None
    rep: str | None = None
    data: Raw = NOTHING
    subbed: str | None = None
    unsubbed: str | None = None
    status: str = ""
    err_code: str = ""
    err_msg: str = ""


class TradeRow(Struct, gc=False):
    """{"id":100182534526255757567432481,"ts":…,"tradeId":100045088885,"amount":20995.88,"price":9.2e-07,…}."""

    trade_id: Id = field(name="tradeId")
    time: Milliseconds = field(name="ts")
    price: Raw
    amount: Raw
    direction: Literal["buy", "sell"]


class Trades(Struct, gc=False):
    """The `tick` of trade.detail: trades, the newest first."""

    data: list[TradeRow]


class Depth(Struct, gc=False):
    """The `tick` of depth.step0: {"bids":[[9.121e-07,92730.24],…],"asks":[…],"version":…,"ts":…}."""

    bids: RawLevels
    asks: RawLevels
    version: Id
    time: Milliseconds = field(name="ts")


class Change(Struct, gc=False):
    """The `tick` of mbp.N: {"seqNum":101,"prevSeqNum":100,"bids":[[10.5,0]],"asks":[]}, a side may miss."""

    sequence: Id = field(name="seqNum")
    previous: Id = field(name="prevSeqNum")
    bids: RawLevels = []
    asks: RawLevels = []


class WholeBook(Struct, gc=False):
    """The `data` that answers a request for mbp.N: {"seqNum":100,"bids":[[…]],"asks":[[…]]}."""

    sequence: Id = field(name="seqNum")
    bids: RawLevels
    asks: RawLevels


class Bar(Struct, gc=False):
    """The `tick` of kline.1min, and a row of /market/history/kline.

    `id` is when it opens, `amount` its volume in base units.
    """

    open_time: Seconds = field(name="id")
    open: Raw
    high: Raw
    low: Raw
    close: Raw
    amount: Raw
    count: Id


class Answer(Struct, gc=False, rename="kebab"):
    """A REST answer: {"status":"ok","data":[…]}, or {"status":"error","err-code":…,"err-msg":…}."""

    status: str
    data: Raw = NOTHING
    err_code: str = ""
    err_msg: str = ""


class PastTrade(TradeRow, gc=False):
    """A trade of /market/history/trade: as on the websocket, but for `trade-id`."""

    trade_id: Id = field(name="trade-id")


class PastTrades(Struct, gc=False):
    """One of the groups of /market/history/trade: the trades of one taker's order."""

    data: list[PastTrade]


class ListedSymbol(Struct, gc=False, rename="kebab"):
    """One symbol of /v1/common/symbols; precisions are numbers of decimals."""

    symbol: str
    base_currency: str
    quote_currency: str
    price_precision: Annotated[int, Meta(ge=0, le=30)]
    amount_precision: Annotated[int, Meta(ge=0, le=30)]
    state: str
    min_order_value: Raw = NOTHING


def trade(symbol: str, numbers: Numbers, row: TradeRow) -> Trade:
    """A row of either kind; raises ValueError for a number that cannot be."""
    return Trade(
        symbol,
        row.time * 1000,
        str(row.trade_id),
        row.trade_id,
        numbers.price(_text(row.price)),
        numbers.price(_text(row.amount)),
        Side(row.direction),
    )


def levels(numbers: Numbers, rows: RawLevels) -> Levels:
    """Book levels, each number as it was written; raises ValueError for one that cannot be."""
    return numbers.levels([(_text(price), _text(size)) for price, size in rows])


def candle(
    symbol: str, numbers: Numbers, timeframe: Timeframe, bar: Bar, timestamp: int | None, *, is_closed: bool
) -> CandleSeen:
    """A candle that was seen at `timestamp`; raises ValueError for one that cannot be."""
    open_time = bar.open_time * MICROSECONDS
    if timeframe.open_of(open_time) != open_time:
        raise ValueError(f"a {timeframe} candle does not open at {open_time}")
    first, high, low, last = numbers.candle(map(_text, (bar.open, bar.high, bar.low, bar.close)))
    return CandleSeen(
        symbol=symbol,
        timestamp=timestamp,
        timeframe=timeframe,
        open_time=open_time,
        open=first,
        high=high,
        low=low,
        close=last,
        volume=numbers.amount(_text(bar.amount)),
        buy_volume=None,
        trade_count=bar.count,
        is_closed=is_closed,
    )


def _text(number: Raw) -> str:
    return bytes(number).decode()
