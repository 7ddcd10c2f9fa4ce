"""Everything that happens to one or several instruments, merged into one order of time.

At one instant: closes, funding, signals, books, trades, changes of books, opens, delistings; within each by
instrument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from backtest.batch import Candles, Floats, Integers, Signals
from backtest.state import (
    AT_CLOSE,
    BOOK,
    CANDLE,
    CLOSE,
    DELISTED,
    DEPTH,
    FUNDING,
    LEVEL,
    LOWER_TIMEFRAME,
    MAX_LEVELS,
    OPEN,
    SIGNAL,
    TRADE,
)
from market.errors import WrongUse

if TYPE_CHECKING:
    from collections.abc import Sequence


class Trades(NamedTuple):
    """Trades in the tape's order: times in µs, prices, sizes, and where known who took.

    `side` is 1 where the taker bought, -1 where they sold, 0 where nobody says; it may be empty.
    """

    timestamp: Integers
    price: Floats
    size: Floats
    side: Sides = np.empty(0, dtype=np.int8)


class Books(NamedTuple):
    """Snapshots: times in µs, and of each side `[snapshot, 0 price | 1 size, level]`, the best first.

    Levels beyond the 20th are not looked at; where a side has fewer, their sizes are 0.
    """

    timestamp: Integers
    bids: Floats
    asks: Floats


class Depth(NamedTuple):
    """Every change of an order book: times in µs, sides, prices, and what their levels hold from then on.

    `side` is 1 of a bid and -1 of an ask; 2 and -2 name the deepest price that the bids or asks show from
    then on; 0 says that the book is whole (size 1), or not known any more (size 0). `bid` and `ask` are the
    best prices once all changes of that time are made, 0 where there is none.
    """

    timestamp: Integers
    side: Sides
    price: Floats
    size: Floats
    bid: Floats
    ask: Floats


class Funding(NamedTuple):
    """Funding: times in µs, rates, and mark prices (0 where they are not known)."""

    timestamp: Integers
    rate: Floats
    mark: Floats


@dataclass(frozen=True, slots=True)
class Feed:
    """What happens to one instrument.

    Attributes:
        candles: closed ones, or None: then trades or books alone make its market.
        signals: changes of type at the closes of its candles.
        confidence: of each of the signals, 0 … 100.
        at: times of signals that belong to no candle; then `signals.candle` is not looked at.
        trades: real trades. Where there are candles, those of a candle decide what happens inside it if
            they reach its high and low; the others are left out.
        finer: candles of a shorter timeframe, likewise for candles without such trades.
        books: snapshots.
        depth: every change of its book: what a place in a queue is estimated from.
        funding: of linear contracts.
        delisted: when it ends, µs.
        only_marks: the candles are made of the trades, all of which are events: a close only marks, and
            nothing fills at an open, which is known when its trade is.
    """

    candles: Candles | None = None
    signals: Signals | None = None
    confidence: Floats | None = None
    at: Integers | None = None
    trades: Trades | None = None
    finer: Candles | None = None
    books: Books | None = None
    depth: Depth | None = None
    funding: Funding | None = None
    delisted: int | None = None
    only_marks: bool = False


class Tape(NamedTuple):
    """The merged events, a column for each field of `backtest.state.Event`.

    `book` is the place of a BOOK's levels in `bids` and `asks`. `levels` are the places of DEPTH events that
    name a level's size, by instrument, side and price, of one level in the order of time.
    """

    kind: npt.NDArray[np.int8]
    instrument: npt.NDArray[np.int16]
    timestamp: Integers
    start: Integers
    price: Floats
    high: Floats
    low: Floats
    size: Floats
    signal: npt.NDArray[np.int8]
    source: npt.NDArray[np.int8]
    book: npt.NDArray[np.int32]
    bids: Floats
    asks: Floats
    levels: Integers


Sides = npt.NDArray[np.int8]
Flags = npt.NDArray[np.bool_]
_Chunk = dict[str, Any]
_COLUMNS = {
    "kind": np.int8,
    "instrument": np.int16,
    "timestamp": np.int64,
    "start": np.int64,
    "price": np.float64,
    "high": np.float64,
    "low": np.float64,
    "size": np.float64,
    "signal": np.int8,
    "source": np.int8,
    "book": np.int32,
}


def merge(feeds: Sequence[Feed]) -> Tape:
    """One tape of feeds in the order of their symbols; that order is the instruments' numbers.

    Raises:
        WrongUse: nothing happens, or times go back within a feed.
    """
    chunks: list[_Chunk] = []
    bids, asks = [np.zeros((0, 2, MAX_LEVELS))], [np.zeros((0, 2, MAX_LEVELS))]
    for number, feed in enumerate(feeds):
        count = sum(map(len, bids))
        chunks += [_chunk(number, **columns) for columns in _events(feed, count)]
        if feed.books is not None:
            bids.append(_levels(feed.books.bids))
            asks.append(_levels(feed.books.asks))
    chunks = [chunk for chunk in chunks if len(chunk["timestamp"])]
    if not chunks:
        raise WrongUse("nothing happens on this tape: give it candles, trades or books")
    if len(chunks) == 1:
        columns = chunks[0]
    else:
        columns = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in _COLUMNS}
        # Stable: what has the same place stays in the feed's own order.
        order = np.lexsort((columns["instrument"], columns["kind"], columns["timestamp"]))
        columns = {name: column[order] for name, column in columns.items()}
    levels = _by_level(columns)
    return Tape(**columns, bids=np.concatenate(bids), asks=np.concatenate(asks), levels=levels)


def _by_level(columns: _Chunk) -> Integers:
    place = np.flatnonzero((columns["kind"] == DEPTH) & (np.abs(columns["signal"]) == LEVEL))
    keys = (columns[name][place] for name in ("price", "signal", "instrument"))
    # Stable: of one level in the order of time.
    return place[np.lexsort(tuple(keys))]


def _chunk(number: int, **given: Any) -> _Chunk:
    """Columns of one kind of event; what is not given is the price, the timestamp or 0."""
    time = np.ascontiguousarray(given["timestamp"], dtype=np.int64)
    if np.any(np.diff(time) < 0):
        raise WrongUse("the times of a feed must not go back")
    price = np.ascontiguousarray(given.get("price", np.zeros(len(time))), dtype=np.float64)
    columns: _Chunk = {"timestamp": time, "price": price}
    defaults: dict[str, Any] = {"start": time, "high": price, "low": price, "instrument": number}
    for name, kind in _COLUMNS.items():
        if name in columns:
            continue
        value = given.get(name, defaults.get(name, 0))
        if np.ndim(value) == 0:
            value = np.full(len(time), value, dtype=kind)
        columns[name] = np.ascontiguousarray(value, dtype=kind)
    return columns


def _events(feed: Feed, books: int) -> list[_Chunk]:
    """The feed's columns; finer closes before those of the candles that they are inside, opens after."""
    chunks: list[_Chunk] = []
    opens: list[_Chunk] = []
    trades = feed.trades
    if feed.candles is not None and feed.only_marks:
        chunks.append(_closes(feed.candles, AT_CLOSE))
    elif feed.candles is not None:
        main, inside = feed.candles, np.zeros(len(feed.candles.timestamp), dtype=np.bool_)
        if trades is not None:
            inside = _reached(main, trades.timestamp, trades.price, trades.price)
            kept = inside[_places(main, trades.timestamp)] & _within(main, trades.timestamp)
            side = trades.side[kept] if len(trades.side) else trades.side
            trades = Trades(trades.timestamp[kept], trades.price[kept], trades.size[kept], side)
        if feed.finer is not None:
            finer, fine = feed.finer, _covered(main, feed.finer) & ~inside
            kept = fine[_places(main, finer.timestamp)] & _within(main, finer.timestamp)
            finer = _kept(finer, kept)
            chunks.append(_closes(finer, LOWER_TIMEFRAME))
            opens.append(_opens(finer, LOWER_TIMEFRAME))
            inside |= fine
        chunks.append(_closes(main, np.where(inside, AT_CLOSE, CANDLE)))
        opens.insert(0, _opens(main, CANDLE))
    if feed.funding is not None:
        time, rate, mark = feed.funding
        chunks.append({"kind": FUNDING, "timestamp": time, "price": mark, "size": rate})
    if feed.signals is not None:
        chunks.append(_signals(feed, feed.signals))
    if feed.books is not None:
        chunks.append(_books(feed.books, books))
    if trades is not None:
        time, price, size, side = trades
        signal = side if len(side) else 0
        chunks.append({"kind": TRADE, "timestamp": time, "price": price, "size": size, "signal": signal})
    if feed.depth is not None:
        chunks.append(_changes(feed.depth))
    if feed.delisted is not None:
        opens.append({"kind": DELISTED, "timestamp": np.array([feed.delisted])})
    return chunks + opens


