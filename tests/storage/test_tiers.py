"""Days in files: the same rows as before wherever they lie, or an error that names the file."""

import re
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest
from old_days import BEGIN, DAYS, END, HOLE, NOW, OTHER, days_in, is_right, write_days, write_other
from polars.testing import assert_frame_equal
from streaming import EXCHANGE, HOUR, MIDNIGHT, SYMBOL, Span, Streaming, random_trade

from market import DAY, Instrument, MarketType, Trade, Unavailable, WrongUse
from storage import read, rebuild, verify
from storage.amend import amend
from storage.compression import compress_settled
from storage.database import Connection, connect
from storage.instruments import write_instruments
from storage.ledger import add_gap
from storage.past import PastTable
from storage.retention import Rule, drop_expired
from storage.tiers import TIERED, check_copies, copy_old_days, restore_day

READERS = {"trades": read.trades, "orderbook_snapshots": read.books, "cvd_snapshots": read.cvd}
SPANS: list[tuple[int | None, int | None, int | None]] = [
    (None, None, None),
    (None, None, 60),
    (MIDNIGHT + 10 * HOUR, MIDNIGHT + 3 * DAY + HOUR, None),
    (MIDNIGHT + 3 * DAY, MIDNIGHT + 4 * DAY, 30),
    (MIDNIGHT + 2 * DAY + HOUR, MIDNIGHT + 2 * DAY + 2 * HOUR, None),
    (None, BEGIN, None),
]


class Tier:
    """A tape with a tier beside it; `move` copies and drops what is old."""

    def __init__(self, url: str, folder: Path | str, tables: Sequence[PastTable] = ("trades",)) -> None:
        self.url, self.folder, self.tables = url, str(folder), tables
        self.spans = SPANS[:2]

    @property
    def rules(self) -> list[Rule]:
        return [Rule(table=table, days=3) for table in self.tables]

    def copy(self, now: int = NOW, **options: bool) -> list[str]:
        return [each.outcome for each in copy_old_days(self.url, self.folder, self.tables, 2, now, **options)]

    def drop(self, now: int = NOW, **options: bool) -> list[str]:
        return [each.outcome for each in drop_expired(self.url, self.rules, TIERED, now, **options)]

    def move(self) -> None:
        assert set(self.copy()) == {"copied"}
        assert set(self.drop()) == {"dropped"}

    def everything(self) -> list[pl.DataFrame]:
        return [
            reader(self.url, EXCHANGE, SYMBOL, begin, end, limit)
            for reader in (READERS[table] for table in self.tables)
            for begin, end, limit in self.spans
        ]

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in Path(self.folder).rglob("*") if path.is_file())


def missing_runs(connection: Connection) -> list[tuple[int, int]]:
    """The ids that are missing, by the proofs of all days."""
    with verify.snapshot(connection, EXCHANGE, SYMBOL) as proof:
        return [(run.first, run.last) for day in proof.days for run in proof.prove(day).missing_runs]


@pytest.fixture
def tier(connection: Connection, database: str, tmp_path: Path) -> Tier:
    write_days(connection)
    return Tier(database, tmp_path / "tier")


def test_the_same_rows_wherever_a_day_lies(connection: Connection, tier: Tier) -> None:
    tier.tables, tier.spans = TIERED, SPANS
    before = tier.everything()
    assert tier.copy() == ["copied"] * 3 * DAYS
    assert tier.copy() == []
    assert tier.drop() == ["dropped"] * 3 * 3
    assert days_in(connection, "trades") == {3, 4}
    assert days_in(connection, "orderbook_snapshots") == {3, 4}
    for frame, again in zip(before, tier.everything(), strict=True):
        assert_frame_equal(again, frame, check_exact=True)
    assert tier.drop() == []


def test_a_dry_run_does_nothing(connection: Connection, tier: Tier) -> None:
    assert set(tier.copy(is_dry_run=True)) == {"due"}
    assert tier.files == []
    tier.copy()
    assert set(tier.drop(is_dry_run=True)) == {"due"}
    assert check_copies(tier.url) == (DAYS, [])
    assert days_in(connection, "trades") == set(range(DAYS + 1))


