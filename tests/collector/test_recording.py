import gzip
import heapq
from decimal import Decimal
from pathlib import Path

import pytest
import recordings
from hypothesis import given
from hypothesis import strategies as st

from collector import recording
from collector.recording import (
    Carried,
    Damaged,
    EndedEarly,
    Lost,
    Moved,
    Named,
    Opened,
    Received,
    RestAnswer,
    Sent,
    read,
)
from market import WrongUse

SESSION = b"""wss://feed.example/ws <-> 1618678132.368463

wss://feed.example/ws <- 1618678132.8: {"type":"subscribe"}
1618678132.8314681: {"a":[1,2],"b":"x: y"}
https://api.example/products?x=1 -> 1618678133: {"c":3}
configuration: {"trades":["BTC-USD"]}
1618678134.000001: [1,"two"]
"""
FRAMES = [
    Opened("wss://feed.example/ws", 1618678132_368463),
    Sent("wss://feed.example/ws", 1618678132_800000, b'{"type":"subscribe"}'),
    Received(1618678132_831468, b'{"a":[1,2],"b":"x: y"}'),
    RestAnswer("https://api.example/products?x=1", 1618678133_000000, b'{"c":3}'),
    Received(1618678134_000001, b'[1,"two"]'),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("recordings")


def written(folder: Path, data: bytes, name: str = "session") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_every_frame_is_read(tmp_path, pack):
    assert list(read([written(tmp_path, pack(SESSION))])) == FRAMES


WHAT = b'{"symbols":[],"streams":[]}'
CONNECTIONS = b"""wss://a.example/spot#1 =1 10.5: {"symbols":["BTC/USDT"],"streams":["book","trades"]}
wss://a.example/spot#2 =2 10.5: {"symbols":[],"streams":[]}
wss://a.example/spot#1 <-> 11
12 1: {"a":1}
13 2: b'\\x00'
14 2+: {"b":2}
wss://a.example/spot#2 <=> 15
16: {"c":3}
wss://a.example/spot#1 >-< 17
"""


def test_connections_are_told_apart(tmp_path):
    one, two = "wss://a.example/spot#1", "wss://a.example/spot#2"
    assert list(read([written(tmp_path, CONNECTIONS)])) == [
        Named(one, 10_500_000, 1, Carried(("BTC/USDT",), frozenset(("book", "trades")))),
        Named(two, 10_500_000, 2, Carried((), frozenset())),
        Opened(one, 11_000_000),
        Received(12_000_000, b'{"a":1}', one),
        Received(13_000_000, b"\0", two),
        Received(14_000_000, b'{"b":2}', two, is_beside=True),
        Moved(two, 15_000_000),
        Received(16_000_000, b'{"c":3}'),
        Lost(one, 17_000_000),
    ]


def test_a_number_stands_for_a_connection_of_its_own_file_only(tmp_path):
    first = written(tmp_path, b"wss://a.example/ =1 10: " + WHAT + b"\n11 1: 1\n", "first")
    second = written(
        tmp_path, b"12 1: 2\nwss://b.example/ =1 13: " + WHAT + b"\n14 1: 3\n15 2: 4\n", "second"
    )
    frames = list(read([first, second]))
    assert [frame.url for frame in frames if isinstance(frame, Received)] == [
        "wss://a.example/",
        "wss://b.example/",
    ]
    assert [frame.raw for frame in frames if isinstance(frame, Damaged)] == [b"12 1: 2", b"15 2: 4"]


@pytest.mark.parametrize(
    "line",
    [
        b"x =1 5",
        b"x =1 5: ",
        b"x =1 5: {}",
        b'x =1 5: {"symbols":["a"],"streams":["shouts"]}',
        b"x =0123456 5: " + WHAT,
        b"x =y 5: " + WHAT,
        b"x <=> 5: y",
        b"x >-< 5: y",
        b"x >< 5",
        b"5 +: 1",
        b"5 1 : 1",
        b"5 -1: 1",
        b"5 1++: 1",
    ],
)
def test_a_line_that_only_looks_like_a_connections_is_damaged(tmp_path, line):
    frames = list(read([written(tmp_path, b"1: 1\n" + line + b"\n2: 2\n")]))
    assert frames == [
        Received(1_000_000, b"1"),
        Damaged(2, "no frame of a recording", line, 1_000_000),
        Received(2_000_000, b"2"),
    ]


def test_files_are_open_in_their_turn_only(tmp_path):
    """A year of hourly files is more than a process may open."""
    paths = [written(tmp_path, b"%d: 1\n%d: 2\n" % (n, n + 15), f"{n:02}") for n in range(10, 60, 10)]
    open_ones = []
    for frame in read(paths[::-1]):
        opened = (path.resolve() for path in Path("/proc/self/fd").iterdir() if path.exists())
        open_ones.append((frame.t // 1_000_000, sum(path.parent == tmp_path.resolve() for path in opened)))
    assert [t for t, _ in open_ones] == sorted((*range(10, 60, 10), *range(25, 75, 10)))
    assert max(count for _, count in open_ones) == 2


@given(
    files=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=5),
)
def test_files_are_merged_as_if_all_were_open(folder, files):
    paths = [
        written(folder, b"".join(b"%d: %d\n" % (t, place) for t in times), f"merged-{place}")
        for place, times in enumerate(files)
    ]
    each = [list(read([path])) for path in paths]
    assert list(read(paths)) == list(heapq.merge(*each, key=lambda frame: frame.t))


def test_windows_line_ends_are_line_ends(tmp_path):
    assert list(read([written(tmp_path, SESSION.replace(b"\n", b"\r\n"))])) == FRAMES


@given(seconds=st.integers(0, 99_999_999_999), fraction=st.from_regex("[0-9]{0,9}", fullmatch=True))
def test_times_are_cut_to_microseconds_from_the_text(folder, seconds, fraction):
    text = f"{seconds}.{fraction}" if fraction else str(seconds)
    (frame,) = read([written(folder, f"{text}: 1\n".encode())])
    assert frame == Received(int(Decimal(text) * 1_000_000), b"1")


def test_files_are_merged_by_time_and_keep_their_own_order(tmp_path):
    first = written(tmp_path, b"10: 1\n12: 2\n11: 3\n14: 4\n", "first")
    second = written(tmp_path, gzip.compress(b"9: 5\n12: 6\n13: 7\n"), "second")
    frames = list(read([first, second]))
    assert [frame.t // 1_000_000 for frame in frames] == [9, 10, 12, 11, 12, 13, 14]
    assert [int(frame.message) for frame in frames] == [5, 1, 2, 3, 6, 7, 4]


def test_a_line_that_is_no_frame_is_damaged_and_the_rest_is_read(tmp_path):
    path = written(tmp_path, b"1: 1\nno frame\nx <-> 5: y\n1234567890123: 1\n2: 2\n")
    frames = list(read([path]))
    assert frames[0] == Received(1_000_000, b"1")
    assert [(f.line_number, f.raw, f.t) for f in frames if isinstance(f, Damaged)] == [
        (2, b"no frame", 1_000_000),
        (3, b"x <-> 5: y", 1_000_000),
        (4, b"1234567890123: 1", 1_000_000),
    ]
    assert frames[-1] == Received(2_000_000, b"2")


def test_a_line_that_is_too_long_is_damaged_and_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "MAX_LINE", 100)
    path = written(tmp_path, b"1: 1\n2: " + b"x" * 1000 + b"\n3: 3\n")
    first, damaged, last = read([path])
    assert (first, last) == (Received(1_000_000, b"1"), Received(3_000_000, b"3"))
    assert damaged.line_number == 2
    assert len(damaged.raw) == 100


@given(end=st.integers(0, len(SESSION)))
def test_a_plain_file_that_is_cut_anywhere_gives_its_whole_lines(folder, end):
    path = written(folder, SESSION[:end])
    try:
        *frames, last = read([path])
    except WrongUse:
        assert end < SESSION.index(b'"x: y"}') + len('"x: y"}')
        return
    if isinstance(last, EndedEarly):
        assert last.path == path
        assert frames == FRAMES[: len(frames)]
    else:
        assert [*frames, last] == FRAMES[: len(frames) + 1]
    whole_lines = SESSION[:end].count(b"\n")
    readable = [0, 1, 1, 2, 3, 4, 4, 5][whole_lines]
    assert len(frames) + (not isinstance(last, EndedEarly)) >= readable


def test_a_last_line_without_newline_counts_if_it_is_whole(tmp_path):
    assert list(read([written(tmp_path, b"1: 1\n2: {}")])) == [
        Received(1_000_000, b"1"),
        Received(2_000_000, b"{}"),
    ]
    frames = list(read([written(tmp_path, b'1: 1\n2: {"a')]))
    assert frames == [
        Received(1_000_000, b"1"),
        EndedEarly(tmp_path / "session", "line 2 breaks off", 1_000_000),
    ]


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_gzip_file_that_is_cut_anywhere_says_so(folder, share):
    lines = [f"{i}.{i:06}: {{'x': {i * 7919 % 1000}}}\n".replace("'", '"') for i in range(1, 500)]
    packed = gzip.compress("".join(lines).encode())
    path = written(folder, packed[: int(len(packed) * share)])
    try:
        *frames, last = read([path])
    except WrongUse:
        assert share < 0.2
        return
    assert isinstance(last, EndedEarly)
    assert [frame.t for frame in frames] == [i * 1_000_001 for i in range(1, len(frames) + 1)]


def test_a_damaged_gzip_file_says_so(tmp_path):
    packed = bytearray(gzip.compress(SESSION))
    packed[-6] ^= 0xFF
    *frames, last = read([written(tmp_path, bytes(packed))])
    assert frames == FRAMES
    assert isinstance(last, EndedEarly)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        b"configuration: {}\n",
        b"once upon a time\n",
        b"wss://feed.example <-> 1618678132.3\n",
        b"1618678132.3: not json\n",
        bytes(range(256)) * 50,
        gzip.compress(b"", mtime=0),
        gzip.compress(SESSION, mtime=0)[:12],
    ],
)
def test_a_file_without_a_readable_message_is_refused_at_once(tmp_path, data):
    good = written(tmp_path, SESSION, "good")
    path = written(tmp_path, data)
    with pytest.raises(WrongUse, match=str(path)):
        read([good, path])