def _opens(candles: Candles, source: int) -> _Chunk:
    size = candles.volume if len(candles.volume) else 0.0
    return {
        "kind": OPEN,
        "timestamp": candles.timestamp,
        "price": candles.open,
        "size": size,
        "source": source,
    }


def _closes(candles: Candles, source: Any) -> _Chunk:
    return {
        "kind": CLOSE,
        "timestamp": candles.timestamp + candles.length,
        "start": candles.timestamp,
        "price": candles.close,
        "high": candles.high,
        "low": candles.low,
        "source": source,
    }


def _signals(feed: Feed, signals: Signals) -> _Chunk:
    time = feed.at
    if time is None:
        if feed.candles is None:
            raise WrongUse("signals without candles need their times: at")
        time = feed.candles.timestamp[signals.candle] + feed.candles.length
    confidence = 0.0 if feed.confidence is None else feed.confidence
    return {"kind": SIGNAL, "timestamp": time, "signal": signals.kind, "size": confidence}


def _books(books: Books, begun: int) -> _Chunk:
    bid, ask = books.bids[:, 0, 0], books.asks[:, 0, 0]
    return {
        "kind": BOOK,
        "timestamp": books.timestamp,
        "price": (bid + ask) / 2,
        "high": ask,
        "low": bid,
        "book": begun + np.arange(len(bid)),
    }


