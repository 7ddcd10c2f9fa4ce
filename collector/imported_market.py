"""What files of trades and of book changes say of one market: the same as recordings do.

The rows that came at one time are one message of the exchange, and go through the same book that live
messages go through: it is whole from a snapshot on, and not known from where it crosses to the next one.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from msgspec import structs

from collector import exchanges
from collector.book_changes import BookChanges
from collector.book_sync import BookSync
from collector.exchanges.adapter import Adapter, BookSequence
from collector.exchanges.events import BookDelta, BookReset
from collector.imports import formats
from collector.imports.load import MILLISECONDS
from collector.imports.source import EndedEarly, Hints, Source
from collector.recorded_market import RecordedMarket, RecordedTrades
from market import Timeframe, WrongUse
from market.timeframe import format_time

Integers = npt.NDArray[np.int64]
_NO_SNAPSHOTS = 2**62
"""A time that no book comes to: the changes are wanted, not what the book is each second."""
_LEVEL = 16
"""Bytes of a price and a size."""
_FILES = "a file of its changes (columns timestamp, side, price, amount, is_snapshot) and one of its trades"


def imported_market(
    files: Sequence[Path],
    exchange: str,
    symbol: str,
    progress: Callable[[int], Any] = lambda _: None,
) -> RecordedMarket:
    """Read one market out of files of trades and of book changes, part by part.

    Args:
        files: tables of any format that `deltatape import` knows, of each kind in the order of time.
        exchange: the exchange's id.
        symbol: the unified symbol.
        progress: called now and then with the number of rows so far.

    Raises:
        WrongUse: the exchange is unknown; a file cannot be understood, is of another market, has a row that
            cannot be one or whose time goes back, or begins without a snapshot; or one of the kinds is not
            there.
    """
    market = _Market(exchanges.find(exchange), symbol, progress)
    for path in files:
        source = formats.find(path, None, Hints(timeframe=Timeframe.M1), lambda _: None)
        if source.kind == "candles":
            raise WrongUse(f"{path.name} holds candles: give {_FILES}")
        if source.exchange not in (None, exchange):
            raise WrongUse(f"{path.name} is of {source.exchange}, not of {exchange}: say --exchange")
        market.read(source)
    market.end()
    for kind, found in (("trade", len(market.trades.time)), ("change of the book", len(market.changes))):
        if not found:
            others = f" ({', '.join(sorted(market.others))} is)" if market.others else ""
            raise WrongUse(f"no {kind} of {symbol} is in {', '.join(map(str, files))}{others}: give {_FILES}")
    instrument = structs.replace(market.instrument, tick_size=_tick(market.changes.price))
    return RecordedMarket(instrument, market.trades, market.changes, market.notes)


class _EachFollows(BookSequence):
    """Files number no changes."""

    def reset(self, event: BookReset) -> None:
        """Nothing is remembered."""

    def follows(self, event: BookDelta) -> bool | None:
        """Always."""
        return True


class _Market:
    """What is known of one market so far."""

    def __init__(self, adapter: Adapter, symbol: str, progress: Callable[[int], Any]) -> None:
        self.instrument = adapter.instrument_for(symbol)
        self.trades, self.changes = RecordedTrades(), BookChanges()
        self.others = set[str]()
        """Whose the rows are that were passed over, as the files say it."""
        self._ended_early: list[str] = []
        self._adapter = adapter
        self._progress = progress
        self._rows = 0
        self._came = {"trades": 0, "changes": 0}
        self._sync = BookSync(symbol, "stream_snapshot", _EachFollows())
        self._sync.changes = self.changes
        self._sync.begin_after(_NO_SNAPSHOTS)
        self._crossed: list[str] = []

    @property
    def notes(self) -> list[str]:
        """What is not whole in the files, in words."""
        if not self._crossed:
            return self._ended_early
        times = f"{len(self._crossed):,} times, the first at" if len(self._crossed) > 1 else "at"
        unknown = "it is not known from there to its next snapshot"
        return [*self._ended_early, f"the book crosses itself {times} {self._crossed[0]}: {unknown}"]

    def read(self, source: Source) -> None:
        """One more file."""
        if source.kind == "trades":
            for rows in self._checked(source):
                self._add_trades(rows)
        else:
            for rows in _whole_messages(self._checked(source)):
                self._add_changes(source.path, rows)

    def end(self) -> None:
        """Nothing is known of the book after the last file, as after a recording."""
        self._sync.stop("ended")

    def _checked(self, source: Source) -> Iterator[pl.DataFrame]:
        """The rows of this instrument, in the order in which they came."""
        name = source.path.name
        try:
            for batch in source.batches:
                names = batch["symbol"].unique().to_list()
                strange = [each for each in names if each is not None and not self._is_mine(each)]
                self.others.update(strange)
                rows = batch.filter(~pl.col("symbol").is_in(strange).fill_null(False)) if strange else batch
                if rows.is_empty():
                    continue
                wrong = rows.filter(pl.col("reason").is_not_null())
                if not wrong.is_empty():
                    line, reason = wrong["line"][0], wrong["reason"][0]
                    raise WrongUse(f"{name} line {line}: {reason}: mend the row, or leave the file out")
                came = rows["received"].fill_null(rows["timestamp"]).to_numpy()
                before = np.r_[self._came[source.kind], came[:-1]]
                if (back := came < before).any():
                    line = rows["line"][int(np.argmax(back))]
                    raise WrongUse(
                        f"{name} line {line}: the time goes back: sort the rows by when they came, and give"
                        " files in the order of time"
                    )
                self._came[source.kind] = int(came[-1])
                self._rows += rows.height
                self._progress(self._rows)
                yield rows
        except EndedEarly as error:
            self._ended_early.append(f"{name}: {error}; it is read up to there")

    def _is_mine(self, name: str) -> bool:
        """Whether a file that says so means the instrument."""
        if name == self.instrument.symbol or name.upper() == self.instrument.exchange_symbol.upper():
            return True
        found = self._adapter.by_rule(name)
        return found is not None and found.symbol == self.instrument.symbol

    def _time(self, rows: pl.DataFrame) -> pl.Series:
        """The exchange's, as its own feed has it."""
        time = rows["timestamp"]
        return time - time % 1000 if self.instrument.exchange in MILLISECONDS else time

    def _add_trades(self, rows: pl.DataFrame) -> None:
        side = rows["side"].replace_strict({"buy": 1, "sell": -1}, default=0, return_dtype=pl.Int8)
        known = len(self.trades.time)
        order = np.arange(known, known + rows.height, dtype=np.int64)
        self.trades.extend(self._time(rows), order, rows["price"], rows["size"], side)

    def _add_changes(self, path: Path, rows: pl.DataFrame) -> None:
        """Message by message, and each at the latest time so far, as those of a recording."""
        sync = self._sync
        time, is_snapshot = self._time(rows).to_list(), rows["is_snapshot"].to_list()
        begins = _begins(rows)
        # Within a message first its bids: packed as the book takes them.
        is_bid = (rows["side"] == 1).to_numpy()
        message = np.repeat(np.arange(len(begins)), np.diff([*begins, rows.height]))
        levels = rows.select("price", "size").to_numpy()[np.lexsort((~is_bid, message))].tobytes()
        middles = begins + np.add.reduceat(is_bid, begins, dtype=np.int64)
        ends = [*begins[1:].tolist(), rows.height]
        for begin, middle, end in zip(begins.tolist(), middles.tolist(), ends, strict=True):
            bids, asks = (levels[_LEVEL * at : _LEVEL * to] for at, to in ((begin, middle), (middle, end)))
            now = max(sync.time, time[end - 1])
            if is_snapshot[begin]:
                sync.reset(BookReset(sync.symbol, now, bids, asks), now)
                continue
            was_live = sync.is_live
            if not was_live and not self.changes:
                raise WrongUse(
                    f"{path.name} line {rows['line'][begin]}: the book begins without a snapshot (is_snapshot"
                    " true): begin with a file that has one"
                )
            sync.delta(BookDelta(sync.symbol, now, bids, asks))
            if was_live and not sync.is_live:
                self._crossed.append(f"{path.name} line {rows['line'][begin]} ({format_time(now)})")


def _tick(prices: Sequence[float]) -> str:
    """The step of prices that are written with so many decimals: an order between them has no queue."""
    found = np.unique(np.asarray(prices))
    digits = next(count for count in range(16) if count == 15 or (np.round(found, count) == found).all())
    return f"{10.0**-digits:.{digits}f}"


def _whole_messages(batches: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The same rows, parted where a message ends."""
    held: pl.DataFrame | None = None
    for batch in batches:
        rows = batch if held is None else pl.concat([held, batch])
        last = int(_begins(rows)[-1])
        if last:
            yield rows[:last]
        held = rows[last:]
    if held is not None:
        yield held


def _begins(rows: pl.DataFrame) -> Integers:
    """Where each message begins: a snapshot is one, else what came at one time."""
    is_snapshot, came = rows["is_snapshot"].to_numpy(), rows["received"].to_numpy()
    is_new = (is_snapshot[1:] != is_snapshot[:-1]) | (~is_snapshot[1:] & (came[1:] != came[:-1]))
    return np.flatnonzero(np.r_[True, is_new])
