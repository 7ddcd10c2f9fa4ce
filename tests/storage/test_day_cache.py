"""Days that are kept as files: read once, right always, read anew when the tape changes."""

import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from shutil import rmtree

import polars as pl
import pytest
from disks import tiny_disk
from polars.testing import assert_frame_equal
from streaming import EXCHANGE, HOUR, MIDNIGHT, SECOND, SYMBOL, Recorded, Span, random_trade

from market import DAY, Unavailable
from storage import read, repair
from storage.amend import amend
from storage.database import Connection
from storage.day_cache import DayCache
from storage.retention import Rule, drop_expired
from storage.tiers import copy_old_days

BEGIN = MIDNIGHT - 6 * HOUR
DAYS = 4
END = MIDNIGHT + DAYS * DAY + 3 * HOUR


class Reading:
    """Reads the tape by way of a cache, and remembers what was asked of the database."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.asked: list[tuple[int | None, int | None]] = []

    def __call__(self, begin: int | None = None, end: int | None = None) -> pl.DataFrame:
        self.asked.clear()
        cache = DayCache(self.folder, self.url, "trades", EXCHANGE, SYMBOL)
        found = pl.concat(cache.frames(begin, end, self._read))
        assert_frame_equal(found, read.trades(self.url, EXCHANGE, SYMBOL, begin, end))
        return found

    def _read(self, begin: int | None, end: int | None) -> pl.DataFrame:
        self.asked.append((begin, end))
        return read.trades(self.url, EXCHANGE, SYMBOL, begin, end)

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture
def reading(connection: Connection, database: str, tmp_path: Path) -> Reading:
    random = Random(3)
    trades = [random_trade(random, moment, moment) for moment in range(BEGIN, END, 601 * SECOND)]
    Recorded([(trade, 0.0) for trade in trades], spans=[Span(trades, END)]).write_raw(connection)
    connection.commit()
    return Reading(database, tmp_path / "cache")


EDGES = [(None, MIDNIGHT), (MIDNIGHT + DAYS * DAY, None)]


def test_a_closed_day_is_read_once(reading: Reading) -> None:
    reading()
    days = [(MIDNIGHT + n * DAY, MIDNIGHT + (n + 1) * DAY) for n in range(DAYS)]
    assert reading.asked == [EDGES[0], *days, EDGES[1]]
    assert len(reading.files) == DAYS
    reading()
    assert reading.asked == EDGES
    reading(MIDNIGHT + DAY, MIDNIGHT + 3 * DAY)
    assert reading.asked == []


SPANS: list[tuple[int | None, int | None]] = [
    (MIDNIGHT + HOUR, MIDNIGHT + 2 * HOUR),
    (MIDNIGHT + HOUR, MIDNIGHT + DAY + HOUR),
    (MIDNIGHT - HOUR, MIDNIGHT + 2 * DAY),
    (MIDNIGHT, END + 3 * DAY),
    (END - HOUR, END + HOUR),
    (END + DAY, END + 2 * DAY),
    (MIDNIGHT - 9 * DAY, MIDNIGHT - 8 * DAY),
    (MIDNIGHT + DAY, MIDNIGHT),
    (None, MIDNIGHT + 2 * DAY + 1),
    (MIDNIGHT + 2 * DAY - 1, None),
]


def test_any_span_is_right_again_and_again(reading: Reading) -> None:
    for begin, end in SPANS:
        reading(begin, end)
    assert reading.files
    for begin, end in SPANS:
        reading(begin, end)


def test_a_day_that_is_not_over_is_not_kept(connection: Connection, reading: Reading) -> None:
    connection.execute("UPDATE stream_coverage SET to_timestamp = to_timestamp - '3 h'::interval")
    connection.commit()
    reading()
    assert [path.name[:10] for path in reading.files] == ["2024-10-04", "2024-10-05", "2024-10-06"]


def test_a_change_makes_its_days_be_read_anew_and_no_other(connection: Connection, reading: Reading) -> None:
    reading()
    before = reading(MIDNIGHT + DAY, MIDNIGHT + 2 * DAY)
    moment = MIDNIGHT + DAY + 5 * HOUR + 1
    amend(connection, EXCHANGE, SYMBOL, [random_trade(Random(1), moment, 1)], None, [], "healed")
    connection.commit()
    assert len(reading(MIDNIGHT + DAY, MIDNIGHT + 2 * DAY)) == len(before) + 1
    reading()
    assert reading.asked == EDGES
    assert len(reading.files) == DAYS


def test_a_change_from_which_no_other_row_follows_counts_too(
    connection: Connection, reading: Reading
) -> None:
    day = MIDNIGHT + 2 * DAY
    reading()
    before = reading(day, day + DAY)
    assert repair.rename(connection, EXCHANGE, SYMBOL, day) == len(before)
    connection.commit()
    assert not set(reading(day, day + DAY)["trade_id"]) & set(before["trade_id"])


def test_a_change_that_is_not_committed_yet_is_waited_for(connection: Connection, reading: Reading) -> None:
    moment = MIDNIGHT + DAY + 1
    amend(connection, EXCHANGE, SYMBOL, [random_trade(Random(1), moment, 1)], None, [], "healed")
    found: list[pl.DataFrame] = []
    thread = threading.Thread(target=lambda: found.append(reading(MIDNIGHT + DAY, MIDNIGHT + 2 * DAY)))
    thread.start()
    thread.join(0.5)
    assert thread.is_alive()
    connection.commit()
    thread.join(20)
    assert found[0]["timestamp"].to_physical()[0] == moment


def test_files_of_another_time_count_for_nothing(connection: Connection, reading: Reading) -> None:
    amend(connection, EXCHANGE, SYMBOL, [random_trade(Random(1), MIDNIGHT + 1, 1)], None, [], "healed")
    connection.commit()
    reading()
    # As after a restored backup: the ids of revisions are given a second time.
    connection.execute("UPDATE tape_revisions SET created_timestamp = now() + '1 s'::interval")
    connection.commit()
    reading()
    assert len(reading.asked) == DAYS + len(EDGES)


def test_damaged_files_are_read_anew(reading: Reading) -> None:
    reading()
    random = Random(11)
    for path in reading.files:
        body = bytearray(path.read_bytes())
        kind = random.choice(("cut", "flip", "empty", "longer"))
        if kind == "flip":
            body[random.randrange(len(body))] ^= 1 << random.randrange(8)
        cut = {"cut": random.randrange(1, len(body)), "empty": 0}.get(kind, len(body))
        path.write_bytes(body[:cut] + b"x" * (kind == "longer"))
    reading()
    assert len(reading.asked) == DAYS + len(EDGES)
    reading()
    assert reading.asked == EDGES


def test_whatever_befalls_a_file_the_rows_are_right(reading: Reading, tmp_path: Path) -> None:
    day = MIDNIGHT + DAY
    known = read.trades(reading.url, EXCHANGE, SYMBOL, day, day + DAY)
    folder, random, asked = tmp_path / "cache", Random(17), 0

    def tape(begin: int | None, end: int | None) -> pl.DataFrame:
        nonlocal asked
        asked += 1
        assert (begin, end) == (day, day + DAY)
        return known

    for count in range(1, 120):
        cache = DayCache(folder, reading.url, "trades", EXCHANGE, SYMBOL)
        (found,) = cache.frames(day, day + DAY, tape)
        assert_frame_equal(found, known, check_exact=True)
        assert asked == count
        (path,) = [path for path in folder.rglob("*") if path.is_file()]
        body = bytearray(path.read_bytes())
        match random.randrange(6):
            case 0:
                path.write_bytes(body[: random.randrange(len(body))])
            case 1:
                body[random.randrange(len(body))] ^= 1 << random.randrange(8)
                path.write_bytes(body)
            case 2:
                begin, end = sorted(random.choices(range(len(body)), k=2))
                path.write_bytes(body[:begin] + bytes(end - begin + 1) + body[end + 1 :])
            case 3:
                path.write_bytes(body + random.randbytes(random.randrange(1, 9)))
            case 4:
                path.rename(path.with_name(random.choice((path.name[1:], f"x{path.name}", f"{path.stem}.x"))))
            case 5:
                path.unlink()
                path.with_name(path.name.replace(".", ".9-9.", 1)).write_bytes(body)
        if random.random() < 0.2:
            (path.parent / f"{path.name[:10]}.{random.randrange(9)}.partial").write_bytes(body[:9])
        for stray in path.parent.iterdir():
            # What has another name is not the day's, and nobody's to delete.
            if not stray.name.startswith("2024-10-05"):
                stray.unlink()


def test_files_under_another_day_s_name_are_not_used(reading: Reading) -> None:
    reading()
    first, second = reading.files[:2]
    first.replace(second)
    reading(MIDNIGHT, MIDNIGHT + 2 * DAY)


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file may grow beyond some bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_keeps_nothing(reading: Reading, full_disk: None) -> None:
    reading()
    reading()
    assert reading.files == []


@pytest.mark.parametrize("size", [4096, 24576])
def test_a_disk_that_fills_up_half_way(reading: Reading, size: int) -> None:
    with tiny_disk(reading.folder, size):
        for _ in range(3):
            reading()
        assert all(path.suffix == ".parquet" for path in reading.files)


READER = """
import sys
from pathlib import Path
from shutil import rmtree
from storage import read
from storage.day_cache import DayCache

