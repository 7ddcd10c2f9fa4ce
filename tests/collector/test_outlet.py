"""Batches on their way to a real database that is slow, away, or there; and to a disk that is full."""

import asyncio
import json
import logging
import shutil
import tempfile
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from disks import tiny_disk

from collector import exchanges, feed, outlet
from collector.collect import Target, drain_left_behind, open_collector
from collector.exchanges.events import BookReset
from collector.outlet import Outlet
from collector.session import Session
from collector.simulator.server import serve
from collector.spool import Spool
from collector.writer import Writer
from market import MICROSECONDS, Side, Trade, Unavailable, parse_time
from market.levels import packed
from storage import ledger, verify
from storage.database import connect
from storage.holes import list_holes

START = parse_time("2026-03-01T22:00:00Z")
SYMBOL = "BTC/USDT"
ROOM = 10**9
PATIENCE = 30


class Door:
    """The way to the database, which can be shut, and opened again."""

    def __init__(self, url):
        query = parse_qs(urlsplit(url).query)
        self._name = f".s.PGSQL.{query['port'][0]}"
        self._there = Path(query["host"][0]) / self._name
        self._folder = Path(tempfile.mkdtemp(prefix="door-", dir="/tmp"))
        self.url = f"{url.partition('?')[0]}?host={self._folder}&port={query['port'][0]}"
        self._server = None
        self._wires = set()

    async def open(self):
        self._server = await asyncio.start_unix_server(self._pass, self._folder / self._name)

    async def shut(self):
        self._server.close()
        for wire in list(self._wires):
            wire.transport.abort()
        await self._server.wait_closed()
        (self._folder / self._name).unlink(missing_ok=True)

    async def close(self):
        await self.shut()
        shutil.rmtree(self._folder)

    async def _pass(self, reader, writer):
        there, here = await asyncio.open_unix_connection(self._there)
        mine = {writer, here}
        self._wires |= mine
        try:
            with suppress(asyncio.CancelledError):
                await asyncio.gather(self._copy(reader, here), self._copy(there, writer))
        finally:
            self._wires -= mine

    async def _copy(self, reader, writer):
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def door_to(url):
    door = Door(url)
    await door.open()
    try:
        yield door
    finally:
        await door.close()


class Source:
    """Batches of some seconds of one symbol: a trade and a book each."""

    def __init__(self):
        self.session = Session(exchanges.find("bybit"), [SYMBOL])
        self.stream = self.session.stream(SYMBOL)
        self.second = 0
        self.books = 0

    def batch(self, seconds=5):
        for _ in range(seconds):
            self.second += 1
            now = START + self.second * MICROSECONDS
            bids = packed((100.0 - n, 1.0 + self.second) for n in range(20))
            asks = packed((101.0 + n, 1.0 + self.second) for n in range(20))
            self.stream.book_reset(BookReset(SYMBOL, now, bids, asks, self.second))
            trade = Trade(SYMBOL, now + 1, str(self.second), self.second, 100.0, 0.5, Side.BUY)
            self.stream.trade(trade, now + 2)
        found = self.session.take()
        self.books += found.books
        return found


class Written:
    """What an outlet said that it has committed, in its order."""

    def __init__(self):
        self.ids = []
        self.beats = 0
        self.batches = 0

    def __call__(self, batch):
        self.beats += not len(batch)
        self.batches += len(batch) > 0
        self.ids += [trade.trade_seq for rows in batch.rows.values() for trade, _ in rows.trades]

    async def until(self, count):
        async with asyncio.timeout(PATIENCE):
            while len(self.ids) < count:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def behind_a_door(url, spool, written):
    """A door to the database, and an outlet behind it."""
    async with door_to(url) as door, running(door.url, spool, written) as out:
        yield door, out


@asynccontextmanager
async def running(url, spool, written):
    writer = await asyncio.to_thread(Writer, url, "bybit", origin="live", proof="connection")
    await asyncio.to_thread(writer.claim, SYMBOL)
    out = Outlet(writer, spool, written)
    task = asyncio.create_task(out.run())
    try:
        yield out
    finally:
        out.stop()
        await asyncio.wait({task}, timeout=PATIENCE)
        try:
            task.result()
        finally:
            try:
                await out.close()
            finally:
                writer.close()


async def cut_off(door, out, source):
    """Shut the door, and wait until the outlet has noticed."""
    await door.shut()
    await out.put(source.batch())
    async with asyncio.timeout(PATIENCE):
        while not out.spool:
            await asyncio.sleep(0.01)


