"""The best levels of a simulated book, for protocols that keep a book of so many levels a side."""

from collections.abc import Iterator

from collector.simulator.book import DEPTH, BookChange, BookState, Levels, SimulatedBook


class BookView:
    """The best `depth` levels a side, and what changes among them from one second to the next.

    Args:
        book: the whole book.
        depth: levels a side.
        says_what_falls_out: whether a level that still exists, but no longer among the best, is said to be
            gone (Bybit); else who follows must cut the book (Kraken).
    """

    def __init__(self, book: SimulatedBook, depth: int, *, says_what_falls_out: bool) -> None:
        self._book = book
        self._depth = depth
        self._says_what_falls_out = says_what_falls_out

    def state(self, second: int) -> BookState:
        """The best levels at `second` (since 1970)."""
        state = self._book.state(second)
        bids, asks = state.bids[: self._depth], state.asks[: self._depth]
        return BookState(second, state.update_id, bids, asks)

    def changes(self, block: int) -> Iterator[BookChange]:
        """The change of each of the seconds `block * 600` … `block * 600 + 599`, in order."""
        changes = self._book.changes(block)
        return changes if self._depth >= DEPTH else map(self._cut, changes)

    def _cut(self, change: BookChange) -> BookChange:
        before, after = self._book.state(change.second - 1), self._book.state(change.second)
        bids, asks = self._side(before.bids, after.bids), self._side(before.asks, after.asks)
        return BookChange(change.second, change.first_id, change.last_id, bids, asks)

    def _side(self, before: Levels, after: Levels) -> Levels:
        known, now = dict(before[: self._depth]), dict(after[: self._depth])
        kept = now if self._says_what_falls_out else dict(after)
        gone = [(price, 0) for price in known if price not in kept]
        return gone + [(price, size) for price, size in now.items() if known.get(price) != size]
