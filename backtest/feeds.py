"""The instruments of a run: candles, and what else is known: trades, finer candles, books, funding."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest import provenance
from backtest.account import Terms
from backtest.batch import Candles
from backtest.tape import Books, Depth, Feed, Funding, Trades
from market.errors import WrongUse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backtest.batch import Floats, Integers, Signals
    from signals.frame import CandleFrame


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One instrument.

    Attributes:
        symbol: its name; empty where only one trades and nobody named it.
        frame: its candles, which the strategy reads.
        trades: those inside its candles, see `backtest.tape.Feed`.
        finer: candles of a shorter timeframe, likewise.
        books: snapshots.
        funding: of a linear contract.
        depth: every change of its book.
        delisted: when it ends, µs.
        terms: what it has of its own: tick, lot, minimum.
        is_ticks: the candles were made of the trades, and only mark what those do.
    """

    symbol: str
    frame: CandleFrame = field(repr=False)
    trades: Trades | None = field(default=None, repr=False)
    finer: Candles | None = field(default=None, repr=False)
    books: Books | None = field(default=None, repr=False)
    funding: Funding | None = field(default=None, repr=False)
    depth: Depth | None = field(default=None, repr=False)
    delisted: int | None = None
    terms: Terms = field(default_factory=Terms)
    is_ticks: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether its candles are all that happens."""
        parts = (self.trades, self.finer, self.books, self.depth, self.funding, self.delisted)
        return not self.is_ticks and all(part is None for part in parts)

    def feed(self, signals: Signals, confidence: Floats | None = None) -> Feed:
        """What the kernel sees of it."""
        return Feed(
            candles=columns(self.frame),
            signals=signals,
            confidence=confidence,
            trades=self.trades,
            finer=self.finer,
            books=self.books,
            depth=self.depth,
            funding=self.funding,
            delisted=self.delisted,
            only_marks=self.is_ticks,
        )

    def counts(self) -> dict[str, int]:
        """How much of each there is beside the candles."""
        found = {
            "trades": self.trades,
            "finer candles": self.finer,
            "books": self.books,
            "changes of the book": self.depth,
            "funding rates": self.funding,
        }
        return {name: len(part.timestamp) for name, part in found.items() if part is not None}


def columns(frame: CandleFrame) -> Candles:
    """What the kernel walks, of a frame."""
    length = frame.timeframe.microseconds
    return Candles(frame.timestamp, frame.open, frame.high, frame.low, frame.close, length, frame.volume)


def fingerprint(sources: Sequence[Source]) -> str:
    """SHA-256 of everything that a run rests on; of one instrument's candles alone that of the candles."""
    if len(sources) == 1 and sources[0].is_plain:
        return provenance.data_fingerprint(sources[0].frame)
    digest = sha256()
    for source in sources:
        digest.update(f"{source.symbol} {provenance.data_fingerprint(source.frame)}".encode())
        for name in ("trades", "finer", "books", "depth", "funding"):
            for part in getattr(source, name) or ():
                if np.size(part):
                    digest.update(name.encode() + np.asarray(part).tobytes())
        digest.update(str(source.delisted).encode())
    return digest.hexdigest()


def holes(sources: Sequence[Source]) -> list[tuple[int, int, str]]:
    """Where candles are missing between two: begin and end, microseconds UTC, and the instrument."""
    from backtest.periods import hole_spans

    return sorted((*span, source.symbol) for source in sources for span in hole_spans(source.frame))


def trades_of(table: Any) -> Trades:
    """Trades of a table: columns timestamp, price, and size (or amount, quantity).

    Raises:
        WrongUse: a column is missing, or the times go back.
    """
    found = _columns(table, "trades", "timestamp", "price")
    size = next((name for name in ("size", "amount", "quantity") if name in found), None)
    if size is None:
        raise WrongUse("trades need a column size")
    time = _ordered("trades", found["timestamp"])
    return Trades(time, _numbers(found["price"]), _numbers(found[size]))


def books_of(table: Any, *, levels: bool) -> Books:
    """Snapshots of a table as `dt.books` gives them; `levels`: more than the best of each side.

    Raises:
        WrongUse: a column is missing, or the times go back.
    """
    names = ("bids_json", "asks_json") if levels else ("best_bid", "best_ask")
    found = _columns(table, "books", "timestamp", *names)
    time = _ordered("books", found["timestamp"])
    bids, asks = (_levels(found[name]) if levels else _best(found[name]) for name in names)
    return Books(time, bids, asks)


def funding_of(table: Any) -> Funding:
    """Funding of a table: columns timestamp, rate and, where known, mark_price.

    Raises:
        WrongUse: a column is missing, or the times go back.
    """
    found = _columns(table, "funding", "timestamp", "rate")
    time = _ordered("funding", found["timestamp"])
    mark = _numbers(found["mark_price"]) if "mark_price" in found else np.zeros(len(time))
    return Funding(time, _numbers(found["rate"]), np.nan_to_num(mark))


def _columns(table: Any, what: str, *needed: str) -> Mapping[str, Any]:
    # A polars or pandas table has its names as `columns`, a mapping as its keys.
    names = getattr(table, "columns", None)
    found = {str(name).lower(): table[name] for name in (table if names is None else names)}
    for name in needed:
        if name not in found:
            raise WrongUse(f"{what} need a column {name}; there are {', '.join(found) or 'none'}")
    return found


def _ordered(what: str, values: Any) -> Integers:
    from backtest.frames import times_of

    time = times_of(values, "timestamp")
    if np.any(np.diff(time) < 0):
        raise WrongUse(f"the times of {what} go back: sort them by time")
    return time


def _numbers(values: Any) -> Floats:
    return np.array(values, dtype=np.float64)


def _best(prices: Any) -> Floats:
    best = np.zeros((len(prices), 2, 1))
    best[:, 0, 0] = _numbers(prices)
    return best


def _levels(texts: Any) -> Floats:
    """Sides of `[[price, size], …]` as JSON, by snapshot, price or size, level."""
    from msgspec.json import Decoder

    from backtest.state import MAX_LEVELS

    decode = Decoder(list[tuple[float, float]]).decode
    sides = np.zeros((len(texts), 2, MAX_LEVELS))
    for place, text in enumerate(texts):
        side = decode(text)[:MAX_LEVELS]
        if side:
            sides[place, :, : len(side)] = np.array(side).T
    return sides
