"""The shapes of Bybit's v5 messages and answers, as msgspec decodes them; unknown fields are ignored."""

from typing import Annotated, Literal

from msgspec import Meta, Raw, Struct, field

from collector.exchanges.texts import MAX_SECONDS

Milliseconds = Annotated[int, Meta(ge=0, le=MAX_SECONDS * 1000)]
MillisecondText = Annotated[str, Meta(pattern="^[0-9]{1,15}$")]
FILLS_OF_ONE_SEQUENCE = 1024
"""No message holds more fills."""
MAX_SEQUENCE = 2**63 // FILLS_OF_ONE_SEQUENCE
_Sequence = Annotated[int, Meta(ge=0, lt=MAX_SEQUENCE)]
_SequenceText = Annotated[str, Meta(pattern="^[0-9]{1,16}$")]
_Id = Annotated[str, Meta(min_length=1, max_length=100)]
_Side = Literal["Buy", "Sell"]
_Levels = list[tuple[str, str]]


class Message(Struct, gc=False):
    """{"topic":…,"type":"delta","ts":…,"data":…,"cts":…} or {"success":true,"ret_msg":"","op":"ping"}."""

    topic: str | None = None
    kind: str = field(name="type", default="")
    time: Milliseconds | None = field(name="ts", default=None)
    engine_time: Milliseconds | None = field(name="cts", default=None)
    data: Raw = Raw(b"null")
    op: str | None = None
    success: bool | None = None
    reason: str = field(name="ret_msg", default="")


class Fill(Struct, gc=False):
    """{"T":1672304486865,"s":"BTCUSDT","S":"Buy","v":"0.001","p":"16578.50","i":"20f4…","BT":false,"seq":7}."""

    time: Milliseconds = field(name="T")
    symbol: str = field(name="s")
    side: _Side = field(name="S")
    size: str = field(name="v")
    price: str = field(name="p")
    trade_id: _Id = field(name="i")
    is_block_trade: bool = field(name="BT", default=False)
    sequence: _Sequence = field(name="seq", default=0)


class Book(Struct, gc=False):
    """{"s":"BTCUSDT","b":[["16493.50","0.006"]],"a":[["16611.00","0"]],"u":18521288,"seq":7961638724}."""

    symbol: str = field(name="s")
    bids: _Levels = field(name="b")
    asks: _Levels = field(name="a")
    update_id: Annotated[int, Meta(ge=0, le=2**63 - 1)] = field(name="u")


class Bar(Struct, gc=False):
    """{"start":1672324800000,"interval":"1","open":"16649.5",…,"confirm":false,"timestamp":1672324988882}."""

    open_time: Milliseconds = field(name="start")
    interval: str
    open: str
    high: str
    low: str
    close: str
    volume: str
    is_closed: bool = field(name="confirm")
    time: Milliseconds = field(name="timestamp")


class Answer(Struct, gc=False, rename="camel"):
    """{"retCode":0,"retMsg":"OK","result":{…},"time":1672025956592}: every REST answer."""

    ret_code: int
    ret_msg: str = ""
    result: Raw = Raw(b"{}")
    time: Milliseconds = 0


class PastFill(Struct, gc=False, rename="camel"):
    """{"execId":"a905…","symbol":"BTCUSDT","price":"27450.5","size":"0.005","side":"Buy","time":"17098…",…}."""

    exec_id: _Id
    price: str
    size: str
    side: _Side
    time: MillisecondText
    is_block_trade: bool = False
    sequence: _SequenceText | _Sequence = field(name="seq", default=0)


class PastFills(Struct, gc=False):
    """The result of /v5/market/recent-trade, newest first."""

    fills: list[PastFill] = field(name="list")


class PastBar(Struct, array_like=True, gc=False):
    """["1670608800000","17071","17073","17027","17055.5","268611","15.74462667"]."""

    open_time: MillisecondText
    open: str
    high: str
    low: str
    close: str
    volume: str


class PastBars(Struct, gc=False):
    """The result of /v5/market/kline, newest first."""

    bars: list[PastBar] = field(name="list")


class PastPayment(Struct, gc=False):
    """{"symbol":"ETHPERP","fundingRate":"0.0001","fundingRateTimestamp":"1672041600000"}."""

    rate: str = field(name="fundingRate")
    time: MillisecondText = field(name="fundingRateTimestamp")


class PastPayments(Struct, gc=False):
    """The result of /v5/market/funding/history, newest first."""

    payments: list[PastPayment] = field(name="list")


class _PriceFilter(Struct, frozen=True, gc=False, rename="camel"):
    tick_size: str | None = None


class _LotFilter(Struct, frozen=True, gc=False, rename="camel"):
    base_precision: str | None = None
    qty_step: str | None = None
    min_order_amt: str | None = None
    min_notional_value: str | None = None


class Listed(Struct, gc=False, rename="camel"):
    """One of /v5/market/instruments-info; a dated future says when it is delivered."""

    symbol: str
    status: str
    base_coin: str
    quote_coin: str
    settle_coin: str = ""
    contract_type: str = ""
    delivery_time: MillisecondText = "0"
    price_filter: _PriceFilter = _PriceFilter()
    lot_size_filter: _LotFilter = _LotFilter()


class Instruments(Struct, gc=False):
    """The result of /v5/market/instruments-info."""

    instruments: list[Listed] = field(name="list")
    cursor: str | None = field(name="nextPageCursor", default=None)
