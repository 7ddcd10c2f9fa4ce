import json
import zipfile

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.exchanges import find
from collector.exchanges.adapter import MalformedMessage, RestRequest, TradeRange
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
from collector.recording import Received, read
from collector.replay import replay
from market import DAY, MarketType, OrderBook, Side, Timeframe, Trade, WrongUse

SPOT, LINEAR = "/v5/public/spot", "/v5/public/linear"
FILL = {"T": 1672304486865, "s": "BTCUSDT", "S": "Buy", "v": "0.001", "p": "16578.50", "L": "PlusTick"}
FILL |= {"i": "20f43950-d8dd-5b31-9112-a178eb6023af", "BT": False, "RPI": False, "seq": 1783284617}
BAR = {"start": 1672324800000, "end": 1672324859999, "interval": "1", "open": "16649.5", "close": "16677"}
BAR |= {"high": "16677", "low": "16608", "volume": "2.081", "turnover": "34666.4005", "confirm": False}
BAR |= {"timestamp": 1672324830882}
BASE = 1_700_000_000_000_000
MINUTE = 60_000_000


def message(topic, data, **others):
    return msgspec.json.encode(
        {"topic": topic, "type": "snapshot", "ts": 1672304486868, "data": data, **others}
    )


def trades_of(*fills, path=LINEAR):
    said = find("bybit").parse(message("publicTrade.BTCUSDT", fills), path)
    return [event.trade for event in said if isinstance(event, TradeSeen)]


def only(data, path=LINEAR):
    (event,) = find("bybit").parse(data, path)
    return event


# Symbols


@pytest.mark.parametrize(
    ("symbol", "name", "key"),
    [
        ("BTC/USDT", "BTCUSDT", "spot/BTCUSDT"),
        ("BTC/USDC", "BTCUSDC", "BTCUSDC"),
        ("BTC/USDT:USDT", "BTCUSDT", "linear/BTCUSDT"),
        ("BTC/USDC:USDC", "BTCPERP", "linear/BTCPERP"),
        ("BTC/USDT:USDT-260807", "BTCUSDT-07AUG26", "linear/BTCUSDT-07AUG26"),
        ("BTC/USDC:USDC-251226", "BTC-26DEC25", "linear/BTC-26DEC25"),
    ],
)
def test_symbols_both_ways(symbol, name, key):
    for known in (find("bybit"), find("bybit")):
        assert known.instrument_for(symbol).exchange_symbol == name
        assert known.instrument_of(key) == known.instrument_for(symbol)
        assert (known.instrument_for(symbol).market_type is MarketType.SPOT) == (":" not in symbol)
        known.add_instruments([known.instrument_for(symbol)])
        assert known.instrument_of(key).symbol == symbol


def test_a_name_is_two_instruments_and_both_are_kept_apart():
    known = find("bybit")
    spot, linear = known.instrument_for("BTC/USDT"), known.instrument_for("BTC/USDT:USDT")
    assert spot.exchange_symbol == linear.exchange_symbol
    assert known.instrument_of("BTCUSDT") == known.instrument_of("spot/BTCUSDT") == spot
    assert known.instrument_of("linear/BTCUSDT") == linear
    assert (spot.contract_size, linear.contract_size) == (None, "1")


@pytest.mark.parametrize(
    "symbol", ["BTC/USDT:BTC", "BTC/USD:USD", "btc/USDT:USDT", "BTC/USDT:USDT-261307", "BTCUSDT", "BTC/USDT:"]
)
def test_what_is_no_symbol_is_wrong_use(symbol):
    with pytest.raises(WrongUse, match="write it like BTC/USDT"):
        find("bybit").instrument_for(symbol)


@pytest.mark.parametrize(
    "name", ["", "USDT", "spot/", "linear/", "linear/BTC-07AUX26", "inverse/BTCUSD", "btcusdt", "linear/PERP"]
)
def test_what_is_no_name_is_wrong_use(name):
    with pytest.raises(WrongUse, match="cannot resolve"):
        find("bybit").instrument_of(name)


