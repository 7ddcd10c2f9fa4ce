"""The two scripts that PostgreSQL runs, as it runs them: in its data folder, a file of the log at a time."""

import gzip
import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from market import WrongUse
from storage.server import account, archive
from storage.server.archive import Archived, segment_number, unbroken
from storage.server.layout import Layout, layout
from tests.collector.disks import tiny_disk

NAME = "000000010000000000000002"


class Data:
    """A data folder, as far as the scripts see one, and a folder of backups."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.place: Layout = layout(home)
        self.folder = folder
        (self.place.cluster / "pg_wal" / "archive_status").mkdir(parents=True)
        self.wal = folder / "wal"

    def ready(self, *names: str) -> None:
        for name in names:
            (self.place.cluster / "pg_wal" / "archive_status" / f"{name}.ready").touch()

    def segment(self, name: str, content: bytes) -> None:
        (self.place.cluster / "pg_wal" / name).write_bytes(content)

    def store(self, name: str = NAME, most: int = 10) -> subprocess.CompletedProcess[str]:
        archive.write_archiving(self.place, account.choose(self.place.cluster), self.folder, most)
        return self._run("archive", f"pg_wal/{name}", name)

    def fetch(self, name: str = NAME) -> subprocess.CompletedProcess[str]:
        owner = account.choose(self.place.cluster)
        archive.write_recovery(self.place, owner, self.folder, 1, None)
        return self._run("fetch", name, "pg_wal/fetched")

    @property
    def fetched(self) -> bytes:
        return (self.place.cluster / "pg_wal" / "fetched").read_bytes()

    def _run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", f"deltatape_{script}.sh", *arguments],
            cwd=self.place.cluster,
            capture_output=True,
            text=True,
            check=False,
        )

    def reason(self) -> str:
        path = self.place.cluster / "deltatape_archive_failed"
        return path.read_text().strip() if path.exists() else ""


@pytest.fixture
def data(tmp_path: Path) -> Data:
    found = Data(tmp_path / "home", tmp_path / "it's 100% mine")
    found.wal.mkdir(parents=True)
    return found


def test_a_segment_goes_there_and_back(data: Data) -> None:
    content = os.urandom(1000) + bytes(50_000)
    data.segment(NAME, content)
    os.utime(data.place.cluster / "pg_wal" / NAME, (1_700_000_000, 1_700_000_000))
    assert data.store().returncode == 0
    (stored,) = data.wal.iterdir()
    assert stored.name == f"{NAME}-{hashlib.sha256(content).hexdigest()}.gz"
    assert gzip.decompress(stored.read_bytes()) == content
    assert data.fetch().returncode == 0
    assert data.fetched == content
    # However long it waited: what counts is until when it tells of the server.
    assert archive.archived(data.folder) == [Archived(NAME, 1_700_000_000_000_000)]


def test_what_is_there_is_never_overwritten(data: Data) -> None:
    data.segment(NAME, b"first")
    assert data.store().returncode == 0
    before = {path: path.read_bytes() for path in data.wal.iterdir()}
    assert data.store().returncode == 0, "PostgreSQL asks again after a crash"
    data.segment(NAME, b"second")
    done = data.store()
    assert done.returncode == 1
    assert "another file of this name" in done.stderr
    assert "another file of this name" in data.reason()
    assert {path: path.read_bytes() for path in data.wal.iterdir()} == before


def test_a_folder_that_is_not_there_fails_until_it_is(data: Data) -> None:
    data.segment(NAME, b"x")
    data.wal.rename(data.folder / "away")
    assert data.store().returncode == 1
    assert data.reason()
    assert not data.wal.exists(), "a disk that is not mounted is not written beside"
    (data.folder / "away").rename(data.wal)
    assert data.store().returncode == 0
    assert data.reason() == ""


def test_a_full_disk_says_so_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    data = Data(tmp_path / "home", tmp_path / "full")
    data.segment(NAME, os.urandom(400_000))
    with tiny_disk(data.folder):
        data.wal.mkdir()
        done = data.store()
        assert done.returncode == 1
        assert data.reason()
        assert list(data.wal.iterdir()) == []


def test_segments_are_given_up_before_the_tapes_own_disk_is_full(data: Data) -> None:
    data.wal.rmdir()
    data.ready("a", "b", "c")
    data.segment(NAME, b"x")
    assert data.store(most=3).returncode == 1
    assert data.store(most=2).returncode == 0
    assert (data.place.cluster / "deltatape_archive_lost").read_text() == f"{NAME}\n"


def test_a_damaged_segment_ends_a_recovery_loudly(data: Data) -> None:
    assert data.fetch().returncode == 1, "one that is not there ends it in order"
    data.segment(NAME, b"x" * 1000)
    data.store()
    (stored,) = data.wal.iterdir()
    stored.write_bytes(gzip.compress(b"y" * 1000))
    done = data.fetch()
    assert done.returncode == 126
    assert stored.name in done.stderr
    stored.write_bytes(stored.read_bytes()[:-4])
    assert data.fetch().returncode == 126


def test_where_backups_may_lie(data: Data, tmp_path: Path) -> None:
    mine = account.choose(data.place.cluster)
    with pytest.raises(WrongUse, match="outside of it"):
        archive.claim(data.place, mine, data.place.cluster / "backups", "1")
    with pytest.raises(WrongUse, match="cannot write in /proc/backups"):
        archive.claim(data.place, mine, Path("/proc/backups"), "1")
    archive.claim(data.place, mine, tmp_path / "b", "1")
    archive.claim(data.place, mine, tmp_path / "b", "1")
    assert archive.folder_on_record(data.place) == tmp_path / "b"
    with pytest.raises(WrongUse, match="of another server"):
        archive.claim(data.place, mine, tmp_path / "b", "2")
    with pytest.raises(WrongUse, match=f"of the server in {data.place.home}:"):
        archive.claim(layout(tmp_path / "elsewhere"), mine, tmp_path / "b", "1")


def test_the_run_of_segments_ends_at_the_first_that_is_missing() -> None:
    names = ["0000000100000001000000FE", "0000000100000001000000FF", "000000010000000200000000"]
    numbers = [segment_number(name) for name in names]
    assert numbers == list(range(510, 513))
    assert segment_number("00000002.history") is None
    assert segment_number(f"{names[0]}.partial") is None
    later = "000000020000000200000000"
    gone = "000000020000000200000002"
    files = [Archived(name, at) for at, name in enumerate([*names, later, "00000002.history", gone])]
    assert [one.name for one in unbroken(files, 510)] == [*names[:2], later]
    assert unbroken(files, 509) == []
