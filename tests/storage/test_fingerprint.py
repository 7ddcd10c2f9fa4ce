"""Fingerprints: equal wherever the rows come from, different as soon as one value is."""

import math
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streaming import EXCHANGE, SECOND, SYMBOL, Streaming, random_book, random_tape

from storage import read
from storage.database import Connection
from storage.fingerprint import Fingerprint, of_frame

TIME = pl.Datetime("us", "UTC")
ROWS = st.lists(
    st.tuples(
        st.integers(0, 2**40),
        st.none() | st.text(st.sampled_from("aé€\0")),
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.floats(1e-9, 1e9),
        st.none() | st.floats(1e-9, 1e9),
        st.none() | st.booleans(),
    ),
    min_size=1,
    max_size=8,
)
SCHEMA = {
    "timestamp": TIME,
    "name": pl.String,
    "number": pl.Int64,
    "price": pl.Float64,
    "size": pl.Float64,
    "flag": pl.Boolean,
}


def frame_of(rows: list[tuple[object, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, SCHEMA, orient="row")


@given(ROWS)
def test_the_same_rows_have_the_same_fingerprint(rows: list[tuple[object, ...]]) -> None:
    frame = frame_of(rows)
    expected = of_frame(frame)
    pieces = pl.concat([frame[:1], frame[1:3], frame[3:]], rechunk=False)
    assert of_frame(pieces) == expected
    buffer = BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    buffer.seek(0)
    assert of_frame(pl.read_parquet(buffer)) == expected


@given(ROWS, st.data())
def test_any_other_value_has_another(rows: list[tuple[object, ...]], data: st.DataObject) -> None:
    frame = frame_of(rows)
    at = data.draw(st.integers(0, len(rows) - 1))
    name = data.draw(st.sampled_from(list(SCHEMA)))
    values = frame[name].to_physical().to_list()
    values[at] = _other(name, values[at])
    column = pl.Series(name, values, frame[name].to_physical().dtype).cast(SCHEMA[name])
    assert of_frame(frame.with_columns(column)).sha256 != of_frame(frame).sha256


def _other(name: str, value: Any) -> object:
    """The value that is hardest to tell from this one."""
    if name == "timestamp":
        return value + 1
    if name in ("price", "size"):
        return 1.0 if value is None else math.nextafter(value, math.inf)
    nothing = {"name": "", "number": 0, "flag": False}[name]
    return None if value == nothing else nothing


def test_texts_and_rows_are_kept_apart() -> None:
    def hashed(*names: str | None) -> str:
        return of_frame(frame_of([(0, name, None, None, None, None) for name in names])).sha256

    different = [("ab", "c"), ("a", "bc"), ("", "abc"), (None, "abc"), ("abc",), ("abc", ""), ("abc", None)]
    assert len({hashed(*names) for names in different}) == len(different)


def test_order_names_and_columns_count() -> None:
    frame = frame_of([(1, "a", 1, 1.0, 2.0, True), (2, "b", 2, 2.0, 3.0, False)])
    others = [
        frame,
        frame[::-1],
        frame.rename({"name": "title"}),
        frame.drop("flag"),
        frame.select(reversed(frame.columns)),
        frame.with_columns(pl.col("number").cast(pl.Float64)),
        frame[:1],
        frame[:0],
    ]
    assert len({of_frame(other).sha256 for other in others}) == len(others)


def test_sums_and_times_can_be_read() -> None:
    frame = frame_of(
        [(5, "a", 1, 1e16, 1.0, None), (6, "b", 2, 1.0, 1.0, None), (9, "c", 3, 1.0, 1e-3, None)]
    )
    found = of_frame(frame)
    assert (found.rows, found.first, found.last) == (3, 5, 9)
    assert found.size_sum == math.fsum([1.0, 1.0, 1e-3])
    assert found.notional_sum == math.fsum([1e16, 1.0, 1e-3])
    without = of_frame(frame.drop("price"))
    assert (without.size_sum, without.notional_sum) == (None, None)
    empty = of_frame(frame[:0])
    assert (empty.rows, empty.first, empty.last, empty.size_sum) == (0, None, None, 0.0)


def test_long_columns_are_hashed_whole() -> None:
    frame = pl.DataFrame({"timestamp": pl.Series(range(200_000), dtype=pl.Int64).cast(TIME)})
    assert of_frame(frame) == of_frame(frame.clone())
    last = frame.with_columns(pl.col("timestamp").shift(-1, fill_value=frame["timestamp"][0]))
    assert of_frame(last).sha256 != of_frame(frame).sha256


def test_it_survives_json() -> None:
    found = of_frame(frame_of([(5, "a", 1, 0.1, 0.2, None)]))
    assert Fingerprint.from_json(found.to_json()) == found
    with pytest.raises(msgspec.DecodeError):
        Fingerprint.from_json('{"rows": 1}')


def test_other_kinds_are_refused() -> None:
    frame = frame_of([(5, "a", 1, 0.1, 0.2, None)]).with_columns(pl.lit([1, 2]).alias("list"))
    with pytest.raises(TypeError, match="no fingerprint"):
        of_frame(frame)


def test_a_table_and_its_file_have_the_same(connection: Connection, database: str, tmp_path: Path) -> None:
    random = Random(5)
    spans, _ = random_tape(random)
    books = [random_book(random, spans[0].begin // SECOND * SECOND + n * SECOND) for n in range(9)]
    Streaming().run(spans, books).write(connection)
    connection.commit()
    for function in (read.trades, read.books, read.cvd):
        frame = function(database, EXCHANGE, SYMBOL)
        assert len(frame)
        frame.write_parquet(tmp_path / "file.parquet", compression="zstd")
        assert of_frame(pl.read_parquet(tmp_path / "file.parquet")) == of_frame(frame)
    candles = read.candles(database, EXCHANGE, SYMBOL, "1m")
    assert of_frame(candles).rows == len(candles) > 0