def test_the_lists_of_both_categories(shared_data):
    known, samples = find("bybit"), shared_data / "messages" / "bybit"
    spot, linear = known.instruments_requests()
    known.add_instruments(
        known.parse_rest(spot.path, (samples / "http_get_instruments_spot.json").read_bytes())
    )
    body = (samples / "http_get_instruments_linear.json").read_bytes()
    known.add_instruments(known.parse_rest(linear.path, body))
    assert [i.symbol for i in known.instruments] == ["BTC/USDT", "ETH/USDT", "BTC/USDT:USDT", "ETH/USDT:USDT"]
    one, other = known.instrument_for("BTC/USDT"), known.instrument_for("BTC/USDT:USDT")
    assert (one.tick_size, one.lot_size, one.min_notional) == ("0.1", "0.0001", "10")
    assert (other.tick_size, other.lot_size, other.min_notional) == ("0.5", "0.001", "5")
    # A perpetual's time of delivery means nothing.
    assert (other.expiry_timestamp, other.market_type) == (None, MarketType.LINEAR)
    with pytest.raises(WrongUse, match="does not list XRP/USDT"):
        known.instrument_for("XRP/USDT")


def listing(*instruments, cursor=""):
    return json.dumps({"retCode": 0, "result": {"nextPageCursor": cursor, "list": instruments}, "time": 1})


def test_a_dated_contract_is_named_by_its_delivery():
    listed = {"symbol": "BTC-7AUG26", "contractType": "LinearFutures", "status": "PreLaunch"}
    listed |= {"baseCoin": "BTC", "quoteCoin": "USDC", "settleCoin": "USDC", "deliveryTime": "1786089600000"}
    (instrument,) = find("bybit").parse_rest("/v5/market/instruments-info?category=linear", listing(listed))
    assert (instrument.symbol, instrument.exchange_symbol) == ("BTC/USDC:USDC-260807", "BTC-7AUG26")
    assert (instrument.expiry_timestamp, instrument.is_active) == (1786089600000_000, False)
    assert (instrument.tick_size, instrument.contract_size) == (None, "1")


def test_half_a_list_is_no_list():
    listed = {"symbol": "BTCUSDT", "status": "Trading", "baseCoin": "BTC", "quoteCoin": "USDT"}
    path = "/v5/market/instruments-info?category=linear&limit=1000"
    assert len(find("bybit").parse_rest(path, listing(*[listed] * 1000))) == 1000
    with pytest.raises(MalformedMessage, match="more than 1000 instruments"):
        find("bybit").parse_rest(path, listing(*[listed] * 1000, cursor="x"))
    with pytest.raises(MalformedMessage, match="category"):
        find("bybit").parse_rest("/v5/market/instruments-info", listing(listed))


# Websocket


def test_each_category_has_its_connection_and_requests_are_short():
    known = find("bybit")
    symbols = ["BTC/USDT:USDT", *(f"A{n}/USDT" for n in range(60)), "ETH/USDC:USDC"]
    lines = known.lines(symbols)
    assert [(line.path, len(line.symbols)) for line in lines] == [(SPOT, 50), (SPOT, 10), (LINEAR, 2)]
    for line in lines:
        requests = [msgspec.json.decode(text) for text in line.subscribe]
        assert {request["op"] for request in requests} == {"subscribe"}
        assert max(len(request["args"]) for request in requests) <= 10
        topics = [topic for request in requests for topic in request["args"]]
        names = [known.instrument_for(symbol).exchange_symbol for symbol in line.symbols]
        channels = ("publicTrade", "orderbook.200", "kline.1")
        assert topics == [f"{channel}.{name}" for name in names for channel in channels]
        assert sum(map(len, topics)) < 21_000
    assert [line.path for line in known.lines(["BTC/USDT"])] == [SPOT]
    assert known.resubscribe_book("ETH/USDC:USDC") == [
        '{"op":"unsubscribe","args":["orderbook.200.ETHPERP"]}',
        '{"op":"subscribe","args":["orderbook.200.ETHPERP"]}',
    ]
    assert known.keep_alive() == (20.0, '{"op":"ping"}')


@pytest.mark.parametrize(
    ("path", "symbol"),
    [
        (SPOT, "BTC/USDT"),
        (LINEAR, "BTC/USDT:USDT"),
        ("/v5/public/linear/?x=1", "BTC/USDT:USDT"),
    ],
)
def test_the_path_tells_what_a_symbol_is(path, symbol):
    (trade,) = trades_of(FILL, path=path)
    assert trade == Trade(symbol, 1672304486865_000, FILL["i"], 1783284617 * 1024, 16578.5, 0.001, Side.BUY)
    assert trades_of(FILL | {"S": "Sell"}, path=path)[0].side is Side.SELL


@pytest.mark.parametrize("path", ["", "/", "/v5/public/option"])
def test_without_its_path_nothing_is_taken_for_spot_or_linear(path):
    for topic, data in (("publicTrade.BTCUSDT", [FILL]), ("kline.1.BTCUSDT", [BAR])):
        with pytest.raises(MalformedMessage, match="spot or linear"):
            find("bybit").parse(message(topic, data), path)


