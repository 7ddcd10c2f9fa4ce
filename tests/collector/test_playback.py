import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect

from collector import playback as module
from collector.exchanges.packed import is_packed
from collector.playback import Playback, play
from collector.recorded_answers import RecordedAnswers
from collector.recording import Received, read
from market import WrongUse

FAST = 1e6
WS = """wss://a.example/ws <-> 100.0
wss://a.example/ws <- 100.05: {"subscribe":1}
100.1: {"n":1}
100.2: {"n":2,"text":"é"}

configuration: {"x":1}
100.6: {"n":3}
"""
REST = """https://a.example/info -> 99.5: {"info":1}
https://a.example/book?symbol=X&limit=5 -> 100.3: {"book":1}
https://a.example/book?symbol=X&limit=5 -> 100.5: {"book":2}
"""


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    websocket, rest = tmp_path / "ws", tmp_path / "http.gz"
    websocket.write_text(WS)
    rest.write_bytes(gzip.compress(REST.encode()))
    return [websocket, rest]


@asynccontextmanager
async def playing(files: Sequence[Path], speed: float) -> AsyncIterator[tuple[Playback, asyncio.Task[None]]]:
    async with play(files, speed=speed) as playback:
        running = asyncio.create_task(playback.run())
        yield playback, running
        await asyncio.wait_for(running, 30)


async def everything(websocket: ClientConnection) -> list[str]:
    return [str(message) async for message in websocket]


def client(playback: Playback) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=playback.address.rest_url, timeout=20)


def test_it_plays_once_exactly_what_was_recorded_and_closes_normally(files: list[Path]) -> None:
    async def run() -> tuple[list[str], int | None]:
        async with (
            playing(files[:1], FAST) as (playback, _),
            connect(f"{playback.address.ws_url}/any/path?at=all") as websocket,
        ):
            await websocket.send("whatever is subscribed")
            return await everything(websocket), websocket.close_code

    assert asyncio.run(run()) == (['{"n":1}', '{"n":2,"text":"é"}', '{"n":3}'], 1000)


def test_the_recordings_frames_arrive_untouched(shared_data: Path) -> None:
    for names in (
        ["binance/BINANCE.ws.1.0", "binance/BINANCE.0.gz"],
        ["coinbase/COINBASE.ws.28.0.part-a.gz"],
        ["kraken_v1/KRAKEN.ws.48.0.gz", "kraken_v1/KRAKEN.ws.50.0.gz"],
        ["htx/HUOBI.ws.44.0.gz"],
    ):
        paths = [shared_data / name for name in names]

        async def run(paths: list[Path]) -> list[str | bytes]:
            async with (
                playing(paths, 1e9) as (playback, _),
                connect(playback.address.ws_url, max_size=None) as websocket,
            ):
                return [message async for message in websocket]

        # What is packed comes as a binary frame, everything else as text.
        recorded = [
            frame.message if is_packed(frame.message) else frame.message.decode()
            for frame in read(paths)
            if isinstance(frame, Received)
        ]
        assert asyncio.run(run(paths)) == recorded


@pytest.mark.usefixtures("patient")
def test_an_endpoint_gives_what_was_recorded_from_it(tmp_path: Path) -> None:
    recorded = tmp_path / "several"
    recorded.write_text(
        'wss://a.example/spot#1 =1 99: {"symbols":[],"streams":[]}\n'
        'wss://a.example/spot#2 =2 99: {"symbols":[],"streams":[]}\n'
        'wss://a.example/linear?x =3 99: {"symbols":[],"streams":[]}\n'
        "100 1: 1\n101 2: 2\n102 3: 3\n103: 4\n104 1+: 5\n"
    )

    async def run() -> list[list[str]]:
        async with playing([recorded], FAST) as (playback, _):
            url = playback.address.ws_url
            async with connect(f"{url}/spot?y") as spot:
                # Time does not begin before all are there.
                await asyncio.sleep(0.1)
                async with connect(f"{url}/else") as other, connect(f"{url}/linear") as linear:
                    return list(await asyncio.gather(*map(everything, (spot, linear, other))))

    spot, linear, other = asyncio.run(run())
    assert (spot, linear) == (["1", "2", "4", "5"], ["3", "4"])
    assert other == ["1", "2", "3", "4", "5"]