url, folder, begin, end = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
kept = {}

def tape(since, until):
    if (since, until) not in kept:
        kept[since, until] = read.trades(url, "simulated", "BTC/USDT", since, until)
    return kept[since, until]

while True:
    rmtree(folder, ignore_errors=True)
    list(DayCache(folder, url, "trades", "simulated", "BTC/USDT").frames(begin, end, tape))
    print("read", flush=True)
"""


def test_a_reader_that_is_killed_half_way_leaves_nothing_wrong(reading: Reading) -> None:
    random = Random(23)
    span = (MIDNIGHT, MIDNIGHT + DAYS * DAY)
    command = [sys.executable, "-c", READER, reading.url, str(reading.folder), *map(str, span)]
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"read\n"
            time.sleep(random.random() / 20)
            process.send_signal(signal.SIGKILL)
        reading(*span)
        reading(*span)
        assert reading.asked == []
        assert len(reading.files) == DAYS


def test_a_day_that_was_dropped_is_not_kept_either(reading: Reading) -> None:
    reading()
    before = len(reading.files)
    rule = Rule(table="trades", days=DAYS + 2)
    dropped = drop_expired(reading.url, [rule], (), END + 4 * DAY)
    assert {each.outcome for each in dropped} == {"dropped"}
    gone = {each.key.day for each in dropped}
    assert MIDNIGHT in gone
    found = reading()
    assert not gone & set(found["timestamp"].dt.truncate("1d").to_physical())
    assert len(reading.files) == before - len(gone & set(range(MIDNIGHT, END, DAY)))
    reading(MIDNIGHT, MIDNIGHT + DAY)


def test_days_of_the_tier_are_kept_and_damaged_ones_are_none(reading: Reading, tmp_path: Path) -> None:
    whole = reading()
    tier, now = tmp_path / "tier", END + 4 * DAY
    copied = copy_old_days(reading.url, str(tier), ["trades"], 4, now)
    assert {each.outcome for each in copied} == {"copied"}
    drop_expired(reading.url, [Rule(table="trades", days=4)], ("trades",), now)
    assert_frame_equal(reading(), whole)
    for path in tier.rglob("*.parquet"):
        path.write_bytes(b"")
    # A change of another day makes nothing be read anew; a kept day needs neither database nor tier.
    days = MIDNIGHT, MIDNIGHT + 2 * DAY
    cache = DayCache(reading.folder, reading.url, "trades", EXCHANGE, SYMBOL)
    kept = pl.concat(cache.frames(*days, lambda begin, end: pytest.fail("a kept day is read")))
    assert len(kept) > 100
    rmtree(reading.folder)
    with pytest.raises(Unavailable, match=r"tier/trades/simulated/BTC-USDT/2024-10-04.*is damaged"):
        reading(*days)
    assert reading.files == []


def test_a_folder_that_cannot_be_keeps_nothing(reading: Reading) -> None:
    reading.folder.write_text("a file")
    reading()
    reading()
    assert len(reading.asked) == DAYS + len(EDGES)
