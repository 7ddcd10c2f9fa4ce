import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from collector import exchanges
from collector.exchanges.events import BookDelta, BookReset, CandleSeen, TradeSeen
from collector.listening import require_private
from collector.simulator.binance import BinanceExchange
from collector.simulator.clock import Pace, default_start
from collector.simulator.server import FIRST_MOMENT, Simulator, serve
from market import DAY, MICROSECONDS, Instrument, OrderBook, Side, Unavailable, WrongUse, parse_time

START = parse_time("2026-01-01")
SYMBOLS = ("BTC/USDT", "ETH/USDT")
STREAMS = "/".join(
    f"{name}@{kind}" for name in ("btcusdt", "ethusdt") for kind in ("trade", "depth@100ms", "kline_1m")
)
TRUTH_KEYS = ["symbol", "trade_id", "timestamp_us", "price", "size", "side"]


class Steps:
    """Real time that jumps ahead whenever somebody waits for it."""

    def __init__(self, now: int) -> None:
        self.began = now
        self.passed = 0.0

    def now(self) -> int:
        return self.began + int(self.passed * MICROSECONDS)

    def elapsed(self) -> float:
        return self.passed

    async def sleep(self, seconds: float) -> None:
        self.passed += seconds
        await asyncio.sleep(0)

    async def past(self, now: int) -> None:
        """Wait until others have waited so long."""
        while self.now() < now:
            await asyncio.sleep(0)


@asynccontextmanager
async def subscribed(
    simulator: Simulator, target: str = f"/stream?streams={STREAMS}", **options: Any
) -> AsyncIterator[ClientConnection]:
    # What is still on its way when a test has seen enough need not be waited for.
    url = simulator.address.ws_url + target
    async with connect(url, compression=None, close_timeout=0.1, **options) as websocket:
        yield websocket


async def take_until(websocket: ClientConnection, time: int) -> list[dict[str, Any]]:
    """The payloads up to simulated `time` (microseconds); the first later one is lost."""
    found = []
    async for message in websocket:
        payload = json.loads(message)
        payload = payload.get("data", payload)
        if payload.get("E", 0) * 1000 >= time:
            return found
        if "e" in payload:
            found.append(payload)
    raise AssertionError("the connection ended early")


