"""A busy symbol's days, made from a seed: ten trades a second, and a book that churns.

Prices walk in ticks of 0.01 around 65,000 with the volatility of two fifths of their level a year. Trades
come in clusters of one aggressor, as orders are filled, and buyers follow buyers; six prices in ten are the
one before, as in recordings of BTC-USDT. Sizes are lots that people and programs like, and log-normal ones of
five decimals. Levels of the book stand at prices of their own, are cancelled, resized, eaten when the price
passes them, and added anew near it: half of the best ten a side are the same a second later, as in recordings
of busy symbols. A snapshot holds the best ten a side, also on the minute.
"""

from collections.abc import Iterator
from math import exp
from random import Random

from msgspec import Struct

from market import (
    DAY,
    MICROSECONDS,
    BookSnapshot,
    Candle,
    CandleBuilder,
    Cvd,
    CvdPoint,
    OrderBook,
    Side,
    Trade,
)
from market.book import SNAPSHOT_DEPTH
from market.levels import packed
from market.timeframe import GRACE

SYMBOL = "BTC/USDT"
_TICK = 100
"""Ticks in one unit of price."""
_CLUSTERS, _IN_CLUSTER = 3.33, 3.0
"""Clusters a second and trades in one, on average."""
_PERSISTENCE = 0.75
"""How often a cluster has the side of the one before."""
_MOVES, _STRIDE = 0.15, 470.0
"""How often the price has moved before a cluster, and by how many ticks on average: the volatility above."""
_STEPS = (0, 0, 0, 0, 0, 0, 0, 1, 1, 3)
"""Ticks from one fill of an order to the next."""
_LEVELS, _GAP = 110, 5.5
"""Levels a side that the book has at least, and the ticks between the best of them."""
_CANCELLED, _RESIZED = 0.07, 0.13
"""Shares of the levels, each second."""
_LOTS = (0.001, 0.002, 0.0005, 0.01, 0.00015, 0.1, 0.05, 1.0)


class Minute(Struct):
    """What a collector writes of a minute."""

    trades: list[tuple[Trade, float]]
    received: list[int]
    books: list[BookSnapshot]
    candles: list[Candle]
    points: list[CvdPoint]


class BusySymbol:
    """The symbol from `begin` on (00:00 UTC, microseconds)."""

    def __init__(self, begin: int, seed: int = 3) -> None:
        self._random = Random(seed)
        self._time = begin
        self._price = 65_000 * _TICK
        self._number = 3_000_000_000
        self._side = Side.BUY
        self._sides: tuple[dict[int, float], dict[int, float]] = {}, {}
        self._book = OrderBook()
        self._fresh: list[Trade] = []
        self._cvd = Cvd(SYMBOL)
        self._candles = CandleBuilder(SYMBOL)
        self._cvd.begin_span(begin)
        self._candles.begin_span(begin)

    def day(self) -> Iterator[Minute]:
        """The next day, minute by minute."""
        end = self._time + DAY
        while self._time < end:
            minute, self._fresh = Minute([], [], [], [], []), []
            for _ in range(60):
                self._second(minute)
            cvds = self._cvd.add(self._fresh)
            self._candles.add_trades(self._fresh, cvds)
            minute.trades = list(zip(self._fresh, cvds, strict=True))
            self._candles.close_until(self._time - GRACE)
            minute.candles = self._candles.take()
            self._cvd.settle(self._time - GRACE)
            minute.points = self._cvd.take()
            yield minute

    def _second(self, minute: Minute) -> None:
        self._churn()
        self._book.replace(
            *(packed((tick / _TICK, size) for tick, size in side.items()) for side in self._sides)
        )
        self._book.cut(SNAPSHOT_DEPTH)
        if snapshot := self._book.snapshot(SYMBOL, self._time, self._number * 7):
            minute.books.append(snapshot)
            self._candles.add_snapshot(snapshot)
        for moment in sorted(self._moments()):
            self._cluster(self._time + moment * 1000, minute)
        self._time += MICROSECONDS

    def _moments(self) -> Iterator[int]:
        """Milliseconds of the second at which somebody trades."""
        moment = self._random.expovariate(_CLUSTERS)
        while moment < 1:
            yield int(moment * 1000)
            moment += self._random.expovariate(_CLUSTERS)

    def _cluster(self, moment: int, minute: Minute) -> None:
        random = self._random
        if random.random() < _MOVES:
            self._price += round(random.choice((-1, 1)) * random.expovariate(1 / _STRIDE))
        if random.random() > _PERSISTENCE:
            self._side = Side.SELL if self._side is Side.BUY else Side.BUY
        side = self._side
        price = self._price + (side is Side.BUY)
        received = moment + round(2000 * exp(random.gauss(2.5, 0.4)))
        while True:
            trade = Trade(SYMBOL, moment, str(self._number), self._number, price / _TICK, self._size(), side)
            self._number += 1
            self._fresh.append(trade)
            minute.received.append(received)
            if random.random() < 1 / _IN_CLUSTER:
                return
            price += random.choice(_STEPS) * (1 if side is Side.BUY else -1)
            received += random.randrange(40)

    def _size(self) -> float:
        random = self._random
        if random.random() < 0.3:
            return random.choice(_LOTS)
        return max(round(exp(random.gauss(-5.5, 1.8)), 5), 1e-5)

    def _churn(self) -> None:
        random = self._random
        for side, best, away in zip(self._sides, (self._price, self._price + 1), (-1, 1), strict=True):
            for tick in [tick for tick in side if (tick - best) * away < 0 or random.random() < _CANCELLED]:
                del side[tick]
            for tick in side:
                if random.random() < _RESIZED:
                    side[tick] = self._size()
            side.setdefault(best, self._size())
            while len(side) < _LEVELS:
                side[best + away * round(random.expovariate(1 / (_GAP * _LEVELS)))] = self._size()
            if len(side) > 2 * _LEVELS:
                for tick in sorted(side, key=lambda tick: (tick - best) * away)[_LEVELS:]:
                    del side[tick]
