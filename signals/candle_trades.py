"""The trades of candles side by side with them: what footprints and volume profiles are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import polars as pl

Sides = npt.NDArray[np.int8]

_TOLERANCE = 1e-9
"""Of a candle's volume: how far the plain sum of its trades' sizes may be from the exact one."""


@dataclass(frozen=True, slots=True, eq=False)
class CandleTrades:
    """Trades in tape order, cut at the candles' edges.

    Attributes:
        edges: int64, one more than candles: trades [edges[i], edges[i + 1]) are candle i's.
        is_known: whether all trades of a candle are here; without it, they say nothing of the candle.
        price, size: float64, quote and base units, of all trades.
        side: int8, 1 for an aggressive buy, -1 for a sell, 0 where the exchange does not say.
    """

    edges: npt.NDArray[np.int64]
    is_known: npt.NDArray[np.bool_]
    price: npt.NDArray[np.float64]
    size: npt.NDArray[np.float64]
    side: Sides

    def __len__(self) -> int:
        return len(self.is_known)

    def __getitem__(self, candles: slice) -> Self:
        start, stop, _ = candles.indices(len(self))
        edges = self.edges[start : max(start, stop) + 1]
        return type(self)(edges, self.is_known[candles], self.price, self.size, self.side)

    @classmethod
    def unknown(cls, count: int) -> Self:
        """No trades, of `count` candles."""
        none = np.empty(0)
        edges, is_known = np.zeros(count + 1, dtype=np.int64), np.zeros(count, dtype=np.bool_)
        return cls(edges, is_known, none, none, np.empty(0, dtype=np.int8))

    @classmethod
    def of(
        cls,
        trades: pl.DataFrame,
        times: npt.NDArray[np.int64],
        length: int,
        volume: npt.NDArray[np.float64],
        buy_volume: npt.NDArray[np.float64],
    ) -> Self:
        """The trades of the candles that open at `times`.

        Args:
            trades: columns timestamp, price, size, side, in tape order.
            times: open times in ascending order, microseconds UTC.
            length: the candles' interval, microseconds.
            volume: the candles' volumes, which tell whether all their trades are here.
            buy_volume: NaN where a candle was not made of trades.
        """
        import polars as pl

        at = trades["timestamp"].to_physical().to_numpy()
        starts, stops = np.searchsorted(at, times), np.searchsorted(at, times + length)
        # Between candles there may be trades of none: a candle that is open, or asked for by nobody.
        inside = np.repeat(starts - np.cumsum(np.concatenate(([0], (stops - starts)[:-1]))), stops - starts)
        rows = inside + np.arange(len(inside))
        side = trades["side"].replace_strict({"buy": 1, "sell": -1}, default=0, return_dtype=pl.Int8)
        edges = np.concatenate(([0], np.cumsum(stops - starts)))
        size = np.array(trades["size"].to_numpy()[rows], dtype=np.float64)
        # A trailing 0 gives empty candles at the end an index; reduceat says the next item for empty ones.
        sums = np.add.reduceat(np.append(size, 0.0), edges[:-1]) if len(times) else np.empty(0)
        found = np.where(stops > starts, sums, 0.0)
        is_known = ~np.isnan(buy_volume) & (np.abs(found - volume) <= _TOLERANCE * volume)
        price = np.array(trades["price"].to_numpy()[rows], dtype=np.float64)
        return cls(edges, is_known, price, size, np.array(side.to_numpy()[rows]))
