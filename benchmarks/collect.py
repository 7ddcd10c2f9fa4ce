"""The collector under load: from bytes on a loopback socket to committed rows, beside its two bare parts.

Another process sends simulated messages as fast as the socket takes them. The collector's rate is compared
with the slower of: receiving and decoding the same messages with websockets and msgspec, and a binary COPY of
the rows that they became into the same tables; each measured alone, in a process of its own.
"""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, process_time
from typing import NamedTuple

from msgspec.json import Decoder
from websockets.asyncio.client import connect

from benchmarks import Figure, Figures
from benchmarks.apart import in_process, peak_memory, spawn
from benchmarks.databases import fresh_database, raw_copy
from benchmarks.flood import CHANNELS, SYMBOLS, serve_flood
from collector.collect import Target, look_for_cycles_seldom, open_collector
from collector.exchanges.binance_messages import Combined

HOURS = 8.0
POLL_SECONDS = 0.02


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
    with _flood(HOURS) as (count, ws_url, rest_url), fresh_database() as url, fresh_database() as bare:
        receiving = in_process(receive, ws_url, count)
        seconds, lag, cpu, peak, unloaded = in_process(collect, url, ws_url, rest_url, count)
        rows, copying = raw_copy(url, bare)
    slower = min(count / receiving, count / copying)
    return [
        Figure("messages a second, receive and decode alone", count / receiving, "1/s"),
        Figure("messages a second, COPY of their rows alone", count / copying, "1/s"),
        Figure("messages a second, from the socket to committed rows", count / seconds, "1/s", slower),
        Figure("rows a second, from the socket to committed rows", rows / seconds, "1/s"),
        Figure("p99 from receipt to commit, under full load", lag, "s"),
        Figure("processor time a message, all of the collector's", cpu / count * 1e6, "µs"),
        Figure("peak memory", peak, "MB"),
        Figure("peak memory of a collector without load", unloaded, "MB"),
    ]


@contextmanager
def _flood(hours: float) -> Iterator[tuple[int, str, str]]:
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve_flood, args=(theirs, hours, CHANNELS))
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
        decode, recv = Decoder(Combined).decode, websocket.recv
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
    look_for_cycles_seldom()
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
