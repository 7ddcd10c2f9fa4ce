"""The one list of indicators: a decorated function is known by name everywhere.

    @indicator(warmup=lambda period: 16 * period)
    def ema(close: Array, *, period: Period = 20) -> Array: ...

Its positional arguments name inputs of the candle frame, its keyword ones are typed parameters with
defaults; `find("ema_20")` gives it with its parameters bound. Every function of TA-Lib is in the list
too, under its own name; the library, which takes a while to load, is loaded when one is asked for.
"""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Self, TypeVar, get_args, get_type_hints

import numpy as np

from market.errors import WrongUse
from signals.frame import INPUTS, TRADES, Array

Number = int | float
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Bounds:
    """The lowest and highest value that a parameter takes."""

    low: float
    high: float


Period = Annotated[int, Bounds(2, 1000)]
STATE = "state"
_ANY = Bounds(-math.inf, math.inf)


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
        if not (self.bounds.low <= value <= self.bounds.high and math.isfinite(value)):
            low, high = f"{self.bounds.low:g}", f"{self.bounds.high:g}"
            raise WrongUse(f"{owner}: {self.name} must lie in {low} … {high}, not {text}")
        return value


@dataclass(frozen=True, slots=True)
class Indicator:
    """A registered indicator.

    Attributes:
        name: as in configuration, without parameters.
        function: computes it over one stretch of whole candles; NaN until it is warm.
        inputs: what it reads of a candle frame: columns, `timestamp`, `trades`.
        parameters: in the order in which they stand in a name.
        outputs: names of its results; one result has the indicator's own name.
        warmup: from the parameters, candles before a block that make its start forgotten.
        summary: the first line of its docstring.
        is_windowed: whether a value depends on the `warmup` candles before it alone.
        state: from the parameters, how many numbers it goes on from; None where it cannot go on.
    """

    name: str
    function: Callable[..., Any]
    inputs: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    outputs: tuple[str, ...]
    warmup: Callable[..., int]
    summary: str
    is_windowed: bool = False
    state: Callable[..., int] | None = None

    @property
    def default_name(self) -> str:
        """Its name with the default parameters, such as rsi_14."""
        return _full_name(self.name, tuple(parameter.default for parameter in self.parameters))


@dataclass(frozen=True, slots=True)
class Bound:
    """An indicator with its parameters; equal names compute equal values.

    Attributes:
        indicator: which.
        arguments: values of its parameters, in their order.
        name: name and parameters, such as bbands_20_2.
        warmup: candles that a pass reads before its block.
        named: the arguments by the parameters' names.
    """

    indicator: Indicator
    arguments: tuple[Number, ...]
    name: str
    warmup: int
    named: Mapping[str, Number] = field(repr=False)

    @classmethod
    def of(cls, known: Indicator, arguments: tuple[Number, ...]) -> Self:
        """The indicator with these arguments.

        Raises:
            WrongUse: it takes each of them, but not together.
        """
        named = dict(zip((parameter.name for parameter in known.parameters), arguments, strict=True))
        return cls(known, arguments, _full_name(known.name, arguments), int(known.warmup(**named)), named)

    @property
    def reads_trades(self) -> bool:
        """Whether it needs the trades of the candles.

        Its values then are ones of their window alone: `warmup` candles before a candle are enough.
        """
        return TRADES in self.indicator.inputs

    @property
    def has_state(self) -> bool:
        """Whether it can go on from where it was left."""
        return self.indicator.state is not None

    def fresh_state(self) -> Array:
        """The state before the first candle."""
        return np.zeros(0 if self.indicator.state is None else self.indicator.state(**self.named))

    def compute(self, inputs: Callable[[str], Any], state: Array | None = None) -> Mapping[str, Array]:
        """Its outputs over one stretch of candles without a hole, each as long as the inputs.

        Args:
            inputs: gives an input of the candles by name.
            state: where it has one, as the candles before left it; it is moved on. None: there are none.

        Raises:
            ValueError: the function gave other results than it is registered with.
        """
        given = [inputs(name) for name in self.indicator.inputs]
        count = len(given[0])
        if self.has_state:
            given.append(self.fresh_state() if state is None else state)
        result = self.indicator.function(*given, **self.named)
        arrays = [np.asarray(each) for each in (result if isinstance(result, tuple) else (result,))]
        names = self.indicator.outputs
        shapes = [array.shape for array in arrays]
        if shapes != [(count,)] * len(names):
            raise ValueError(f"{self.name} must give {len(names)} arrays of {count} values, not {shapes}")
        return dict(zip(names, arrays, strict=True))


_indicators: dict[str, Indicator] = {}


