"""What the fields of a book snapshot say, by PostgreSQL's documentation of its binary COPY."""

from struct import Struct
from typing import NamedTuple

from market import BookSnapshot

_NUMBERS = Struct("!" + 8 * "id" + "iq")
_JSON = Struct("!ib")


class Said(NamedTuple):
    """As the columns of `orderbook_snapshots`."""

    best_bid: float
    best_ask: float
    mid: float
    spread: float
    spread_bps: float
    bid_volume: float
    ask_volume: float
    imbalance: float
    depth: int
    bids: bytes
    asks: bytes


def said(snapshot: BookSnapshot) -> Said:
    """What a snapshot holds."""
    fields = snapshot.fields
    numbers = _NUMBERS.unpack_from(fields)
    assert set(numbers[::2]) == {8}
    at, levels = _NUMBERS.size, list[bytes]()
    for _ in range(2):
        length, version = _JSON.unpack_from(fields, at)
        assert version == 1
        levels.append(fields[at + _JSON.size : at + 4 + length])
        at += 4 + length
    assert at == len(fields)
    return Said(*numbers[1::2], *levels)


def snapshot_of(symbol: str, timestamp: int, values: Said) -> BookSnapshot:
    """The snapshot that says so."""
    *numbers, bids, asks = values
    fields = _NUMBERS.pack(*(part for number in numbers for part in (8, number)))
    for levels in (bids, asks):
        fields += _JSON.pack(len(levels) + 1, 1) + levels
    return BookSnapshot(symbol, timestamp, values.spread_bps, values.imbalance, fields)
