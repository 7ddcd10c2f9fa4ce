"""Tardis.dev's trades: CSV, mostly .csv.gz, of any exchange and of one or many symbols.

Header: exchange,symbol,timestamp,local_timestamp,id,side,price,amount; times are microseconds, the side is
the aggressor's. Source: https://docs.tardis.dev/downloadable-csv-files/data-types, as of November 2026.
"""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from collector.imports.columns import trades
from collector.imports.lines import blocks, first_lines, table
from collector.imports.source import Hints, Source, Tell
from market import WrongUse

_HEADER = ("exchange", "symbol", "timestamp", "local_timestamp", "id", "side", "price", "amount")
_FIELDS = {
    "symbol": "symbol",
    "timestamp": "timestamp",
    "received": "local_timestamp",
    "trade_id": "id",
    "side": "side",
    "price": "price",
    "size": "amount",
}
_EXCHANGES = {
    "binance-futures": "binanceusdm",
    "bybit-spot": "bybit",
    "huobi": "htx",
    "okex": "okx",
    "okex-swap": "okx",
    "okex-futures": "okx",
}
"""Tardis's names of exchanges that are called otherwise here."""


def read(path: Path, hints: Hints, tell: Tell) -> Source | None:
    """By its header."""
    lines = first_lines(path, 2)
    if not lines:
        return None
    header = lines[0].strip().split(",")
    if header[:4] != list(_HEADER[:4]):
        return None
    if tuple(header) != _HEADER:
        raise WrongUse(f"{path.name} is of Tardis, but holds no trades: import the `trades` data type")
    theirs = lines[-1].split(",")[0] if len(lines) > 1 else ""
    exchange = hints.exchange or _EXCHANGES.get(theirs, theirs) or None
    return Source(path=path, kind="trades", batches=_batches(path, tell), exchange=exchange)


def _batches(path: Path, tell: Tell) -> Iterator[pl.DataFrame]:
    for first, lines in blocks(path, tell):
        is_header = first == 1
        raw = table(first + is_header, lines[is_header:], _HEADER, ",")
        yield trades(raw, _FIELDS, {"timestamp": "us", "received": "us"})
