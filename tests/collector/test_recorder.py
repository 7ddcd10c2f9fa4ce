"""Recording, on real files: killed, rotated, on a full disk; and read back as what was seen."""

import gzip
import logging
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import recordings
from disks import tiny_disk
from hypothesis import given
from hypothesis import strategies as st

from collector import exchanges, recorder
from collector.recorder import Recorder, line_of
from collector.recording import Carried, Lost, Moved, Named, Opened, Received, RestAnswer, Sent, read
from collector.session import Session
from market import WrongUse, parse_time

START = parse_time("2026-03-01T11:59:58Z")
WS, REST = "wss://feed.example/ws?streams=a/b", "https://api.example/depth?symbol=X"
HOUR = 3600 * 1_000_000

TALKER = """
import sys
from pathlib import Path
from time import sleep
from collector.recorder import Recorder
recorder = Recorder(Path(sys.argv[1]), "binance")
recorder.opened("wss://feed.example/", 1)
for number in range(1_000_000):
    recorder.received("wss://feed.example/", 1_700_000_000_000_000 + number, b'{"n":%d}' % number)
    if number % 100 == 0:
        sleep(0.01)
"""


def frames_of(folder: Path) -> list:
    return list(read(sorted(folder.glob("*.rec.gz"))))


def tell(recording: Recorder, frames) -> None:
    for frame in frames:
        match frame:
            case Opened(url, t):
                recording.opened(url, t)
            case Sent(url, t, message):
                recording.sent(url, t, message.decode())
            case Received(t, message):
                recording.received(WS, t, message)
            case RestAnswer(url, t, body):
                recording.answered(url, t, body)


def replayed(frames) -> list:
    session = Session(exchanges.find("binance"))
    for frame in frames:
        if isinstance(frame, Received):
            session.message(frame.message, frame.t)
        elif isinstance(frame, RestAnswer):
            parts = urlsplit(frame.url)
            session.rest(f"{parts.path}?{parts.query}", frame.body, frame.t)
    session.disconnected()
    batch = session.take()
    return [batch.rows, batch.instruments, batch.rejected]


def test_what_was_seen_is_read_back_frame_for_frame(tmp_path):
    with closing(Recorder(tmp_path / "new" / "folder", "binance")) as recording:
        recording.opened(WS, START)
        recording.sent(WS, START + 1, '{"method":"SUBSCRIBE"}')
        recording.received(WS, START + 2, '{"a":"ü","b":[1, 2]}'.encode())
        recording.answered(REST, START + 3, b'{"bids":[]}')
    assert recording.failure is None
    assert recording.messages == 2
    (path,) = recording.files
    assert path.name == "binance-20260301T115958.000000Z.rec.gz"
    assert list(read([path])) == [
        Opened(WS, START),
        Sent(WS, START + 1, b'{"method":"SUBSCRIBE"}'),
        Received(START + 2, '{"a":"ü","b":[1, 2]}'.encode()),
        RestAnswer(REST, START + 3, b'{"bids":[]}'),
    ]


def test_connections_are_told_apart_in_every_file(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "MEMBER_BYTES", 1_000)
    one, two = f"{WS}#1", f"{WS}#2"
    carried = [Carried(("BTC/USDT",), frozenset(("trades",))), Carried(("ETH/USDT",), frozenset(("book",)))]
    with closing(Recorder(tmp_path, "binance", max_bytes=2_000)) as recording:
        for url, what in zip((one, two), carried, strict=True):
            recording.named(url, START, what.symbols, what.streams)
        seen = [Opened(one, START), Opened(two, START)]
        for url in (one, two):
            recording.opened(url, START)
        for number in range(100):
            message = b'"%b"' % os.urandom(50).hex().encode()
            url, is_beside = (one, two)[number % 2], number % 3 == 0
            recording.received(url, START + number, message, is_beside=is_beside)
            seen.append(Received(START + number, message, url, is_beside))
        recording.moved(one, START + 100)
        recording.closed(two, START + 100)
        seen += [Moved(one, START + 100), Lost(two, START + 100)]
    assert len(recording.files) > 2
    frames = frames_of(tmp_path)
    assert [frame for frame in frames if not isinstance(frame, Named)] == seen
    for path in recording.files:
        named = [frame for frame in read([path]) if isinstance(frame, Named)]
        assert [(frame.url, frame.carried) for frame in named] == [(one, carried[0]), (two, carried[1])]
        assert [frame.number for frame in named] == [1, 2]


