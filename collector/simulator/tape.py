"""The simulated trades by their number and by time, over any hours."""

from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter

from msgspec import Struct

from collector.simulator.market import FIRST_HOUR, TRADES_PER_HOUR, SimulatedMarket, Trades

HOUR = 3_600_000
"""Milliseconds in an hour."""
FIRST_MOMENT = FIRST_HOUR * HOUR
"""Milliseconds UTC before which nothing happened."""


class Fill(Struct, frozen=True, gc=False):
    """One trade: its number, time in milliseconds UTC, price in ticks, size in lots."""

    number: int
    time: int
    price: int
    size: int
    is_buy: bool

    @property
    def side(self) -> str:
        """The aggressor's, `buy` or `sell`."""
        return "buy" if self.is_buy else "sell"


def fills_of(trades: Trades, begin: int = 0, end: int | None = None) -> Iterator[Fill]:
    """The trades of one hour from place `begin` to before place `end`."""
    columns = (trades.time, trades.price, trades.size, trades.is_buy)
    rows = zip(*(column[begin:end].tolist() for column in columns), strict=True)
    for number, row in enumerate(rows, trades.first_id + begin):
        yield Fill(number, *row)


def tied(trades: Trades) -> Iterator[list[Fill]]:
    """The trades of one hour, those of each millisecond together."""
    for _, group in groupby(fills_of(trades), key=attrgetter("time")):
        yield list(group)


def fills(market: SimulatedMarket, first: int, end: int) -> Iterator[Fill]:
    """The trades with first <= number < end, over any hours."""
    first = max(first, 1)
    while first < end:
        hour, place = market.place_of(first)
        stop = min(place + end - first, TRADES_PER_HOUR)
        yield from fills_of(market.trades(hour), place, stop)
        first += stop - place


def next_number(market: SimulatedMarket, time: int) -> int:
    """The number of the first trade at or after `time` (milliseconds)."""
    time = max(time, FIRST_MOMENT)
    if market.closes is not None:
        time = min(time, market.closes)
    trades = market.trades(time // HOUR)
    number = trades.first_id + int(trades.time.searchsorted(time))
    # The one after the last old one is the first new one.
    return 1 if market.last_old_id and number == market.last_old_id + 1 else number


def is_traded(market: SimulatedMarket, time: int) -> bool:
    """Whether the market is not closed yet at `time` (milliseconds)."""
    return market.closes is None or time < market.closes


def end_number(market: SimulatedMarket, first: int, time: int) -> int:
    """The number after that of the last trade before `time` (milliseconds) which those from `first` on reach.

    Where ids have begun anew meanwhile, old ones end with the last old one.
    """
    end = next_number(market, time)
    is_old = market.last_old_id // 2 < first <= market.last_old_id
    return market.last_old_id + 1 if is_old and end <= first else end
