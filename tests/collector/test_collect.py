"""Collecting over real websockets: what is stored equals the recording, and the simulator's truth."""

import asyncio
import json
from contextlib import suppress

import pytest
from recordings import paths

from collector.collect import Target, open_collector
from collector.playback import play
from collector.replay import replay
from collector.simulator.server import serve
from market import Unavailable, WrongUse, parse_time
from storage import rebuild
from storage.database import connect

START = parse_time("2026-03-01T22:00:00Z")
SYMBOLS = ("BTC/USDT", "ETH/USDT")
DERIVED = {
    "trades": "timestamp, exchange, symbol, trade_id, trade_seq, fill_count, price, size, side, cvd_at_trade",
    "candles": "*",
    "cvd_snapshots": "*",
}
# The first whole book comes over REST or the stream: what candles say of books depends on when.
BOOK_COLUMNS = {"imbalance_mean", "imbalance_last", "spread_bps_mean", "snapshot_count", "revised"}


def rows(url, table, columns):
    with connect(url) as connection:
        found = connection.execute(
            f"SELECT to_jsonb(t) FROM (SELECT {columns} FROM {table}) AS t ORDER BY t::text"
        ).fetchall()
    return sorted(
        json.dumps({key: value for key, value in row.items() if key not in BOOK_COLUMNS}) for (row,) in found
    )


def books(url):
    with connect(url) as connection:
        found = connection.execute("SELECT * FROM orderbook_snapshots").fetchall()
    by_symbol = {}
    for row in found:
        by_symbol.setdefault(row[2], {})[row[0]] = row
    return by_symbol


def symbols_of(url):
    with connect(url) as connection:
        return tuple(
            symbol for (symbol,) in connection.execute("SELECT symbol FROM instruments ORDER BY 1").fetchall()
        )


async def collect(target, url, spool, seconds):
    collector = await open_collector(target, url, spool)
    try:
        await collector.run(seconds)
    finally:
        await collector.close()
    return collector.counts


@pytest.mark.parametrize("exchange", ["binance", "coinbase", "kraken_v1"])
def test_collecting_a_recording_stores_what_its_replay_stores(
    exchange, database, second_database, shared_data, tmp_path, caplog
):
    files = paths(shared_data, exchange)
    replay(files, exchange, database)

    async def scenario():
        async with play(files, speed=1e6) as playback:
            target = Target(
                exchange=exchange,
                symbols=symbols_of(database),
                ws_url=playback.address.ws_url,
                rest_url=playback.address.rest_url,
            )
            collector = await open_collector(target, second_database, tmp_path)
            running = asyncio.create_task(collector.run())
            try:
                async with asyncio.timeout(60):
                    await playback.run()
                    # A line is lost when all of it was read; it may be open again a moment later.
                    while caplog.text.count("connection lost") < len(collector.feed.connections):
                        await asyncio.sleep(0.05)
            finally:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running
                await collector.close()
            return collector.counts

    counts = asyncio.run(scenario())
    assert counts.rejected == counts.unhandled == counts.gaps == 0
    for table, columns in DERIVED.items():
        assert rows(second_database, table, columns) == rows(database, table, columns)
    replayed, collected = books(database), books(second_database)
    assert collected
    for symbol, of_symbol in collected.items():
        first = min(of_symbol)
        assert of_symbol == {at: row for at, row in replayed[symbol].items() if at >= first}


def truth_rows(path):
    truth = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        (t["symbol"], t["trade_id"], int(t["timestamp_us"]), float(t["price"]), float(t["size"]), t["side"])
        for t in truth
    ]


def stored_rows(url):
    with connect(url) as connection:
        return connection.execute(
            """
            SELECT symbol, trade_id, (extract(epoch FROM timestamp) * 1e6)::bigint, price, size, side
            FROM trades WHERE exchange = 'simulated'
            """
        ).fetchall()


def within(truth, stored):
    """The truth from each symbol's first stored trade to its last."""
    ids = {}
    for symbol, trade_id, *_ in stored:
        ids.setdefault(symbol, []).append(int(trade_id))
    return [t for t in truth if min(ids[t[0]]) <= int(t[1]) <= max(ids[t[0]])]


