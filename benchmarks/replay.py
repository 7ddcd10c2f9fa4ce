"""Replay end to end: recorded messages into rows, beside the raw COPY of the same rows.

The recording is the simulator's, some hours of two instruments with trades, books and candles. The bound
takes the rows that the replay stored, as the bytes of a binary COPY, and copies them into the same tables of
another fresh database: what is left of the replay's time is parsing, books, candles and CVD.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit
from uuid import uuid4

from psycopg import sql

import migrations
from benchmarks import Figure, Figures
from collector import exchanges
from collector.recording import Received, RestAnswer, read
from collector.replay import replay
from collector.session import Session
from collector.simulator.protocols.binance import Binance
from deltatape import settings
from market import MICROSECONDS, parse_time
from storage.database import connect

HOURS = 4
SYMBOLS = ("BTC/USDT", "ETH/USDT")
CHANNELS = ("trade", "depth@100ms", "kline_1m")
START = parse_time("2026-03-01T00:00:00Z")
TABLES = ("trades", "orderbook_snapshots", "candles", "cvd_snapshots")


def run() -> Figures:
    """Messages and rows a second, and the share of raw COPY."""
    with tempfile.TemporaryDirectory() as folder, _database() as url, _database() as bare:
        recording = Path(folder) / "simulated.rec"
        _record(recording)
        parsed = _parse_only(recording)
        began = perf_counter()
        report = replay([recording], "simulated", url)
        seconds = perf_counter() - began
        rows, copied = _raw_copy(url, bare)
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


def _raw_copy(url: str, bare: str) -> tuple[int, float]:
    """Rows copied, and the seconds that it took."""
    rows, seconds = 0, 0.0
    with connect(url) as source, connect(bare) as target:
        for name in TABLES:
            table = sql.Identifier(name)
            rows_of = sql.SQL("COPY (SELECT * FROM {} ORDER BY timestamp) TO STDOUT (FORMAT BINARY)")
            with source.cursor() as cursor, cursor.copy(rows_of.format(table)) as copy:
                data = b"".join(copy)
            began = perf_counter()
            with target.cursor() as cursor:
                with cursor.copy(sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(table)) as copy:
                    copy.write(data)
                rows += cursor.rowcount
            target.commit()
            seconds += perf_counter() - began
    return rows, seconds


@contextmanager
def _database() -> Iterator[str]:
    """A fresh, migrated database on the server in force, dropped afterwards."""
    url = settings.load().database()
    name = f"bench_{uuid4().hex[:12]}"
    with connect(url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            fresh = urlsplit(url)._replace(path=f"/{name}").geturl()
            migrations.upgrade(fresh)
            yield fresh
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
