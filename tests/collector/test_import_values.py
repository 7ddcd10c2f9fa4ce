"""How numbers, times and lines of foreign files are read."""

import io
import zipfile
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.imports import columns, lines
from collector.imports.source import EndedEarly

# Numbers and times


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value="1e-12", max_value="1e12"))
def test_texts_become_the_nearest_double(value):
    raw = pl.DataFrame({"line": [1], "t": ["1735689600"], "p": [str(value)], "q": ["1"]})
    rows = columns.trades(raw, {"timestamp": "t", "price": "p", "size": "q"}, {})
    assert rows["reason"].to_list() == [None]
    assert rows["price"].to_list() == [float(str(value))]


TIMES = st.integers(200_000_000_000_000, 4_000_000_000_000_000)


@given(
    time=TIMES, unit=st.sampled_from(["s", "ms", "us", "ns"]), is_told=st.booleans(), is_text=st.booleans()
)
def test_times_are_told_by_their_digits(time, unit, is_told, is_text):
    factor = {"s": 1_000_000, "ms": 1000, "us": 1, "ns": 1}[unit]
    number = time * 1000 + 999 if unit == "ns" else time // factor
    raw = pl.DataFrame({"line": [1], "t": [str(number) if is_text else number], "p": [1.5], "q": [1]})
    rows = columns.trades(
        raw, {"timestamp": "t", "price": "p", "size": "q"}, {"timestamp": unit if is_told else None}
    )
    assert rows["timestamp"].to_list() == [time // factor * factor]


@given(time=TIMES, digits=st.integers(0, 9))
def test_seconds_keep_their_decimals(time, digits):
    text = f"{time // 1_000_000}.{time % 1_000_000:06}999"
    text = text[: len(text) - 9 + digits]
    raw = pl.DataFrame({"line": [1], "t": [text], "p": ["1"], "q": ["1"]})
    rows = columns.trades(raw, {"timestamp": "t", "price": "p", "size": "q"}, {})
    kept = 10 ** max(6 - digits, 0)
    assert rows["timestamp"].to_list() == [time // kept * kept]


@given(
    time=TIMES,
    form=st.sampled_from(["%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S.%f+00:00"]),
)
def test_iso_times(time, form):
    text = datetime.fromtimestamp(time // 1_000_000, UTC).replace(microsecond=time % 1_000_000).strftime(form)
    raw = pl.DataFrame({"line": [1], "t": [text], "p": ["1"], "q": ["1"]})
    rows = columns.trades(raw, {"timestamp": "t", "price": "p", "size": "q"}, {})
    assert rows["timestamp"].to_list() == [time]


@given(
    rows=st.lists(
        st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=40), max_size=8
    ),
    size=st.integers(1, 50),
)
def test_lines_keep_their_numbers_whatever_the_blocks(tmp_path_factory, rows, size):
    path = tmp_path_factory.mktemp("lines") / "x.csv"
    path.write_bytes("\n".join(["head", *rows]).encode())
    found = [
        (n + k, line) for n, part in lines.blocks(path, lambda _: None, size) for k, line in enumerate(part)
    ]
    assert [number for number, _ in found] == list(range(1, len(found) + 1))
    expected = ["head", *rows]
    if not expected[-1]:
        expected.pop()
    ascii_only = [(n, line) for n, line in enumerate(expected, 1) if line.isascii()]
    assert set(ascii_only) <= set(found)


def test_a_damaged_archive_ends_early(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", "\n".join(str(n) for n in range(100_000)))
    data = bytearray(buffer.getvalue())
    data[len(data) // 3] ^= 0xFF
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    with pytest.raises(EndedEarly, match=r"line .*cut or damaged"):
        list(lines.blocks(path, lambda _: None))
