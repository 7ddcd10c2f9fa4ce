"""Recordings for backtests: what the collector reads of them, as arrays."""

from __future__ import annotations

from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.account import Terms
from backtest.recordings import Recording
from backtest.tape import Depth, Trades
from collector.imported_market import imported_market
from collector.imports.formats import is_table
from collector.recorded_market import recorded_market
from market import Instrument, MarketType, WrongUse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from collector.book_changes import BookChanges
    from collector.recorded_market import RecordedTrades


def recording(
    files: Iterable[Path | str],
    exchange: str,
    symbol: str,
    progress: Callable[[int], Any] = lambda _: None,
) -> Recording:
    """One market out of recordings of an exchange, or of files of its trades and book changes, by time.

    Args:
        files: what `deltatape record` or `deltatape collect --record` wrote; or tables, such as Tardis'
            `incremental_book_L2` and `trades`, see `collector.imported_market`.
        exchange: the exchange's id.
        symbol: the symbol, such as BTC/USDT.
        progress: called now and then with the number of messages so far.

    Raises:
        WrongUse: a file cannot be read, or nothing of the symbol is in them.
    """
    paths = [Path(file).resolve() for file in files]
    read = imported_market if any(map(is_table, paths)) else recorded_market
    found = read(paths, exchange, symbol, progress)
    return Recording(
        exchange,
        symbol,
        _trades(found.trades),
        _depth(found.changes),
        found.instrument.market_type,
        _terms(found.instrument),
        {str(path): _hash(path) for path in paths},
        tuple(found.notes),
    )


def recorded_again(files: Mapping[str, str], exchange: str, symbol: str) -> Recording:
    """The recordings of a stored run: SHA-256 by path.

    Raises:
        WrongUse: one is gone, or is not the file that the run read.
    """
    for path, known in files.items():
        if not Path(path).is_file():
            raise WrongUse(f"the recording {path} (SHA-256 {known[:16]}…) of this run is gone: bring it back")
        if _hash(Path(path)) != known:
            raise WrongUse(f"{path} is not the recording that this run read (SHA-256 {known[:16]}…)")
    return recording(files, exchange, symbol)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _trades(found: RecordedTrades) -> Trades:
    """In the tape's order, each once."""
    time, number = np.array(found.time, dtype=np.int64), np.array(found.order, dtype=np.int64)
    order = np.lexsort((number, time))
    again = (np.diff(time[order]) == 0) & (np.diff(number[order]) == 0)
    kept = order[np.r_[True, ~again][: len(order)]]
    side = np.array(found.side, dtype=np.int8)
    return Trades(time[kept], np.array(found.price)[kept], np.array(found.size)[kept], side[kept])


def _depth(found: BookChanges) -> Depth:
    return Depth(
        np.array(found.time, dtype=np.int64),
        np.array(found.side, dtype=np.int8),
        *(np.array(column) for column in (found.price, found.size, found.bid, found.ask)),
    )


def _terms(instrument: Instrument) -> Terms:
    """Its steps; a lot of contracts in base units."""
    lot = instrument.lot_size and float(instrument.lot_size)
    if lot and instrument.market_type is MarketType.LINEAR:
        lot *= float(instrument.contract_size or 1)
    return Terms(
        lot=lot or None,
        tick=float(instrument.tick_size) if instrument.tick_size else None,
        min_notional=float(instrument.min_notional) if instrument.min_notional else None,
    )