def test_what_is_left_is_as_it_was(connection: Connection, tier: Tier) -> None:
    assert is_right(connection)
    covered = read.coverage(tier.url).drop("updated_timestamp")
    candles = read.candles(tier.url, EXCHANGE, SYMBOL, "1m")
    tier.move()
    assert is_right(connection)
    assert rebuild.differences(connection, EXCHANGE, SYMBOL, BEGIN, END) == []
    assert_frame_equal(read.coverage(tier.url).drop("updated_timestamp"), covered)
    # A change at the edge rewrites what follows from it, and nothing of the days that have left.
    edge = MIDNIGHT + 3 * DAY
    trades = [random_trade(Random(2), moment, 7) for moment in (edge, edge + HOUR)]
    assert amend(connection, EXCHANGE, SYMBOL, trades, None, [], "late_trade") == 2
    connection.commit()
    assert is_right(connection)
    assert read.coverage(tier.url)["row_count"][-1] == len(read.trades(tier.url, EXCHANGE, SYMBOL, HOLE))
    until = pl.col("timestamp").to_physical() < edge
    assert_frame_equal(read.candles(tier.url, EXCHANGE, SYMBOL, "1m").filter(until), candles.filter(until))


def test_a_chunk_with_others_days_keeps_them(connection: Connection, tier: Tier) -> None:
    write_other(connection, MIDNIGHT + DAY)
    tier.copy()
    tier.drop()
    assert days_in(connection, "trades") == {3, 4}
    left = connection.execute("SELECT DISTINCT symbol FROM trades WHERE timestamp < '2024-10-07'").fetchall()
    assert left == [(OTHER,)]


def test_a_damaged_file_is_an_error_that_names_it(tier: Tier) -> None:
    tier.tables = TIERED
    tier.move()
    random = Random(3)
    for number, path in enumerate(tier.files):
        body = bytearray(path.read_bytes())
        match number % 5:
            case 0:
                path.write_bytes(body[: random.randrange(1, len(body))])
            case 1:
                body[random.randrange(len(body))] ^= 1 << random.randrange(8)
                path.write_bytes(body)
            case 2:
                path.write_bytes(b"")
            case 3:
                path.write_bytes(body + b"x")
            case 4:
                path.unlink()
    for table, reader in READERS.items():
        place = rf"{tier.folder}/{table}/{EXCHANGE}/BTC-USDT/2024-10-0"
        for day in range(3):
            begin = MIDNIGHT + day * DAY
            with pytest.raises(Unavailable, match=rf"{place}{4 + day}.*parquet"):
                reader(tier.url, EXCHANGE, SYMBOL, begin, begin + DAY)
    with pytest.raises(Unavailable, match=place):
        reader(tier.url, EXCHANGE, SYMBOL)
    assert len(reader(tier.url, EXCHANGE, SYMBOL, MIDNIGHT + 3 * DAY)) > 10
    checked, wrong = check_copies(tier.url)
    assert checked == len(wrong) == 3 * DAYS
    with pytest.raises(Unavailable, match="parquet"):
        restore_day(tier.url, EXCHANGE, SYMBOL, MIDNIGHT)


def test_a_file_that_was_changed_keeps_its_day_in_the_database(connection: Connection, tier: Tier) -> None:
    tier.copy()
    damaged = next(path for path in tier.files if "trades/" in str(path) and "2024-10-05" in path.name)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    found = drop_expired(tier.url, tier.rules, TIERED, NOW)
    refused = [each for each in found if each.outcome == "refused"]
    assert [(each.key.table, each.key.day) for each in refused] == [("trades", MIDNIGHT + DAY)]
    assert str(damaged) in (refused[0].note or "")
    assert days_in(connection, "trades") == {1, 3, 4}
    assert len(read.trades(tier.url, EXCHANGE, SYMBOL)) > 100


def test_rows_that_were_changed_by_hand_are_not_dropped(connection: Connection, tier: Tier) -> None:
    tier.copy()
    connection.execute("UPDATE trades SET received_timestamp = now() WHERE timestamp < '2024-10-05'")
    connection.commit()
    (refused,) = [
        each for each in drop_expired(tier.url, tier.rules, TIERED, NOW) if each.outcome == "refused"
    ]
    assert "does not hold what the database holds" in (refused.note or "")
    assert days_in(connection, "trades") == {0, 3, 4}


def test_an_unsettled_day_stays(connection: Connection, tier: Tier) -> None:
    begin = MIDNIGHT + DAY + 5 * HOUR
    add_gap(
        connection,
        EXCHANGE,
        SYMBOL,
        "trades",
        begin,
        begin + HOUR,
        cause="connection_lost",
        status="suspected",
        proof="connection",
    )
    connection.commit()
    found = copy_old_days(tier.url, tier.folder, ["trades"], 2, NOW)
    waiting = {each.key.day for each in found if each.outcome == "waiting"}
    # The day after takes the price of its quiet minutes from there.
    assert waiting == {MIDNIGHT + DAY, MIDNIGHT + 2 * DAY}
    kept = {
        each.key.day: each.note
        for each in drop_expired(tier.url, tier.rules, (), NOW)
        if each.outcome == "kept"
    }
    assert set(kept) == waiting
    assert kept[MIDNIGHT + DAY] == "1 hole is open: deltatape repair, or deltatape gaps ack"
    assert days_in(connection, "trades") == {1, 2, 3, 4}


