import gzip
import json
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.exchanges import find
from collector.exchanges.adapter import MalformedMessage, RestRequest, TradeRange
from collector.exchanges.events import (
    Answer,
    BookDelta,
    BookReset,
    CandleSeen,
    Heard,
    Refused,
    Subscribed,
    Unhandled,
)
from collector.exchanges.packed import MAX_UNPACKED, is_packed, unpack
from market import Side, Timeframe, Trade, WrongUse

TIME = 1_700_000_000_123
ROW = (
    '{"id":100182534526255757567432481,"ts":%d,"tradeId":%d,"amount":20995.88,"price":9.2e-07,'
    '"direction":"buy"}'
)
BAR = '{"id":1699999980,"open":10.5,"close":10.7,"low":10.1,"high":11,"amount":3.5,"vol":37.1,"count":9}'


def parse(text, known=None):
    return (known or find("htx")).parse(gzip.compress(text.encode(), mtime=0))


def said(topic, tick, ts=TIME):
    return f'{{"ch":"market.btcusdt.{topic}","ts":{ts},"tick":{tick}}}'


def trades(*rows):
    return said("trade.detail", f'{{"id":1,"ts":{TIME},"data":[{",".join(rows)}]}}')


def trade(number, time=TIME):
    return Trade("BTC/USDT", time * 1000, str(number), number, 9.2e-07, 20995.88, Side.BUY)


def test_the_trades_of_a_message_come_in_the_order_of_the_tape():
    message = trades(ROW % (TIME, 13), ROW % (TIME, 12), ROW % (TIME - 1, 11))
    assert [event.trade for event in parse(message)] == [trade(11, TIME - 1), trade(12), trade(13)]


def test_a_whole_book_keeps_the_text_of_its_numbers():
    tick = f'{{"bids":[[9.121e-07,92730.24],[9.12E-7,0.10]],"asks":[[1,5.0]],"version":77,"ts":{TIME - 2}}}'
    assert parse(said("depth.step0", tick)) == [
        BookReset(
            "BTC/USDT",
            (TIME - 2) * 1000,
            [("9.121e-07", "92730.24"), ("9.12E-7", "0.10")],
            [("1", "5.0")],
            sequence=77,
        )
    ]


def test_changes_of_a_book_and_the_answer_they_begin_with():
    change = '{"seqNum":101,"prevSeqNum":100,"bids":[[10.5,0]]}'
    assert parse(said("mbp.150", change)) == [
        BookDelta("BTC/USDT", TIME * 1000, [("10.5", "0")], [], first_sequence=100, last_sequence=101)
    ]
    data = '{"seqNum":100,"bids":[[1,2]],"asks":[]}'
    (reset,) = parse(f'{{"id":"1","rep":"market.btcusdt.mbp.150","status":"ok","data":{data}}}')
    assert reset == BookReset("BTC/USDT", None, [("1", "2")], [], sequence=100)


def test_a_change_follows_from_the_one_that_it_names():
    check = find("htx").book_sequence("BTC/USDT")

    def change(previous, last):
        return BookDelta("BTC/USDT", 0, [], [], first_sequence=previous, last_sequence=last)

    assert check.follows(change(99, 100)) is False
    check.reset(BookReset("BTC/USDT", 0, [], [], sequence=100))
    assert check.follows(change(98, 99)) is None
    assert check.follows(change(100, 103)) is True
    assert check.follows(change(104, 105)) is False
    assert check.follows(change(103, 104)) is True


