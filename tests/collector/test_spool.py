"""The disk spool, on real files: what went in comes out, once and in order, whatever was cut or damaged."""

import subprocess
import sys
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector import spool as module
from collector.collect import drain_left_behind
from collector.session import Rejected, TapeBatch
from collector.spool import Spool, SpoolFull, left_behind, own_spool
from storage.database import connect

ROOM = 10**9


def batch(number: int, size: int = 10) -> TapeBatch:
    """One that is known by its number, and takes about `size` bytes."""
    return TapeBatch(rejected=[Rejected(number, "a test", b"x" * size)])


def numbers(found: TapeBatch | None) -> list[int]:
    return [] if found is None else [each.timestamp for each in found.rejected]


def drained(spool: Spool, rows: int = 1) -> list[int]:
    found = []
    while (taken := spool.first(rows)) is not None:
        found += numbers(taken)
        spool.drop()
    return found


def filled(folder, *ordinals, room=ROOM) -> Spool:
    spool = Spool(folder, room)
    for number in ordinals:
        spool.append(batch(number))
    return spool


def only_segment(folder):
    (path,) = folder.glob("*.spool")
    return path


def reopened(spool: Spool, room=ROOM) -> Spool:
    spool.close()
    return Spool(spool.folder, room)


def test_an_empty_one_leaves_nothing_on_the_disk(tmp_path):
    spool = Spool(tmp_path / "a", ROOM)
    assert not spool
    assert spool.first(1) is None
    spool.close()
    assert list(tmp_path.iterdir()) == []
    spool = filled(tmp_path / "a", 1)
    assert drained(spool) == [1]
    spool.close()
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=40, deadline=None)
@given(
    doing=st.lists(st.sampled_from(["append", "put back", "take", "take many"]), max_size=40),
    segment=st.sampled_from([1, 100, 10_000]),
)
def test_it_is_a_queue_across_its_files(tmp_path_factory, doing, segment):
    spool = Spool(tmp_path_factory.mktemp("spool") / "a", ROOM)
    expected, number = [], 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SEGMENT_BYTES", segment)
        for what in doing:
            number += 1
            if what == "append":
                spool.append(batch(number))
                expected.append(number)
            elif what == "put back" and expected:
                taken = numbers(spool.first(1))
                spool.drop()
                assert taken == expected[:1]
                # What was in the writer's hand goes back to the front.
                spool.put_first(batch(taken[0]))
            elif what.startswith("take"):
                taken = numbers(spool.first(3 if what == "take many" else 1))
                assert taken == expected[: len(taken)]
                assert bool(taken) == bool(expected)
                if taken:
                    spool.drop()
                    expected = expected[len(taken) :]
            assert spool.batches == len(expected)
            assert bool(spool) == bool(expected)
        # Of a file that was not read to its end all is given again.
        spool = reopened(spool)
        found = drained(spool)
        assert found == sorted(found)
        assert found[len(found) - len(expected) :] == expected
        assert spool.size == 0
        spool.close()


def test_what_was_taken_and_not_dropped_is_given_again(tmp_path):
    spool = filled(tmp_path / "a", 1, 2, 3)
    assert numbers(spool.first(2)) == numbers(spool.first(2)) == [1, 2]
    spool.append(batch(4))
    assert numbers(spool.first(99)) == [1, 2, 3, 4]
    spool.drop()
    assert not spool
    spool.close()


def test_a_kill_between_writing_and_dropping_gives_a_batch_twice_never_none(tmp_path):
    spool = filled(tmp_path / "a", 1, 2, 3)
    assert numbers(spool.first(1)) == [1]
    spool.drop()
    spool = reopened(spool)
    assert drained(spool) == [1, 2, 3]
    spool.close()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_file_that_was_cut_is_read_up_to_its_last_batch(tmp_path, share):
    filled(tmp_path / "a", 1, 2, 3).close()
    path = only_segment(tmp_path / "a")
    size = path.stat().st_size
    whole = size * 2 // 3
    with path.open("r+b") as file:
        file.truncate(whole + int((size - whole) * share))
    spool = Spool(tmp_path / "a", ROOM)
    assert spool.batches == 2
    assert drained(spool) == [1, 2]
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_what_comes_after_a_cut_stands_behind_it_and_is_read(tmp_path):
    spool = filled(tmp_path / "a", 1, 2)
    spool.close()
    path = only_segment(tmp_path / "a")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 3)
    spool = filled(tmp_path / "a", 3, 4)
    assert drained(spool) == [1, 3, 4]
    spool.close()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_batch_whose_bytes_changed_is_left_out_and_said(tmp_path, caplog, place):
    filled(tmp_path / "a", 0, 1, 2).close()
    path = only_segment(tmp_path / "a")
    data = bytearray(path.read_bytes())
    data[(place + 1) * len(data) // 3 - 1] ^= 1
    path.write_bytes(data)
    spool = filled(tmp_path / "a", 3)
    assert spool.batches == 3
    assert drained(spool) == [number for number in range(4) if number != place]
    assert "is damaged and is left out" in caplog.text
    spool.close()
    assert list(tmp_path.iterdir()) == []


@given(damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=5))
@settings(max_examples=60, deadline=None)
def test_a_file_that_is_damaged_anywhere_gives_nothing_that_was_not_put_in(tmp_path_factory, damage):
    folder = tmp_path_factory.mktemp("spool") / "a"
    filled(folder, 0, 1, 2, 3).close()
    path = only_segment(folder)
    data = bytearray(path.read_bytes())
    for share, change in damage:
        data[int(share * len(data))] ^= change
    path.write_bytes(data)
    spool = Spool(folder, ROOM)
    found = drained(spool)
    assert found == sorted(set(found))
    assert set(found) <= {0, 1, 2, 3}
    assert damage or found == [0, 1, 2, 3]
    spool.close()


