"""Repairing against the simulator: the tape is what it was, and a second run does nothing."""

import asyncio
from dataclasses import asdict

import pytest

from collector import repair
from collector.backfill import Backfill
from collector.collect import Target, learn_instruments
from collector.simulator.server import serve
from market import DAY, MICROSECONDS, WrongUse, parse_time
from storage import rebuild, verify
from storage.database import connect
from storage.holes import list_holes
from storage.ledger import add_gap
from storage.past import DayKey, record_drop

NOW = parse_time("2026-03-02T00:03:00Z")
MIDNIGHT = parse_time("2026-03-02")
BEGIN, END = parse_time("2026-03-01T23:58Z"), parse_time("2026-03-02T00:02Z")
KEY = ("simulated", "BTC/USDT")
TABLES = {
    "trades": "timestamp, symbol, trade_id, trade_seq, price, size, side, fill_count, cvd_at_trade",
    "candles": "timestamp, interval, open, high, low, close, volume, vwap, trade_count, cvd_close,"
    " is_closed, is_whole, source",
    "cvd_snapshots": "*",
}


def with_exchange(job):
    async def scenario():
        async with serve(["BTC/USDT"], 7, start=NOW) as simulator:
            return await job(simulator.address.rest_url)

    return asyncio.run(scenario())


def backfill(url):
    async def job(rest_url):
        target = Target(exchange="simulated", symbols=("BTC/USDT",), rest_url=rest_url)
        adapter = target.adapter()
        rest = target.rest(adapter)
        await learn_instruments(adapter, rest)
        await Backfill(adapter, rest, url, "BTC/USDT").run(BEGIN, END)
        await rest.close()

    with_exchange(job)


def repaired(url, folder):
    said = []
    done = with_exchange(lambda rest: repair.run(url, folder, "simulated", None, rest, said.append))
    return {name: count for name, count in asdict(done).items() if count}


def rows(url):
    with connect(url) as connection:
        return {
            table: connection.execute(f"SELECT {columns} FROM {table} ORDER BY 1, 2, 3").fetchall()
            for table, columns in TABLES.items()
        }


def proofs(url):
    with connect(url) as connection, verify.snapshot(connection, *KEY) as tape:
        return [tape.prove(day) for day in tape.days]


def damage(url, *statements):
    """Damage that somebody has rebuilt everything on, as far as it can be."""
    with connect(url) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount > 0
        rebuild.rebuild(connection, *KEY, BEGIN, END, "repair")


ONE = "trade_seq = (SELECT trade_seq FROM trades ORDER BY timestamp OFFSET 60 LIMIT 1)"
TWICE = f"""
    INSERT INTO trades SELECT timestamp + '20 s'::interval, exchange, symbol, trade_id, trade_seq,
        fill_count, price, size, side, cvd_at_trade FROM trades WHERE {ONE}"""
WITHOUT_COVERAGE = """
    UPDATE stream_coverage SET from_timestamp = from_timestamp + '1 minute'::interval"""


DAMAGES = [
    ((f"UPDATE trades SET trade_seq = 7 WHERE {ONE}",), {"trades_renamed": 1}),
    ((f"UPDATE trades SET trade_id = 'x?' WHERE {ONE}",), {"trades_renamed": 1}),
    ((TWICE,), {"duplicates_removed": 1}),
    ((TWICE, f"UPDATE trades SET trade_id = 'x' || trade_id WHERE {ONE}"), {"trades_renamed": 2}),
    ((f"DELETE FROM trades WHERE {ONE}",), {"holes_found": 1, "holes_healed": 1}),
    # What was healed and is lost again is found again.
    ((f"DELETE FROM trades WHERE {ONE}",), {"holes_found": 1, "holes_healed": 1}),
]


def test_what_was_damaged_is_what_it_was(database, tmp_path):
    backfill(database)
    before = rows(database)
    for statements, expected in DAMAGES:
        damage(database, *statements)
        assert not all(proof.ok for proof in proofs(database))
        done = repaired(database, tmp_path)
        assert expected.items() <= done.items()
        assert all(proof.ok for proof in proofs(database))
        assert rows(database) == before
    assert repaired(database, tmp_path) == {}


def test_trades_without_coverage_whose_ids_follow_are_covered(database, tmp_path):
    backfill(database)
    before = rows(database)
    damage(database, WITHOUT_COVERAGE)
    assert sum(proof.orphans.count for proof in proofs(database)) > 10
    assert repaired(database, tmp_path) == {"spans_added": 1}
    assert all(proof.ok for proof in proofs(database))
    # The quiet time before the first trade is not proven by it.
    assert rows(database)["trades"] == before["trades"]
    assert repaired(database, tmp_path) == {}


