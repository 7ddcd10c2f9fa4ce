"""Every change of one order book, a row each: what a backtest estimates places in queues from. Pure."""

from array import array
from math import inf

from collector.exchanges.events import BookDelta
from market import OrderBook
from market.levels import numbers

Row = tuple[int, float, float]
"""Side, price, size."""


class BookChanges:
    """Columns, as a day of a busy market has tens of millions of changes.

    `side` is 1 of a bid and -1 of an ask, whose level at `price` holds `size` from `time` on (microseconds
    UTC); 2 and -2 say that the bids or asks are shown as deep as `price` from then on, and 0 that the book is
    whole (size 1) or not known any more (size 0). `bid` and `ask` are the best prices after all changes of
    that message, 0 where there is none.
    """

    def __init__(self) -> None:
        self.time, self.side = array("q"), array("b")
        self.price, self.size, self.bid, self.ask = (array("d") for _ in range(4))
        self._known: tuple[dict[float, float], dict[float, float]] = ({}, {})
        self._deepest = [0.0, 0.0]
        self._is_whole = False
        self._is_due = False

    def __len__(self) -> int:
        return len(self.time)

    def whole(self, book: OrderBook, time: int | None) -> None:
        """The book is known from `time` on; where that is not said, from the next change on."""
        self._is_due = time is None
        if time is None:
            return
        rows: list[Row] = []
        for sign, known in self._sides:
            levels = dict(book.side(is_bid=sign > 0))
            gone = [(sign, price, 0.0) for price in known if price not in levels]
            new = [(sign, price, size) for price, size in levels.items() if known.get(price) != size]
            rows += gone + new
        self._write(book, time, rows)
        if not self._is_whole:
            self._is_whole = True
            self._add(time, [(0, 0.0, 1.0)], book)

    def changed(self, book: OrderBook, event: BookDelta, time: int) -> None:
        """The levels that `event` names have changed at `time`, and those that the book dropped are gone."""
        if self._is_due:
            self.whole(book, time)
            return
        rows: list[Row] = []
        for (sign, _), named in zip(self._sides, (event.bids, event.asks), strict=True):
            rows += [(sign, price, book.size_at(price, is_bid=sign > 0)) for price, _ in numbers(named)]
        self._write(book, time, rows)
        for sign, known in self._sides:
            is_bid = sign > 0
            if len(known) > book.count(is_bid=is_bid):
                gone = [price for price in known if not book.size_at(price, is_bid=is_bid)]
                self._write(book, time, [(sign, price, 0.0) for price in gone])

    def stale(self, time: int) -> None:
        """What is known of the book at `time` may not be true after it."""
        self._is_due = False
        if self._is_whole:
            self._is_whole = False
            self._add(time, [(0, 0.0, 0.0)], OrderBook())

    @property
    def _sides(self) -> list[tuple[int, dict[float, float]]]:
        return [(1, self._known[0]), (-1, self._known[1])]

    def _write(self, book: OrderBook, time: int, rows: list[Row]) -> None:
        """First how deep the book is shown, so that a level which leaves its sight is not taken for empty."""
        deepest = [book.deepest(is_bid=True) or inf, book.deepest(is_bid=False) or -inf]
        shown = [
            (sign, price, 0.0)
            for sign, price, before in zip((2, -2), deepest, self._deepest, strict=True)
            if price != before
        ]
        self._deepest = deepest
        for sign, price, size in rows:
            known = self._known[sign < 0]
            if size:
                known[price] = size
            else:
                known.pop(price, None)
        if shown or rows:
            self._add(time, [*shown, *rows], book)

    def _add(self, time: int, rows: list[Row], book: OrderBook) -> None:
        side, price, size = zip(*rows, strict=True)
        count = len(rows)
        self.time.extend([time] * count)
        self.side.extend(side)
        self.price.extend(price)
        self.size.extend(size)
        # Looked up once for all rows of a message.
        self.bid.extend([book.best_bid or 0.0] * count)
        self.ask.extend([book.best_ask or 0.0] * count)