def assert_stored(url, source, *, books=None):
    with connect(url) as connection:
        ids = connection.execute("SELECT trade_seq FROM trades ORDER BY timestamp, trade_seq").fetchall()
        assert [number for (number,) in ids] == list(range(1, source.second + 1))
        (count,) = connection.execute("SELECT count(*) FROM orderbook_snapshots").fetchone()
        assert count == (source.books if books is None else books)
        assert [gap for gap in list_holes(connection) if gap.stream == "trades"] == []
        connection.commit()
        with verify.snapshot(connection, "bybit", SYMBOL) as tape:
            assert [proof for proof in map(tape.prove, tape.days) if not proof.ok] == []


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture(autouse=True)
def quick(monkeypatch, caplog):
    monkeypatch.setattr(outlet, "MAX_BACKOFF", 0.3)
    caplog.set_level(logging.WARNING)


def test_what_is_put_in_is_written_in_its_order_and_the_disk_is_not_touched(database, tmp_path):
    source, written = Source(), Written()

    async def scenario():
        async with running(database, Spool(tmp_path / "spool", ROOM), written) as out:
            for number in range(1, 6):
                assert out.wants
                await out.put(source.batch())
                await written.until(5 * number)
            out.beat({SYMBOL: ("live", "")})
            async with asyncio.timeout(PATIENCE):
                while not written.beats:
                    await asyncio.sleep(0.01)
            assert await out.idle(1)

    asyncio.run(scenario())
    assert written.ids == list(range(1, 26))
    assert list(tmp_path.iterdir()) == []
    assert_stored(database, source)


def test_while_the_database_is_away_batches_wait_on_the_disk_and_follow_in_order(database, tmp_path, caplog):
    source, written = Source(), Written()

    async def scenario():
        async with behind_a_door(database, Spool(tmp_path / "spool", ROOM), written) as (door, out):
            await out.put(source.batch())
            await written.until(5)
            for _ in range(2):
                await cut_off(door, out, source)
                for _ in range(3):
                    assert out.wants
                    await out.put(source.batch())
                assert out.spool.batches == 4
                assert out.spool.size > 0
                assert not out.is_idle
                await door.open()
                await written.until(source.second)
                assert await out.idle(PATIENCE)
                assert not out.spool

    asyncio.run(scenario())
    assert written.ids == list(range(1, 46))
    assert written.batches < 9, "what waited is not written together"
    assert list(tmp_path.iterdir()) == []
    assert_stored(database, source)
    said = [text.partition(":")[0] for text in warnings(caplog)]
    assert said == 2 * ["the database is away", "the database is back"]


def test_a_connection_that_breaks_at_any_moment_costs_nothing(database, tmp_path):
    source, written = Source(), Written()

    async def scenario():
        async with behind_a_door(database, Spool(tmp_path / "spool", ROOM), written) as (door, out):
            for number in range(12):
                await out.put(source.batch(2))
                await asyncio.sleep(0.007 * (number % 4))
                await door.shut()
                await door.open()
            await written.until(source.second)
            assert await out.idle(PATIENCE)

    asyncio.run(scenario())
    # A batch whose answer was lost is written again, and told of once.
    assert written.ids == list(range(1, 25))
    assert_stored(database, source)


