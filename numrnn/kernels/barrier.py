"""How threads wait for one another: a barrier between those that walk through time together, and a short wait."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import os
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numrnn.kernels.jit import COMPILED, CPU_FEATURES, kernel

__all__ = ["await_begin", "await_count", "meet"]

_INT32 = ir.IntType(32)
_INT64 = ir.IntType(64)
# Looks at the counter before the processor is offered to others: about ten microseconds.
_LOOKS = 1024


def _call(builder: ir.IRBuilder, name: str, result: ir.Type, *args: ir.Value) -> ir.Value:
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, [a.type for a in args]), name)
    return builder.call(function, args)


def _look(builder: ir.IRBuilder, pointer: ir.Value, wanted: ir.Value, most: ir.Value | None) -> None:
    """Look at a counter until it is as large as wanted, or until it has been looked at so many times."""
    before = builder.block
    look, wait, offer, done = (builder.append_basic_block(f"look.{name}") for name in ("at", "wait", "offer", "done"))
    builder.branch(look)
    builder.position_at_end(look)
    looks = builder.phi(_INT64)
    looks.add_incoming(_INT64(0), before)
    end = builder.icmp_signed(">=", builder.load_atomic(pointer, "acquire", 8), wanted)
    if most is not None:
        end = builder.or_(end, builder.icmp_signed(">=", looks, most))
    builder.cbranch(end, done, wait)
    builder.position_at_end(wait)
    if "sse2" in CPU_FEATURES:
        _call(builder, "llvm.x86.sse2.pause", ir.VoidType())
    more = builder.add(looks, _INT64(1))
    looks.add_incoming(more, wait)
    if os.name == "posix":
        builder.cbranch(builder.icmp_signed("==", builder.and_(more, _INT64(_LOOKS - 1)), _INT64(0)), offer, look)
        builder.position_at_end(offer)
        _call(builder, "sched_yield", _INT32)
        looks.add_incoming(more, offer)
    else:
        builder.branch(look)
        builder.position_at_end(offer)
        looks.add_incoming(more, offer)
    builder.branch(look)
    builder.position_at_end(done)


@intrinsic
def meet(typingctx, counter, n_threads, meeting):
    """Wait until all threads have come to their meeting number `meeting`, counted from 1.

    counter is an array with one int64, zero before the first meeting. The time between two meetings is microseconds, so
    that a thread waits by looking, and only after a while offers its processor to others.
    """

    def codegen(context, builder, sig, args):
        pointer = context.make_array(counter)(context, builder, args[0]).data
        builder.atomic_rmw("add", pointer, _INT64(1), "seq_cst")
        _look(builder, pointer, builder.mul(args[1], args[2]), None)
        return context.get_dummy_value()

    return types.void(counter, types.intp, types.intp), codegen


@intrinsic
def _publish(typingctx, counter, value):
    """Write the counter, after everything that was written before."""

    def codegen(context, builder, sig, args):
        builder.store_atomic(args[1], context.make_array(counter)(context, builder, args[0]).data, "release", 8)
        return context.get_dummy_value()

    return types.void(counter, types.intp), codegen


@intrinsic
def _look_for(typingctx, counter, wanted, most):
    """Wait until the counter is as large as wanted, but look at it at most so many times."""

    def codegen(context, builder, sig, args):
        _look(builder, context.make_array(counter)(context, builder, args[0]).data, args[1], args[2])
        return context.get_dummy_value()

    return types.void(counter, types.intp, types.intp), codegen


@kernel
def await_count(mine, value, counter, wanted, looks):
    """Write a value to one counter, then wait until the other is as large as wanted.

    Waits by looking, some ten nanoseconds a look, and without the interpreter's lock. Returns whether it came so far
    within so many looks.
    """
    _publish(mine, value)
    _look_for(counter, wanted, looks)
    return counter[0] >= wanted


@kernel
def await_begin(mine, value, counter, wanted, looks, more):
    """As `await_count`, and then wait for `more` looks. The interpreter's lock is free for all that time."""
    _publish(mine, value)
    _look_for(counter, wanted, looks)
    _look_for(mine, value + 1, more)


def _meet_alone(counter: Any, n_threads: int, meeting: int) -> None:
    assert n_threads == 1, "interpreted kernels run in one thread"


if not COMPILED:
    meet = _meet_alone  # type: ignore[assignment]
