"""Candles of timeframes that are not stored, such as 3m, 2h or 1w, made of stored ones. Pure."""

import re
from dataclasses import dataclass

import polars as pl

from market import DAY, Timeframe
from market.errors import WrongUse
from market.timeframe import MICROSECONDS

__all__ = ["Buckets", "resample"]

_TEXT = re.compile(r"([1-9]\d{0,3})([mhdw])")
_UNITS = {"m": 60 * MICROSECONDS, "h": 3600 * MICROSECONDS, "d": DAY, "w": 7 * DAY}
_MONDAY = 4 * DAY
"""1970-01-05: weeks begin on Mondays; everything else counts from 1970-01-01."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """How a timeframe divides time; microseconds.

    Attributes:
        text: its name, like "3m".
        length: of a bucket.
        offset: an open time.
        base: the longest stored timeframe of which its buckets are made.
    """

    text: str
    length: int
    offset: int
    base: Timeframe

    @classmethod
    def parse(cls, text: str) -> "Buckets":
        """The timeframe named `text`: a count of minutes, hours, days or weeks.

        Raises:
            WrongUse: it is none.
        """
        found = _TEXT.fullmatch(text)
        if found is None:
            raise WrongUse(f"unknown timeframe {text!r}: write it like 1m, 5m, 2h, 1d or 1w")
        length = int(found[1]) * _UNITS[found[2]]
        base = max((t for t in Timeframe if length % t.microseconds == 0), key=lambda t: t.microseconds)
        return cls(text, length, _MONDAY if found[2] == "w" else 0, base)

    @property
    def parts(self) -> int:
        """How many stored candles make one."""
        return self.length // self.base.microseconds

    def open_of(self, timestamp: int) -> int:
        """The open time of the bucket that holds `timestamp`."""
        return timestamp - (timestamp - self.offset) % self.length

    def first_at(self, timestamp: int) -> int:
        """The first open time at or after `timestamp`."""
        return self.open_of(timestamp + self.length - 1)


def resample(candles: pl.DataFrame, buckets: Buckets, newest: int) -> pl.DataFrame:
    """Join stored candles of `buckets.base` to longer ones, with the same columns.

    Volumes are sums and vwap, imbalance_mean and spread_bps_mean weighted means of what is stored, in double
    precision. A candle is closed once time has passed it, and whole if each of its parts is there and whole.

    Args:
        candles: rows of the table `candles`, by open time.
        buckets: what to make.
        newest: the open time of the instrument's newest stored candle of the base, microseconds UTC.
    """
    # Integers, since polars' own windows know neither weeks' offsets nor plain numbers of minutes.
    opened = pl.col("timestamp").to_physical()
    start = opened - (opened - buckets.offset) % buckets.length
    sums = ["volume", "buy_volume", "sell_volume", "trade_count", "snapshot_count"]
    last_part = start.last() + buckets.length - buckets.base.microseconds
    joined = candles.group_by(start.alias("bucket"), maintain_order=True).agg(
        pl.col("exchange", "symbol", "open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close", "cvd_close").last(),
        pl.col("imbalance_last").drop_nulls().last(),
        *(pl.when(pl.col(name).count() > 0).then(pl.col(name).sum()).alias(name) for name in sums),
        _mean("vwap", "volume"),
        _mean("imbalance_mean", "snapshot_count"),
        _mean("spread_bps_mean", "snapshot_count"),
        (pl.col("is_closed").last() & ((opened.last() == last_part) | (newest >= last_part))).alias(
            "is_closed"
        ),
        (pl.col("is_whole").all() & (pl.len() == buckets.parts)).alias("is_whole"),
        pl.col("revised").max(),
        pl.when(pl.col("source").n_unique() == 1)
        .then(pl.col("source").first())
        .otherwise(pl.lit("mixed"))
        .alias("source"),
    )
    return joined.with_columns(
        pl.col("bucket").cast(pl.Datetime("us", "UTC")).alias("timestamp"),
        pl.lit(buckets.text).alias("interval"),
    ).select(pl.col(name).cast(kind) for name, kind in candles.schema.items())


def _mean(name: str, weight: str) -> pl.Expr:
    """The mean weighted by another column, over the rows that have both."""
    weights = pl.col(weight).filter(pl.col(name).is_not_null())
    total = weights.sum()
    mean = (pl.col(name).drop_nulls() * weights).sum() / total
    return pl.when(total > 0).then(mean).alias(name)
