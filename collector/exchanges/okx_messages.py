"""The shapes of OKX's messages and answers, as msgspec decodes them, and what their rows are in our words.

Unknown fields are ignored; every number of the market is a text.
"""

from decimal import Context
from typing import Annotated, Literal

from msgspec import Meta, Raw, Struct, field

from collector.exchanges.events import CandleSeen
from collector.exchanges.texts import MAX_SECONDS, Numbers
from market import Instrument, MarketType, Side, Timeframe, Trade
from market.levels import Levels

NOTHING = Raw()
"""What a field holds that is not there."""
BARS = {
    "1m": Timeframe.M1,
    "5m": Timeframe.M5,
    "15m": Timeframe.M15,
    "1H": Timeframe.H1,
    "4H": Timeframe.H4,
    "1Dutc": Timeframe.D1,
}
"""Candles by OKX's name; `1D` opens at midnight in Hong Kong and is none of ours."""
_NUMBER = "0123456789.eE+-"
_EXACT = Context(prec=60, traps=[])
_Level = Annotated[list[str], Meta(min_length=2)]
"""["price","size","0","orders"]."""


class Argument(Struct, gc=False):
    """What a message is about: {"channel":"books","instId":"BTC-USDT"}."""

    channel: str = ""
    name: str = field(name="instId", default="")


class Message(Struct, gc=False):
    """Everything on the websocket but `pong`; which fields are there says what it is.

    {"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"a4d3ae55"}
    {"event":"error","code":"60012","msg":"Invalid request: …"}, {"event":"notice","code":"64008","msg":…}
    {"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{…}]}
    """

    event: str | None = None
    arg: Argument | None = None
    action: Literal["snapshot", "update"] | None = None
    data: Raw = NOTHING
    code: str = ""
    msg: str = ""


class TradeRow(Struct, gc=False):
    """{"instId":"BTC-USDT","tradeId":"338476307","px":"30236","sz":"0.0002","side":"buy","ts":"165…818"}.

    Where the channel merges fills, `count` says how many: the row is that of the last one's id.
    """

    trade_id: str = field(name="tradeId")
    price: str = field(name="px")
    size: str = field(name="sz")
    side: Literal["buy", "sell"]
    time: str = field(name="ts")
    count: str = "1"


class Book(Struct, gc=False):
    """{"asks":[["30243.5","1.44679","0","6"],…],"bids":[…],"ts":"165…","checksum":-914047754,"seqId":…}."""

    asks: list[_Level]
    bids: list[_Level]
    time: str = field(name="ts")
    checksum: Annotated[int, Meta(ge=-(2**31), lt=2**31)] | None = None
    sequence: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = field(name="seqId", default=None)
    previous: Annotated[int, Meta(ge=-1, le=2**63 - 1)] | None = field(name="prevSeqId", default=None)


Bar = Annotated[list[str], Meta(min_length=7)]
"""["ts","o","h","l","c","vol","volCcy","volCcyQuote","confirm"]; the last two were not always there."""


class Answer(Struct, gc=False):
    """A REST answer: {"code":"0","msg":"","data":[…]}."""

    code: str
    msg: str = ""
    data: Raw = NOTHING


class PastPayment(Struct, gc=False):
    """{"instId":"BTC-USDT-SWAP","fundingRate":"0.018","realizedRate":"0.017","fundingTime":"1597026383085"}."""

    realized_rate: str = field(name="realizedRate")
    time: Annotated[str, Meta(pattern="^[0-9]{1,15}$")] = field(name="fundingTime")


class ListedInstrument(Struct, gc=False, rename="camel"):
    """One instrument of /api/v5/public/instruments; what it does not have is an empty text."""

    inst_id: str
    inst_type: str
    state: str
    tick_sz: str
    lot_sz: str
    base_ccy: str = ""
    quote_ccy: str = ""
    settle_ccy: str = ""
    uly: str = ""
    ct_val: str = ""
    ct_mult: str = ""
    ct_type: str = ""
    exp_time: str = ""


