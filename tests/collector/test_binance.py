import msgspec
import pytest
import recordings

from collector.exchanges import find
from collector.exchanges.adapter import MalformedMessage
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
from market import Side, Timeframe, Trade, WrongUse
from market.levels import packed

TRADE = {"e": "trade", "E": 1672515782136, "s": "BNBBTC", "t": 12345, "p": "0.00100000", "q": "100.0"}
TRADE |= {"T": 1672515782135, "m": True, "M": True}
BAR = {"t": 1672515780000, "T": 1672515839999, "s": "BNBBTC", "i": "1m", "f": 100, "L": 200, "o": "0.0010"}
BAR |= {"c": "0.0020", "h": "0.0025", "l": "0.0010", "v": "1000", "n": 100, "x": True, "q": "1.0", "V": "500"}


def combined(payload, stream="bnbbtc@trade"):
    return msgspec.json.encode({"stream": stream, "data": payload})


def only(message, exchange="binance"):
    (event,) = find(exchange).parse(message)
    return event


@pytest.mark.parametrize("wrap", [combined, msgspec.json.encode], ids=["combined", "bare"])
def test_a_trade(wrap):
    assert only(wrap(TRADE)) == TradeSeen(
        Trade("BNB/BTC", 1672515782135_000, "12345", 12345, 0.001, 100.0, Side.SELL)
    )
    assert only(wrap(TRADE | {"m": False})).trade.side is Side.BUY


def test_a_combined_message_may_name_its_stream_last():
    message = msgspec.json.encode({"data": TRADE, "stream": "bnbbtc@trade"})
    assert only(message) == only(combined(TRADE))


def test_an_aggregate_counts_its_fills():
    aggregate = {k: v for k, v in TRADE.items() if k != "t"} | {"e": "aggTrade", "a": 7, "f": 100, "l": 105}
    trade = only(combined(aggregate)).trade
    assert (trade.trade_id, trade.trade_seq, trade.fill_count) == ("a7", 7, 6)
    with pytest.raises(MalformedMessage, match="last fill"):
        only(combined(aggregate | {"l": 99}))


def test_a_candle():
    message = combined({"e": "kline", "E": 1672515782136, "s": "BNBBTC", "k": BAR})
    assert only(message) == CandleSeen(
        symbol="BNB/BTC",
        timestamp=1672515782136_000,
        timeframe=Timeframe.M1,
        open_time=1672515780000_000,
        open=0.001,
        high=0.0025,
        low=0.001,
        close=0.002,
        volume=1000.0,
        buy_volume=500.0,
        trade_count=100,
        is_closed=True,
    )


def test_a_candle_of_another_interval_is_heard():
    message = combined({"e": "kline", "E": 1672515782136, "s": "BNBBTC", "k": BAR | {"i": "3m"}})
    assert only(message) == Heard("kline_3m", "BNB/BTC", 1672515782136_000)


@pytest.mark.parametrize("change", [{"h": "0.0015"}, {"t": 1672515780001}, {"o": "0"}, {"v": "-1"}])
def test_a_candle_that_cannot_be_is_damaged(change):
    with pytest.raises(MalformedMessage):
        only(combined({"e": "kline", "E": 1672515782136, "s": "BNBBTC", "k": BAR | change}))


def test_a_depth_update():
    depth = {"e": "depthUpdate", "E": 1672515782136, "s": "BNBBTC", "U": 157, "u": 160}
    depth |= {"b": [["0.0024", "10.00"]], "a": [["0.0026", "0.00000000"], ["0.0027", "1"]]}
    assert only(combined(depth)) == BookDelta(
        "BNB/BTC",
        1672515782136_000,
        packed([(0.0024, 10.0)]),
        packed([(0.0026, 0.0), (0.0027, 1.0)]),
        157,
        160,
    )
    with pytest.raises(MalformedMessage, match="update id"):
        only(combined(depth | {"u": 156}))


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (b'{"u":4,"s":"BNBUSDT","b":"25.3","B":"31","a":"25.4","A":"40"}', Heard("bookTicker", "BNB/USDT")),
        (b'{"e":"24hrTicker","E":1,"s":"BNBBTC"}', Heard("24hrTicker")),
        (b'{"lastUpdateId":160,"bids":[],"asks":[]}', Heard("depth")),
        (b'{"e":"serverShutdown","E":1770123456789}', Closing("the server is shutting down")),
        (b'{"result":null,"id":1}', Subscribed("streams")),
        (b'{"code":2,"msg":"Invalid request","id":1}', Refused("2: Invalid request")),
        (b'{"error":{"code":2,"msg":"Invalid"},"id":1}', Refused("2: Invalid")),
        (b'{"e":"newThing","E":1}', Unhandled("newThing")),
        (b'{"foo":1,"bar":2}', Unhandled("['bar', 'foo']")),
    ],
)
def test_other_messages(message, event):
    assert only(message) == event
    if b'"result"' not in message and b'"code"' not in message:
        assert only(b'{"stream":"x","data":' + message + b"}") == event


