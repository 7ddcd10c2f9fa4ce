from collections import Counter
from zlib import crc32

import msgspec
import pytest

from collector.exchanges import find
from collector.exchanges.adapter import MalformedMessage
from collector.exchanges.events import (
    BookDelta,
    BookReset,
    CandleSeen,
    Heard,
    Refused,
    Subscribed,
    TradeSeen,
    Unhandled,
)
from collector.exchanges.kraken_spot import book_checksum
from collector.recording import Received, read
from market import OrderBook, Side, Timeframe, Trade

TRADE = (
    b'{"symbol":"BTC/USD","side":"buy","price":105944.20,"qty":0.00027625,"ord_type":"limit",'
    b'"trade_id":10218208,"timestamp":"2023-10-06T17:35:55.440295Z"}'
)
TIME = 1696613755_440295


def parse(message, known=None):
    return (known or find("kraken")).parse(message)


def sample(shared_data, name):
    return (shared_data / "messages/kraken" / f"{name}.json").read_bytes()


def test_every_row_of_a_trade_message_is_read(shared_data):
    assert parse(sample(shared_data, "ws_trade_update")) == [
        TradeSeen(Trade("BTC/USD", TIME, "10218208", 10218208, 105944.2, 0.00027625, Side.BUY)),
        TradeSeen(Trade("BTC/USD", 1696613756_123456, "10218209", 10218209, 105910.5, 0.0001246, Side.SELL)),
    ]


def test_the_trades_of_a_snapshot_come_in_order():
    newer = TRADE.replace(b"10218208", b"10218210")
    message = b'{"channel":"trade","type":"snapshot","data":[' + newer + b"," + TRADE + b"]}"
    assert [event.trade.trade_seq for event in parse(message)] == [10218208, 10218210]


def test_times_finer_than_microseconds_are_cut():
    message = b'{"channel":"trade","type":"update","data":[' + TRADE.replace(b"295Z", b"295999Z") + b"]}"
    assert parse(message)[0].trade.timestamp == TIME


def test_levels_keep_the_text_of_their_numbers(shared_data):
    (whole,) = parse(sample(shared_data, "ws_book_snapshot"))
    assert whole == BookReset(
        "BTC/USD",
        TIME,
        [("105944.20", "0.136"), ("105935.40", "0.024"), ("105920.10", "0.052")],
        [("105944.30", "0.136"), ("105946.90", "0.095"), ("105955.80", "0.003")],
        depth=10,
    )
    (delta,) = parse(sample(shared_data, "ws_book_update"))
    assert delta == BookDelta("BTC/USD", TIME, [("105944.20", "0.250")], [], checksum="2114181697")


def test_a_candle_is_never_marked_closed(shared_data):
    (candle,) = parse(sample(shared_data, "ws_ohlc_update"))
    assert candle == CandleSeen(
        symbol="BTC/USD",
        timestamp=None,
        timeframe=Timeframe.M1,
        open_time=1696436700_000000,
        open=106038.2,
        high=106044.3,
        low=106038.1,
        close=106040.1,
        volume=30927.68066226,
        buy_volume=None,
        trade_count=12,
        is_closed=False,
    )
    half_hour = sample(shared_data, "ws_ohlc_update").replace(b'"interval": 1,', b'"interval": 30,')
    assert parse(half_hour) == [Heard("ohlc-30", "BTC/USD")]


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (b'{"channel":"heartbeat"}', Heard("heartbeat")),
        (b'{"channel":"status","type":"update","data":[{"system":"online"}]}', Heard("status")),
        (b'{"channel":"instrument","type":"snapshot","data":{}}', Heard("instrument")),
        (b'{"method":"pong","req_id":1,"time_in":"","time_out":""}', Heard("pong")),
        (b'{"method":"unsubscribe","success":true,"result":{"channel":"book"}}', Heard("unsubscribe")),
        (
            b'{"method":"subscribe","success":true,"result":{"channel":"trade","symbol":"BTC/USD"}}',
            Subscribed("trade", ("BTC/USD",)),
        ),
        (
            b'{"method":"subscribe","success":true,"result":{"channel":"instrument"}}',
            Subscribed("instrument"),
        ),
        (
            b'{"error":"Currency pair not supported","method":"subscribe","success":false,"symbol":"A/B"}',
            Refused("Currency pair not supported A/B"),
        ),
        (b'{"method":"add_order","success":true}', Unhandled("add_order")),
        (b'{"channel":"executions","data":[]}', Unhandled("executions")),
        (b'{"foo":1}', Unhandled("['foo']")),
        (b"[1]", Unhandled("a list")),
    ],
)
def test_other_messages(message, event):
    assert parse(message) == [event]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"105944.20", b'"105944.20"'),
        (b"105944.20", b"null"),
        (b"105944.20", b"-1"),
        (b"105944.20", b"0.0"),
        (b"0.00027625", b"1e999"),
        (b'"buy"', b'"hold"'),
        (b"10218208", b"10218208.5"),
        (b"55.440295Z", b"55.440295"),
        (b'"symbol":"BTC/USD",', b""),
    ],
)
def test_a_trade_that_cannot_be_is_damaged(old, new):
    message = b'{"channel":"trade","type":"update","data":[' + TRADE.replace(old, new) + b"]}"
    with pytest.raises(MalformedMessage):
        parse(message)


