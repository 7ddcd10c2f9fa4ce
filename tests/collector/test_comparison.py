"""Where ids prove nothing, what the connection lost is found over REST: after a break, and without one."""

import asyncio
import json

import pytest

from collector import comparison, exchanges
from collector.collect import Target, open_collector
from collector.heal import Healer, open_gaps
from collector.rest import Rest
from collector.simulator.faults import Fault
from collector.simulator.server import serve
from market import MICROSECONDS, Side, Trade, parse_time
from storage import coverage, healing, verify
from storage.amend import amend
from storage.database import connect
from storage.holes import list_holes
from storage.ledger import add_gap

START = parse_time("2026-03-01T23:59:00Z")
SECOND = MICROSECONDS
SYMBOL = "BTC/USDT:USDT"
SPEED = 30


def fault(kind, begin, end, symbol=None):
    return Fault(kind=kind, begin=START + begin * SECOND, end=START + end * SECOND, symbol=symbol, key=5)


def stored(url):
    with connect(url) as connection:
        rows = connection.execute("SELECT trade_id FROM trades ORDER BY timestamp, trade_seq").fetchall()
    return [trade_id for (trade_id,) in rows]


def test_a_break_and_trades_left_out_are_found_with_bybits_protocol(database, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "PAUSE", 0.2)
    monkeypatch.setattr(comparison, "EVERY", 0.2)
    path = tmp_path / "truth.jsonl"
    log = tmp_path / "faults.jsonl"
    faults = [fault("lost_trade", 5, 30, SYMBOL), fault("maintenance", 40, 44)]

    def truth():
        return [json.loads(line)["trade_id"] for line in path.read_text().splitlines()]

    def is_whole():
        found = stored(database)
        return bool(found) and found == truth()[truth().index(found[0]) :]

    async def run():
        async with serve(
            [SYMBOL],
            11,
            protocol="bybit",
            start=START,
            speed=SPEED,
            truth=path,
            faults=faults,
            fault_log=log,
        ) as simulator:
            urls = {"ws_url": simulator.address.ws_url, "rest_url": simulator.address.rest_url}
            target = Target(exchange="bybit", symbols=(SYMBOL,), **urls)
            collector = await open_collector(target, database, tmp_path / "spool")
            running = asyncio.create_task(collector.run())
            try:
                async with asyncio.timeout(40):
                    stream = collector.session.stream(SYMBOL)
                    while (stream.last_trade_time or 0) < START + 60 * SECOND:
                        await asyncio.sleep(0.1)
                    simulator.end_market()
                    while not is_whole():
                        await asyncio.sleep(0.2)
            finally:
                running.cancel()
                await asyncio.wait({running})
                await collector.close()

    asyncio.run(run())
    sent = [
        line["trade_ids"] for line in map(json.loads, log.read_text().splitlines()) if "trade_ids" in line
    ]
    assert len({name for names in sent for name in names}) < len(stored(database))
    with connect(database) as connection:
        gaps = list_holes(connection, exchange="bybit")
        assert "not_sent" in {gap.cause for gap in gaps}
        assert {gap.status for gap in gaps if gap.stream == "trades"} == {"healed"}
        connection.rollback()
        with verify.snapshot(connection, "bybit", SYMBOL) as tape:
            assert all(tape.prove(day).ok for day in tape.days)


def trades_of(*seconds):
    return [Trade(SYMBOL, START + n * SECOND, f"id{n}", n, 100.0, 0.5, Side.BUY) for n in seconds]


def write(connection, *seconds):
    trades = trades_of(*seconds)
    span = coverage.Span(START, START + 10 * SECOND, None, None, "connection", "live", 0)
    amend(connection, "bybit", SYMBOL, trades, None, [span], "late_trade")


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ((1, 2, 3, 4), 1),
        ((1, 3, 4), 0),
        ((1, 2, 4), 0),  # the tape has one that REST does not give
        ((2, 5, 6), 0),
        ((1, 3, 4, 20), 0),  # not covered
    ],
)
def test_only_what_rest_gives_beside_all_that_is_stored_is_added(database, given, added):
    with connect(database) as connection:
        write(connection, 1, 3, 4)
        trades = trades_of(*given)
        count = healing.add_lost(connection, "bybit", SYMBOL, START, START + 60 * SECOND, trades)
        assert count == added
        assert [(gap.cause, gap.status) for gap in list_holes(connection)] == [("not_sent", "healed")] * added
        connection.commit()
        with verify.snapshot(connection, "bybit", SYMBOL) as tape:
            assert all(tape.prove(day).ok for day in tape.days)


def test_what_nobody_can_ask_for_is_given_up_at_once(database):
    """Through ccxt there are no past trades over REST: no hole waits for them."""
    with connect(database) as connection:
        add_gap(
            connection,
            "binanceus",
            "BTC/USDT",
            "trades",
            START,
            START + SECOND,
            cause="disconnected",
            status="suspected",
            proof="connection",
        )

    async def run():
        adapter = exchanges.find("binanceus")
        rest = Rest("binanceus", adapter.rest_url, adapter.rest_rate)
        healer = Healer(adapter, rest, database, ["BTC/USDT"], lambda _: START)
        running = asyncio.create_task(healer.run())
        async with asyncio.timeout(30):
            while is_open():
                await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.wait({running})
        await rest.close()

    def is_open():
        with connect(database) as connection:
            return open_gaps(connection, "binanceus") != []

    asyncio.run(run())
    with connect(database) as connection:
        (gap,) = list_holes(connection)
    assert (gap.status, gap.note) == ("unhealable", "binanceus gives no past trades over REST")
