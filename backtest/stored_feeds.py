"""What the tape holds of the instruments of a run, in the kernel's words."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.account import Terms
from backtest.batch import Candles
from backtest.feeds import Source, books_of, columns, funding_of, trades_of
from backtest.state import MAX_LAGS
from backtest.tape import Trades
from market.errors import WrongUse
from market.instrument import MarketType
from market.timeframe import DAY, Timeframe, format_time, from_datetime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from backtest.batch import Integers
    from signals.frame import CandleFrame
    from storage.database import Connection

INSIDES = ("stored", "trades", "finer", "candles")
_MOST_TRADES = 50_000_000
_MOST_BOOKS = 2_000_000
"""Both are bounds on memory: some 100 bytes a trade, 1 KB a snapshot."""
_SAMPLED = 50_000
"""The newest trades of which lags are taken."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be read beside the candles.

    Attributes:
        inside: what decides inside a candle. stored: where the candle itself does not say, its stored
            trades, else its stored minutes; trades: every stored trade happens; finer: every stored
            minute; candles: nothing, the worse is taken.
        slippage: spread reads the best prices of stored books, walk their levels.
        funding: whether to read funding rates.
    """

    inside: str = "candles"
    slippage: str = "fixed"
    funding: bool = False

    def __post_init__(self) -> None:
        if self.inside not in INSIDES:
            raise WrongUse(f"unknown inside {self.inside!r}: use {', '.join(INSIDES)}")


@dataclass(frozen=True, slots=True)
class Facts:
    """What the tape knows of an instrument itself."""

    market_type: MarketType
    terms: Terms = field(default_factory=Terms)
    ends: int | None = None


def facts_of(connection: Connection, exchange: str, symbols: Sequence[str]) -> dict[str, Facts]:
    """Of each instrument how it is settled, its steps and its end; of an unknown one what its name says."""
    rows = connection.execute(
        "SELECT symbol, market_type, tick_size, lot_size * CASE market_type WHEN 'linear'"
        " THEN coalesce(contract_size, 1) ELSE 1 END, min_notional,"
        " least(delisted_timestamp, expiry_timestamp)"
        " FROM instruments WHERE exchange = %s AND symbol = ANY (%s)",
        (exchange, list(symbols)),
    ).fetchall()
    found = {symbol: Facts(market_of(symbol)) for symbol in symbols}
    for symbol, kind, tick, lot, least, ends in rows:
        steps = {"tick": tick, "lot": lot, "min_notional": least}
        terms = Terms(**{name: float(value) for name, value in steps.items() if value is not None})
        end = None if ends is None else from_datetime(ends)
        found[symbol] = Facts(MarketType(kind), terms, end)
    return found


def market_of(symbol: str) -> MarketType:
    """How an instrument is settled, by its unified name: BASE/QUOTE, or BASE/QUOTE:SETTLE of a contract."""
    pair, colon, settle = symbol.partition(":")
    if not colon:
        return MarketType.SPOT
    base = pair.partition("/")[0]
    return MarketType.INVERSE if settle.partition("-")[0] == base else MarketType.LINEAR


def market_type_of(facts: Mapping[str, Facts], asked: MarketType | None) -> MarketType:
    """What the run trades: what its instruments are, or margin where that is asked for.

    Raises:
        WrongUse: they are of different kinds, of one that cannot be backtested, or not what was asked for.
    """
    if asked is MarketType.INVERSE:
        raise WrongUse("inverse contracts cannot be backtested yet: use spot, margin or linear")
    kinds = {each.market_type for each in facts.values()}
    if len(kinds) > 1:
        raise WrongUse(f"{' and '.join(sorted(kinds))} markets do not share one cash: run them apart")
    (kind,) = kinds
    name = next(iter(facts))
    if kind is MarketType.INVERSE:
        raise WrongUse(f"{name} is an inverse contract: these cannot be backtested yet")
    if asked is None or asked is kind or (kind, asked) == (MarketType.SPOT, MarketType.MARGIN):
        return asked or kind
    way = "leave --market-type out, or use margin for shorts" if kind is MarketType.SPOT else "use linear"
    raise WrongUse(f"{name} is a {kind} market, not {asked}: {way}")


def read_sources(
    url: str, exchange: str, frames: Mapping[str, CandleFrame], wanted: Wanted, facts: Mapping[str, Facts]
) -> list[Source]:
    """The instruments of a run with what is to be read of them, in the order of their symbols.

    Raises:
        WrongUse: what was asked for is not stored, or more than fits into memory.
        Unavailable: the database does not answer.
    """
    return [_read(url, exchange, symbol, frames[symbol], wanted, facts) for symbol in sorted(frames)]


def _read(
    url: str,
    exchange: str,
    symbol: str,
    frame: CandleFrame,
    wanted: Wanted,
    facts: Mapping[str, Facts],
) -> Source:
    from storage import read

    since, until = int(frame.timestamp[0]), int(frame.close_time[-1])
    known = facts[symbol]
    source = Source(symbol, frame, terms=known.terms)
    if known.ends is not None and since < known.ends <= until:
        source = replace(source, delisted=known.ends)
    if wanted.inside == "trades":
        source = replace(source, trades=_all_trades(url, exchange, symbol, since, until))
    if wanted.inside == "finer" or (wanted.inside == "trades" and frame.timeframe != Timeframe.M1):
        source = replace(source, finer=_minutes(url, exchange, symbol, frame, since, until))
    if wanted.slippage != "fixed":
        source = replace(source, books=_books(url, exchange, symbol, since, until, wanted.slippage))
    if wanted.funding:
        rates = read.funding(url, exchange, symbol, since, until)
        source = replace(source, funding=None if rates.is_empty() else funding_of(rates))
    return source


def _days(since: int, until: int) -> list[tuple[int, int]]:
    begins = [since, *range((since // DAY + 1) * DAY, until, DAY)]
    return list(zip(begins, [*begins[1:], until], strict=True))


def _all_trades(url: str, exchange: str, symbol: str, since: int, until: int) -> Trades:
    from storage import read

    parts: list[Trades] = []
    count = 0
    for begin, end in _days(since, until):
        # Day by day: a table of trades takes five times what is kept of it.
        parts.append(trades_of(read.trades(url, exchange, symbol, begin, end)))
        count += len(parts[-1].timestamp)
        if count > _MOST_TRADES:
            raise WrongUse(
                f"more than {_MOST_TRADES:,} trades of {symbol} are too many at once:"
                " a shorter span, --from and --to, or --inside stored"
            )
    if not count:
        raise WrongUse(
            f"no trades of {symbol} on {exchange} are stored from {format_time(since)} to"
            f" {format_time(until)}: deltatape backfill --help, or --inside stored"
        )
    return Trades(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _minutes(
    url: str, exchange: str, symbol: str, frame: CandleFrame, since: int, until: int
) -> Candles | None:
    """The stored minutes of a span, for candles that are longer."""
    from signals.frame import CandleFrame as Frame
    from storage import read

    if frame.timeframe == Timeframe.M1:
        raise WrongUse("minutes are the shortest candles: nothing finer is inside them but trades")
    minutes = read.candles(url, exchange, symbol, Timeframe.M1, since, until)
    return None if minutes.is_empty() else columns(Frame.from_polars(minutes, Timeframe.M1))


def _books(url: str, exchange: str, symbol: str, since: int, until: int, slippage: str) -> Any:
    from backtest.tape import Books
    from storage import read

    parts: list[Books] = []
    count = 0
    for begin, end in _days(since, until):
        found = read.books(url, exchange, symbol, begin, end)
        parts.append(books_of(found, levels=slippage == "walk"))
        count += len(found)
        if count > _MOST_BOOKS:
            raise WrongUse(
                f"more than {_MOST_BOOKS:,} order books of {symbol} are too many at once:"
                " a shorter span, --from and --to, or --slippage fixed:BPS"
            )
    if not count:
        raise WrongUse(
            f"no order books of {symbol} on {exchange} are stored from {format_time(since)} to"
            f" {format_time(until)}: --slippage {slippage} needs them, --slippage fixed:BPS does not"
        )
    return Books(*(np.concatenate(column) for column in zip(*parts, strict=True)))


class LookInside:
    """Looks into single candles: their stored trades, and where there are none their stored minutes."""

    def __init__(self, url: str, exchange: str) -> None:
        self.url, self.exchange = url, exchange
        self._has: dict[tuple[str, str], bool] = {}

    def __call__(self, source: Source, candles: Integers) -> Source:
        """The source with what is known of the inside of these candles, by their numbers."""
        trades, minutes = self._trades(source, candles), self._finer(source, candles)
        return replace(source, trades=trades or source.trades, finer=minutes or source.finer)

    def _is_there(self, what: str, symbol: str, frame: pl.DataFrame) -> bool:
        return self._has.setdefault((what, symbol), not frame.is_empty())

    def _trades(self, source: Source, candles: Integers) -> Trades | None:
        from storage import read

        at = (self.url, self.exchange, source.symbol)
        if ("trades", source.symbol) not in self._has:
            self._is_there("trades", source.symbol, read.trades(*at, limit=1))
        if not self._has["trades", source.symbol]:
            return None
        frame = source.frame
        parts = [source.trades] if source.trades is not None else []
        for candle in candles.tolist():
            begin, end = int(frame.timestamp[candle]), int(frame.close_time[candle])
            parts.append(trades_of(read.trades(*at, begin, end)))
        joined = Trades(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        order = np.argsort(joined.timestamp, kind="stable")
        return Trades(joined.timestamp[order], joined.price[order], joined.size[order])

    def _finer(self, source: Source, candles: Integers) -> Candles | None:
        from storage import read

        frame = source.frame
        if frame.timeframe == Timeframe.M1:
            return None
        key = ("minutes", source.symbol)
        if key not in self._has:
            newest = read.candles(self.url, self.exchange, source.symbol, Timeframe.M1, limit=1)
            self._is_there(*key, newest)
        if not self._has[key]:
            return None
        parts = [source.finer] if source.finer is not None else []
        for candle in candles.tolist():
            begin, end = int(frame.timestamp[candle]), int(frame.close_time[candle])
            found = _minutes(self.url, self.exchange, source.symbol, frame, begin, end)
            parts += [found] if found is not None else []
        return joined_candles(parts) if parts else None


def joined_candles(parts: Sequence[Candles]) -> Candles:
    """Candles of one length as one, in the order of time."""
    order = np.argsort(np.concatenate([part.timestamp for part in parts]), kind="stable")

    def joined(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])[order]

    return Candles(
        joined("timestamp"),
        joined("open"),
        joined("high"),
        joined("low"),
        joined("close"),
        parts[0].length,
        joined("volume"),
    )


def recorded_lags(url: str, exchange: str, symbol: str, since: int, until: int) -> tuple[int, ...]:
    """How late stored trades came in, µs: as many as the kernel draws from, evenly from the sorted ones.

    Clocks that differ make it look as if some came before they happened: those count as 0.

    Raises:
        WrongUse: none of the span's trades says when it was received.
    """
    from storage import read

    trades = read.trades(url, exchange, symbol, since, until, limit=_SAMPLED)
    seen = trades.drop_nulls("received_timestamp")
    if seen.is_empty():
        raise WrongUse(
            f"no stored trade of {symbol} on {exchange} says when it was received: --latency recorded needs"
            " trades that were collected live"
        )
    times = seen["received_timestamp"].to_physical() - seen["timestamp"].to_physical()
    lags = np.sort(np.maximum(times.to_numpy(), 0))
    picked = lags[np.linspace(0, len(lags) - 1, min(len(lags), MAX_LAGS)).astype(np.int64)]
    return tuple(picked.tolist())