def indicator(
    *,
    warmup: Callable[..., int],
    outputs: tuple[str, ...] = (),
    is_windowed: bool = False,
    state: Callable[..., int] | None = None,
) -> Callable[[Function], Function]:
    """Register the decorated function under its own name.

    Args:
        warmup: takes the function's parameters, gives the candles that a pass reads before its
            block: the whole window of a windowed indicator; enough for a recursive one to forget
            where it began.
        outputs: names of the results, where it returns a tuple of arrays.
        is_windowed: a value is made of its `warmup` candles and its own alone, bit for bit the same wherever
            the arrays begin: live, no others are computed again.
        state: takes the function's parameters, gives how many numbers it remembers. It gets them as its last
            positional argument `state`, zeros at first, and leaves there what it goes on from: over some
            candles and then over the next ones it gives, bit for bit, what it gives over all at once.
    """

    def register(function: Function) -> Function:
        name = function.__name__
        known = _indicators.get(name)
        # Once more from the same module is a notebook's cell run again; another's would change what
        # a name means in every strategy that cites it.
        if known is not None and known.function.__module__ != function.__module__:
            raise TypeError(f"an indicator {name!r} exists already, in {known.function.__module__}")
        inputs, parameters = _signature(function)
        if (inputs[-1] == STATE) != (state is not None):
            raise TypeError(f"{name}: state is the last positional argument of what registers a state, only")
        inputs = tuple(each for each in inputs if each != STATE)
        summary = (inspect.getdoc(function) or "").partition("\n")[0]
        names = outputs or (name,)
        _indicators[name] = Indicator(
            name, function, inputs, parameters, names, warmup, summary, is_windowed, state
        )
        _bind.cache_clear()
        locate.cache_clear()
        return function

    return register


def available() -> list[Indicator]:
    """Every indicator by name, those of TA-Lib included."""
    _load()
    every = {**_library(), **_indicators}
    return [every[name] for name in sorted(every)]


def find(name: str) -> Bound:
    """The indicator and parameters that `name` means: `rsi_14`; left-out parameters are defaults.

    Raises:
        WrongUse: no indicator has this name, or a parameter is wrong.
    """
    _load()
    return _bind(name)


@cache
def locate(name: str) -> tuple[Bound, str]:
    """The indicator and the one of its outputs that `bbands_20_2.5.upper` means; without one, its first.

    Raises:
        WrongUse: no indicator has this name, a parameter is wrong, or there is no such output.
    """
    full_name, _, output = name.rpartition(".")
    # What stands behind the last point may be a parameter's decimals.
    if not output[:1].isalpha() or not full_name:
        full_name, output = name, ""
    bound = find(full_name)
    outputs = bound.indicator.outputs
    if output and output not in outputs:
        raise WrongUse(f"{full_name} has no output {output!r}; it has {', '.join(outputs)}")
    return bound, output or outputs[0]


@cache
def _bind(name: str) -> Bound:
    words = name.split("_")
    found = _longest(words, _indicators)
    # Those of TA-Lib only where no other has the name: that loads the library.
    if found is None:
        found = _longest(words, _library())
    if found is None:
        every = {**_library(), **_indicators}
        close = difflib.get_close_matches(words[0], every, n=1)
        hint = f"; did you mean {every[close[0]].default_name}?" if close else ""
        raise WrongUse(f"unknown indicator {name!r}{hint} (deltatape indicators list)")
    known, count = found
    return Bound.of(known, _arguments(known, words[count:], name))


def _longest(words: list[str], among: Mapping[str, Indicator]) -> tuple[Indicator, int] | None:
    """The indicator whose name is most of the first words, and how many they are."""
    for count in range(len(words), 0, -1):
        known = among.get("_".join(words[:count]))
        if known is not None:
            return known, count
    return None


def _arguments(known: Indicator, words: list[str], name: str) -> tuple[Number, ...]:
    if len(words) > len(known.parameters):
        takes = ", ".join(parameter.name for parameter in known.parameters) or "none"
        raise WrongUse(f"{name}: too many parameters; {known.name} takes {takes}")
    given = [p.parse(word, name) for p, word in zip(known.parameters, words, strict=False)]
    return (*given, *(parameter.default for parameter in known.parameters[len(words) :]))


def _full_name(name: str, arguments: tuple[Number, ...]) -> str:
    return "_".join([name, *(f"{argument:.10g}" for argument in arguments)])


def _signature(function: Callable[..., Any]) -> tuple[tuple[str, ...], tuple[Parameter, ...]]:
    hints = get_type_hints(function, include_extras=True)
    name = function.__name__
    inputs, parameters = [], []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            parameters.append(_parameter(parameter, hints.get(parameter.name), name))
        elif parameter.name in (*INPUTS, STATE):
            inputs.append(parameter.name)
        else:
            raise TypeError(f"{name}: {parameter.name} is none of a candle frame's {', '.join(INPUTS)}")
    if not set(inputs) - {STATE}:
        raise TypeError(f"{name} reads nothing of a candle frame")
    return tuple(inputs), tuple(parameters)


def _parameter(parameter: inspect.Parameter, hint: Any, owner: str) -> Parameter:
    kind, *metadata = get_args(hint) or (hint,)
    if kind not in (int, float) or parameter.default is parameter.empty:
        raise TypeError(f"{owner}: {parameter.name} must be an int or a float with a default")
    bounds = next((each for each in metadata if isinstance(each, Bounds)), _ANY)
    return Parameter(parameter.name, kind, parameter.default, bounds)


def _load() -> None:
    """Import the shipped indicators, which register themselves."""
    import signals.indicators  # noqa: F401


def _library() -> Mapping[str, Indicator]:
    """The functions of TA-Lib."""
    from signals.indicators.library import functions

    return functions()
