"""A hint to the processor: what will be read soon is far away in memory."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_TO_READ, _OFTEN, _DATA = 0, 3, 1
"""Arguments of LLVM's prefetch: what for, how long to keep it, what it is."""


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(_context: Any, column: Any, index: Any) -> Any:
    """Ask for an array's place, and go on without it; one beyond its end does no harm."""

    def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        data = context.make_array(column)(context, builder, values[0]).data
        place = builder.bitcast(builder.gep(data, [values[1]]), cgutils.voidptr_t)
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, number, number, number])
        ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(ask, [place, *(ir.Constant(number, each) for each in (_TO_READ, _OFTEN, _DATA))])
        return context.get_dummy_value()

    return types.void(column, index), generate
