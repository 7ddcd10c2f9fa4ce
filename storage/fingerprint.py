"""What makes rows provably the same before and after they are compressed, moved or restored."""

from __future__ import annotations

import math
from hashlib import sha256
from itertools import chain
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

__all__ = ["Fingerprint", "of_frame"]

_SLICE = 1 << 16


class Fingerprint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows in few words: two are equal exactly when every value of every row is.

    Attributes:
        rows: how many.
        first: the first row's time in microseconds UTC; None without rows.
        last: the last row's.
        size_sum: the sum of sizes, rounded once; None where the table has none.
        notional_sum: the sum of price times size; None where the table has none.
        sha256: over the names, kinds and values of all columns in order, as hexadecimal text.
    """

    rows: int
    first: int | None
    last: int | None
    size_sum: float | None
    notional_sum: float | None
    sha256: str

    def to_json(self) -> str:
        """One line of JSON; every number is the same again after `from_json`."""
        return msgspec.json.encode(self).decode()

    @staticmethod
    def from_json(text: str | bytes) -> Fingerprint:
        """The fingerprint that `to_json` gave.

        Raises:
            msgspec.DecodeError: the text is something else.
        """
        return msgspec.json.decode(text, type=Fingerprint)


def of_frame(frame: pl.DataFrame) -> Fingerprint:
    """The fingerprint of rows in tape order, wherever they were read from.

    Args:
        frame: as `storage.read` gives it, with a column `timestamp`; only columns of numbers, texts, times
            and yes or no.
    """
    times = frame["timestamp"].to_physical()
    has_sizes = {"price", "size"} <= set(frame.columns)
    return Fingerprint(
        rows=len(frame),
        first=int(times[0]) if len(times) else None,
        last=int(times[-1]) if len(times) else None,
        size_sum=_sum(frame["size"]) if has_sizes else None,
        notional_sum=_sum(frame["price"] * frame["size"]) if has_sizes else None,
        sha256=_digest(frame),
    )


def _sum(values: pl.Series) -> float:
    """Rounded once, so that it does not depend on the machine that adds."""
    return math.fsum(chain.from_iterable(part.to_list() for part in _slices(values.drop_nulls())))


class _Hash(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...


def _digest(frame: pl.DataFrame) -> str:
    digest = sha256(f"{len(frame)} rows".encode())
    for column in frame:
        _update(digest, column)
    return digest.hexdigest()


def _update(digest: _Hash, column: pl.Series) -> None:
    """Add a column: what it is, which of its rows hold a value, and the values, slice by slice."""
    import polars as pl

    kind, is_text = _kind(column.dtype), column.dtype == pl.String
    digest.update(f"\n{column.name} {kind} {column.null_count()}\n".encode())
    for part in _slices(column):
        if column.null_count():
            digest.update(part.is_null().to_numpy().tobytes())
        if is_text:
            values = part.fill_null("")
            # Lengths tell where one text ends and the next begins.
            digest.update(values.str.len_bytes().cast(pl.UInt32).to_numpy().tobytes())
            digest.update("".join(values.to_list()).encode())
        else:
            numbers = part if kind == "float" else part.to_physical().cast(pl.Int64)
            digest.update(numbers.fill_null(0).to_numpy().tobytes())


def _slices(column: pl.Series) -> Iterator[pl.Series]:
    for at in range(0, len(column), _SLICE):
        yield column[at : at + _SLICE]


def _kind(dtype: pl.DataType) -> str:
    """A column's kind, in words that stay the same whatever polars calls it.

    Raises:
        TypeError: values of this kind have no bytes of their own here.
    """
    import polars as pl

    if dtype == pl.Datetime("us", "UTC"):
        return "time"
    if dtype == pl.String:
        return "text"
    if dtype == pl.Boolean:
        return "flag"
    if dtype.is_integer():
        return "integer"
    if dtype == pl.Float64:
        return "float"
    raise TypeError(f"no fingerprint of a column of {dtype}")