def _changes(depth: Depth) -> _Chunk:
    return {
        "kind": DEPTH,
        "timestamp": depth.timestamp,
        "price": depth.price,
        "high": depth.ask,
        "low": depth.bid,
        "size": depth.size,
        "signal": depth.side,
    }


def _levels(side: Floats) -> Floats:
    """A side with exactly as many levels as the kernel has."""
    levels = np.zeros((len(side), 2, MAX_LEVELS))
    depth = min(MAX_LEVELS, side.shape[2])
    levels[:, :, :depth] = side[:, :, :depth]
    return levels


def _kept(candles: Candles, kept: Flags) -> Candles:
    return Candles(
        candles.timestamp[kept],
        candles.open[kept],
        candles.high[kept],
        candles.low[kept],
        candles.close[kept],
        candles.length,
        candles.volume[kept] if len(candles.volume) else candles.volume,
    )


def _places(candles: Candles, time: Integers) -> Integers:
    """The candle that each time falls into, or the one before."""
    return np.maximum(np.searchsorted(candles.timestamp, time, side="right") - 1, 0)


def _within(candles: Candles, time: Integers) -> Flags:
    """Whether each time falls into a candle."""
    since = time - candles.timestamp[_places(candles, time)]
    within: Flags = (since >= 0) & (since < candles.length)
    return within


def _reached(candles: Candles, time: Integers, high: Floats, low: Floats) -> Flags:
    """Whether what happened inside each candle reaches its high and its low."""
    within = _within(candles, time)
    place = _places(candles, time[within])
    top = np.full(len(candles.timestamp), -np.inf)
    bottom = np.full(len(candles.timestamp), np.inf)
    np.maximum.at(top, place, high[within])
    np.minimum.at(bottom, place, low[within])
    reached: Flags = (top == candles.high) & (bottom == candles.low)
    return reached


def _covered(candles: Candles, finer: Candles) -> Flags:
    """Whether the finer candles inside each candle are all there and reach its high and low."""
    within = _within(candles, finer.timestamp)
    count = np.bincount(_places(candles, finer.timestamp[within]), minlength=len(candles.timestamp))
    reached = _reached(candles, finer.timestamp, finer.high, finer.low)
    covered: Flags = reached & (count * finer.length == candles.length)
    return covered