def test_at_speed_no_message_comes_before_its_time(files: list[Path]) -> None:
    async def run() -> list[float]:
        began = time.monotonic()
        async with playing(files[:1], 2) as (playback, _), connect(playback.address.ws_url) as websocket:
            return [time.monotonic() - began async for _ in websocket]

    for arrived, recorded in zip(asyncio.run(run()), (0.1, 0.2, 0.6), strict=True):
        assert recorded / 2 <= arrived + 0.002 < 20


def test_answers_of_before_the_first_frame_are_given_without_a_connection(files: list[Path]) -> None:
    async def run() -> None:
        async with play(files, speed=1) as playback, client(playback) as http:
            running = asyncio.create_task(playback.run())
            for _ in range(2):
                answer = await http.get("/info")
                assert answer.text == '{"info":1}'
                assert answer.headers["content-type"].startswith("application/json")
            assert (await http.get("/info?only=this")).json() == {"info": 1}
            assert not running.done()
            running.cancel()

    asyncio.run(run())


def test_an_answer_is_held_until_its_time(files: list[Path]) -> None:
    async def run() -> tuple[str, float]:
        async with playing(files, 1) as (playback, _), client(playback) as http:
            asking = asyncio.create_task(http.get("/book?symbol=X&limit=5"))
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert not asking.done(), "nobody connected yet"
            began = time.monotonic()
            async with connect(playback.address.ws_url):
                return (await asking).text, time.monotonic() - began

    text, waited = asyncio.run(run())
    assert text == '{"book":1}'
    assert waited > 0.298


def test_repeated_answers_are_given_in_their_order_and_the_last_for_ever(files: list[Path]) -> None:
    async def run() -> list[str]:
        async with playing(files, FAST) as (playback, _), client(playback) as http:
            async with connect(playback.address.ws_url):
                asked = [await http.get("/book?symbol=X&limit=5") for _ in range(2)]
                asked.append(await http.get("/book?limit=1000&symbol=X"))
            return [answer.text for answer in asked]

    assert asyncio.run(run()) == ['{"book":1}', '{"book":2}', '{"book":2}']


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 20.0)
    monkeypatch.setattr(module, "ALL_PATIENCE", 60.0)


@pytest.mark.usefixtures("patient")
def test_a_fast_playback_waits_for_who_asks_late(files: list[Path]) -> None:
    async def run() -> tuple[list[str], list[str]]:
        async with (
            playing(files, FAST) as (playback, running),
            client(playback) as http,
            connect(playback.address.ws_url) as websocket,
        ):
            before = [str(await websocket.recv()) for _ in range(2)]
            for _ in range(2):
                assert not running.done()
                before.append((await http.get("/book?symbol=X&limit=5")).text)
            return before, await everything(websocket)

    before, after = asyncio.run(run())
    assert before == ['{"n":1}', '{"n":2,"text":"é"}', '{"book":1}', '{"book":2}']
    assert after == ['{"n":3}']


def test_its_patience_ends(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)

    async def run() -> list[str]:
        async with playing(files, FAST) as (playback, _), connect(playback.address.ws_url) as websocket:
            return await everything(websocket)

    began = time.monotonic()
    assert len(asyncio.run(run())) == 3
    assert 0.1 <= time.monotonic() - began < 60


def test_what_was_not_recorded_is_a_404_at_once(files: list[Path]) -> None:
    async def run() -> list[int]:
        async with play(files, speed=1) as playback, client(playback) as http:
            targets = ("/", "/trades?symbol=X", "/book?symbol=Y&limit=5", "/book", "/book/X", "/infos")
            return [(await http.get(target)).status_code for target in targets]

    assert asyncio.run(run()) == [404] * 6


