"""Rows of one day as a small Parquet file, and back: every value is the same again, bit by bit.

Market numbers are decimals that came as doubles. A column of which each value is the double of a decimal with
few digits is written as that decimal (Parquet's DECIMAL on 64-bit integers): it takes a quarter of the bytes,
and any reader of Parquet understands it. Where one value is no such decimal, the column stays doubles.
"""

from io import BytesIO
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

__all__ = ["decode", "encode"]

_LEVEL = 9
_PAGE = 1 << 23
"""Bytes of a page: neighbouring book snapshots are alike, and are compressed together."""
_MOST_DECIMALS = 12
_EXACT = float(2**53)
"""Up to here each whole number is a double, so that dividing by a power of ten rounds once."""
_DIGITS = 18
_FEW_VALUES = frozenset(("exchange", "symbol", "side"))


def encode(frame: pl.DataFrame) -> bytes:
    """The rows as a Parquet file.

    Args:
        frame: as `storage.read` gives it; columns of numbers, texts, times and yes or no.
    """
    columns: dict[str, Any] = {}
    encodings: dict[str, str] = {}
    for column in frame:
        name = column.name
        columns[name] = _arrow(column)
        if name not in _FEW_VALUES and column.dtype != pl.Boolean:
            encodings[name] = _encoding(column.dtype)
    file = BytesIO()
    pq.write_table(
        pa.table(columns),
        file,
        compression="zstd",
        compression_level=_LEVEL,
        use_dictionary=sorted(_FEW_VALUES & set(columns)),
        column_encoding=encodings,
        data_page_size=_PAGE,
        store_decimal_as_integer=True,
    )
    return file.getvalue()


def decode(body: bytes) -> pl.DataFrame:
    """The rows that `encode` was given.

    Raises:
        ValueError: the bytes are no such file.
    """
    try:
        table = pq.read_table(BytesIO(body), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(str(error)) from error
    frame = pl.DataFrame([_series(name, table[name]) for name in table.column_names])
    return frame.rechunk()


def _encoding(dtype: pl.DataType) -> str:
    if dtype == pl.String:
        return "DELTA_BYTE_ARRAY"
    return "BYTE_STREAM_SPLIT" if dtype == pl.Float64 else "DELTA_BINARY_PACKED"


def _arrow(column: pl.Series) -> Any:
    """The column as it is written."""
    if column.dtype == pl.String:
        return column.to_arrow().cast(pa.string())
    if column.dtype == pl.Float64 and not column.null_count() and len(column):
        values = column.to_numpy()
        for scale in range(_MOST_DECIMALS + 1):
            if (whole := _whole(values, scale)) is not None:
                return _decimals(whole, scale)
    return column.to_arrow()


def _whole(values: NDArray[np.float64], scale: int) -> NDArray[np.int64] | None:
    """The values times a power of ten, where they are whole then and give the same doubles again."""
    power = 10.0**scale
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = np.rint(values * power)
    if not bool(np.all(np.abs(rounded) < _EXACT)):
        return None
    whole = rounded.astype(np.int64)
    # Compared bit by bit: a zero keeps its sign.
    is_same = np.array_equal((whole / power).view(np.int64), values.view(np.int64))
    return whole if is_same else None


def _decimals(whole: NDArray[np.int64], scale: int) -> Any:
    """Arrow's decimals are 128 bits wide: the low half, and the sign once more."""
    halves = np.empty((len(whole), 2), np.int64)
    halves[:, 0] = whole
    halves[:, 1] = whole >> 63
    return pa.Array.from_buffers(pa.decimal128(_DIGITS, scale), len(whole), [None, pa.py_buffer(halves)])


def _series(name: str, column: Any) -> pl.Series:
    """The column as it was."""
    if not pa.types.is_decimal(column.type):
        return pl.Series(name, pl.from_arrow(column))
    parts = [
        np.frombuffer(part.buffers()[1], np.int64)[2 * part.offset :][: 2 * len(part) : 2]
        for part in column.chunks
    ]
    whole = np.concatenate(parts) if parts else np.empty(0, np.int64)
    return pl.Series(name, whole / 10.0**column.type.scale)