def contract_text(listed: ListedInstrument) -> str:
    """The size of one contract, ctVal times ctMult; raises ValueError for what is none."""
    text = in_base(listed.ct_val, listed.ct_mult or "1")
    Numbers().price(text)
    return text


def in_base(size: str, contract: str | None) -> str:
    """A size in contracts, times the size of one, digit by digit; `size` itself without one.

    Trailing zeros stay, so that `in_contracts` finds the text that was sent.
    """
    if contract is None:
        return size
    if size.strip(_NUMBER):
        raise ValueError(f"not a number: {size[:40]!r}")
    # What is no number becomes NaN here, which no reader of numbers takes.
    return str(_EXACT.multiply(_EXACT.create_decimal(size), _EXACT.create_decimal(contract)))


def in_contracts(size: str, contract: str | None) -> str:
    """What `in_base` made `size` from."""
    if contract is None:
        return size
    _, digits, exponent = _EXACT.create_decimal(size).as_tuple()
    _, divisor, shift = _EXACT.create_decimal(contract).as_tuple()
    quotient = str(_integer(digits) // _integer(divisor))
    places = int(shift) - int(exponent)
    if places <= 0:
        return quotient + "0" * -places
    quotient = quotient.zfill(places + 1)
    return f"{quotient[:-places]}.{quotient[-places:]}"


def _integer(digits: tuple[int, ...]) -> int:
    return int("".join(map(str, digits)))


def linear_contract(instrument: Instrument) -> str | None:
    """The contract's size in base units, where that is what sizes are multiplied with."""
    return instrument.contract_size if instrument.market_type is MarketType.LINEAR else None


def microseconds(text: str) -> int:
    """Microseconds UTC of a text of milliseconds; raises ValueError for what is none."""
    if not (text.isascii() and text.isdigit() and len(text) < 16) or int(text) > MAX_SECONDS * 1000:
        raise ValueError(f"not unix milliseconds: {text[:40]!r}")
    return int(text) * 1000


def number(text: str) -> int:
    """An id; raises ValueError for what is none."""
    if not (text.isascii() and text.isdigit() and len(text) < 20) or int(text) >= 2**63:
        raise ValueError(f"not an id: {text[:40]!r}")
    return int(text)


def trade(instrument: Instrument, numbers: Numbers, row: TradeRow) -> Trade:
    """A single fill; raises ValueError for a text that cannot be."""
    trade_seq = number(row.trade_id)
    return Trade(
        instrument.symbol,
        microseconds(row.time),
        str(trade_seq),
        trade_seq,
        numbers.price(row.price),
        numbers.price(in_base(row.size, linear_contract(instrument))),
        Side(row.side),
    )


def levels(instrument: Instrument, numbers: Numbers, rows: list[_Level]) -> Levels:
    """Book levels with sizes as the tape has them; raises ValueError for a number that cannot be."""
    contract = linear_contract(instrument)
    return numbers.levels([(row[0], in_base(row[1], contract)) for row in rows])


def candle(instrument: Instrument, numbers: Numbers, timeframe: Timeframe, bar: Bar) -> CandleSeen:
    """A candle, which names no time of its own; raises ValueError for one that cannot be."""
    open_time = microseconds(bar[0])
    if timeframe.open_of(open_time) != open_time:
        raise ValueError(f"a {timeframe} candle does not open at {open_time}")
    first, high, low, last = numbers.candle(bar[1:5])
    return CandleSeen(
        symbol=instrument.symbol,
        timestamp=None,
        timeframe=timeframe,
        open_time=open_time,
        open=first,
        high=high,
        low=low,
        close=last,
        volume=numbers.amount(in_base(bar[5], linear_contract(instrument))),
        buy_volume=None,
        trade_count=None,
        is_closed=len(bar) > 8 and bar[8] == "1",
    )
