"""SIMD vectors as Numba values: the type, its operators, loads and stores, and the register tile of a matrix product.

A `Vector` is one LLVM vector register held in an ordinary variable of an `@njit` function. Functions written with `+`,
`*`, `fma`, `clamp`, ... run on vectors and on scalars alike, so that the same equations serve a SIMD loop on a CPU and
a thread of a GPU. This file and `barrier` are the only ones that speak LLVM.

The width is the widest the host computes with (512 bits with AVX-512, 256 with AVX, else 128: SSE, NEON). The
environment variable ``NUMRNN_VECTOR_BITS`` (128, 256 or 512), read once at import, chooses another one; LLVM splits or
joins vectors that the processor does not have, so that every width runs everywhere.

Under ``NUMBA_DISABLE_JIT=1`` the names of this file are the NumPy versions of `simd_interpreted`, which check every
address.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.imputils import impl_ret_borrowed, lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

from numrnn.kernels.jit import CPU_FEATURES, VECTOR_BITS

__all__ = [
    "FEW_ROWS",
    "PANEL_VECTORS",
    "TILE_ROWS",
    "VECTOR_BITS",
    "absolute",
    "clamp",
    "constant",
    "copy_sign",
    "factors_of",
    "fma",
    "lane_count",
    "lanes",
    "load",
    "load_partial",
    "load_slots",
    "minimum",
    "numbers_in",
    "power_of_two",
    "reciprocal_estimate",
    "store",
    "store_factor",
    "store_factor_slots",
    "store_partial",
    "store_rows",
    "store_slots",
    "tile",
    "tile_few",
    "tile_of_two",
    "tile_transposed",
    "transpose",
    "where_below",
    "where_positive",
    "zeros_like",
]


# The tile of a product keeps TILE_ROWS x PANEL_VECTORS accumulators in registers. 24 of them want 32 registers
# (AVX-512, NEON); 12 fit the 16 registers of SSE and AVX.
TILE_ROWS = 6
PANEL_VECTORS = 4 if "avx512f" in CPU_FEATURES or "neon" in CPU_FEATURES else 2

# So few rows that the latency of a multiply-add, not their number, takes the time: then a tile is two panels wide.
FEW_ROWS = 3


def lane_count(dtype: Any) -> int:
    """How many numbers of that type one vector holds."""
    return VECTOR_BITS // (8 * np.dtype(dtype).itemsize)


# ---------------------------------------------------------------------------------------------------------- the type
class Vector(types.Type):
    """One SIMD register of float32 or float64 lanes."""

    def __init__(self, scalar: types.Float) -> None:
        self.scalar = scalar
        self.lanes = VECTOR_BITS // scalar.bitwidth
        super().__init__(f"vector{self.lanes}x{scalar}")


def _scalar_ir(scalar: types.Float) -> ir.Type:
    return ir.FloatType() if scalar.bitwidth == 32 else ir.DoubleType()


def _value_ir(numba_type: types.Type) -> ir.Type:
    """The LLVM type of a scalar or a vector."""
    if isinstance(numba_type, Vector):
        return ir.VectorType(_scalar_ir(numba_type.scalar), numba_type.lanes)
    return _scalar_ir(numba_type)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, _value_ir(fe_type))


_INT16 = ir.IntType(16)
_INT32 = ir.IntType(32)
_INT64 = ir.IntType(64)


def _constant(value_type: ir.Type, number: float) -> ir.Constant:
    if isinstance(value_type, ir.VectorType):
        return ir.Constant(value_type, [ir.Constant(value_type.element, number)] * value_type.count)
    return ir.Constant(value_type, number)


def _integers(value_type: ir.Type) -> tuple[ir.Type, int]:
    """The integer type of the same shape, and the bits of the fraction."""
    vector = isinstance(value_type, ir.VectorType)
    single = isinstance(value_type.element if vector else value_type, ir.FloatType)
    element = _INT32 if single else _INT64
    return (ir.VectorType(element, value_type.count) if vector else element), 23 if single else 52


def _splat(builder: ir.IRBuilder, scalar: ir.Value, vector_type: ir.VectorType) -> ir.Value:
    undefined = ir.Constant(vector_type, ir.Undefined)
    first = builder.insert_element(undefined, scalar, _INT32(0))
    return builder.shuffle_vector(
        first, undefined, ir.Constant(ir.VectorType(_INT32, vector_type.count), [0] * vector_type.count)
    )


def _as(context: Any, builder: ir.IRBuilder, value: ir.Value, from_type: types.Type, to_type: types.Type) -> ir.Value:
    """A scalar becomes a vector of equal lanes; scalars change their precision."""
    if isinstance(from_type, Vector):
        return value
    if isinstance(to_type, Vector):
        return _splat(builder, context.cast(builder, value, from_type, to_type.scalar), _value_ir(to_type))
    return context.cast(builder, value, from_type, to_type)


def _common_type(*operands: types.Type) -> types.Type:
    """Vectors win over scalars; among scalars the wider float wins."""
    for operand in operands:
        if isinstance(operand, Vector):
            return operand
    return max((operand for operand in operands if isinstance(operand, types.Float)), key=lambda t: t.bitwidth)


# ------------------------------------------------------------------------------------------------------ the operators
def _register_operator(python_operator: Callable, instruction: str) -> None:
    @infer_global(python_operator)
    class _Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and any(isinstance(arg, Vector) for arg in args):
                return signature(_common_type(*args), *args)
            return None

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        left, right = (_as(context, builder, a, t, sig.return_type) for a, t in zip(args, sig.args, strict=True))
        return getattr(builder, instruction)(left, right)

    for pair in ((Vector, Vector), (Vector, types.Float), (types.Float, Vector)):
        lower_builtin(python_operator, *pair)(lower)


for _operator, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _register_operator(_operator, _instruction)


@infer_global(operator.neg)
class _NegativeTemplate(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        return signature(args[0], args[0]) if isinstance(args[0], Vector) else None


@lower_builtin(operator.neg, Vector)
def _lower_negative(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    return builder.fsub(_constant(args[0].type, -0.0), args[0])


def _call(builder: ir.IRBuilder, name: str, result: ir.Type, *args: ir.Value) -> ir.Value:
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, [a.type for a in args]), name)
    return builder.call(function, args)


def _suffix(value_type: ir.Type) -> str:
    """How LLVM's overloaded intrinsics name the type."""
    if isinstance(value_type, ir.VectorType):
        return f"v{value_type.count}{_suffix(value_type.element)}"
    return "f32" if isinstance(value_type, ir.FloatType) else "f64"


