"""A market without a state: its trades are a function of the seed, the symbol and the time.

Any hour can be asked for in any order and always is the same, so a restarted simulator continues the same
tape with the same ids, and all of history can be had over REST without being stored.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import floor, log10
from re import fullmatch
from typing import TypeVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from collector.simulator.noise import Bits, Floats, Integers, bit_at, bits_at, gauss, key_of, uniform
from collector.simulator.path import HOUR, Path, path
from market import WrongUse

TRADES_PER_HOUR = 3600
"""So that a trade's id says its hour: ids are consecutive over all hours."""
FIRST_HOUR = 394_464
"""Hours from 1970 to 2015-01-01: the hour of trade 1, before which the market does not exist."""
_KNOWN = {  # base price, daily volatility
    "BTC": (60_000.0, 0.030),
    "ETH": (3_000.0, 0.038),
    "SOL": (150.0, 0.050),
    "BNB": (600.0, 0.032),
    "XRP": (0.6, 0.045),
    "ADA": (0.45, 0.045),
    "DOGE": (0.15, 0.055),
    "LTC": (80.0, 0.038),
}
_LEVEL_SPACING = 3e-5
"""Distance of two book levels, as a share of the base price; the nearest round number of ticks is taken."""
_TIED = 0.12
"""Share of the trades that print in the millisecond of the one before."""


_T = TypeVar("_T")


def recent(make: Callable[[int], _T]) -> Callable[[int], _T]:
    """`make`, remembering the last few answers: time mostly moves on, so few are enough."""
    return lru_cache(maxsize=4)(make)


class Trades(Struct, frozen=True):
    """One hour of trades as columns, in tape order.

    Attributes:
        first_id: id of the first; the others follow it.
        time: milliseconds since 1970, ascending, with ties.
        price: in ticks.
        size: in lots.
        is_buy: whether the aggressor bought.
    """

    first_id: int
    time: Integers
    price: Integers
    size: Integers
    is_buy: NDArray[np.bool_]


class Top(Struct, frozen=True):
    """Best bid and best ask of each second of an hour, counted in book levels from price 0."""

    bid: Integers
    ask: Integers


