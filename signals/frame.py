"""Candles of one instrument and timeframe as arrays: what every indicator and rule reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from market.errors import WrongUse
from signals.candle_trades import CandleTrades

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from market.timeframe import Timeframe

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

PRICES = ("open", "high", "low", "close", "volume")
EXTRAS = (
    "buy_volume",
    "sell_volume",
    "cvd_close",
    "imbalance_mean",
    "imbalance_last",
    "spread_bps_mean",
)
COLUMNS = PRICES + EXTRAS
_ARRAYS = ("timestamp", *COLUMNS, "is_whole")
TRADES = "trades"
INPUTS = (*COLUMNS, "timestamp", TRADES)
"""What an indicator may read."""


class Remembered(NamedTuple):
    """An indicator over candles without a hole: where it was left.

    Attributes:
        begin: open time of the first candle of its pass, microseconds UTC.
        since: of the first candle that `outputs` hold.
        until: of the last one.
        outputs: by name.
        state: what it goes on from, where it can.
    """

    begin: int
    since: int
    until: int
    outputs: Mapping[str, Array]
    state: Array | None


Memory = dict[str, Remembered]
"""By the indicator's name with its parameters."""


@dataclass(frozen=True, eq=False)
class CandleFrame:
    """Closed candles in ascending order of open time; a candle that is not there is a hole.

    Attributes:
        timeframe: their interval.
        timestamp: open times, int64 microseconds UTC, multiples of the interval.
        open, high, low, close: prices in quote units.
        volume, buy_volume, sell_volume: sizes in base units.
        cvd_close: the day's CVD at the close, only to be shown: it restarts at midnight.
        imbalance_mean, imbalance_last: book imbalance inside the candle, percent.
        spread_bps_mean: mean spread inside the candle, basis points.
        is_whole: whether the candle's bucket lies inside proven coverage.
        trades: the candles' trades, where somebody needs them: see `with_trades`.
        memory: of indicators over the candles of one tape, for who asks again: see `remembering`.

    The columns of `EXTRAS` are NaN where the source did not give them.
    """

    timeframe: Timeframe
    timestamp: Indices
    open: Array
    high: Array
    low: Array
    close: Array
    volume: Array
    buy_volume: Array
    sell_volume: Array
    cvd_close: Array
    imbalance_mean: Array
    imbalance_last: Array
    spread_bps_mean: Array
    is_whole: Flags
    trades: CandleTrades | None = field(default=None, init=False)
    memory: Memory | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        times = self.timestamp
        if (times[1:] <= times[:-1]).any():
            raise WrongUse("candles must be in ascending order of time, each once")
        if (times % self.timeframe.microseconds).any():
            raise WrongUse(f"candles must open at whole multiples of {self.timeframe}")

    def __len__(self) -> int:
        return len(self.timestamp)

    @classmethod
    def from_polars(cls, candles: pl.DataFrame, timeframe: Timeframe) -> Self:
        """The frame of a table as `storage.read.candles` gives it.

        Args:
            candles: columns timestamp (Datetime or int64 µs), open … volume; those of `EXTRAS` and
                is_whole may be missing (then NaN, and whole).
            timeframe: their interval.

        Raises:
            WrongUse: they are not in order, or not of this timeframe.
        """
        columns = {name: _floats(candles, name) for name in COLUMNS}
        return cls(timeframe, _times(candles), **columns, is_whole=_flags(candles))

    @property
    def close_time(self) -> Indices:
        """When each candle became known: its open time plus the interval, microseconds UTC."""
        return self.timestamp + self.timeframe.microseconds

    def column(self, name: str) -> Array:
        """One of the float columns by name."""
        values: Array = getattr(self, name)
        return values

    def input(self, name: str) -> Any:
        """What an indicator reads under this name, an item for each candle."""
        if name == TRADES:
            return CandleTrades.unknown(len(self)) if self.trades is None else self.trades
        return getattr(self, name)

    def with_trades(self, trades: pl.DataFrame) -> Self:
        """The frame with the trades of its candles.

        Args:
            trades: as `storage.read.trades` gives them; those outside the candles are left out. A candle
                whose trades do not add up to its volume counts as one whose trades are not known.
        """
        times, length = self.timestamp, self.timeframe.microseconds
        return self.part(0, len(self)).holding(
            CandleTrades.of(trades, times, length, self.volume, self.buy_volume)
        )

    def part(self, start: int, stop: int) -> Self:
        """Candles [start, stop) as views of the same arrays."""
        # Parts of what is in order are: not checked again.
        part, whole, wanted = object.__new__(type(self)), self.__dict__, slice(start, stop)
        values = {name: whole[name][wanted] for name in _ARRAYS}
        part.__dict__.update(values, timeframe=self.timeframe, memory=None)
        return part.holding(None if self.trades is None else self.trades[wanted])

    def holding(self, trades: CandleTrades | None) -> Self:
        """The frame itself, which holds these trades from now on: for one that nobody else has yet."""
        object.__setattr__(self, "trades", trades)
        return self

    def remembering(self, memory: Memory) -> Self:
        """The frame itself, which remembers there from now on: for one that nobody else has yet.

        Args:
            memory: shared by frames of the same target on the same revision of its tape, and by no other.
        """
        object.__setattr__(self, "memory", memory)
        return self

    def find(self, timestamp: int) -> int:
        """Index of the first candle that opens at `timestamp` (µs) or later."""
        return int(self.timestamp.searchsorted(timestamp))


def _times(candles: pl.DataFrame) -> Indices:
    import polars as pl

    column = candles["timestamp"]
    if isinstance(column.dtype, pl.Datetime):
        column = column.dt.timestamp("us")
    return np.array(column.to_numpy(), dtype=np.int64)


def _floats(candles: pl.DataFrame, name: str) -> Array:
    if name not in candles.columns and name in EXTRAS:
        return np.full(candles.height, np.nan)
    # A copy of our own: compiled kernels are typed for writable arrays.
    return np.array(candles[name].cast(float).to_numpy(), dtype=np.float64)


def _flags(candles: pl.DataFrame) -> Flags:
    if "is_whole" not in candles.columns:
        return np.ones(candles.height, dtype=np.bool_)
    return np.array(candles["is_whole"].to_numpy(), dtype=np.bool_)