_HAS_FMA = bool({"fma", "avx512f", "neon"} & CPU_FEATURES)


def _fma(builder: ir.IRBuilder, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
    if not _HAS_FMA:
        # The exact operation would be a call of the C library for every lane.
        return builder.fadd(builder.fmul(x, y), z)
    return _call(builder, f"llvm.fma.{_suffix(x.type)}", x.type, x, y, z)


@intrinsic
def fma(typingctx, x, y, z):
    """x * y + z, rounded once where the processor can."""
    result = _common_type(x, y, z)

    def codegen(context, builder, sig, args):
        return _fma(builder, *(_as(context, builder, a, t, result) for a, t in zip(args, sig.args, strict=True)))

    return result(x, y, z), codegen


@intrinsic
def clamp(typingctx, x, low, high):
    """x between low and high; NaN stays NaN (which is why the operands stand in this order)."""

    def codegen(context, builder, sig, args):
        value, low_, high_ = (_as(context, builder, a, t, x) for a, t in zip(args, sig.args, strict=True))
        value = builder.select(builder.fcmp_ordered("<", high_, value), high_, value)
        return builder.select(builder.fcmp_ordered(">", low_, value), low_, value)

    return x(x, low, high), codegen


@intrinsic
def minimum(typingctx, x, limit):
    """The smaller of both; NaN stays NaN in x."""

    def codegen(context, builder, sig, args):
        value, limit_ = (_as(context, builder, a, t, x) for a, t in zip(args, sig.args, strict=True))
        return builder.select(builder.fcmp_ordered("<", limit_, value), limit_, value)

    return x(x, limit), codegen


@intrinsic
def where_below(typingctx, x, limit, y, z):
    """y where x is below the limit, elsewhere z; NaN is not below."""
    result = _common_type(x, y, z)

    def codegen(context, builder, sig, args):
        x_, limit_, y_, z_ = (_as(context, builder, a, t, result) for a, t in zip(args, sig.args, strict=True))
        return builder.select(builder.fcmp_ordered("<", x_, limit_), y_, z_)

    return result(x, limit, y, z), codegen


@intrinsic
def where_positive(typingctx, condition, x, y):
    """x where the condition is above zero, elsewhere y; NaN in the condition is not above zero."""
    result = _common_type(condition, x, y)

    def codegen(context, builder, sig, args):
        c, x_, y_ = (_as(context, builder, a, t, result) for a, t in zip(args, sig.args, strict=True))
        return builder.select(builder.fcmp_ordered(">", c, _constant(c.type, 0.0)), x_, y_)

    return result(condition, x, y), codegen


@intrinsic
def absolute(typingctx, x):
    """\\|x\\|."""

    def codegen(context, builder, sig, args):
        return _call(builder, f"llvm.fabs.{_suffix(args[0].type)}", args[0].type, args[0])

    return x(x), codegen


@intrinsic
def copy_sign(typingctx, magnitude, sign):
    """The magnitude of the one with the sign of the other, both of one type."""

    def codegen(context, builder, sig, args):
        return _call(builder, f"llvm.copysign.{_suffix(args[0].type)}", args[0].type, *args)

    return magnitude(magnitude, sign), codegen


@intrinsic
def zeros_like(typingctx, x):
    """Zero, of the type of x."""

    def codegen(context, builder, sig, args):
        return _constant(args[0].type, 0.0)

    return x(x), codegen


@intrinsic
def power_of_two(typingctx, shifted):
    """2**n, where `shifted` is n + 127 + 1.5 * 2**23 in float32, n + 1023 + 1.5 * 2**52 in float64.

    Adding the large number rounds n to an integer and leaves it, biased as exponents are, in the low bits of the
    fraction, from where one shift moves it into the exponent. The lowest n (-127 or -1023) gives zero, the highest (128
    or 1024) infinity; beyond these the result is meaningless.
    """

    def codegen(context, builder, sig, args):
        integers, fraction_bits = _integers(args[0].type)
        bits = builder.bitcast(args[0], integers)
        return builder.bitcast(builder.shl(bits, _constant(integers, fraction_bits)), args[0].type)

    return shifted(shifted), codegen


@intrinsic
def reciprocal_estimate(typingctx, x):
    """1 / x for x from 1 on: within 2**-22 relative, and exact for 1 and 2.

    In vectors of AVX-512 float32 it is the processor's estimate (2**-14) refined by one Newton step, several times
    faster than a division; elsewhere it is a division. (The estimate of SSE and AVX is too coarse for one step.)
    """
    estimated = isinstance(x, Vector) and x.scalar.bitwidth == 32 and VECTOR_BITS == 512 and "avx512f" in CPU_FEATURES

    def codegen(context, builder, sig, args):
        value = args[0]
        one = _constant(value.type, 1.0)
        if not estimated:
            return builder.fdiv(one, value)
        everywhere = ir.Constant(ir.IntType(16), 0xFFFF)
        name = "llvm.x86.avx512.rcp14.ps.512"
        estimate = _call(builder, name, value.type, value, _constant(value.type, 0.0), everywhere)
        error = _fma(builder, builder.fsub(_constant(value.type, -0.0), value), estimate, one)
        return _fma(builder, estimate, error, estimate)

    return x(x), codegen


# ------------------------------------------------------------------------------------------------- loads and stores
def _pointer(
    context: Any, builder: ir.IRBuilder, array_type: types.Array, array: ir.Value, index: ir.Value
) -> ir.Value:
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def _load(builder: ir.IRBuilder, pointer: ir.Value, value_type: ir.Type) -> ir.Value:
    return builder.load(builder.bitcast(pointer, value_type.as_pointer()), align=4)


def _store(builder: ir.IRBuilder, value: ir.Value, pointer: ir.Value) -> None:
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=4)


