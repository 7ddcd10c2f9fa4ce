"""Trades out of the bytes of a binary COPY, by compiled code: the least that a reader can do.

Source of the format: https://www.postgresql.org/docs/17/sql-copy.html, "Binary Format".
"""

from typing import Any

import numba
import numpy as np
import polars as pl
import pyarrow as pa

TEXTS = ("exchange", "symbol", "trade_id", "side")
NUMBERS = ("timestamp", "trade_seq", "fill_count", "price", "size", "cvd_at_trade", "received_timestamp")
COLUMNS = (
    "timestamp", "exchange", "symbol", "trade_id", "trade_seq", "fill_count", "price", "size", "side",
    "cvd_at_trade", "received_timestamp",
)  # fmt: skip
_FLOATS = ("price", "size", "cvd_at_trade")
_TIMES = ("timestamp", "received_timestamp")
_HEAD = 19
_EPOCH = 946_684_800_000_000
_IS_TEXT = np.array([name in TEXTS for name in COLUMNS])
_PLACE = np.array([(TEXTS if name in TEXTS else NUMBERS).index(name) for name in COLUMNS])


def trades(data: bytes, rows: int) -> pl.DataFrame:
    """The frame of `rows` trades, whose columns are COLUMNS."""
    raw = np.frombuffer(data, np.uint8)
    numbers = np.zeros((len(NUMBERS), rows), np.int64)
    offsets = np.zeros((len(TEXTS), rows + 1), np.int64)
    nulls = np.zeros((len(COLUMNS), rows), np.bool_)
    _measure(raw, rows, _IS_TEXT, _PLACE, numbers, offsets, nulls)
    texts = [np.empty(offsets[k, rows], np.uint8) for k in range(len(TEXTS))]
    _gather(raw, rows, _IS_TEXT, _PLACE, offsets, texts[0], texts[1], texts[2], texts[3])
    return pl.DataFrame([_series(name, numbers, offsets, nulls, texts) for name in COLUMNS])


def _series(name: str, numbers: Any, offsets: Any, nulls: Any, texts: list[Any]) -> pl.Series:
    is_null = nulls[COLUMNS.index(name)]
    if name in TEXTS:
        k = TEXTS.index(name)
        array = pa.LargeStringArray.from_buffers(
            len(is_null), pa.py_buffer(offsets[k]), pa.py_buffer(texts[k]), _validity(is_null)
        )
        return pl.Series(name, array)
    values = numbers[NUMBERS.index(name)]
    kind = pa.float64() if name in _FLOATS else pa.timestamp("us", "UTC") if name in _TIMES else pa.int64()
    return pl.Series(
        name, pa.Array.from_buffers(kind, len(values), [_validity(is_null), pa.py_buffer(values)])
    )


def _validity(is_null: Any) -> Any:
    if not is_null.any():
        return None
    return pa.py_buffer(np.packbits(~is_null, bitorder="little"))


@numba.njit(cache=True)
def _integer(raw: Any, at: int, length: int) -> int:
    value = np.uint64(0)
    for k in range(length):
        value = (value << np.uint64(8)) | np.uint64(raw[at + k])
    return int(np.int64(value))


@numba.njit(cache=True)
def _length(raw: Any, at: int) -> int:
    """Of the field that begins at `at`, below 0 where it is null."""
    length = _integer(raw, at, 4)
    return length - 2**32 if length >= 2**31 else length


@numba.njit(cache=True)
def _measure(raw: Any, rows: int, is_text: Any, place: Any, numbers: Any, offsets: Any, nulls: Any) -> None:
    """Read every number, and where each text will begin."""
    at = _HEAD
    for row in range(rows):
        at += 2
        for column in range(len(is_text)):
            length = _length(raw, at)
            at += 4
            if length < 0:
                nulls[column, row] = True
                length = 0
            elif not is_text[column]:
                numbers[place[column], row] = _integer(raw, at, length)
            if is_text[column]:
                k = place[column]
                offsets[k, row + 1] = offsets[k, row] + length
            at += length
    for row in range(rows):
        numbers[0, row] += _EPOCH
        numbers[6, row] += _EPOCH


@numba.njit(cache=True)
def _gather(
    raw: Any, rows: int, is_text: Any, place: Any, offsets: Any, a: Any, b: Any, c: Any, d: Any
) -> None:
    """Put the texts of each column one behind the other."""
    at = _HEAD
    for row in range(rows):
        at += 2
        for column in range(len(is_text)):
            length = _length(raw, at)
            at += 4
            if length < 0:
                continue
            if is_text[column]:
                k = place[column]
                target = a if k == 0 else b if k == 1 else c if k == 2 else d
                begin = offsets[k, row]
                for byte in range(length):
                    target[begin + byte] = raw[at + byte]
            at += length
