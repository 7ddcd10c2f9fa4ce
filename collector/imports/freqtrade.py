"""freqtrade's data: candles and trades as feather or json(.gz), named PAIR-timeframe or PAIR-trades.

BTC_USDT-5m.feather, BTC_USDT_USDT-1h-futures.json.gz, BTC_USDT-trades.feather. Candles are date, open, high,
low, close, volume; trades timestamp (ms), id, type, side, price, amount, cost.
Source: https://www.freqtrade.io/en/stable/data-download, as of November 2026.
"""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import polars as pl
from pyarrow import ArrowInvalid

from collector import exchanges
from collector.imports.arrow import arrow_batches
from collector.imports.columns import candles, trades
from collector.imports.source import EndedEarly, Hints, Source, Tell
from market import Timeframe, WrongUse
from storage.clock import wall_clock

_NAME = re.compile(
    r"([A-Z0-9]+)_([A-Z0-9]+)(?:_([A-Z0-9]+))?-([0-9]+[a-zA-Z]+|trades)(?:-([a-z_]+))?\.(feather|json|json\.gz)"
)
_CANDLES = ("date", "open", "high", "low", "close", "volume")
_TRADES = ("timestamp", "id", "type", "side", "price", "amount", "cost")
_CANDLE_FIELDS = {"timestamp": "date", **{name: name for name in _CANDLES[1:]}}
_TRADE_FIELDS = {
    "timestamp": "timestamp",
    "trade_id": "id",
    "side": "side",
    "price": "price",
    "size": "amount",
}
_ROWS = 100_000


def read(path: Path, hints: Hints, tell: Tell) -> Source | None:
    """By its name; the exchange is the folder's name where that is not said."""
    named = _NAME.fullmatch(path.name)
    if named is None:
        return None
    base, quote, settle, kind, market, _ = named.groups()
    if market not in (None, "futures"):
        raise WrongUse(f"{path.name} holds {market.replace('_', ' ')}s, not trades or candles")
    symbol = f"{base}/{quote}:{settle}" if settle else f"{base}/{quote}"
    exchange = hints.exchange or _exchange(path)
    if kind == "trades":
        raw = _tables(path, _TRADES, tell)
        rows = (trades(each, _TRADE_FIELDS, {"timestamp": "ms"}) for each in raw)
        return Source(path=path, kind="trades", batches=rows, exchange=exchange, symbol=symbol)
    timeframe, now = Timeframe.parse(kind), wall_clock()
    raw = _tables(path, _CANDLES, tell)
    rows = (candles(each, _CANDLE_FIELDS, None, timeframe, now) for each in raw)
    return Source(
        path=path, kind="candles", batches=rows, exchange=exchange, symbol=symbol, timeframe=timeframe
    )


def _exchange(path: Path) -> str | None:
    """Its files lie in a folder of the exchange's id."""
    folder = path.absolute().parent
    name = (folder.parent if folder.name == "futures" else folder).name
    try:
        return exchanges.find(name).exchange
    except WrongUse:
        return None


def _tables(path: Path, names: tuple[str, ...], tell: Tell) -> Iterator[pl.DataFrame]:
    if path.suffix != ".feather":
        yield from _json_tables(path, names, tell)
        return
    try:
        for frame in arrow_batches(path, tell):
            missing = set(names) - set(frame.columns)
            if missing:
                raise WrongUse(f"{path.name} has no column {', '.join(sorted(missing))}")
            yield frame
    except ArrowInvalid as error:
        raise EndedEarly(f"the file is cut or damaged: {error}") from None


def _json_tables(path: Path, names: tuple[str, ...], tell: Tell) -> Iterator[pl.DataFrame]:
    """Rows of an array of arrays: small enough to be read whole, as freqtrade itself does."""
    data = path.read_bytes()
    try:
        text = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
        rows = msgspec.json.decode(text, type=list[list[str | int | float | None]])
    except (OSError, EOFError, ValueError) as error:
        raise EndedEarly(f"the file is cut or damaged: {error}") from None
    for begin in range(0, len(rows), _ROWS):
        part = rows[begin : begin + _ROWS]
        # As texts: one column may hold whole numbers and others.
        texts = {
            name: [None if at >= len(row) or row[at] is None else str(row[at]) for row in part]
            for at, name in enumerate(names)
        }
        frame = pl.DataFrame(texts, schema=dict.fromkeys(names, pl.String))
        yield frame.with_row_index("line", begin + 1).with_columns(pl.col("line").cast(pl.Int64))
    tell(len(data))
