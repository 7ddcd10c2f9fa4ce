"""How loops over candles are compiled."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """`function` in machine code, kept on disk; without fastmath, which would reorder sums."""
    return cast("Function", numba.njit(cache=True)(function))