def test_a_file_that_cannot_be_opened_is_refused_at_once(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(WrongUse, match=f"{path}: cannot be read"):
            read([path])


@given(st.binary(max_size=300))
def test_bytes_written_as_python_writes_them_are_read(folder, data):
    path = written(folder, f"1: {data!r}\n2: 2\nhttps://a.example/b -> 3: {data!r}\n".encode())
    assert list(read([path])) == [
        Received(1_000_000, data),
        Received(2_000_000, b"2"),
        RestAnswer("https://a.example/b", 3_000_000, data),
    ]


@pytest.mark.parametrize(
    "literal",
    [
        "b'",
        "b'a",
        "b'a' ",
        "b'a'b'c'",
        "b'a' * 9",
        "b'\\d'",
        "b'\\x1'",
        "b'é'",
        "b'a\\'",
        "b\"a'",
        "b'a', b'c'",
    ],
)
def test_a_damaged_literal_is_counted_and_the_rest_is_read(tmp_path, literal):
    path = written(tmp_path, f"1: 1\n2: {literal}\n3: 3\nx -> 4: {literal}\n".encode())
    first, damaged, last, other = read([path])
    assert (first, last) == (Received(1_000_000, b"1"), Received(3_000_000, b"3"))
    assert [(each.line_number, each.t) for each in (damaged, other)] == [(2, 1_000_000), (4, 3_000_000)]
    assert damaged.raw == f"2: {literal}".encode()


def test_a_packed_message_counts_as_whole_if_what_it_holds_is(tmp_path):
    message = gzip.compress(b'{"a":1}', mtime=0)
    assert list(read([written(tmp_path, f"1: {message!r}".encode())])) == [Received(1_000_000, message)]
    for broken in (gzip.compress(b'{"a"', mtime=0), message[:-2]):
        with pytest.raises(WrongUse, match="not one readable message"):
            read([written(tmp_path, f"1: {broken!r}\n".encode())])


@pytest.mark.parametrize(
    ("exchange", "messages", "answers"),
    [
        ("binance", 265, 5),
        ("binanceusdm", 1535, 5),
        ("coinbase", 6528, 1),
        ("htx", 362, 1),
        ("kraken_v1", 4370, 1),
        ("okx", 410, 25),
    ],
)
def test_real_recordings_are_whole(shared_data, exchange, messages, answers):
    frames = list(read(recordings.paths(shared_data, exchange)))
    kinds = [type(frame) for frame in frames]
    assert kinds.count(Received) == messages
    assert kinds.count(RestAnswer) == answers
    assert Damaged not in kinds
    assert EndedEarly not in kinds
    times = [frame.t for frame in frames]
    assert times == sorted(times)