@pytest.mark.parametrize(
    "change",
    [
        {"p": "0"},
        {"p": "nan"},
        {"q": "-1"},
        {"T": -1},
        {"T": 10**18},
        {"t": 2**63},
        {"m": 1},
        {"p": 0.1},
        {"s": 1},
    ],
)
def test_a_trade_that_cannot_be_is_damaged(change):
    with pytest.raises(MalformedMessage):
        only(combined(TRADE | change))


def test_an_unknown_symbol_is_wrong_use():
    with pytest.raises(WrongUse, match="cannot resolve the symbol 'FOOBAR'"):
        only(combined(TRADE | {"s": "FOOBAR"}))


def test_streams_are_named_in_the_path():
    known = find("binance")
    (line,) = known.lines(["BTC/USDT", "ETH/BTC"])
    assert line.path == (
        "/stream?streams=btcusdt@trade/btcusdt@depth@100ms/btcusdt@kline_1m"
        "/ethbtc@trade/ethbtc@depth@100ms/ethbtc@kline_1m"
    )
    assert line.subscribe == ()
    many = [f"X{n}/USDT" for n in range(120)]
    shares = [line.symbols for line in known.lines(many)]
    assert [len(share) for share in shares] == [50, 50, 20]
    assert [symbol for share in shares for symbol in share] == many


def delta(first, last):
    return BookDelta("BTC/USDT", 0, [], [], first, last)


def test_the_books_recipe():
    check = find("binance").book_sequence("BTC/USDT")
    assert check.follows(delta(1, 2)) is False
    check.reset(BookReset("BTC/USDT", None, [], [], 100))
    assert check.follows(delta(95, 100)) is None
    assert check.follows(delta(102, 103)) is False
    assert check.follows(delta(99, 104)) is True
    assert check.follows(delta(99, 104)) is None
    assert check.follows(delta(105, 105)) is True
    assert check.follows(delta(107, 108)) is False
    check.reset(BookReset("BTC/USDT", None, [], [], 108))
    assert check.follows(delta(109, 109)) is True


def test_a_whole_book_over_rest():
    known = find("binance")
    path = known.book_request("BTC/USDT").path
    assert path == "/api/v3/depth?symbol=BTCUSDT&limit=1000"
    body = b'{"lastUpdateId":1027024,"bids":[["4.00000000","431.00000000"]],"asks":[["4.00000200","12.0"]]}'
    (event,) = known.parse_rest(path, body)
    assert event == BookReset("BTC/USDT", None, packed([(4.0, 431.0)]), packed([(4.000002, 12.0)]), 1027024)
    with pytest.raises(MalformedMessage, match="symbol"):
        known.parse_rest("/api/v3/depth", body)
    with pytest.raises(MalformedMessage, match="-1121: Invalid symbol"):
        known.parse_rest(path, b'{"code":-1121,"msg":"Invalid symbol."}')
    assert known.parse_rest("/api/v3/klines?symbol=BTCUSDT", b"[]") == [Heard("/api/v3/klines")]


def test_the_instrument_list(shared_data):
    known = find("binance")
    answers = [f for f in read(recordings.paths(shared_data, "binance")) if isinstance(f, RestAnswer)]
    known.add_instruments(known.parse_rest(answers[0].url, answers[0].body))
    assert len(known.instruments) == 1695
    ethbtc = known.instrument_for("ETH/BTC")
    assert (ethbtc.exchange_symbol, ethbtc.tick_size, ethbtc.lot_size) == (
        "ETHBTC",
        "0.00000100",
        "0.00010000",
    )
    assert (ethbtc.min_notional, ethbtc.is_active) == ("0.00010000", True)
    assert sum(instrument.is_active for instrument in known.instruments) == 1262
    sample = (shared_data / "messages/binance/spot-exchange_info_response.json").read_bytes()
    (instrument,) = find("binance").parse_rest("/api/v3/exchangeInfo", sample)
    assert (instrument.symbol, instrument.tick_size) == ("ETH/BTC", None)


def test_the_recorded_trades_one_for_one(shared_data):
    known = find("binance")
    frames = read(recordings.paths(shared_data, "binance"))
    events = [e for f in frames if isinstance(f, Received) for e in known.parse(f.message)]
    trades = [event.trade for event in events if isinstance(event, TradeSeen)]
    found = {
        (
            known.instrument_for(t.symbol).exchange_symbol,
            t.trade_id,
            str(t.timestamp // 1000),
            t.side,
            t.price,
            t.size,
        )
        for t in trades
    }
    assert found == recordings.expected_trades(shared_data, "binance")
    assert all(trade.timestamp % 1000 == 0 for trade in trades)


def test_the_simulator_speaks_binance_under_its_own_name():
    known = find("simulated")
    assert known.instrument_for("BTC/USDT").exchange == "simulated"
    assert only(combined(TRADE), "simulated") == only(combined(TRADE))
    assert known.ws_url.startswith("ws://127.0.0.1")
    assert known.rest_url.startswith("http://127.0.0.1")
