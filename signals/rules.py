"""Rules: each looks at closed candles and scores them from -1 (sell) to 1 (buy), with its reason.

A rule reads columns and indicators by name. Where any of them is NaN it abstains. It works by plain
arithmetic only (no exp or tanh, whose last bit may depend on an array's length), so that one candle
scores the same alone and in a million.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from signals.registry import find

if TYPE_CHECKING:
    from signals.frame import Array

Values = Mapping[str, float]


class Rule(Protocol):
    """What a strategy needs of a rule; parameters are the fields of a frozen dataclass."""

    kind: ClassVar[str]

    @property
    def cites(self) -> tuple[str, ...]:
        """Columns and indicators that it reads, such as close, rsi_14, macd_12_26_9.signal."""

    def score(self, values: Mapping[str, Array]) -> Array:
        """Scores in [-1, 1] from arrays of what it cites; NaN where any of them is NaN."""

    def reason(self, values: Values) -> str:
        """Why one candle scored as it did, with the numbers, from the values that it cites."""


def warmup(rule: Rule) -> int:
    """Candles before a block that the rule's indicators read."""
    names = (cited.partition(".")[0] for cited in rule.cites)
    return max((find(name).warmup for name in names if "_" in name and _is_indicator(name)), default=0)
