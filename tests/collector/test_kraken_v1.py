from collections import Counter

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
from collector.exchanges.texts import seconds_microseconds
from collector.recording import Received, RestAnswer, read
from market import OrderBook, Side, Trade

SELL = ["354.04000000", "0.28245396", "1618678150.826417", "s", "m", ""]
BUY = ["354.05000000", "1", "1618678150.826418", "b", "l", ""]


def parse(message, known=None):
    return (known or find("kraken_v1")).parse(msgspec.json.encode(message))


def received(shared_data):
    frames = read(recordings.paths(shared_data, "kraken_v1"))
    return [frame.message for frame in frames if isinstance(frame, Received)]


def test_trades_are_numbered_within_their_time():
    known = find("kraken_v1")
    first = parse([993, [SELL, SELL, BUY], "trade", "XBT/USD"], known)
    other = parse([994, [SELL], "trade", "XDG/USD"], known)
    again = parse([993, [SELL], "trade", "XBT/USD"], known)
    assert first[0] == TradeSeen(
        Trade("BTC/USD", 1618678150_826417, "1618678150826417-0", 0, 354.04, 0.28245396, Side.SELL)
    )
    trades = [event.trade for event in (*first, *other, *again)]
    assert [(t.symbol, t.timestamp % 1000, t.trade_seq, t.side) for t in trades] == [
        ("BTC/USD", 417, 0, "sell"),
        ("BTC/USD", 417, 1, "sell"),
        ("BTC/USD", 418, 0, "buy"),
        ("DOGE/USD", 417, 0, "sell"),
        ("BTC/USD", 417, 2, "sell"),
    ]
    assert trades[-1].trade_id == "1618678150826417-2"


def test_remembered_times_are_bounded(monkeypatch):
    monkeypatch.setattr("collector.exchanges.kraken_v1.MAX_TIMES", 3)
    known = find("kraken_v1")
    rows = [[*SELL[:2], f"161867815{n}.5", *SELL[3:]] for n in (0, 1, 2, 3, 3, 0)]
    ordinals = [event.trade.trade_seq for event in parse([993, rows, "trade", "XBT/USD"], known)]
    assert ordinals == [0, 0, 0, 0, 1, 0]


def test_a_whole_book_names_its_depth_and_newest_time():
    asks = [["354.80", "1.40", "1618678133.020508"], ["354.84", "6.88", "1618678132.981007"]]
    message = [992, {"as": asks, "bs": [["354.10", "2.0", "1618678133.010000"]]}, "book-25", "XMR/USD"]
    assert parse(message) == [
        BookReset(
            "XMR/USD",
            1618678133_020508,
            [("354.10", "2.0")],
            [("354.80", "1.40"), ("354.84", "6.88")],
            depth=25,
        )
    ]


def test_book_updates_of_four_and_five_elements():
    ask, bid = ["0.042990", "364.2", "1618678145.920470"], ["0.042980", "0.0", "1618678145.920708", "r"]
    assert parse([1920, {"a": [ask], "c": "41"}, "book-1000", "SC/EUR"]) == [
        BookDelta("SC/EUR", 1618678145_920470, [], [("0.042990", "364.2")], checksum="41")
    ]
    assert parse([1920, {"a": [ask]}, {"b": [bid], "c": "42"}, "book-1000", "SC/EUR"]) == [
        BookDelta("SC/EUR", 1618678145_920708, [("0.042980", "0.0")], [("0.042990", "364.2")], checksum="42")
    ]


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ({"event": "heartbeat"}, Heard("heartbeat")),
        (
            {"connectionID": 13319568009413566319, "event": "systemStatus", "status": "online"},
            Heard("systemStatus"),
        ),
        (
            {"channelID": 1, "channelName": "trade", "event": "subscriptionStatus", "pair": "XBT/USD"}
            | {"status": "subscribed"},
            Subscribed("trade", ("BTC/USD",)),
        ),
        (
            {"event": "subscriptionStatus", "pair": "XBT/USD", "status": "unsubscribed"},
            Heard("subscriptionStatus"),
        ),
        (
            {
                "event": "subscriptionStatus",
                "errorMessage": "Not supported",
                "pair": "A/B",
                "status": "error",
            },
            Refused("Not supported A/B"),
        ),
        ({"event": "error", "errorMessage": "Malformed request"}, Refused("Malformed request")),
        (
            [340, {"a": ["5525.4", 1, "1.0"], "c": ["5525.1", "0.4"]}, "ticker", "XBT/USD"],
            Heard("ticker", "BTC/USD"),
        ),
        ([42, ["1542057314.7", "3586.7", 8], "ohlc-5", "XBT/USD"], Heard("ohlc-5", "BTC/USD")),
        (
            [0, ["5698.4", "5700.0", "1542057299.5", "1.0", "7.5"], "spread", "XBT/USD"],
            Heard("spread", "BTC/USD"),
        ),
        ([0, [[]], "newThing", "XBT/USD"], Unhandled("newThing")),
        ({"event": "newThing"}, Unhandled("newThing")),
        ({"foo": 1}, Unhandled("a dict")),
    ],
)
def test_other_messages(message, event):
    assert parse(message) == [event]


