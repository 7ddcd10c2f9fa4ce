"""The one list of indicators: a decorated function is known by name everywhere.

    @indicator(warmup=lambda period: 14 * period)
    def ema(close: Array, *, period: Period = 20) -> Array: ...

Its positional arguments name columns of the candle frame, its keyword ones are typed parameters;
`find("ema_20")` gives it with its parameters bound.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, get_type_hints

import numpy as np

from market.errors import WrongUse
from signals.frame import COLUMNS, Array

Number = int | float
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Bounds:
    """The lowest and highest value that a parameter takes."""

    low: float
    high: float


Period = Annotated[int, Bounds(2, 1000)]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A typed parameter of an indicator; `kind` is int or float."""

    name: str
    kind: type[int] | type[float]
    default: Number
    bounds: Bounds

    def parse(self, text: str, owner: str) -> Number:
        """The value that `text` means.

        Raises:
            WrongUse: it is no number of this kind, or out of bounds.
        """
        try:
            value = self.kind(text)
        except ValueError:
            kind = "a whole number" if self.kind is int else "a number"
            raise WrongUse(f"{owner}: {self.name} must be {kind}, not {text!r}") from None
        if not self.bounds.low <= value <= self.bounds.high:
            low, high = f"{self.bounds.low:g}", f"{self.bounds.high:g}"
            raise WrongUse(f"{owner}: {self.name} must lie in {low} … {high}, not {text}")
        return value


@dataclass(frozen=True, slots=True)
class Indicator:
    """A registered indicator.

    Attributes:
        name: as in configuration, without parameters.
        function: computes it over one stretch of whole candles; NaN until it is warm.
        inputs: the candle columns it reads.
        parameters: in the order in which they stand in a name.
        outputs: names of its results; one result has the indicator's own name.
        warmup: from the parameters, candles before a block that make its start forgotten.
        summary: the first line of its docstring.
    """

    name: str
    function: Callable[..., Any]
    inputs: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    outputs: tuple[str, ...]
    warmup: Callable[..., int]
    summary: str

    @property
    def default_name(self) -> str:
        """Its name with the default parameters, such as rsi_14."""
        return _full_name(self.name, tuple(parameter.default for parameter in self.parameters))


@dataclass(frozen=True, slots=True)
class Bound:
    """An indicator with its parameters; equal names compute equal values."""

    indicator: Indicator
    arguments: tuple[Number, ...]

    @property
    def name(self) -> str:
        """Name and parameters, such as bbands_20_2."""
        return _full_name(self.indicator.name, self.arguments)

    @property
    def warmup(self) -> int:
        """Candles that a pass reads before its block."""
        return int(self.indicator.warmup(**self._named()))

    def compute(self, columns: Callable[[str], Array]) -> Mapping[str, Array]:
        """Its outputs over one stretch of candles without a hole, each as long as the inputs.

        Args:
            columns: gives a candle column by name.
        """
        inputs = [columns(name) for name in self.indicator.inputs]
        result = self.indicator.function(*inputs, **self._named())
        arrays = result if isinstance(result, tuple) else (result,)
        return dict(zip(self.indicator.outputs, map(np.asarray, arrays), strict=True))

    def _named(self) -> dict[str, Number]:
        names = (parameter.name for parameter in self.indicator.parameters)
        return dict(zip(names, self.arguments, strict=True))


_indicators: dict[str, Indicator] = {}


def indicator(*, warmup: Callable[..., int], outputs: tuple[str, ...] = ()) -> Callable[[Function], Function]:
    """Register the decorated function under its own name.

    Args:
        warmup: takes the function's parameters, gives the candles that a pass reads before its
            block: the whole window of a windowed indicator; enough for a recursive one to forget
            where it began.
        outputs: names of the results, where it returns a tuple of arrays.
    """

    def register(function: Function) -> Function:
        name = function.__name__
        inputs, parameters = _signature(function)
        summary = (inspect.getdoc(function) or "").partition("\n")[0]
        _indicators[name] = Indicator(name, function, inputs, parameters, outputs or (name,), warmup, summary)
        _bind.cache_clear()
        return function

    return register


def available() -> list[Indicator]:
    """Every registered indicator, by name."""
    _load()
    return [_indicators[name] for name in sorted(_indicators)]


def find(name: str) -> Bound:
    """The indicator and parameters that `name` means: `rsi_14`; left-out parameters are defaults.

    Raises:
        WrongUse: no indicator has this name, or a parameter is wrong.
    """
    _load()
    return _bind(name)


@cache
def _bind(name: str) -> Bound:
    words = name.split("_")
    for count in range(len(words), 0, -1):
        known = _indicators.get("_".join(words[:count]))
        if known is not None:
            return Bound(known, _arguments(known, words[count:], name))
    close = difflib.get_close_matches(words[0], _indicators, n=1)
    hint = f"; did you mean {_indicators[close[0]].default_name}?" if close else ""
    raise WrongUse(f"unknown indicator {name!r}{hint} (deltatape indicators list)")


def _arguments(known: Indicator, words: list[str], name: str) -> tuple[Number, ...]:
    if len(words) > len(known.parameters):
        raise WrongUse(f"{name}: {known.name} takes {len(known.parameters)} parameters")
    given = [p.parse(word, name) for p, word in zip(known.parameters, words, strict=False)]
    return (*given, *(parameter.default for parameter in known.parameters[len(words) :]))


def _full_name(name: str, arguments: tuple[Number, ...]) -> str:
    return "_".join([name, *(f"{argument:.10g}" for argument in arguments)])


def _signature(function: Callable[..., Any]) -> tuple[tuple[str, ...], tuple[Parameter, ...]]:
    hints = get_type_hints(function, include_extras=True)
    inputs, parameters = [], []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            parameters.append(_parameter(parameter, hints[parameter.name]))
        elif parameter.name in COLUMNS:
            inputs.append(parameter.name)
        else:
            raise TypeError(f"{function.__name__}: {parameter.name} is no column of a candle frame")
    return tuple(inputs), tuple(parameters)


def _parameter(parameter: inspect.Parameter, hint: Any) -> Parameter:
    kind, bounds = hint.__origin__, hint.__metadata__[0]
    return Parameter(parameter.name, kind, parameter.default, bounds)


def _load() -> None:
    """Import the shipped indicators, which register themselves."""
    import signals.indicators  # noqa: F401
