"""Backups of a real server, and what comes back from them."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from msgspec import structs
from streaming import EXCHANGE, Streaming, random_tape

import migrations
from market import Unavailable, WrongUse
from market.timeframe import from_datetime
from storage import backup, base_backup, restore, server
from storage.base_backup import Backup
from storage.database import connect
from storage.restore import Past, choose
from storage.server import account, archive, cluster
from storage.server.layout import layout
from tests.soak.parts import eventually, private_server

TABLES = ("trades", "candles", "cvd_snapshots", "orderbook_snapshots", "stream_coverage", "marks")
Rows = dict[str, list[tuple[Any, ...]]]


def quiet(line: str) -> None:
    pass


class Place(NamedTuple):
    """A private server with the tables, and its folder of backups with one in it."""

    home: Path
    url: str
    folder: Path

    def rows(self) -> Rows:
        with connect(self.url) as connection:
            return {
                table: connection.execute(f"SELECT t::text FROM {table} AS t ORDER BY 1".encode()).fetchall()
                for table in TABLES
            }

    def write(self, seed: int) -> None:
        """More of the tape, and a mark that says so."""
        random = Random(seed)
        spans, books = random_tape(random)
        with connect(self.url) as connection:
            # What came before is not the tape's any more: each seed has times of its own.
            for table in TABLES[:-1]:
                connection.execute(f"DELETE FROM {table} WHERE exchange = %s".encode(), [EXCHANGE])
            Streaming().run(spans, books).write(connection)
            connection.execute("INSERT INTO marks VALUES (%s)", [seed])

    def now(self) -> int:
        """A moment between two transactions."""
        with connect(self.url) as connection:
            row = connection.execute("SELECT clock_timestamp()").fetchone()
        time.sleep(0.01)
        assert row is not None
        return from_datetime(row[0])

    def archive_all(self) -> None:
        """Finish the segment that is being written, and wait until it is archived."""
        with archive.superuser(layout(self.home)) as admin:
            admin.execute("SELECT pg_create_restore_point('so that there is something to finish')")
            row = admin.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
        assert row is not None
        stored = self.folder / "wal"
        eventually(lambda: list(stored.glob(f"{row[0]}-*.gz")), 60, "the last segment is archived")

    def kill(self) -> None:
        number = server.status(self.home).pid
        assert number is not None
        os.kill(number, signal.SIGKILL)
        eventually(lambda: not server.status(self.home).is_running, 60, "the server is gone")

    def restore(self, **options: Any) -> restore.Restored:
        return restore.restore(self.home, self.folder, durable=False, report=quiet, **options)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with private_server() as found:
        folder = found.home.parent / f"{found.home.name}-backups"
        migrations.upgrade(found.url)
        with connect(found.url) as connection:
            connection.execute("CREATE TABLE marks (x int)")
        backup.make_backup(found.home, folder, report=quiet)
        yield Place(found.home, found.url, folder)
    shutil.rmtree(folder)


def test_a_lost_data_folder_comes_back_as_it_was_at_a_second(place: Place) -> None:
    place.write(1)
    wanted, second = place.rows(), place.now()
    place.write(2)
    assert place.rows() != wanted
    place.archive_all()
    place.kill()
    shutil.rmtree(layout(place.home).cluster)

    done = place.restore(to=second)
    assert place.rows() == wanted
    assert done.aside is None
    assert done.is_archived
    assert done.reached is not None
    assert done.reached <= second

    # It archives on: what is written from now on can be had again, and so can what it went back behind.
    place.write(3)
    newest, later = place.rows(), place.now()
    place.write(4)
    assert place.restore(to=later, replace=True).timeline == done.timeline + 1
    assert place.rows() == newest


def test_what_a_restore_went_back_behind_can_be_had_as_well(place: Place) -> None:
    place.write(10)
    first = place.now()
    place.write(11)
    wanted, second = place.rows(), place.now()
    place.write(12)
    one = place.restore(to=first, replace=True)
    place.write(13)
    two = place.restore(to=second, replace=True)
    assert place.rows() == wanted
    assert one.aside is not None
    assert two.aside is not None
    for aside in (one.aside, two.aside):
        assert (Path(aside) / "PG_VERSION").exists(), "the old data is kept"


def test_a_moment_after_the_last_transaction(place: Place) -> None:
    place.write(20)
    wanted = place.rows()
    # Nobody has written since: that no transaction follows does not matter, as the archive reaches so far.
    time.sleep(0.05)
    moment = place.now()
    place.archive_all()
    place.restore(to=moment, replace=True)
    assert place.rows() == wanted


def test_what_cannot_be_restored_changes_nothing(place: Place) -> None:
    place.write(30)
    wanted, pid = place.rows(), server.status(place.home).pid
    with pytest.raises(WrongUse, match="add --yes"):
        place.restore()
    with pytest.raises(WrongUse, match="no backup reaches back to 2020-01-01T00:00:00Z"):
        place.restore(to=1_577_836_800_000_000, replace=True)
    with pytest.raises(Unavailable, match="the archive ends at"):
        place.restore(to=place.now() + 3_600_000_000, replace=True)
    with pytest.raises(Unavailable, match="holds no backups; make one: deltatape db backup"):
        restore.restore(place.home, place.home, replace=True, report=quiet)
    assert server.status(place.home).pid == pid
    assert place.rows() == wanted
    assert not layout(place.home).restoring.home.exists()


def test_a_damaged_backup_is_refused(place: Place, tmp_path: Path) -> None:
    known = backup.list_backups(place.folder)[-1]
    whole = place.folder / "base" / known.name
    assert base_backup.verify(whole) == known.data_bytes
    for name in ("base.tar.gz", "pg_wal.tar.gz", "backup_manifest"):
        copy = tmp_path / name
        shutil.copytree(whole, copy)
        damaged = bytearray((copy / name).read_bytes())
        # Many bytes: one of a packed stream may say the same in another way.
        damaged[700:764] = bytes(byte ^ 0xFF for byte in damaged[700:764])
        (copy / name).write_bytes(damaged)
        with pytest.raises(Unavailable, match="is damaged"):
            base_backup.verify(copy)
        (copy / name).unlink()
        with pytest.raises(Unavailable, match="is damaged"):
            base_backup.verify(copy)


def test_postgresql_finds_what_was_unpacked_whole(place: Place, tmp_path: Path) -> None:
    program = server.program(place.home, "pg_verifybackup")
    if program is None or subprocess.run([program, "--version"], check=False).returncode:
        pytest.skip("no pg_verifybackup that runs here")
    name = backup.list_backups(place.folder)[-1].name
    base_backup.unpack(place.folder / "base" / name, tmp_path / "unpacked", account.choose(tmp_path))
    found = tmp_path / "unpacked"
    assert subprocess.run([program, "--no-parse-wal", found], check=False).returncode == 0
    (found / "PG_VERSION").write_text("1\n")
    assert subprocess.run([program, "--no-parse-wal", found], check=False).returncode == 1


def test_a_damaged_segment_is_named(place: Place) -> None:
    place.write(40)
    place.archive_all()
    last = backup.reach(archive.archived(place.folder), backup.list_backups(place.folder)[-1])[-1]
    (path,) = (place.folder / "wal").glob(f"{last.name}-*.gz")
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-1])
        with pytest.raises(Unavailable, match=f"{last.name} in .* is damaged"):
            place.restore(replace=True)
    finally:
        path.write_bytes(content)


def test_old_backups_go_and_take_their_log_along(place: Place) -> None:
    before = backup.list_backups(place.folder)
    made = backup.make_backup(place.home, place.folder, keep=len(before), report=quiet)
    assert made.removed == [before[0].name]
    kept = backup.list_backups(place.folder)
    assert [one.name for one in kept] == [*[one.name for one in before[1:]], made.backup.name]
    assert not (place.folder / "base" / before[0].name).exists()
    first = archive.segment_number(kept[0].first_segment)
    assert first is not None
    place.archive_all()
    assert all(one.number is None or one.number >= first for one in archive.archived(place.folder))
    found = backup.restorable(place.folder)
    assert (found.earliest, found.broken_after) == (kept[0].finished, None)
    assert found.latest is not None
    assert found.latest > made.backup.finished
    with pytest.raises(WrongUse, match="at least one"):
        backup.make_backup(place.home, place.folder, keep=0, report=quiet)


def test_the_server_works_on_while_the_archive_cannot_be_written(place: Place) -> None:
    own = layout(place.home)
    stored, away = place.folder / "wal", place.folder / "away"
    stored.rename(away)
    try:
        place.write(50)
        with archive.superuser(own) as admin:
            admin.execute("SELECT pg_switch_wal()")
        eventually(lambda: archive.state(own).reason, 60, "the archive fails")
        found = archive.state(own)
        assert found.waiting >= 1
        assert found.failed_timestamp is not None
        place.write(51)
    finally:
        away.rename(stored)
    with archive.superuser(own) as admin:
        admin.execute("SELECT pg_reload_conf()")
    eventually(lambda: not archive.state(own).waiting, 90, "what waited is stored")
    assert archive.state(own).reason == ""
    assert backup.restorable(place.folder).broken_after is None


def test_a_hole_in_the_archive_is_seen(place: Place) -> None:
    for seed in (60, 61, 62):
        place.write(seed)
        place.archive_all()
    run = backup.reach(archive.archived(place.folder), backup.list_backups(place.folder)[-1])
    (path,) = (place.folder / "wal").glob(f"{run[-2].name}-*.gz")
    aside = path.rename(place.folder / path.name)
    try:
        found = backup.restorable(place.folder)
        assert found.broken_after == run[-3].name
        assert found.latest == run[-3].timestamp
    finally:
        aside.rename(path)


def test_a_restore_elsewhere_is_a_copy_that_archives_nothing(place: Place) -> None:
    place.write(70)
    place.archive_all()
    wanted, before = place.rows(), sorted((place.folder / "wal").iterdir())
    with private_server() as other:
        server.stop(other.home)
        done = restore.restore(other.home, place.folder, replace=True, durable=False, report=quiet)
        assert not done.is_archived
        assert Place(other.home, done.url, place.folder).rows() == wanted
        assert archive.state(layout(other.home)).folder is None
        with archive.superuser(layout(other.home)) as admin:
            admin.execute("SELECT pg_switch_wal()")
        with pytest.raises(WrongUse, match="holds the backups of the server in"):
            backup.make_backup(other.home, place.folder, report=quiet)
    assert sorted((place.folder / "wal").iterdir()) == before


def test_a_swap_that_was_cut_short_is_finished_by_the_next_start(place: Place) -> None:
    own = layout(place.home)
    wanted = place.rows()
    server.stop(place.home)
    own.restoring.home.mkdir()
    own.cluster.rename(own.restoring.cluster)
    history = place.home / "history"
    ready = {"aside": "cluster.before-x", "history": str(history), "line": "{}"}
    (own.restoring.home / "ready").write_text(json.dumps(ready))
    server.start(place.home, durable=False)
    assert place.rows() == wanted
    assert not own.restoring.home.exists()
    assert history.read_text() == "{}\n"
    # Cut short after all but the last step: nothing is done twice.
    own.restoring.home.mkdir()
    (own.restoring.home / "ready").write_text(json.dumps(ready))
    cluster.take_place(own)
    assert place.rows() == wanted
    assert history.read_text() == "{}\n"


def test_what_was_given_up_counts_until_the_next_base_backup() -> None:
    segment, label = "000000020000000000000007", "000000020000000000000007.00000028.backup"
    lost = [segment, label, "00000002.history"]
    state = archive.ArchiveState(None, None, None, "", None, 0, lost)
    assert backup.lost_since(state, []) == lost
    before = structs.replace(of(1, 10), first_segment="000000010000000000000006")
    after = structs.replace(of(2, 20), first_segment="000000020000000000000008")
    assert backup.lost_since(state, [before]) == lost
    assert backup.lost_since(state, [before, after]) == []


def of(timeline: int, finished: int) -> Backup:
    return Backup(
        name=str(finished),
        started=finished - 1,
        finished=finished,
        timeline=timeline,
        first_segment="",
        postgresql="17.1",
        timescaledb="2.19.3",
        bytes=1,
        data_bytes=1,
    )


def test_the_timeline_is_the_one_that_was_alive() -> None:
    # At 50 somebody went back to 30, at 70 back to 35 (which lies on the first timeline).
    backups = [of(1, 10), of(1, 40), of(2, 60), of(3, 80)]
    pasts = [Past(50, 30, 2, 1), Past(70, 35, 3, 1)]
    expected = {
        10: (10, 1),
        39: (10, 1),
        45: (40, 1),
        55: (10, 2),
        65: (60, 2),
        75: (10, 3),
        90: (80, 3),
        None: (80, 3),
    }
    for to, (finished, timeline) in expected.items():
        found, alive = choose(backups, pasts, to)
        assert (found.finished, alive) == (finished, timeline), to
    with pytest.raises(WrongUse, match="no backup reaches back"):
        choose(backups, pasts, 9)
    with pytest.raises(WrongUse, match="there is no backup"):
        choose([], [], None)
    assert choose([of(4, 10)], [], None) == (of(4, 10), 4)
