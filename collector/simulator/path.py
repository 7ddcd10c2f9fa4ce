"""The price path and the activity of one simulated hour, from the seed alone.

The logarithm of the price at whole hours is a midpoint displacement on a binary tree of hours (as for
Brownian motion), whose size is itself a random cascade down the tree, so that calm and wild times come in
clusters of every length. Above a few months the displacement stops growing: prices stay in a band around
the base price for ever. Inside the hour, a Brownian bridge in the hour's own activity joins the two ends.
"""

from math import exp

import numpy as np
from msgspec import Struct

from collector.simulator.noise import Floats, bits_at, gauss, gauss_at, key_of, wave

HOUR = 3600
"""Seconds in an hour."""
_TREE_HOURS = 2**14
_LARGEST_DISPLACEMENT = 0.15
_CASCADE_HOURS = 64
_CASCADE_DEVIATION = 0.18
_PRESSURE_SHARE = 0.08
"""How much of a second's move the book's pressure foretells."""


class Path(Struct, frozen=True):
    """One hour of a market.

    Attributes:
        log_price: logarithm of price / base price at each second 0…3600; the last is the next hour's first.
        activity: share of the hour's trades that fall into each second, in order, sums to 1.
        volatility: standard deviation of the logarithm over one second, this hour's average.
    """

    log_price: Floats
    activity: Floats
    volatility: float


def pressure(key: int, first: int, count: int) -> Floats:
    """Who is more eager at each second from `first` on: above 0 the buyers. Mean 0, deviation about 0.8."""
    seconds = np.arange(first, first + count)
    fast = wave(key_of(key, "pressure"), seconds, 40)
    slow = wave(key_of(key, "slow pressure"), seconds, 420)
    return 0.7 * fast + 0.7 * slow


def path(key: int, hour: int, daily_volatility: float) -> Path:
    """The path of the hour that begins `hour` hours after 1970; `key` holds the seed and the symbol."""
    left, right, wildness = _ends(key, hour, daily_volatility)
    volatility = wildness * daily_volatility / 86_400**0.5
    first = hour * HOUR
    activity = _activity(key, hour)
    draws = gauss(bits_at(key_of(key, "move"), np.arange(first, first + HOUR)))
    draws = draws * (1 - _PRESSURE_SHARE**2) ** 0.5 + _PRESSURE_SHARE * pressure(key, first, HOUR)
    moves = draws * np.sqrt(activity * HOUR) * volatility
    walk = np.concatenate(([0.0], np.cumsum(moves)))
    clock = np.concatenate(([0.0], np.cumsum(activity)))
    clock[-1] = 1.0
    return Path(left + walk + clock * (right - left - walk[-1]), activity, volatility)


def _activity(key: int, hour: int) -> Floats:
    """Bursts: lively and quiet minutes, and lively and quiet seconds inside them."""
    seconds = np.arange(hour * HOUR, hour * HOUR + HOUR)
    lively = 0.45 * wave(key_of(key, "minutes"), seconds, 90)
    lively += 0.9 * gauss(bits_at(key_of(key, "seconds"), seconds))
    weights = np.exp(lively)
    shares: Floats = weights / weights.sum()
    return shares


def _ends(key: int, hour: int, daily_volatility: float) -> tuple[float, float, float]:
    """Logarithm of the price at the hour's begin and end, and how wild the hour is (about 1)."""
    begin = hour - hour % _TREE_HOURS
    length = _TREE_HOURS
    anchors = key_of(key, "anchors")
    left, right = (_LARGEST_DISPLACEMENT * gauss_at(anchors, place) for place in (begin, begin + _TREE_HOURS))
    wildness = 1.0
    displacements, cascade = key_of(key, "displacements"), key_of(key, "cascade")
    while length > 1:
        half = length // 2
        node = 2 * begin + length  # twice the node's middle: no two nodes share it with the same length
        draw = gauss_at(displacements + length, node)
        size = min(wildness * daily_volatility * (length / 24) ** 0.5 / 2, _LARGEST_DISPLACEMENT)
        middle = (left + right) / 2 + size * draw
        if hour >= begin + half:
            begin, left = begin + half, middle
        else:
            right = middle
        length = half
        if length <= _CASCADE_HOURS:
            deviation = _CASCADE_DEVIATION
            wildness *= exp(deviation * gauss_at(cascade + length, begin) - deviation**2)
    return left, right, wildness
