"""What is dropped is what a rule says, and nobody takes it for lost."""

from random import Random

import polars as pl
import pytest
from old_days import BEGIN, DAYS, END, HOLE, NOW, OTHER, days_in, is_right, write_days, write_other
from polars.testing import assert_frame_equal
from streaming import EXCHANGE, HOUR, MIDNIGHT, SYMBOL, cover, random_trade

from collector.backfill import joined, uncovered
from market import DAY, WrongUse
from storage import read, rebuild
from storage.amend import amend
from storage.check import check
from storage.database import Connection, connect
from storage.past import TABLES
from storage.repair import recompute
from storage.retention import Rule, drop_expired
from storage.stored import StoredTape

ALL = set(range(DAYS + 1))
KEPT = {3, 4}
FOR_EVER = Rule(table="trades", days=None, symbol=SYMBOL)


@pytest.fixture
def url(connection: Connection, database: str) -> str:
    write_days(connection)
    return database


def drop(url: str, *rules: Rule) -> set[str]:
    return {each.outcome for each in drop_expired(url, rules, (), NOW)}


def chunks(connection: Connection, table: str) -> int:
    row = connection.execute("SELECT count(*) FROM show_chunks(%s::regclass)", (table,)).fetchone()
    connection.rollback()
    assert row is not None
    return int(row[0])


def test_nothing_is_dropped_unless_a_rule_says_so(connection: Connection, url: str) -> None:
    assert drop(url) == set()
    assert drop(url, Rule(table="trades", days=DAYS + 3)) == set()
    assert drop(url, Rule(table="trades", days=3, exchange="kraken")) == set()
    assert drop(url, Rule(table="trades", days=3), FOR_EVER) == set()
    for table in TABLES:
        assert days_in(connection, table) == ALL


def test_the_last_rule_that_fits_counts(connection: Connection, url: str) -> None:
    assert drop(url, FOR_EVER, Rule(table="trades", days=9), Rule(table="trades", days=3)) == {"dropped"}
    assert days_in(connection, "trades") == KEPT
    assert days_in(connection, "orderbook_snapshots") == ALL
    assert chunks(connection, "trades") == len(KEPT)


def test_what_others_have_in_a_chunk_stays(connection: Connection, url: str) -> None:
    write_other(connection, MIDNIGHT + DAY)
    assert drop(url, Rule(table="trades", days=3)) == {"dropped"}
    assert chunks(connection, "trades") == len(KEPT) + 1
    assert len(read.trades(url, EXCHANGE, OTHER)) == 1
    # Now it is known, and its only day is settled.
    connection.execute(
        "INSERT INTO stream_coverage SELECT exchange, %s, stream, from_timestamp, to_timestamp, from_id,"
        " to_id, proof, origin, row_count FROM stream_coverage",
        [OTHER],
    )
    connection.commit()
    assert drop(url, Rule(table="trades", days=3), FOR_EVER) == {"dropped"}
    assert chunks(connection, "trades") == len(KEPT)


