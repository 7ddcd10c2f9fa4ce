"""Binance's public archive: BTCUSDT-trades-2026-01-01.zip, …-aggTrades-…, …-1m-…; spot and USDⓈ-M futures.

Spot files have no header, futures files have one since 2022; times are milliseconds, in spot files from 2025
on microseconds. Source: https://github.com/binance/binance-public-data, as of November 2026.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from collector.imports.columns import candles, trades
from collector.imports.lines import blocks, first_lines, table
from collector.imports.source import Hints, Source, Tell
from market import Timeframe, WrongUse
from storage.clock import wall_clock

_NAME = re.compile(r"([A-Z0-9]+(?:_[0-9]{6})?)-(trades|aggTrades|[0-9]{1,2}[a-z]{1,2})-[0-9]{4}-[0-9]{2}.*")
_TRADES = ("id", "price", "qty", "quote_qty", "time", "is_buyer_maker")
_AGGREGATES = ("id", "price", "qty", "first", "last", "time", "is_buyer_maker")
_KLINES = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "count",
    "taker_buy_volume",
)
_TRADE_FIELDS = {
    "timestamp": "time",
    "price": "price",
    "size": "qty",
    "is_buyer_maker": "is_buyer_maker",
    "trade_id": "id",
}
_AGGREGATE_FIELDS = {**_TRADE_FIELDS, "first_fill": "first", "last_fill": "last"}
_KLINE_FIELDS = {
    "timestamp": "open_time",
    "open": "open",
    "high": "high",
    "low": "low",
    "close": "close",
    "volume": "volume",
    "buy_volume": "taker_buy_volume",
    "trade_count": "count",
}
_SPOT_COLUMNS = {"trades": 7, "aggTrades": 8}
"""Spot rows end with whether the trade was the best match; futures rows do not."""


def read(path: Path, hints: Hints, tell: Tell) -> Source | None:
    """By its name, `SYMBOL-kind-date`, and by the number of its columns."""
    named = _NAME.fullmatch(path.name)
    lines = first_lines(path, 2)
    if named is None or not lines or not lines[-1][:1].isdigit():
        return None
    name, kind = named.groups()
    columns = lines[-1].count(",") + 1
    exchange = hints.exchange or _exchange(path, kind, columns)
    if kind in _SPOT_COLUMNS:
        names = _TRADES if kind == "trades" else _AGGREGATES
        if columns < len(names):
            return None
        batches = _trades(path, names, tell)
        return Source(path=path, kind="trades", batches=batches, exchange=exchange, exchange_symbol=name)
    if columns < len(_KLINES):
        return None
    timeframe = Timeframe.parse(kind)
    return Source(
        path=path,
        kind="candles",
        batches=_candles(path, timeframe, tell),
        exchange=exchange,
        exchange_symbol=name,
        timeframe=timeframe,
    )


def _exchange(path: Path, kind: str, columns: int) -> str:
    """Which market it is of: spot and futures files share their names."""
    if kind in _SPOT_COLUMNS:
        return "binance" if columns >= _SPOT_COLUMNS[kind] else "binanceusdm"
    folders = path.absolute().parts
    if "spot" in folders or "futures" in folders:
        return "binance" if "spot" in folders else "binanceusdm"
    raise WrongUse(f"{path.name} may be of spot or of futures: add --exchange binance or binanceusdm")


def _trades(path: Path, names: tuple[str, ...], tell: Tell) -> Iterator[pl.DataFrame]:
    is_aggregate = names is _AGGREGATES
    for raw in _tables(path, names, tell):
        rows = trades(raw, _AGGREGATE_FIELDS if is_aggregate else _TRADE_FIELDS, {})
        yield rows.with_columns(trade_id=pl.format("a{}", "trade_id")) if is_aggregate else rows


def _candles(path: Path, timeframe: Timeframe, tell: Tell) -> Iterator[pl.DataFrame]:
    for raw in _tables(path, _KLINES, tell):
        yield candles(raw, _KLINE_FIELDS, None, timeframe, wall_clock())


def _tables(path: Path, names: tuple[str, ...], tell: Tell) -> Iterator[pl.DataFrame]:
    """The rows, without the header where there is one."""
    for first, lines in blocks(path, tell):
        is_headed = first == 1 and not lines[0].strip()[:1].isdigit()
        yield table(first + is_headed, lines[is_headed:], names, ",")