def assert_derived_rows_are_right(url, symbols):
    with connect(url) as connection:
        for symbol in symbols:
            end = START + 10**12
            assert rebuild.differences(connection, "simulated", symbol, START - 10**10, end) == []
        gaps = connection.execute("SELECT count(*) FROM stream_gaps WHERE stream = 'trades'").fetchone()
        assert gaps == (0,)


def test_collecting_from_the_simulator_stores_its_truth(database, tmp_path):
    truth = tmp_path / "truth.jsonl"

    async def scenario():
        async with serve(SYMBOLS, 11, start=START, speed=3600, truth=truth) as simulator:
            target = Target(
                exchange="simulated",
                symbols=SYMBOLS,
                ws_url=simulator.address.ws_url,
                rest_url=simulator.address.rest_url,
            )
            await collect(target, database, tmp_path, 3)

    asyncio.run(scenario())
    stored = stored_rows(database)
    assert len(stored) > 300
    assert sorted(stored) == sorted(within(truth_rows(truth), stored))
    assert_derived_rows_are_right(database, SYMBOLS)


def test_a_restarted_collector_goes_on_with_the_same_tape(database, tmp_path):
    truths = [tmp_path / f"truth{i}.jsonl" for i in range(3)]

    async def run_once(start, truth):
        async with serve(SYMBOLS, 5, start=start, speed=1800, truth=truth) as simulator:
            target = Target(
                exchange="simulated",
                symbols=SYMBOLS,
                ws_url=simulator.address.ws_url,
                rest_url=simulator.address.rest_url,
            )
            await collect(target, database, tmp_path, 1.2)

    start = START
    for truth in truths:
        asyncio.run(run_once(start, truth))
        # The earlier of both last trades: what the other symbol sends again is known.
        last = {}
        for symbol, _, timestamp, *_ in stored_rows(database):
            last[symbol] = max(timestamp, last.get(symbol, 0))
        start = min(last.values())
    stored = stored_rows(database)
    truth = {row for path in truths for row in truth_rows(path)}
    assert sorted(stored) == sorted(within(truth, stored))
    assert_derived_rows_are_right(database, SYMBOLS)
    with connect(database) as connection:
        spans = connection.execute("SELECT symbol, row_count FROM stream_coverage WHERE stream = 'trades'")
        counts = {symbol: sum(row[0] == symbol for row in stored) for symbol in SYMBOLS}
        assert dict(spans.fetchall()) == counts


def test_a_missing_exchange_is_said_so(database, tmp_path):
    target = Target(exchange="simulated", symbols=SYMBOLS, ws_url="ws://127.0.0.1:9")
    with pytest.raises(Unavailable, match="cannot reach simulated"):
        asyncio.run(collect(target, database, tmp_path, 1))


def test_an_unknown_symbol_is_said_so(database, tmp_path):
    async def scenario():
        async with serve(SYMBOLS, 1, start=START) as simulator:
            target = Target(
                exchange="simulated",
                symbols=("NOPE/USDT",),
                ws_url=simulator.address.ws_url,
                rest_url=simulator.address.rest_url,
            )
            await collect(target, database, tmp_path, 1)

    with pytest.raises(WrongUse, match="NOPE/USDT"):
        asyncio.run(scenario())


def test_an_instrument_has_one_writer_and_the_next_one_stands_by(database, tmp_path):
    async def scenario():
        async with serve(SYMBOLS, 1, start=START) as simulator:
            target = Target(
                exchange="simulated",
                symbols=SYMBOLS,
                ws_url=simulator.address.ws_url,
                rest_url=simulator.address.rest_url,
            )
            first = await open_collector(target, database, tmp_path)
            second = asyncio.create_task(open_collector(target, database, tmp_path))
            await asyncio.sleep(1)
            assert not second.done()
            await first.close()
            async with asyncio.timeout(60):
                await (await second).close()

    asyncio.run(scenario())


def test_a_dialect_nobody_speaks_needs_a_server(database, tmp_path):
    with pytest.raises(WrongUse, match="--ws-url"):
        asyncio.run(collect(Target(exchange="kraken_v1", symbols=("BTC/CHF",)), database, tmp_path, 1))