def test_very_many_holes_are_recorded_page_by_page(database, tmp_path, monkeypatch):
    monkeypatch.setattr(verify, "_MAX_RUNS", 8)
    backfill(database)
    before = rows(database)
    damage(database, "DELETE FROM trades WHERE trade_seq % 5 = 0 AND timestamp < '2026-03-02T00:01Z'")
    missing = sum(proof.ids_missing for proof in proofs(database))
    assert missing > 20
    done = repaired(database, tmp_path)
    assert (done["holes_found"], done["holes_healed"]) == (missing, missing)
    assert all(proof.ok for proof in proofs(database))
    assert rows(database) == before
    assert repaired(database, tmp_path) == {}


def test_derived_rows_follow_from_the_trades_again(database, tmp_path):
    backfill(database)
    before = rows(database)
    with connect(database) as connection:
        connection.execute("UPDATE candles SET volume = 7 WHERE interval = '1h'")
        connection.execute("UPDATE cvd_snapshots SET cvd = 7 WHERE timestamp = '2026-03-02T00:01Z'")
        connection.execute("UPDATE trades SET cvd_at_trade = 7 WHERE trade_seq % 50 = 0")
    assert repaired(database, tmp_path).keys() == {"days_recomputed"}
    assert rows(database) == before


def test_trades_that_no_ids_prove_are_asked_for(database, tmp_path):
    """Where ids are not consecutive the time of the orphans is a suspicion that REST answers."""
    backfill(database)
    damage(database, WITHOUT_COVERAGE)
    with connect(database) as connection:
        connection.execute("UPDATE instruments SET trade_ids_consecutive = false")
    assert repaired(database, tmp_path) == {"holes_found": 1, "holes_empty": 1}
    assert all(proof.ok for proof in proofs(database))
    with connect(database) as connection:
        assert list_holes(connection, statuses=("suspected", "confirmed")) == []
    assert repaired(database, tmp_path) == {}


def test_what_nobody_answers_for_stays_open(database, tmp_path):
    backfill(database)
    damage(database, f"DELETE FROM trades WHERE {ONE}")
    said = []
    dead = "http://127.0.0.1:9"
    done = asyncio.run(repair.run(database, tmp_path, "simulated", None, dead, said.append))
    assert (done.holes_found, done.holes_left) == (1, 1)
    assert "cannot reach simulated" in said[-1]
    with pytest.raises(WrongUse, match="--exchange"):
        asyncio.run(repair.run(database, tmp_path, None, None, dead, said.append))
    assert repaired(database, tmp_path) == {"holes_healed": 1}


def test_a_hole_of_a_day_that_was_dropped_keeps_no_other_from_healing(database, tmp_path):
    backfill(database)
    early, late = (f"(SELECT trade_seq FROM trades ORDER BY timestamp {way} LIMIT 1)" for way in ("", "DESC"))
    damage(database, f"DELETE FROM trades WHERE trade_seq IN ({early} + 20, {late} - 20)")
    said = []
    asyncio.run(repair.run(database, tmp_path, "simulated", None, "http://127.0.0.1:9", said.append))
    with connect(database) as connection:
        assert [hole.to_timestamp > MIDNIGHT for hole in list_holes(connection)] == [False, True]
        record_drop(connection, DayKey("trades", *KEY, "", MIDNIGHT - DAY), 0)
        assert connection.execute("DELETE FROM trades WHERE timestamp < '2026-03-02'").rowcount > 0
    assert repaired(database, tmp_path) == {"holes_healed": 1, "holes_left": 1}


def test_a_hole_up_to_an_id_that_no_trade_has_yet_comes_to_an_end(database, tmp_path):
    """A false id ended it: the exchange has trades of those ids, but they are younger than the hole."""
    backfill(database)
    with connect(database) as connection:
        (last,) = connection.execute("SELECT max(trade_seq) FROM trades").fetchone()
        add_gap(
            connection,
            *KEY,
            "trades",
            END,
            END + MICROSECONDS,
            cause="ids_missing",
            status="confirmed",
            proof="ids",
            from_id=str(last + 1),
            to_id=str(last + 90_000),
            missing_count=90_000,
        )
    assert repaired(database, tmp_path) == {"holes_unhealable": 1}
    assert all(proof.ok for proof in proofs(database))
    with connect(database) as connection:
        holes = list_holes(connection, statuses=("unhealable",))
    assert [hole.to_id for hole in holes] == [str(last + 90_000)]
    assert repaired(database, tmp_path) == {}


def test_an_exchange_that_nobody_speaks_any_more_keeps_its_holes(database, tmp_path):
    with connect(database) as connection:
        connection.execute(
            "INSERT INTO stream_gaps (exchange, symbol, stream, from_timestamp, to_timestamp, cause, status,"
            " proof) VALUES ('kraken_v1', 'BTC/CHF', 'trades', '2026-01-01', '2026-01-02', 'disconnected',"
            " 'suspected', 'connection')"
        )
    said = []
    done = asyncio.run(repair.run(database, tmp_path, None, None, None, said.append))
    assert done.holes_left == 1
    assert "no longer spoken" in said[-1]