def test_a_batch_that_is_none_of_ours_is_left_out(tmp_path, caplog):
    spool = filled(tmp_path / "a", 1)
    foreign = module._HEAD.pack(1, module.zlib.crc32(b"\x01")) + b"\x01"
    spool.close()
    with only_segment(tmp_path / "a").open("ab") as file:
        file.write(foreign)
    spool = filled(tmp_path / "a", 2)
    assert drained(spool, rows=10) == [1, 2]
    assert "cannot be read and is left out" in caplog.text
    spool.close()


def test_put_first_goes_before_everything(tmp_path):
    spool = Spool(tmp_path / "a", ROOM)
    spool.put_first(batch(3))
    spool.put_first(batch(2))
    spool.append(batch(4))
    spool.put_first(batch(1))
    spool = reopened(spool)
    assert drained(spool) == [1, 2, 3, 4]
    spool.close()


def test_its_size_is_bounded_and_what_found_no_room_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SEGMENT_BYTES", 200)
    spool, number = Spool(tmp_path / "a", 1_000), 0
    with suppress(SpoolFull):
        while number < 100:
            spool.append(batch(number))
            number += 1
    assert 5 < number < 100
    with pytest.raises(SpoolFull, match=r"is full: [0-9]+ of 1,000 bytes"):
        spool.append(batch(number))
    assert spool.size == sum(path.stat().st_size for path in spool.folder.glob("*.spool")) <= 1_000
    assert spool.batches == number
    with pytest.raises(SpoolFull):
        spool.put_first(batch(99))
    # As soon as a segment is written there is room again.
    while spool.size > 700:
        spool.first(1)
        spool.drop()
    spool.append(batch(number))
    assert drained(spool)[-1] == number
    spool.close()


TAKER = """
import sys
from pathlib import Path
from collector.spool import Spool, SpoolFull
try:
    Spool(Path(sys.argv[1]), 1000)
except SpoolFull as error:
    print(error)
    sys.exit(3)
"""


def test_two_processes_do_not_share_one(tmp_path):
    spool = own_spool(tmp_path, ROOM)
    other = own_spool(tmp_path, ROOM)
    assert spool.folder != other.folder
    spool.append(batch(1))
    with pytest.raises(SpoolFull, match="in use"):
        Spool(spool.folder, ROOM)
    command = [sys.executable, "-c", TAKER, spool.folder]
    taking = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (taking.returncode, "in use" in taking.stdout) == (3, True), taking.stderr
    assert list(left_behind(tmp_path, ROOM)) == []
    spool.close()
    (found,) = left_behind(tmp_path, ROOM)
    assert drained(found) == [1]
    found.close()
    other.close()


def test_what_was_left_behind_is_found_and_what_is_in_use_is_not(tmp_path):
    filled(tmp_path / "b", 2).close()
    filled(tmp_path / "a", 1).close()
    (tmp_path / "no folder").write_text("")
    used = filled(tmp_path / "c", 3)
    found = []
    for spool in left_behind(tmp_path, 0):
        found += drained(spool)
        spool.close()
    assert found == [1, 2]
    assert drained(used) == [3]
    used.close()
    assert [path.name for path in tmp_path.iterdir()] == ["no folder"]
    assert list(left_behind(tmp_path / "missing", 0)) == []


def test_what_was_left_behind_is_written(database, tmp_path):
    filled(tmp_path / "a", 1_700_000_000_000_001, 1_700_000_000_000_002).close()
    filled(tmp_path / "b", 1_700_000_000_000_003).close()
    assert drain_left_behind(database, "binance", tmp_path) >= 2
    assert list(tmp_path.iterdir()) == []
    with connect(database) as connection:
        stored = connection.execute("SELECT count(*) FROM rejected_messages").fetchone()
    assert stored == (3,)


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    spool = Spool(tmp_path / "file" / "below", ROOM)
    with pytest.raises(SpoolFull, match="cannot make the spool"):
        spool.append(batch(1))
    assert not spool
    spool.close()
