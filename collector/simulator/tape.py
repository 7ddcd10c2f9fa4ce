"""The simulated trades by their number and by time, over any hours."""

from collections.abc import Iterator

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


def fills(market: SimulatedMarket, first: int, end: int) -> Iterator[Fill]:
    """The trades with first <= number < end, over any hours."""
    first = max(first, 1)
    while first < end:
        hour, place = divmod(first - 1, TRADES_PER_HOUR)
        stop = min(place + end - first, TRADES_PER_HOUR)
        yield from fills_of(market.trades(hour + FIRST_HOUR), place, stop)
        first += stop - place


def next_number(market: SimulatedMarket, time: int) -> int:
    """The number of the first trade at or after `time` (milliseconds)."""
    time = max(time, FIRST_MOMENT)
    trades = market.trades(time // HOUR)
    return trades.first_id + int(trades.time.searchsorted(time))


def time_of(market: SimulatedMarket, number: int) -> int:
    """When (milliseconds UTC) the trade with this number, or else the first one of all, happened."""
    hour, place = divmod(max(number, 1) - 1, TRADES_PER_HOUR)
    return int(market.trades(hour + FIRST_HOUR).time[place])
