"""How loops over candles are compiled."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.core import types
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """`function` in machine code, kept on disk; without fastmath, which would reorder sums."""
    return cast("Function", numba.njit(cache=True)(function))


def _fused(_context: Any, _a: Any, _b: Any, _c: Any) -> Any:
    def code(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    number = types.float64
    return number(number, number, number), code


fused = cast("Callable[[float, float, float], float]", intrinsic(_fused))
"""a * b + c, rounded once (C's fma), inside compiled functions: TA-Lib's recursive averages use it."""
