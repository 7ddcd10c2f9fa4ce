"""Grids of parameters: `fast=5:50:5`, `stop=0.01,0.02`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from backtest.setup import Setup, setup
from backtest.strategies import Number, Strategy, find
from market.errors import WrongUse

if TYPE_CHECKING:
    from backtest.account import Account

MOST_RUNS = 1_000_000
"""A sweep of more combinations is a mistake, or needs another tool."""
LARGEST = 1_000_000_000_000
"""Of a parameter's value, without its sign."""

Grid = Mapping[str, Sequence[Number]]


def number(text: str) -> Number:
    """A whole number where `text` is one, else a double; yes and true are 1, no and false 0.

    Raises:
        WrongUse: it is no number.
    """
    words = {"true": 1, "yes": 1, "false": 0, "no": 0}
    if text.lower() in words:
        return words[text.lower()]
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise WrongUse(f"not a number: {text!r}") from None
    if not value.is_finite():
        raise WrongUse(f"not a finite number: {text!r}")
    if abs(value) > LARGEST:
        raise WrongUse(f"{text!r} is too large a number for a parameter: at most {LARGEST:,}")
    return int(value) if value == value.to_integral_value() else float(value)


def parameter(text: str) -> tuple[str, Number]:
    """`name=value` as the two.

    Raises:
        WrongUse: it is not written so.
    """
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise WrongUse(f"write a parameter as name=value, such as fast=12, not {text!r}")
    return name, number(value)


def axis(text: str) -> tuple[str, list[Number]]:
    """`name=first:last:step` (the last one is in it) or `name=a,b,c` as name and values.

    Raises:
        WrongUse: it is not written so, or gives no value.
    """
    name, equals, values = text.partition("=")
    if not (name and equals and values):
        raise WrongUse(f"write a grid as name=first:last:step or name=a,b,c, not {text!r}")
    parts = values.split(":")
    if len(parts) == 1:
        return name, [number(part) for part in values.split(",")]
    if len(parts) not in (2, 3):
        raise WrongUse(f"write a range as first:last or first:last:step, not {values!r}")
    # Steps of decimals, so that 0.1:0.3:0.1 ends at 0.3.
    first, last, step = (Decimal(str(number(part))) for part in (*parts, "1")[:3])
    if step <= 0 or last < first:
        raise WrongUse(f"the range {values!r} is empty: it runs upwards from first to last")
    count = int((last - first) / step) + 1
    if count > MOST_RUNS:
        raise WrongUse(f"the range {values!r} has {count:,} values; at most {MOST_RUNS:,} make sense")
    return name, [number(str(first + i * step)) for i in range(count)]


def setups(
    strategy: str | Strategy,
    grid: Grid,
    fixed: Mapping[str, Number] | None = None,
    account: Account | None = None,
    sources: Mapping[str, Any] | None = None,
) -> tuple[list[Setup], int]:
    """Every combination that makes sense, the last axis fastest, and how many do not.

    Raises:
        WrongUse: no axis, too many combinations, an unknown name, or none that makes sense.
    """
    if not grid:
        raise WrongUse("a sweep needs at least one --grid, such as --grid fast=5:50:5")
    strategy = find(strategy) if isinstance(strategy, str) else strategy
    total = prod(len(values) for values in grid.values())
    if total > MOST_RUNS:
        raise WrongUse(f"{total:,} combinations are too many; at most {MOST_RUNS:,}")
    found: list[Setup] = []
    refused = ""
    for values in product(*grid.values()):
        try:
            given = {**(fixed or {}), **dict(zip(grid, values, strict=True))}
            found.append(setup(strategy, given, account, sources))
        except WrongUse as error:
            refused = str(error)
    if not found:
        raise WrongUse(f"no combination of the grid makes sense: {refused}")
    return found, total - len(found)
