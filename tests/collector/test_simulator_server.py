import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from simulated import START, STREAMS, SYMBOLS, Steps, subscribed, take_until, trades_between, truth_of
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from collector.simulator.server import FIRST_MOMENT, serve
from market import DAY, MICROSECONDS, Unavailable, WrongUse, parse_time

TRUTH_KEYS = ["symbol", "trade_id", "timestamp_us", "price", "size", "side"]


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
