"""Sums over columns equal those made one by one, whatever the numbers are."""

from fractions import Fraction
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from market import ExactSum, Side, Trade
from market.columns import decimals, running, sums_of_trades
from market.decimals import scaled

TIDY = st.integers(1, 10**9).flatmap(lambda digits: st.integers(0, 8).map(lambda places: digits / 10**places))
ODD = st.one_of(
    st.floats(1e-30, 1e30),
    st.integers(1, 10**17).flatmap(lambda digits: st.integers(0, 16).map(lambda places: digits / 10**places)),
)
NUMBERS = st.one_of(st.lists(TIDY, min_size=1, max_size=30), st.lists(st.one_of(TIDY, ODD), min_size=1))
SIDES = st.sampled_from([Side.BUY, Side.SELL, None])


@given(st.one_of(NUMBERS, st.just([0.0]), st.just([0.0, 0.1])))
def test_a_column_has_the_decimals_of_each_value(values):
    column = decimals(values)
    assert [
        (digits // 10 ** (column.scale - scale), scale)
        for digits, scale in zip(column.digits.tolist(), column.scales.tolist(), strict=True)
    ] == [scaled(value) for value in values]


@given(NUMBERS, st.tuples(st.integers(-(10**20), 10**20), st.integers(0, 25)))
def test_a_running_sum_is_exact_and_rounded_once_each_time(values, begin):
    total, column = ExactSum(*begin), decimals(values)
    signs = [1 - 2 * (number % 3 == 0) for number in range(len(values))]
    sums = running(total, column._replace(digits=column.digits * signs))
    terms = [sign * Fraction(repr(value)) for sign, value in zip(signs, values, strict=True)]
    exact = list(accumulate(terms, initial=Fraction(begin[0], 10 ** begin[1])))[1:]
    assert sums == [float(value) for value in exact]
    assert Fraction(total.digits, 10**total.scale) == exact[-1]


@given(st.lists(st.tuples(st.one_of(TIDY, ODD), TIDY, SIDES, st.booleans()), min_size=1, max_size=30))
def test_groups_of_trades_sum_up_as_one_by_one(rows):
    trades = [
        Trade("BTC/USDT", number, str(number), number, price, size, side)
        for number, (size, price, side, _) in enumerate(rows)
    ]
    begins = [number for number, row in enumerate(rows) if row[3] or not number]
    ends = [*begins[1:], len(rows)]
    for begin, end, found in zip(begins, ends, sums_of_trades(trades, begins), strict=True):
        volume, bought, sold, notional = (ExactSum() for _ in range(4))
        for trade in trades[begin:end]:
            digits, scale = scaled(trade.size)
            price, price_scale = scaled(trade.price)
            volume.add(digits, scale)
            notional.add(digits * price, scale + price_scale)
            if trade.side is not None:
                (bought if trade.side is Side.BUY else sold).add(digits, scale)
        assert [repr(found[0]), repr(found[3])] == [repr(volume), repr(notional)]
        assert [float(found[1]), float(found[2])] == [float(bought), float(sold)]
