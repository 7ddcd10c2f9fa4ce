"""Feather and Parquet files as frames, a batch at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from pyarrow import ipc, parquet

from collector.imports.source import Tell

ROWS = 100_000
_PARQUET, _FEATHER = b"PAR1", b"ARRO"


def is_parquet(path: Path) -> bool:
    """Whether it begins as a Parquet file."""
    return _start(path) == _PARQUET


def is_arrow(path: Path) -> bool:
    """Whether it begins as a Parquet or a Feather file."""
    return _start(path) in (_PARQUET, _FEATHER)


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def arrow_batches(path: Path, tell: Tell) -> Iterator[pl.DataFrame]:
    """The file's columns, and each row's number as `line`, from 1 on.

    Raises:
        pyarrow.ArrowInvalid: it is neither, or damaged.
    """
    done, size = 0, path.stat().st_size
    # Not a file of Python's: Arrow's threads would call back into an interpreter that is ending.
    with pa.OSFile(str(path)) as file:
        if is_parquet(path):
            opened = parquet.ParquetFile(file)
            rows: int = opened.metadata.num_rows
            batches = opened.iter_batches(batch_size=ROWS)
        else:
            reader = ipc.open_file(file)
            rows = reader.num_record_batches * ROWS
            batches = _slices(reader)
        for batch in batches:
            frame = pl.from_arrow(pa.Table.from_batches([batch]))
            assert isinstance(frame, pl.DataFrame)  # noqa: S101 - a table is one
            yield frame.with_row_index("line", done + 1).with_columns(pl.col("line").cast(pl.Int64))
            done += frame.height
            tell(min(size, size * done // max(rows, 1)))


def _slices(reader: Any) -> Iterator[Any]:
    for at in range(reader.num_record_batches):
        batch = reader.get_batch(at)
        for begin in range(0, batch.num_rows, ROWS):
            yield batch.slice(begin, ROWS)
