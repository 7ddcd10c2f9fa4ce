"""Recordings of several connections: their replay stores what was stored while they were recorded."""

import asyncio
from contextlib import closing

import pytest

from collector.collect import Target, open_collector
from collector.recorder import Recorder
from collector.replay import replay
from collector.simulator.server import serve
from market import parse_time
from storage.database import connect

START = parse_time("2026-03-01T22:00:00Z")
BYBIT = ("BTC/USDT", "ETH/USDT", "BTC/USDT:USDT")
FUTURES = ("BTC/USDT:USDT", "ETH/USDT:USDT")


def contents(url, table, without=()):
    with connect(url) as connection:
        found = connection.execute(f"SELECT to_jsonb(t) FROM {table} AS t").fetchall()
    rows = ({name: value for name, value in row.items() if name not in without} for (row,) in found)
    return sorted(rows, key=str)


def collect(exchange, symbols, url, folder, *, seconds, speed=600, with_rest=True, during=None):
    async def scenario(recorder):
        async with serve(symbols, 11, protocol=exchange, start=START, speed=speed) as simulator:
            address = simulator.address
            rest_url = address.rest_url if with_rest else None
            target = Target(exchange=exchange, symbols=symbols, ws_url=address.ws_url, rest_url=rest_url)
            collector = await open_collector(target, url, folder / "spool", tap=recorder)
            try:
                running = asyncio.create_task(collector.run(seconds))
                if during is not None:
                    await during(collector)
                await running
            finally:
                await collector.close()
            return collector.counts

    with closing(Recorder(folder / "recorded", exchange)) as recorder:
        counts = asyncio.run(scenario(recorder))
    assert recorder.failure is None
    return recorder.files, counts


def books(url):
    by_symbol = {}
    for row in contents(url, "orderbook_snapshots"):
        by_symbol.setdefault(row["symbol"], {})[row["timestamp"]] = row
    return by_symbol


def assert_same_tape(first, second):
    for table in ("trades", "cvd_snapshots", "stream_gaps"):
        without = ("id", "detected_timestamp", "created_timestamp")
        a, b = contents(first, table, without), contents(second, table, without)
        assert a == b
    a, b = contents(first, "candles"), contents(second, "candles")
    assert a == b


@pytest.mark.parametrize(("exchange", "symbols"), [("bybit", BYBIT), ("binanceusdm", FUTURES)])
def test_a_recording_of_several_connections(exchange, symbols, database, second_database, tmp_path):
    files, counts = collect(exchange, symbols, database, tmp_path, seconds=3)
    report = replay(files, exchange, second_database)
    assert_same_tape(database, second_database)