def test_a_day_whose_tape_has_not_gone_on_stays(tier: Tier) -> None:
    def notes(now: int) -> set[tuple[int, str | None]]:
        found = copy_old_days(tier.url, tier.folder, ["trades"], 0, now, is_dry_run=True)
        return {((each.key.day - MIDNIGHT) // DAY, each.note) for each in found if each.outcome != "due"}

    assert notes(NOW + 9 * DAY) == {(DAYS, "its tape has not gone on after it")}
    # One that is not over yet is not looked at.
    assert notes(END) == {(day, "it ended less than 48 hours ago") for day in (DAYS - 2, DAYS - 1)}


def test_a_day_without_a_file_is_not_dropped(connection: Connection, tier: Tier) -> None:
    notes = {each.note for each in drop_expired(tier.url, tier.rules, TIERED, NOW)}
    assert notes == {"the tier has no file of it yet: deltatape db tier"}
    assert days_in(connection, "trades") == set(range(DAYS + 1))


def test_a_day_that_changes_is_copied_anew(connection: Connection, tier: Tier) -> None:
    tier.tables = TIERED
    tier.copy()
    before = tier.files
    moment = MIDNIGHT + 2 * DAY + 5 * HOUR
    amend(connection, EXCHANGE, SYMBOL, [random_trade(Random(1), moment, 1)], None, [], "healed")
    connection.commit()
    kept = [each for each in drop_expired(tier.url, tier.rules, TIERED, NOW) if each.outcome == "kept"]
    assert {each.note for each in kept} == {"it has changed since it was copied: deltatape db tier"}
    assert set(tier.copy()) == {"copied"}
    assert len(tier.files) == len(before)
    # The last CVD point lies in the day after; books have no part in it, and their file is the same one.
    assert len(set(tier.files) - set(before)) == 3
    assert set(tier.drop()) == {"dropped"}


def test_a_day_comes_back_is_healed_and_moved_again(connection: Connection, tier: Tier) -> None:
    tier.tables = TIERED
    before = tier.everything()
    tier.move()
    day = MIDNIGHT + DAY
    late = random_trade(Random(4), HOLE + 30 * 60_000_000, 1)
    with pytest.raises(WrongUse, match=r"deltatape db tier --restore 2024-10-05 --exchange simulated"):
        amend(connection, EXCHANGE, SYMBOL, [late], None, [], "import")
    connection.rollback()
    restored = restore_day(tier.url, EXCHANGE, SYMBOL, day)
    assert set(restored) == set(TIERED)
    assert days_in(connection, "trades") == {1, 3, 4}
    for frame, again in zip(before, tier.everything(), strict=True):
        assert_frame_equal(again, frame, check_exact=True)
    assert is_right(connection)
    with pytest.raises(WrongUse, match="the tier has nothing of simulated BTC/USDT 2024-10-05"):
        restore_day(tier.url, EXCHANGE, SYMBOL, day)
    amend(connection, EXCHANGE, SYMBOL, [late], None, [], "import")
    connection.commit()
    assert len(read.trades(tier.url, EXCHANGE, SYMBOL)) == len(before[0]) + 1
    after = tier.everything()
    tier.move()
    for frame, again in zip(after, tier.everything(), strict=True):
        assert_frame_equal(again, frame, check_exact=True)


def test_ids_of_days_that_have_left_are_not_missing(
    connection: Connection, database: str, tmp_path: Path
) -> None:
    names = {"exchange_symbol": "BTCUSDT", "base": "BTC", "quote": "USDT"}
    write_instruments(
        connection,
        [
            Instrument(
                exchange=EXCHANGE,
                symbol=SYMBOL,
                market_type=MarketType.SPOT,
                trade_ids_consecutive=True,
                **names,
            )
        ],
    )
    trades = [
        Trade(SYMBOL, moment, str(number), number, 100.0, 1.0, None)
        for number, moment in enumerate(range(BEGIN, END, HOUR), 1)
    ]
    Streaming().run([Span(trades, END)], []).write(connection)
    connection.commit()
    tier = Tier(database, tmp_path / "tier")
    tier.move()
    assert is_right(connection)
    # The days after this one are still away.
    restore_day(tier.url, EXCHANGE, SYMBOL, MIDNIGHT)
    assert days_in(connection, "trades") == {0, 3, 4}
    assert is_right(connection)
    connection.execute("DELETE FROM trades WHERE trade_seq IN (70, 71)")
    connection.commit()
    assert missing_runs(connection) == [(70, 71)]


def test_trades_that_a_moved_day_has_are_left_out(connection: Connection, tier: Tier) -> None:
    tier.move()
    again = [random_trade(Random(9), MIDNIGHT + 2 * DAY + HOUR, 3), random_trade(Random(9), END - HOUR, 3)]
    assert amend(connection, EXCHANGE, SYMBOL, again, [5, None], [], "import") == 1
    # A stream that begins shows trades of long ago.
    late = random_trade(Random(9), HOLE + HOUR // 2, 3)
    assert amend(connection, EXCHANGE, SYMBOL, [late], None, [], "late_trade") == 0
    connection.commit()
    assert days_in(connection, "trades") == {3, 4}


def test_a_day_that_moves_while_it_is_read_is_not_missed(tier: Tier, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read.trades(tier.url, EXCHANGE, SYMBOL)
    tier.copy()
    real = read.stored

    def slow(*asked: Any) -> pl.DataFrame:
        monkeypatch.setattr(read, "stored", real)
        tier.drop()
        return real(*asked)

    monkeypatch.setattr(read, "stored", slow)
    assert_frame_equal(read.trades(tier.url, EXCHANGE, SYMBOL), whole, check_exact=True)


def test_one_run_at_a_time(tier: Tier) -> None:
    with connect(tier.url) as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended('past days', 0))")
        for run in (tier.copy, tier.drop):
            with pytest.raises(Unavailable, match="already"):
                run()


def test_an_object_store_will_do(connection: Connection, database: str) -> None:
    write_days(connection)
    before = read.trades(database, EXCHANGE, SYMBOL)
    assert {each.outcome for each in copy_old_days(database, "memory://x/", ["trades"], 2, NOW)} == {"copied"}
    drop_expired(database, [Rule(table="trades", days=3)], TIERED, NOW)
    assert days_in(connection, "trades") == {3, 4}
    assert_frame_equal(read.trades(database, EXCHANGE, SYMBOL), before, check_exact=True)


def test_an_address_of_no_known_kind_is_wrong_use(tier: Tier) -> None:
    with pytest.raises(WrongUse, match="nowhere://x"):
        Tier(tier.url, "nowhere://x").copy()


def test_a_folder_that_takes_no_files_is_unavailable(tier: Tier, tmp_path: Path) -> None:
    (tmp_path / "tier").write_text("a file")
    with pytest.raises(Unavailable, match="cannot write"):
        tier.copy()


def test_compressed_days_move_and_come_back(community_database: str, tmp_path: Path) -> None:
    tier = Tier(community_database, tmp_path / "tier", TIERED)
    with connect(community_database) as connection:
        write_days(connection)
        write_other(connection, MIDNIGHT + DAY)
        before = tier.everything()
        assert {each.outcome for each in compress_settled(tier.url, NOW + 9 * DAY)} == {"compressed"}
        tier.move()
        assert days_in(connection, "trades") == days_in(connection, "orderbook_snapshots") == {3, 4}
        restore_day(tier.url, EXCHANGE, SYMBOL, MIDNIGHT + DAY)
        assert days_in(connection, "trades") == {1, 3, 4}
        assert is_right(connection)
    for frame, again in zip(before, tier.everything(), strict=True):
        assert_frame_equal(again, frame, check_exact=True)


def test_a_tier_that_has_moved_is_found_again(connection: Connection, tier: Tier) -> None:
    before = tier.everything()
    tier.move()
    Path(tier.folder).rename(f"{tier.folder}-elsewhere")
    with pytest.raises(Unavailable, match="is missing"):
        tier.everything()
    manual = (Path(__file__).parent.parent.parent / "docs" / "lifecycle.md").read_text()
    (update,) = re.findall(r"```sql\n(UPDATE past_days.*?)```", manual, re.DOTALL)
    update = update.replace("s3://bucket/tape", f"{tier.folder}-elsewhere")
    connection.execute(update.replace("/mnt/archive/tape", tier.folder).encode())
    connection.commit()
    for frame, again in zip(before, tier.everything(), strict=True):
        assert_frame_equal(again, frame, check_exact=True)
