"""A run by day and by month of UTC, and what holding the market would have been."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backtest.metrics import Profile, profile
from backtest.ratios import daily_returns
from backtest.tables import Columns, position_columns
from market.timeframe import DAY

if TYPE_CHECKING:
    from backtest.batch import Record
    from signals.frame import CandleFrame


def day_columns(frame: CandleFrame, record: Record, initial: float) -> Columns:
    """One row per UTC day: its return, and the positions that were closed in it.

    `timestamp` is the day's begin; equity is that at its end, drawdown the fraction below the highest
    daily equity before, pnl the net profit of its positions.
    """
    first = int(frame.timestamp[0]) // DAY
    daily, positions = record.daily, position_columns(record)
    # What closes as the data ends may bear the first moment of the next day.
    day = np.minimum(positions["exit_timestamp"] // DAY - first, len(daily) - 1)
    peak = np.maximum(np.maximum.accumulate(daily), initial)
    return {
        "timestamp": (first + np.arange(len(daily))) * DAY,
        "equity": daily,
        "return_pct": 100.0 * daily_returns(initial, daily),
        "drawdown": 1.0 - daily / peak,
        "positions": np.bincount(day, minlength=len(daily)),
        "pnl": np.bincount(day, positions["pnl"], len(daily)),
    }


def month_columns(days: Columns) -> Columns:
    """The days of `day_columns` by month: returns compounded, positions and profits summed.

    `timestamp` is the month's begin, drawdown the largest of its days.
    """
    months = days["timestamp"].astype("datetime64[us]").astype("datetime64[M]")
    begins = np.flatnonzero(np.r_[True, months[1:] != months[:-1]])
    ends = np.r_[begins[1:], len(months)] - 1
    return {
        "timestamp": months[begins].astype("datetime64[us]").astype(np.int64),
        "equity": days["equity"][ends],
        "return_pct": 100.0 * (np.multiply.reduceat(1.0 + days["return_pct"] / 100.0, begins) - 1.0),
        "drawdown": np.maximum.reduceat(days["drawdown"], begins),
        "positions": np.add.reduceat(days["positions"], begins),
        "pnl": np.add.reduceat(days["pnl"], begins),
    }


def hole_spans(frame: CandleFrame) -> list[tuple[int, int]]:
    """Where candles are missing between two: begin and end, microseconds UTC."""
    after = np.flatnonzero(np.diff(frame.timestamp) != frame.timeframe.microseconds)
    begins, ends = frame.close_time[after].tolist(), frame.timestamp[after + 1].tolist()
    return list(zip(begins, ends, strict=True))


def held_profile(frame: CandleFrame) -> Profile:
    """The figures of buying at the first open and holding, without costs, from the same days as a run's."""
    first = int(frame.timestamp[0]) // DAY
    # A candle that closes at midnight belongs to the day that ends there.
    day = (frame.close_time - 1) // DAY - first
    days = np.arange(int(frame.timestamp[-1]) // DAY - first + 1)
    worth = frame.close / frame.open[0]
    figures: Profile = profile(1.0, worth[np.searchsorted(day, days, side="right") - 1])
    return figures
