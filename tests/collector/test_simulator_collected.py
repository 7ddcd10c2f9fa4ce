import asyncio
import json
from pathlib import Path

from collector.collect import Target, open_collector
from collector.simulator.server import serve
from market import parse_time
from storage.database import connect

START = parse_time("2026-01-01T23:50:00Z")
SYMBOLS = ("BTC/USDT", "ETH/USDT")
COLUMNS = ("symbol", "trade_id", "timestamp_us", "price", "size", "side")


async def collect_a_while(database: str, truth: Path, *, start: int, seconds: float) -> None:
    async with serve(SYMBOLS, 7, start=start, speed=600, truth=truth) as simulator:
        address = simulator.address
        target = Target(
            exchange="simulated", symbols=SYMBOLS, ws_url=address.ws_url, rest_url=address.rest_url
        )
        collector = await open_collector(target, database, clock=lambda: simulator.time)
        try:
            await collector.run(seconds)
        finally:
            await collector.close()


def test_what_is_stored_is_exactly_the_truth_over_midnight(database: str, tmp_path: Path) -> None:
    truth = tmp_path / "truth.jsonl"
    asyncio.run(collect_a_while(database, truth, start=START, seconds=3))
    happened = [json.loads(line) for line in truth.read_text().splitlines()]
    with connect(database) as connection:
        stored = connection.execute(
            "SELECT symbol, trade_id, (extract(epoch FROM timestamp) * 1000000)::bigint, price, size, side"
            " FROM trades WHERE exchange = 'simulated' ORDER BY symbol, timestamp, trade_seq"
        ).fetchall()
        books = connection.execute("SELECT count(*) FROM orderbook_snapshots").fetchall()
    for symbol in SYMBOLS:
        mine = [row for row in stored if row[0] == symbol]
        expected = [
            (
                line["symbol"],
                line["trade_id"],
                int(line["timestamp_us"]),
                float(line["price"]),
                float(line["size"]),
                line["side"],
            )
            for line in happened
            if line["symbol"] == symbol
        ]
        assert len(mine) > 300
        # What happened after the collector left is in the truth only.
        assert mine == expected[: len(mine)]
    assert books[0][0] > 300