@intrinsic
def lanes(typingctx, array):
    """How many elements of the array one vector holds."""
    count = VECTOR_BITS // array.dtype.bitwidth

    def codegen(context, builder, sig, args):
        return context.get_constant(types.intp, count)

    return types.intp(array), codegen


@intrinsic
def constant(typingctx, array):
    """The same array, as one that is not written: functions that only read are compiled once for both kinds."""

    def codegen(context, builder, sig, args):
        return impl_ret_borrowed(context, builder, sig.return_type, args[0])

    return array.copy(readonly=True)(array), codegen


@intrinsic
def load(typingctx, array, index):
    """The vector of elements index, index + 1, ... of a one-dimensional contiguous array."""
    vector = Vector(array.dtype)

    def codegen(context, builder, sig, args):
        return _load(builder, _pointer(context, builder, array, args[0], args[1]), _value_ir(vector))

    return vector(array, types.intp), codegen


@intrinsic
def store(typingctx, array, index, value):
    """Write a vector to elements index, index + 1, ... of a one-dimensional contiguous array."""

    def codegen(context, builder, sig, args):
        _store(builder, args[2], _pointer(context, builder, array, args[0], args[1]))
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


def _mask(builder: ir.IRBuilder, count: ir.Value, n_lanes: int) -> ir.Value:
    """The first `count` lanes."""
    integers = ir.VectorType(_INT32, n_lanes)
    limit = _splat(builder, builder.trunc(count, _INT32), integers)
    return builder.icmp_signed("<", ir.Constant(integers, list(range(n_lanes))), limit)