@pytest.mark.parametrize(
    "message",
    [
        [1, [SELL], "trade"],
        [1, [SELL[:3]], "trade", "XBT/USD"],
        [1, [[*SELL[:3], "x"]], "trade", "XBT/USD"],
        [1, [["nan", *SELL[1:]]], "trade", "XBT/USD"],
        [1, {"a": []}, "trade", "XBT/USD"],
        [1, [SELL], "book-10", "XBT/USD"],
        [1, {"as": [], "bs": []}, "book-all", "XBT/USD"],
        [1, {"a": [["1", "2"]], "c": "1"}, "book-10", "XBT/USD"],
        [1, {"a": [["1", "2", "3"]], "c": "-1"}, "book-10", "XBT/USD"],
        [1, {"a": [["1", "2", "3"]], "c": "9" * 5000}, "book-10", "XBT/USD"],
        [1, {"a": 1}, "book-10", "XBT/USD"],
        {"event": 1},
    ],
)
def test_data_that_cannot_be_is_damaged(message):
    with pytest.raises(MalformedMessage):
        parse(message)


def test_all_recorded_checksums_match(shared_data):
    known = find("kraken_v1")
    books, results = {}, Counter()
    for message in received(shared_data):
        for event in known.parse(message):
            if isinstance(event, BookReset):
                books[event.symbol] = (OrderBook(), known.book_sequence(event.symbol))
                book, sequence = books[event.symbol]
                book.replace(event.bids, event.asks)
                sequence.reset(event)
            elif isinstance(event, BookDelta):
                book, sequence = books[event.symbol]
                assert sequence.follows(event)
                book.apply(event.bids, event.asks)
                results[sequence.check(event, book)] += 1
                assert len(book.top(2000)[0]) <= 1000
    assert results == {True: 4269}


def test_a_book_that_lacks_one_level_fails_its_checksum(shared_data):
    known = find("kraken_v1")
    events = [event for message in received(shared_data) for event in known.parse(message)]
    reset = next(e for e in events if isinstance(e, BookReset) and e.symbol == "XMR/USD")
    delta = next(e for e in events if isinstance(e, BookDelta) and e.symbol == "XMR/USD")
    book, sequence = OrderBook(), known.book_sequence("XMR/USD")
    book.replace(reset.bids[1:], reset.asks)
    sequence.reset(reset)
    book.apply(delta.bids, delta.asks)
    assert sequence.check(delta, book) is False
    assert sequence.check(BookDelta("XMR/USD", 0, [], []), book) is None


def test_the_recorded_trades_one_for_one(shared_data):
    known = find("kraken_v1")
    events = [event for message in received(shared_data) for event in known.parse(message)]
    trades = [event.trade for event in events if isinstance(event, TradeSeen)]
    expected = {
        (name, seconds_microseconds(time), side, price, size)
        for name, _, time, side, price, size in recordings.expected_trades(shared_data, "kraken_v1")
    }
    assert len(trades) == len(expected) == 10
    assert expected == {
        (known.instrument_for(t.symbol).exchange_symbol, t.timestamp, t.side, t.price, t.size) for t in trades
    }


def test_every_run_gives_the_same_ids(shared_data):
    messages = received(shared_data)
    one, other = find("kraken_v1"), find("kraken_v1")
    assert [one.parse(message) for message in messages] == [other.parse(message) for message in messages]


def test_the_pair_list(shared_data):
    known = find("kraken_v1")
    (answer,) = (f for f in read(recordings.paths(shared_data, "kraken_v1")) if isinstance(f, RestAnswer))
    known.add_instruments(known.parse_rest(answer.url, answer.body))
    btc, doge = known.instrument_for("BTC/USD"), known.instrument_for("DOGE/BTC")
    assert (btc.exchange_symbol, btc.tick_size, btc.lot_size) == ("XBT/USD", "0.1", "0.00000001")
    assert (doge.exchange_symbol, doge.base, doge.quote) == ("XDG/XBT", "DOGE", "BTC")
    assert btc.trade_ids_consecutive is False
    # Dark pools are listed too, and cannot be streamed.
    assert len(known.instruments) == 292


def test_requests():
    (line,) = find("kraken_v1").lines(["BTC/USD"])
    assert [msgspec.json.decode(text) for text in line.subscribe] == [
        {"event": "subscribe", "pair": ["XBT/USD"], "subscription": {"name": "trade"}},
        {"event": "subscribe", "pair": ["XBT/USD"], "subscription": {"name": "book", "depth": 1000}},
    ]
    assert find("kraken_v1").is_replay_only
