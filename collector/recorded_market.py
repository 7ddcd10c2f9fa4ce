"""What recordings say of one market: its trades, and every change of its book.

The session that replays a recording drives it, so that the book is checked, stale and whole again here as it
is live, and the trades are those that a replay stores.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from collector import exchanges
from collector.book_changes import BookChanges
from collector.recording import read
from collector.replay import ReplayReport, play
from collector.session import Session, TapeBatch
from collector.stream import InstrumentStream
from market import Instrument, Side, Trade, WrongUse

_SIDES = {Side.BUY: 1, Side.SELL: -1, None: 0}


class RecordedTrades:
    """Columns of trades as they came; `side` is 1 where the taker bought, -1 where they sold, else 0."""

    def __init__(self) -> None:
        self.time, self.order = array("q"), array("q")
        self.price, self.size, self.side = array("d"), array("d"), array("b")

    def add(self, trade: Trade) -> None:
        """One more of a stream."""
        self.time.append(trade.timestamp)
        self.order.append(trade.trade_seq)
        self.price.append(trade.price)
        self.size.append(trade.size)
        self.side.append(_SIDES[trade.side])

    def extend(self, *columns: Any) -> None:
        """Many: arrays or series of time, order, price, size and side."""
        mine: tuple[array[Any], ...] = (self.time, self.order, self.price, self.size, self.side)
        for column, values in zip(mine, columns, strict=True):
            column.frombytes(np.asarray(values, dtype=column.typecode).tobytes())


@dataclass(frozen=True, slots=True)
class RecordedMarket:
    """One instrument's part of recordings.

    Attributes:
        instrument: with its steps, where the recordings hold the exchange's list.
        trades: in the order in which they came; some may have come twice.
        changes: of its book.
        notes: what is not whole in them, such as files that break off, in words.
    """

    instrument: Instrument
    trades: RecordedTrades
    changes: BookChanges
    notes: list[str]


def recorded_market(
    files: Sequence[Path],
    exchange: str,
    symbol: str,
    progress: Callable[[int], Any] = lambda _: None,
) -> RecordedMarket:
    """Read one market out of recordings of `exchange`, which are merged by time.

    Args:
        files: recordings of one session, plain or gzip.
        exchange: the exchange's id.
        symbol: the unified symbol.
        progress: called now and then with the number of messages so far.

    Raises:
        WrongUse: the exchange is unknown, a file has no readable message, or nothing of the symbol is there.
    """
    session = _OneMarket(exchanges.find(exchange), [symbol])
    trades, report = RecordedTrades(), ReplayReport()

    def keep(batch: TapeBatch) -> None:
        if rows := batch.rows.get(symbol):
            for trade, _ in rows.trades:
                trades.add(trade)
            for trade, _ in rows.late:
                trades.add(trade)

    play(read(files), session, keep, report, progress)
    if symbol not in session.streams:
        named = ", ".join(map(str, files))
        raise WrongUse(f"nothing of {symbol} on {exchange} is in {named}: is it another market's recording?")
    notes = [f"{name}; it is read up to its last whole line" for name in report.ended_early]
    return RecordedMarket(session.adapter.instrument_for(symbol), trades, session.changes, notes)


class _OneMarket(Session):
    """A session whose only book tells of its changes."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.changes = BookChanges()

    def stream(self, symbol: str) -> InstrumentStream:
        """As any session's."""
        found = super().stream(symbol)
        found.book.changes = self.changes
        return found
