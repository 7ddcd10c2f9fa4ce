"""An exchange that means no good: what it holds back, shows late or leaves out is on the tape in the end."""

import asyncio
import json
import threading
import time
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qs, urlsplit

import pytest

from collector import exchanges, heal, lookout
from collector.collect import Target, open_collector
from collector.listening import listen
from collector.outlet import Outlet
from collector.session import Session
from collector.spool import Spool
from collector.writer import Writer, proof_of
from market import MICROSECONDS, Side, Trade
from storage import verify
from storage.amend import lock_tapes
from storage.database import connect

SYMBOL = "BTC/USDT"
BOOK = {"lastUpdateId": 1, "bids": [["99.0", "1.0"]], "asks": [["101.0", "1.0"]]}
SECONDS = 20


@pytest.fixture(autouse=True)
def haste(monkeypatch):
    """Nobody waits for long."""
    for module, name, seconds in (
        (lookout, "FIRST_QUIET", 0.3),
        (lookout, "QUIET", 0.3),
        (lookout, "AGAIN", 0.1),
        (lookout, "PAUSE", 0.05),
        (lookout, "ON_ITS_WAY", 0.05),
        (heal, "LOOK_SECONDS", 0.2),
        (heal, "FIRST_RETRY", 0.05),
    ):
        monkeypatch.setattr(module, name, seconds)


class Exchange:
    """Binance spot with one instrument, which trades when it is told to."""

    def __init__(self):
        self.trades = []
        self.hidden = {}
        """Over REST: for how many answers more each id is left out."""
        self.connects = 0
        self.sockets = set()

    async def connected(self, websocket):
        self.connects += 1
        self.sockets.add(websocket)
        await websocket.wait_closed()
        self.sockets.discard(websocket)

    async def get(self, target):
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        if path.endswith("/exchangeInfo"):
            listed = {"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT"}
            return 200, json.dumps({"symbols": [{**listed, "filters": []}]}).encode()
        if path.endswith("/depth"):
            return 200, json.dumps(BOOK).encode()
        if path.endswith("/aggTrades"):
            since = int(query["startTime"][0])
            found = [{"f": row["id"]} for row in self.trades if row["time"] >= since][:1]
            return 200, json.dumps(found).encode()
        shown = [
            row for row in self.trades if row["id"] >= int(query["fromId"][0]) and self._shows(row["id"])
        ]
        return 200, json.dumps(shown).encode()

    def _shows(self, number):
        left = self.hidden.get(number, 0)
        if left:
            self.hidden[number] = left - 1
        return not left

    async def trade(self, count=1, *, is_sent=True, back=0):
        """Trade; `back`: by how many milliseconds the clock goes back."""
        for _ in range(count):
            number, at = len(self.trades) + 1, time.time_ns() // 1_000_000 - back
            row = {"id": number, "price": "100.5", "qty": f"0.{number}", "time": at, "isBuyerMaker": False}
            self.trades.append(row)
            sent = {"e": "trade", "E": at, "s": "BTCUSDT", "t": number, "p": "100.5", "q": f"0.{number}"}
            message = {"stream": "btcusdt@trade", "data": {**sent, "T": at, "m": False, "M": True}}
            for websocket in self.sockets if is_sent else ():
                await websocket.send(json.dumps(message))

    async def show_time(self):
        """A change of the book, which says how late it is."""
        at = time.time_ns() // 1_000_000
        change = {"e": "depthUpdate", "E": at, "s": "BTCUSDT", "U": 2, "u": 2, "b": [], "a": []}
        for websocket in self.sockets:
            await websocket.send(json.dumps({"stream": "btcusdt@depth@100ms", "data": change}))

    def cut(self):
        for websocket in self.sockets:
            websocket.transport.abort()


@asynccontextmanager
async def collecting(exchange, url, spool):
    async with listen("127.0.0.1", 0, exchange.connected, exchange.get, close_seconds=0.1) as address:
        target = Target(
            exchange="binance", symbols=(SYMBOL,), ws_url=address.ws_url, rest_url=address.rest_url
        )
        collector = await open_collector(target, url, spool)
        running = asyncio.create_task(collector.run())
        try:
            async with asyncio.timeout(SECONDS):
                while not exchange.sockets:
                    await asyncio.sleep(0.01)
                yield
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            await collector.close()


def ids(url):
    with connect(url) as connection:
        rows = connection.execute("SELECT trade_seq FROM trades ORDER BY trade_seq").fetchall()
    return [number for (number,) in rows]


def holes(url):
    with connect(url) as connection:
        rows = connection.execute(
            "SELECT from_id, to_id, status, healed_count FROM stream_gaps WHERE stream = 'trades' ORDER BY id"
        )
        return rows.fetchall()


async def until(condition):
    while not await asyncio.to_thread(condition):
        await asyncio.sleep(0.05)


def assert_whole(exchange, url):
    assert ids(url) == [row["id"] for row in exchange.trades]
    with connect(url) as connection, verify.snapshot(connection, "binance", SYMBOL) as tape:
        for proof in map(tape.prove, tape.days):
            assert proof.ok, proof


def test_what_was_traded_before_the_market_fell_silent_is_asked_for(database, tmp_path):
    exchange = Exchange()

    async def scenario():
        async with collecting(exchange, database, tmp_path):
            await exchange.trade(5)
            await until(lambda: len(ids(database)) == 5)
            exchange.cut()
            await exchange.trade(6, is_sent=False)
            await until(lambda: len(ids(database)) == 11 and exchange.sockets)
            await exchange.trade(2)
            await until(lambda: len(ids(database)) == 13)

    asyncio.run(scenario())
    assert holes(database) == [("6", "11", "healed", 6)]
    assert_whole(exchange, database)


