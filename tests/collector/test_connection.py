"""One connection over real websockets: it comes back for ever, and never more often than it is told to."""

import asyncio
import gzip
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from itertools import pairwise

import pytest
from websockets.asyncio.server import serve as serve_websockets
from websockets.datastructures import Headers
from websockets.http11 import Response

from collector import connection as module
from collector.collect import Target
from collector.connection import Connection, rebase
from collector.exchanges.adapter import Line
from collector.exchanges.binance import Binance
from collector.exchanges.htx import Htx
from collector.feed import Feed
from collector.session import Session
from collector.simulator.server import serve
from market import Unavailable, parse_time
from storage.clock import wall_clock

PATIENCE = 20


class Listener:
    """Notes what happens, in its order; `work` is what it has to do for each message."""

    def __init__(self, work=None):
        self.events = []
        self.sent_at = []
        self.news = asyncio.Event()
        self.work = work

    def note(self, *event):
        self.events.append(event)
        self.news.set()

    async def opened(self, _):
        self.note("opened")

    def received(self, _, messages, streams):
        for message in messages:
            self.note("received", message)
        return self.work() if self.work else None

    async def moved(self, _):
        self.note("moved")

    async def closed(self, _, reason):
        self.note("closed", reason)

    def sent(self, _, text):
        self.sent_at.append(asyncio.get_running_loop().time())
        self.note("sent", text)

    def count(self, kind):
        return sum(event[0] == kind for event in self.events)

    async def until(self, kind, number):
        async with asyncio.timeout(PATIENCE):
            while self.count(kind) < number:
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def listening(handle, answer=None):
    options = {"compression": None, "ping_interval": None, "close_timeout": 0.1}
    async with serve_websockets(handle, "127.0.0.1", 0, process_request=answer, **options) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


@asynccontextmanager
async def running(connection):
    task = asyncio.create_task(connection.run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture(autouse=True)
def haste(monkeypatch):
    """Nobody waits long for a close."""
    monkeypatch.setattr(module, "CLOSE_TIMEOUT", 0.2)


class Least:
    """The least of what chance could give: no delay is waited for."""

    def __init__(self) -> None:
        self.longest: list[float] = []
        """What each could have been."""

    def __call__(self, low: float, high: float) -> float:
        self.longest.append(high)
        return low


def connect_to(url, listener, adapter=Binance, subscribe=(), chance=None):
    line = Line("/x?y=z", (), subscribe)
    return Connection(adapter(), line, base=url, listener=listener, chance=chance or Least())


async def idle(websocket):
    await websocket.wait_closed()


async def hear(websocket, note):
    async for text in websocket:
        note(text)


@asynccontextmanager
async def fed_by_htx(url, adapter):
    """The session of a feed that listens to one symbol."""
    target = Target(exchange="htx", symbols=("BTC/USDT",), ws_url=url)
    session = Session(adapter, target.symbols)
    session.stream("BTC/USDT")
    feed = Feed(session, target.symbols, ws_url=url, rest=target.rest(adapter), clock=wall_clock)
    task = asyncio.create_task(feed.run())
    try:
        async with asyncio.timeout(PATIENCE):
            yield session
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await feed.close()


def test_it_tries_for_ever_and_the_delay_is_capped():
    chance = Least()

    async def scenario():
        listener = Listener()
        refusals = iter(range(40))

        def refuse(_, __):
            is_refused = next(refusals, None) is not None
            return Response(HTTPStatus.BAD_GATEWAY, "away", Headers()) if is_refused else None

        async with listening(idle, refuse) as url, running(connect_to(url, listener, chance=chance)):
            await listener.until("opened", 1)
        assert listener.events[0] == ("opened",), "a try that failed is no loss"

    asyncio.run(scenario())
    assert chance.longest[:7] == [1, 2, 4, 8, 10, 10, 10]
    assert set(chance.longest[7:40]) == {10}


def test_nobody_there_is_said_and_tried_again():
    chance = Least()

    async def scenario():
        connection = connect_to("ws://127.0.0.1:9", Listener(), chance=chance)
        with pytest.raises(Unavailable, match=r"cannot reach binance at ws://127\.0\.0\.1:9"):
            await connection.probe()
        async with running(connection) as task, asyncio.timeout(PATIENCE):
            while len(chance.longest) < 20:
                await asyncio.sleep(0)
            assert not task.done()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("status", "headers", "pause"),
    [(429, {"Retry-After": "1"}, 1.0), (503, {"Retry-After": "1"}, 1.0), (418, {}, 0.5), (403, {}, 0.5)],
)
def test_a_handshake_that_asks_for_silence_gets_it(status, headers, pause, monkeypatch):
    monkeypatch.setattr(module, "DEFAULT_PAUSE", 0.5)
    tries = []

    async def scenario():
        loop, listener = asyncio.get_running_loop(), Listener()

        def refuse(_, __):
            tries.append(loop.time())
            return Response(status, "too many", Headers(headers)) if len(tries) == 1 else None

        async with listening(idle, refuse) as url, running(connect_to(url, listener)):
            await listener.until("opened", 1)

    asyncio.run(scenario())
    assert len(tries) == 2
    assert tries[1] - tries[0] >= pause


