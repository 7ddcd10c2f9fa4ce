"""Any CSV with a header, any Parquet or feather file: columns by their usual names, or as the user says."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl
from pyarrow import ArrowInvalid

from collector.imports.arrow import arrow_batches
from collector.imports.columns import (
    CANDLE_FIELDS,
    CHANGE_FIELDS,
    TRADE_FIELDS,
    UNITS,
    candles,
    changes,
    trades,
)
from collector.imports.lines import blocks, first_lines, table
from collector.imports.source import Column, EndedEarly, Hints, Kind, Source, Tell
from market import WrongUse
from storage.clock import wall_clock

NAMES: dict[str, tuple[str, ...]] = {
    "timestamp": ("timestamp", "time", "date", "datetime", "ts", "open_time", "opentime", "unix", "t"),
    "price": ("price", "px", "p"),
    "size": ("size", "qty", "quantity", "amount", "volume", "sz", "q"),
    "side": ("side", "taker_side", "direction"),
    "is_buyer_maker": ("is_buyer_maker", "isbuyermaker", "buyer_is_maker"),
    "trade_id": ("trade_id", "tradeid", "id", "trade id"),
    "received": ("received", "received_timestamp", "local_timestamp"),
    "is_snapshot": ("is_snapshot",),
    "symbol": (),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "c"),
    "volume": ("volume", "vol", "v", "base_volume"),
    "buy_volume": ("buy_volume", "taker_buy_volume"),
    "trade_count": ("trade_count", "trades", "count"),
}
"""What files call our fields, in the order in which they are looked for; whatever the case."""
_KIND_FIELDS: dict[Kind, Sequence[str]] = {
    "trades": TRADE_FIELDS,
    "candles": CANDLE_FIELDS,
    "changes": CHANGE_FIELDS,
}
_NEEDED: dict[Kind, Sequence[str]] = {
    "trades": ("timestamp", "price", "size"),
    "candles": ("timestamp", "open", "high", "low", "close", "volume"),
    "changes": ("timestamp", "price", "size", "side", "is_snapshot"),
}
_PRICES = ("open", "high", "low", "close")
_SEPARATORS = (",", ";", "\t")


def parse_columns(texts: Sequence[str]) -> dict[str, Column]:
    """`price=px`, `timestamp=time:ms`: our field, the file's column, and a time's unit.

    Raises:
        WrongUse: a text is none of these.
    """
    found = {}
    for text in texts:
        field, is_there, name = text.partition("=")
        head, _, unit = name.rpartition(":")
        known = next((each for each in UNITS if head and each == unit), None)
        if not (is_there and name) or field not in NAMES:
            raise WrongUse(
                f"--column {text!r}: write FIELD=COLUMN or timestamp=COLUMN:UNIT; fields are"
                f" {', '.join(NAMES)}; units are {', '.join(UNITS)}"
            )
        found[field] = Column(name) if known is None else Column(head, known)
    return found


def read_csv(path: Path, hints: Hints, tell: Tell) -> Source | None:
    """By its header: a time with a price and size, and is_snapshot of a book, or with a candle's numbers."""
    lines = first_lines(path, 1)
    if not lines:
        return None
    separator = max(_SEPARATORS, key=lines[0].count)
    names = [name.strip(' "\r\n').removeprefix("#") for name in lines[0].split(separator)]
    if len(set(names)) != len(names) or "line" in names:
        raise WrongUse(f"{path.name} has no header of different names")

    def tables() -> Iterator[pl.DataFrame]:
        for first, part in blocks(path, tell):
            is_header = first == 1
            yield table(first + is_header, part[is_header:], names, separator)

    return _source(path, names, tables(), hints)


def read_arrow(path: Path, hints: Hints, tell: Tell) -> Source | None:
    """By its columns, as a CSV."""
    try:
        first = next(arrow_batches(path, lambda _: None), pl.DataFrame())
    except ArrowInvalid:
        return None
    names = [name for name in first.columns if name != "line"]

    def tables() -> Iterator[pl.DataFrame]:
        try:
            yield from arrow_batches(path, tell)
        except (ArrowInvalid, OSError) as error:
            raise EndedEarly(f"the file is cut or damaged: {error}") from None

    return _source(path, names, tables(), hints)


def _source(path: Path, names: Sequence[str], tables: Iterator[pl.DataFrame], hints: Hints) -> Source:
    kind = _kind(path, names, hints)
    fields = _fields(path, names, hints, _KIND_FIELDS[kind])
    missing = [field for field in _NEEDED[kind] if field not in fields]
    if missing:
        raise WrongUse(
            f"{path.name}: which column is the {missing[0]}? Say --column {missing[0]}=NAME;"
            f" it has {', '.join(names)[:200]}"
        )
    units = {field: column.unit for field, column in hints.columns.items()}
    if kind != "candles":
        read = changes if kind == "changes" else trades
        return Source(path=path, kind=kind, batches=(read(raw, fields, units) for raw in tables))
    timeframe = hints.timeframe
    if timeframe is None:
        raise WrongUse(f"{path.name} holds candles: say how long they are, such as --timeframe 1m")
    now = wall_clock()
    bars = (candles(raw, fields, units.get("timestamp"), timeframe, now) for raw in tables)
    return Source(path=path, kind=kind, batches=bars, timeframe=timeframe)


def _kind(path: Path, names: Sequence[str], hints: Hints) -> Kind:
    if _fields(path, names, hints, ("is_snapshot",)):
        return "changes"
    return "candles" if _fields(path, names, hints, _PRICES).keys() >= set(_PRICES) else "trades"


def _fields(path: Path, names: Sequence[str], hints: Hints, wanted: Sequence[str]) -> Mapping[str, str]:
    """Which of the file's columns hold which of our fields."""
    by_name = {name.lower(): name for name in reversed(names)}
    found = {}
    for field in wanted:
        told = hints.columns.get(field)
        if told is not None and told.name not in names:
            raise WrongUse(f"{path.name} has no column {told.name!r}; it has {', '.join(names)[:200]}")
        usual = next((by_name[each] for each in NAMES.get(field, ()) if each in by_name), None)
        name = usual if told is None else told.name
        if name is not None:
            found[field] = name
    if "side" in found and "is_buyer_maker" in found and "is_buyer_maker" not in hints.columns:
        del found["is_buyer_maker"]
    return found