class SimulatedMarket:
    """One instrument of a seeded market. Pure: the same seed, symbol and hour give the same answer."""

    def __init__(self, seed: int, symbol: str) -> None:
        match = fullmatch(r"([A-Z0-9]{1,12})/(USD|USDT|USDC|EUR|GBP)(?::(USDT|USDC))?", symbol)
        if match is None or match[3] not in (None, match[2]):
            raise WrongUse(
                f"the simulator has no {symbol!r}: its markets are like BTC/USDT, BTC/USD or BTC/USDT:USDT"
            )
        self.symbol = symbol
        self.base, self.quote = match[1], match[2]
        self.settle: str | None = match[3]
        """What a perpetual is settled in; None of a spot market."""
        self.key = key_of("market", seed, symbol)
        self.base_price, self.daily_volatility = _KNOWN.get(self.base) or _hashed_price(symbol)
        magnitude = floor(log10(self.base_price))
        self.price_decimals = 5 - magnitude
        self.size_decimals = min(max(magnitude + 1, 0), 5)
        self.ticks_a_level = _ticks_a_level(self.base_price * 10**self.price_decimals)
        self.closes: int | None = None
        """From when on (milliseconds UTC) nothing is traded any more; None: for ever."""
        self._halts: tuple[tuple[int, int], ...] = ()
        self._reset_hour: int | None = None
        self.path = recent(self._path)
        self.top = recent(self._top)
        self.trades = recent(self._trades)

    def disturb(
        self, *, halts: Sequence[tuple[int, int]], closes: int | None, reset_hour: int | None
    ) -> None:
        """Let the market have accidents; before anything is asked of it.

        Args:
            halts: (begin, end) in milliseconds UTC, inside one hour each: what would have been traded then is
                traded at the end.
            closes: from when on nothing is traded, milliseconds UTC.
            reset_hour: from this hour (since 1970) on, ids count from 1 again.
        """
        self._halts, self.closes, self._reset_hour = tuple(halts), closes, reset_hour

    def first_id(self, hour: int) -> int:
        """The id of the first trade of an hour since 1970."""
        if self._reset_hour is not None and hour >= self._reset_hour:
            return (hour - self._reset_hour) * TRADES_PER_HOUR + 1
        return (hour - FIRST_HOUR) * TRADES_PER_HOUR + 1

    def place_of(self, number: int) -> tuple[int, int]:
        """The hour since 1970 and the place in it of the trade with this id.

        Where ids began anew, a small one means a new trade.
        """
        hour, place = divmod(number - 1, TRADES_PER_HOUR)
        if self._reset_hour is not None and number <= self.last_old_id // 2:
            return hour + self._reset_hour, place
        return hour + FIRST_HOUR, place

    @property
    def last_old_id(self) -> int:
        """The last id before they begin anew; 0 where they never do."""
        if self._reset_hour is None:
            return 0
        return (self._reset_hour - FIRST_HOUR) * TRADES_PER_HOUR

    def lots(self, quote_amount: float) -> float:
        """How many lots `quote_amount` buys at the base price, at least 1."""
        return max(quote_amount / self.base_price * 10.0**self.size_decimals, 1.0)

    def price_text(self, ticks: int) -> str:
        """A price as decimal text."""
        return _decimal_text(ticks, self.price_decimals)

    def size_text(self, lots: int) -> str:
        """A size in base units as decimal text."""
        return _decimal_text(lots, self.size_decimals)

    def _path(self, hour: int) -> Path:
        return path(self.key, hour, self.daily_volatility)

    def _top(self, hour: int) -> Top:
        level = self.ticks_a_level * 10.0**-self.price_decimals
        prices = self.base_price * np.exp(self.path(hour).log_price[:HOUR])
        bid = np.floor(prices / level).astype(np.int64)
        # One level apart mostly; for eight seconds at a time sometimes two or three.
        moments = np.arange(hour * HOUR, (hour + 1) * HOUR) // 8
        draw = uniform(bits_at(key_of(self.key, "spread"), moments))
        return Top(bid, bid + 1 + (draw > 0.75) + (draw > 0.93))

    def _trades(self, hour: int) -> Trades:
        if hour < FIRST_HOUR:
            raise ValueError(f"the simulated market begins in hour {FIRST_HOUR}, not {hour}")
        first = (hour - FIRST_HOUR) * TRADES_PER_HOUR
        index = np.arange(first, first + TRADES_PER_HOUR)
        current = self.path(hour)
        time = _times(self.key, index, current.activity)
        second = time // 1000
        eagerness = _eagerness(current)[second]
        is_buy = uniform(self._bits("side", index)) < 0.5 + 0.32 * eagerness
        spread = gauss(self._bits("size", index)) * 1.3 + 0.5 * np.abs(eagerness)
        size = np.rint(self.lots(250.0) * np.exp(spread)).astype(np.int64)
        price = self._prices(self.top(hour), second, is_buy, self._bits("price", index))
        time = self._delayed(time + hour * HOUR * 1000, (hour + 1) * HOUR * 1000 - 1)
        return Trades(self.first_id(hour), time, price, np.maximum(size, 1), is_buy)

    def _delayed(self, time: Integers, last: int) -> Integers:
        """Times of trades, those in a halt moved to its end, which is `last` at the latest."""
        for begin, end in self._halts:
            time = np.where((time >= begin) & (time < end), min(end, last), time)
        return time

    def _prices(self, top: Top, second: Integers, is_buy: NDArray[np.bool_], bits: Bits) -> Integers:
        """At the touch, a fifth of them better than that, up to the middle; in ticks."""
        bid, ask = top.bid[second] * self.ticks_a_level, top.ask[second] * self.ticks_a_level
        improved = (bits >> np.uint64(32)) % np.uint64(5) == 0
        room = (ask - bid) // 2
        better = np.where(improved, (bits & np.uint64(0xFFFF)).astype(np.int64) % (room + 1), 0)
        return np.where(is_buy, ask - better, bid + better)

    def _bits(self, what: str, index: Integers) -> Bits:
        return bits_at(key_of(self.key, what), index)


def _times(key: int, index: Integers, activity: Floats) -> Integers:
    """Milliseconds into the hour, ascending: dense where the hour is active."""
    share = np.sort(uniform(bits_at(key_of(key, "time"), index)))
    clock = np.concatenate(([0.0], np.cumsum(activity)))
    seconds = np.interp(share, clock, np.arange(HOUR + 1))
    time = np.minimum((seconds * 1000).astype(np.int64), HOUR * 1000 - 1)
    tied = uniform(bits_at(key_of(key, "tied"), index)) < _TIED
    tied[0] = False
    return np.maximum.accumulate(np.where(tied, 0, time))


def _eagerness(current: Path) -> Floats:
    """How one-sided the aggressors of each second are, -1…1: they push the price where it goes."""
    ahead = np.minimum(np.arange(HOUR) + 10, HOUR)
    behind = np.maximum(np.arange(HOUR) - 5, 0)
    move = current.log_price[ahead] - current.log_price[behind]
    return np.tanh(move / (current.volatility * 15**0.5))


def _hashed_price(symbol: str) -> tuple[float, float]:
    """A base price between 0.01 and 100 with two digits, and a volatility, for a coin we do not know."""
    bits = bit_at(key_of("price", symbol), 0)
    price = 10.0 ** (bits % 4000 / 1000 - 2)
    digits = 1 - floor(log10(price))
    return round(price, digits), 0.04 + (bits >> 32) % 20 / 1000


def _ticks_a_level(ticks: float) -> int:
    wanted = _LEVEL_SPACING * ticks
    return min((2, 5, 10, 20), key=lambda choice: abs(choice - wanted))


def _decimal_text(digits: int, decimals: int) -> str:
    if not decimals:
        return str(digits)
    whole, part = divmod(digits, 10**decimals)
    return f"{whole}.{part:0{decimals}d}"