@intrinsic
def load_partial(typingctx, array, index, count):
    """Elements index, ..., index + count - 1 in the first lanes and zero in the others, which are not read."""
    vector = Vector(array.dtype)

    def codegen(context, builder, sig, args):
        value_type = _value_ir(vector)
        pointer = builder.bitcast(_pointer(context, builder, array, args[0], args[1]), value_type.as_pointer())
        name = f"llvm.masked.load.{_suffix(value_type)}.p0"
        mask = _mask(builder, args[2], vector.lanes)
        return _call(builder, name, value_type, pointer, _INT32(4), mask, _constant(value_type, 0.0))

    return vector(array, types.intp, types.intp), codegen


@intrinsic
def store_partial(typingctx, array, index, count, value):
    """Write the first `count` lanes to elements index, ..., index + count - 1."""

    def codegen(context, builder, sig, args):
        value_type = args[3].type
        pointer = builder.bitcast(_pointer(context, builder, array, args[0], args[1]), value_type.as_pointer())
        name = f"llvm.masked.store.{_suffix(value_type)}.p0"
        _call(builder, name, ir.VoidType(), args[3], pointer, _INT32(4), _mask(builder, args[2], value.lanes))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, value), codegen


@intrinsic(prefer_literal=True)
def load_slots(typingctx, array, index, stride, count):
    """A tuple of `count` (a constant) vectors that lie `stride` elements apart."""
    vector = Vector(array.dtype)
    result = types.UniTuple(vector, count.literal_value)

    def codegen(context, builder, sig, args):
        start = _pointer(context, builder, array, args[0], args[1])
        stride_ = context.cast(builder, args[2], sig.args[2], types.intp)
        pointers = [builder.gep(start, [builder.mul(stride_, _INT64(i))]) for i in range(result.count)]
        return context.make_tuple(builder, result, [_load(builder, p, _value_ir(vector)) for p in pointers])

    return result(array, types.intp, types.intp, count), codegen


@intrinsic
def store_slots(typingctx, array, index, stride, values):
    """Write a tuple of vectors, `stride` elements apart."""

    def codegen(context, builder, sig, args):
        start = _pointer(context, builder, array, args[0], args[1])
        for i in range(values.count):
            _store(builder, builder.extract_value(args[3], i), builder.gep(start, [builder.mul(args[2], _INT64(i))]))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, values), codegen


# --------------------------------------------------------------------------------------------- factors in bfloat16
# A bfloat16 is the upper half of a float32. Products of them take them two at a time, as elements of uint32 arrays: the
# number with the lower index of the sum in the lower half. So a matrix of pairs is a matrix of half the depth, which
# lies in memory, and is packed, as one of float32.
_HAS_BFLOAT16 = {"avx512bf16", "avx512vl"} <= CPU_FEATURES


def _repeated(integers: ir.VectorType, number: int) -> ir.Constant:
    return ir.Constant(integers, [number] * integers.count)


