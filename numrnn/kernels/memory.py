"""Arrays in memory that Python did not allocate: on the stack, and where an address points to."""

# mypy: disable-error-code="no-untyped-def, misc"
from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

__all__ = ["array_at", "numbers_of", "stack_array"]

# A cache line, and the widest vector.
_ALIGNMENT = 64


def _make_vector(context: Any, builder: ir.IRBuilder, array_type: types.Array, data: ir.Value, size: ir.Value) -> Any:
    """A one-dimensional contiguous array over memory that nobody will free."""
    array = make_array(array_type)(context, builder)
    itemsize = context.get_constant(types.intp, array_type.dtype.bitwidth // 8)
    populate_array(
        array,
        data=builder.bitcast(data, context.get_data_type(array_type.dtype).as_pointer()),
        shape=cgutils.pack_array(builder, [size]),
        strides=cgutils.pack_array(builder, [itemsize]),
        itemsize=itemsize,
        meminfo=None,
    )
    return array._getvalue()


@intrinsic
def stack_array(typingctx, like, size):
    """An array of `size` elements of the type of `like`'s, uninitialised, gone when the calling function returns."""
    array_type = types.Array(like.dtype, 1, "C")

    def codegen(context, builder, sig, args):
        size_ = context.cast(builder, args[1], sig.args[1], types.intp)
        data = builder.alloca(context.get_data_type(array_type.dtype), size=size_)
        data.align = _ALIGNMENT
        return _make_vector(context, builder, array_type, data, size_)

    return array_type(like, size), codegen


@intrinsic
def array_at(typingctx, address, size, dtype):
    """The array of `size` elements of a type such as ``numpy.float32`` at an address (int64), which must outlive it."""
    array_type = types.Array(dtype.instance_type, 1, "C")

    def codegen(context, builder, sig, args):
        pointer = context.get_data_type(array_type.dtype).as_pointer()
        size_ = context.cast(builder, args[1], sig.args[1], types.intp)
        return _make_vector(context, builder, array_type, builder.inttoptr(args[0], pointer), size_)

    return array_type(address, size, dtype), codegen


@intrinsic
def numbers_of(typingctx, weights):
    """An array of numbers as it is; of one of bfloat16, whole numbers of 16 bits or 32 (pairs), the memory as float32.

    Two elements of 16 bits are one number then.
    """
    narrow = isinstance(weights.dtype, types.Integer)
    result = types.Array(types.float32, 1, "C") if narrow else weights

    def codegen(context, builder, sig, args):
        if not narrow:
            return impl_ret_borrowed(context, builder, sig.return_type, args[0])
        array = make_array(weights)(context, builder, args[0])
        halved = context.get_constant(types.intp, 1 if weights.dtype.bitwidth == 16 else 0)
        size = builder.lshr(builder.extract_value(array.shape, 0), halved)
        return _make_vector(context, builder, result, array.data, size)

    return result(weights), codegen


if config.DISABLE_JIT:

    def stack_array(like, size):
        return np.empty(size, dtype=like.dtype)

    def numbers_of(weights):
        return weights if weights.dtype.kind == "f" else weights.view(np.float32)
