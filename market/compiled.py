"""How loops over plain arrays and bytes are compiled, and how their machine code is found again."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache
from numba.core.runtime.nrt import rtsys

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(signature: Any = None) -> Callable[[Function], Function]:
    """A decorator that turns a function into machine code, kept on disk; without fastmath.

    Args:
        signature: the numba signature of what Python calls: compiled or read from disk at once, and entered
            without a look at the arguments' types, which must be the signature's. Without one it is compiled
            as part of those that call it, which stand in the same file: numba notices an edit there.
    """

    def decorate(function: Function) -> Function:
        # What is given to it, its callers hold: nothing is allocated, and no reference counted.
        dispatcher = cast("Any", numba.njit)(_nrt=False)(function)
        if signature is None:
            return cast("Function", dispatcher)
        # Where no folder can be written each process compiles for itself.
        with suppress(RuntimeError):
            dispatcher._cache = DiskCache(function)  # type: ignore[no-untyped-call]
        dispatcher.compile(signature)
        return cast("Function", dispatcher.overloads[signature.args].entry_point)

    return decorate


class DiskCache(FunctionCache):
    """numba's cache of one function, without the tables that only compiling needs.

    numba loads all that it knows of types and lowering before it looks for machine code, which takes longer
    than all that a run loads. Where there is no machine code its compiler loads them.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The machine code for this signature, None where there is none yet."""
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)  # type: ignore[no-untyped-call]
