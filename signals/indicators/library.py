"""Every function of TA-Lib under its own name, registered from the library's own description.

A name holds the parameters in TA-Lib's order: `adx_14`, `stoch_5_3_0_3_0`, `cdlmorningstar_0.3`. Inputs
are the ones that TA-Lib names as their defaults. Where we have an indicator of the same name (ema, rsi,
macd, …) that one is meant.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import talib
import talib.abstract

from market.errors import WrongUse
from signals.blocks import BLOCK
from signals.registry import Bounds, Indicator, Parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from signals.frame import Array

_LONGEST = 1000
_MEMORY = 512
"""Candles, at least, that a function with a memory reads before a block."""

# Recursive without TA-Lib's flag of an unstable period: what is made of EMAs and Wilder averages, and
# stops that turn over. Those with a choice of averages (matype) count as recursive, too.
_RECURSIVE = (
    *("ADOSC", "ADXR", "CVI", "DEMA", "EFI", "ERI", "KC", "MACD", "MACDFIX", "MASSI", "SAR", "SAREXT"),
    *("SMI", "STOCHRSI", "SUPERTREND", "TEMA", "TRIX", "TSI", "ZLEMA"),
)
_UNSTABLE, _PATH = "Function has an unstable period", "Output is path-dependent"
_FLOATS = {
    "fastlimit": Bounds(0.01, 0.99),
    "slowlimit": Bounds(0.01, 0.99),
    "vfactor": Bounds(0, 1),
    "percentile": Bounds(0, 100),
    "startvalue": Bounds(-1e12, 1e12),
}
_OTHER_FLOAT = Bounds(0, 100)


# The library's type stubs leave much of it out.
_talib: Any = talib


@cache
def functions() -> Mapping[str, Indicator]:
    """TA-Lib's functions by their name in lower case."""
    return {name.lower(): _indicator(name) for name in _talib.get_functions()}


def _indicator(name: str) -> Indicator:
    info = _talib.abstract.Function(name).info
    outputs = tuple(info["output_names"])
    summary = f"{info['display_name']} (TA-Lib {name})"
    if _accumulates(name, info):
        summary += f"; begins anew in each block of {BLOCK:,} candles"
    return Indicator(
        name=name.lower(),
        function=partial(_call, name),
        inputs=_inputs(name, info),
        parameters=tuple(_parameter(name, *each) for each in info["parameters"].items()),
        outputs=outputs if len(outputs) > 1 else (name.lower(),),
        warmup=partial(_warmup, name),
        summary=summary,
    )


def _inputs(name: str, info: Mapping[str, Any]) -> tuple[str, ...]:
    if name == "MAVP":
        return ("close",)
    named = info["input_names"].values()
    return tuple(column for each in named for column in ([each] if isinstance(each, str) else each))


def _parameter(name: str, parameter: str, default: int | float) -> Parameter:
    if isinstance(default, float):
        return Parameter(parameter, float, default, _FLOATS.get(parameter, _OTHER_FLOAT))
    if parameter.endswith("matype"):
        return Parameter(parameter, int, default, Bounds(0, _talib.MA_Type.RMA))
    low = 1 if _talib.abstract.Function(name, **{parameter: 1}).lookback >= 0 else 2
    return Parameter(parameter, int, default, Bounds(low, _LONGEST))


@cache
def _lookback(name: str, **parameters: float) -> int:
    """The candles before the first value, as TA-Lib says, which takes its time."""
    lookback = int(_talib.abstract.Function(name, **parameters).lookback)
    if lookback < 0:
        given = ", ".join(f"{key} {value:g}" for key, value in parameters.items())
        raise WrongUse(f"{name.lower()}: TA-Lib refuses {given}")
    # Its periods are the dominant cycle, which is longer in the making.
    return lookback + _lookback("HT_DCPERIOD") if name == "MAVP" else lookback


def _warmup(name: str, **parameters: float) -> int:
    """Candles that a pass reads before its block: the window, or what a memory needs to forget.

    The slowest averages of a lookback L weigh what they began from by (1 - 1 / L) ** (32 * L) at the
    block's start, below 1e-13.
    """
    lookback, info = _lookback(name, **parameters), _talib.abstract.Function(name).info
    if _is_recursive(name, info) or _accumulates(name, info):
        return max(_MEMORY, 32 * (lookback + 1))
    return lookback


def _is_recursive(name: str, info: Mapping[str, Any]) -> bool:
    has_choice = any(parameter.endswith("matype") for parameter in info["parameters"])
    return name in _RECURSIVE or has_choice or _UNSTABLE in (info["function_flags"] or ())


def _accumulates(name: str, info: Mapping[str, Any]) -> bool:
    return _PATH in (info["function_flags"] or ()) and name not in _RECURSIVE


def _call(name: str, *columns: Array, **parameters: float) -> tuple[Array, ...]:
    """TA-Lib's values over one stretch of candles, NaN before the lookback (where it says 0 in integers)."""
    lookback, count = _lookback(name, **parameters), len(columns[0])
    if count <= lookback:
        outputs = len(_talib.abstract.Function(name).info["output_names"])
        return tuple(np.full(count, np.nan) for _ in range(outputs))
    if name == "MAVP":
        # The one function that wants a period for each candle: the market's dominant cycle.
        columns = (*columns, np.nan_to_num(_talib.HT_DCPERIOD(*columns), nan=parameters["minperiod"]))
    # What is wrapped takes arrays only: it does not look for frames and series first.
    result = getattr(_talib, name).__wrapped__(*columns, **parameters)
    arrays = [
        np.asarray(each, dtype=np.float64) for each in (result if isinstance(result, tuple) else [result])
    ]
    for array in arrays:
        array[:lookback] = np.nan
    return tuple(arrays)