def test_requests():
    known = find("kraken")
    (line,) = known.lines(["BTC/USD", "DOGE/USD"])
    assert line.path == "/v2"
    requests = [msgspec.json.decode(text) for text in line.subscribe]
    assert [request["params"]["channel"] for request in requests] == ["trade", "book", "ohlc"]
    assert all(request["params"]["symbol"] == ["BTC/USD", "DOGE/USD"] for request in requests)
    assert requests[1]["params"]["depth"] == 100
    assert requests[2]["params"]["interval"] == 1
    verbs = [msgspec.json.decode(text)["method"] for text in known.resubscribe_book("BTC/USD")]
    assert verbs == ["unsubscribe", "subscribe"]


def test_the_pair_list():
    body = (
        b'{"error":[],"result":{"XXBTZUSD":{"altname":"XBTUSD","wsname":"XBT/USD","pair_decimals":1,'
        b'"lot_decimals":8,"ordermin":"0.0001","costmin":"0.5","tick_size":"0.1","status":"cancel_only"}}}'
    )
    (pair,) = find("kraken").parse_rest("/0/public/AssetPairs", body)
    assert (pair.symbol, pair.exchange_symbol, pair.base) == ("BTC/USD", "BTC/USD", "BTC")
    assert (pair.tick_size, pair.lot_size, pair.min_notional) == ("0.1", "0.00000001", "0.5")
    assert pair.is_active is False
    assert pair.trade_ids_consecutive is True
    with pytest.raises(MalformedMessage, match="Rate limit"):
        find("kraken").parse_rest("/0/public/AssetPairs", b'{"error":["EAPI:Rate limit exceeded"]}')


def test_other_answers_are_heard(shared_data):
    body = sample(shared_data, "http_trades")
    assert find("kraken").parse_rest("/0/public/Trades?pair=XBTUSDT", body) == [Heard("Trades")]


def test_the_checksum_counts_trailing_zeros_and_no_leading_ones():
    book = OrderBook()
    book.replace(bids=[("45283.5", "0.10000000"), ("0.0501", "2")], asks=[("45285.2", "0.00100000")])
    assert book_checksum(book) == crc32(b"452852" + b"100000" + b"452835" + b"10000000" + b"501" + b"2")


def levels(count, start, step):
    rows = ",".join(f'{{"price":{start + step * n}.0,"qty":1.50}}' for n in range(count))
    return f"[{rows}]".encode()


def snapshot(bids, asks):
    sides = b'"bids":' + levels(bids, 5000, -1) + b',"asks":' + levels(asks, 5001, 1)
    return b'{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD",' + sides + b"}]}"


def test_the_depth_is_what_the_subscription_was_answered():
    known = find("kraken")
    answer = (
        b'{"method":"subscribe","success":true,"result":{"channel":"book","symbol":"BTC/USD","depth":25}}'
    )
    parse(answer, known)
    assert parse(snapshot(3, 4), known)[0].depth == 25


@pytest.mark.parametrize(
    ("bids", "asks", "depth"), [(10, 10, 10), (9, 11, 25), (100, 3, 100), (2000, 1, 1000)]
)
def test_without_an_answer_the_depth_is_the_smallest_that_fits(bids, asks, depth):
    assert parse(snapshot(bids, asks))[0].depth == depth


def as_v2(message: str) -> str | None:
    """A recorded v1 book message in v2's shape: the same numbers, bare, with the same checksums."""
    parts = msgspec.json.decode(message)
    if not isinstance(parts, list):
        return None
    _, *payload, _, pair = parts
    sides = {key: rows for part in payload for key, rows in part.items()}
    kind = "snapshot" if "as" in sides else "update"
    rows = {"bids": sides.get("bs", sides.get("b", [])), "asks": sides.get("as", sides.get("a", []))}
    texts = {
        side: ",".join(f'{{"price":{price},"qty":{size}}}' for price, size, *_ in found)
        for side, found in rows.items()
    }
    checksum = f',"checksum":{sides["c"]}' if "c" in sides else ""
    unified = pair.replace("XBT", "BTC")
    return (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{unified}","bids":[{texts["bids"]}],'
        f'"asks":[{texts["asks"]}]{checksum},"timestamp":"2023-10-06T17:35:55.440295Z"}}]}}'
    )


def test_recorded_v1_checksums_match_in_v2s_shape(shared_data):
    known = find("kraken")
    books, results = {}, Counter()
    for frame in read([shared_data / "kraken_v1/KRAKEN.ws.50.0.gz"]):
        message = as_v2(frame.message.decode()) if isinstance(frame, Received) else None
        for event in known.parse(message) if message else []:
            if isinstance(event, BookReset):
                book, sequence = books[event.symbol] = (OrderBook(), known.book_sequence(event.symbol))
                book.replace(event.bids, event.asks)
                sequence.reset(event)
            else:
                book, sequence = books[event.symbol]
                assert sequence.follows(event)
                book.apply(event.bids, event.asks)
                results[sequence.check(event, book)] += 1
    assert results == {True: 4269}


def test_symbols_of_v1_mean_the_same():
    assert find("kraken").instrument_of("XBT/USD").symbol == "BTC/USD"
    assert find("kraken").instrument_of("XDG/XBT").symbol == "DOGE/BTC"


def test_no_sample_is_unknown(shared_data):
    for path in sorted((shared_data / "messages/kraken").glob("ws_*.json")):
        assert not any(isinstance(event, Unhandled) for event in parse(path.read_bytes()))
