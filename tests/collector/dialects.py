"""What the tests that every adapter passes must know of each exchange, and what it was heard to say."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import recordings

from collector.exchanges import EXCHANGES, find
from collector.exchanges.adapter import Adapter
from collector.exchanges.events import Answer, Closing, Event, Heard, Refused, Subscribed
from collector.exchanges.packed import is_packed, unpack
from collector.recording import Received, RestAnswer, read
from market import Instrument

SAMPLED_AT = 1_700_000_000_000_000
"""When single messages of the documents count as received."""
BINANCE_CONTROL = (
    (b'{"result":null,"id":1}', Subscribed("streams")),
    (b'{"error":{"code":2,"msg":"Invalid request"},"id":1}', Refused("2: Invalid request")),
    (b'{"e":"serverShutdown","E":1770123456789}', Closing("the server is shutting down")),
)
COINBASE_HEARTBEAT = (
    b'{"type":"heartbeat","sequence":90,"last_trade_id":20,"product_id":"BTC-USD",'
    b'"time":"2023-11-14T22:13:20.028459Z"}'
)


@dataclass(frozen=True)
class Dialect:
    """One exchange's.

    Attributes:
        symbols: two that it lists, unified and by its own names.
        control: messages that are no data, and what they say: acks, refusals, what keeps a connection alive.
        simulated: symbols of which its simulator, where there is one, is asked.
        samples: single messages instead of a recording.
        said: as samples, where the documents' own are not to be had.
        path: of the connection that all this comes over, where nothing else tells what it is about.
        like: how a symbol is to be written, in the words of the refusal.
        has_checked_book: whether a lost change of the book is noticed.
    """

    symbols: tuple[tuple[str, str], tuple[str, str]]
    control: tuple[tuple[bytes, Event], ...]
    simulated: tuple[str, str] = ("BTC/USDT", "ETH/USDT")
    samples: str = ""
    said: tuple[bytes, ...] = ()
    path: str = ""
    like: str = "BTC/USDT"
    has_checked_book: bool = True


DIALECTS = {
    "binance": Dialect((("BTC/USDT", "BTCUSDT"), ("ETH/BTC", "ETHBTC")), BINANCE_CONTROL),
    "binanceusdm": Dialect(
        (("BTC/USDT:USDT", "BTCUSDT"), ("ETH/USDT:USDT-261225", "ETHUSDT_261225")),
        BINANCE_CONTROL,
        simulated=("BTC/USDT:USDT", "ETH/USDT:USDT"),
        like="BTC/USDT:USDT",
    ),
    "bybit": Dialect(
        (("BTC/USDT", "BTCUSDT"), ("ETH/BTC", "ETHBTC")),
        (
            (b'{"success":true,"ret_msg":"","conn_id":"a","op":"subscribe"}', Subscribed("topics")),
            (b'{"success":false,"ret_msg":"Invalid topic","op":"subscribe"}', Refused("Invalid topic")),
            (b'{"success":true,"ret_msg":"pong","conn_id":"a","op":"ping"}', Heard("pong")),
        ),
        said=(
            (
                b'{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1672304486868,"data":['
                b'{"T":1672304486865,"s":"BTCUSDT","S":"Buy","v":"0.001","p":"16578.50",'
                b'"i":"2290000000061666279","BT":false,"RPI":false,"seq":1783284617},'
                b'{"T":1672304486865,"s":"BTCUSDT","S":"Buy","v":"0.002","p":"16578.51",'
                b'"i":"2290000000061666280","BT":false,"RPI":true,"seq":1783284617}]}'
            ),
            (
                b'{"topic":"orderbook.200.BTCUSDT","type":"snapshot","ts":1672304484978,"data":{"s":"BTCUSDT",'
                b'"b":[["16493.50","0.006"],["16493.00","0.100"]],"a":[["16611.00","0.029"],["16612.00","0.213"]],'
                b'"u":18521288,"seq":7961638724},"cts":1672304484976}'
            ),
            (
                b'{"topic":"orderbook.200.BTCUSDT","type":"delta","ts":1672304485078,"data":{"s":"BTCUSDT",'
                b'"b":[["16493.00","0"]],"a":[["16612.00","0.5"]],"u":18521289,"seq":7961638730},'
                b'"cts":1672304485076}'
            ),
            (
                b'{"topic":"kline.1.BTCUSDT","data":[{"start":1672304460000,"end":1672304519999,"interval":"1",'
                b'"open":"16549.5","close":"16577","high":"16577","low":"16508","volume":"2.081",'
                b'"turnover":"34666.4005","confirm":false,"timestamp":1672304486882}],"ts":1672304486882,'
                b'"type":"snapshot"}'
            ),
        ),
        path="/v5/public/spot",
    ),
    "coinbase": Dialect(
        (("BTC/USD", "BTC-USD"), ("ETH/BTC", "ETH-BTC")),
        (
            (
                b'{"type":"subscriptions","channels":[{"name":"matches","product_ids":["BTC-USD"]}]}',
                Subscribed("matches", ("BTC/USD",)),
            ),
            (
                b'{"type":"error","message":"Failed to subscribe","reason":"no such product"}',
                Refused("Failed to subscribe: no such product"),
            ),
            (COINBASE_HEARTBEAT, Heard("heartbeat", "BTC/USD", SAMPLED_AT + 28459, 20)),
        ),
        simulated=("BTC/USD", "ADA/EUR"),
        has_checked_book=False,
    ),
    "htx": Dialect(
        (("BTC/USDT", "btcusdt"), ("ETH/BTC", "ethbtc")),
        (
            (
                b'{"id":"1","status":"ok","subbed":"market.btcusdt.trade.detail","ts":1700000000000}',
                Subscribed("trade.detail", ("BTC/USDT",)),
            ),
            (
                b'{"status":"error","err-code":"bad-request","err-msg":"invalid topic","id":"1","ts":1}',
                Refused("bad-request: invalid topic"),
            ),
            (b'{"ping":1618678073643}', Answer('{"pong":1618678073643}')),
            (b'{"id":"1","status":"ok","unsubbed":"market.btcusdt.depth.step0","ts":1}', Heard("unsubbed")),
        ),
        has_checked_book=False,
    ),
    "kraken": Dialect(
        (("BTC/USD", "BTC/USD"), ("DOGE/BTC", "DOGE/BTC")),
        (
            (
                b'{"method":"subscribe","success":true,"result":{"channel":"trade","symbol":"BTC/USD"}}',
                Subscribed("trade", ("BTC/USD",)),
            ),
            (
                b'{"method":"subscribe","success":false,"error":"unknown","symbol":"A/B"}',
                Refused("unknown A/B"),
            ),
            (b'{"channel":"heartbeat"}', Heard("heartbeat")),
            (b'{"method":"pong","req_id":1}', Heard("pong")),
        ),
        simulated=("BTC/USD", "DOGE/USDT"),
        samples="messages/kraken/ws_*.json",
    ),
    "kraken_v1": Dialect(
        (("BTC/USD", "XBT/USD"), ("DOGE/BTC", "XDG/XBT")),
        (
            (
                b'{"event":"subscriptionStatus","channelName":"trade","pair":"XBT/USD","status":"subscribed"}',
                Subscribed("trade", ("BTC/USD",)),
            ),
            (
                b'{"event":"subscriptionStatus","pair":"A/B","status":"error","errorMessage":"unknown pair"}',
                Refused("unknown pair A/B"),
            ),
            (b'{"event":"heartbeat"}', Heard("heartbeat")),
        ),
    ),
    "okx": Dialect(
        (("BTC/USDT", "BTC-USDT"), ("ETH/BTC", "ETH-BTC")),
        (
            (
                b'{"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"a"}',
                Subscribed("books", ("BTC/USDT",)),
            ),
            (b'{"event":"error","code":"60012","msg":"Invalid request"}', Refused("60012: Invalid request")),
            (b"pong", Heard("pong")),
            (b'{"event":"notice","code":"64008","msg":"upgrade"}', Closing("upgrade")),
        ),
    ),
    "simulated": Dialect((("BTC/USDT", "BTCUSDT"), ("ETH/USDT", "ETHUSDT")), BINANCE_CONTROL),
}
FILES = {**recordings.FILES, "simulated": recordings.FILES["binance"]}
RECORDED = sorted(set(FILES) & set(EXCHANGES))
"""Exchanges of which there are whole sessions."""
HEARD = sorted(
    set(RECORDED) | {name for name, dialect in DIALECTS.items() if dialect.samples or dialect.said}
)
"""Exchanges of which there is any message."""


@cache
def frames(folder: Path, exchange: str) -> list[Received | RestAnswer]:
    """What the exchange said, in the order of time."""
    if exchange in FILES:
        found = read([folder / name for name in FILES[exchange]])
        return [frame for frame in found if isinstance(frame, Received | RestAnswer)]
    dialect = DIALECTS[exchange]
    said = dialect.said or [path.read_bytes() for path in sorted(folder.glob(dialect.samples))]
    return [Received(SAMPLED_AT, message) for message in said]


def messages(folder: Path, exchange: str) -> list[bytes]:
    """Its websocket messages."""
    return [frame.message for frame in frames(folder, exchange) if isinstance(frame, Received)]


def text_of(message: bytes) -> str:
    """A message as the text that it is, or holds."""
    return (unpack(message) if is_packed(message) else message).decode()


def learned(folder: Path, exchange: str) -> Adapter:
    """A new adapter that knows the instruments of the recording's list."""
    known = find(exchange)
    known.add_instruments(listed(folder, exchange))
    return known


@cache
def listed(folder: Path, exchange: str) -> tuple[Instrument, ...]:
    """Every instrument of the recording's lists."""
    known = find(exchange)
    answers = [frame for frame in frames(folder, exchange) if isinstance(frame, RestAnswer)]
    # The lists are recorded again and again.
    newest = {answer.url: answer for answer in answers}
    found = [item for answer in newest.values() for item in known.parse_rest(answer.url, answer.body)]
    return tuple(item for item in found if isinstance(item, Instrument))
