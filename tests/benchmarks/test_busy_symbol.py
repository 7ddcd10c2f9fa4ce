"""The generated symbol is as busy as it says, and the same each time."""

from itertools import islice, pairwise

import msgspec
import pytest

from benchmarks.busy_symbol import BusySymbol, Minute
from market import DAY, MICROSECONDS, Side
from tests.market.books import said

BEGIN = 20_000 * DAY
COUNT = 10


def minutes(seed: int = 3) -> list[Minute]:
    return list(islice(BusySymbol(BEGIN, seed).day(), COUNT))


def test_trades_are_ten_a_second_in_tape_order_and_sum_up() -> None:
    made = minutes()
    trades = [trade for minute in made for trade, _ in minute.trades]
    assert len(trades) / (60 * COUNT) == pytest.approx(10, rel=0.1)
    assert [trade.trade_seq for trade in trades] == list(range(trades[0].trade_seq, trades[-1].trade_seq + 1))
    assert all(one.timestamp <= other.timestamp for one, other in pairwise(trades))
    same_price = sum(one.price == other.price for one, other in pairwise(trades))
    assert same_price / len(trades) == pytest.approx(0.6, abs=0.05)
    signed = sum(trade.size if trade.side is Side.BUY else -trade.size for trade in trades)
    assert made[-1].trades[-1][1] == pytest.approx(signed)
    for minute in made:
        assert len(minute.received) == len(minute.trades)
        assert all(
            at > trade.timestamp for at, (trade, _) in zip(minute.received, minute.trades, strict=True)
        )


def test_a_book_a_second_half_of_which_stays() -> None:
    books = [book for minute in minutes() for book in minute.books]
    assert [book.timestamp for book in books] == list(
        range(BEGIN, BEGIN + 60 * COUNT * MICROSECONDS, MICROSECONDS)
    )
    levels = [
        {tuple(level) for side in said(book)[-2:] for level in msgspec.json.decode(side)[:10]}
        for book in books
    ]
    assert {len(each) for each in levels} == {20}
    kept = sum(len(one & other) for one, other in pairwise(levels))
    assert kept / (20 * (len(levels) - 1)) == pytest.approx(0.5, abs=0.1)


def test_candles_and_points_come_as_they_are_due() -> None:
    made = minutes()
    candles = [candle for minute in made for candle in minute.candles]
    closed = [candle for candle in candles if candle.timeframe == "1m" and candle.is_closed]
    assert len(closed) == COUNT - 1
    assert closed[0].trade_count == len(made[0].trades)
    points = [point for minute in made for point in minute.points]
    assert [point.timestamp for point in points] == [
        BEGIN + n * 10 * MICROSECONDS for n in range(1, 6 * COUNT)
    ]


def test_a_seed_says_it_all() -> None:
    assert minutes() == minutes()
    assert minutes(4) != minutes()
