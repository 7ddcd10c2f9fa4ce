import asyncio
from pathlib import Path
from typing import Any

import pytest

from collector.collect import Collector, Target, open_collector
from collector.playback import play
from collector.replay import replay
from storage.database import Connection, connect

MARKET = {
    "trades": "timestamp, symbol, trade_id, trade_seq, fill_count, price, size, side, cvd_at_trade",
    "orderbook_snapshots": "timestamp, symbol, best_bid, best_ask, mid, spread, spread_bps, bid_volume,"
    " ask_volume, imbalance, depth, bids_json, asks_json",
    "cvd_snapshots": "timestamp, symbol, cvd, cvd_change, cvd_ma_5, cvd_ma_20, anchor_timestamp",
    "candles": "timestamp, symbol, interval, open, high, low, close, volume, buy_volume, sell_volume, vwap,"
    " trade_count, cvd_close, imbalance_mean, imbalance_last, spread_bps_mean, snapshot_count, is_closed,"
    " is_whole, source",
}
LEDGER = ("stream_coverage", "stream_gaps", "stream_state", "tape_revisions")
SESSIONS = {
    "binance": ["binance/BINANCE.ws.1.0", "binance/BINANCE.http.0.0", "binance/BINANCE.0.gz"],
    "coinbase": ["coinbase/COINBASE.ws.28.0.part-a.gz", "coinbase/COINBASE.0"],
    "kraken_v1": [
        "kraken_v1/KRAKEN.ws.48.0.gz",
        "kraken_v1/KRAKEN.ws.50.0.gz",
        "kraken_v1/KRAKEN.0.gz",
    ],
}


def market(connection: Connection) -> dict[str, list[Any]]:
    return {
        table: connection.execute(
            f"SELECT {columns} FROM {table} ORDER BY symbol, timestamp, {columns}"
        ).fetchall()
        for table, columns in MARKET.items()
    }


async def collect(
    paths: list[Path], exchange: str, symbols: tuple[str, ...], url: str, messages: int
) -> Collector:
    async with asyncio.timeout(60), play(paths, speed=1e6) as playback:
        target = Target(
            exchange=exchange,
            symbols=symbols,
            ws_url=playback.address.ws_url,
            rest_url=playback.address.rest_url,
        )
        collector = await open_collector(target, url)
        collecting = asyncio.create_task(collector.run())
        try:
            await playback.run()
            # The last few lie in the client's buffer when the connection is closed already.
            while collector.counts.messages < messages:
                await asyncio.sleep(0.01)
        finally:
            collecting.cancel()
            await asyncio.gather(collecting, return_exceptions=True)
            await collector.close()
    return collector


@pytest.mark.parametrize("exchange", SESSIONS)
def test_a_session_collected_is_the_session_replayed(exchange: str, database: str, shared_data: Path) -> None:
    paths = [shared_data / name for name in SESSIONS[exchange]]
    report = replay(paths, exchange, database)
    with connect(database) as connection:
        replayed = market(connection)
        symbols = sorted({row[1] for rows in replayed.values() for row in rows})
        for table in (*MARKET, *LEDGER):
            connection.execute(f"DELETE FROM {table}")
    messages = report.counts["messages"]
    collector = asyncio.run(collect(paths, exchange, tuple(symbols), database, messages))
    assert collector.counts.messages == messages
    with connect(database) as connection:
        collected = market(connection)
    for table in MARKET:
        assert replayed[table], table
        assert collected[table] == replayed[table], table
