"""Replay end to end: recorded messages into rows, beside the raw COPY of the same rows.

The recording is the simulator's, some hours of two instruments with trades, books and candles. The bound
takes the rows that the replay stored, as the bytes of a binary COPY, and copies them into the same tables of
another fresh database: what is left of the replay's time is parsing, books, candles and CVD.
"""

import tempfile
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

from benchmarks import Figure, Figures
from benchmarks.databases import fresh_database, raw_copy
from collector import exchanges
from collector.recording import Received, RestAnswer, read
from collector.replay import replay
from collector.session import Session
from collector.simulator.protocols.binance import Binance
from market import MICROSECONDS, parse_time

HOURS = 4
SYMBOLS = ("BTC/USDT", "ETH/USDT")
CHANNELS = ("trade", "depth@100ms", "kline_1m")
START = parse_time("2026-03-01T00:00:00Z")


def run() -> Figures:
    """Messages and rows a second, and the share of raw COPY."""
    with tempfile.TemporaryDirectory() as folder, fresh_database() as url, fresh_database() as bare:
        recording = Path(folder) / "simulated.rec"
        _record(recording)
        parsed = _parse_only(recording)
        began = perf_counter()
        report = replay([recording], "simulated", url)
        seconds = perf_counter() - began
        rows, copied = raw_copy(url, bare)
    messages = report.counts["messages"]
    return [
        Figure("messages a second, parsing and building only", messages / parsed, "1/s"),
        Figure("messages a second, end to end", messages / seconds, "1/s", messages / parsed),
        Figure("rows a second, raw COPY of the same rows", rows / copied, "1/s"),
        Figure("rows a second, end to end", rows / seconds, "1/s", rows / copied),
    ]


def _record(path: Path) -> None:
    exchange = Binance(SYMBOLS, seed=3)
    names = [symbol.replace("/", "") for symbol in SYMBOLS]
    streams = "/".join(f"{name.lower()}@{channel}" for name in names for channel in CHANNELS)
    session = exchange.connect(f"/stream?streams={streams}")
    if session is None:
        raise SystemExit("the simulator has no such endpoint")
    with path.open("w") as file:
        file.write(f"wss://simulated/stream <-> {_seconds(START)}\n")
        for name in names:
            target = f"/api/v3/depth?symbol={name}&limit=1000"
            body = exchange.answer(target, START).body.decode()
            file.write(f"https://simulated{target} -> {_seconds(START)}: {body}\n")
        for begin in range(START, START + HOURS * 3600 * MICROSECONDS, MICROSECONDS):
            end = begin + MICROSECONDS
            file.writelines(f"{_seconds(end)}: {sent.payload!s}\n" for sent in session.messages(begin, end))


def _seconds(time: int) -> str:
    return f"{time // MICROSECONDS}.{time % MICROSECONDS:06d}"


def _parse_only(recording: Path) -> float:
    session = Session(exchanges.find("simulated"))
    began = perf_counter()
    for frame in read([recording]):
        if isinstance(frame, Received):
            session.message(frame.message, frame.t)
        elif isinstance(frame, RestAnswer):
            parts = urlsplit(frame.url)
            session.rest(f"{parts.path}?{parts.query}", frame.body, frame.t)
        if session.counts.messages % 5_000 == 0:
            session.take()
    return perf_counter() - began