def test_a_candle_is_never_marked_closed():
    (candle,) = parse(said("kline.1min", BAR))
    assert candle == CandleSeen(
        symbol="BTC/USDT",
        timestamp=TIME * 1000,
        timeframe=Timeframe.M1,
        open_time=1_699_999_980_000_000,
        open=10.5,
        high=11.0,
        low=10.1,
        close=10.7,
        volume=3.5,
        buy_volume=None,
        trade_count=9,
        is_closed=False,
    )
    assert parse(said("kline.1day", BAR)) == [Heard("kline.1day", "BTC/USDT", TIME * 1000)]


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ('{"ping":1618678073643}', Answer('{"pong":1618678073643}')),
        ('{"status":"ok","subbed":"market.btcusdt.kline.1min"}', Subscribed("kline.1min", ("BTC/USDT",))),
        ('{"status":"ok","unsubbed":"market.btcusdt.kline.1min"}', Heard("unsubbed")),
        ('{"status":"error","err-code":"bad","err-msg":"no topic"}', Refused("bad: no topic")),
        (said("bbo", "{}"), Heard("bbo", "BTC/USDT", TIME * 1000)),
        (said("depth.step1", "{}"), Heard("depth.step1", "BTC/USDT", TIME * 1000)),
        (said("nothing", "{}"), Unhandled("nothing")),
        ('{"rep":"market.btcusdt.kline.1min","status":"ok","data":[]}', Heard("kline.1min", "BTC/USDT")),
        ("{}", Unhandled("none of ch, ping, status, subbed, rep")),
        ("[]", Unhandled("a list")),
    ],
)
def test_other_messages(message, event):
    assert parse(message) == [event]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("20995.88", '"20995.88"'),
        ("20995.88", "0"),
        ("9.2e-07", "-1"),
        ("9.2e-07", "1e999"),
        ("9.2e-07", "1e-300"),
        ("9.2e-07", "null"),
        ('"buy"', '"hold"'),
        ('"tradeId":1', '"tradeId":1.5'),
        ('"tradeId":1', '"tradeId":99999999999999999999'),
        (str(TIME), "99999999999999999"),
    ],
)
def test_a_trade_that_cannot_be_is_damaged(old, new):
    message = trades(ROW % (TIME, 1))
    assert old in message
    with pytest.raises(MalformedMessage):
        parse(message.replace(old, new))


def test_a_book_without_a_version_or_a_candle_between_minutes_is_damaged():
    for topic, tick in (
        ("depth.step0", '{"bids":[],"asks":[],"ts":1}'),
        ("depth.step0", '{"bids":[[0,1]],"asks":[],"version":1,"ts":1}'),
        ("kline.1min", BAR.replace("1699999980", "1699999981")),
        ("kline.1min", BAR.replace('"low":10.1', '"low":12')),
    ):
        with pytest.raises(MalformedMessage):
            parse(said(topic, tick))


@given(st.binary(max_size=2000))
def test_what_is_packed_unpacks(data):
    message = gzip.compress(data, mtime=0)
    assert is_packed(message)
    assert unpack(message) == data
    for broken in (message[:-1], message * 2, message[:-8] + bytes(8) if data else message[:5]):
        with pytest.raises(MalformedMessage):
            unpack(broken)


