"""Backfilling over REST, against the simulator: whatever the order, the tape is the same and whole."""

import asyncio
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.backfill import Backfill, join, uncovered
from collector.backfill_candles import backfill_candles
from collector.collect import Target, learn_instruments
from collector.exchanges.adapter import TradePage
from collector.simulator.server import serve
from market import Timeframe, Trade, Unavailable, WrongUse, parse_time
from storage import ledger, rebuild, verify
from storage.database import connect
from storage.holes import list_holes
from storage.stored import StoredTape

NOW = parse_time("2026-03-02T00:06:00Z")
BEGIN, MIDDLE, END = (parse_time(f"2026-03-0{moment}Z") for moment in ("1T23:50", "2T00:01", "2T00:05"))
KEY = ("simulated", "BTC/USDT")
TABLES = {
    "trades": "timestamp, symbol, trade_id, trade_seq, price, size, side, fill_count, cvd_at_trade",
    "candles": "timestamp, symbol, interval, open, high, low, close, volume, vwap, trade_count, cvd_close,"
    " is_closed, is_whole, source",
    "cvd_snapshots": "*",
}


@asynccontextmanager
async def exchange():
    """The simulator's REST interface as an adapter and a client; its time stands still at NOW."""
    async with serve(["BTC/USDT"], 7, start=NOW) as simulator:
        target = Target(exchange="simulated", symbols=("BTC/USDT",), rest_url=simulator.address.rest_url)
        adapter = target.adapter()
        rest = target.rest(adapter)
        try:
            await learn_instruments(adapter, rest)
            yield adapter, rest
        finally:
            await rest.close()


def fill(url, *ranges):
    """Backfill these times, one after the other; what each did."""

    async def scenario():
        done = []
        async with exchange() as (adapter, rest):
            for begin, end in ranges:
                job = Backfill(adapter, rest, url, "BTC/USDT")
                await job.run(begin, end)
                done.append(job.filled)
        return done

    return asyncio.run(scenario())


def rows(url):
    with connect(url) as connection:
        return {
            table: sorted(connection.execute(f"SELECT {columns} FROM {table}").fetchall(), key=str)
            for table, columns in TABLES.items()
        }


def islands(url):
    with connect(url) as connection:
        return StoredTape(connection, *KEY).islands()


def assert_right(url):
    with connect(url) as connection, verify.snapshot(connection, *KEY) as tape:
        days = [tape.prove(day) for day in tape.days]
    assert days
    assert all(proof.ok for proof in days), days
    return days


def test_a_time_is_filled_once(database):
    first, again = fill(database, (BEGIN, END), (BEGIN, END))
    assert islands(database) == [(BEGIN, END)]
    days = assert_right(database)
    assert sum(proof.trades for proof in days) == first.new_trades > 500
    assert days[0].ids_consecutive
    assert (first.asked, first.covered, first.left) == (END - BEGIN, END - BEGIN, 0)
    assert (again.asked, again.new_trades, again.pages) == (0, 0, 0)
    with connect(database) as connection:
        (span,) = ledger.spans(connection, *KEY, "trades")
        ids = connection.execute("SELECT min(trade_seq), max(trade_seq), count(*) FROM trades").fetchone()
    assert (span.origin, span.proof, span.from_id, span.to_id) == ("backfill", "ids", *map(str, ids[:2]))
    assert span.row_count == ids[2] == ids[1] - ids[0] + 1


def test_the_order_makes_no_difference(database, second_database):
    fill(database, (BEGIN, END))
    later, _, earlier, _ = fill(
        second_database,
        (MIDDLE, END),
        (BEGIN, BEGIN + 90_000_000),
        (BEGIN, MIDDLE + 1),
        (BEGIN - 1, END),
    )
    assert later.new_trades
    assert earlier.asked == MIDDLE - BEGIN - 90_000_000
    assert islands(second_database)[0][1] == END
    assert len(islands(second_database)) == 1
    with connect(second_database) as connection:
        connection.execute("DELETE FROM trades WHERE timestamp < '2026-03-01T23:50Z'")
    assert rows(second_database)["trades"] == rows(database)["trades"]
    assert_right(second_database)


def cut(url, first, last, status="confirmed"):
    """Trades with these ids are lost, and that is on record."""
    with connect(url) as connection:
        times = connection.execute(
            "SELECT timestamp FROM trades WHERE trade_seq IN (%s, %s) ORDER BY 1", (first - 1, last + 1)
        ).fetchall()
        begin, end = (int(time.timestamp() * 1e6) for (time,) in times)
        connection.execute("DELETE FROM trades WHERE trade_seq BETWEEN %s AND %s", (first, last))
        ledger.add_gap(
            connection,
            *KEY,
            "trades",
            begin + 1,
            end,
            cause="ids_missing",
            status="confirmed",
            proof="ids",
            from_id=str(first),
            to_id=str(last),
            missing_count=last - first + 1,
        )
        rebuild.rebuild(connection, *KEY, begin, end, "repair")
        connection.execute("UPDATE stream_gaps SET status = %s", [status])