def trades_between(symbol: str, begin: int, end: int, seed: int = 7) -> list[int]:
    """Ids of the trades with begin <= time < end (microseconds)."""
    market = BinanceExchange([symbol], seed).markets[symbol]
    ids = []
    for hour in range(begin // 3_600_000_000, (end - 1) // 3_600_000_000 + 1):
        trades = market.trades(hour)
        inside = (trades.time * 1000 >= begin) & (trades.time * 1000 < end)
        ids += [trades.first_id + ordinal for ordinal in inside.nonzero()[0].tolist()]
    return ids


def truth_of(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def get(exchange: BinanceExchange, target: str, now: int = START + DAY) -> Any:
    answer = exchange.rest.answer(target, now)
    return json.loads(answer.body) if answer.status == 200 else (answer.status, json.loads(answer.body))


def test_a_subscriber_gets_everything_in_order_and_the_truth_says_the_same(tmp_path: Path) -> None:
    end = START + 300 * MICROSECONDS

    async def run() -> list[dict[str, Any]]:
        truth = tmp_path / "truth.jsonl"
        async with (
            serve(SYMBOLS, 7, start=START, speed=1e6, truth=truth, clock=Steps(START + DAY)) as simulator,
            subscribed(simulator) as websocket,
        ):
            return await take_until(websocket, end)

    payloads = asyncio.run(run())
    times = [payload["E"] for payload in payloads]
    assert times == sorted(times)
    truth = truth_of(tmp_path / "truth.jsonl")
    assert all(list(line) == TRUTH_KEYS for line in truth)
    assert all(isinstance(value, str) for line in truth for value in line.values())
    for symbol in SYMBOLS:
        name = symbol.replace("/", "")
        sent = [payload for payload in payloads if payload["e"] == "trade" and payload["s"] == name]
        assert [payload["t"] for payload in sent] == trades_between(symbol, START, end)
        happened = [line for line in truth if line["symbol"] == symbol][: len(sent)]
        for payload, line in zip(sent, happened, strict=True):
            assert line["trade_id"] == str(payload["t"])
            assert line["timestamp_us"] == str(payload["T"] * 1000)
            assert (float(line["price"]), float(line["size"])) == (float(payload["p"]), float(payload["q"]))
            assert line["side"] == ("sell" if payload["m"] else "buy")
        seconds = [p["E"] for p in payloads if p["e"] == "depthUpdate" and p["s"] == name]
        assert seconds == list(range(START // 1000, end // 1000, 1000))
        closed = [p["k"]["t"] for p in payloads if p["e"] == "kline" and p["s"] == name and p["k"]["x"]]
        assert closed == [START // 1000 + minute * 60_000 for minute in range(-1, 4)]


def test_our_own_adapter_reads_every_word_and_finds_the_book_of_rest() -> None:
    adapter = exchanges.find("simulated")
    exchange = BinanceExchange(SYMBOLS, 7)
    instruments = adapter.parse_rest(
        "/api/v3/exchangeInfo", exchange.rest.answer("/api/v3/exchangeInfo", START).body
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
        (reset,) = adapter.parse_rest(request.path, exchange.rest.answer(request.path, now).body)
        assert isinstance(reset, BookReset)
        book = OrderBook()
        book.replace(reset.bids, reset.asks)
        return book, reset

    book, reset = whole_book(START + 100_500_000)
    sequence = adapter.book_sequence("ETH/USDT")
    sequence.reset(reset)
    applied, kinds = 0, set()
    for message in session.messages(START + 90 * MICROSECONDS, START + 200 * MICROSECONDS):
        for event in adapter.parse(message):
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
    assert book.top(1000) == later.top(1000)


def test_a_restart_continues_the_same_tape() -> None:
    async def run(begin: int, end: int) -> list[dict[str, Any]]:
        async with (
            serve(["BTC/USDT"], 7, start=begin, speed=1e6, clock=Steps(START + DAY)) as simulator,
            subscribed(simulator, "/ws/btcusdt@trade") as websocket,
        ):
            return await take_until(websocket, end)

    middle, end = START + 3_590_000_000, START + 3_620_000_000
    first = asyncio.run(run(middle - 60_000_000, middle))
    second = asyncio.run(run(middle, end))
    ids = [payload["t"] for payload in first + second]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert ids == trades_between("BTC/USDT", middle - 60_000_000, end)


def test_time_stands_still_until_the_first_subscription_and_rests_at_the_present() -> None:
    async def run() -> None:
        clock = Steps(START)
        async with serve(SYMBOLS, 7, start=START - 30_000_000, speed=1000, clock=clock) as simulator:
            clock.passed += 5
            for _ in range(5):
                await asyncio.sleep(0)
            assert simulator.time == START - 30_000_000
            assert not simulator.is_live
            async with subscribed(simulator, "/ws") as websocket:
                clock.passed += 5
                await (await websocket.ping())
                assert simulator.time == START - 30_000_000
                await websocket.send('{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}')
                payloads = await take_until(websocket, START + 20_000_000)
                assert simulator.is_live
                assert simulator.time <= clock.now()
                assert payloads[0]["t"] == trades_between("BTC/USDT", START - 30_000_000, START)[0]
                assert clock.now() >= START + 20_000_000, "no trade came before its time"

    asyncio.run(run())


def test_at_real_speed_it_starts_now() -> None:
    async def run() -> list[dict[str, Any]]:
        clock = Steps(START + 500_000)
        async with serve(["BTC/USDT"], 7, clock=clock) as simulator:
            clock.passed += 1000
            assert simulator.time == clock.now()
            async with subscribed(simulator, "/ws/btcusdt@trade") as websocket:
                return await take_until(websocket, clock.now() + 20_000_000)

    payloads = asyncio.run(run())
    assert payloads[0]["T"] * 1000 >= START + 1_000_500_000


def test_what_happens_while_nobody_listens_is_in_the_truth_and_over_rest(tmp_path: Path) -> None:
    async def run() -> tuple[list[int], list[int], list[int]]:
        clock = Steps(START + DAY)
        async with (
            serve(SYMBOLS, 7, start=START, speed=100, truth=tmp_path / "truth", clock=clock) as simulator,
            httpx.AsyncClient(base_url=simulator.address.rest_url) as http,
        ):
            async with subscribed(simulator, "/ws/btcusdt@trade") as websocket:
                before = [p["t"] for p in await take_until(websocket, START + 30_000_000)]
            await clock.past(START + DAY + 3_000_000)
            assert simulator.time > START + 190_000_000
            async with subscribed(simulator, "/stream?streams=btcusdt@trade") as websocket:
                after = [p["t"] for p in await take_until(websocket, simulator.time + 60_000_000)]
            answer = await http.get(
                "/api/v3/historicalTrades",
                params={"symbol": "BTCUSDT", "fromId": before[-1] + 1, "limit": after[0] - before[-1] - 1},
            )
            return before, [trade["id"] for trade in answer.json()], after

    before, missed, after = asyncio.run(run())
    ids = before + missed + after
    assert len(missed) > 100
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    truth = truth_of(tmp_path / "truth")
    assert [int(line["trade_id"]) for line in truth][: len(ids)] == ids
    assert {line["symbol"] for line in truth} == {"BTC/USDT"}, "nobody ever asked for the other"


def test_a_slow_reader_makes_time_wait_and_misses_nothing(tmp_path: Path) -> None:
    async def run() -> list[dict[str, Any]]:
        clock = Steps(START + 10 * DAY)
        async with serve(SYMBOLS, 7, start=START, speed=1e6, truth=tmp_path / "t", clock=clock) as simulator:
            target = f"/stream?streams={STREAMS}"
            async with subscribed(simulator, target, max_queue=4) as websocket:
                stuck, reached = 0, -1
                while stuck < 50:
                    await asyncio.sleep(0.002)
                    stuck = stuck + 1 if simulator.time == reached else 0
                    reached = simulator.time
                assert reached < START + 3 * 3_600_000_000, "the market ran away from its reader"
                return await take_until(websocket, reached + 600_000_000)

    payloads = asyncio.run(run())
    ids = [payload["t"] for payload in payloads if payload["e"] == "trade" and payload["s"] == "ETHUSDT"]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert ids[0] == trades_between("ETH/USDT", START, START + 3_600_000_000)[0]


def test_two_subscribers_get_the_same_from_then_on() -> None:
    async def run() -> tuple[list[str], list[str]]:
        clock = Steps(START + DAY)
        async with serve(SYMBOLS, 7, start=START, speed=50, clock=clock) as simulator:
            target = f"{simulator.address.ws_url}/ws/btcusdt@trade/ethusdt@aggTrade"
            async with connect(target) as early:
                first = [str(await early.recv()) for _ in range(20)]
                async with connect(target) as late:
                    second = [str(await late.recv()) for _ in range(20)]
                    while second[-1] not in first:
                        first.append(str(await early.recv()))
                    return first, second

    first, second = asyncio.run(run())
    assert first[-20:] == second


def test_leaving_closes_connections_after_what_was_sent_and_finishes_the_truth(tmp_path: Path) -> None:
    async def run() -> tuple[list[int], int | None]:
        received: list[int] = []
        clock = Steps(START + DAY)
        async with serve(
            ["BTC/USDT"], 7, start=START, speed=1000, truth=tmp_path / "t", clock=clock
        ) as simulator:
            websocket = await connect(f"{simulator.address.ws_url}/ws/btcusdt@trade", max_queue=None)
            while len(received) < 50:
                received.append(json.loads(await websocket.recv())["t"])
        received.extend([json.loads(message)["t"] async for message in websocket])
        return received, websocket.close_code

    received, code = asyncio.run(run())
    assert code == 1001
    assert received == [int(line["trade_id"]) for line in truth_of(tmp_path / "t")]


def test_subscriptions_by_message_as_binance_answers_them() -> None:
    exchange = BinanceExchange(SYMBOLS, 7)
    session = exchange.connect("/ws")
    assert session is not None

    def say(message: str) -> Any:
        return json.loads(session.receive(message))

    assert session.messages(START, START + 5_000_000) == []
    ask = {"method": "SUBSCRIBE", "params": ["btcusdt@trade", "nobody@trade", "btcusdt@nothing"], "id": 3}
    assert say(json.dumps(ask)) == {"result": None, "id": 3}
    assert session.symbols == ["BTC/USDT"]
    assert say('{"method":"LIST_SUBSCRIPTIONS","id":"x"}') == {"result": ask["params"], "id": "x"}
    assert {json.loads(text)["e"] for text in session.messages(START, START + 60_000_000)} == {"trade"}
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
    assert (BinanceExchange(SYMBOLS, 7).connect(target) is not None) is is_known


def test_a_slice_of_time_is_the_sum_of_its_parts() -> None:
    exchange = BinanceExchange(SYMBOLS, 7)
    session = exchange.connect(f"/stream?streams={STREAMS}/btcusdt@aggTrade/ethusdt@depth")
    assert session is not None
    begin, end = START + 3_590_000_000, START + 3_610_000_000
    cuts = [*range(begin, end, 333_333), end]
    parts = [text for a, b in pairwise(cuts) for text in session.messages(a, b)]
    assert parts == session.messages(begin, end)
    assert len(parts) > 100


def test_rest_trades_by_id_by_time_and_newest() -> None:
    exchange = BinanceExchange(SYMBOLS, 7)
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
    exchange = BinanceExchange(SYMBOLS, 7)
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
    exchange = BinanceExchange(SYMBOLS, 7)
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
    status, body = get(BinanceExchange(SYMBOLS, 7), target)
    assert status == 400
    assert body["code"] == code
    assert body["msg"]


def test_rest_over_http() -> None:
    async def run() -> None:
        async with (
            serve(SYMBOLS, 7, start=START, speed=10, clock=Steps(START)) as simulator,
            httpx.AsyncClient(base_url=simulator.address.rest_url) as http,
        ):
            answer = await http.get("/api/v3/time")
            assert answer.json() == {"serverTime": START // 1000}
            assert answer.headers["content-type"] == "application/json;charset=UTF-8"
            assert (await http.get("/api/v3/depth", params={"symbol": "X"})).status_code == 400
            assert (await http.get("/nowhere")).status_code == 404
            assert (await http.post("/api/v3/time")).is_error
            with pytest.raises(ConnectionClosed) as closed:
                async with connect(f"{simulator.address.ws_url}/nowhere") as websocket:
                    await websocket.recv()
            assert closed.value.rcvd.code == 1008

    asyncio.run(run())


def test_shapes_are_those_of_the_recording(shared_data: Path) -> None:
    recorded: dict[str, Any] = {}
    for line in (shared_data / "binance" / "BINANCE.ws.1.0").read_text().splitlines():
        if '"data":{"e"' in line:
            message = json.loads(line.split(": ", 1)[1])
            recorded.setdefault(message["stream"].split("@", 1)[1], message)
    session = BinanceExchange(SYMBOLS, 7).connect(
        "/stream?streams=btcusdt@depth@100ms/btcusdt@kline_1m/btcusdt@aggTrade"
    )
    assert session is not None
    ours: dict[str, Any] = {}
    for text in session.messages(START, START + 30_000_000):
        message = json.loads(text)
        ours[message["stream"].split("@", 1)[1]] = message
    for channel in ("depth@100ms", "kline_1m", "aggTrade"):
        assert shape(ours[channel]) == shape(recorded[channel]), channel
    book = json.loads(
        (shared_data / "binance" / "BINANCE.http.0.0").read_text().split(": ", 2)[1].split("\n")[0]
    )
    assert shape(get(BinanceExchange(SYMBOLS, 7), "/api/v3/depth?symbol=BTCUSDT")) == shape(book)


def shape(value: Any) -> Any:
    """Keys in order and types; the decimals of numbers as text; a list by its first element."""
    if isinstance(value, dict):
        return [(key, shape(inner)) for key, inner in value.items()]
    if isinstance(value, list):
        return "list"
    if isinstance(value, str) and "." in value:
        return f"text with {len(value.split('.')[1])} decimals"
    return type(value).__name__


def test_pace_never_overtakes_the_present_but_may_live_in_the_future() -> None:
    clock = Steps(START)
    past, future = Pace(START - 100, 1000, clock), Pace(START + 100, 1000, clock)
    assert (past.begin(), future.begin()) == (START - 100, START + 100)
    clock.passed = 7.0
    assert past.target() == clock.now()
    assert future.target() == START + 100 + 6_001_000_000
    assert past.is_live(past.target())
    assert not future.is_live(future.target())
    slow = Pace(START, 0.5, clock)
    slow.begin()
    clock.passed = 9.0
    assert slow.target() == START + 1_000_000


def test_default_start() -> None:
    clock = Steps(START + 5_000_000)
    assert default_start(1, clock) is None
    assert default_start(2, clock) == START - DAY


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"speed": 0}, "speed"),
        ({"speed": -1}, "speed"),
        ({"speed": float("nan")}, "speed"),
        ({"speed": 1e300}, "speed"),
        ({"start": FIRST_MOMENT - 1}, "exists from"),
        ({"start": parse_time("2300-01-01")}, "exists from"),
        ({"symbols": ()}, "symbols"),
        ({"symbols": ("BTC/EUR",)}, "BTC/EUR"),
        ({"host": "0.0.0.0"}, "refusing"),
        ({"host": "8.8.8.8"}, "refusing"),
        ({"host": "example.com"}, "127.0.0.1"),
        ({"truth": Path("/nowhere/at/all")}, "cannot write"),
        ({"port": 70_000}, "listen"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], reason: str) -> None:
    async def run() -> None:
        async with serve(**{"symbols": SYMBOLS, "seed": 7} | options):
            pass

    with pytest.raises(WrongUse, match=reason):
        asyncio.run(run())


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    async def run(port: int) -> None:
        async with serve(SYMBOLS, 7, port=port):
            pass

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(WrongUse, match="in use"):
            asyncio.run(run(taken.getsockname()[1]))


def test_private_addresses_are_fine() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "192.168.1.5", "10.0.0.1"):
        require_private(host)


def test_on_ipv6_the_urls_are_bracketed() -> None:
    async def run() -> None:
        async with serve(SYMBOLS, 7, host="::1") as simulator:
            assert simulator.address.ws_url == f"ws://[::1]:{simulator.address.port}"

    asyncio.run(run())


def test_it_ends_though_somebody_connected_and_never_said_a_word() -> None:
    async def run() -> None:
        async with serve(SYMBOLS, 7) as simulator:
            _, writer = await asyncio.open_connection("127.0.0.1", simulator.address.port)
        writer.close()

    asyncio.run(asyncio.wait_for(run(), 5))


def test_a_failing_simulation_says_so(tmp_path: Path) -> None:
    async def run() -> None:
        async with (
            serve(["BTC/USDT"], 7, start=START, speed=1e6, truth=Path("/dev/full")) as simulator,
            subscribed(simulator, "/ws/btcusdt@trade"),
        ):
            await asyncio.wait_for(simulator.wait(), 10)

    with pytest.raises(Unavailable, match="cannot write the truth"):
        asyncio.run(run())


def test_messages_decode_at_once() -> None:
    session = BinanceExchange(SYMBOLS, 7).connect(f"/stream?streams={STREAMS}")
    assert session is not None
    for text in session.messages(START, START + 120_000_000):
        msgspec.json.decode(text)