class Impatient(Binance):
    silence_limit = 0.2


def test_silence_is_a_loss_and_a_new_connection_follows():
    async def scenario():
        listener = Listener()

        async def one_word(websocket):
            await websocket.send("{}")
            await websocket.wait_closed()

        async with listening(one_word) as url, running(connect_to(url, listener, Impatient)):
            await listener.until("opened", 3)
        return listener.events

    one_life = [("opened",), ("received", b"{}"), ("closed", "silent for 0 s")]
    assert asyncio.run(scenario())[:6] == 2 * one_life


def test_to_be_busy_ourselves_is_no_silence():
    async def scenario():
        listener = Listener(work=lambda: asyncio.sleep(0.5))

        async def two_words(websocket):
            await websocket.send("1")
            await listener.until("received", 1)
            await websocket.send("2")
            await websocket.wait_closed()

        async with listening(two_words) as url, running(connect_to(url, listener, Impatient)):
            await listener.until("closed", 1)
        return listener.events

    assert [event[0] for event in asyncio.run(scenario())[:4]] == ["opened", "received", "received", "closed"]


@pytest.mark.parametrize("is_orderly", [True, False])
def test_an_exchange_that_leaves_with_or_without_a_word_is_connected_to_again(is_orderly):
    async def scenario():
        listener = Listener()

        async def leave(websocket):
            await websocket.send("{}")
            if is_orderly:
                await websocket.close()
            else:
                websocket.transport.close()

        async with listening(leave) as url, running(connect_to(url, listener)):
            await listener.until("opened", 3)
        return listener.events

    events = asyncio.run(scenario())
    assert [event[0] for event in events[:6]] == 2 * ["opened", "received", "closed"]
    assert (events[2] == ("closed", "closed by the exchange")) == is_orderly


def test_an_exchange_that_reads_no_more_cannot_keep_us_from_ending():
    async def scenario():
        listener, is_over = Listener(), asyncio.Event()

        async def deaf(websocket):
            websocket.transport.pause_reading()
            await is_over.wait()
            websocket.transport.abort()

        async with listening(deaf) as url:
            async with asyncio.timeout(PATIENCE):
                async with running(connect_to(url, listener)):
                    await listener.until("opened", 1)
            is_over.set()

    asyncio.run(scenario())


def test_texts_leave_room_between_them_and_pings_are_answered():
    class Talkative(Binance):
        send_interval = 0.05

        def keep_alive(self):
            return 0.01, "beat"

    async def scenario():
        listener, heard = Listener(), []

        async def server(websocket):
            await (await websocket.ping())
            await hear(websocket, heard.append)

        subscriptions = ("first", "second", "third")
        async with listening(server) as url, running(connect_to(url, listener, Talkative, subscriptions)):
            await listener.until("sent", 6)
        assert heard[:5] == [*subscriptions, "beat", "beat"]
        return listener.sent_at

    times = asyncio.run(scenario())
    assert min(b - a for a, b in pairwise(times)) >= 0.05 - 1e-3


