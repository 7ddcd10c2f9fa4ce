"""How OKX's book is sequenced, and the checksum that it had until 2026.

Source: https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-order-book-channel, November 2026.
"""

from itertools import zip_longest
from zlib import crc32

from collector.exchanges.adapter import BookSequence
from collector.exchanges.events import BookDelta, BookReset
from collector.exchanges.okx_messages import in_contracts
from market import OrderBook

CHECKSUM_DEPTH = 25


def book_checksum(book: OrderBook, contract: str | None = None) -> int:
    """Signed CRC32 over the best 25 bids and asks by turns, each `price:size` as sent, joined by colons.

    `contract` is what the sizes were multiplied with, None where they stand as sent.
    """
    bids, asks = book.top(CHECKSUM_DEPTH)
    texts = [
        f"{level[0]}:{in_contracts(level[1], contract)}"
        for pair in zip_longest(bids, asks)
        for level in pair
        if level is not None
    ]
    unsigned = crc32(":".join(texts).encode())
    return unsigned - 2**32 if unsigned >= 2**31 else unsigned


class OkxBook(BookSequence):
    """`prevSeqId` names the last `seqId`. Old recordings have no ids: there the checksums tell."""

    def __init__(self, contract: str | None) -> None:
        self._contract = contract
        self._is_known = False
        self._last: int | None = None
        self._time = 0

    def reset(self, event: BookReset) -> None:
        """Go on from the snapshot's `seqId`."""
        self._is_known = True
        self._last = event.sequence
        self._time = event.timestamp or 0

    def follows(self, event: BookDelta) -> bool | None:
        """Whether it names the last id; None for one of before that came again.

        The new id may equal the old one (nothing changed) and, after maintenance, be below it.
        """
        if not self._is_known:
            return False
        time = event.timestamp or 0
        if self._last is not None and event.first_sequence != self._last:
            is_old = event.last_sequence is not None and event.last_sequence <= self._last
            return None if is_old and time <= self._time else False
        self._last = event.last_sequence
        self._time = time
        return True

    def check(self, event: BookDelta | BookReset, book: OrderBook) -> bool | None:
        """Compare, where there is a checksum."""
        if event.checksum is None:
            return None
        return book_checksum(book, self._contract) == int(event.checksum)