def test_trades_that_are_gone_are_not_taken_for_lost(connection: Connection, url: str) -> None:
    candles = read.candles(url, EXCHANGE, SYMBOL, "1m")
    points = read.cvd(url, EXCHANGE, SYMBOL)
    cover(connection, BEGIN, BEGIN, row_count=0)
    assert drop(url, Rule(table="trades", days=3)) == {"dropped"}
    assert is_right(connection)
    for day in range(MIDNIGHT, END, DAY):
        recompute(connection, EXCHANGE, SYMBOL, day)
    connection.commit()
    assert_frame_equal(read.candles(url, EXCHANGE, SYMBOL, "1m"), candles)
    assert_frame_equal(read.cvd(url, EXCHANGE, SYMBOL), points)
    assert read.trades(url, EXCHANGE, SYMBOL)["timestamp"].to_physical()[0] >= MIDNIGHT + 3 * DAY
    covered = [(HOLE - 1, True), (HOLE + HOUR // 2, False)]
    for moment, is_covered in covered:
        trade = random_trade(Random(1), moment, 5)
        if is_covered:
            assert amend(connection, EXCHANGE, SYMBOL, [trade], None, [], "import") == 0
        else:
            with pytest.raises(WrongUse, match=r"2024-10-05 was dropped, as \[\[retain\]\] says"):
                amend(connection, EXCHANGE, SYMBOL, [trade], None, [], "import")


def test_rows_that_are_gone_stay_counted(connection: Connection, url: str) -> None:
    for day in range(MIDNIGHT, END, DAY):
        recompute(connection, EXCHANGE, SYMBOL, day)
    connection.commit()
    counts = read.coverage(url)["row_count"].to_list()
    assert sum(counts) == len(read.trades(url, EXCHANGE, SYMBOL))
    drop(url, Rule(table="trades", days=3))
    trade = random_trade(Random(1), END - HOUR, 5)
    assert amend(connection, EXCHANGE, SYMBOL, [trade], None, [], "import") == 1
    connection.commit()
    assert read.coverage(url)["row_count"].to_list() == [counts[0], counts[1] + 1]


def test_candles_keep_what_books_gave_that_are_gone(connection: Connection, url: str) -> None:
    assert drop(url, Rule(table="orderbook_snapshots", days=3)) == {"dropped"}
    assert days_in(connection, "orderbook_snapshots") == KEPT
    assert is_right(connection)
    assert rebuild.differences(connection, EXCHANGE, SYMBOL, BEGIN, END) == []
    # The books of 7 days share a chunk, and each instrument's rows go by themselves.
    assert chunks(connection, "orderbook_snapshots") == 1
    columns = ("timestamp", "imbalance_mean", "imbalance_last", "spread_bps_mean", "snapshot_count")
    before = read.candles(url, EXCHANGE, SYMBOL, "1h").select(columns)
    trade = random_trade(Random(1), MIDNIGHT + DAY + 5 * HOUR, 5)
    assert amend(connection, EXCHANGE, SYMBOL, [trade], None, [], "healed") == 1
    connection.commit()
    assert_frame_equal(read.candles(url, EXCHANGE, SYMBOL, "1h").select(columns), before)
    assert is_right(connection)


def test_candles_and_points_that_are_gone_do_not_come_again(connection: Connection, url: str) -> None:
    rules = [Rule(table="candles", days=3, interval="1m"), Rule(table="cvd_snapshots", days=3)]
    assert drop(url, *rules) == {"dropped"}
    assert is_right(connection)
    trade = random_trade(Random(1), MIDNIGHT + DAY + 5 * HOUR, 5)
    assert amend(connection, EXCHANGE, SYMBOL, [trade], None, [], "healed") == 1
    connection.commit()
    since = {"1m": MIDNIGHT + 3 * DAY, "5m": BEGIN, "1d": MIDNIGHT}
    for interval, begin in since.items():
        times = read.candles(url, EXCHANGE, SYMBOL, interval)["timestamp"].to_physical()
        assert times[0] == begin
    assert read.cvd(url, EXCHANGE, SYMBOL)["timestamp"].to_physical()[0] == MIDNIGHT + 3 * DAY
    assert is_right(connection)


def test_quiet_minutes_after_days_that_are_gone_have_their_price(connection: Connection, url: str) -> None:
    edge = MIDNIGHT + 3 * DAY
    first = read.trades(url, EXCHANGE, SYMBOL, edge, limit=None)["timestamp"].to_physical()[0]
    assert first > edge + 60_000_000, "it is quiet at that midnight"
    drop(url, Rule(table="trades", days=3))
    quiet = read.candles(url, EXCHANGE, SYMBOL, "1m", edge, first)
    connection.execute("DELETE FROM candles WHERE timestamp >= '2024-10-07' AND interval = '1m'")
    recompute(connection, EXCHANGE, SYMBOL, edge)
    connection.commit()
    assert_frame_equal(read.candles(url, EXCHANGE, SYMBOL, "1m", edge, first), quiet)
    # With the candles before it gone as well, what stands there is left alone.
    drop(url, Rule(table="candles", days=3))
    assert is_right(connection)


def test_rows_that_a_killed_run_left_count_no_more(
    connection: Connection, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.stored_days._SHORT_WAIT", "SET LOCAL lock_timeout = '50ms'")
    rule = Rule(table="trades", days=3)
    with connect(url) as reader:
        # What it reads cannot be removed, as if the run had been killed before it came to that.
        reader.execute("SELECT count(*) FROM trades")
        assert drop(url, rule) == {"dropped"}
    assert days_in(connection, "trades") == ALL
    assert is_right(connection)
    assert rebuild.differences(connection, EXCHANGE, SYMBOL, BEGIN, END) == []
    assert drop(url, rule) == set()
    assert days_in(connection, "trades") == KEPT


def test_a_chunk_in_use_is_not_waited_for(
    connection: Connection, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.stored_days._SHORT_WAIT", "SET LOCAL lock_timeout = '50ms'")
    rows = connection.execute("SELECT count(*) FROM trades WHERE timestamp < '2024-10-05'").fetchone()
    rule = Rule(table="trades", days=3)
    assert drop(url, rule) == {"dropped"}
    # The reader's transaction holds its chunk, whose rows go with the next run.
    connection.rollback()
    assert rows is not None
    assert rows[0] > 0
    assert days_in(connection, "trades") == KEPT | {0}
    assert drop(url, rule) == set()
    assert days_in(connection, "trades") == KEPT


def test_nobody_asks_for_days_that_are_gone(connection: Connection, url: str) -> None:
    drop(url, Rule(table="trades", days=3))
    tape = StoredTape(connection, EXCHANGE, SYMBOL)
    left = [(day, day + DAY) for day in tape.past().trades]
    asked = uncovered(joined([*tape.islands(), *left]), MIDNIGHT - DAY, END + HOUR)
    assert [(part.begin, part.end) for part in asked] == [(MIDNIGHT - DAY, MIDNIGHT), (END, END + HOUR)]


def test_intervals_that_touch_are_joined() -> None:
    assert joined([(5, 6), (1, 3), (3, 4), (2, 3), (8, 9)]) == [(1, 4), (5, 6), (8, 9)]
    assert joined([]) == []


def test_a_dry_run_drops_nothing(connection: Connection, url: str) -> None:
    found = drop_expired(url, [Rule(table="trades", days=3)], (), NOW, is_dry_run=True)
    assert [(each.outcome, each.key.day, each.note) for each in found] == [
        ("due", MIDNIGHT + number * DAY, None) for number in range(3)
    ]
    times = pl.col("timestamp").to_physical()
    assert sum(each.rows for each in found) == len(
        read.trades(url, EXCHANGE, SYMBOL).filter(times < MIDNIGHT + 3 * DAY)
    )
    assert days_in(connection, "trades") == ALL


def test_the_rows_that_are_left_fit_together(connection: Connection, url: str) -> None:
    before = {broken.rule for broken in check(connection).broken}
    drop(url, *(Rule(table=table, days=3) for table in TABLES))
    for table in TABLES:
        assert days_in(connection, table) == KEPT
    assert {broken.rule for broken in check(connection).broken} <= before
