"""Recordings of several connections: their replay stores what was stored while they were recorded."""

import asyncio
import json
from contextlib import closing

import pytest

from collector import connection as connections
from collector.collect import Target, open_collector
from collector.exchanges.adapter import STREAMS
from collector.exchanges.bybit import Bybit
from collector.recorder import Recorder
from collector.recording import Lost, Moved, Named, Opened, Received, read
from collector.replay import replay
from collector.simulator.server import serve
from market import parse_time
from storage.database import connect

START = parse_time("2026-03-01T22:00:00Z")
SPOT = ("BTC/USDT", "ETH/USDT")
BYBIT = (*SPOT, "BTC/USDT:USDT")
FUTURES = ("BTC/USDT:USDT", "ETH/USDT:USDT")
OF_NO_ACCOUNT = ("id", "detected_timestamp", "created_timestamp")
PATIENCE = 30


def contents(url, table):
    with connect(url) as connection:
        found = connection.execute(f"SELECT to_jsonb(t) FROM {table} AS t").fetchall()
    rows = ({name: row[name] for name in row if name not in OF_NO_ACCOUNT} for (row,) in found)
    return sorted(rows, key=str)


def books(url):
    by_symbol = {}
    for row in contents(url, "orderbook_snapshots"):
        by_symbol.setdefault(row["symbol"], {})[row["timestamp"]] = row
    return by_symbol


def collect(exchange, symbols, url, folder, *, until, with_rest=True):
    """Collect and record, until `until(collector)` is over; the recordings."""

    async def scenario(recorder):
        async with serve(symbols, 11, protocol=exchange, start=START, speed=120) as simulator:
            address = simulator.address
            rest_url = address.rest_url if with_rest else None
            target = Target(exchange=exchange, symbols=symbols, ws_url=address.ws_url, rest_url=rest_url)
            collector = await open_collector(target, url, folder / "spool", tap=recorder)
            try:
                running = asyncio.create_task(collector.run())
                async with asyncio.timeout(PATIENCE):
                    await until(collector)
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
            finally:
                await collector.close()

    with closing(Recorder(folder / "recorded", exchange)) as recorder:
        asyncio.run(scenario(recorder))
    assert recorder.failure is None
    return recorder.files


async def trades(collector, more):
    wanted = collector.counts.trades + more
    while collector.counts.trades < wanted:
        await asyncio.sleep(0.02)


def assert_same_tape(collected, replayed, tables=("trades", "candles", "cvd_snapshots", "stream_gaps")):
    for table in tables:
        assert contents(replayed, table) == contents(collected, table), table
    assert contents(collected, "trades")
    assert contents(collected, "candles")


@pytest.mark.parametrize(("exchange", "symbols"), [("bybit", BYBIT), ("binanceusdm", FUTURES)])
def test_a_recording_of_several_connections(exchange, symbols, database, second_database, tmp_path):
    async def until(collector):
        await trades(collector, 300)

    files = collect(exchange, symbols, database, tmp_path, until=until)
    report = replay(files, exchange, second_database)
    assert report.counts["rejected"] == report.counts["unhandled"] == 0
    assert_same_tape(database, second_database, ("trades", "cvd_snapshots", "stream_gaps"))
    collected, replayed = books(database), books(second_database)
    assert set(collected) == set(replayed) == set(symbols)
    for symbol in symbols:
        # Where it comes over REST, what lay between its arrival and its use is not recorded.
        first = max(min(collected[symbol]), min(replayed[symbol]))
        after = [
            {at: row for at, row in of.items() if at >= first} for of in (collected[symbol], replayed[symbol])
        ]
        assert after[0] == after[1]
        assert len(after[0]) > 10
    if exchange == "bybit":
        assert_same_tape(database, second_database)


