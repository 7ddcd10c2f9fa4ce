from decimal import Decimal
from math import fsum

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.json import decode, encode

from market import OrderBook
from market.levels import packed
from tests.market.books import said

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


def check_volumes(snapshot, sides):
    values = said(snapshot)
    bids, asks = (fsum(size for _, size in side[:10]) for side in sides)
    assert (values.bid_volume, values.ask_volume) == (bids, asks)
    assert snapshot.imbalance == values.imbalance == (bids - asks) / (bids + asks) * 100
    assert snapshot.spread_bps == values.spread_bps == values.spread / values.mid * 10_000


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
    values = said(snapshot)
    bid_levels, ask_levels = decode(values.bids), decode(values.asks)
    assert [[price for price, _ in side] for side in (bid_levels, ask_levels)] == [
        side[:depth] for side in best
    ]
    assert (values.best_bid, values.best_ask, values.depth) == (best[0][0], best[1][0], depth)
    assert (snapshot.symbol, snapshot.timestamp, snapshot.sequence) == ("BTC/USDT", timestamp, 42)
    assert values.mid == (values.best_bid + values.best_ask) / 2
    assert repr(values.spread) == repr(round(values.best_ask - values.best_bid, 6))
    check_volumes(snapshot, [bid_levels, ask_levels])


@pytest.mark.parametrize(
    ("bids", "asks"), [([], []), ([("1", "1")], []), ([], [("1", "1")]), ([("2", "1")], [("2", "1")])]
)
def test_a_one_sided_or_crossed_book_gives_no_snapshot(bids, asks):
    book = OrderBook()
    book.replace(bids, asks)
    assert book.snapshot("BTC/USDT", 1_000_000) is None


# Of all lengths, from what is written plainly to what needs an exponent or more digits than are sure.
ODD = st.one_of(
    st.integers(1, 10**6).map(lambda n: n / 1000),
    st.builds(lambda n, scale: n / 10**scale, st.integers(1, 10**16), st.integers(0, 22)),
    st.floats(1e-30, 1e30, exclude_min=True, exclude_max=True),
)
ODD_SIDE = st.dictionaries(ODD, ODD, min_size=1, max_size=15)


@given(ODD_SIDE, ODD_SIDE, st.sampled_from([1_000_000, 60_000_000]))
@example({1e-5: 1e-6, 1e-6: 0.1}, {999999999999999.0: 1e15, 1e15: 1e22}, 1_000_000)
@example({0.1: 0.1, 0.2: 0.2, 0.3: 0.3}, {0.352: 1e16, 0.3529: 1.0, 0.4: 1e-16}, 1_000_000)
def test_a_snapshot_says_numbers_of_any_length_as_they_are(below, above, timestamp):
    middle = max(below) if max(below) < min(above) else (min(below) + max(above)) / 2
    sides = [
        sorted((level for level in below.items() if level[0] <= middle), reverse=True),
        sorted(level for level in above.items() if level[0] > middle),
    ]
    book = OrderBook()
    book.apply(*map(packed, sides))
    snapshot = book.snapshot("BTC/USDT", timestamp)
    if not all(sides):
        assert snapshot is None
        return
    values = said(snapshot)
    assert (values.bids, values.asks) == tuple(encode(side[: values.depth]) for side in sides)
    check_volumes(snapshot, sides)
    bid, ask = (Decimal(repr(price)) for price in (values.best_bid, values.best_ask))
    assert values.spread == float(ask - bid)


def test_a_book_may_have_any_number_of_levels():
    book, count = OrderBook(), 5_000
    book.replace(
        packed((1.0 + n, 1.0) for n in range(count)), packed((2.0 * count + n, 1.0) for n in range(9))
    )
    book.apply(packed((1.5 + n, 2.0) for n in range(count)), packed((2.0 * count + n, 0.0) for n in range(8)))
    assert len(book) == 2 * count + 1
    assert (book.best_bid, book.best_ask) == (count + 0.5, 2.0 * count + 8)
    bids = book.side(is_bid=True)
    assert bids == [((n + 1) / 2 + 0.5, 1.0 + n % 2) for n in range(2 * count - 1, -1, -1)]
    assert book.deepest(is_bid=True) == 1.0
    assert (book.size_at(1.5, is_bid=True), book.size_at(1.25, is_bid=True)) == (2.0, 0.0)
