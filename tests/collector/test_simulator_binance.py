import json
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from simulated import START, STREAMS, SYMBOLS, trades_between

from collector import exchanges
from collector.exchanges.events import BookDelta, BookReset, CandleSeen, TradeSeen
from collector.simulator.protocols.binance import Binance
from market import DAY, MICROSECONDS, Instrument, OrderBook, Side


def get(exchange: Binance, target: str, now: int = START + DAY) -> Any:
    answer = exchange.answer(target, now)
    return json.loads(answer.body) if answer.status == 200 else (answer.status, json.loads(answer.body))


def test_our_own_adapter_reads_every_word_and_finds_the_book_of_rest() -> None:
    adapter = exchanges.find("simulated")
    exchange = Binance(SYMBOLS, 7)
    instruments = adapter.parse_rest(
        "/api/v3/exchangeInfo", exchange.answer("/api/v3/exchangeInfo", START).body
    )
    assert all(isinstance(instrument, Instrument) for instrument in instruments)
    adapter.add_instruments(instruments)
    assert {i.symbol for i in adapter.instruments} == set(SYMBOLS)
    assert adapter.instrument_for("BTC/USDT").tick_size == "0.10000000"

    session = exchange.connect(adapter.lines(SYMBOLS)[0].path)
    assert session is not None
    assert session.symbols == list(SYMBOLS)
    request = adapter.book_request("ETH/USDT")
    assert request is not None

    def whole_book(now: int) -> tuple[OrderBook, BookReset]:
        (reset,) = adapter.parse_rest(request.path, exchange.answer(request.path, now).body)
        assert isinstance(reset, BookReset)
        book = OrderBook()
        book.replace(reset.bids, reset.asks)
        return book, reset

    book, reset = whole_book(START + 100_500_000)
    sequence = adapter.book_sequence("ETH/USDT")
    sequence.reset(reset)
    applied, kinds = 0, set()
    for message in session.messages(START + 90 * MICROSECONDS, START + 200 * MICROSECONDS):
        for event in adapter.parse(message.payload):
            assert isinstance(event, TradeSeen | BookDelta | CandleSeen)
            kinds.add(type(event))
            if isinstance(event, BookDelta) and event.symbol == "ETH/USDT":
                follows = sequence.follows(event)
                assert follows is not False
                if follows:
                    book.apply(event.bids, event.asks)
                    applied += 1
            if isinstance(event, TradeSeen):
                assert event.trade.side in (Side.BUY, Side.SELL)
    assert applied == 99
    assert kinds == {TradeSeen, BookDelta, CandleSeen}
    later, _ = whole_book(START + 199_999_000)
    assert book.snapshot("ETH/USDT", START, None) == later.snapshot("ETH/USDT", START, None)


def test_subscriptions_by_message_as_binance_answers_them() -> None:
    exchange = Binance(SYMBOLS, 7)
    session = exchange.connect("/ws")
    assert session is not None

    def say(message: str) -> Any:
        (answer,) = session.receive(message)
        return json.loads(answer)

    assert session.messages(START, START + 5_000_000) == []
    ask = {"method": "SUBSCRIBE", "params": ["btcusdt@trade", "nobody@trade", "btcusdt@nothing"], "id": 3}
    assert say(json.dumps(ask)) == {"result": None, "id": 3}
    assert session.symbols == ["BTC/USDT"]
    assert say('{"method":"LIST_SUBSCRIPTIONS","id":"x"}') == {"result": ask["params"], "id": "x"}
    assert {json.loads(sent.payload)["e"] for sent in session.messages(START, START + 60_000_000)} == {
        "trade"
    }
    assert say('{"method":"UNSUBSCRIBE","params":["btcusdt@trade","x"],"id":4}') == {"result": None, "id": 4}
    assert session.messages(START, START + 60_000_000) == []
    for wrong in (
        '{"method":"FLY","id":1}',
        '{"method":"SUBSCRIBE","params":[1],"id":1}',
        "[]",
        "{",
        "7",
        '"x"',
        '{"method":"SUBSCRIBE","params":"btcusdt@trade","id":1}',
    ):
        assert set(say(wrong)) == {"code", "msg", "id"}, wrong


@pytest.mark.parametrize(
    ("target", "is_known"),
    [
        ("/ws", True),
        ("/ws/btcusdt@trade", True),
        ("/stream", True),
        ("/stream?streams=btcusdt@trade", True),
        ("/", False),
        ("/wsx", False),
        ("/api/v3/ping", False),
    ],
)
def test_endpoints(target: str, is_known: bool) -> None:
    assert (Binance(SYMBOLS, 7).connect(target) is not None) is is_known


