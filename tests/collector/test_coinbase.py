import msgspec
import pytest
import recordings

from collector.exchanges import find
from collector.exchanges.adapter import MalformedMessage
from collector.exchanges.events import (
    BookDelta,
    BookReset,
    Heard,
    Refused,
    Subscribed,
    TradeSeen,
    Unhandled,
)
from collector.exchanges.texts import iso_microseconds
from collector.recording import Received, RestAnswer, read
from market import Side, Trade

TIME = "2021-04-17T16:43:37.089723Z"
MICROSECONDS = 1618677817_089723
MATCH = {"type": "match", "trade_id": 280232, "side": "sell", "size": "985", "price": "0.00001305"}
MATCH |= {"product_id": "SKL-BTC", "sequence": 177100030, "time": TIME}


def only(message):
    data = message if isinstance(message, bytes) else msgspec.json.encode(message)
    (event,) = find("coinbase").parse(data)
    return event


@pytest.mark.parametrize("kind", ["match", "last_match"])
@pytest.mark.parametrize(("maker", "taker"), [("sell", Side.BUY), ("buy", Side.SELL)])
def test_a_trade_has_the_side_of_its_taker(kind, maker, taker):
    assert only(MATCH | {"type": kind, "side": maker}) == TradeSeen(
        Trade("SKL/BTC", MICROSECONDS, "280232", 280232, 0.00001305, 985.0, taker)
    )


def test_a_book_update():
    changes = [["sell", "0.7923", "7441.50"], ["buy", "0.7910", "0.0"], ["sell", "0.7924", "1"]]
    message = {"type": "l2update", "product_id": "SKL-USD", "changes": changes, "time": TIME}
    assert only(message) == BookDelta(
        "SKL/USD", MICROSECONDS, [("0.7910", "0.0")], [("0.7923", "7441.50"), ("0.7924", "1")]
    )


def test_a_whole_book():
    message = {"type": "snapshot", "product_id": "SKL-USD", "asks": [["2", "1.0"]], "bids": [["1", "2.0"]]}
    assert only(message) == BookReset("SKL/USD", None, [("1", "2.0")], [("2", "1.0")])
    assert only(message | {"time": TIME}).timestamp == MICROSECONDS


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (
            {"type": "ticker", "product_id": "SKL-BTC", "time": TIME, "trade_id": 7, "side": "buy"},
            Heard("ticker", "SKL/BTC", MICROSECONDS, 7),
        ),
        ({"type": "ticker", "product_id": "SKL-BTC", "price": "1"}, Heard("ticker", "SKL/BTC")),
        (
            {"type": "heartbeat", "sequence": 90, "last_trade_id": 20, "product_id": "BTC-USD", "time": TIME},
            Heard("heartbeat", "BTC/USD", MICROSECONDS, 20),
        ),
        (
            {
                "type": "subscriptions",
                "channels": [{"name": "matches", "product_ids": ["BTC-USD", "ETH-BTC"]}],
            },
            Subscribed("matches", ("BTC/USD", "ETH/BTC")),
        ),
        ({"type": "error", "message": "Failed", "reason": "no such"}, Refused("Failed: no such")),
        ({"type": "error", "message": "Failed"}, Refused("Failed")),
        ({"type": "auction", "product_id": "BTC-USD"}, Unhandled("auction")),
        ([1], Unhandled("list")),
    ],
)
def test_other_messages(message, event):
    assert only(message) == event


@pytest.mark.parametrize(
    "change",
    [{"side": "hold"}, {"time": "now"}, {"time": 1}, {"price": "0"}, {"size": None}, {"trade_id": "7"}],
)
def test_a_trade_that_cannot_be_is_damaged(change):
    with pytest.raises(MalformedMessage):
        only(MATCH | change)


def test_requests():
    known = find("coinbase")
    (line,) = known.lines(["BTC/USD", "ETH/BTC"])
    assert line.path == "/"
    (text,) = line.subscribe
    assert msgspec.json.decode(text) == {
        "type": "subscribe",
        "product_ids": ["BTC-USD", "ETH-BTC"],
        "channels": ["matches", "level2_batch", "heartbeat"],
    }
    assert [msgspec.json.decode(text)["type"] for text in known.resubscribe_book("BTC/USD")] == [
        "unsubscribe",
        "subscribe",
    ]


def test_the_product_list(shared_data):
    known = find("coinbase")
    (answer,) = (f for f in read(recordings.paths(shared_data, "coinbase")) if isinstance(f, RestAnswer))
    known.add_instruments(known.parse_rest(answer.url, answer.body))
    skl = known.instrument_for("SKL/EUR")
    assert (skl.exchange_symbol, skl.tick_size, skl.lot_size) == ("SKL-EUR", "0.0001", "0.1")
    assert (skl.min_notional, skl.is_active, skl.trade_ids_consecutive) == ("5.0", True, True)
    with pytest.raises(MalformedMessage, match="NotFound"):
        known.parse_rest("/products", b'{"message":"NotFound"}')
    assert known.parse_rest("/products/BTC-USD/trades?limit=5", b"[]") == [Heard("trades")]


def test_the_recorded_trades_one_for_one(shared_data):
    known = find("coinbase")
    events = [
        event
        for frame in read(recordings.paths(shared_data, "coinbase"))
        if isinstance(frame, Received)
        for event in known.parse(frame.message)
    ]
    trades = [event.trade for event in events if isinstance(event, TradeSeen)]
    expected = {
        (name, trade_id, iso_microseconds(time), side, price, size)
        for name, trade_id, time, side, price, size in recordings.expected_trades(shared_data, "coinbase")
    }
    assert len(trades) == len(expected) == 75
    assert expected == {
        (known.instrument_for(t.symbol).exchange_symbol, t.trade_id, t.timestamp, t.side, t.price, t.size)
        for t in trades
    }
