"""Candles from wherever somebody has them: polars, pandas, numpy, plain columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from market.errors import WrongUse
from market.timeframe import MICROSECONDS, Timeframe, format_time

if TYPE_CHECKING:
    from backtest.tape import Trades
    from signals.frame import CandleFrame

Columns = Mapping[str, Any]

_TIMES = ("timestamp", "time", "datetime", "date", "open_time")
_ORDER = ("timestamp", "open", "high", "low", "close", "volume")
_NEEDED = ("open", "high", "low", "close")
# What a whole number of seconds, milli-, micro- or nanoseconds since 1970 is below, until the year 5138.
_UNITS = ((1e11, MICROSECONDS), (1e14, 1_000), (1e17, 1))
_SHAPE = "give a table (polars, pandas), columns by name, or an array of timestamp, open, high, low, close"


def candles_of(data: Any, timeframe: Timeframe | str | None = None) -> CandleFrame:
    """The candles of a table, by open time.

    Args:
        data: a polars or pandas table, columns by name, a numpy array with names or of the columns
            timestamp, open, high, low, close[, volume]. Names may be capital; the times may be called
            timestamp, time, datetime, date or open_time, or be the index of a pandas table: dates and
            times (UTC unless they say otherwise), or whole seconds, milli-, micro- or nanoseconds.
            A missing volume, and missing columns of order flow, are not known.
        timeframe: of the candles; else the shortest time between two of them.

    Raises:
        WrongUse: a column is missing, times are not in order, or no timeframe fits them.
    """
    from signals.frame import COLUMNS, CandleFrame

    if isinstance(data, CandleFrame):
        return data
    columns = _columns(data)
    times = _times(columns)
    length = _timeframe(times, timeframe)
    found = {name: _floats(columns, name, len(times)) for name in COLUMNS}
    whole = np.asarray(columns.get("is_whole", np.ones(len(times))), dtype=np.bool_)
    return CandleFrame(length, times, **found, is_whole=whole)


def candles_of_trades(trades: Trades, timeframe: Timeframe | str | None = None) -> CandleFrame:
    """The candles that trades make, of minutes unless told otherwise; a candle without a trade is missing.

    Raises:
        WrongUse: there is no trade, or a price or size that no market can have had.
    """
    from signals.frame import EXTRAS, CandleFrame

    time, price, size, _ = trades
    if not len(time):
        raise WrongUse("there are no trades to backtest on")
    if not ((price > 0) & (price < np.inf) & (size > 0) & (size < np.inf)).all():
        raise WrongUse("a trade's price and size must be above 0, and numbers")
    length = Timeframe.parse(timeframe or Timeframe.M1)
    opens = time - time % length.microseconds
    begins = np.flatnonzero(np.r_[True, opens[1:] != opens[:-1]])
    return CandleFrame(
        length,
        opens[begins],
        open=price[begins],
        high=np.maximum.reduceat(price, begins),
        low=np.minimum.reduceat(price, begins),
        close=price[np.r_[begins[1:], len(price)] - 1],
        volume=np.add.reduceat(size, begins),
        **{name: np.full(len(begins), np.nan) for name in EXTRAS},
        is_whole=np.ones(len(begins), dtype=np.bool_),
    )


def _columns(data: Any) -> Columns:
    """The columns by small names; those of a pandas table with its index as the times, if it is one."""
    if isinstance(data, np.ndarray):
        return _columns_of_array(data)
    if not hasattr(data, "keys") or not hasattr(data, "__getitem__"):
        # A polars table has `columns` only.
        if not hasattr(data, "columns"):
            raise WrongUse(f"candles cannot be read from {type(data).__name__}: {_SHAPE}")
        named = {str(name).lower(): data[name] for name in data.columns}
    else:
        named = {str(name).lower(): data[name] for name in data.keys()}  # noqa: SIM118 - a table's names
    index = getattr(data, "index", None)
    is_time = getattr(getattr(index, "dtype", None), "kind", "") == "M"
    return {"timestamp": index, **named} if is_time and not named.keys() & set(_TIMES) else named


def _columns_of_array(data: npt.NDArray[Any]) -> Columns:
    if data.dtype.names:
        return {name.lower(): data[name] for name in data.dtype.names}
    if data.ndim != 2 or data.shape[1] not in (5, 6):
        raise WrongUse(f"an array of shape {data.shape} is not one of candles: {_SHAPE}[, volume]")
    return {name: data[:, place] for place, name in enumerate(_ORDER[: data.shape[1]])}


def _times(columns: Columns) -> npt.NDArray[np.int64]:
    name = next((name for name in _TIMES if name in columns), None)
    if name is None:
        raise WrongUse(f"there is no column of times: call it {_TIMES[0]}; there are {_listed(columns)}")
    times = times_of(columns[name], name)
    backwards = np.diff(times) <= 0
    if backwards.any():
        row = int(np.argmax(backwards)) + 1
        when = format_time(int(times[row]))
        if times[row] == times[row - 1]:
            raise WrongUse(f"row {row} has the same time as the one before, {when}: a candle comes once")
        raise WrongUse(f"row {row} ({when}) lies before the one above it: sort the candles by time")
    return times


def times_of(column: Any, name: str) -> npt.NDArray[np.int64]:
    """A column of times, however they are written, as microseconds UTC.

    Raises:
        WrongUse: it holds something else.
    """
    if str(getattr(column, "dtype", "")).startswith("datetime64") and hasattr(column, "to_numpy"):
        # pandas gives times of a zone as objects, unless it is asked for these: then as UTC.
        column = column.to_numpy(dtype="datetime64[us]")
    values = np.asarray(column)
    if values.dtype.kind in "OUS":
        try:
            values = values.astype("datetime64[us]")
        except ValueError as error:
            raise WrongUse(f"the column {name} holds no times: {error}") from None
    if values.dtype.kind == "M":
        if np.isnat(values).any():
            raise WrongUse(f"row {int(np.argmax(np.isnat(values)))} has no time")
        values = values.astype("datetime64[us]").astype(np.int64)
    return _microseconds(values, name)


def _microseconds(values: npt.NDArray[Any], name: str) -> npt.NDArray[np.int64]:
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise WrongUse(f"the column {name} holds no times")
    if not len(values):
        return np.empty(0, dtype=np.int64)
    largest = float(np.abs(values).max())
    for bound, factor in _UNITS:
        if largest < bound:
            return np.array(values * factor, dtype=np.int64)
    return np.array(values, dtype=np.int64) // 1_000


def _timeframe(times: npt.NDArray[np.int64], given: Timeframe | str | None) -> Timeframe:
    if given is not None:
        return Timeframe.parse(given)
    if not len(times):
        raise WrongUse("there are no candles to backtest on")
    if len(times) == 1:
        raise WrongUse("say the timeframe of a single candle: timeframe='1m'")
    shortest = int(np.diff(times).min())
    for timeframe in Timeframe:
        if timeframe.microseconds == shortest:
            return timeframe
    raise WrongUse(
        f"the candles are {shortest / MICROSECONDS:g} s apart, which is none of {', '.join(Timeframe)}:"
        " say timeframe=, or make candles of one of these"
    )


def _floats(columns: Columns, name: str, count: int) -> npt.NDArray[np.float64]:
    if name not in columns:
        if name in _NEEDED:
            raise WrongUse(f"the column {name} is missing; there are {_listed(columns)}")
        return np.full(count, np.nan)
    try:
        # A copy of our own: compiled kernels are typed for writable arrays in one piece.
        values = np.array(columns[name], dtype=np.float64)
    except (TypeError, ValueError):
        raise WrongUse(f"the column {name} holds what is no number") from None
    if values.shape != (count,):
        raise WrongUse(f"the column {name} has {values.size:,} values for {count:,} times")
    return values


def _listed(columns: Columns) -> str:
    return ", ".join(columns) or "none"
