"""Numbers below the smallest normal one, taken as zero.

Processors compute with subnormal numbers ten to a hundred times more slowly, and gradients that vanish on their way
back through time become such numbers. The kernels of the recurrence therefore tell the processor to read and write zero
instead, and put its control register back when they are done: it belongs to the thread, and to whoever calls.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numrnn.kernels.jit import COMPILED, CPU_FEATURES

__all__ = ["flush_subnormals", "restore_subnormals"]

_INT32 = ir.IntType(32)
_INT64 = ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()
# x86: flush to zero, and denormals are zero. AArch64: flush to zero, which is both.
_MXCSR = 0x8040
_FPCR = 1 << 24


def _call(builder: ir.IRBuilder, name: str, result: ir.Type, *args: ir.Value) -> Any:
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, [a.type for a in args]), name)
    return builder.call(function, args)


def _read(builder: ir.IRBuilder) -> ir.Value:
    if "sse2" in CPU_FEATURES:
        place = cgutils.alloca_once(builder, _INT32)
        _call(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), builder.bitcast(place, _BYTES))
        return builder.zext(builder.load(place), _INT64)
    if "neon" in CPU_FEATURES:
        return _call(builder, "llvm.aarch64.get.fpcr", _INT64)
    return _INT64(0)


def _write(builder: ir.IRBuilder, value: ir.Value) -> None:
    if "sse2" in CPU_FEATURES:
        place = cgutils.alloca_once(builder, _INT32)
        builder.store(builder.trunc(value, _INT32), place)
        _call(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), builder.bitcast(place, _BYTES))
    elif "neon" in CPU_FEATURES:
        _call(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), value)


@intrinsic
def flush_subnormals(typingctx):
    """Take subnormal numbers as zero from here on, in this thread. Returns what `restore_subnormals` wants."""

    def codegen(context, builder, sig, args):
        before = _read(builder)
        _write(builder, builder.or_(before, _INT64(_MXCSR if "sse2" in CPU_FEATURES else _FPCR)))
        return before

    return types.int64(), codegen


@intrinsic
def restore_subnormals(typingctx, before):
    """Compute as before `flush_subnormals`."""

    def codegen(context, builder, sig, args):
        _write(builder, args[0])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


def _flush_nothing() -> int:
    return 0


def _restore_nothing(before: int) -> None:
    pass


if not COMPILED:
    flush_subnormals, restore_subnormals = _flush_nothing, _restore_nothing  # type: ignore[assignment]