def test_a_subscription_that_gives_nothing_is_noticed(database, tmp_path):
    exchange = Exchange()

    async def scenario():
        async with collecting(exchange, database, tmp_path):
            await exchange.trade(3)
            await until(lambda: len(ids(database)) == 3)
            for _ in range(2):
                await exchange.trade(4, is_sent=False)
                await until(lambda: len(ids(database)) == len(exchange.trades))
            while exchange.connects < 2:
                await asyncio.sleep(0.05)

    asyncio.run(scenario())
    assert holes(database) == [("4", "7", "healed", 4), ("8", "11", "healed", 4)]
    assert_whole(exchange, database)


def test_a_subscription_that_never_gave_anything_is_noticed(database, tmp_path):
    exchange = Exchange()

    async def scenario():
        async with collecting(exchange, database, tmp_path):
            while exchange.connects < 2:
                await exchange.show_time()
                await exchange.trade(is_sent=False)
                await asyncio.sleep(0.05)

    asyncio.run(scenario())


@pytest.mark.parametrize("patience", [heal.PATIENCE, 0.0])
def test_a_trade_that_rest_shows_late_is_healed(patience, database, tmp_path, monkeypatch):
    """Also where it was given up already."""
    monkeypatch.setattr(heal, "PATIENCE", patience)
    exchange = Exchange()

    async def scenario():
        async with collecting(exchange, database, tmp_path):
            await exchange.trade(3)
            exchange.hidden = {5: 4, 7: 1}
            await exchange.trade(4, is_sent=False)
            await exchange.trade(3)
            await until(lambda: len(ids(database)) == 10)
            await until(lambda: {status for _, _, status, _ in holes(database)} == {"healed"})

    asyncio.run(scenario())
    healed = [number for first, last, _, _ in holes(database) for number in range(int(first), int(last) + 1)]
    assert sorted(healed) == [4, 5, 6, 7]
    assert sum(count for *_, count in holes(database)) == 4
    assert_whole(exchange, database)


def test_an_empty_answer_is_asked_for_again(database, tmp_path):
    exchange = Exchange()

    async def scenario():
        async with collecting(exchange, database, tmp_path):
            await exchange.trade(3)
            exchange.hidden = dict.fromkeys(range(1, 8), 2)
            await exchange.trade(1, is_sent=False)
            await exchange.trade(3)
            await until(lambda: len(ids(database)) == 7)

    asyncio.run(scenario())
    assert holes(database) == [("4", "4", "healed", 1)]
    assert_whole(exchange, database)


def test_a_clock_that_goes_back_opens_no_hole_after_a_restart(database, tmp_path):
    exchange = Exchange()

    async def scenario():
        for _ in range(2):
            async with collecting(exchange, database, tmp_path):
                await exchange.trade(3)
                await exchange.trade(2, back=7)
                await until(lambda: len(ids(database)) == len(exchange.trades))

    asyncio.run(scenario())
    assert holes(database) == []
    assert_whole(exchange, database)


class SlowSpool(Spool):
    """Puts a batch on the disk, and takes one off it, only once it may."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.may_append = threading.Event()
        self.may_drop = threading.Semaphore()
        self.drops = 0

    def append(self, batch):
        assert self.may_append.wait(SECONDS)
        super().append(batch)

    def drop(self):
        super().drop()
        self.drops += 1
        assert self.may_drop.acquire(timeout=SECONDS)


def test_what_is_on_its_way_to_the_disk_or_from_it_is_not_lost(database, connection, tmp_path):
    """Nor taken for written: a stream would go on from a tape that lacks it."""
    adapter = exchanges.simulated("binance")
    stream = Session(adapter, [SYMBOL]).stream(SYMBOL)

    def batch(number):
        session = Session(adapter, [SYMBOL])
        session.streams[SYMBOL] = stream
        at = (1_772_000_000 + number) * MICROSECONDS
        stream.trade(Trade(SYMBOL, at, str(number), number, 100.0, 1.0, Side.BUY), at)
        return session.take()

    async def scenario():
        spool = SlowSpool(tmp_path / "spool", 10**9)
        writer = Writer(database, "simulated", origin="live", proof=proof_of(adapter))
        outlet = Outlet(writer, spool, lambda _: None)
        running = asyncio.create_task(outlet.run())
        lock_tapes(connection, "simulated", [SYMBOL])
        await outlet.put(batch(1))
        putting = asyncio.create_task(outlet.put(batch(2)))
        await asyncio.sleep(0.1)
        connection.rollback()
        await until(lambda: 1 in ids(database))
        assert not await outlet.idle(0.2)
        spool.may_append.set()
        await putting
        await until(lambda: spool.drops == 2)
        await outlet.put(batch(3))
        spool.may_drop.release()
        assert await outlet.idle(SECONDS)
        assert ids(database) == [1, 2, 3]
        outlet.stop()
        await running
        writer.close()
        spool.close()

    asyncio.run(scenario())


def test_what_waits_for_an_earlier_trade_waits_no_longer_once_the_market_is_silent(database, tmp_path):
    """Where the exchange's clock is far from ours, only its messages show the time."""
    exchange = Exchange()

    async def scenario():
        async with collecting(exchange, database, tmp_path):
            await exchange.trade(3, back=3_600_000)
            await exchange.trade(1, back=3_600_000, is_sent=False)
            await exchange.trade(3, back=3_600_000)
            await until(lambda: len(ids(database)) == 7)

    asyncio.run(scenario())
    assert holes(database) == [("4", "4", "healed", 1)]
    assert_whole(exchange, database)
