import random
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from market import ExactSum
from market.decimals import divide, scaled

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SIZES = st.integers(1, 10**12).flatmap(
    lambda digits: st.integers(0, 10).map(lambda places: digits / 10**places)
)
TERMS = st.tuples(st.integers(-(10**20), 10**20), st.integers(0, 25))


def exact(term):
    return Fraction(term[0], 10 ** term[1])


@given(FLOATS)
def test_scaled_is_the_shortest_decimal_without_trailing_zeros(value):
    digits, scale = scaled(value)
    assert Fraction(digits, 10**scale) == Fraction(Decimal(repr(value)))
    assert scale >= 0
    assert scale == 0 or digits % 10


@given(st.lists(TERMS))
def test_a_sum_is_exact_and_rounded_once(terms):
    total = ExactSum()
    for term in terms:
        total.add(*term)
    assert Fraction(total.digits, 10**total.scale) == sum(map(exact, terms))
    assert float(total) == float(sum(map(exact, terms), Fraction()))
    assert total.scale == max((scale for _, scale in terms), default=0)


@given(st.lists(st.one_of(FLOATS, SIZES, st.integers(-1000, 1000).map(float))))
def test_values_together_are_the_sum_of_each(values):
    one, all_at_once = ExactSum(), ExactSum()
    for value in values:
        one.add(*scaled(value))
    all_at_once.add_values(values)
    assert (all_at_once.digits, all_at_once.scale) == (one.digits, one.scale)


@given(st.lists(TERMS), st.lists(TERMS))
def test_merging_adds_all_terms(some, others):
    one, other = ExactSum(), ExactSum()
    for total, terms in ((one, some), (other, others)):
        for term in terms:
            total.add(*term)
    before = (other.digits, other.scale)
    twin = one.copy()
    one.merge(other)
    assert float(one) == float(sum(map(exact, some + others), Fraction()))
    assert (other.digits, other.scale) == before
    assert float(twin) == float(sum(map(exact, some), Fraction()))


@given(st.lists(SIZES, min_size=1), st.randoms())
def test_the_order_of_doubles_does_not_change_their_sum(values, shuffler):
    def total(items):
        found = ExactSum()
        for item in items:
            found.add(*scaled(item))
        return float(found)

    shuffled = list(values)
    shuffler.shuffle(shuffled)
    assert total(values) == total(shuffled) == float(sum(Fraction(Decimal(repr(v))) for v in values))


@given(TERMS, TERMS.filter(lambda term: term[0]))
def test_a_quotient_is_right_to_sixteen_digits(numerator, denominator):
    quotient = divide(ExactSum(*numerator), ExactSum(*denominator))
    right = exact(numerator) / exact(denominator)
    assert abs(Fraction(quotient) - right) <= abs(right) * Fraction(2, 10**16) + Fraction(1, 10**1000)


def test_a_quotient_of_even_money_is_what_it_says():
    assert divide(ExactSum(3), ExactSum(4)) == 0.75
    assert divide(ExactSum(-1), ExactSum(3)) == -1 / 3
    assert divide(ExactSum(0, 8), ExactSum(7, 2)) == 0.0


def interesting(chance):
    """A decimal as (digits, scale), often at the edges of PostgreSQL's groups of four digits."""
    digits = chance.choice(
        (chance.randrange(1, 10 ** chance.randrange(1, 30)), 10 ** chance.randrange(25), 9999, 10**16 - 1)
    )
    return chance.choice((digits, -digits)), chance.randrange(26)


def test_division_equals_postgresql_bit_for_bit(connection):
    chance = random.Random(4269)
    pairs = [(interesting(chance), interesting(chance)) for _ in range(20_000)]
    pairs += [((0, scale), interesting(chance)) for scale in range(20)]
    texts = [
        [f"{Decimal(digits).scaleb(-scale):f}" for digits, scale in column]
        for column in zip(*pairs, strict=True)
    ]
    rows = connection.execute(
        "SELECT (a::numeric / b::numeric)::float8 FROM unnest(%s::text[], %s::text[])"
        " WITH ORDINALITY AS pair (a, b, place) ORDER BY place",
        texts,
    ).fetchall()
    ours = [divide(ExactSum(*numerator), ExactSum(*denominator)) for numerator, denominator in pairs]
    assert [row[0] for row in rows] == ours


def test_doubles_read_as_decimals_equal_postgresqls(connection):
    chance = random.Random(15)
    # Beyond 2**53 PostgreSQL never prints a decimal that lies halfway between two doubles; repr may.
    values = [chance.uniform(-1, 1) * 10.0 ** chance.randrange(-30, 16) for _ in range(5_000)]
    values += [digits / 10 ** chance.randrange(12) for digits in range(1, 5_000)]
    values += [0.1, 1e15, 1e16, 2.0**53, 1e-5, 1e-7, 5e-324, 1.7976931348623157e308]
    rows = connection.execute(
        "SELECT value::text::numeric::text, scale(value::text::numeric) FROM unnest(%s::float8[])"
        " WITH ORDINALITY AS row (value, place) ORDER BY place",
        [values],
    ).fetchall()
    for value, (text, scale) in zip(values, rows, strict=True):
        digits, our_scale = scaled(value)
        assert our_scale == scale
        assert Fraction(text) == Fraction(digits, 10**our_scale)
