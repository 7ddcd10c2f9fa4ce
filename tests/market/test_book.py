from math import fsum

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.json import decode

from market import OrderBook

PRICES = st.integers(1, 40).map(lambda ticks: f"{ticks / 2:.2f}")
SIZES = st.one_of(
    st.sampled_from(["0", "0.0", "0.00000000", "0e0"]), st.integers(1, 9).map(lambda n: f"{n}.50")
)
LEVELS = st.lists(st.tuples(PRICES, SIZES), max_size=8)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("apply"), LEVELS, LEVELS),
        st.tuples(st.just("replace"), LEVELS, LEVELS),
        st.tuples(st.just("cut"), st.integers(0, 12)),
    ),
    max_size=25,
)


class NaiveSide:
    def __init__(self, *, is_bid):
        self.is_bid = is_bid
        self.levels = {}

    def apply(self, levels):
        for price, size in levels:
            self.levels.pop(float(price), None)
            if float(size):
                self.levels[float(price)] = (price, size)

    def replace(self, levels):
        self.levels = {}
        # A zero in a whole book is no level, whatever else the book says of its price.
        for price, size in levels:
            if float(size):
                self.levels[float(price)] = (price, size)

    def top(self, depth):
        ordered = sorted(self.levels, reverse=self.is_bid)
        return [self.levels[price] for price in ordered[:depth]]

    def cut(self, depth):
        self.levels = {float(price): (price, size) for price, size in self.top(depth)}


@given(CHANGES)
def test_the_book_equals_a_naive_one(changes):
    book, bids, asks = OrderBook(), NaiveSide(is_bid=True), NaiveSide(is_bid=False)
    for kind, *arguments in changes:
        getattr(book, kind)(*arguments)
        for side, levels in zip(
            (bids, asks), arguments if len(arguments) == 2 else arguments * 2, strict=True
        ):
            getattr(side, kind)(levels)
        for depth in (0, 1, 3, 100):
            assert book.top(depth) == (bids.top(depth), asks.top(depth))
        assert len(book) == len(bids.levels) + len(asks.levels)
        assert book.best_bid == max(bids.levels, default=None)
        assert book.best_ask == min(asks.levels, default=None)
        is_crossed = bool(bids.levels and asks.levels) and max(bids.levels) >= min(asks.levels)
        assert book.is_crossed == is_crossed


def test_a_price_in_another_spelling_is_the_same_level():
    book = OrderBook()
    book.replace([("100.0", "1"), ("99", "1")], [])
    book.apply([("100.00", "2.50"), ("99.000", "0.000")], [])
    assert book.top(5) == ([("100.00", "2.50")], [])


def test_removing_an_unknown_level_changes_nothing():
    book = OrderBook()
    book.replace([("1", "1")], [("2", "1")])
    book.apply([("0.5", "0")], [("3", "0.0")])
    assert book.top(5) == ([("1", "1")], [("2", "1")])


SOUND = st.lists(st.tuples(st.integers(1, 200), st.integers(1, 10**6)), min_size=1, max_size=150)


@given(SOUND, SOUND, st.sampled_from([1_700_000_001_000_000, 1_700_000_040_000_000]))
def test_a_snapshot_is_of_the_top_of_the_book(below, above, timestamp):
    bids = {f"{(1000 - n) / 10}": f"{size / 1000}" for n, size in below}
    asks = {f"{(1000 + n) / 10}": f"{size / 1000}" for n, size in above}
    book = OrderBook()
    book.replace(list(bids.items()), list(asks.items()))
    snapshot = book.snapshot("BTC/USDT", timestamp, 42)
    best = [sorted(map(float, bids), reverse=True), sorted(map(float, asks))]
    depth = 10 if timestamp % 60_000_000 else 100
    bid_levels, ask_levels = decode(snapshot.bids), decode(snapshot.asks)
    assert [[price for price, _ in side] for side in (bid_levels, ask_levels)] == [
        side[:depth] for side in best
    ]
    assert (snapshot.best_bid, snapshot.best_ask, snapshot.depth) == (best[0][0], best[1][0], depth)
    assert (snapshot.symbol, snapshot.timestamp, snapshot.sequence) == ("BTC/USDT", timestamp, 42)
    assert snapshot.mid == (snapshot.best_bid + snapshot.best_ask) / 2
    assert repr(snapshot.spread) == repr(round(snapshot.best_ask - snapshot.best_bid, 6))
    assert snapshot.spread_bps == pytest.approx(snapshot.spread / snapshot.mid * 10_000)
    assert snapshot.bid_volume == fsum(size for _, size in bid_levels[:10])
    assert snapshot.ask_volume == fsum(size for _, size in ask_levels[:10])
    assert -100 < snapshot.imbalance < 100
    assert (snapshot.imbalance > 0) == (snapshot.bid_volume > snapshot.ask_volume)


@pytest.mark.parametrize(
    ("bids", "asks"), [([], []), ([("1", "1")], []), ([], [("1", "1")]), ([("2", "1")], [("2", "1")])]
)
def test_a_one_sided_or_crossed_book_gives_no_snapshot(bids, asks):
    book = OrderBook()
    book.replace(bids, asks)
    assert book.snapshot("BTC/USDT", 1_000_000) is None
