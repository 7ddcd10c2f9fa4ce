import json
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import recordings
from hypothesis import given
from hypothesis import strategies as st

from collector.exchanges import find
from collector.exchanges.adapter import MalformedMessage, RestRequest, TradeRange
from collector.exchanges.events import (
    BookDelta,
    BookReset,
    CandleSeen,
    Closing,
    Heard,
    Refused,
    Subscribed,
    TradeSeen,
    Unhandled,
)
from collector.recording import Received, RestAnswer, read
from market import MarketType, Side, Timeframe, Trade, WrongUse
from market.levels import packed

AGGREGATE = {"e": "aggTrade", "E": 1672515782136, "a": 5933014, "s": "BTCUSDT", "p": "0.001", "q": "100"}
AGGREGATE |= {"f": 100, "l": 105, "T": 1672515782135, "m": True, "st": 1}
DEPTH = {"e": "depthUpdate", "E": 1672515782136, "T": 1672515782130, "s": "BTCUSDT", "U": 157, "u": 160}
DEPTH |= {"pu": 149, "b": [["0.0024", "10"]], "a": [["0.0026", "0"]], "ps": "BTCUSDT", "st": 1}
HOUR = 3600 * 1_000_000
BASE = 1_700_000_000_000_000
SYMBOL = "BTC/USDT:USDT"


def combined(payload):
    return msgspec.json.encode({"stream": "btcusdt@aggTrade", "data": payload})


def only(message):
    (event,) = find("binanceusdm").parse(message)
    return event


@pytest.mark.parametrize("wrap", [combined, msgspec.json.encode], ids=["combined", "bare"])
def test_an_aggregate_counts_its_fills(wrap):
    assert only(wrap(AGGREGATE)) == TradeSeen(
        Trade(SYMBOL, 1672515782135_000, "a5933014", 5933014, 0.001, 100.0, Side.SELL, 6)
    )
    assert only(wrap(AGGREGATE | {"m": False})).trade.side is Side.BUY
    with pytest.raises(MalformedMessage, match="last fill"):
        only(wrap(AGGREGATE | {"l": 99}))


@pytest.mark.parametrize("change", [{"p": "0"}, {"q": "nan"}, {"T": -1}, {"a": -1}, {"m": "x"}, {"s": 1}])
def test_a_trade_that_cannot_be_is_damaged(change):
    with pytest.raises(MalformedMessage):
        only(combined(AGGREGATE | change))


def test_a_delivery_is_another_symbol():
    assert only(combined(AGGREGATE | {"s": "BTCUSDT_210924"})).trade.symbol == "BTC/USDT:USDT-210924"
    with pytest.raises(WrongUse, match="cannot resolve the symbol 'FOOBAR'"):
        only(combined(AGGREGATE | {"s": "FOOBAR"}))


def test_a_change_of_the_book_covers_what_came_since_the_one_before():
    assert only(combined(DEPTH)) == BookDelta(
        SYMBOL, 1672515782130_000, packed([(0.0024, 10.0)]), packed([(0.0026, 0.0)]), 150, 160
    )


@pytest.mark.parametrize("change", [{"u": 156}, {"pu": 157}, {"pu": None}, {"b": [["1"]]}, {"T": "x"}])
def test_a_change_that_cannot_be_is_damaged(change):
    with pytest.raises(MalformedMessage):
        only(combined(DEPTH | change))


def test_the_samples_of_the_documents(shared_data):
    samples = shared_data / "messages" / "binance"
    said = {
        path.stem: only(path.read_bytes())
        for path in samples.glob("futures-*.json")
        # Its candle opens below its low.
        if path.stem != "futures-kline_stream_open"
    }
    assert said["futures-agg_trade_stream"].trade.trade_id == "a5933014"
    assert said["futures-depth_update_stream"].last_sequence == 160
    candle = said["futures-kline_stream_closed"]
    assert isinstance(candle, CandleSeen)
    assert (candle.timeframe, candle.is_closed, candle.trade_count) == (Timeframe.M1, True, 100)
    heard = {name: event.channel for name, event in said.items() if isinstance(event, Heard)}
    assert heard == {
        "futures-book_ticker_stream": "bookTicker",
        "futures-liquidation_stream": "forceOrder",
        "futures-mark_price_stream": "markPriceUpdate",
        "futures-ticker_stream": "24hrTicker",
        "futures-trade_stream": "trade",
    }


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (b'{"e":"serverShutdown","E":1770123456789}', Closing("the server is shutting down")),
        (b'{"result":null,"id":1}', Subscribed("streams")),
        (b'{"code":2,"msg":"Invalid request","id":1}', Refused("2: Invalid request")),
        (b'{"error":{"code":2,"msg":"Invalid"},"id":1}', Refused("2: Invalid")),
        (b'{"e":"newThing","E":1}', Unhandled("newThing")),
        (b'{"e":["trade"]}', Unhandled("['trade']")),
        (b'[{"e":"trade"}]', Unhandled("a list")),
    ],
)
def test_other_messages(message, event):
    assert only(message) == event


