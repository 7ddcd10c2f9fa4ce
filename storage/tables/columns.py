"""The kinds of column that schema.md's rules name, each with the CHECK that goes with it."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    Identity,
    Integer,
    MetaData,
    Numeric,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

# The names that PostgreSQL itself would give, so that models and migrations agree on them.
metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
    }
)


def moment(name: str, *, null: bool = False, now: bool = False) -> Column[datetime]:
    """A `timestamptz`; `now` lets the database fill in when the row was written."""
    default = text("now()") if now else None
    return Column(name, DateTime(timezone=True), nullable=null, server_default=default)


def words(name: str, *, null: bool = False, default: str | None = None) -> Column[str]:
    """An open text."""
    return Column(name, Text, nullable=null, server_default=default)


def one_of(
    name: str, values: Iterable[str], *, null: bool = False, default: str | None = None
) -> Column[str]:
    """A text with a closed set of values."""
    listed = ", ".join(f"'{value}'" for value in values)
    check = CheckConstraint(f"{name} IN ({listed})", name=name)
    return Column(name, Text, check, nullable=null, server_default=default)


def px(name: str, *, null: bool = False) -> Column[float]:
    """A price or size: above 0 and below infinity (a bare `> 0` lets NaN and Infinity in)."""
    return _double(name, f"{name} > 0 AND {name} < 'Infinity'", null=null)


def amount(name: str, *, null: bool = False) -> Column[float]:
    """A finite double that is never below 0."""
    return _double(name, f"{name} >= 0 AND {name} < 'Infinity'", null=null)


def finite(name: str, *, null: bool = False) -> Column[float]:
    """A double that is neither NaN nor infinite."""
    return _double(name, f"{name} > '-Infinity' AND {name} < 'Infinity'", null=null)


def between(name: str, low: int, high: int, *, null: bool = False) -> Column[float]:
    """A double within [low, high]; NaN sorts above every number, so it is refused too."""
    return _double(name, f"{name} >= {low} AND {name} <= {high}", null=null)


def _double(name: str, check: str, *, null: bool) -> Column[float]:
    return Column(name, Double, CheckConstraint(check, name=name), nullable=null)


def money(name: str, *, null: bool = False, default: str | None = None) -> Column[Decimal]:
    """A `numeric(28,10)` that is not NaN (which `numeric` knows and sorts first in DESC)."""
    check = CheckConstraint(f"{name} < 'Infinity'", name=name)
    return Column(name, Numeric(28, 10), check, nullable=null, server_default=default)


def money_px(name: str, *, null: bool = False) -> Column[Decimal]:
    """A price or quantity as `numeric(28,10)`, above 0."""
    check = CheckConstraint(f"{name} > 0 AND {name} < 'Infinity'", name=name)
    return Column(name, Numeric(28, 10), check, nullable=null)


def exact_px(name: str, *, null: bool = False) -> Column[Decimal]:
    """A decimal of any scale above 0, exactly as an exchange states it (a tick of 1e-12)."""
    check = CheckConstraint(f"{name} > 0 AND {name} < 'Infinity'", name=name)
    return Column(name, Numeric, check, nullable=null)


def count(name: str, *, null: bool = False, default: str | None = None) -> Column[int]:
    """A number of things, never below 0."""
    check = CheckConstraint(f"{name} >= 0", name=name)
    return Column(name, BigInteger, check, nullable=null, server_default=_literal(default))


def big(name: str, *, null: bool = False, default: str | None = None) -> Column[int]:
    """A 64-bit integer without bounds of its own."""
    return Column(name, BigInteger, nullable=null, server_default=_literal(default))


def small(name: str, *, null: bool = False) -> Column[int]:
    """A 32-bit integer."""
    return Column(name, Integer, nullable=null)


def flag(name: str, *, null: bool = False, default: str | None = None) -> Column[bool]:
    """A yes or no."""
    return Column(name, Boolean, nullable=null, server_default=_literal(default))


def document(name: str, *, null: bool = False, default: str | None = None) -> Column[Any]:
    """A `jsonb`."""
    return Column(name, JSONB, nullable=null, server_default=default)


def word_list(name: str, *, default: str | None = None) -> Column[list[str]]:
    """A `text[]`."""
    return Column(name, ARRAY(Text), nullable=False, server_default=default)


def number() -> Column[int]:
    """The `id` of a row, given by the database (a restore may bring its own)."""
    return Column("id", BigInteger, Identity(), primary_key=True)


def _literal(value: str | None) -> Any:
    return None if value is None else text(value)
