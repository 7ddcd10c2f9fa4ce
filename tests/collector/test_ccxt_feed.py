"""ccxt's own code on the loopback: its binance.us, which is Binance's protocol, against the simulator."""

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager

import pytest
from simulated import START, SYMBOLS, trades_between

from collector import exchanges
from collector.ccxt_feed import CcxtConnection
from collector.exchanges.adapter import STREAMS
from collector.session import Session
from collector.simulator.server import serve
from market import DAY, MICROSECONDS, Unavailable, WrongUse
from tests.market.books import said

EXCHANGE = "binanceus"


class Listener:
    """Keeps what the connection says, and feeds a session with it."""

    def __init__(self, session):
        self.session = session
        self.said = []
        self.messages = []
        self.heard = asyncio.Event()

    async def opened(self, line):
        self.said.append("opened")

    def received(self, line, messages, streams):
        assert streams == STREAMS
        self.messages += messages
        self.session.messages(messages, START + DAY, line.path, streams)
        self.heard.set()

    async def moved(self, line):
        raise AssertionError("ccxt cannot hand over")

    async def closed(self, line, reason):
        self.said.append(reason)
        self.session.disconnected(line.symbols, line.streams)

    def sent(self, line, text):
        raise AssertionError("ccxt does the talking")

    async def until(self, is_true):
        while not is_true():
            self.heard.clear()
            await asyncio.wait_for(self.heard.wait(), 30)


def channels(listener):
    return Counter(json.loads(message)["channel"] for message in listener.messages)


def made(address, symbols=SYMBOLS):
    adapter = exchanges.find(EXCHANGE)
    session = Session(adapter, symbols)
    listener = Listener(session)
    (line,) = adapter.lines(symbols)
    urls = {"base": address.ws_url, "rest_base": address.rest_url}
    return CcxtConnection(adapter, line, listener=listener, **urls), listener


@asynccontextmanager
async def running(connection):
    task = asyncio.create_task(connection.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_trades_books_and_candles_of_all_symbols_come_through_ccxt():
    async def run():
        async with serve(SYMBOLS, 7, start=START, speed=60) as simulator:
            connection, listener = made(simulator.address)
            await connection.probe()
            async with running(connection):
                await listener.until(
                    lambda: (
                        len(listener.session.streams) == 2
                        and listener.session.counts.trades > 100
                        and channels(listener)["book"] > 8
                        and channels(listener)["candles"] > 8
                    )
                )
            assert not connection.is_open or listener.said == ["opened"]
            return listener

    listener = asyncio.run(run())
    session = listener.session
    assert session.counts.rejected == session.counts.unhandled == 0
    batch = session.take()
    assert [item.exchange_symbol for item in batch.instruments] == ["BTCUSDT", "ETHUSDT"]
    assert all(item.tick_size and item.lot_size for item in batch.instruments)
    for symbol, rows in batch.rows.items():
        ids = [trade.trade_seq for trade, _ in rows.trades]
        known = trades_between(symbol, START, START + 3_600 * MICROSECONDS)
        assert ids == known[known.index(ids[0]) :][: len(ids)]
        assert rows.books
        assert all(book.best_bid < book.best_ask for book in map(said, rows.books))


def test_a_lost_connection_is_said_and_opened_anew():
    async def run():
        async with serve(SYMBOLS[:1], 7, start=START, speed=10) as first:
            port = first.address.port
            connection, listener = made(first.address, SYMBOLS[:1])
            task = asyncio.create_task(connection.run())
            await listener.until(lambda: channels(listener)["trades"] > 2)
        while connection.is_open:
            await asyncio.sleep(0.05)
        async with serve(SYMBOLS[:1], 7, start=START, speed=10, port=port):
            before = channels(listener)["trades"]
            await listener.until(lambda: channels(listener)["trades"] > before + 2)
            assert connection.is_open
            assert connection.opened == 2
            await connection.reset()
            await listener.until(lambda: channels(listener)["opened"] == 3)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return listener

    listener = asyncio.run(run())
    assert len(listener.said) == 5
    assert listener.said[::2] == ["opened"] * 3
    assert listener.said[3] == "given up"


def test_silence_is_a_lost_connection(monkeypatch):
    async def run():
        async with serve(SYMBOLS[:1], 7, start=START, speed=0.01) as simulator:
            connection, listener = made(simulator.address, SYMBOLS[:1])
            monkeypatch.setattr(type(connection._adapter), "silence_limit", 1.5)
            async with running(connection):
                await listener.until(lambda: channels(listener)["opened"] > 0)
                while len(listener.said) < 2:
                    await asyncio.sleep(0.05)
            return listener

    assert asyncio.run(run()).said[1].startswith("TimeoutError: silent for")


def test_nobody_there_is_unavailable_and_a_symbol_that_is_not_listed_wrong_use():
    async def run():
        async with serve(SYMBOLS[:1], 7, start=START) as simulator:
            connection, _ = made(simulator.address, ("NO/USDT",))
            with pytest.raises(WrongUse, match="binanceus does not list NO/USDT"):
                await connection.probe()
        with pytest.raises(Unavailable, match="cannot reach binanceus"):
            await connection.probe()

    asyncio.run(run())


def test_an_address_for_the_websocket_alone_is_wrong_use():
    adapter = exchanges.find(EXCHANGE)
    (line,) = adapter.lines(SYMBOLS)
    with pytest.raises(WrongUse, match="--rest-url too"):
        CcxtConnection(adapter, line, base="ws://127.0.0.1:9", listener=Listener(Session(adapter)))