@contextmanager
def locked(url):
    """The database takes no trade meanwhile."""
    with connect(url) as connection:
        connection.execute("LOCK TABLE trades IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()


def test_a_slow_database_is_not_waited_for(database, tmp_path, monkeypatch):
    monkeypatch.setattr(outlet, "SLOW_SECONDS", 0.1)
    source, written = Source(), Written()

    async def scenario():
        async with running(database, Spool(tmp_path / "spool", ROOM), written) as out:
            with locked(database):
                await out.put(source.batch())
                assert not out.wants, "a write that has just begun is waited for"
                async with asyncio.timeout(PATIENCE):
                    while not out.wants:
                        await asyncio.sleep(0.01)
                for _ in range(3):
                    assert out.wants
                    await out.put(source.batch())
                # What is being written lies there, too.
                assert out.spool.batches == 4
                assert written.ids == []
            await written.until(source.second)
            assert await out.idle(PATIENCE)
            assert not out.spool

    asyncio.run(scenario())
    assert written.ids == list(range(1, 21))
    assert_stored(database, source)


def test_books_are_given_up_before_any_trade_and_counted(database, tmp_path, caplog):
    source, written = Source(), Written()

    async def scenario():
        async with behind_a_door(database, Spool(tmp_path / "spool", 30_000), written) as (door, out):
            await out.put(source.batch())
            await written.until(5)
            await cut_off(door, out, source)
            while out.wants:
                await out.put(source.batch())
                assert source.second < 5_000
                await asyncio.sleep(0)
            assert out.given_up_books > 0
            assert out.spool.size <= 30_000
            # What comes all the same is kept in memory, and so is the order.
            await out.put(source.batch())
            await out.retry()
            assert not out.wants
            await door.open()
            await written.until(source.second)
            assert await out.idle(PATIENCE)
            assert out.wants
            return out.given_up_books

    given_up = asyncio.run(scenario())
    assert written.ids == list(range(1, source.second + 1))
    assert_stored(database, source, books=source.books - given_up)
    assert sum("nothing more is read until there is room" in text for text in warnings(caplog)) == 1


def test_a_full_disk_is_said_once_and_nothing_is_lost(database, tmp_path, caplog):
    source, written = Source(), Written()

    async def scenario():
        async with behind_a_door(database, Spool(tmp_path / "disk" / "spool", ROOM), written) as (door, out):
            await out.put(source.batch())
            await written.until(5)
            await cut_off(door, out, source)
            while out.wants:
                await out.put(source.batch(200))
                assert source.second < 50_000
                await asyncio.sleep(0)
            for _ in range(20):
                await out.retry()
            await door.open()
            await written.until(source.second)
            assert await out.idle(PATIENCE)
            assert out.wants
            return out.given_up_books

    with tiny_disk(tmp_path / "disk"):
        given_up = asyncio.run(scenario())
    assert written.ids == list(range(1, source.second + 1))
    assert_stored(database, source, books=source.books - given_up)
    said = [text for text in warnings(caplog) if "nothing more is read until there is room" in text]
    assert len(said) == 1
    assert "cannot write the spool" in said[0]


def test_what_waits_at_the_end_is_said_and_written_by_the_next_one(database, tmp_path):
    source, written = Source(), Written()

    async def scenario():
        async with behind_a_door(database, Spool(tmp_path / "spool", ROOM), written) as (door, out):
            await out.put(source.batch())
            await written.until(5)
            await cut_off(door, out, source)
            await out.put(source.batch())

    with pytest.raises(Unavailable, match=r"what came last waits in .*spool"):
        asyncio.run(scenario())
    assert drain_left_behind(database, "bybit", tmp_path) >= 1
    assert list(tmp_path.iterdir()) == []
    assert_stored(database, source)


def test_without_room_for_the_last_rows_that_is_said(database, tmp_path):
    async def scenario():
        async with behind_a_door(database, Spool(tmp_path / "spool", 10), Written()) as (door, out):
            await door.shut()
            await out.put(Source().batch())
            await asyncio.sleep(0.2)

    with pytest.raises(Unavailable, match="no room to keep the last rows"):
        asyncio.run(scenario())


def test_who_was_overtaken_ends_and_keeps_what_it_holds(database, tmp_path):
    source, written = Source(), Written()

    async def scenario():
        async with running(database, Spool(tmp_path / "spool", ROOM), written) as out:
            await out.put(source.batch())
            await written.until(5)
            with connect(database) as connection:
                ledger.next_epoch(connection, "bybit", SYMBOL, "trades")
            await out.put(source.batch())
            await asyncio.sleep(0.2)

    with pytest.raises(Unavailable):
        asyncio.run(scenario())
    assert drain_left_behind(database, "bybit", tmp_path) >= 1
    assert_stored(database, source)


def test_reading_is_held_up_when_nothing_fits_and_nothing_is_lost(database, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(feed, "MAX_UNWRITTEN", 300)
    truth = tmp_path / "truth"
    symbols = (SYMBOL, "ETH/USDT")

    async def scenario():
        async with (
            door_to(database) as door,
            serve(symbols, 5, start=START, speed=300, truth=truth) as simulator,
        ):
            address = simulator.address
            target = Target(
                exchange="simulated", symbols=symbols, ws_url=address.ws_url, rest_url=address.rest_url
            )
            collector = await open_collector(target, door.url, tmp_path / "spool", spool_bytes=20_000)
            task = asyncio.create_task(collector.run())
            async with asyncio.timeout(PATIENCE):
                while collector.counts.trades < 100:
                    await asyncio.sleep(0.02)
                await door.shut()
                full = "nothing more is read until there is room"
                while full not in caplog.text or collector.feed.unwritten < 300:
                    await asyncio.sleep(0.02)
                messages = collector.counts.messages
                await asyncio.sleep(0.5)
                assert collector.counts.messages <= messages + len(collector.feed.connections)
                await door.open()
                while collector.counts.messages < messages + 400:
                    await asyncio.sleep(0.02)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await collector.close()
            return collector.outlet.given_up_books

    given_up = asyncio.run(scenario())
    with connect(database) as connection:
        rows = connection.execute("SELECT symbol, trade_id FROM trades").fetchall()
        assert [gap for gap in list_holes(connection) if gap.stream == "trades"] == []
        connection.commit()
        for symbol in symbols:
            with verify.snapshot(connection, "simulated", symbol) as tape:
                assert [proof for proof in map(tape.prove, tape.days) if not proof.ok] == []
    happened = [json.loads(line) for line in truth.read_text().splitlines()]
    for symbol in symbols:
        ids = [int(trade_id) for each, trade_id in rows if each == symbol]
        true = [int(each["trade_id"]) for each in happened if each["symbol"] == symbol]
        assert sorted(ids) == [number for number in true if min(ids) <= number <= max(ids)]
    assert given_up > 0