def test_a_slice_of_time_is_the_sum_of_its_parts() -> None:
    exchange = Binance(SYMBOLS, 7)
    session = exchange.connect(f"/stream?streams={STREAMS}/btcusdt@aggTrade/ethusdt@depth")
    assert session is not None
    begin, end = START + 3_590_000_000, START + 3_610_000_000
    cuts = [*range(begin, end, 333_333), end]
    parts = [message for a, b in pairwise(cuts) for message in session.messages(a, b)]
    assert parts == session.messages(begin, end)
    assert len(parts) > 100


def test_rest_trades_by_id_by_time_and_newest() -> None:
    exchange = Binance(SYMBOLS, 7)
    now = START + 3_600_500_000
    ids = trades_between("BTC/USDT", START, now)
    newest = get(exchange, "/api/v3/trades?symbol=BTCUSDT&limit=20", now)
    assert [trade["id"] for trade in newest] == ids[-20:]
    assert list(newest[0]) == ["id", "price", "qty", "quoteQty", "time", "isBuyerMaker", "isBestMatch"]
    total = float(newest[0]["price"]) * float(newest[0]["qty"])
    assert float(newest[0]["quoteQty"]) == pytest.approx(total, rel=1e-12)
    assert len(get(exchange, "/api/v3/trades?symbol=BTCUSDT", now)) == 500
    assert len(get(exchange, "/api/v3/trades?symbol=BTCUSDT&limit=99999", now)) == 1000
    by_id = get(exchange, f"/api/v3/historicalTrades?symbol=BTCUSDT&fromId={ids[100]}&limit=1000", now)
    assert [trade["id"] for trade in by_id] == ids[100:1100]
    over_the_hour = get(exchange, f"/api/v3/historicalTrades?symbol=BTCUSDT&fromId={ids[3595]}&limit=9", now)
    assert [trade["id"] for trade in over_the_hour] == ids[3595:3604]
    assert get(exchange, f"/api/v3/historicalTrades?symbol=BTCUSDT&fromId={ids[-1] + 1}", now) == []
    assert get(exchange, "/api/v3/historicalTrades?symbol=BTCUSDT&fromId=0&limit=2", now)[0]["id"] == 1
    begin, end = START // 1000 + 5_000, START // 1000 + 65_000
    window = get(
        exchange, f"/api/v3/aggTrades?symbol=BTCUSDT&startTime={begin}&endTime={end}&limit=1000", now
    )
    assert [trade["a"] for trade in window] == trades_between("BTC/USDT", begin * 1000, end * 1000 + 1)
    assert list(window[0]) == ["a", "p", "q", "f", "l", "T", "m", "M"]
    assert len(get(exchange, "/api/v3/aggTrades?symbol=BTCUSDT", now)) == 500
    far = get(exchange, f"/api/v3/aggTrades?symbol=BTCUSDT&startTime={10**17}&endTime={10**17}", now)
    assert far == []


