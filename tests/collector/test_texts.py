from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.json import encode

from collector.exchanges.texts import Numbers, iso_microseconds, seconds_microseconds
from market.levels import packed

DECIMALS = st.decimals(min_value=0, allow_nan=False, allow_infinity=False, places=8, max_value=10**9)
JUNK = ["", " 1", "1 ", "1_0", "nan", "inf", "-1", "1e400", "0x1", "1,5", "١", "--1", "1.2.3", "e", "."]


@given(DECIMALS)
def test_amount_is_the_nearest_double_and_counts_what_it_loses(number):
    numbers = Numbers()
    text = f"{number:f}"
    assert numbers.amount(text) == float(number)
    assert numbers.inexact == (Decimal(repr(float(number))) != number)


@given(st.integers(0, 10**15 - 1), st.integers(0, 12))
def test_fifteen_digits_are_always_exact(digits, places):
    numbers = Numbers()
    numbers.amount(f"{Decimal(digits).scaleb(-places):f}")
    assert numbers.inexact == 0


def test_more_digits_than_a_double_holds_are_counted():
    numbers = Numbers()
    assert numbers.price("0.12345678901234567890") == 0.12345678901234568
    numbers.levels([("0.12345678901234567890", "98765432109876543210.5"), ("1.0000000000000000000", "1")])
    assert numbers.inexact == 3


def test_levels_are_read_as_they_are_and_count_the_same():
    numbers = Numbers()
    raw = Raw(b'[["0.12345678901234567890","98765432109876543210.5"],["1.0000000000000000000","0.00000000"]]')
    levels = packed([(0.12345678901234568, 98765432109876543210.5), (1.0, 0.0)])
    assert numbers.read_sides(raw, Raw(b"[]")) == (levels, b"")
    assert numbers.inexact == 2


@given(st.lists(st.tuples(DECIMALS, DECIMALS)))
def test_a_level_is_read_as_the_nearest_doubles(levels):
    numbers, others = Numbers(), Numbers()
    texts = [(f"{price + 1:f}", f"{size:f}") for price, size in levels]
    bids, asks = numbers.read_sides(Raw(encode(texts)), Raw(encode(texts[1:])))
    assert bids == packed([(float(price), float(size)) for price, size in texts])
    assert asks == bids[16:]
    others.levels(texts + texts[1:])
    assert numbers.inexact == others.inexact


LEVEL = st.tuples(st.text("0123456789.", max_size=20), st.text("0.123eE+- ", max_size=6))
WHOLE = st.lists(LEVEL, max_size=3).map(encode)
CUT = st.tuples(WHOLE, st.integers(0, 60), st.integers(0, 3), st.text('[]",.01 ', max_size=2))
BROKEN = CUT.map(lambda cut: cut[0][: cut[1]] + cut[3].encode() + cut[0][cut[1] + cut[2] :])


@given(st.one_of(WHOLE, BROKEN))
@example(b'[["1","2"]')
@example(b'[["1","2"]]]')
@example(b'[["01","2"]]')
@example(b'[["1.","2"]]')
@example(b'[["12345678901.00000000","0.00001234"],["999999999999999","1000000000000000"]]')
@example(b'[["0.1234567890123456789","123456789012345678901234567890"]]')
def test_levels_are_read_or_refused_as_msgspec_does(raw):
    def read(read_one):
        try:
            return read_one(Raw(raw))
        except ValueError:
            return None

    numbers = Numbers()
    assert read(lambda raw: numbers.read_sides(raw, Raw(b"[]"))[0]) == read(Numbers()._read_levels)


@pytest.mark.parametrize("text", JUNK)
def test_junk_is_no_number(text):
    numbers = Numbers()
    with pytest.raises(ValueError):
        numbers.amount(text)
    with pytest.raises(ValueError):
        numbers.levels([("1", "1"), (text, "1")])
    with pytest.raises(ValueError):
        numbers.levels([("1", text)])
    for level in (("1", text), (text, "1")):
        with pytest.raises(ValueError):
            numbers.read_sides(Raw(encode([level])), Raw(b"[]"))


@pytest.mark.parametrize("zero", ["0", "0.0", "0.00000000", "0e5"])
def test_zero_is_an_amount_but_no_price(zero):
    numbers = Numbers()
    assert numbers.amount(zero) == 0.0
    assert numbers.levels([("1", zero)]) == [("1", zero)]
    with pytest.raises(ValueError):
        numbers.price(zero)
    with pytest.raises(ValueError):
        numbers.levels([(zero, "1")])
    with pytest.raises(ValueError):
        numbers.read_sides(Raw(b"[]"), Raw(encode([(zero, "1")])))


def test_a_candle_lies_between_low_and_high():
    numbers = Numbers()
    assert numbers.candle(("2", "3", "1", "1.5")) == (2.0, 3.0, 1.0, 1.5)
    for prices in (("4", "3", "1", "2"), ("2", "3", "1", "0.5"), ("2", "1", "3", "2")):
        with pytest.raises(ValueError, match="between"):
            numbers.candle(prices)


@given(
    st.datetimes(min_value=datetime.fromisoformat("1970-01-01"), timezones=st.just(UTC)),
    st.from_regex("[0-9]{0,4}", fullmatch=True),
)
def test_iso_times_are_cut_to_microseconds(moment, finer):
    text = f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06}{finer}Z"
    expected = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert iso_microseconds(text) == expected


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("2021-04-17T16:43:18Z", 1618677798_000000),
        ("2021-04-17T16:43:18.4Z", 1618677798_400000),
        ("2021-04-17T16:43:18.435588Z", 1618677798_435588),
        ("2021-04-17T16:43:18.999999999Z", 1618677798_999999),
        ("2021-04-17T18:43:18.435588+02:00", 1618677798_435588),
    ],
)
def test_iso_times(text, microseconds):
    assert iso_microseconds(text) == microseconds


@pytest.mark.parametrize(
    "text", ["", "2021-04-17", "2021-04-17T16:43:18", "2021-13-17T16:43:18Z", "now", "1"]
)
def test_no_iso_time(text):
    with pytest.raises(ValueError):
        iso_microseconds(text)


@given(st.decimals(min_value=0, max_value=253_402_300_799, allow_nan=False, places=9))
def test_seconds_are_cut_to_microseconds(seconds):
    assert seconds_microseconds(f"{seconds:f}") == int(seconds * 1_000_000)


@pytest.mark.parametrize("text", ["", ".5", "-1", "1e3", "1.2.3", "nan", "1_0", "253402300800", " 1", "²"])
def test_no_seconds(text):
    with pytest.raises(ValueError):
        seconds_microseconds(text)