@pytest.mark.usefixtures("patient")
def test_a_later_connection_joins(files: list[Path]) -> None:
    async def run() -> list[list[str]]:
        async with (
            playing(files, FAST) as (playback, _),
            client(playback) as http,
            connect(playback.address.ws_url) as first,
        ):
            assert [str(await first.recv()) for _ in range(2)] == ['{"n":1}', '{"n":2,"text":"é"}']
            async with connect(playback.address.ws_url) as second:
                for _ in range(2):
                    await http.get("/book?symbol=X&limit=5")
                return list(await asyncio.gather(everything(first), everything(second)))

    assert asyncio.run(run()) == [['{"n":3}'], ['{"n":3}']]


def test_leaving_early_gives_what_is_held(files: list[Path]) -> None:
    async def run() -> str:
        async with play(files, speed=1) as playback, client(playback) as http:
            asking = asyncio.create_task(http.get("/book?symbol=X&limit=5"))
            await asyncio.sleep(0.05)
            assert not asking.done()
            playback.release()
            return (await asking).text

    assert asyncio.run(asyncio.wait_for(run(), 10)) == '{"book":1}'


def test_damage_is_left_out_and_said(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text('1.0: {"n":1}\nnonsense\n2.0: {"n":2}\n3.0: {"n":')

    async def run() -> tuple[list[str], list[str]]:
        async with playing([broken], FAST) as (playback, _), connect(playback.address.ws_url) as websocket:
            return await everything(websocket), playback.damage

    messages, damage = asyncio.run(run())
    assert messages == ['{"n":1}', '{"n":2}']
    assert len(damage) == 2
    assert any("ends early" in words for words in damage)
    assert any("1 damaged" in words for words in damage)


@pytest.mark.parametrize("speed", [0, -1, float("nan"), 1e10])
def test_an_impossible_speed_is_refused(files: list[Path], speed: float) -> None:
    with pytest.raises(WrongUse, match="speed"):
        Playback(files, speed)


def test_files_without_a_message_are_refused(tmp_path: Path, files: list[Path]) -> None:
    with pytest.raises(WrongUse, match="no websocket message"):
        Playback(files[1:], 1)
    with pytest.raises(WrongUse, match="nowhere"):
        Playback([tmp_path / "nowhere"], 1)
    (tmp_path / "text").write_text("hello\nworld\n")
    with pytest.raises(WrongUse, match="not one readable message"):
        Playback([tmp_path / "text"], 1)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), min_size=1), st.data())
def test_each_answer_is_given_once_in_order(recorded: list[tuple[str, int]], data: st.DataObject) -> None:
    answers = RecordedAnswers()
    for t, (name, body) in enumerate(recorded):
        answers.add(f"https://x.example/{name}", t, str(body).encode())
    asked = data.draw(st.lists(st.sampled_from("ab"), max_size=30))
    for name in "ab":
        mine = [str(body).encode() for other, body in recorded if other == name]
        given = [answers.take(f"/{other}") for other in asked if other == name]
        expected = [mine[min(number, len(mine) - 1)] if mine else None for number in range(len(given))]
        assert [answer and answer.body for answer in given] == expected


def test_requests_match_by_what_they_ask() -> None:
    answers = RecordedAnswers()
    answers.add("https://x.example/book?symbol=A&limit=1000", 1, b"A")
    answers.add("https://x.example/book?symbol=B&limit=1000", 1, b"B")
    answers.add("https://x.example/list", 1, b"list")
    answers.add("https://x.example/trades?symbol=A&fromId=5&limit=10", 1, b"five")

    def body(target: str) -> bytes | None:
        answer = answers.take(target)
        return answer and answer.body

    assert body("/book?symbol=A&limit=1000") == b"A"
    assert body("/book?limit=1000&symbol=B") == b"B"
    assert body("/book?symbol=B") == b"B"
    assert body("/book?symbol=A&limit=5") == b"A"
    assert body("/book?symbol=C&limit=1000") is None
    assert body("/list?symbols=%5B%22A%22%5D") == b"list"
    assert body("/trades?symbol=A&fromId=5") == b"five"
    assert body("/trades?symbol=A&fromId=6&limit=10") is None
    assert body("/trades?symbol=A") is None
