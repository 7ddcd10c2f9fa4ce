"""What `import deltatape as dt` gives of the tape: polars frames.

Every reader asks the database of the settings in force. Times are ISO texts, dates, datetimes or microseconds
UTC; `limit` keeps the newest rows; frames come in the order of time, and `arrays` makes numpy arrays of them.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import polars as pl

from deltatape import settings
from market import Timeframe
from storage import read
from storage.day_cache import DayCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

__all__ = [
    "arrays",
    "book_days",
    "books",
    "candles",
    "coverage",
    "cvd",
    "equity",
    "footprint",
    "funding",
    "indicator",
    "indicators",
    "runs",
    "signals",
    "trade_days",
    "trades",
]

Moment = read.Moment


@cache
def _url() -> str:
    return settings.load().reading()


def trades(
    exchange: str, symbol: str, start: Moment = None, end: Moment = None, limit: int | None = None
) -> pl.DataFrame:
    """Trades of an instrument in [start, end), each with the CVD after it.

    Closed days are kept as Parquet files below DELTATAPE_HOME and read anew when the tape changes.
    """
    if limit is not None:
        return read.trades(_url(), exchange, symbol, start, end, limit)
    return pl.concat(trade_days(exchange, symbol, start, end))


def trade_days(
    exchange: str, symbol: str, start: Moment = None, end: Moment = None
) -> Iterator[pl.DataFrame]:
    """As `trades`, day by day: for spans that are larger than memory."""
    return _days("trades", read.trades, exchange, symbol, start, end)


def candles(
    exchange: str,
    symbol: str,
    timeframe: str = "1m",
    start: Moment = None,
    end: Moment = None,
    limit: int | None = None,
) -> pl.DataFrame:
    """Closed candles that open in [start, end); inside a hole there are none.

    Any timeframe: those that are not stored, such as 3m, 2h or 1w, are made of shorter ones.
    """
    return read.candles(_url(), exchange, symbol, timeframe, start, end, limit)


def cvd(
    exchange: str, symbol: str, start: Moment = None, end: Moment = None, limit: int | None = None
) -> pl.DataFrame:
    """CVD points, one each 10 s, from each day's anchor."""
    return read.cvd(_url(), exchange, symbol, start, end, limit)


def books(
    exchange: str, symbol: str, start: Moment = None, end: Moment = None, limit: int | None = None
) -> pl.DataFrame:
    """Order-book snapshots, one a second; closed days are kept as those of `trades` are."""
    if limit is not None:
        return read.books(_url(), exchange, symbol, start, end, limit)
    return pl.concat(book_days(exchange, symbol, start, end))


def book_days(exchange: str, symbol: str, start: Moment = None, end: Moment = None) -> Iterator[pl.DataFrame]:
    """As `books`, day by day: for spans that are larger than memory."""
    return _days("orderbook_snapshots", read.books, exchange, symbol, start, end)


def funding(
    exchange: str, symbol: str, start: Moment = None, end: Moment = None, limit: int | None = None
) -> pl.DataFrame:
    """Funding rates of a contract, by the time of payment."""
    return read.funding(_url(), exchange, symbol, start, end, limit)


def footprint(
    exchange: str,
    symbol: str,
    timeframe: str = "1m",
    start: Moment = None,
    end: Moment = None,
    limit: int | None = None,
    *,
    bps: float = 5.0,
    ratio: float = 3.0,
    width: float | None = None,
) -> pl.DataFrame:
    """Volume by price and side inside each closed candle, from its trades, with its imbalances.

    Levels are `width` wide, or the round number that is no more than `bps` basis points of the close.
    """
    from signals.footprints import stored_footprints
    from signals.target import Target

    target = Target(exchange, symbol, Timeframe.parse(timeframe))
    since, until = _moment(start), _moment(end)
    return stored_footprints(_url(), target, since, until, limit, bps=bps, ratio=ratio, width=width)


def indicator(
    name: str,
    exchange: str,
    symbol: str,
    timeframe: str = "1m",
    start: Moment = None,
    end: Moment = None,
    limit: int | None = None,
) -> pl.DataFrame:
    """Any indicator over the closed candles that open in [start, end), a column for each of its outputs.

    The same values as live and in a batch: `dt.indicator("rsi_14", "binance", "BTC/USDT")`. Those of one's
    own are made by `signals.registry.indicator`.
    """
    from signals.indicator_values import stored_values
    from signals.target import Target

    target = Target(exchange, symbol, Timeframe.parse(timeframe))
    return stored_values(_url(), target, name, _moment(start), _moment(end), limit)


def _moment(moment: Moment) -> int | None:
    return None if moment is None else read.microseconds(moment)


def _days(
    table: str, reader: Callable[..., pl.DataFrame], exchange: str, symbol: str, start: Moment, end: Moment
) -> Iterator[pl.DataFrame]:
    url = _url()
    cache = DayCache(settings.load().home / "cache" / "days", url, table, exchange, symbol)
    since, until = _moment(start), _moment(end)
    return cache.frames(since, until, lambda begin, stop: reader(url, exchange, symbol, begin, stop))


def indicators(
    exchange: str,
    symbol: str,
    timeframe: str = "1m",
    name: str | None = None,
    start: Moment = None,
    end: Moment = None,
    limit: int | None = None,
) -> pl.DataFrame:
    """Values of the indicators that the settings keep, a row for each candle and name."""
    return read.indicators(_url(), exchange, symbol, timeframe, name, start, end, limit)


def signals(
    exchange: str | None = None,
    symbol: str | None = None,
    timeframe: str | None = None,
    limit: int | None = None,
    *,
    strategy: str | None = None,
    start: Moment = None,
    end: Moment = None,
) -> pl.DataFrame:
    """Signals with their reasons and warnings, as today's tape says."""
    return read.signals(_url(), exchange, symbol, timeframe, strategy, start, end, limit)


def coverage(
    exchange: str | None = None,
    symbol: str | None = None,
    stream: str | None = None,
    start: Moment = None,
    end: Moment = None,
) -> pl.DataFrame:
    """The spans that are proven whole, how, and where they came from."""
    return read.coverage(_url(), exchange, symbol, stream, start, end)


def runs(
    strategy: str | None = None, limit: int | None = None, *, start: Moment = None, end: Moment = None
) -> pl.DataFrame:
    """Stored backtests, by the time they ran."""
    return read.runs(_url(), strategy, start=start, end=end, limit=limit)


def equity(backtest_id: str) -> pl.DataFrame:
    """The equity curve of a stored backtest."""
    return read.equity(_url(), backtest_id)


def arrays(frame: pl.DataFrame) -> dict[str, np.ndarray]:
    """The columns of a frame as numpy arrays, by name; read-only where nothing had to be copied.

    Times are int64 microseconds UTC, texts objects, the rest as they are; NULL is NaN, which makes floats of
    integers.
    """
    return {
        column.name: (column.to_physical() if column.dtype.is_temporal() else column).to_numpy()
        for column in frame
    }
