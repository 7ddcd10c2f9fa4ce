"""Columns of doubles read as decimals, as `market.decimals` reads them one by one: many sums with few calls.

Digits are 64-bit integers as long as no sum of them can overflow, else Python's own in a column of objects:
the same expressions serve both.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from market.decimals import ExactSum, scaled
from market.trade import Side, Trade

_SCALES = (8, 2, 14)
"""Most prices and sizes have no more decimals than the first of these; the largest or finest fit another."""
_SURE = 10**15
"""Below it digits name one double, and each double has no other decimal as short."""
_DOUBLE, _INTEGER = 2**53, 2**63
"""Integers below these are exact as a double and as a 64-bit integer."""
_BUY, _SELL = Side.BUY, Side.SELL  # Python 3.11 takes its time to look up an enumeration's member
_FINEST = 22
"""10**22 is the last power of ten that a double holds."""


class Decimals(NamedTuple):
    """digits / 10**scale; `scales` says of each how many decimals it has: `scale` is the most."""

    digits: NDArray[Any]
    scale: int
    scales: NDArray[np.int64]


def decimals(values: Sequence[float]) -> Decimals:
    """The shortest decimals of finite values, at the finest scale among them."""
    column = np.array(values)
    for scale in _SCALES:
        digits = np.rint(column * 10.0**scale)
        if np.abs(digits).max() < _SURE and (digits / 10.0**scale == column).all():
            return _shortened(digits.astype(np.int64), scale)
    pairs = [scaled(value) for value in values]
    scales = np.array([scale for _, scale in pairs])
    finest = int(scales.max())
    return Decimals(np.array([d * 10 ** (finest - s) for d, s in pairs], dtype=object), finest, scales)


def _shortened(digits: NDArray[np.int64], scale: int) -> Decimals:
    """Without the zeros that all of them end with."""
    scales = np.full(len(digits), scale)
    for zeros in range(1, scale + 1):
        ends = digits % 10**zeros == 0
        if not ends.any():
            break
        scales -= ends
    finest = int(scales.max())
    return Decimals(digits // 10 ** (scale - finest), finest, scales)


def product(first: Decimals, second: Decimals) -> Decimals:
    """One by one; a product has the decimals of both factors."""
    digits = _fit(first.digits, _INTEGER, _largest(second.digits)) * second.digits
    return Decimals(digits, first.scale + second.scale, first.scales + second.scales)


def sums_of_trades(trades: Sequence[Trade], begins: Sequence[int]) -> Iterator[tuple[ExactSum, ...]]:
    """Volume, bought, sold and notional of each group of trades; the groups begin where `begins` says."""
    sizes = decimals([trade.size for trade in trades])
    bought = sizes.digits * [trade.side is _BUY for trade in trades]
    sold = sizes.digits * [trade.side is _SELL for trade in trades]
    notional = product(sizes, decimals([trade.price for trade in trades]))
    columns = (sizes, sizes._replace(digits=bought), sizes._replace(digits=sold), notional)
    return zip(*(_group_sums(column, begins) for column in columns), strict=True)


def _group_sums(column: Decimals, begins: Sequence[int]) -> Iterator[ExactSum]:
    """The sum of each group, at the finest scale in it."""
    sums = np.add.reduceat(_fit(column.digits, _INTEGER, len(column.digits)), begins).tolist()
    scales = np.maximum.reduceat(column.scales, begins).tolist()
    for digits, scale in zip(sums, scales, strict=True):
        yield ExactSum(digits // 10 ** (column.scale - scale), scale)


def running(total: ExactSum, column: Decimals) -> list[float]:
    """Add a column to `total`; the sum after each, rounded once."""
    finest = max(total.scale, column.scale)
    total.add(0, finest)
    factor = 10 ** (finest - column.scale)
    room = _DOUBLE - abs(total.digits) if finest <= _FINEST else 0
    sums = _fit(column.digits, room, len(column.digits) * factor).cumsum() * factor + total.digits
    total.digits = int(sums[-1])
    # Both are exact as doubles, or Python's: either way the quotient is rounded once.
    power: Any = 10**finest if sums.dtype == object else 10.0**finest
    rounded: list[float] = (sums / power).tolist()
    return rounded


def _largest(digits: NDArray[Any]) -> int:
    return int(abs(digits).max())


def _fit(digits: NDArray[Any], room: int, factor: int) -> NDArray[Any]:
    """The digits, as Python's integers if `factor` times the largest has no room."""
    return digits if (_largest(digits) + 1) * factor < room else digits.astype(object)
