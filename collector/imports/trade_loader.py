"""Imported trades of one instrument onto the tape: in groups that end with a day, with their coverage."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from collector.stream import LEAP
from market import Instrument, Trade
from market.timeframe import DAY, to_datetime
from storage.amend import amend, lock_tapes
from storage.coverage import Proof, Span, spans
from storage.database import Connection
from storage.ledger import add_gap
from storage.rebuild import rebuild

MAX_GROUP = 200_000
"""Trades that one transaction takes at most."""
GOOD_GROUP = 20_000
GOOD_DAYS = 7
"""A group of so many trades, or days, ends with its day: each day is rebuilt once, no rebuild is endless."""


class _Break(NamedTuple):
    """Between two trades of a file something is missing."""

    before: Trade
    after: Trade
    cause: str


class TradeLoader:
    """Writes one instrument's trades in the order of its files.

    What lies between two trades of a file is whole (proof `file`), unless a row between them was refused;
    so long a silence as nobody wants quiet candles of is left uncovered.
    Where ids are consecutive they alone prove it (proof `ids`), from file to file too; an id that is missing
    inside a file is a hole, unless the tape knows better.
    """

    def __init__(self, connection: Connection, instrument: Instrument, *, has_consecutive_ids: bool) -> None:
        self.written = 0
        self.holes = 0
        self._connection = connection
        self._exchange, self._symbol = instrument.exchange, instrument.symbol
        self._has_ids = has_consecutive_ids
        self._group: list[Trade] = []
        self._received: list[int | None] = []
        self._after_refused: set[str] = set()
        self._low: Trade | None = None
        self._high: Trade | None = None
        self._is_new_file = False

    def begin_file(self) -> None:
        """What comes now is of another file: nothing but ids says that it goes on with the last one."""
        self.flush()
        self._is_new_file = True
        if not self._has_ids:
            self._low = self._high = None

    def add(self, trade: Trade, received: int | None, *, is_after_refused: bool) -> None:
        """Take the next trade of the file; `is_after_refused`: something before it could not be read."""
        if self._group:
            days = abs(trade.timestamp // DAY - self._group[0].timestamp // DAY)
            is_new_day = trade.timestamp // DAY != self._group[-1].timestamp // DAY
            is_good = len(self._group) >= GOOD_GROUP or days >= GOOD_DAYS
            if len(self._group) >= MAX_GROUP or (is_new_day and is_good):
                self.flush()
        self._group.append(trade)
        self._received.append(received)
        if is_after_refused:
            self._after_refused.add(trade.trade_id)

    def flush(self) -> None:
        """Write what is held back, in a transaction of its own."""
        if not self._group:
            return
        chain = self._chain()
        with self._connection.transaction():
            lock_tapes(self._connection, self._exchange, [self._symbol])
            found, holes = self._judge(chain)
            self.written += amend(
                self._connection,
                self._exchange,
                self._symbol,
                self._group,
                self._received,
                found,
                "import",
            )
            for hole in holes:
                self._record(hole)
        inner = [trade for trade in (self._low, self._high) if trade is not None]
        self._low = min([*inner, chain[0]], key=self._place)
        self._high = max([*inner, chain[-1]], key=self._place)
        self._group, self._received, self._after_refused = [], [], set()
        self._is_new_file = False

    def _place(self, trade: Trade) -> tuple[int, int]:
        return (trade.trade_seq, 0) if self._has_ids else trade.order

    def _chain(self) -> list[Trade]:
        """The group's trades, each once, in the order in which they follow from each other."""
        return sorted({trade.trade_id: trade for trade in self._group}.values(), key=self._place)

    def _judge(self, chain: Sequence[Trade]) -> tuple[list[Span], list[_Break]]:
        """What the group proves to be whole, together with what came before it, and its holes."""
        low, high = self._low, self._high
        found: list[Span] = []
        holes: list[_Break] = []
        first, begin = chain[0], chain[0].timestamp
        if high is not None and self._place(high) < self._place(chain[0]):
            cause = self._missing(high, chain[0])
            if cause is None:
                if chain[0].timestamp - high.timestamp <= LEAP:
                    begin = high.timestamp + 1
            elif not self._is_new_file:
                holes.append(_Break(high, chain[0], cause))
        for before, after in pairwise(chain):
            cause = self._missing(before, after)
            if cause is not None:
                holes.append(_Break(before, after, cause))
            if cause is not None or after.timestamp - before.timestamp > LEAP:
                found.append(self._span(begin, before.timestamp + 1, first, before))
                first, begin = after, after.timestamp
        end = max(trade.timestamp for trade in chain) + 1 if not (holes or found) else chain[-1].timestamp + 1
        if low is not None and self._place(chain[-1]) < self._place(low):
            cause = self._missing(chain[-1], low)
            if cause is None:
                if low.timestamp - end <= LEAP:
                    end = max(end, low.timestamp)
            elif not self._is_new_file:
                holes.append(_Break(chain[-1], low, cause))
        found.append(self._span(begin, end, first, chain[-1]))
        return found, holes

    def _span(self, begin: int, end: int, first: Trade, last: Trade) -> Span:
        proof: Proof = "ids" if self._has_ids else "file"
        return Span(begin, end, first.trade_id, last.trade_id, proof, "import", 0)

    def _missing(self, before: Trade, after: Trade) -> str | None:
        """Why `after` does not follow from `before`; None if it does."""
        if not self._has_ids:
            return "row_refused" if after.trade_id in self._after_refused else None
        if after.trade_seq == before.trade_seq + 1 or self._is_known(before, after):
            return None
        return "ids_missing"

    def _is_known(self, before: Trade, after: Trade) -> bool:
        """Whether the tape proves what the file does not: it is covered, or the missing trades are there."""
        begin, end = min(before.timestamp + 1, after.timestamp), after.timestamp
        covered = spans(self._connection, self._exchange, self._symbol, "trades")
        if begin < end and any(s.from_timestamp <= begin and end <= s.to_timestamp for s in covered):
            return True
        row = self._connection.execute(
            """
            SELECT count(DISTINCT trade_seq) FROM trades
            WHERE exchange = %s AND symbol = %s AND timestamp BETWEEN %s AND %s
                AND trade_seq BETWEEN %s AND %s
            """,
            (
                self._exchange,
                self._symbol,
                to_datetime(before.timestamp),
                to_datetime(max(before.timestamp, end)),
                before.trade_seq + 1,
                after.trade_seq - 1,
            ),
        ).fetchone()
        return row is not None and int(row[0]) == after.trade_seq - before.trade_seq - 1

    def _record(self, hole: _Break) -> None:
        begin, end = min(hole.before.timestamp + 1, hole.after.timestamp), hole.after.timestamp
        ids = self._has_ids
        self.holes += 1
        is_taken_back = add_gap(
            self._connection,
            self._exchange,
            self._symbol,
            "trades",
            begin,
            end,
            cause=hole.cause,
            status="confirmed",
            proof="ids" if ids else "file",
            from_id=str(hole.before.trade_seq + 1) if ids else None,
            to_id=str(hole.after.trade_seq - 1) if ids else None,
            missing_count=hole.after.trade_seq - hole.before.trade_seq - 1 if ids else None,
            note="not in an imported file",
        )
        if is_taken_back:
            rebuild(self._connection, self._exchange, self._symbol, begin, end, "import")
