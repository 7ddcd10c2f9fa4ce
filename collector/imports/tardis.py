"""Tardis.dev's trades and changes of books: CSV, mostly .csv.gz, of any exchange, of one or many symbols.

Header of `trades`: exchange,symbol,timestamp,local_timestamp,id,side,price,amount; times are microseconds,
the side is the aggressor's. Of `incremental_book_L2` the fifth is is_snapshot, the side bid or ask, and the
amount what the level holds from then on. Source:
https://docs.tardis.dev/downloadable-csv-files/data-types, as of November 2026.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from collector.imports.columns import changes, trades
from collector.imports.lines import blocks, first_lines, table
from collector.imports.source import Hints, Kind, Source, Tell
from market import WrongUse

_BEGIN = ("exchange", "symbol", "timestamp", "local_timestamp")
_KINDS: dict[tuple[str, ...], Kind] = {
    ("id", "side", "price", "amount"): "trades",
    ("is_snapshot", "side", "price", "amount"): "changes",
}
"""What a file holds, by the columns that follow."""
_FIELDS = {
    "symbol": "symbol",
    "timestamp": "timestamp",
    "received": "local_timestamp",
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
    header = tuple(lines[0].strip().split(","))
    if header[:4] != _BEGIN:
        return None
    kind = _KINDS.get(header[4:])
    if kind is None:
        raise WrongUse(
            f"{path.name} is of Tardis, but holds no trades: import the `trades` data type, or run a backtest"
            " over `incremental_book_L2`"
        )
    theirs = lines[-1].split(",")[0] if len(lines) > 1 else ""
    exchange = hints.exchange or _EXCHANGES.get(theirs, theirs) or None
    return Source(path=path, kind=kind, batches=_batches(path, kind, header, tell), exchange=exchange)


def _batches(path: Path, kind: Kind, header: Sequence[str], tell: Tell) -> Iterator[pl.DataFrame]:
    own = {"is_snapshot": "is_snapshot"} if kind == "changes" else {"trade_id": "id"}
    rows = changes if kind == "changes" else trades
    for first, lines in blocks(path, tell):
        is_header = first == 1
        raw = table(first + is_header, lines[is_header:], header, ",")
        yield rows(raw, _FIELDS | own, {"timestamp": "us", "received": "us"})
