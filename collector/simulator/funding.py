"""What longs and shorts of a simulated perpetual contract pay each other, every eight hours."""

from collections.abc import Iterator

from msgspec import Struct

from collector.simulator.market import SimulatedMarket
from collector.simulator.noise import bit_at, key_of
from collector.simulator.tape import FIRST_MOMENT, HOUR

INTERVAL = 8 * HOUR
"""Milliseconds between two payments."""
_LOWEST, _KINDS = -3_000, 7_001
"""Rates in units of 1e-8: from -0.003 % to 0.004 %."""


class Payment(Struct, frozen=True, gc=False):
    """One payment: its time in milliseconds UTC, the rate, and the mark price in ticks."""

    time: int
    rate: int
    mark_price: int

    @property
    def rate_text(self) -> str:
        """The rate as decimal text."""
        return f"{self.rate / 1e8:.8f}"


def payments(market: SimulatedMarket, begin: int, end: int) -> Iterator[Payment]:
    """Those with begin <= time < end, milliseconds UTC, in order; none after the market closed."""
    end = end if market.closes is None else min(end, market.closes)
    first = -(-max(begin, FIRST_MOMENT) // INTERVAL)
    key = key_of(market.key, "funding")
    for number in range(first, -(-end // INTERVAL)):
        time = number * INTERVAL
        top = market.top(time // HOUR)
        middle = int(top.bid[0] + top.ask[0]) * market.ticks_a_level // 2
        yield Payment(time, _LOWEST + bit_at(key, number) % _KINDS, middle)