def _narrow(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """A vector of float32 rounded to bfloat16, of two equally near ones to the even one: 16 bits each."""
    count = value.type.count
    halves = ir.VectorType(_INT16, count)
    if _HAS_BFLOAT16 and count > 4:
        return _call(builder, f"llvm.x86.avx512bf16.cvtneps2bf16.{32 * count}", halves, value)
    integers = ir.VectorType(_INT32, count)
    bits = builder.bitcast(value, integers)
    upper = builder.lshr(bits, _repeated(integers, 16))
    odd = builder.and_(upper, _repeated(integers, 1))
    rounded = builder.lshr(builder.add(builder.add(bits, _repeated(integers, 0x7FFF)), odd), _repeated(integers, 16))
    # NaN could overflow into another number; the highest bit of the fraction keeps it one.
    no_number = builder.or_(upper, _repeated(integers, 0x40))
    return builder.trunc(builder.select(builder.fcmp_unordered("uno", value, value), no_number, rounded), halves)


def _multiply_add_pairs(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, total: ir.Value) -> ir.Value:
    """total + the products of both pairs in every lane; a and b are vectors of int32."""
    if _HAS_BFLOAT16:
        bits = 32 * total.type.count
        return _call(builder, f"llvm.x86.avx512bf16.dpbf16ps.{bits}", total.type, total, a, b)
    shift, mask = _repeated(a.type, 16), _repeated(a.type, 0xFFFF0000)
    for widen in (lambda both: builder.and_(both, mask), lambda both: builder.shl(both, shift)):
        total = _fma(builder, *(builder.bitcast(widen(both), total.type) for both in (a, b)), total)
    return total


@intrinsic
def numbers_in(typingctx, array):
    """How many numbers one element of the array holds: 2 if it is one of pairs of bfloat16, else 1."""
    count = 2 if isinstance(array.dtype, types.Integer) else 1

    def codegen(context, builder, sig, args):
        return context.get_constant(types.intp, count)

    return types.intp(array), codegen


@intrinsic
def factors_of(typingctx, numbers, pairs):
    """Of two arrays the second one if it is one of pairs, else the first one."""
    narrow = isinstance(pairs.dtype, types.Integer)

    def codegen(context, builder, sig, args):
        return impl_ret_borrowed(context, builder, sig.return_type, args[narrow])

    return (pairs if narrow else numbers)(numbers, pairs), codegen


def _store_factor(
    context: Any, builder: ir.IRBuilder, array_type: types.Array, array: ir.Value, index: ir.Value, value: ir.Value
) -> None:
    if isinstance(array_type.dtype, types.Integer):
        index, value = builder.lshr(index, _INT64(1)), _narrow(builder, value)
    _store(builder, value, _pointer(context, builder, array_type, array, index))


@intrinsic
def store_factor(typingctx, array, index, value):
    """Write a vector as numbers index, index + 1, ... of an array, rounded if it is one of pairs; index is even."""

    def codegen(context, builder, sig, args):
        _store_factor(context, builder, array, *args)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@intrinsic
def store_factor_slots(typingctx, array, index, stride, values):
    """`store_factor` of a tuple of vectors, `stride` numbers apart."""

    def codegen(context, builder, sig, args):
        for i in range(values.count):
            number = builder.add(args[1], builder.mul(args[2], _INT64(i)))
            _store_factor(context, builder, array, args[0], number, builder.extract_value(args[3], i))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, values), codegen


@intrinsic
def store_rows(typingctx, array, index, first, second):
    """Write a vector to elements index, index + 1, ... of an array; of one of pairs, those of its numbers with the
    second one's."""
    narrow = isinstance(array.dtype, types.Integer)

    def codegen(context, builder, sig, args):
        if not narrow:
            _store(builder, args[2], _pointer(context, builder, array, args[0], args[1]))
            return context.get_dummy_value()
        integers = ir.VectorType(_INT32, args[2].type.count)
        low, high = (builder.zext(_narrow(builder, value), integers) for value in args[2:])
        pairs = builder.or_(low, builder.shl(high, _repeated(integers, 16)))
        _store(builder, pairs, _pointer(context, builder, array, args[0], args[1]))
        return context.get_dummy_value()

    return types.void(array, types.intp, first, second), codegen


