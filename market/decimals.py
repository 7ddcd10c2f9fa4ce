"""Exact sums of doubles read as decimals.

A double stands for the shortest decimal that names it: what `repr` prints, and up to 2**53 also what
PostgreSQL's `float8::text` prints (above, it avoids decimals halfway between two doubles: 1e23 is
9.999999999999999e+22 there; no size or price is that large). Sums run on integers at the finest scale
seen and are rounded once.
"""

from collections.abc import Iterable
from decimal import Context, Decimal, localcontext
from functools import cache, lru_cache

from msgspec.json import Encoder

_encode = Encoder().encode
_EXACT = Context(prec=4000)
"""Digits for the sum of any doubles."""


# A size is asked for twice in a row, and prices and sizes recur: looking one up costs a fifth of reading it.
@lru_cache(maxsize=4096)
def scaled(value: float) -> tuple[int, int]:
    """The shortest decimal of a finite `value` as (digits, scale): digits / 10**scale, no trailing zeros."""
    text = repr(value)
    if "e" in text:
        mantissa, _, exponent = text.partition("e")
        whole, _, fraction = mantissa.partition(".")
        scale = len(fraction) - int(exponent)
        digits = int(whole + fraction)
        if scale < 0:
            return digits * 10**-scale, 0
        return digits, scale
    whole, _, fraction = text.partition(".")
    if fraction == "0":
        return int(whole), 0
    return int(whole + fraction), len(fraction)


@cache
def _power(scale: int) -> int:
    """10**scale: looking one up costs a fourth of raising ten to it."""
    power: int = 10**scale
    return power


class ExactSum:
    """A running sum that never rounds; `float(s)` rounds it once, correctly."""

    __slots__ = ("digits", "scale")

    def __init__(self, digits: int = 0, scale: int = 0) -> None:
        self.digits = digits
        self.scale = scale

    def add(self, digits: int, scale: int) -> None:
        """Add digits / 10**scale."""
        if scale == self.scale:
            self.digits += digits
        elif scale < self.scale:
            self.digits += digits * 10 ** (self.scale - scale)
        else:
            self.digits = self.digits * 10 ** (scale - self.scale) + digits
            self.scale = scale

    def add_values(self, values: Iterable[float]) -> None:
        """Add finite values that hardly recur, as `scaled` reads them, in a third of the time."""
        texts = _encode(values).decode()[1:-1].replace(".0,", ",").removesuffix(".0")
        if texts:
            with localcontext(_EXACT):
                total = sum(map(Decimal, texts.split(",")), Decimal())
            exponent = total.as_tuple().exponent
            scale = max(-int(exponent), 0)
            self.add(int(total.scaleb(scale, _EXACT)), scale)

    def merge(self, other: "ExactSum") -> None:
        """Add another sum; its scale counts too, as a numeric's does in PostgreSQL."""
        self.add(other.digits, other.scale)

    def copy(self) -> "ExactSum":
        """An independent sum of the same value."""
        return ExactSum(self.digits, self.scale)

    def __float__(self) -> float:
        # int / int rounds correctly whatever the size; float(int) / float would round twice.
        return self.digits / _power(self.scale)

    def __repr__(self) -> str:
        return f"ExactSum({self.digits}, {self.scale})"


def divide(numerator: ExactSum, denominator: ExactSum) -> float:
    """The quotient numerator / denominator as PostgreSQL's `(a / b)::float8` gives it for numerics a and b.

    PostgreSQL rounds a numeric quotient, half away from zero, to at least 16 significant digits and no
    fewer decimals than either operand (`select_div_scale` in its numeric.c); this does the same, so that
    a rebuild in SQL equals what the stream computed, bit for bit.
    """
    scale = _quotient_scale(numerator, denominator)
    top = abs(numerator.digits) * 10 ** (denominator.scale + scale)
    bottom = abs(denominator.digits) * 10**numerator.scale
    quotient: int = (2 * top + bottom) // (2 * bottom)
    if (numerator.digits < 0) != (denominator.digits < 0):
        quotient = -quotient
    divisor: int = 10**scale
    return quotient / divisor


def _quotient_scale(numerator: ExactSum, denominator: ExactSum) -> int:
    first_weight, first_digit = _leading_group(numerator)
    second_weight, second_digit = _leading_group(denominator)
    weight = first_weight - second_weight - (first_digit <= second_digit)
    return min(max(16 - weight * 4, numerator.scale, denominator.scale, 0), 1000)


def _leading_group(value: ExactSum) -> tuple[int, int]:
    """Weight and value of the first non-zero base-10000 digit, as a PostgreSQL numeric stores it."""
    if value.digits == 0:
        return 0, 0
    padding = -value.scale % 4
    digits = abs(value.digits) * 10**padding
    groups = (len(str(digits)) - 1) // 4
    return groups - (value.scale + padding) // 4, int(digits // 10000**groups)
