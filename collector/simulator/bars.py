"""Candles over simulated trades, in whole ticks and lots, so that nothing is rounded."""

import numpy as np
from msgspec import Struct

from collector.simulator.market import FIRST_HOUR, SimulatedMarket, Trades
from collector.simulator.noise import Integers

MINUTE = 60_000
"""Milliseconds in a minute."""
_HOUR = 60 * MINUTE


class Bar(Struct, frozen=True, gc=False):
    """Trades from `open_time` on, in ticks, lots and their product (`quote`); `first_id` -1 without any."""

    open_time: int
    first_id: int
    last_id: int
    open: int
    high: int
    low: int
    close: int
    size: int
    buy_size: int
    quote: int
    buy_quote: int
    count: int


def partial_bars(trades: Trades, open_times: Integers, until: Integers) -> list[Bar]:
    """For each i the bar of the trades with `open_times[i]` <= time < `until[i]`, inside one hour.

    A bar without trades is flat at the price of the trade before it.
    """
    begin, end = np.searchsorted(trades.time, open_times), np.searchsorted(trades.time, until)
    count = end - begin
    spans = np.stack((begin, end), axis=1).ravel()
    price = np.append(trades.price, trades.price[-1])  # reduceat wants every index to exist
    signed = np.where(trades.is_buy, trades.size, 0)
    before = np.maximum(begin - 1, 0)
    is_empty = count == 0
    columns = (
        open_times,
        np.where(is_empty, -1, trades.first_id + begin),
        np.where(is_empty, -1, trades.first_id + end - 1),
        np.where(is_empty, price[before], price[begin]),
        np.where(is_empty, price[before], np.maximum.reduceat(price, spans)[::2]),
        np.where(is_empty, price[before], np.minimum.reduceat(price, spans)[::2]),
        np.where(is_empty, price[before], price[end - 1]),
        _sums(trades.size, begin, end),
        _sums(signed, begin, end),
        _sums(trades.price * trades.size, begin, end),
        _sums(trades.price * signed, begin, end),
        count,
    )
    return [Bar(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _sums(values: Integers, begin: Integers, end: Integers) -> Integers:
    running = np.concatenate(([0], np.cumsum(values)))
    sums: Integers = running[end] - running[begin]
    return sums


def bars(market: SimulatedMarket, length: int, first: int, count: int, now: int) -> list[Bar]:
    """The bars of `length` milliseconds from open time `first` on, at most `count`, of trades before `now`.

    `length` divides a day and is whole minutes; the last bar may still be open.
    """
    first = max(first, FIRST_HOUR * _HOUR)
    now = now if market.closes is None else min(now, market.closes)
    found = []
    for open_time in range(first, min(first + count * length, now), length):
        end = min(open_time + length, now)
        parts = [
            _part(market, hour, max(open_time, hour), min(end, hour + _HOUR))
            for hour in range(open_time - open_time % _HOUR, end, _HOUR)
        ]
        found.append(_joined(parts))
    return found


def _part(market: SimulatedMarket, hour: int, begin: int, end: int) -> Bar:
    return partial_bars(market.trades(hour // _HOUR), np.array([begin]), np.array([end]))[0]


class Moment(Struct, frozen=True, gc=False):
    """What the minute of a moment looks like then: at the minute's end, its last word."""

    time: int
    bar: Bar
    is_final: bool


def moments(market: SimulatedMarket, hour: int, every: int) -> list[Moment]:
    """The running minute of `market` each `every` milliseconds of an hour (since 1970).

    Its last word comes at its end, which is the begin of the next.
    """
    begin = hour * _HOUR
    times = np.arange(begin, begin + _HOUR, every)
    minutes = (times - 1) // MINUTE * MINUTE
    previous = partial_bars(market.trades(hour - 1), minutes[:1], times[:1])
    current = partial_bars(market.trades(hour), minutes[1:], times[1:])
    return [
        Moment(time, bar, time == bar.open_time + MINUTE)
        for time, bar in zip(times.tolist(), previous + current, strict=True)
    ]


def traded_moments(market: SimulatedMarket, hour: int, every: int) -> list[Moment]:
    """Those of `moments` that a trade has changed since the one before."""
    found, before = [], (0, 0)
    for moment in moments(market, hour, every):
        state = (moment.bar.open_time, moment.bar.count)
        if moment.bar.count and state != before:
            found.append(moment)
        before = state
    return found


def _joined(parts: list[Bar]) -> Bar:
    traded = [part for part in parts if part.count] or parts[:1]
    return Bar(
        open_time=parts[0].open_time,
        first_id=traded[0].first_id,
        last_id=traded[-1].last_id,
        open=traded[0].open,
        high=max(part.high for part in traded),
        low=min(part.low for part in traded),
        close=traded[-1].close,
        size=sum(part.size for part in parts),
        buy_size=sum(part.buy_size for part in parts),
        quote=sum(part.quote for part in parts),
        buy_quote=sum(part.buy_quote for part in parts),
        count=sum(part.count for part in parts),
    )