def test_rest_klines_are_the_candles_of_the_trades() -> None:
    exchange = Binance(SYMBOLS, 7)
    now = START + 90_500_000
    rows = get(exchange, "/api/v3/klines?symbol=ETHUSDT&interval=1m&limit=3", now)
    assert [row[0] for row in rows] == [START // 1000 + minute * 60_000 for minute in (-1, 0, 1)]
    for row in rows:
        ids = trades_between("ETH/USDT", row[0] * 1000, min((row[6] + 1) * 1000, now))
        trades = get(
            exchange, f"/api/v3/historicalTrades?symbol=ETHUSDT&fromId={ids[0]}&limit={len(ids)}", now
        )
        prices = [float(trade["price"]) for trade in trades]
        bought = sum(float(trade["qty"]) for trade in trades if not trade["isBuyerMaker"])
        volume = sum(float(trade["qty"]) for trade in trades)
        assert [float(text) for text in row[1:5]] == [prices[0], max(prices), min(prices), prices[-1]]
        assert float(row[5]) == pytest.approx(volume)
        assert row[8] == len(ids)
        assert float(row[9]) == pytest.approx(bought)
        assert row[11] == "0"
    begin = START // 1000
    day = get(exchange, f"/api/v3/klines?symbol=ETHUSDT&interval=1d&startTime={begin}&limit=5", START + DAY)
    assert [row[8] for row in day] == [86_400]
    spaced = f"/api/v3/klines?symbol=ETHUSDT&interval=5m&startTime={begin + 1}&endTime={begin + 900_000}"
    assert [row[0] - begin for row in get(exchange, spaced)] == [300_000, 600_000, 900_000]
    assert get(exchange, f"/api/v3/klines?symbol=ETHUSDT&interval=1m&startTime={10**17}") == []
    oldest = get(exchange, "/api/v3/klines?symbol=ETHUSDT&interval=1m&startTime=0&limit=2")
    assert oldest[0][7:9][1] > 0


def test_rest_book_info_time_and_filters() -> None:
    exchange = Binance(SYMBOLS, 7)
    assert get(exchange, "/api/v3/ping") == {}
    assert get(exchange, "/api/v3/time", START) == {"serverTime": START // 1000}
    book = get(exchange, "/api/v3/depth?symbol=BTCUSDT&limit=5")
    assert list(book) == ["lastUpdateId", "bids", "asks"]
    assert len(book["bids"]) == len(book["asks"]) == 5
    assert len(get(exchange, "/api/v3/depth?symbol=BTCUSDT&limit=1000")["bids"]) >= 100
    info = get(exchange, "/api/v3/exchangeInfo")
    assert [symbol["symbol"] for symbol in info["symbols"]] == ["BTCUSDT", "ETHUSDT"]
    tick = info["symbols"][0]["filters"][0]["tickSize"]
    assert all(
        float(price) / float(tick) == pytest.approx(round(float(price) / float(tick)))
        for price, _ in book["bids"]
    )
    one = get(exchange, "/api/v3/exchangeInfo?symbol=ETHUSDT")["symbols"]
    several = get(exchange, "/api/v3/exchangeInfo?symbols=" + quote('["ETHUSDT"]'))["symbols"]
    assert one == several == info["symbols"][1:]


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/api/v3/depth?symbol=NOPEUSDT", -1121),
        ("/api/v3/trades", -1102),
        ("/api/v3/trades?symbol=BTCUSDT&limit=many", -1100),
        ("/api/v3/trades?symbol=BTCUSDT&limit=-5", -1100),
        ("/api/v3/historicalTrades?symbol=BTCUSDT&fromId=1e5", -1100),
        ("/api/v3/klines?symbol=BTCUSDT&interval=7m", -1120),
        ("/api/v3/klines?symbol=BTCUSDT", -1120),
        ("/api/v3/exchangeInfo?symbols=BTCUSDT", -1100),
        ("/api/v3/exchangeInfo?symbol=NOPE", -1121),
    ],
)
def test_rest_errors_in_binances_form(target: str, code: int) -> None:
    status, body = get(Binance(SYMBOLS, 7), target)
    assert status == 400
    assert body["code"] == code
    assert body["msg"]


def test_shapes_are_those_of_the_recording(shared_data: Path) -> None:
    recorded: dict[str, Any] = {}
    for line in (shared_data / "binance" / "BINANCE.ws.1.0").read_text().splitlines():
        if '"data":{"e"' in line:
            message = json.loads(line.split(": ", 1)[1])
            recorded.setdefault(message["stream"].split("@", 1)[1], message)
    session = Binance(SYMBOLS, 7).connect(
        "/stream?streams=btcusdt@depth@100ms/btcusdt@kline_1m/btcusdt@aggTrade"
    )
    assert session is not None
    ours: dict[str, Any] = {}
    for sent in session.messages(START, START + 30_000_000):
        message = json.loads(sent.payload)
        ours[message["stream"].split("@", 1)[1]] = message
    for channel in ("depth@100ms", "kline_1m", "aggTrade"):
        assert shape(ours[channel]) == shape(recorded[channel]), channel
    book = json.loads(
        (shared_data / "binance" / "BINANCE.http.0.0").read_text().split(": ", 2)[1].split("\n")[0]
    )
    assert shape(get(Binance(SYMBOLS, 7), "/api/v3/depth?symbol=BTCUSDT")) == shape(book)


def shape(value: Any) -> Any:
    """Keys in order and types; the decimals of numbers as text; a list by its first element."""
    if isinstance(value, dict):
        return [(key, shape(inner)) for key, inner in value.items()]
    if isinstance(value, list):
        return "list"
    if isinstance(value, str) and "." in value:
        return f"text with {len(value.split('.')[1])} decimals"
    return type(value).__name__


def test_messages_decode_at_once() -> None:
    session = Binance(SYMBOLS, 7).connect(f"/stream?streams={STREAMS}")
    assert session is not None
    for sent in session.messages(START, START + 120_000_000):
        msgspec.json.decode(sent.payload)