def test_a_lost_connection_breaks_in_the_replay_what_it_broke(
    database, second_database, tmp_path, monkeypatch
):
    monkeypatch.setattr(Bybit, "symbols_per_line", 1)

    async def until(collector):
        await trades(collector, 150)
        lost, stream = collector.feed.connections[1], collector.session.streams[BYBIT[1]]
        await lost.reset()
        await trades(collector, 150)
        while lost.opened < 2:
            await asyncio.sleep(0.02)
        # The next trade shows that some may be missing before it.
        seen = stream.last_trade_time
        while stream.last_trade_time == seen:
            await asyncio.sleep(0.02)
        while not all(stream.book.is_live for stream in collector.session.streams.values()):
            await asyncio.sleep(0.02)

    files = collect("bybit", BYBIT, database, tmp_path, until=until, with_rest=False)
    frames = list(read(files))
    named = [frame for frame in frames if isinstance(frame, Named)]
    assert [frame.carried.symbols for frame in named] == [(symbol,) for symbol in BYBIT]
    assert len({frame.url for frame in named}) == 3
    assert [frame.url for frame in frames if isinstance(frame, Lost)] == [named[1].url]
    assert [frame.url for frame in frames if isinstance(frame, Opened)].count(named[1].url) == 2
    replay(files, "bybit", second_database)
    assert_same_tape(database, second_database)
    assert books(database) == books(second_database)
    gaps = contents(second_database, "stream_gaps")
    assert {(gap["symbol"], gap["stream"]) for gap in gaps} == {
        ("ETH/USDT", "trades"),
        ("ETH/USDT", "book"),
    }


def test_a_connection_that_was_renewed_is_replayed_as_it_was_taken(
    database, second_database, tmp_path, monkeypatch
):
    monkeypatch.setattr(connections, "OVERLAP_SECONDS", 0.3)

    async def until(collector):
        await trades(collector, 100)
        spot = collector.feed.connections[0]
        spot.renew()
        while spot.opened < 2:
            await asyncio.sleep(0.02)
        await trades(collector, 100)

    files = collect("bybit", BYBIT, database, tmp_path, until=until, with_rest=False)
    frames = list(read(files))
    (moved,) = (place for place, frame in enumerate(frames) if isinstance(frame, Moved))
    beside = [p for p, frame in enumerate(frames) if isinstance(frame, Received) and frame.is_beside]
    assert beside
    assert max(beside) < moved
    replay(files, "bybit", second_database)
    assert_same_tape(database, second_database)
    assert books(database) == books(second_database)
    gaps = contents(second_database, "stream_gaps")
    assert {gap["stream"] for gap in gaps} == {"book"}
    assert {gap["symbol"] for gap in gaps} <= set(SPOT)


def test_a_second_session_breaks_what_the_first_left_open(second_database, tmp_path):
    """Recorded by two processes one after the other: of what lay between them nothing is known."""
    ack = b'{"success":true,"ret_msg":"","op":"ping"}'
    for begin, url in ((0, "wss://a.example/v5/public/spot"), (60, "wss://a.example/v5/public/spot?again")):
        at = START + begin * 1_000_000
        with closing(Recorder(tmp_path, "bybit")) as recorder:
            recorder.named(url, at, ("BTC/USDT",), STREAMS)
            recorder.opened(url, at)
            recorder.received(url, at, ack)
            for second in range(1, 4):
                t = at + second * 1_000_000
                fill = {
                    "T": t // 1000,
                    "s": "BTCUSDT",
                    "S": "Buy",
                    "v": "1",
                    "p": "2",
                    "i": str(t),
                    "BT": False,
                }
                message = {"topic": "publicTrade.BTCUSDT", "ts": t // 1000, "data": [fill | {"seq": second}]}
                recorder.received(url, t, json.dumps(message).encode())
    report = replay(sorted(tmp_path.iterdir()), "bybit", second_database)
    assert (report.counts["trades"], report.counts["rejected"]) == (6, 0)
    (gap,) = contents(second_database, "stream_gaps")
    assert (gap["stream"], gap["status"]) == ("trades", "suspected")