def test_block_trades_are_off_the_book():
    fills = [FILL, FILL | {"i": "b", "BT": True}, FILL | {"i": "r", "RPI": True}]
    assert [trade.trade_id for trade in trades_of(*fills)] == [FILL["i"], "r"]
    said = find("bybit").parse(message("publicTrade.BTCUSDT", fills), LINEAR)
    assert [event for event in said if isinstance(event, Heard)] == [Heard("blockTrade", "BTC/USDT:USDT")]


@pytest.mark.parametrize(
    "change",
    [
        {"p": "0"},
        {"v": "nan"},
        {"S": "Hold"},
        {"i": ""},
        {"T": -1},
        {"T": "1672304486865"},
        {"seq": -1},
        {"seq": 2**53},
        {"s": "ETHUSDT"},
    ],
)
def test_a_trade_that_cannot_be_is_damaged(change):
    with pytest.raises(MalformedMessage):
        trades_of(FILL | change)


@given(counts=st.lists(st.integers(1, 5), min_size=1, max_size=8), last=st.integers(0, 2**53 - 10))
def test_trades_of_a_message_are_ordered_and_told_apart(counts, last):
    """As many fills as each count says share a sequence."""
    sequences = [last + n for n, count in enumerate(counts) for _ in range(count)]
    fills = [FILL | {"seq": sequence, "i": str(n)} for n, sequence in enumerate(sequences)]
    trades = trades_of(*fills)
    assert [trade.trade_id for trade in trades] == [str(n) for n in range(len(fills))]
    assert [trade.order for trade in trades] == sorted({trade.order for trade in trades})
    assert all(trade.trade_seq // 1024 == s for trade, s in zip(trades, sequences, strict=True))
    assert trades[-1].trade_seq < 2**63


def test_a_message_holds_1024_fills_at_most():
    assert len(trades_of(*[FILL] * 1024)) == 1024
    with pytest.raises(MalformedMessage, match="1025th fill"):
        trades_of(*[FILL] * 1025)


def book(kind, update_id, *, bids=(("1", "2"),), asks=(("2", "1"),), cts=1672304484976):
    data = {"s": "BTCUSDT", "b": bids, "a": asks, "u": update_id, "seq": 7961638724}
    return message("orderbook.200.BTCUSDT", data, type=kind, cts=cts)


def test_the_book_has_the_time_of_the_engine():
    assert only(book("snapshot", 18521288)) == BookReset(
        "BTC/USDT:USDT", 1672304484976_000, [("1", "2")], [("2", "1")], 18521288
    )
    assert only(book("delta", 18521289, bids=[["1", "0"]], asks=[]), SPOT) == BookDelta(
        "BTC/USDT", 1672304484976_000, [("1", "0")], [], 18521289, 18521289
    )
    assert only(book("delta", 7, cts=None)).timestamp == 1672304486868_000


def test_number_one_is_a_whole_book():
    assert isinstance(only(book("delta", 1)), BookReset)


@pytest.mark.parametrize("data", [book("other", 5), book("delta", -1), book("delta", 5, bids=[["1"]])])
def test_a_book_that_cannot_be_is_damaged(data):
    with pytest.raises(MalformedMessage):
        only(data)


def test_the_books_recipe():
    check = find("bybit").book_sequence("BTC/USDT")

    def follows(update_id):
        return check.follows(BookDelta("BTC/USDT", 0, [], [], update_id, update_id))

    assert follows(1) is False
    check.reset(BookReset("BTC/USDT", 0, [], [], 100))
    assert [follows(n) for n in (100, 101, 101, 102, 104, 103)] == [None, True, None, True, False, True]
    check.reset(BookReset("BTC/USDT", 0, [], [], 1))
    assert follows(2) is True


def test_the_archived_book_follows_without_a_hole_and_never_crosses(shared_data):
    known, whole = find("bybit"), OrderBook()
    with zipfile.ZipFile(shared_data / "bybit_legacy" / "xrpusdt-ob500.data.zip") as archive:
        lines = archive.read(archive.namelist()[0]).splitlines()
    (first, *changes) = [event for line in lines for event in known.parse(line, LINEAR)]
    check = known.book_sequence("XRP/USDT:USDT")
    check.reset(first)
    whole.replace(first.bids, first.asks)
    assert len(changes) == 49
    for change in changes:
        assert check.follows(change) is True
        whole.apply(change.bids, change.asks)
        assert not whole.is_crossed
        assert change.timestamp >= first.timestamp
    # Levels that fall out of the depth are named: the book never grows beyond it.
    assert len(whole) == 1000


def test_a_candle():
    expected = CandleSeen(
        symbol="BTC/USDT",
        timestamp=1672324830882_000,
        timeframe=Timeframe.M1,
        open_time=1672324800000_000,
        open=16649.5,
        high=16677.0,
        low=16608.0,
        close=16677.0,
        volume=2.081,
        buy_volume=None,
        trade_count=None,
        is_closed=False,
    )
    assert only(message("kline.1.BTCUSDT", [BAR]), SPOT) == expected
    closed = only(message("kline.1.BTCUSDT", [BAR | {"confirm": True}]), SPOT)
    assert closed == msgspec.structs.replace(expected, is_closed=True)
    assert only(message("kline.3.BTCUSDT", [BAR | {"interval": "3"}])) == Heard("kline.3", "BTC/USDT:USDT")


@pytest.mark.parametrize("change", [{"high": "1"}, {"start": 1672324800001}, {"open": "0"}, {"volume": "-1"}])
def test_a_candle_that_cannot_be_is_damaged(change):
    with pytest.raises(MalformedMessage):
        only(message("kline.1.BTCUSDT", [BAR | change]))


@pytest.mark.parametrize(
    ("data", "event"),
    [
        (b'{"success":true,"ret_msg":"","conn_id":"x","req_id":"1","op":"subscribe"}', Subscribed("topics")),
        (b'{"success":true,"ret_msg":"pong","conn_id":"x","op":"ping"}', Heard("pong")),
        (b'{"req_id":"","op":"pong","args":["1"],"conn_id":"x"}', Heard("pong")),
        (b'{"success":true,"ret_msg":"","op":"unsubscribe"}', Heard("unsubscribe")),
        (b'{"success":false,"ret_msg":"Invalid topic","op":"subscribe"}', Refused("Invalid topic")),
        (b'{"op":"surprise"}', Unhandled("op surprise")),
        (b'{"topic":"news.BTCUSDT","data":1}', Unhandled("news")),
        (b"[]", Unhandled("a list")),
    ],
)
def test_other_messages(data, event):
    assert only(data, "") == event


def test_the_samples_of_the_documents(shared_data):
    samples = (shared_data / "messages" / "bybit").glob("ws_*.json")
    said = {path.stem: only(path.read_bytes()) for path in samples}
    assert isinstance(said["ws_orderbook_snapshot"], BookReset)
    assert isinstance(said["ws_orderbook_delta"], BookDelta)
    assert said["ws_kline"].timeframe is Timeframe.M5
    assert said["ws_subscription_ack"] == Subscribed("topics")
    assert said["ws_subscription_failure"] == Refused("Invalid topic: invalid.topic.BTCUSDT")
    assert said["ws_ticker_linear"] == said["ws_ticker_option"] == Heard("tickers")
    # There is no such topic.
    assert said["ws_public_trade"] == Unhandled("trade")


def test_the_dead_dialect_is_unhandled_and_nothing_of_it_is_stored(database, connection, shared_data):
    path = shared_data / "bybit_legacy" / "BYBIT.ws.25.0.gz"
    frames = [frame for frame in read([path]) if isinstance(frame, Received)]
    data = sum(frame.message.startswith(b'{"topic"') for frame in frames)
    report = replay([path], "bybit", database)
    assert report.counts["messages"] == len(frames) == 3342
    assert report.counts["unhandled"] == data == 3326
    assert set(report.shapes) == {"trade", "orderBookL2_25"}
    assert report.counts["trades"] == report.counts["book_updates"] == report.counts["rejected"] == 0
    for table in ("trades", "candles", "orderbook_snapshots", "stream_coverage", "instruments"):
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


# REST


def answer(found, time=BASE // 1000):
    return json.dumps({"retCode": 0, "retMsg": "OK", "result": {"list": found}, "time": time}).encode()


def past_fill(trade, sequence, **others):
    row = {"execId": trade.trade_id, "symbol": "BTCUSDT", "price": str(trade.price), "size": str(trade.size)}
    side = "Buy" if trade.side is Side.BUY else "Sell"
    row |= {"side": side, "time": str(trade.timestamp // 1000), "isBlockTrade": False}
    return row | {"seq": str(sequence), **others}


def talk(conversation, model):
    """The requests and the pages of a conversation."""
    requests, pages, body = [], [], None
    while True:
        try:
            said = conversation.send(body)
        except StopIteration:
            return requests, pages
        body = None
        if isinstance(said, RestRequest):
            requests.append(said.path)
            assert len(requests) < 200
            body = model(said.path)
        else:
            pages.append(said)


@pytest.mark.parametrize(("symbol", "query"), [("BTC/USDT", "spot"), ("BTC/USDT:USDT", "linear")])
def test_only_the_newest_trades_are_asked_for(symbol, query):
    wanted = TradeRange(symbol=symbol, begin=BASE, end=BASE + MINUTE)
    requests, pages = talk(find("bybit").trade_pages(wanted), lambda _: answer([]))
    limit = {"spot": 60, "linear": 1000}[query]
    assert requests == [f"/v5/market/recent-trade?category={query}&symbol=BTCUSDT&limit={limit}"]
    assert pages == []


@given(data=st.data())
def test_the_newest_trades_are_the_same_rows_as_live_and_prove_what_lies_between(data):
    """Messages of an order each, cut anywhere, as REST cuts them."""
    known, trades, rows = find("bybit"), [], []
    time, sequence = BASE, 100
    for _ in range(data.draw(st.integers(1, 12))):
        time += data.draw(st.sampled_from([0, 1, 1, 5, 1000])) * 1000
        sequence += data.draw(st.integers(1, 3))
        fills = [
            FILL | {"T": time // 1000, "i": f"{sequence}-{n}", "seq": sequence, "BT": is_block}
            for n, is_block in enumerate(data.draw(st.lists(st.booleans(), min_size=1, max_size=4)))
        ]
        said = known.parse(message("publicTrade.BTCUSDT", fills), LINEAR)
        trades += [event.trade for event in said if isinstance(event, TradeSeen)]
        rows += [
            {"execId": f["i"], "price": f["p"], "size": f["v"], "side": f["S"], "time": str(f["T"])}
            | {"isBlockTrade": f["BT"], "seq": str(sequence)}
            for f in fills
        ]
    begin = BASE + data.draw(st.integers(-5, 20)) * 1000
    end = begin + data.draw(st.integers(1, 3000)) * 1000
    shown = rows[-data.draw(st.integers(1, len(rows))) :]
    wanted = TradeRange(symbol="BTC/USDT:USDT", begin=begin, end=end)
    _, pages = talk(known.trade_pages(wanted), lambda _: answer(shown[::-1]))
    for page in pages:
        assert begin <= page.from_timestamp < page.to_timestamp <= end
        assert page.from_timestamp > int(shown[0]["time"]) * 1000
        assert page.to_timestamp <= int(shown[-1]["time"]) * 1000
        assert page.trades == [t for t in trades if page.from_timestamp <= t.timestamp < page.to_timestamp]
    if begin > int(shown[0]["time"]) * 1000 and end <= int(shown[-1]["time"]) * 1000:
        assert [(page.from_timestamp, page.to_timestamp) for page in pages] == [(begin, end)]


def test_a_recent_trade_of_the_documents_is_taken(shared_data):
    body = (shared_data / "messages" / "bybit" / "http_get_trades_recent.json").read_bytes()
    rows = json.loads(body)["result"]["list"]
    earlier = rows[0] | {"execId": "a", "time": "1709891678000"}
    later = rows[0] | {"execId": "z", "time": "1709891680000"}
    wanted = TradeRange(symbol="BTC/USDT:USDT", begin=0, end=2 * BASE)
    _, (page,) = talk(find("bybit").trade_pages(wanted), lambda _: answer([later, *rows, earlier]))
    assert page.trades == [
        Trade("BTC/USDT:USDT", 1709891679000_000, rows[0]["execId"], 1, 27450.5, 0.005, Side.BUY)
    ]
    assert (page.from_timestamp, page.to_timestamp) == (1709891678001_000, 1709891680000_000)


class Candles:
    """Answers GETs of candles since a listing."""

    def __init__(self, listed, now):
        self.listed, self.now = listed, now

    def __call__(self, path):
        query = dict(part.split("=") for part in path.partition("?")[2].split("&"))
        assert (query["category"], query["symbol"]) == ("linear", "BTCUSDT")
        length = DAY if query["interval"] == "D" else int(query["interval"]) * MINUTE
        start, end = (int(query[name]) * 1000 for name in ("start", "end"))
        first = max(-(-start // length) * length, self.listed // length * length)
        opens = range(first, min(end, self.now) + 1, length)
        rows = [[str(t // 1000), "2", "4", "1", "3", str(t // length % 7), "9"] for t in reversed(opens)]
        return answer(rows[: int(query["limit"])], self.now // 1000)


@pytest.mark.parametrize("timeframe", Timeframe)
def test_past_candles_are_the_closed_ones(timeframe):
    length = timeframe.microseconds
    now = BASE - BASE % DAY + 40 * DAY + 7 * MINUTE
    begin = now - min(2500 * length, 50 * DAY)
    model = Candles(0, now)
    requests, pages = talk(find("bybit").candle_pages("BTC/USDT:USDT", timeframe, begin, now), model)
    candles = [candle for page in pages for candle in page]
    assert [c.open_time for c in candles] == [
        t for t in range(-(-begin // length) * length, now, length) if t + length <= now
    ]
    assert all(c.is_closed and c.timeframe is timeframe and c.symbol == "BTC/USDT:USDT" for c in candles)
    assert all((c.open, c.high, c.low, c.close) == (2.0, 4.0, 1.0, 3.0) for c in candles)
    assert len(requests) <= 3


def test_years_before_a_listing_cost_a_few_requests():
    listed = BASE - BASE % DAY + 20 * 3600 * 1_000_000
    model = Candles(listed, listed + DAY)
    conversation = find("bybit").candle_pages(
        "BTC/USDT:USDT", Timeframe.M1, BASE - 5 * 365 * DAY, listed + DAY
    )
    requests, pages = talk(conversation, model)
    assert [c.open_time for page in pages for c in page] == list(range(listed, listed + DAY, MINUTE))
    assert len(requests) < 10


def test_a_candle_of_the_documents_is_taken(shared_data):
    body = (shared_data / "messages" / "bybit" / "http_get_klines_linear.json").read_bytes()
    row = json.loads(body)["result"]["list"][0]
    # It opens at 54:39.
    with pytest.raises(MalformedMessage, match="does not open"):
        talk(find("bybit").candle_pages("BTC/USDT:USDT", Timeframe.M1, BASE, BASE + MINUTE), lambda _: body)
    open_time = BASE - BASE % MINUTE
    body = answer([[str(open_time // 1000), *row[1:]]], (open_time + MINUTE) // 1000)
    conversation = find("bybit").candle_pages("BTC/USDT:USDT", Timeframe.M1, open_time, open_time + 1)
    _, ((candle,),) = talk(conversation, lambda _: body)
    assert (candle.open, candle.high, candle.low, candle.close, candle.volume) == (
        27450.0,
        27460.0,
        27440.0,
        27455.0,
        123.45,
    )


REFUSED = b'{"retCode":10001,"retMsg":"Not supported symbols","result":{},"time":1672025956592}'


@pytest.mark.parametrize("body", [REFUSED, b"{", b"[]", b"{}", b'{"retCode":0,"result":{"list":[[1]]}}'])
def test_an_error_and_a_damaged_answer_are_malformed(body):
    words = "^10001: Not supported symbols$" if body is REFUSED else "."
    known = find("bybit")
    wanted = TradeRange(symbol="BTC/USDT", begin=BASE, end=BASE + MINUTE)
    for conversation in (
        known.trade_pages(wanted),
        known.candle_pages("BTC/USDT", Timeframe.M1, BASE, BASE + MINUTE),
    ):
        with pytest.raises(MalformedMessage, match=words):
            talk(conversation, lambda _: body)
    for request in known.instruments_requests():
        with pytest.raises(MalformedMessage, match=words):
            known.parse_rest(request.path, body)


@pytest.mark.parametrize("change", [{"price": "0"}, {"size": "x"}, {"time": "9" * 15}, {"seq": str(2**53)}])
def test_an_impossible_past_trade_is_malformed(change):
    trade = Trade("BTC/USDT", BASE, "a", 1, 1.5, 2.0, Side.BUY)
    body = answer([past_fill(trade, 5, **change), past_fill(trade, 5, time="0")])
    wanted = TradeRange(symbol="BTC/USDT", begin=0, end=2 * BASE)
    with pytest.raises(MalformedMessage):
        talk(find("bybit").trade_pages(wanted), lambda _: body)


def test_other_answers_are_heard():
    known = find("bybit")
    assert known.parse_rest("/v5/market/time", answer([])) == [Heard("/v5/market/time")]
    assert known.parse_rest("/v5/nowhere?x=1", answer([])) == [Unhandled("/v5/nowhere")]
