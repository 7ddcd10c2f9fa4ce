"""The collector under load: from bytes on a loopback socket to committed rows, beside its two bare parts.

Another process sends simulated messages as fast as the socket takes them. The collector's rate is compared
with the slower of two parts, each measured alone and in a process of its own, in the same run: receiving the
same messages with websockets and decoding them with msgspec, and a binary COPY of the rows that they became,
encoded beforehand, into the same tables. Decoding is what no collector can do without: each message into a
struct of its kind, with prices, sizes and the levels of books as numbers. Nothing is checked there, and
nothing is kept.

What most of the work is depends on the market, so that two are sent. In a calm one each symbol has
a trade and a change of 18 levels a second: each change ends a second, so that two messages in five make a row
of `orderbook_snapshots`, which is the dearest thing that a message can do. In a busy one the same comes ten
times a second, as depth@100ms gives it (a recording of futures has 8.5 changes and 1.3 trades a second of its
busiest symbol): a message changes the book or is a row of `trades`, and one in twenty makes a snapshot.
Candles of the exchange come in the calm one alone: they name the market's own minutes.
"""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, process_time
from typing import NamedTuple

from msgspec import Struct, field
from msgspec.json import Decoder
from websockets.asyncio.client import connect

from benchmarks import Figure, Figures
from benchmarks.apart import in_process, peak_memory, spawn
from benchmarks.databases import fresh_database, raw_copy
from benchmarks.flood import CHANNELS, SYMBOLS, serve_flood
from collector.collect import Target, open_collector, prepare_process

HOURS = 24.0
"""Of the market: some seconds of load."""
POLL_SECONDS = 0.02


class Flow(NamedTuple):
    """A market: its name, what is sent of it, and how many of its seconds pass in one."""

    name: str
    channels: tuple[str, ...]
    pace: int


FLOWS = (Flow("calm", CHANNELS, 1), Flow("busy", ("trade", "depth@100ms"), 10))


class _Trade(Struct, tag_field="e", tag="trade", gc=False):
    symbol: str = field(name="s")
    trade_id: int = field(name="t")
    price: float = field(name="p")
    size: float = field(name="q")
    time: int = field(name="T")
    is_buyer_maker: bool = field(name="m")


class _Change(Struct, tag_field="e", tag="depthUpdate", gc=False):
    time: int = field(name="E")
    symbol: str = field(name="s")
    first: int = field(name="U")
    last: int = field(name="u")
    bids: list[tuple[float, float]] = field(name="b")
    asks: list[tuple[float, float]] = field(name="a")


class _Bar(Struct, gc=False):
    open_time: int = field(name="t")
    interval: str = field(name="i")
    open: float = field(name="o")
    high: float = field(name="h")
    low: float = field(name="l")
    close: float = field(name="c")
    volume: float = field(name="v")
    buy_volume: float = field(name="V")
    trade_count: int = field(name="n")
    is_closed: bool = field(name="x")


class _Candle(Struct, tag_field="e", tag="kline", gc=False):
    time: int = field(name="E")
    symbol: str = field(name="s")
    bar: _Bar = field(name="k")


class _Message(Struct, gc=False):
    data: _Trade | _Change | _Candle


class Load(NamedTuple):
    """What a collector did: seconds until all was committed, p99 of the lag and processor time in seconds.

    `peak` and `unloaded` are its peak memory in MB, at the end and before the first message.
    """

    seconds: float
    lag: float
    cpu: float
    peak: float
    unloaded: float


def run() -> Figures:
    """Messages a second of the whole and of its parts; lag and memory."""
    return [figure for flow in FLOWS for figure in measure(flow, HOURS)]


def measure(flow: Flow, hours: float) -> Figures:
    """The same of one market."""
    with _flood(flow, hours) as (count, ws_url, rest_url), fresh_database() as url, fresh_database() as bare:
        receiving = in_process(receive, ws_url, count)
        seconds, lag, cpu, peak, unloaded = in_process(collect, url, ws_url, rest_url, count)
        rows, copying = raw_copy(url, bare)
    slower, name = min(count / receiving, count / copying), flow.name
    return [
        Figure(f"{name}: messages a second, receive and decode alone", count / receiving, "1/s"),
        Figure(f"{name}: messages a second, COPY of their rows alone", count / copying, "1/s"),
        Figure(
            f"{name}: messages a second, from the socket to committed rows", count / seconds, "1/s", slower
        ),
        Figure(f"{name}: rows a second, from the socket to committed rows", rows / seconds, "1/s"),
        Figure(f"{name}: p99 from receipt to commit, under full load", lag, "s"),
        Figure(f"{name}: processor time a message, all of the collector's", cpu / count * 1e6, "µs"),
        Figure(f"{name}: peak memory", peak, "MB"),
        Figure(f"{name}: peak memory of a collector without load", unloaded, "MB"),
    ]


@contextmanager
def _flood(flow: Flow, hours: float) -> Iterator[tuple[int, str, str]]:
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve_flood, args=(theirs, hours, flow.channels, flow.pace))
    process.start()
    try:
        count, port, rest_port = ours.recv()
        yield count, f"ws://127.0.0.1:{port}", f"http://127.0.0.1:{rest_port}"
    finally:
        ours.send(None)
        process.join()


def receive(ws_url: str, count: int) -> float:
    """The seconds that receiving and decoding takes, and nothing else."""
    return asyncio.run(_receive(ws_url, count))


async def _receive(ws_url: str, count: int) -> float:
    async with connect(ws_url, compression=None, ping_interval=None) as websocket:
        began = perf_counter()
        # Numbers come as texts: "0.001" is read as 0.001.
        decode, recv = Decoder(_Message, strict=False).decode, websocket.recv
        for _ in range(count):
            decode(await recv(decode=False))
        seconds = perf_counter() - began
        websocket.transport.abort()
        return seconds


def collect(url: str, ws_url: str, rest_url: str, count: int) -> Load:
    """Collect so many messages; see Load."""
    with tempfile.TemporaryDirectory() as spool:
        return asyncio.run(_collect(url, ws_url, rest_url, count, Path(spool)))


async def _collect(url: str, ws_url: str, rest_url: str, count: int, spool: Path) -> Load:
    loop = asyncio.get_running_loop()
    target = Target(exchange="simulated", symbols=SYMBOLS, ws_url=ws_url, rest_url=rest_url)
    collector = await open_collector(target, url, spool)
    prepare_process()
    unloaded, began = peak_memory(), process_time()
    running = asyncio.create_task(collector.run())
    feed, outlet = collector.feed, collector.outlet
    while collector.counts.messages < count or feed.unwritten or not outlet.is_idle:
        await asyncio.sleep(POLL_SECONDS)
        if running.done():
            running.result()
    seconds, cpu = loop.time() - feed.connections[0].opened_at, process_time() - began
    lag = collector.readings().commit_lag_p99 or 0.0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await collector.close()
    return Load(seconds, lag, cpu, peak_memory(), unloaded)