def test_an_answer_that_must_wait_for_its_turn_holds_up_no_reading():
    class Slow(Htx):
        send_interval = 60.0

    async def scenario():
        heard = []

        async def server(websocket):
            for number in range(5):
                await websocket.send(gzip.compress(b'{"ping":%d}' % number))
            await hear(websocket, heard.append)

        async with listening(server) as url, fed_by_htx(url, Slow()) as session:
            while session.counts.messages < 5 or not heard:
                await asyncio.sleep(0.01)
        assert len(heard) == 1
        assert "market.btcusdt" in heard[0]

    asyncio.run(scenario())


def test_a_ping_in_words_is_answered():
    class Quick(Htx):
        send_interval = 0.0

    async def scenario():
        heard = []

        async def server(websocket):
            await websocket.send(gzip.compress(b'{"ping":77}'))
            await hear(websocket, heard.append)

        async with listening(server) as url, fed_by_htx(url, Quick()):
            while '{"pong":77}' not in heard:
                await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_who_asks_without_end_and_takes_no_answer_is_left(monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING", 20)

    class Slow(Htx):
        send_interval = 60.0

    async def scenario():
        lives = []

        async def server(websocket):
            lives.append(websocket)
            for number in range(30):
                await websocket.send(gzip.compress(b'{"ping":%d}' % number))
            await websocket.wait_closed()

        async with listening(server) as url, fed_by_htx(url, Slow()):
            while len(lives) < 2:
                await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_a_planned_renewal_overlaps_and_no_trade_is_missed_or_taken_twice(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "OVERLAP_SECONDS", 0.2)
    symbols = ("BTC/USDT", "ETH/USDT")

    class ShortLived(Binance):
        exchange = "simulated"
        lifetime = 0.6

    async def scenario():
        start = parse_time("2026-03-01T22:00:00Z")
        async with serve(symbols, 11, start=start, speed=600) as simulator:
            address = simulator.address
            target = Target(
                exchange="simulated", symbols=symbols, ws_url=address.ws_url, rest_url=address.rest_url
            )
            adapter = ShortLived()
            session = Session(adapter, symbols)
            for symbol in symbols:
                session.stream(symbol)
            feed = Feed(session, symbols, ws_url=target.ws_url, rest=target.rest(adapter), clock=wall_clock)
            (connection,) = feed.connections
            task = asyncio.create_task(feed.run())
            async with asyncio.timeout(PATIENCE):
                while connection.opened < 4:
                    await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            batch = feed.take()
            await feed.close()
        return session, batch, connection

    session, batch, connection = asyncio.run(scenario())
    assert connection.connects >= 4
    for symbol in symbols:
        rows = batch.rows[symbol]
        ids = [trade.trade_seq for trade, _ in rows.trades]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        assert len(ids) > 100
        assert [gap for gap in rows.gaps if gap.stream == "trades"] == rows.late == []
        assert session.streams[symbol].duplicates > 10, "they did not overlap"
        # A book that had not come yet has nothing to begin anew.
        assert {gap.cause for gap in rows.gaps} <= {"reconnected"}


def test_one_that_is_stopped_while_it_is_renewed_leaves_neither_socket_open():
    async def scenario():
        opened, left = asyncio.Event(), []

        async def count(websocket):
            left.append(websocket)
            if len(left) == 2:
                opened.set()
            await websocket.wait_closed()
            left.remove(websocket)

        async with listening(count) as url:
            listener = Listener()
            connection = connect_to(url, listener)
            async with running(connection):
                await listener.until("opened", 1)
                connection.renew()
                await opened.wait()
                while connection.connects < 2:
                    await asyncio.sleep(0.01)
            async with asyncio.timeout(PATIENCE):
                while left:
                    await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_only_scheme_host_and_port_are_replaced():
    assert rebase("wss://a.example:9443/stream?streams=x", "ws://127.0.0.1:1") == (
        "ws://127.0.0.1:1/stream?streams=x"
    )
    assert rebase("wss://a.example/ws", None) == "wss://a.example/ws"