def test_books_come_over_one_endpoint_and_the_rest_over_another():
    known = find("binanceusdm")
    book, rest = known.lines([SYMBOL, "ETH/USDT:USDT-210924"])
    assert book.path == "/public/stream?streams=btcusdt@depth@100ms/ethusdt_210924@depth@100ms"
    assert book.streams == {"book"}
    assert rest.path == (
        "/market/stream?streams=btcusdt@aggTrade/btcusdt@kline_1m"
        "/ethusdt_210924@aggTrade/ethusdt_210924@kline_1m"
    )
    assert rest.streams == {"trades", "candles"}
    many = known.lines([f"X{n}/USDT:USDT" for n in range(120)])
    assert [(len(line.symbols), len(line.streams)) for line in many] == [
        (50, 1),
        (50, 2),
        (50, 1),
        (50, 2),
        (20, 1),
        (20, 2),
    ]
    assert all(line.path.count("@") <= 200 for line in many)


@pytest.mark.parametrize("symbol", ["BTC/USDT", "BTC/USDT:BTC", "btc/USDT:USDT", "BTC/USDT:USDT-2109", "/:"])
def test_what_is_no_linear_contract_is_wrong_use(symbol):
    with pytest.raises(WrongUse, match="write it like BTC/USDT:USDT"):
        find("binanceusdm").instrument_for(symbol)


def delta(previous, last):
    return BookDelta(SYMBOL, 0, [], [], previous + 1, last)


def whole(sequence):
    return BookReset(SYMBOL, None, [], [], sequence)


def test_the_books_recipe():
    check = find("binanceusdm").book_sequence(SYMBOL)
    assert check.follows(delta(1, 2)) is False
    check.reset(whole(100))
    assert check.follows(delta(80, 99)) is None
    assert check.follows(delta(101, 103)) is False
    assert check.follows(delta(99, 104)) is True
    assert check.follows(delta(99, 104)) is None
    assert check.follows(delta(103, 110)) is False
    assert check.follows(delta(105, 110)) is False
    assert check.follows(delta(104, 110)) is True
    check.reset(whole(120))
    assert check.follows(delta(120, 121)) is True


@given(
    steps=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=3, max_size=30),
    data=st.data(),
)
def test_a_lost_change_of_the_book_never_goes_unnoticed(steps, data):
    """Each step is a delta of so many ids, after so many ids of other symbols."""
    deltas, last = [], 1000
    for count, others in steps:
        deltas.append((last, last + others + count))
        last += others + count
    known_until = data.draw(st.integers(1000, last))
    lost = data.draw(st.sampled_from([None, *deltas]))
    check = find("binanceusdm").book_sequence(SYMBOL)
    check.reset(whole(known_until))
    applied = []
    for previous, until in deltas:
        if (previous, until) == lost:
            continue
        follows = check.follows(delta(previous, until))
        assert (follows is None) == (until <= known_until)
        if follows is False:
            assert lost is not None
            assert lost[1] > known_until
            break
        if follows:
            applied.append((previous, until))
    else:
        needed = [each for each in deltas if each[1] > known_until]
        assert applied == needed or applied == needed[:-1] == [each for each in needed if each != lost]


def test_a_whole_book_over_rest():
    known = find("binanceusdm")
    request = known.book_request(SYMBOL)
    assert request == RestRequest("/fapi/v1/depth?symbol=BTCUSDT&limit=1000", weight=20)
    body = {"lastUpdateId": 1027024, "E": 1589436922972, "T": 1589436922959, "bids": [["4.0", "431.0"]]}
    body["asks"] = [["4.00000200", "12.0"]]
    assert known.parse_rest(request.path, json.dumps(body)) == [
        BookReset(SYMBOL, None, packed([(4.0, 431.0)]), packed([(4.000002, 12.0)]), 1027024)
    ]
    with pytest.raises(MalformedMessage, match="symbol"):
        known.parse_rest("/fapi/v1/depth", json.dumps(body))
    with pytest.raises(MalformedMessage, match="-1121: Invalid symbol"):
        known.parse_rest(request.path, b'{"code":-1121,"msg":"Invalid symbol."}')
    assert known.parse_rest("/fapi/v1/klines?symbol=BTCUSDT", b"[]") == [Heard("/fapi/v1/klines")]