@pytest.mark.parametrize("status", ["confirmed", "suspected", "unhealable"])
def test_a_hole_on_record_is_healed(database, status):
    fill(database, (BEGIN, END))
    before = rows(database)
    middle = before["trades"][len(before["trades"]) // 2][3]
    cut(database, middle, middle + 19, status)
    assert len(islands(database)) == 2
    (filled,) = fill(database, (BEGIN, END))
    assert (filled.new_trades, filled.left) == (20, 0)
    assert rows(database) == before
    assert_right(database)
    with connect(database) as connection:
        (hole,) = list_holes(connection)
    assert (hole.status, hole.healed_count) == ("healed", 20)


def test_what_came_is_kept_when_it_is_cancelled(database, second_database, monkeypatch):
    monkeypatch.setattr("collector.backfill.MAX_TRADES", 1000)
    evening = BEGIN - 3_600_000_000
    fill(database, (evening, END))

    async def scenario():
        async with exchange() as (adapter, rest):
            job = Backfill(adapter, rest, second_database, "BTC/USDT", lambda done, total: task.cancel())
            task = asyncio.create_task(job.run(evening, END))
            with suppress(asyncio.CancelledError):
                await task
            return job.filled

    stopped = asyncio.run(scenario())
    ((begin, end),) = islands(second_database)
    assert begin == evening < end < END
    assert_right(second_database)
    (rest,) = fill(second_database, (evening, END))
    assert rest.asked == END - end
    assert stopped.new_trades + rest.new_trades == len(rows(database)["trades"])
    assert rows(second_database) == rows(database)


def test_nothing_is_claimed_beyond_the_time_of_the_exchange(database):
    (filled,) = fill(database, (END, NOW + 3_600_000_000))
    ((begin, end),) = islands(database)
    assert begin == END
    assert NOW - 60_000_000 < end <= NOW
    assert filled.left == NOW + 3_600_000_000 - end
    with connect(database) as connection:
        (newest,) = connection.execute("SELECT max(timestamp) FROM trades").fetchone()
    assert end == int(newest.timestamp() * 1e6) + 1


def test_an_exchange_without_history_is_said_so(database):
    target = Target(exchange="kraken_v1", symbols=("BTC/CHF",), ws_url="ws://127.0.0.1:9")
    adapter = target.adapter()

    async def scenario():
        rest = target.rest(adapter)
        try:
            Backfill(adapter, rest, database, "BTC/CHF")
        finally:
            await rest.close()

    with pytest.raises(WrongUse, match="gives no past trades over REST"):
        asyncio.run(scenario())


def test_an_exchange_that_is_away_is_said_so(database, monkeypatch):
    monkeypatch.setattr("collector.backfill.MAX_TRIES", 1)
    target = Target(exchange="simulated", symbols=("BTC/USDT",), rest_url="http://127.0.0.1:9")
    adapter = target.adapter()

    async def scenario():
        rest = target.rest(adapter)
        try:
            await Backfill(adapter, rest, database, "BTC/USDT").run(BEGIN, END)
        finally:
            await rest.close()

    with pytest.raises(Unavailable, match="cannot reach simulated"):
        asyncio.run(scenario())


def test_candles_fill_only_what_the_trades_leave(database):
    fill(database, (MIDDLE, END))
    before = rows(database)["candles"]

    async def scenario():
        async with exchange() as (adapter, rest):
            return [
                await backfill_candles(adapter, rest, database, "BTC/USDT", Timeframe.M1, BEGIN, END)
                for _ in range(2)
            ]

    assert asyncio.run(scenario()) == [11, 0]
    after = rows(database)["candles"]
    assert [row for row in after if row[-1] == "trades"] == before
    theirs = [row for row in after if row[-1] == "exchange"]
    assert len(theirs) == 11
    assert all(row[0].timestamp() * 1e6 < MIDDLE for row in theirs)
    # Trades take the place of the exchange's candles, which say the same.
    fill(database, (BEGIN, END))
    columns = slice(0, 8)
    ours = [row[columns] for row in rows(database)["candles"] if row[2] == "1m" and row[-1] == "trades"]
    assert {row[columns] for row in theirs} <= set(ours)
    assert_right(database)


# Pure


def trade(number, timestamp):
    return Trade("BTC/USDT", timestamp, str(number), number, 1.0, 1.0, None)


@given(st.data())
def test_ids_that_no_trade_has_are_found(data):
    """Pages that adjoin, and within them the runs of ids that no trade has."""
    edges = sorted(data.draw(st.sets(st.integers(1, 60), min_size=2, max_size=5)))
    given_ids = data.draw(st.sets(st.integers(edges[0], edges[-1] - 1)))
    pages = [
        TradePage(
            trades=[trade(number, 10 * number) for number in sorted(given_ids) if first <= number < end],
            from_timestamp=10 * first,
            to_timestamp=10 * end,
            first_id=first,
            last_id=end - 1,
        )
        for first, end in pairwise(edges)
    ]
    batch = join(pages)
    assert (batch.begin, batch.end) == (10 * edges[0], 10 * edges[-1])
    assert [each.trade_seq for each in batch.trades] == sorted(given_ids)
    found = [number for first, last, _, _ in batch.ungiven for number in range(first, last + 1)]
    assert sorted(found) == sorted(set(range(edges[0], edges[-1])) - given_ids)
    assert len(found) == len(set(found))
    assert all(before <= after for _, _, before, after in batch.ungiven)


@given(st.lists(st.integers(0, 40), unique=True, max_size=8), st.integers(0, 40), st.integers(0, 40))
def test_parts_are_what_no_island_covers(edges, begin, end):
    edges = sorted(edges)[: len(edges) // 2 * 2]
    lands = list(zip(edges[::2], edges[1::2], strict=True))
    parts = list(uncovered(lands, begin, end))
    covered = {moment for first, last in lands for moment in range(first, last)}
    found = [moment for part in parts for moment in range(part.begin, part.end)]
    assert sorted(found) == sorted(set(range(begin, end)) - covered)
    for part in parts:
        assert part.is_before_coverage == (part.end in covered)
        assert part.is_after_coverage == (part.begin - 1 in covered)
