"""What every format makes of a file, and what it is told about it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import polars as pl
from msgspec import Struct

from collector.imports.columns import Unit
from market import Timeframe

Kind = Literal["trades", "candles", "changes"]
Tell = Callable[[int], None]
"""Is told how many bytes of the file have been read."""


class EndedEarly(Exception):
    """The file is cut or damaged from here on; what came before is good. The text says how."""


class Column(Struct, frozen=True):
    """The file's column that holds one of our fields, and the unit of a time."""

    name: str
    unit: Unit | None = None


class Hints(Struct, frozen=True, kw_only=True):
    """What the user says of the files; None where the file is to say it."""

    exchange: str | None = None
    symbol: str | None = None
    timeframe: Timeframe | None = None
    columns: dict[str, Column] = {}
    """By the names of `columns.TRADE_FIELDS`, `columns.CANDLE_FIELDS` and `columns.CHANGE_FIELDS`."""


class Source(Struct, kw_only=True):
    """One file, understood.

    `batches` are frames of `columns.trades`, `.candles` or `.changes`; they raise EndedEarly. What the file
    says of its exchange, symbol and timeframe is None where it does not; a symbol is the exchange's own name
    (`exchange_symbol`) or the unified one.
    """

    path: Path
    kind: Kind
    batches: Iterator[pl.DataFrame]
    exchange: str | None = None
    exchange_symbol: str | None = None
    symbol: str | None = None
    timeframe: Timeframe | None = None


Read = Callable[[Path, Hints, Tell], Source | None]
"""What a format is: a file to its `Source`, None where it is not of this format.

It raises WrongUse where the file is, but cannot be read as it is, saying what to do.
"""
