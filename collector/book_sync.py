"""One instrument's order book, kept in step with the exchange. Pure: no I/O, no clock.

A book is live from a whole book on, as long as every change follows from it, checksums match and it is
not crossed. Otherwise it is stale at once: it gives no snapshots until a new whole book comes.
"""

from collections import deque
from typing import TYPE_CHECKING

from msgspec import Struct

from collector.exchanges.adapter import BookRule, BookSequence
from collector.exchanges.events import BookDelta, BookReset
from market import MICROSECONDS, BookSnapshot, OrderBook

if TYPE_CHECKING:
    from collector.book_changes import BookChanges

MAX_BUFFERED_DELTAS = 20_000
"""Changes held while a whole book is awaited; beyond it the oldest go, and the book is asked for again."""


class BookBreak(Struct, frozen=True):
    """The book was stale in [from_timestamp, to_timestamp), because of `cause`."""

    from_timestamp: int
    to_timestamp: int
    cause: str


class BookSync:
    """The book of one instrument and the snapshots that come of it, one each whole second."""

    def __init__(self, symbol: str, rule: BookRule, sequence: BookSequence) -> None:
        self.symbol = symbol
        self.wants_book = False
        """Whether a whole book must be asked for; whoever asks sets it False."""
        self.checksums = 0
        self.breaks: list[BookBreak] = []
        """Breaks that have ended; whoever takes them clears the list."""
        self.time = 0
        """The time of the last message that was applied."""
        self.changes: BookChanges | None = None
        """Who is told of every change; nobody where only snapshots are wanted."""
        self._rule = rule
        self._sequence = sequence
        self._book = OrderBook()
        self._is_live = False
        self.next_second: int | None = None
        """Of which the next snapshot is, where the book is live."""
        self._not_before = 0
        self._last_sequence: int | None = None
        self._broken: tuple[int, str] | None = None
        self._doubt: tuple[int, str] | None = None
        self._buffer: deque[BookDelta] = deque(maxlen=MAX_BUFFERED_DELTAS)

    @property
    def is_live(self) -> bool:
        """Whether the book is in step with the exchange."""
        return self._is_live

    def begin_after(self, timestamp: int) -> None:
        """Snapshots up to `timestamp` were given out, or are wanted no more: give none of them."""
        self._not_before = max(self._not_before, timestamp)
        if self.next_second is not None and self.next_second <= timestamp:
            self.next_second = timestamp - timestamp % MICROSECONDS + MICROSECONDS

    def reset(self, event: BookReset, time: int) -> list[BookSnapshot]:
        """Start from a whole book, then apply the changes that were held back for it.

        Where the book is live, it goes on from second to second; one that is older than it changes nothing.

        Args:
            event: the whole book.
            time: the stream's time; the book is known from then on.

        Returns:
            the snapshots that became due.
        """
        if self._is_live and event.timestamp is not None and event.timestamp < self.time:
            return []
        snapshots = self.settle(event.timestamp) if event.timestamp is not None else []
        if self._doubt is not None:
            self.stop(self._doubt[1])
        if self._is_live and self.next_second is not None:
            self.time = max(self.time, event.timestamp or 0)
        else:
            self._not_before = max(self._not_before, self.next_second or 0, time)
            # A whole book that names no time is known from the first change on.
            self.next_second = None
            if event.timestamp is not None:
                self._begin(event.timestamp)
        self._book.replace(event.bids, event.asks)
        self._sequence.reset(event)
        self._last_sequence = event.sequence
        self._is_live = True
        self.wants_book = False
        if not self._matches(event):
            return snapshots
        if self.changes is not None:
            self.changes.whole(self._book, None if event.timestamp is None else self.time)
        broken = self._broken
        held, self._buffer = self._buffer, deque(maxlen=MAX_BUFFERED_DELTAS)
        while held and self._is_live:
            snapshots += self.delta(held.popleft())
        # Changes that do not follow from this book wait for the next one.
        self._buffer.extend(held)
        if not self._is_live:
            self._broken = broken
        elif broken is not None:
            since, cause = broken
            self.breaks.append(BookBreak(since, max(since, self.time), cause))
            self._broken = None
        return snapshots

    def delta(self, event: BookDelta) -> list[BookSnapshot]:
        """Apply a change, or hold it back while a whole book is awaited; the snapshots due before it."""
        if not self._is_live:
            if self._rule == "rest_snapshot":
                self.wants_book = self.wants_book or not self._buffer
                self._buffer.append(event)
            return []
        follows = self._sequence.follows(event)
        if follows is None:
            return []
        if not follows:
            self.stop("sequence")
            return self.delta(event)
        time = self.time if event.timestamp is None else event.timestamp
        self._doubt = None
        snapshots: list[BookSnapshot] = []
        if self.next_second is None:
            if event.timestamp is not None:
                self._begin(time)
        elif self.next_second <= time:
            snapshots = self.settle(time)
        self._book.apply(event.bids, event.asks)
        self._last_sequence = event.last_sequence
        if self._matches(event) and self._book.is_crossed:
            self.stop("crossed")
        if not self.is_live:
            # What is wrong now may have been since the message before.
            return []
        if time > self.time:
            self.time = time
        if self.changes is not None:
            self.changes.changed(self._book, event, self.time)
        return snapshots

    def _matches(self, event: BookDelta | BookReset) -> bool:
        """Whether the book has the checksum that came with the event, if one did; else it is stale."""
        matches = self._sequence.check(event, self._book)
        if matches is None:
            return True
        self.checksums += matches
        if not matches:
            self.stop("checksum")
        return matches

    def settle(self, time: int) -> list[BookSnapshot]:
        """The snapshots of the seconds up to `time`, inclusive, that no later change can alter."""
        snapshots: list[BookSnapshot] = []
        if not self._is_live or self.next_second is None:
            return snapshots
        if self._doubt is not None:
            time = min(time, self._doubt[0])
        while self.next_second <= time:
            snapshot = self._book.snapshot(self.symbol, self.next_second, self._last_sequence)
            if snapshot is not None:
                snapshots.append(snapshot)
            self.next_second += MICROSECONDS
        return snapshots

    def _begin(self, time: int) -> None:
        """The book is known from `time` on; seconds that were given out, or closed over, stay as they are."""
        self.time = max(self.time, time)
        time = max(time, self._not_before)
        self.next_second = time - time % MICROSECONDS + MICROSECONDS

    def doubt(self, cause: str) -> None:
        """The book may have changed unseen: no snapshots until the next change.

        If that one follows, nothing was missed. Where it cannot tell, a message that nobody could read
        ("rejected") makes the book stale, and a silence means that nothing changed.
        """
        if self._is_live and self._sequence.shows_loss:
            self._doubt = self._doubt or (self.time, cause)
        elif self._is_live and cause == "rejected":
            self.stop(cause)

    def stop(self, cause: str) -> None:
        """The book is stale from now on, because of `cause`; a new whole book is wanted."""
        if self._is_live:
            self._is_live = False
            if self.changes is not None:
                self.changes.stale(self.time)
            self._broken = self._broken or (self.time, cause)
            self._doubt = None
        self.wants_book = True
        self._buffer.clear()
