"""Policies of one's own: a function of every event, compiled, with a state of fields that it names itself.

What such a function needs is given again here: orders, the equity, the kinds of events and orders.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numba
import numpy as np
from numba.core.errors import NumbaError

from backtest.batch import Signals
from backtest.ledger import equity
from backtest.orders import cancel, submit, submit_trailing
from backtest.policies import on_event_type
from backtest.state import (
    BOOK,
    BY_POLICY,
    BY_STOP,
    BY_TARGET,
    CLOSE,
    DEPTH,
    END,
    FUNDING,
    LIMIT,
    MARKET,
    OF_EQUITY,
    OPEN,
    QUANTITY,
    QUOTE,
    STOP,
    TAKE_PROFIT,
    TRADE,
)
from backtest.strategies import Strategy
from market.errors import WrongUse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backtest.strategies import Number
    from signals.frame import CandleFrame

__all__ = [
    "BOOK",
    "BY_POLICY",
    "BY_STOP",
    "BY_TARGET",
    "CLOSE",
    "DEPTH",
    "END",
    "FUNDING",
    "LIMIT",
    "MARKET",
    "OF_EQUITY",
    "OPEN",
    "QUANTITY",
    "QUOTE",
    "STOP",
    "TAKE_PROFIT",
    "TRADE",
    "OwnPolicy",
    "cancel",
    "equity",
    "policy",
    "submit",
    "submit_trailing",
]


class _Source:
    """The function and its fields' types; compiled when it first runs, once for all values."""

    def __init__(self, function: Callable[..., None], fields: Mapping[str, Number]) -> None:
        self.function = function
        kinds = [(name, np.int64 if isinstance(value, int) else np.float64) for name, value in fields.items()]
        self.dtype = np.dtype(kinds, align=True)

    @cached_property
    def callback(self) -> Any:
        """The machine code; never from a cache, so that what runs is what stands there.

        Raises:
            WrongUse: it cannot be compiled.
        """
        signature = on_event_type(numba.from_dtype(self.dtype))
        try:
            return cast("Any", numba.njit)(signature, nogil=True, error_model="numpy")(self.function)
        except KeyError as error:
            raise WrongUse(f"the policy {self.function.__name__} has no field {error}") from None
        except NumbaError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            said = next((line for line in lines if not line.startswith("Failed in nopython")), lines[0])
            raise WrongUse(f"the policy {self.function.__name__} cannot be compiled: {said}") from None


@dataclass(frozen=True, slots=True)
class OwnPolicy:
    """A policy with its state as it begins; call it with values to begin otherwise.

    Attributes:
        name: the function's.
        values: of every field at the first event.
    """

    name: str
    values: dict[str, Number]
    source: _Source = field(repr=False)

    def __call__(self, **values: Number) -> OwnPolicy:
        """The same, beginning with these values.

        Raises:
            WrongUse: it has no such field.
        """
        return replace(self, values=self.strategy().parameters({**self.values, **values}))

    def strategy(self) -> Strategy:
        """It as a strategy that gives no signals: its fields are the parameters."""
        fields = dict(self.values)
        return Strategy(self.name, f"The policy {self.name} of your own.", fields, _silent)

    @property
    def callback(self) -> Any:
        """Compiled, as `backtest.merged.walk_tape` takes it."""
        return self.source.callback

    def record(self) -> Any:
        """Its state before the first event."""
        record = np.zeros(1, dtype=self.source.dtype)
        for name, value in self.values.items():
            record[name] = value
        return record[0]


def policy(**fields: Number) -> Callable[[Callable[..., None]], OwnPolicy]:
    """A decorator that makes a policy of a function of the state, the event and its own record.

    Args:
        **fields: of the record, by name, each with the value it begins with; a whole number makes a field
            of whole numbers, another one of floats.

    Raises:
        WrongUse: there is no field, or one is no number.
    """
    if not fields or not all(isinstance(value, int | float) for value in fields.values()):
        raise WrongUse("a policy's fields are numbers, at least one: policy(length=20, last=0.0)")

    def made(function: Callable[..., None]) -> OwnPolicy:
        return OwnPolicy(function.__name__, dict(fields), _Source(function, fields))

    return made


def _silent(_frame: CandleFrame, _values: Mapping[str, Number]) -> Signals:
    return Signals(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