def test_a_bomb_is_refused_before_it_is_whole():
    assert len(unpack(gzip.compress(bytes(MAX_UNPACKED), mtime=0))) == MAX_UNPACKED
    with pytest.raises(MalformedMessage, match="unpacks to more than"):
        find("htx").parse(gzip.compress(bytes(100 * MAX_UNPACKED // 8), 1, mtime=0))


def test_requests():
    known = find("htx")
    (line,) = known.lines(["BTC/USDT", "ETH/BTC"])
    assert line.path == "/ws"
    requests = [msgspec.json.decode(text) for text in line.subscribe]
    assert [request["sub"] for request in requests] == [
        f"market.{name}.{channel}"
        for name in ("btcusdt", "ethbtc")
        for channel in ("trade.detail", "depth.step0", "kline.1min")
    ]
    assert len({request["id"] for request in requests}) == 6
    again = [msgspec.json.decode(text) for text in known.resubscribe_book("BTC/USDT")]
    assert [next(iter(request.items())) for request in again] == [
        ("unsub", "market.btcusdt.depth.step0"),
        ("sub", "market.btcusdt.depth.step0"),
    ]


def test_the_longest_quote_ends_a_symbol():
    known = find("htx")
    assert known.instrument_of("ethusdt").symbol == "ETH/USDT"
    assert known.instrument_of("fil3susdt").symbol == "FIL3S/USDT"
    assert known.instrument_of("htusdt").symbol == "HT/USDT"
    for name in ("BTCUSDT", "usdt", "btcxyz"):
        with pytest.raises(WrongUse, match="cannot resolve"):
            known.instrument_of(name)


def test_the_list_of_symbols():
    listed = {
        "symbol": "btcusdt",
        "base-currency": "btc",
        "quote-currency": "usdt",
        "price-precision": 2,
        "amount-precision": 0,
        "state": "suspend",
        "min-order-value": 0.0001,
    }
    body = json.dumps({"status": "ok", "data": [listed]})
    (instrument,) = find("htx").parse_rest("/v1/common/symbols", body)
    assert (instrument.symbol, instrument.exchange_symbol) == ("BTC/USDT", "btcusdt")
    assert (instrument.tick_size, instrument.lot_size, instrument.min_notional) == ("0.01", "1", "0.0001")
    assert not instrument.is_active
    with pytest.raises(MalformedMessage, match="api-limit: slow down"):
        find("htx").parse_rest(
            "/v1/common/symbols", '{"status":"error","err-code":"api-limit","err-msg":"slow down"}'
        )


# The past


def past(rows):
    """What /market/history/trade answers: groups, the newest first."""
    groups = [
        {"id": 1, "ts": time, "data": [fill(number, time) for number in numbers]} for time, numbers in rows
    ]
    return json.dumps({"status": "ok", "ch": "x", "ts": 1, "data": groups}).encode()


def fill(number, time):
    return {
        "id": 10**26 + number,
        "ts": time,
        "trade-id": number,
        "amount": 20995.88,
        "price": 9.2e-07,
        "direction": "buy",
    }


def pages(wanted, body):
    asking = find("htx").trade_pages(wanted)
    request = next(asking)
    assert request == RestRequest("/market/history/trade?symbol=btcusdt&size=2000")
    found = []
    try:
        item = asking.send(body)
        while True:
            found.append(item)
            item = next(asking)
    except StopIteration:
        return found


BODY = past([(TIME + 2, [16]), (TIME + 1, [15, 14]), (TIME, [13, 12]), (TIME - 5, [11]), (TIME - 9, [10])])


def test_a_hole_among_the_newest_trades_is_proven_and_the_rows_are_those_of_the_websocket():
    wanted = TradeRange(symbol="BTC/USDT", begin=0, end=2**60, first_id=12, last_id=14)
    found = pages(wanted, BODY)
    rows = [each for page in found for each in page.trades]
    heard = [event.trade for event in parse(trades(*(ROW % (TIME, number) for number in (13, 12))))]
    assert [each for each in rows if each.trade_seq in (12, 13)] == heard
    assert min(page.first_id for page in found) <= 12
    assert max(page.last_id for page in found) >= 14
    assert {each.trade_seq for each in rows} >= {12, 13, 14}


def test_what_is_no_longer_given_is_not_proven():
    wanted = TradeRange(symbol="BTC/USDT", begin=0, end=2**60, first_id=5, last_id=14)
    found = pages(wanted, BODY)
    assert min(page.first_id for page in found) == 10
    assert {each.trade_seq for page in found for each in page.trades} >= {10, 11, 12, 13, 14}
    assert min(page.from_timestamp for page in found) == (TIME - 9) * 1000
    older = TradeRange(symbol="BTC/USDT", begin=0, end=2**60, first_id=2, last_id=5)
    assert pages(older, BODY) == []


def test_by_time_the_page_reaches_no_further_than_what_was_given():
    wanted = TradeRange(symbol="BTC/USDT", begin=(TIME - 7) * 1000, end=(TIME + 1) * 1000)
    found = pages(wanted, BODY)
    assert [
        each.trade_seq for each in sorted((t for page in found for t in page.trades), key=lambda t: t.order)
    ] == [
        11,
        12,
        13,
    ]
    assert min(page.from_timestamp for page in found) <= wanted.begin
    assert max(page.to_timestamp for page in found) == wanted.end


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b'{"status":"error","err-msg":"x"}', b'{"status":"ok","data":[{"data":[{}]}]}']
)
def test_a_damaged_answer_is_no_page(body):
    wanted = TradeRange(symbol="BTC/USDT", begin=0, end=1)
    with pytest.raises(MalformedMessage):
        pages(wanted, body)
    asking = find("htx").candle_pages("BTC/USDT", Timeframe.M1, 0, 1)
    next(asking)
    with pytest.raises(MalformedMessage):
        asking.send(body)


def test_past_candles_are_closed_and_in_the_order_of_time():
    minute = 60_000_000
    begin = 1_699_999_920 * 1_000_000
    bars = [
        json.loads(BAR, parse_float=Decimal) | {"id": begin // 1_000_000 + 60 * number} for number in range(5)
    ]
    body = msgspec.json.encode({"status": "ok", "data": [{**bar, **floats(bar)} for bar in reversed(bars)]})
    asking = find("htx").candle_pages("BTC/USDT", Timeframe.M1, begin + minute, begin + 10 * minute)
    assert next(asking).path == "/market/history/kline?symbol=btcusdt&period=1min&size=2000"
    candles = asking.send(body)
    # The newest is still open.
    assert [candle.open_time for candle in candles] == [begin + number * minute for number in (1, 2, 3)]
    assert all(candle.is_closed and candle.close == 10.7 for candle in candles)
    assert find("htx").candle_pages("BTC/USDT", Timeframe.D1, 0, 1) is None


def floats(bar):
    return {name: float(value) for name, value in bar.items() if isinstance(value, Decimal)}