def test_what_is_said_after_the_last_message_of_a_full_file_is_kept(tmp_path):
    with closing(Recorder(tmp_path, "binance", max_bytes=10)) as recording:
        recording.received(WS, START, b"{}")
        while not recording.files or not recording.files[0].stat().st_size:
            time.sleep(0.02)
        recording.closed(WS, START + HOUR)
    assert list(read(recording.files)) == [Received(START, b"{}"), Lost(WS, START + HOUR)]


def test_standard_tools_read_the_file(tmp_path):
    with closing(Recorder(tmp_path, "binance")) as recording:
        for number in range(3):
            recording.received(WS, START + number, b"%d" % number)
    shown = subprocess.run(["gzip", "-dc", *recording.files], capture_output=True, check=True)
    assert shown.stdout.count(b"\n") == 3
    assert shown.stdout.startswith(b"1772366398.000000: 0\n")


@given(
    message=st.binary(max_size=60) | st.sampled_from([b"b'x'", b'b"', b"\r", b"a\nb", b"'", b"\x1f\x8b\0\n"])
)
def test_any_bytes_are_one_line_and_come_back_exactly(tmp_path_factory, message):
    folder = tmp_path_factory.getbasetemp() / "one-line"
    folder.mkdir(exist_ok=True)
    frames = [
        Received(START, b"{}"),
        Received(START, message),
        RestAnswer(REST, START, message),
        Received(START, b"[]"),
    ]
    lines = [line_of(frame) for frame in frames]
    assert all(line.count(b"\n") == 1 and line.endswith(b"\n") for line in lines)
    path = folder / "lines"
    path.write_bytes(b"".join(lines))
    assert list(read([path])) == frames


def test_binary_frames_survive_exactly(tmp_path, shared_data):
    path = shared_data / "htx/HUOBI.ws.44.0.gz"
    seen = [frame for frame in read([path]) if isinstance(frame, Received)]
    assert all(frame.message.startswith(b"\x1f\x8b") for frame in seen)
    with closing(Recorder(tmp_path, "htx")) as recording:
        for frame in seen:
            recording.received("wss://api.huobi.pro/ws", frame.t, frame.message)
    assert frames_of(tmp_path) == seen


@pytest.mark.parametrize("exchange", ["binance", "coinbase", "kraken_v1"])
def test_a_real_session_recorded_anew_says_the_same(tmp_path, shared_data, exchange):
    seen = list(read(recordings.paths(shared_data, exchange)))
    with closing(Recorder(tmp_path, exchange)) as recording:
        tell(recording, seen)
    assert frames_of(tmp_path) == seen


def test_a_replay_of_rotated_files_gives_the_same_rows(tmp_path, shared_data, monkeypatch):
    monkeypatch.setattr(recorder, "MEMBER_BYTES", 5_000)
    seen = list(read(recordings.paths(shared_data, "binance")))
    with closing(Recorder(tmp_path, "binance", max_bytes=10_000)) as recording:
        tell(recording, seen)
    assert len(recording.files) > 2
    rows, instruments, _ = replayed(frames_of(tmp_path))
    assert [rows, instruments, []] == replayed(seen)
    assert any(stream.trades for stream in rows.values())
    assert any(stream.books for stream in rows.values())


