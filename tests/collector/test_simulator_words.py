"""What each simulated exchange says, word by word: answers, first messages, shapes of recorded ones."""

import gzip
import json
from ast import literal_eval
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.simulator.book import SimulatedBook
from collector.simulator.book_view import BookView
from collector.simulator.market import SimulatedMarket
from collector.simulator.protocols import PROTOCOLS, speaking
from collector.simulator.protocols.htx_texts import bare
from collector.simulator.tape import fills, next_number
from collector.simulator.texts import fixed, iso_time, microsecond_of, uuid_text
from market import DAY, MICROSECONDS, WrongUse, parse_time

START = parse_time("2026-03-01T21:58:30.250Z")
END = START + 90 * MICROSECONDS


def session(exchange, path, *symbols):
    found = speaking(exchange, symbols, 7).connect(path)
    assert found is not None
    return found


def read(payload):
    text = gzip.decompress(payload) if isinstance(payload, bytes) else payload
    return json.loads(text)


def say(door, **request):
    return [read(answer) for answer in door.receive(json.dumps(request))]


def heard(door, begin=START, end=END):
    return [read(message.payload) for message in door.messages(begin, end)]


def test_an_unknown_protocol_is_refused():
    with pytest.raises(WrongUse, match="does not speak 'nope'"):
        speaking("nope", ["BTC/USDT"], 1)


@pytest.mark.parametrize("exchange", sorted(PROTOCOLS))
def test_paths_of_no_endpoint(exchange):
    linear = exchange == "binanceusdm"
    protocol = speaking(exchange, ["BTC/USDT:USDT" if linear else "BTC/USDT"], 1)
    for path in ("/nowhere", "/v5/public/option", "/public/nowhere", "/wsx"):
        assert protocol.connect(path) is None, path