@intrinsic
def transpose(typingctx, source, source0, rows, row0, pitch, target, target0, target_pitch):
    """Transpose a square of as many rows and columns as a vector has lanes.

    target[target0 + k * target_pitch + r] = source[source0 + rows[row0 + r] * pitch + k].
    """
    index = types.intp
    vector = Vector(source.dtype)

    def codegen(context, builder, sig, args):
        source_, source0_, rows_, row0_, pitch_, target_, target0_, target_pitch_ = args
        count = vector.lanes
        begin = _pointer(context, builder, source, source_, source0_)
        table = _pointer(context, builder, rows, rows_, row0_)
        offsets = [builder.mul(builder.load(builder.gep(table, [_INT64(r)])), pitch_) for r in range(count)]
        values = [_load(builder, builder.gep(begin, [offset]), _value_ir(vector)) for offset in offsets]
        # Each stage interleaves the first half of the registers with the second half (a perfect shuffle of rows); after
        # log2(lanes) of them every element has changed its row number for its column number.
        half = count // 2
        mask_type = ir.VectorType(_INT32, count)
        low = ir.Constant(mask_type, [i // 2 + (i % 2) * count for i in range(count)])
        high = ir.Constant(mask_type, [half + i // 2 + (i % 2) * count for i in range(count)])
        for _ in range(count.bit_length() - 1):
            pairs = list(zip(values[:half], values[half:], strict=True))
            values = [builder.shuffle_vector(*pair, mask) for pair in pairs for mask in (low, high)]
        end = _pointer(context, builder, target, target_, target0_)
        for k, value in enumerate(values):
            _store(builder, value, builder.gep(end, [builder.mul(target_pitch_, _INT64(k))]))
        return context.get_dummy_value()

    return types.void(source, index, rows, index, index, target, index, index), codegen


def _load_row(builder: ir.IRBuilder, begin: ir.Value, count: int, vector: ir.VectorType) -> list[ir.Value]:
    """`count` vectors of one row of a panel: of numbers, or of pairs of them, or, where `begin` points to whole numbers
    of 16 bits, of bfloat16."""
    element = begin.type.pointee
    if element != _INT16:
        kept = ir.VectorType(element, vector.count)
        return [_load(builder, builder.gep(begin, [_INT64(i * vector.count)]), kept) for i in range(count)]
    # A bfloat16 is the upper half of a float32. Of each two vectors one has the even and one the odd elements: they are
    # widened where they are loaded, by a shift and a mask.
    integers = ir.VectorType(_INT32, vector.count)
    shift, mask = _repeated(integers, 16), _repeated(integers, 0xFFFF0000)
    found = []
    for i in range(0, count - 1, 2):
        both = _load(builder, builder.gep(begin, [_INT64(i * vector.count)]), integers)
        found += [builder.shl(both, shift), builder.and_(both, mask)]
    if count % 2:
        halves = ir.VectorType(_INT16, vector.count)
        last = _load(builder, builder.gep(begin, [_INT64((count - 1) * vector.count)]), halves)
        found.append(builder.shl(builder.zext(last, integers), shift))
    return [builder.bitcast(bits, vector) for bits in found]


# ------------------------------------------------------------------------------------------------- the register tile
def _by_rows(builder, height, a, rows, pitch):
    """The left factor of a tile by the numbers of its rows: a function of k, pointers to its elements (r, k)."""
    begins = [builder.gep(a, [builder.mul(builder.load(builder.gep(rows, [_INT64(r)])), pitch)]) for r in range(height)]
    return lambda k: [builder.gep(begin, [k]) for begin in begins]


def _by_columns(builder, height, a, pitch):
    """The same where rows lie side by side, and what follows in a row is a pitch away."""

    def elements(k):
        begin = builder.gep(a, [builder.mul(k, pitch)])
        return [builder.gep(begin, [_INT64(r)]) for r in range(height)]

    return elements


def _emit_tile(builder, height, width, left, b, b_pitch, depth, start, start_pitch, c, c_pitch, vector):
    """One tile of a product: `height` rows by `width` vectors of accumulators that never leave the registers.

    Both factors are of numbers, or both of pairs, of which depth is the number then. left is what `_by_rows` or
    `_by_columns` returns; b has a pointer for every PANEL_VECTORS vectors of a row.
    """
    _emit_tile_of_sums(builder, height, width, [(left, b, b_pitch, depth)], start, start_pitch, c, c_pitch, vector)


def _emit_tile_of_sums(builder, height, width, products, start, start_pitch, c, c_pitch, vector):
    """As `_emit_tile`, for the sum of several products (left, b, b_pitch, depth), one after the other."""
    column = [_INT64(i * vector.count) for i in range(width)]
    starts = [builder.gep(start, [builder.mul(start_pitch, _INT64(r))]) for r in range(height)]
    sums = [[_load(builder, builder.gep(s, [v]), vector) for v in column] for s in starts]
    for left, b, b_pitch, depth in products:
        sums = _emit_product(builder, height, width, left, b, b_pitch, depth, sums, vector)
    for r in range(height):
        target = builder.gep(c, [builder.mul(c_pitch, _INT64(r))])
        for v in range(width):
            _store(builder, sums[r][v], builder.gep(target, [column[v]]))


def _emit_product(builder, height, width, left, b, b_pitch, depth, initial, vector):
    """The accumulators of a tile after one product, at least one deep, has been added to their initial values."""
    before = builder.block
    loop, after = builder.append_basic_block("depth"), builder.append_basic_block("depth.end")
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(_INT64)
    accumulators = [[builder.phi(vector) for _ in range(width)] for _ in range(height)]
    updated: list[list[ir.Value]] = [[] for _ in range(height)]
    elements = left(k)
    a_values: list[ir.Value] = []
    # One panel after the other: the vectors of both would not fit the registers beside the accumulators.
    for panel in b:
        done = len(updated[0])
        n_vectors = min(PANEL_VECTORS, width - done)
        b_vectors = _load_row(builder, builder.gep(panel, [builder.mul(k, b_pitch)]), n_vectors, vector)
        for r in range(height):
            if done == 0:
                number = builder.load(elements[r])
                a_values.append(_splat(builder, number, ir.VectorType(number.type, vector.count)))
            add = _multiply_add_pairs if a_values[r].type.element == _INT32 else _fma
            for v, b_vector in enumerate(b_vectors, done):
                updated[r].append(add(builder, a_values[r], b_vector, accumulators[r][v]))
    k_next = builder.add(k, _INT64(1))
    k.add_incoming(_INT64(0), before)
    k.add_incoming(k_next, loop)
    for r in range(height):
        for v in range(width):
            accumulators[r][v].add_incoming(initial[r][v], before)
            accumulators[r][v].add_incoming(updated[r][v], loop)
    builder.cbranch(builder.icmp_signed("<", k_next, depth), loop, after)
    builder.position_at_end(after)
    return updated


def _for_every_shape(builder, height, width, most_rows, widths, emit):
    """Code that does what `emit` writes for the height and the width that it finds."""
    shape = builder.add(builder.mul(height, _INT64(max(widths) + 1)), width)
    done = builder.append_basic_block("tile.done")
    switch = builder.switch(shape, done)
    for rows_high in range(1, most_rows + 1):
        for vectors_wide in widths:
            case = builder.append_basic_block(f"tile.{rows_high}x{vectors_wide}")
            switch.add_case(_INT64(rows_high * (max(widths) + 1) + vectors_wide), case)
            builder.position_at_end(case)
            emit(rows_high, vectors_wide)
            builder.branch(done)
    builder.position_at_end(done)


@intrinsic
def tile(typingctx, height, width, a, a0, rows, row0, pitch, b, b0, depth, start, start0, start_pitch, c, c0, c_pitch):
    """C[r, :] = start[r, :] + sum over k of A[rows[r], k] B[k, :] for `height` rows and `width` vectors, depth at least
    1.

    Element k of row r of A is a[a0 + rows[row0 + r] * pitch + k]; B is contiguous from b0 on, `width` vectors a row;
    row r of start and C begins r pitches after start0 and c0.
    """
    index = types.intp
    vector = Vector(c.dtype)

    def codegen(context, builder, sig, args):
        height_, width_, a_, a0_, rows_, row0_, pitch_, b_, b0_, depth_, s_, s0_, s_pitch_, c_, c0_, c_pitch_ = args
        left = (_pointer(context, builder, a, a_, a0_), _pointer(context, builder, rows, rows_, row0_), pitch_)
        panel = _pointer(context, builder, b, b_, b0_)
        result = (
            depth_,
            _pointer(context, builder, start, s_, s0_),
            s_pitch_,
            _pointer(context, builder, c, c_, c0_),
            c_pitch_,
            _value_ir(vector),
        )

        def emit(rows_high, vectors_wide):
            b_pitch = _INT64(vectors_wide * vector.lanes)
            factor = _by_rows(builder, rows_high, *left)
            _emit_tile(builder, rows_high, vectors_wide, factor, [panel], b_pitch, *result)

        _for_every_shape(builder, height_, width_, TILE_ROWS, range(1, PANEL_VECTORS + 1), emit)
        return context.get_dummy_value()

    matrix = (index, start, index, index, c, index, index)
    return types.void(index, index, a, index, rows, index, index, b, index, *matrix), codegen


@intrinsic
def tile_of_two(
    typingctx,
    height,
    width,
    a,
    a0,
    a_rows,
    a_row0,
    a_pitch,
    a_depth,
    d,
    d0,
    d_rows,
    d_row0,
    d_pitch,
    d_depth,
    b,
    b0,
    b1,
    start,
    start0,
    start_pitch,
    c,
    c0,
    c_pitch,
):
    """As `tile`, for the sum of two products: of A with the rows of B from b0 on, and of D with those from b1 on."""
    index = types.intp
    vector = Vector(c.dtype)

    def codegen(context, builder, sig, args):
        height_, width_, a_, a0_, a_rows_, a_row0_, a_pitch_, a_depth_ = args[:8]
        d_, d0_, d_rows_, d_row0_, d_pitch_, d_depth_, b_, b0_, b1_ = args[8:17]
        s_, s0_, s_pitch_, c_, c0_, c_pitch_ = args[17:]
        first = (_pointer(context, builder, a, a_, a0_), _pointer(context, builder, a_rows, a_rows_, a_row0_), a_pitch_)
        second = (
            _pointer(context, builder, d, d_, d0_),
            _pointer(context, builder, d_rows, d_rows_, d_row0_),
            d_pitch_,
        )
        panels = [_pointer(context, builder, b, b_, begin) for begin in (b0_, b1_)]
        result = (
            _pointer(context, builder, start, s_, s0_),
            s_pitch_,
            _pointer(context, builder, c, c_, c0_),
            c_pitch_,
            _value_ir(vector),
        )

        def emit(rows_high, vectors_wide):
            b_pitch = _INT64(vectors_wide * vector.lanes)
            products = [
                (_by_rows(builder, rows_high, *left), [panel], b_pitch, depth)
                for left, panel, depth in ((first, panels[0], a_depth_), (second, panels[1], d_depth_))
            ]
            _emit_tile_of_sums(builder, rows_high, vectors_wide, products, *result)

        _for_every_shape(builder, height_, width_, TILE_ROWS, range(1, PANEL_VECTORS + 1), emit)
        return context.get_dummy_value()

    left = (a, index, a_rows, index, index, index)
    second_left = (d, index, d_rows, index, index, index)
    matrix = (start, index, index, c, index, index)
    return types.void(index, index, *left, *second_left, b, index, index, *matrix), codegen


@intrinsic
def tile_transposed(typingctx, height, width, a, a0, pitch, b, b0, depth, start, start0, start_pitch, c, c0, c_pitch):
    """As `tile`, with the transpose of A: C[r, :] = start[r, :] + sum over k of A[k, r] B[k, :].

    Element (k, r) of A is a[a0 + k * pitch + r].
    """
    index = types.intp
    vector = Vector(c.dtype)

    def codegen(context, builder, sig, args):
        height_, width_, a_, a0_, pitch_, b_, b0_, depth_, s_, s0_, s_pitch_, c_, c0_, c_pitch_ = args
        left = _pointer(context, builder, a, a_, a0_), pitch_
        panel = _pointer(context, builder, b, b_, b0_)
        result = (
            depth_,
            _pointer(context, builder, start, s_, s0_),
            s_pitch_,
            _pointer(context, builder, c, c_, c0_),
            c_pitch_,
            _value_ir(vector),
        )

        def emit(rows_high, vectors_wide):
            b_pitch = _INT64(vectors_wide * vector.lanes)
            factor = _by_columns(builder, rows_high, *left)
            _emit_tile(builder, rows_high, vectors_wide, factor, [panel], b_pitch, *result)

        _for_every_shape(builder, height_, width_, TILE_ROWS, range(1, PANEL_VECTORS + 1), emit)
        return context.get_dummy_value()

    matrix = (index, start, index, index, c, index, index)
    return types.void(index, index, a, index, index, b, index, *matrix), codegen


@intrinsic
def tile_few(
    typingctx,
    height,
    width,
    a,
    a0,
    rows,
    row0,
    pitch,
    b,
    b0,
    b1,
    b_pitch,
    depth,
    start,
    start0,
    start_pitch,
    c,
    c0,
    c_pitch,
):
    """As `tile`, of at most FEW_ROWS rows, and with any pitch of B.

    The width is at most, or twice, PANEL_VECTORS. A row's first PANEL_VECTORS vectors of B begin at b0, the others at
    b1.
    """
    index = types.intp
    vector = Vector(c.dtype)

    def codegen(context, builder, sig, args):
        height_, width_, a_, a0_, rows_, row0_, pitch_, b_, b0_, b1_, b_pitch_, depth_ = args[:12]
        s_, s0_, s_pitch_, c_, c0_, c_pitch_ = args[12:]
        left = (_pointer(context, builder, a, a_, a0_), _pointer(context, builder, rows, rows_, row0_), pitch_)
        panels = [_pointer(context, builder, b, b_, b0_), _pointer(context, builder, b, b_, b1_)]
        result = (
            b_pitch_,
            depth_,
            _pointer(context, builder, start, s_, s0_),
            s_pitch_,
            _pointer(context, builder, c, c_, c0_),
            c_pitch_,
            _value_ir(vector),
        )

        def emit(rows_high, vectors_wide):
            _emit_tile(builder, rows_high, vectors_wide, _by_rows(builder, rows_high, *left), panels, *result)

        _for_every_shape(builder, height_, width_, FEW_ROWS, [*range(1, PANEL_VECTORS + 1), 2 * PANEL_VECTORS], emit)
        return context.get_dummy_value()

    right = (b, index, index, index, index)
    matrix = (start, index, index, c, index, index)
    return types.void(index, index, a, index, rows, index, index, *right, *matrix), codegen


if config.DISABLE_JIT:
    from numrnn.kernels.simd_interpreted import (  # type: ignore[assignment]
        absolute,
        clamp,
        constant,
        copy_sign,
        factors_of,
        fma,
        lanes,
        load,
        load_partial,
        load_slots,
        minimum,
        numbers_in,
        power_of_two,
        reciprocal_estimate,
        store,
        store_factor,
        store_factor_slots,
        store_partial,
        store_rows,
        store_slots,
        tile,
        tile_few,
        tile_of_two,
        tile_transposed,
        transpose,
        where_below,
        where_positive,
        zeros_like,
    )
