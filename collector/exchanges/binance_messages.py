"""The shapes of Binance's messages and answers, as msgspec decodes them; unknown fields are ignored."""

from typing import Annotated

from msgspec import Meta, Raw, Struct, field

from collector.exchanges.texts import MAX_SECONDS

Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Milliseconds = Annotated[int, Meta(ge=0, le=MAX_SECONDS * 1000)]


class SingleTrade(Struct, tag_field="e", tag="trade", gc=False):
    """{"e":"trade","E":…,"s":"BNBBTC","t":12345,"p":"0.001","q":"100","T":…,"m":true,"M":true}."""

    symbol: str = field(name="s")
    trade_id: Id = field(name="t")
    price: str = field(name="p")
    size: str = field(name="q")
    time: Milliseconds = field(name="T")
    is_buyer_maker: bool = field(name="m")


class AggregateTrade(Struct, tag_field="e", tag="aggTrade", gc=False):
    """{"e":"aggTrade",…,"a":15683430,"p":"0.3528","q":"58.0","f":100,"l":105,"T":…,"m":false}."""

    symbol: str = field(name="s")
    trade_id: Id = field(name="a")
    price: str = field(name="p")
    size: str = field(name="q")
    first_fill: Id = field(name="f")
    last_fill: Id = field(name="l")
    time: Milliseconds = field(name="T")
    is_buyer_maker: bool = field(name="m")


class DepthUpdate(Struct, tag_field="e", tag="depthUpdate", gc=False):
    """{"e":"depthUpdate","E":…,"s":"NKNUSDT","U":499869753,"u":499869754,"b":[["0.35","4.0"]],"a":[]}."""

    event_time: Milliseconds = field(name="E")
    symbol: str = field(name="s")
    first: Id = field(name="U")
    last: Id = field(name="u")
    bids: Raw = field(name="b")
    asks: Raw = field(name="a")


class FuturesDepthUpdate(Struct, tag_field="e", tag="depthUpdate", gc=False):
    """{"e":"depthUpdate",…,"T":1568014460891,"s":"BTCUSDT","U":157,"u":160,"pu":149,"b":[…],"a":[…]}."""

    time: Milliseconds = field(name="T")
    symbol: str = field(name="s")
    first: Id = field(name="U")
    last: Id = field(name="u")
    previous: Id = field(name="pu")
    bids: Raw = field(name="b")
    asks: Raw = field(name="a")


class Bar(Struct, gc=False):
    """The candle of a kline message."""

    open_time: Milliseconds = field(name="t")
    interval: str = field(name="i")
    open: str = field(name="o")
    high: str = field(name="h")
    low: str = field(name="l")
    close: str = field(name="c")
    volume: str = field(name="v")
    buy_volume: str = field(name="V")
    trade_count: Id = field(name="n")
    is_closed: bool = field(name="x")


class Kline(Struct, tag_field="e", tag="kline", gc=False):
    """{"e":"kline","E":…,"s":"NKNUSDT","k":{"t":…,"i":"1m","o":…,"c":…,"h":…,"l":…,"v":…,"x":false,…}}."""

    event_time: Milliseconds = field(name="E")
    symbol: str = field(name="s")
    bar: Bar = field(name="k")


class Shutdown(Struct, tag_field="e", tag="serverShutdown", gc=False):
    """{"e":"serverShutdown","E":…}."""

    event_time: Milliseconds = field(name="E")


class BestPrices(Struct, gc=False):
    """{"u":499869768,"s":"NKNUSDT","b":"0.3521","B":"672.0","a":"0.3526","A":"3199.0"}."""

    update_id: Id = field(name="u")
    symbol: str = field(name="s")
    bid: str = field(name="b")
    ask: str = field(name="a")


Payload = SingleTrade | DepthUpdate | Kline | AggregateTrade | Shutdown


class Combined(Struct, gc=False):
    """{"stream":"nknusdt@depth@100ms","data":{…}}."""

    data: Payload


FuturesPayload = AggregateTrade | FuturesDepthUpdate | Kline | Shutdown


class CombinedFutures(Struct, gc=False):
    """{"stream":"btcusdt@depth@100ms","data":{…}}."""

    data: FuturesPayload


class WholeBook(Struct, gc=False):
    """{"lastUpdateId":1027024,"bids":[["4.0","431.0"]],"asks":[…]}: the answer of /api/v3/depth."""

    sequence: Id = field(name="lastUpdateId")
    bids: Raw
    asks: Raw


class Filter(Struct, gc=False, rename="camel"):
    """One of a symbol's `filters`, told by `filterType`."""

    filter_type: str
    tick_size: str | None = None
    step_size: str | None = None
    min_notional: str | None = None
    notional: str | None = None
    """What futures call `min_notional`."""


class ListedSymbol(Struct, gc=False, rename="camel"):
    """One symbol of /api/v3/exchangeInfo."""

    symbol: str
    status: str
    base_asset: str
    quote_asset: str
    filters: list[Filter]


class ExchangeInfo(Struct, gc=False):
    """The answer of /api/v3/exchangeInfo."""

    symbols: list[ListedSymbol]


class ListedContract(ListedSymbol, gc=False, rename="camel"):
    """One symbol of /fapi/v1/exchangeInfo; a perpetual is delivered in 2100, or when it is delisted."""

    margin_asset: str
    delivery_date: Milliseconds


class FuturesInfo(Struct, gc=False):
    """The answer of /fapi/v1/exchangeInfo."""

    symbols: list[ListedContract]