def test_coinbase_begins_with_a_whole_book_and_the_last_match():
    door = session("coinbase", "/", "BTC/USD", "ETH/USD")
    channels = ["matches", "level2_batch", {"name": "heartbeat", "product_ids": ["ETH-USD"]}]
    (ack,) = say(door, type="subscribe", product_ids=["BTC-USD"], channels=channels)
    assert ack == {
        "type": "subscriptions",
        "channels": [
            {"name": "matches", "product_ids": ["BTC-USD"]},
            {"name": "level2_batch", "product_ids": ["BTC-USD"]},
            {"name": "heartbeat", "product_ids": ["ETH-USD"]},
        ],
    }
    assert door.symbols == ["BTC/USD", "ETH/USD"]
    first = heard(door)
    assert [message["type"] for message in first[:2]] == ["last_match", "snapshot"]
    matches = [message["trade_id"] for message in first if message["type"] == "match"]
    assert matches == list(range(first[0]["trade_id"] + 1, first[0]["trade_id"] + 1 + len(matches)))
    assert len(matches) > 20
    beats = [message for message in first if message["type"] == "heartbeat"]
    assert len(beats) == 90
    assert (
        beats[-1]["last_trade_id"] == next_number(SimulatedMarket(7, "ETH/USD"), (END - 250_000) // 1000) - 1
    )
    later = heard(door, END, END + 10 * MICROSECONDS)
    assert not {message["type"] for message in later} & {"snapshot", "last_match"}
    say(door, type="unsubscribe", product_ids=["BTC-USD"], channels=["level2_batch"])
    say(door, type="subscribe", product_ids=["BTC-USD"], channels=["level2_batch"])
    assert heard(door, END + 10 * MICROSECONDS, END + 11 * MICROSECONDS)[0]["type"] == "snapshot"


@pytest.mark.parametrize(
    ("channel", "product"), [("level2", "BTC-USD"), ("full", "BTC-USD"), ("matches", "NO-USD")]
)
def test_coinbase_refuses(channel, product):
    door = session("coinbase", "/", "BTC/USD")
    (error,) = say(door, type="subscribe", product_ids=[product], channels=[channel])
    assert error["type"] == "error"
    assert "not a valid" in error["reason"]
    assert door.symbols == []


def test_kraken_greets_answers_once_a_symbol_and_beats_each_second():
    door = session("kraken", "/v2", "BTC/USD", "ETH/USD")
    assert [read(text)["channel"] for text in door.greeting()] == ["status"]
    assert heard(door) == []
    wanted = {"channel": "trade", "symbol": ["BTC/USD", "ETH/USD", "NO/USD"], "snapshot": True}
    answers = say(door, method="subscribe", params=wanted, req_id=4)
    assert [answer["success"] for answer in answers] == [True, True, False]
    assert {answer["req_id"] for answer in answers} == {4}
    assert say(door, method="ping", req_id=5) == [{"method": "pong", "req_id": 5}]
    found = heard(door)
    assert [len(message["data"]) for message in found[:2]] == [50, 50]
    assert [message["type"] for message in found[:2]] == ["snapshot", "snapshot"]
    assert sum(message["channel"] == "heartbeat" for message in found) == 90
    assert any(len(message["data"]) > 1 for message in found[2:] if message["channel"] == "trade")
    for params in (
        {"channel": "book", "symbol": ["BTC/USD"], "depth": 7},
        {"channel": "ohlc", "symbol": ["BTC/USD"], "interval": 7},
        {"channel": "level3", "symbol": ["BTC/USD"]},
    ):
        (answer,) = say(door, method="subscribe", params=params)
        assert answer["error"]
    (answer,) = say(door, method="unsubscribe", params={"channel": "book", "symbol": ["BTC/USD"]})
    assert answer["success"] is False


def test_bybit_takes_ten_spot_topics_and_all_of_a_request_or_none():
    door = session("bybit", "/v5/public/spot", "BTC/USDT", "ETH/USDT:USDT")
    assert say(door, op="ping", req_id="a")[0]["ret_msg"] == "pong"
    (answer,) = say(door, op="subscribe", args=["publicTrade.BTCUSDT"] * 11)
    assert answer["success"] is False
    (answer,) = say(door, op="subscribe", args=["publicTrade.BTCUSDT", "publicTrade.ETHUSDT"], req_id="b")
    assert (answer["success"], answer["req_id"]) == (False, "b")
    assert door.symbols == []
    assert say(door, op="subscribe", args=["orderbook.50.BTCUSDT"])[0]["success"] is True
    books = heard(door)
    assert [book["type"] for book in books[:2]] == ["snapshot", "delta"]
    steps = {later["data"]["u"] - book["data"]["u"] for book, later in pairwise(books)}
    assert steps == {1}
    assert len(books[0]["data"]["b"]) == len(books[0]["data"]["a"]) == 50


def test_okx_answers_each_argument_and_pushes_the_last_trade_first():
    door = session("okx", "/ws/v5/public", "BTC/USDT:USDT")
    assert door.receive("ping") == ["pong"]
    trades, wrong = {"channel": "trades", "instId": "BTC-USDT-SWAP"}, {"channel": "trades", "instId": "X-Y"}
    answers = say(door, id="1", op="subscribe", args=[trades, wrong])
    assert [answer["event"] for answer in answers] == ["subscribe", "error"]
    rows = [message["data"][0] for message in heard(door)]
    covered = [
        number
        for row in rows
        for number in range(int(row["tradeId"]) - int(row["count"]) + 1, int(row["tradeId"]) + 1)
    ]
    assert covered == list(range(covered[0], covered[0] + len(covered)))
    market = SimulatedMarket(7, "BTC/USDT:USDT")
    assert covered[0] == next_number(market, START // 1000) - 1
    sizes = sum(Decimal(row["sz"]) for row in rows) * Decimal("0.001")
    expected = sum(fill.size for fill in fills(market, covered[0], covered[-1] + 1))
    assert sizes == Decimal(expected).scaleb(-market.size_decimals)


def test_htx_packs_pings_recalls_newest_first_and_refreshes_a_book():
    door = session("htx", "/ws", "BTC/USDT")
    assert say(door, sub="market.btcusdt.trade.detail", id="7") == [
        {"id": "7", "status": "ok", "subbed": "market.btcusdt.trade.detail"}
    ]
    assert say(door, sub="market.nope.trade.detail", id="8")[0]["status"] == "error"
    found = heard(door)
    ids = [row["tradeId"] for row in found[0]["tick"]["data"]]
    assert ids == sorted(ids, reverse=True)
    assert len(ids) == 3
    assert [list(message) for message in found if "ping" in message] == [["ping"]]
    assert door.receive('{"pong":1}') == []
    assert any("ping" in message for message in heard(door, END, END + 10 * MICROSECONDS))

    feed = session("htx", "/feed", "BTC/USDT")
    say(feed, sub="market.btcusdt.mbp.20", id="1")
    assert say(feed, req="market.btcusdt.mbp.20", id="2") == []
    rep, *changes = [message for message in heard(feed) if "ping" not in message]
    assert rep["rep"] == "market.btcusdt.mbp.20"
    assert len(rep["data"]["bids"]) == 20
    assert changes[0]["tick"]["prevSeqNum"] == rep["data"]["seqNum"]


def test_binance_futures_carry_each_stream_on_its_endpoint_and_nothing_on_the_old_one():
    names = "btcusdt@aggTrade/btcusdt@depth@100ms/btcusdt@kline_1m"
    kinds = {}
    for endpoint in ("/public", "/market", ""):
        door = session("binanceusdm", f"{endpoint}/stream?streams={names}", "BTC/USDT:USDT")
        found = [message["data"] for message in heard(door)]
        kinds[endpoint] = {message["e"] for message in found}
        for before, after in pairwise(found):
            if before["e"] == after["e"] == "depthUpdate":
                assert after["pu"] == before["u"] < after["U"] - 1
        aggregates = [message for message in found if message["e"] == "aggTrade"]
        for before, after in pairwise(aggregates):
            assert after["a"] == before["a"] + 1
            assert after["f"] == before["l"] + 1
    assert kinds == {"/public": {"depthUpdate"}, "/market": {"aggTrade", "kline"}, "": set()}


def test_binance_futures_remember_two_days_of_aggregates():
    protocol = speaking("binanceusdm", ["BTC/USDT:USDT"], 7)

    def get(query):
        answer = protocol.answer(f"/fapi/v1/aggTrades?symbol=BTCUSDT&{query}", START)
        return json.loads(answer.body)

    oldest = next_number(protocol.markets["BTC/USDT:USDT"], START // 1000 - 48 * 3_600_000)
    assert get("fromId=1&limit=2")[0]["a"] == oldest
    assert get(f"startTime={(START - 3 * DAY) // 1000}&endTime={(START - 3 * DAY) // 1000 + 60_000}") == []
    assert get(f"fromId=1&startTime={START // 1000}")["code"] == -1128
    assert get(f"startTime={START // 1000 - 7_200_000}&endTime={START // 1000}")["code"] == -1127
    assert json.loads(protocol.answer("/fapi/v1/depth?symbol=BTCUSDT&limit=7", START).body)["code"] == -4021


def test_what_closes_is_listed_as_closed():
    listed = {
        "binance": "/api/v3/exchangeInfo",
        "binanceusdm": "/fapi/v1/exchangeInfo",
        "bybit": "/v5/market/instruments-info?category=linear",
        "coinbase": "/products",
        "htx": "/v1/common/symbols",
        "kraken": "/0/public/AssetPairs",
        "okx": "/api/v5/public/instruments?instType=SPOT",
    }
    assert set(listed) == set(PROTOCOLS)
    for exchange, target in listed.items():
        symbol = "BTC/USDT:USDT" if exchange in ("binanceusdm", "bybit") else "BTC/USDT"
        protocol = speaking(exchange, [symbol], 7)
        protocol.markets[symbol].disturb(halts=(), closes=START // 1000, reset_hour=None)
        before, after = (protocol.answer(target, now).body for now in (START - 10**6, START + 10**6))
        assert before.replace(b"time", b"") != after
        words = (b'"TRADING"', b'"Trading"', b'"online"', b'"live"')
        assert any(word in before for word in words)
        assert not any(word in after for word in words)


# Shapes of the recordings


def recorded(path):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt") as file:
        for line in file:
            head, _, body = line.rstrip().partition(": ")
            if not head.replace(".", "").isdigit():
                continue
            yield json.loads(gzip.decompress(literal_eval(body)) if body.startswith("b") else body)


def keys(value):
    return {name: keys(inner) for name, inner in value.items()} if isinstance(value, dict) else type(value)


def first_of(messages, name):
    found = {}
    for message in messages:
        found.setdefault(name(message), keys(message))
    return found


def assert_same_shapes(ours, theirs, kinds):
    for kind in kinds:
        assert includes(ours[kind], theirs[kind]), kind


def includes(ours, theirs):
    """Every key of theirs, with its kind of value: today's messages have more."""
    if not isinstance(theirs, dict):
        return ours == theirs
    return all(name in ours and includes(ours[name], inner) for name, inner in theirs.items())


def test_shapes_are_those_of_coinbases_recording(shared_data):
    door = session("coinbase", "/", "BTC/USD")
    say(door, type="subscribe", product_ids=["BTC-USD"], channels=["matches", "level2_batch"])
    theirs = first_of(recorded(shared_data / "coinbase/COINBASE.ws.28.0.part-a.gz"), lambda m: m["type"])
    ours = first_of(heard(door), lambda m: m["type"])
    assert_same_shapes(ours, theirs, ("match", "last_match", "snapshot", "l2update"))


def test_shapes_are_those_of_binance_futures_recording(shared_data):
    path = shared_data / "binance_futures/BINANCE_FUTURES.ws.1.0"
    theirs = first_of((m for m in recorded(path) if "data" in m), lambda m: m["data"].get("e"))
    ours = {}
    for endpoint in ("public", "market"):
        names = "btcusdt@aggTrade/btcusdt@depth@100ms/btcusdt@kline_1m"
        door = session("binanceusdm", f"/{endpoint}/stream?streams={names}", "BTC/USDT:USDT")
        ours |= first_of(heard(door), lambda m: m["data"]["e"])
    assert_same_shapes(ours, theirs, ("aggTrade", "depthUpdate", "kline"))


def test_shapes_are_those_of_htxs_recording(shared_data):
    def topic(message):
        return message.get("ch", "").split(".", 2)[-1] or next(iter(message))

    door = session("htx", "/ws", "BTC/USDT")
    for channel in ("trade.detail", "depth.step0"):
        say(door, sub=f"market.btcusdt.{channel}", id=1)
    theirs = first_of(recorded(shared_data / "htx/HUOBI.ws.44.0.gz"), topic)
    assert_same_shapes(first_of(heard(door), topic), theirs, ("trade.detail", "depth.step0", "ping"))


def test_shapes_are_those_of_okxs_recording(shared_data):
    def kind(message):
        return message.get("event") or message["arg"]["channel"] + message.get("action", "")

    door = session("okx", "/ws/v5/public", "BTC/USDT")
    args = [{"channel": channel, "instId": "BTC-USDT"} for channel in ("trades", "books")]
    ours = first_of(say(door, op="subscribe", args=args) + heard(door), kind)
    theirs = first_of(recorded(shared_data / "okx/OKX.ws.1.0"), kind)
    assert_same_shapes(ours, theirs, ("subscribe", "trades", "bookssnapshot", "booksupdate"))


# The parts


@pytest.mark.parametrize("says_what_falls_out", [True, False])
@pytest.mark.parametrize("depth", [10, 50, 100])
def test_changes_of_the_best_levels_lead_from_state_to_state(depth, says_what_falls_out):
    market = SimulatedMarket(3, "DOGE/USDT")
    view = BookView(SimulatedBook(market), depth, says_what_falls_out=says_what_falls_out)
    block = START // MICROSECONDS // 600
    state = view.state(block * 600 - 1)
    bids, asks = dict(state.bids), dict(state.asks)
    for change in view.changes(block):
        for side, levels, sign in ((bids, change.bids, -1), (asks, change.asks, 1)):
            for price, size in levels:
                if size:
                    side[price] = size
                else:
                    side.pop(price, None)
            for price in sorted(side, key=lambda price: sign * price)[depth:]:
                assert not says_what_falls_out
                del side[price]
        if change.second % 50 == 0:
            state = view.state(change.second)
            assert (bids, asks) == (dict(state.bids), dict(state.asks))
            assert len(bids) == len(asks) == depth


@given(st.integers(0, 10**15), st.integers(0, 12))
def test_bare_numbers_are_the_same_numbers(units, decimals):
    text = bare(units, decimals)
    assert Decimal(text) == Decimal(units).scaleb(-decimals)
    assert "." in text


def test_bare_numbers_are_written_as_recorded_ones():
    written = [bare(71000, 2), bare(104328, 6), bare(9121, 10), bare(345, 6), bare(0, 3), bare(1, 3)]
    assert written == ["710.0", "0.104328", "9.121E-7", "3.45E-4", "0.0", "0.001"]


@given(st.integers(0, 10**9), st.integers(0, 8))
def test_fixed_numbers_are_the_same_numbers(units, decimals):
    text = fixed(units, decimals, 8)
    assert Decimal(text) == Decimal(units).scaleb(-decimals)
    assert len(text.partition(".")[2]) == 8


def test_times_and_ids():
    assert iso_time(1_618_677_817_089_723) == "2021-04-17T16:43:37.089723Z"
    moments = [microsecond_of(milliseconds) for milliseconds in range(2000)]
    assert moments == sorted(moments)
    assert all(moment // 1000 == milliseconds for milliseconds, moment in enumerate(moments))
    ids = {uuid_text(5, index) for index in range(1000)}
    assert len(ids) == 1000
    assert {len(text) for text in ids} == {36}