def test_what_was_flushed_outlives_a_kill(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", TALKER, tmp_path], stderr=subprocess.PIPE)
    try:
        before: list = []
        while len(before) < 3_000:
            assert child.poll() is None, child.stderr.read()
            time.sleep(0.05)
            if any(path.stat().st_size for path in tmp_path.glob("*.rec.gz")):
                before = frames_of(tmp_path)
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()
    numbers = [frame.message for frame in frames_of(tmp_path) if isinstance(frame, Received)]
    assert numbers == [b'{"n":%d}' % number for number in range(len(numbers))]
    seen = sum(isinstance(frame, Received) for frame in before)
    assert len(numbers) >= seen


def test_a_message_is_on_the_disk_within_a_second_or_so_without_being_closed(tmp_path):
    with closing(Recorder(tmp_path, "binance")) as recording:
        recording.received(WS, START, b"{}")
        while not recording.files or not recording.files[0].stat().st_size:
            time.sleep(0.02)
        assert gzip.decompress(recording.files[0].read_bytes()) == b"1772366398.000000: {}\n"


def test_a_new_hour_and_a_full_file_begin_a_new_one(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "MEMBER_BYTES", 1_000)
    with closing(Recorder(tmp_path, "binance", max_bytes=2_000)) as recording:
        for number in range(200):
            message = os.urandom(50).hex().encode()
            recording.received(WS, START + number, b'"%b"' % message)
        recording.received(WS, START + 2_000_000, b'"the next hour"')
        recording.received(WS, START + 2_000_001, b"2")
    assert len(recording.files) > 3
    assert recording.files == sorted(tmp_path.iterdir())
    assert all(path.stat().st_size < 4_000 for path in recording.files)
    assert recording.files[-1].name == "binance-20260301T120000.000000Z.rec.gz"
    assert [frame.message for frame in read(recording.files[-1:])] == [b'"the next hour"', b"2"]
    assert [frame.t for frame in frames_of(tmp_path)][:200] == [START + number for number in range(200)]


def test_files_of_one_moment_and_a_clock_that_is_set_back_lose_nothing(tmp_path):
    for number in range(2):
        with closing(Recorder(tmp_path, "binance")) as recording:
            recording.received(WS, START, b"%d" % number)
            recording.received(WS, START - HOUR, b"%d" % (number + 10))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["binance-20260301T115958.000000Z.rec.gz", "binance-20260301T115958.000001Z.rec.gz"]
    assert sorted(int(frame.message) for frame in frames_of(tmp_path)) == [0, 1, 10, 11]


def test_a_connection_without_a_message_makes_no_file(tmp_path):
    with closing(Recorder(tmp_path, "binance")) as recording:
        recording.opened(WS, START)
        recording.sent(WS, START, "{}")
    assert recording.files == list(tmp_path.iterdir()) == []


def test_a_full_disk_ends_the_recording_with_one_warning_and_nobody_else(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(recorder, "MEMBER_BYTES", 20_000)
    caplog.set_level(logging.WARNING)
    folder = tmp_path / "disk"
    with tiny_disk(folder):
        recording = Recorder(folder, "binance")
        number = 0
        while recording.failure is None:
            for _ in range(200):
                recording.received(WS, START + number, b'"%b"' % os.urandom(99).hex().encode())
                number += 1
            time.sleep(0.01)
        recording.received(WS, START + number, b"{}")
        recording.close()
        frames = frames_of(folder)
    assert re.search("No space left|File too large", recording.failure)
    assert [record.getMessage().count("is not recorded any more") for record in caplog.records] == [1]
    assert [frame.t for frame in frames] == [START + n for n in range(len(frames))]
    assert 0 < len(frames) < number


def test_a_disk_that_falls_behind_ends_the_recording_and_holds_nobody_up(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(recorder, "MAX_WAITING", 100_000)
    with closing(Recorder(tmp_path, "binance")) as recording:
        for number in range(1_000_000):
            recording.received(WS, START + number, b"x" * 1_000)
            if recording.failure is not None:
                break
    assert recording.failure == "the disk is too slow"
    assert len(caplog.records) == 1


def test_a_folder_that_cannot_be_used_is_wrong_use(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for folder in (file, file / "below"):
        with pytest.raises(WrongUse, match=str(folder)):
            Recorder(folder, "binance")