def test_the_list_of_contracts(shared_data):
    known = find("binanceusdm")
    path = shared_data / "binance_futures" / "BINANCE_FUTURES.0.gz"
    (answer,) = [frame for frame in read([path]) if isinstance(frame, RestAnswer)]
    known.add_instruments(known.parse_rest(answer.url, answer.body))
    assert len(known.instruments) == 122
    assert {instrument.market_type for instrument in known.instruments} == {MarketType.LINEAR}
    assert {instrument.contract_size for instrument in known.instruments} == {"1"}
    dated = known.instrument_for("BTC/USDT:USDT-210924")
    assert (dated.exchange_symbol, dated.tick_size, dated.lot_size) == ("BTCUSDT_210924", "0.1", "0.001")
    assert (dated.min_notional, dated.expiry_timestamp) == ("5", 1632470400000_000)
    perpetual = known.instrument_for("BTC/BUSD:BUSD")
    assert (perpetual.expiry_timestamp, perpetual.is_active) == (None, True)
    assert [i.symbol for i in known.instruments if not i.is_active] == ["BTCST/USDT:USDT"]


def test_the_recorded_trades_one_for_one(shared_data):
    known = find("binanceusdm")
    frames = read(recordings.paths(shared_data, "binanceusdm"))
    events = [e for f in frames if isinstance(f, Received) for e in known.parse(f.message)]
    trades = [event.trade for event in events if isinstance(event, TradeSeen)]
    name_of = {t.symbol: known.instrument_for(t.symbol).exchange_symbol for t in trades}
    found = {
        (name_of[t.symbol], t.trade_id, str(t.timestamp // 1000), t.side, t.price, t.size) for t in trades
    }
    assert len(trades) == len(found)
    assert found == recordings.expected_trades(shared_data, "binanceusdm")
    assert sum(trade.fill_count for trade in trades) > len(trades)


# Past trades


class Model:
    """Answers GETs as the exchange does, from trades of which those before `kept` are too long ago."""

    def __init__(self, trades, kept=0, page=1000):
        self.trades, self.kept, self.page = trades, kept, page
        self.requests = 0

    def answer(self, request):
        self.requests += 1
        assert self.requests < 500, "the conversation never ends"
        assert request.weight > 0
        url = urlsplit(request.path)
        assert url.path == "/fapi/v1/aggTrades"
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        assert query.pop("symbol") == "BTCUSDT"
        limit = min(int(query.pop("limit")), self.page)
        given_ = self.trades[self.kept :]
        if "fromId" in query:
            first_id = int(query.pop("fromId"))
            found = [t for t in given_ if t.trade_seq >= first_id][:limit]
        elif "startTime" in query:
            start, end = int(query.pop("startTime")), int(query.pop("endTime"))
            assert start <= end < start + 3_600_000
            found = [t for t in given_ if start <= t.timestamp // 1000 <= end][:limit]
        else:
            found = given_[-limit:]
        assert not query
        return json.dumps([row_of(trade) for trade in found]).encode()


def row_of(t):
    last = 10 * t.trade_seq + t.fill_count - 1
    row = {"a": t.trade_seq, "p": str(t.price), "q": str(t.size), "f": 10 * t.trade_seq, "l": last}
    return row | {"T": t.timestamp // 1000, "m": t.side is Side.SELL}


def pages_of(model, begin, end, first_id=None, last_id=None):
    wanted = TradeRange(symbol=SYMBOL, begin=begin, end=end, first_id=first_id, last_id=last_id)
    talk, pages, body = find("binanceusdm").trade_pages(wanted), [], None
    while True:
        try:
            said = talk.send(body)
        except StopIteration:
            return pages
        if isinstance(said, RestRequest):
            body = model.answer(said)
        else:
            pages.append(said)
            body = None


@st.composite
def histories(draw):
    trades, time = [], BASE
    steps = st.sampled_from([0, 0, 1, 2, 1000, 30_000_000, 3 * HOUR // 1000])
    for number in range(draw(st.integers(1, 5)), draw(st.integers(6, 30))):
        time += draw(steps) * 1000
        fields = draw(
            st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from(Side), st.integers(1, 4))
        )
        price, size, side, fills = fields
        trades.append(Trade(SYMBOL, time, f"a{number}", number, price / 4, size / 8, side, fills))
    return trades


def assert_true(pages, trades):
    """Whatever a page says is true of all trades, also of those that the exchange does not give any more."""
    for page in pages:
        listed = {t.trade_id for t in page.trades}
        assert {
            t.trade_id for t in trades if page.from_timestamp <= t.timestamp < page.to_timestamp
        } <= listed
        if page.first_id is not None:
            assert listed == {t.trade_id for t in trades if page.first_id <= t.trade_seq <= page.last_id}
    said = [t for page in pages for t in page.trades]
    assert len({t.trade_id for t in said}) == len(said)
    assert set(map(repr, said)) <= set(map(repr, trades))


@given(trades=histories(), data=st.data())
def test_past_trades_of_a_time_are_all_there_as_far_as_they_are_given(trades, data):
    at = st.sampled_from([t.timestamp for t in trades])
    moments = st.tuples(at, st.sampled_from([-HOUR, -1000, 0, 1000, HOUR])).map(sum)
    begin, end = sorted(data.draw(st.tuples(moments, moments)))
    kept = data.draw(st.sampled_from([0, 0, *range(len(trades))]))
    pages = pages_of(Model(trades, kept, data.draw(st.integers(7, 12))), begin, end)
    assert_true(pages, trades)
    wanted = [t for t in trades[kept:] if begin <= t.timestamp < end]
    assert [t for page in pages for t in page.trades] == wanted
    if wanted and wanted[0].trade_seq > trades[kept].trade_seq:
        assert min(page.from_timestamp for page in pages) == begin
    if wanted or trades[-1].timestamp < begin:
        assert max(page.to_timestamp for page in pages) == end


@given(trades=histories(), data=st.data())
def test_past_trades_of_ids_are_all_there_as_far_as_they_are_given(trades, data):
    first, last = sorted(data.draw(st.tuples(*[st.sampled_from(trades)] * 2)), key=lambda t: t.trade_seq)
    kept = data.draw(st.sampled_from([0, 0, *range(len(trades))]))
    model = Model(trades, kept, data.draw(st.integers(7, 12)))
    pages = pages_of(model, first.timestamp, last.timestamp + 1, first.trade_seq, last.trade_seq)
    assert_true(pages, trades)
    given_ = [t for t in trades[kept:] if first.trade_seq <= t.trade_seq <= last.trade_seq]
    said = [t for page in pages for t in page.trades]
    assert [t for t in said if t in given_] == given_


def test_nobody_asks_for_what_is_too_long_ago():
    trades = [Trade(SYMBOL, BASE + n * HOUR, f"a{n}", n, 1.5, 2.0, Side.BUY) for n in range(50, 60)]
    model = Model(trades)
    pages = pages_of(model, BASE - 365 * 24 * HOUR, BASE + 60 * HOUR)
    assert [t for page in pages for t in page.trades] == trades
    assert model.requests < 50


def test_an_error_is_told_in_the_words_of_the_exchange():
    class Refusing(Model):
        def answer(self, request):
            return b'{"code":-1121,"msg":"Invalid symbol."}'

    with pytest.raises(MalformedMessage, match=r"-1121: Invalid symbol\."):
        pages_of(Refusing([]), BASE, BASE + HOUR, 5, 9)


def test_past_candles_are_those_of_spot_elsewhere():
    pages = find("binanceusdm").candle_pages(SYMBOL, Timeframe.M1, BASE, BASE + HOUR)
    request = next(pages)
    assert request.weight == 5
    url = urlsplit(request.path)
    assert url.path == "/fapi/v1/klines"
    start = -(-BASE // 60_000_000) * 60_000
    rows = [
        [start + n * 60_000, "1", "3", "1", "2", "7", start + n * 60_000 + 59_999, "9", 4, "5", "6", "0"]
        for n in range(2)
    ]
    (candle,) = pages.send(json.dumps(rows).encode())
    assert candle == CandleSeen(
        symbol=SYMBOL,
        timestamp=None,
        timeframe=Timeframe.M1,
        open_time=start * 1000,
        open=1.0,
        high=3.0,
        low=1.0,
        close=2.0,
        volume=7.0,
        buy_volume=5.0,
        trade_count=4,
        is_closed=True,
    )
