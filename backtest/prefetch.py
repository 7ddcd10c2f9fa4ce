"""A hint to the processor: what will be read soon is far away in memory."""

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_TO_READ, _OFTEN, _DATA = 0, 3, 1
"""Arguments of LLVM's prefetch: what for, how long to keep it, what it is."""


def _prefetch(_context: Any, column: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        data = context.make_array(column)(context, builder, values[0]).data
        place = builder.bitcast(builder.gep(data, [values[1]]), cgutils.voidptr_t)
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, number, number, number])
        ask = builder.module.declare_intrinsic("llvm.prefetch", [cgutils.voidptr_t], kind)
        builder.call(ask, [place, *(ir.Constant(number, each) for each in (_TO_READ, _OFTEN, _DATA))])
        return context.get_dummy_value()

    return types.void(column, index), generate


prefetch: Any = intrinsic(_prefetch)
"""`prefetch(array, index)` asks for that place and goes on without it; one beyond the end does no harm."""
