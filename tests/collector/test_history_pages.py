"""Past trades and candles over REST, against a model exchange: a pure function of its trades."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.exchanges import find
from collector.exchanges.adapter import MalformedMessage, RestRequest, TradeRange
from market import Side, Timeframe, Trade

BASE = 1_700_000_000_000_000
MINUTE = 60_000_000
HOUR = 60 * MINUTE
SYMBOLS = {"binance": "BTC/USDT", "coinbase": "BTC/USD", "kraken": "DOGE/USD"}
UNITS = {"binance": 1000, "coinbase": 1, "kraken": 1}
MOST_REQUESTS = 2000


class Model:
    """Answers GETs of one exchange's protocol from a list of trades, `page` rows at a time."""

    def __init__(self, exchange, trades, page=1000):
        self.trades, self.page = trades, page
        self.requests = []
        self._answer = getattr(self, f"_{exchange}")

    def answer(self, request):
        self.requests.append(request.path)
        assert len(self.requests) <= MOST_REQUESTS, "the conversation never ends"
        url = urlsplit(request.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        return json.dumps(self._answer(url.path, query)).replace('"<', "").replace('>"', "").encode()

    def _binance(self, path, query):
        assert query["symbol"] == "BTCUSDT"
        limit = min(int(query["limit"]), self.page)
        if path == "/api/v3/historicalTrades":
            found = [t for t in self.trades if t.trade_seq >= int(query["fromId"])][:limit]
            return [self._binance_trade(t) for t in found]
        if path == "/api/v3/trades":
            return [self._binance_trade(t) for t in self.trades[-limit:]]
        if path == "/api/v3/aggTrades":
            start, end = int(query["startTime"]), int(query["endTime"])
            assert start <= end < start + 3_600_000
            found = [t for t in self.trades if start <= t.timestamp // 1000 <= end][:limit]
            return [{"a": 7 * t.trade_seq, "f": t.trade_seq, "l": t.trade_seq + 3} for t in found]
        assert path == "/api/v3/klines"
        rows = bars(self.trades, Timeframe.parse(query["interval"]), is_flat=True)
        rows = [row for row in rows if row[0] >= int(query["startTime"]) * 1000][:limit]
        return [
            [o // 1000, *map(str, prices), str(volume), o // 1000 + 1, "0", count, "0", "0", "0"]
            for o, prices, volume, count in rows
        ]

    def _binance_trade(self, t):
        return {
            "id": t.trade_seq,
            "price": str(t.price),
            "qty": str(t.size),
            "time": t.timestamp // 1000,
            "isBuyerMaker": t.side is Side.SELL,
        }

    def _coinbase(self, path, query):
        if path == "/products/BTC-USD/trades":
            limit = min(int(query["limit"]), self.page)
            after = int(query.get("after", 2**63))
            found = [t for t in self.trades if t.trade_seq < after][-limit:]
            return [
                {
                    "trade_id": t.trade_seq,
                    "side": "sell" if t.side is Side.BUY else "buy",
                    "size": str(t.size),
                    "price": str(t.price),
                    "time": iso(t.timestamp),
                }
                for t in reversed(found)
            ]
        assert path == "/products/BTC-USD/candles"
        length = int(query["granularity"]) * 1_000_000
        start, end = (micro(query[name]) for name in ("start", "end"))
        assert (end - start) // length < 300
        timeframe = next(t for t in Timeframe if t.microseconds == length)
        rows = [row for row in bars(self.trades, timeframe, is_flat=False) if start <= row[0] <= end]
        return [
            [o // 1_000_000, prices[2], prices[1], prices[0], prices[3], volume]
            for o, prices, volume, _ in reversed(rows)
        ]

    is_inclusive = True

    def _kraken(self, path, query):
        assert query["pair"] == "XDGUSD"
        if path == "/0/public/Trades":
            since = int(query["since"])
            found = [
                t
                for t in self.trades
                if t.timestamp * 1000 > since or (self.is_inclusive and t.timestamp * 1000 == since)
            ]
            rows = [
                [
                    str(t.price),
                    str(t.size),
                    f"<{t.timestamp // 1_000_000}.{t.timestamp % 1_000_000:06}4999>".rstrip("0"),
                    "b" if t.side is Side.BUY else "s",
                    "l",
                    "",
                    t.trade_seq,
                ]
                for t in found[: min(self.page, int(query["count"]))]
            ]
            return {"error": [], "result": {"XDGUSD2": rows, "last": str(since)}}
        assert path == "/0/public/OHLC"
        rows = bars(self.trades, Timeframe.M1 if query["interval"] == "1" else Timeframe.H1, is_flat=True)
        rows = [
            [o // 1_000_000, *map(str, prices), "0", str(volume), count] for o, prices, volume, count in rows
        ]
        return {"error": [], "result": {"XDGUSD2": rows[-720:], "last": 1}}


def bars(trades, timeframe, *, is_flat):
    """(open time, (open, high, low, close), volume, count), upwards, quiet ones too if `is_flat`."""
    found = {}
    for trade in trades:
        found.setdefault(timeframe.open_of(trade.timestamp), []).append(trade)
    rows, last = [], None
    opens = sorted(found)
    if is_flat and opens:
        opens = range(opens[0], opens[-1] + 1, timeframe.microseconds)
    for open_time in opens:
        prices = [t.price for t in found.get(open_time, [])] or [last]
        volume = sum(t.size for t in found.get(open_time, []))
        rows.append(
            (
                open_time,
                (prices[0], max(prices), min(prices), prices[-1]),
                volume,
                len(found.get(open_time, [])),
            )
        )
        last = prices[-1]
    return rows


def iso(time):
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time)).isoformat()


def micro(text):
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def talk(conversation, model):
    """The pages of a conversation with `model`."""
    pages, body = [], None
    while True:
        try:
            said = conversation.send(body)
        except StopIteration:
            return pages
        body = None
        if isinstance(said, RestRequest):
            assert said.weight > 0
            body = model if isinstance(model, bytes) else model.answer(said)
        else:
            pages.append(said)


def trade_pages(exchange, model, begin, end, first_id=None, last_id=None):
    wanted = TradeRange(symbol=SYMBOLS[exchange], begin=begin, end=end, first_id=first_id, last_id=last_id)
    return talk(find(exchange).trade_pages(wanted), model)


@st.composite
def histories(draw, exchange, most_tied=4):
    """Trades whose ids may skip and whose times may tie; at most `most_tied` share one."""
    trades, time, number, tied = [], BASE, draw(st.integers(1, 5)), 0
    for _ in range(draw(st.integers(0, 25))):
        unit = UNITS[exchange]
        step = draw(st.sampled_from([0, 0, unit, 2 * unit, 1_000_000, MINUTE // 2, 3 * HOUR]))
        tied = tied + 1 if step == 0 else 0
        time += step if tied < most_tied else unit
        tied = tied if tied < most_tied else 0
        number += draw(st.sampled_from([1, 1, 1, 2, 5]))
        side = draw(st.sampled_from(Side))
        price, size = draw(st.integers(1, 9)) / 4, draw(st.integers(1, 9)) / 8
        trades.append(Trade(SYMBOLS[exchange], time, str(number), number, price, size, side))
    return trades


def moments(trades, unit):
    """Times at, before and after some trade."""
    at = st.sampled_from([t.timestamp for t in trades]) if trades else st.just(BASE)
    return st.tuples(at, st.sampled_from([-HOUR, -unit, 0, unit, HOUR])).map(sum)


def assert_proven(pages, trades):
    """Whatever a page says is true of `trades`, and each goes on where the one before ended."""
    for page in pages:
        assert page.trades == sorted(page.trades, key=lambda t: t.order)
        assert page.from_timestamp <= page.to_timestamp
        listed = {t.trade_id for t in page.trades}
        inside = {t.trade_id for t in trades if page.from_timestamp <= t.timestamp < page.to_timestamp}
        assert inside <= listed
        if page.first_id is not None:
            assert page.last_id is not None
            by_id = {t.trade_id for t in trades if page.first_id <= t.trade_seq <= page.last_id}
            assert by_id == listed
    for one, other in pairwise(pages):
        assert one.to_timestamp == other.from_timestamp or other.to_timestamp == one.from_timestamp
        if one.last_id is not None and other.last_id is not None:
            assert other.first_id == one.last_id + 1 or one.first_id == other.last_id + 1
    said = [t for page in pages for t in page.trades]
    assert len({t.trade_id for t in said}) == len(said)
    by_id = {t.trade_id: t for t in trades}
    assert all(by_id[t.trade_id] == t for t in said)


@pytest.mark.parametrize("exchange", SYMBOLS)
@given(data=st.data())
def test_the_pages_of_a_time_range_are_its_trades(exchange, data):
    trades = data.draw(histories(exchange))
    begin, end = sorted(data.draw(st.tuples(*[moments(trades, UNITS[exchange])] * 2)))
    model = Model(exchange, trades, data.draw(st.integers(7, 12)))
    model.is_inclusive = data.draw(st.booleans())
    pages = trade_pages(exchange, model, begin, end)
    assert_proven(pages, trades)
    wanted = [t for t in trades if begin <= t.timestamp < end]
    assert sorted((t for page in pages for t in page.trades), key=lambda t: t.trade_seq) == wanted
    if begin < end:
        assert min(page.from_timestamp for page in pages) == begin
        assert max(page.to_timestamp for page in pages) == end


@pytest.mark.parametrize("exchange", SYMBOLS)
@given(data=st.data())
def test_the_pages_of_an_id_range_hold_all_its_ids_and_prove_them(exchange, data):
    trades = [t for t in data.draw(histories(exchange)) if t.trade_seq]
    if len(trades) < 3:
        return
    at = data.draw(st.integers(1, len(trades) - 2))
    until = data.draw(st.integers(at, len(trades) - 2))
    # As a hole is: from after a trade that is on the tape to before one that is.
    first_id, last_id = trades[at - 1].trade_seq + 1, trades[until + 1].trade_seq - 1
    begin, end = trades[at - 1].timestamp + 1, trades[until + 1].timestamp
    model = Model(exchange, trades, data.draw(st.integers(7, 12)))
    pages = trade_pages(exchange, model, begin, max(begin, end), first_id, last_id)
    assert_proven(pages, trades)
    assert min(page.first_id for page in pages) <= first_id
    assert max(page.last_id for page in pages) >= last_id
    assert min(page.from_timestamp for page in pages) <= begin
    assert max(page.to_timestamp for page in pages) >= end
    said = {t.trade_id for page in pages for t in page.trades}
    assert said >= {t.trade_id for t in trades[at : until + 1]}


ERRORS = {
    "binance": (b'{"code":-1121,"msg":"Invalid symbol."}', "-1121: Invalid symbol."),
    "coinbase": (b'{"message":"NotFound"}', "NotFound"),
    "kraken": (b'{"error":["EQuery:Unknown asset pair"]}', "EQuery:Unknown asset pair"),
}


@pytest.mark.parametrize("exchange", SYMBOLS)
def test_an_error_is_told_in_the_words_of_the_exchange(exchange):
    body, words = ERRORS[exchange]
    with pytest.raises(MalformedMessage, match=words):
        trade_pages(exchange, body, BASE, BASE + HOUR, 5, 9)
    with pytest.raises(MalformedMessage, match=words):
        candles(exchange, body, BASE, BASE + HOUR)


DAMAGED = [
    b"{",
    b"7",
    b"null",
    b"[[]]",
    b'[{"id":"x"}]',
    b'{"result":{}}',
    b'{"error":[],"result":{"A":[[1]]}}',
]


@pytest.mark.parametrize("body", DAMAGED)
@pytest.mark.parametrize("exchange", SYMBOLS)
def test_a_damaged_answer_is_malformed(exchange, body):
    with pytest.raises(MalformedMessage):
        trade_pages(exchange, body, BASE, BASE + HOUR, 5, 9)
    with pytest.raises(MalformedMessage):
        candles(exchange, body, BASE, BASE + HOUR)


@pytest.mark.parametrize(
    ("exchange", "row"),
    [
        ("binance", '[{"id":5,"price":"0","qty":"1","time":1700000000000,"isBuyerMaker":true}]'),
        ("binance", '[{"id":5,"price":"nan","qty":"1","time":1700000000000,"isBuyerMaker":true}]'),
        ("coinbase", '[{"trade_id":5,"side":"buy","size":"1","price":"1","time":"yesterday"}]'),
        ("coinbase", '[{"trade_id":5,"side":"buy","size":"-1","price":"1","time":"2026-01-01T00:00:00Z"}]'),
        ("kraken", '{"error":[],"result":{"A":[["1","1","1700000000.1","b","l","",5]]}}'),
        ("kraken", '{"error":[],"result":{"A":[["1","0",1700000000.1,"b","l","",5]]}}'),
        ("kraken", '{"error":[],"result":{"A":[["1","1",1.7e9,"b","l","",5]]}}'),
    ],
)
def test_an_impossible_trade_is_malformed(exchange, row):
    with pytest.raises(MalformedMessage):
        trade_pages(exchange, row.encode(), BASE, BASE + HOUR, 5, 9)


@pytest.mark.parametrize("exchange", SYMBOLS)
def test_answers_that_repeat_end_the_conversation_and_prove_nothing_more(exchange):
    unit = UNITS[exchange]
    trades = [
        Trade(SYMBOLS[exchange], BASE + n * 1000 * unit, str(n), n, 1.5, 2.0, Side.BUY) for n in range(50, 60)
    ]

    class Parrot(Model):
        """Says the same whatever is asked."""

        def answer(self, request):
            first = {"binance": "?symbol=BTCUSDT&fromId=0&limit=9", "coinbase": "?limit=9"}
            query = first.get(exchange, "?pair=XDGUSD&since=0&count=9")
            return super().answer(RestRequest(request.path.partition("?")[0] + query))

    model = Parrot(exchange, trades)
    pages = trade_pages(exchange, model, BASE - HOUR, BASE + HOUR, 20, 90)
    assert len(model.requests) <= 3
    assert_proven(pages, trades[:9] if exchange != "coinbase" else trades[1:])
    assert all(page.first_id >= 20 and page.last_id < 90 for page in pages)


def test_times_without_end_end_too():
    """Ids that rise for ever at one time."""

    class Endless(Model):
        def answer(self, request):
            self.requests.append(request.path)
            first = int(parse_qs(urlsplit(request.path).query)["fromId"][0])
            row = {"price": "1", "qty": "1", "time": 1_700_000_000_000, "isBuyerMaker": True}
            return json.dumps([{"id": n, **row} for n in range(first, first + 30_000)]).encode()

    model = Endless("binance", [])
    assert trade_pages("binance", model, BASE, BASE + HOUR, 1, 10**9) == []
    assert len(model.requests) < 6


def test_a_mirror_without_history_gives_its_newest_trades():
    trades = [Trade("BTC/USDT", BASE + n * 1000, str(n), n, 1.5, 2.0, Side.BUY) for n in range(50, 60)]

    class Mirror(Model):
        def answer(self, request):
            return b"" if "historicalTrades" in request.path else super().answer(request)

    whole = trade_pages("binance", Mirror("binance", trades, 8), BASE, BASE + HOUR, 54, 57)
    assert [(page.first_id, page.last_id) for page in whole] == [(54, 57)]
    assert_proven(whole, trades)
    part = trade_pages("binance", Mirror("binance", trades, 8), BASE, BASE + HOUR, 20, 57)
    assert [(page.first_id, page.last_id) for page in part] == [(52, 57)]
    assert_proven(part, trades)
    assert trade_pages("binance", Mirror("binance", []), BASE, BASE + HOUR, 20, 57) == []
    by_time = trade_pages("binance", Mirror("binance", trades, 8), BASE + 53_000, BASE + 56_000)
    assert [t.trade_seq for page in by_time for t in page.trades] == [53, 54, 55]
    assert_proven(by_time, trades)


def test_years_before_a_listing_cost_a_few_requests():
    trades = [Trade("BTC/USDT", BASE + n * 1000, str(n), n, 1.5, 2.0, Side.BUY) for n in range(50, 60)]
    model = Model("binance", trades)
    pages = trade_pages("binance", model, BASE - 3 * 365 * 24 * HOUR, BASE + HOUR)
    assert len(model.requests) < 8
    assert [t for page in pages for t in page.trades] == trades


def test_a_day_of_long_ago_is_found_without_walking_down_to_it():
    trades = [Trade("BTC/USD", BASE + n * MINUTE, str(n), n, 1.5, 2.0, Side.BUY) for n in range(1, 20_000)]
    model = Model("coinbase", trades, 100)
    pages = trade_pages("coinbase", model, BASE + 50 * MINUTE, BASE + 60 * MINUTE)
    assert [t.trade_seq for page in pages for t in page.trades] == list(range(50, 60))
    assert len(model.requests) < 25


def test_an_old_mirror_of_kraken_says_what_its_recorded_answer_says(shared_data):
    body = (shared_data / "messages/kraken/http_trades.json").read_bytes()
    rows = json.loads(body, parse_float=str)["result"]["XBTUSDT"]
    wanted = TradeRange(
        symbol="BTC/USDT",
        begin=1_762_795_433_971_744,
        end=1_762_820_035_000_000,
        first_id=10_218_209,
        last_id=10_219_206,
    )
    pages = talk(find("kraken").trade_pages(wanted), body)
    trades = [t for page in pages for t in page.trades]
    assert [t.trade_seq for t in trades] == list(range(10_218_209, 10_219_207))
    for trade, row in zip(trades, rows[1:], strict=False):
        assert (str(trade.trade_seq), trade.price, trade.size) == (str(row[6]), float(row[0]), float(row[1]))
        assert trade.side == {"b": "buy", "s": "sell"}[row[3]]
        whole, _, fraction = row[2].partition(".")
        assert trade.timestamp == int(whole + fraction.ljust(6, "0")[:6])
    assert (pages[0].first_id, pages[-1].last_id) == (10_218_209, 10_219_206)
    assert pages[0].from_timestamp == 1_762_795_433_971_745


def test_recorded_answers_of_binance_are_read(shared_data):
    body = (shared_data / "messages/binance/spot-trades_response.json").read_bytes()
    wanted = TradeRange(symbol="BTC/USDT", begin=0, end=0, first_id=28_457, last_id=28_457)
    conversation = find("binance").trade_pages(wanted)
    next(conversation)
    conversation.send(body)
    page = conversation.send(b"[]")
    assert page.trades == [
        Trade("BTC/USDT", 1_499_865_549_590_000, "28457", 28_457, 4.000001, 12.0, Side.SELL)
    ]
    body = (shared_data / "messages/binance/spot-klines_response.json").read_bytes()
    with pytest.raises(MalformedMessage, match="a 1d candle does not open at"):
        talk(find("binance").candle_pages("BTC/USDT", Timeframe.D1, 0, 2**60), body.replace(b"9040", b"9041"))


STREAMED = {
    "binance": b'{"e":"trade","E":1,"s":"BTCUSDT","t":7,"p":"0.10","q":"12.5","T":1700000000123,"m":true}',
    "coinbase": b'{"type":"match","trade_id":7,"side":"sell","size":"12.5",'
    b'"price":"0.10","product_id":"BTC-USD","sequence":9,"time":"2023-11-14T22:13:20.123456Z"}',
    "kraken": b'{"channel":"trade","type":"update","data":[{"symbol":"DOGE/USD","side":"buy","price":0.10,'
    b'"qty":12.5,"trade_id":7,"timestamp":"2023-11-14T22:13:20.123456789Z"}]}',
}
PAST = {
    "binance": b'[{"id":7,"price":"0.10","qty":"12.5","time":1700000000123,"isBuyerMaker":true}]',
    "coinbase": b'[{"trade_id":7,"side":"sell","size":"12.5","price":"0.10",'
    b'"time":"2023-11-14T22:13:20.123456Z"}]',
    "kraken": b'{"error":[],"result":{"XDGUSD":[["0.10","12.5",1700000000.123456789,"b","l","",7]]}}',
}


@pytest.mark.parametrize("exchange", SYMBOLS)
def test_a_trade_is_the_same_over_rest_and_websocket(exchange):
    streamed = find(exchange).parse(STREAMED[exchange])[0].trade
    conversation = find(exchange).trade_pages(
        TradeRange(symbol=SYMBOLS[exchange], begin=BASE, end=BASE + HOUR, first_id=7, last_id=7)
    )
    next(conversation)
    said = conversation.send(PAST[exchange])
    if not isinstance(said, RestRequest):
        assert said.trades == [streamed]
    nothing = b'{"error":[],"result":{"XDGUSD":[]}}' if exchange == "kraken" else b"[]"
    page = said if not isinstance(said, RestRequest) else conversation.send(nothing)
    assert page.trades == [streamed]


# Candles


def candles(exchange, model, begin, end, timeframe=Timeframe.M1):
    pages = talk(find(exchange).candle_pages(SYMBOLS[exchange], timeframe, begin, end), model)
    return [candle for page in pages for candle in page]


@pytest.mark.parametrize("exchange", SYMBOLS)
@given(data=st.data())
def test_candles_are_the_closed_ones_of_the_range(exchange, data):
    trades = data.draw(histories(exchange))
    begin, end = sorted(data.draw(st.tuples(*[moments(trades, MINUTE)] * 2)))
    timeframe = data.draw(st.sampled_from([Timeframe.M1, Timeframe.H1]))
    found = candles(exchange, Model(exchange, trades, 90), begin, end, timeframe)
    rows = bars(trades, timeframe, is_flat=exchange != "coinbase")
    last_known = rows[-720:][0][0] if exchange == "kraken" and rows else 0
    # The newest may be open; Coinbase is asked for 300 more after the range.
    seen = end - end % timeframe.microseconds + 300 * timeframe.microseconds
    wanted = [
        (o, *prices, volume)
        for (o, prices, volume, _), after in pairwise(rows)
        if begin <= o < end and o >= last_known and (exchange != "coinbase" or after[0] <= seen)
    ]
    assert [(c.open_time, c.open, c.high, c.low, c.close, c.volume) for c in found] == wanted
    assert all(c.is_closed and c.timeframe is timeframe for c in found)
    assert all(c.symbol == SYMBOLS[exchange] for c in found)


def test_coinbase_has_no_candles_of_four_hours():
    assert find("coinbase").candle_pages("BTC/USD", Timeframe.H4, 0, BASE) is None
