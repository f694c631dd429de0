"""What threads keep in registers, exchange within a warp, and tell other blocks: the one file here that speaks LLVM.

A recurrent kernel reads its weights once and keeps them for a whole sequence. An array of registers exists only if
every index is known to the compiler, so these functions write their loops out. In the simulator, which runs Python,
the same names are plain loops; it has no warps, so that there every lane's part of a sum goes through shared memory.

The summation index k of a product is divided among `lanes` neighbouring threads, in words of `WORD_BYTES`, so that
a warp reads consecutive addresses of shared memory: lane p has k = (j * lanes + p) * width + i, i below the width of a
word, j below the number of `words`.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from typing import Any

import numpy as np
from numba import config

__all__ = [
    "WARP",
    "WORD_BYTES",
    "copy_word",
    "launched_together",
    "load_acquire",
    "load_weights",
    "multiply",
    "reduce_lanes",
    "rounds_of",
    "width_of",
]

SIMULATED = bool(config.ENABLE_CUDASIM)

# Threads whose lanes are summed without shared memory; bytes that one thread reads at a time.
WARP = 1 if SIMULATED else 32
WORD_BYTES = 16


def width_of(dtype: Any) -> int:
    """Numbers in a word."""
    return WORD_BYTES // np.dtype(dtype).itemsize


def rounds_of(count: int, lanes: int) -> list[tuple[int, bool]]:
    """How `lanes` threads of a warp sum `count` numbers each: with which lanes they exchange, and whether halves.

    As long as the count is even a thread gives one half of its numbers away and keeps the sums of the other half; after
    that, both have the sums of all.
    """
    rounds = []
    offset = min(lanes, WARP) // 2
    while offset:
        halve = count % 2 == 0
        rounds.append((offset, halve))
        count = count // 2 if halve else count
        offset //= 2
    return rounds


if SIMULATED:

    def load_weights(
        array, first, n_units, depth, unit_stride, gate_stride, depth_stride, lane, units, gates, words, lanes, width
    ):
        weights = []
        for unit in range(units):
            for gate in range(gates):
                for j in range(words):
                    for i in range(width):
                        k = (j * lanes + lane) * width + i
                        at = first + unit * unit_stride + gate * gate_stride + k * depth_stride
                        weights.append(array[at] if unit < n_units and k < depth else array.dtype.type(0))
        return weights

    def multiply(weights, tile, at, pitch, rows, words, lanes, width, n_sequences):
        sums = []
        for sequence in range(n_sequences):
            for row in range(rows):
                total = tile.dtype.type(0)
                for j in range(words):
                    for i in range(width):
                        value = tile[at + sequence * pitch + j * lanes * width + i]
                        total += weights[(row * words + j) * width + i] * value
                sums.append(total)
        return sums

    def reduce_lanes(sums, lane, lanes):
        return sums

    def copy_word(target, to, source, at, width):
        for i in range(width):
            target[to + i] = source[at + i]

    def load_acquire(array, index):
        return array[index]

    def launched_together():
        pass

else:
    from llvmlite import ir
    from numba.cuda import cgutils, types
    from numba.cuda.core.errors import TypingError
    from numba.cuda.extending import intrinsic

    # Loads of weights between two barriers of the block.
    _LOADS_AT_ONCE = 16

    _INT32, _INT64 = ir.IntType(32), ir.IntType(64)

    def _pointer(context, builder, array_type, array, index):
        return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])

    def _real(numba_type):
        return ir.FloatType() if numba_type.bitwidth == 32 else ir.DoubleType()

    def _call(builder, name, result, *args):
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, [a.type for a in args]), name)
        return builder.call(function, args)

    def _literal(numba_type):
        # Numba asks with the types of the arguments first, and after this error with their values.
        if not isinstance(numba_type, types.IntegerLiteral):
            raise TypingError("expected a constant")
        return int(numba_type.literal_value)

    @intrinsic
    def load_weights(
        typingctx, array, first, n_units, depth, unit_stride, gate_stride, depth_stride, lane, units, gates, words,
        lanes, width,
    ):  # fmt: skip
        """The weights of each thread: `units` units with `gates` gates each, `words` words of the summation index.

        All threads of a block have to call it together. The weight of (unit, gate, k) is array[first +
        unit * unit_stride + gate * gate_stride + k * depth_stride]; zero where unit is not below n_units or k not below
        depth.
        """
        n_units_, n_gates, n_words, n_lanes, n_width = (_literal(t) for t in (units, gates, words, lanes, width))
        result = types.UniTuple(array.dtype, n_units_ * n_gates * n_words * n_width)
        index = types.int64

        def codegen(context, builder, sig, args):
            array_, first_, limit, depth_, unit_stride_, gate_stride_, depth_stride_, lane_ = args[:8]
            zero = ir.Constant(_real(array.dtype), 0.0)
            base = context.make_array(array)(context, builder, array_).data
            none = builder.icmp_signed("<", limit, _INT64(1))
            rows = []
            for unit in range(n_units_):
                at_unit = builder.add(first_, builder.mul(unit_stride_, _INT64(unit)))
                for gate in range(n_gates):
                    at = builder.add(at_unit, builder.mul(gate_stride_, _INT64(gate)))
                    rows.append((builder.icmp_signed("<", _INT64(unit), limit), at))
            values = {}
            meeting = ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), "bar.sync 0;", "~{memory}", side_effect=True)
            for j in range(n_words):
                for i in range(n_width):
                    if len(values) % _LOADS_AT_ONCE < len(rows) and values:
                        # With all loads under way at once, their addresses would need more registers than there are.
                        builder.call(meeting, [])
                    k = builder.add(builder.mul(lane_, _INT64(n_width)), _INT64(j * n_lanes * n_width + i))
                    valid = builder.icmp_signed("<", k, depth_)
                    step = builder.mul(k, depth_stride_)
                    for row, (known, at_row) in enumerate(rows):
                        both = builder.and_(known, valid)
                        # What is not there is read elsewhere, so that nothing branches.
                        at = builder.select(both, builder.add(at_row, step), builder.select(none, _INT64(0), first_))
                        value = builder.load(builder.gep(base, [at]))
                        values[(row * n_words + j) * n_width + i] = builder.select(both, value, zero)
            return context.make_tuple(builder, result, [values[i] for i in range(result.count)])

        signature = result(array, index, index, index, index, index, index, index, units, gates, words, lanes, width)
        return signature, codegen

    @intrinsic
    def multiply(typingctx, weights, tile, at, pitch, rows, words, lanes, width, n_sequences):
        """One thread's part of the products of its weights with vectors in shared memory: sums[sequence, row].

        Vector `sequence` begins at element at + sequence * pitch, at which the first word of this lane lies; both are
        multiples of the width.
        """
        n_rows, n_words, n_lanes, n_width, count = (_literal(t) for t in (rows, words, lanes, width, n_sequences))
        result = types.UniTuple(weights.dtype, n_rows * count)

        def codegen(context, builder, sig, args):
            weights_, tile_, at_, pitch_ = args[:4]
            real = _real(weights.dtype)
            word = ir.VectorType(real, n_width)
            name = f"llvm.fma.f{weights.dtype.bitwidth}"
            kept = [builder.extract_value(weights_, i) for i in range(weights.count)]
            sums = [[ir.Constant(real, 0.0)] * n_rows for _ in range(count)]
            starts = [
                _pointer(context, builder, tile, tile_, builder.add(at_, builder.mul(pitch_, _INT64(sequence))))
                for sequence in range(count)
            ]
            for j in range(n_words):
                for sequence in range(count):
                    place = builder.gep(starts[sequence], [_INT64(j * n_lanes * n_width)])
                    values = builder.load(builder.bitcast(place, word.as_pointer()), align=WORD_BYTES)
                    for i in range(n_width):
                        value = builder.extract_element(values, _INT32(i))
                        for row in range(n_rows):
                            weight = kept[(row * n_words + j) * n_width + i]
                            sums[sequence][row] = _call(builder, name, real, weight, value, sums[sequence][row])
            return context.make_tuple(builder, result, [total for of_one in sums for total in of_one])

        index = types.int64
        return result(weights, tile, index, index, rows, words, lanes, width, n_sequences), codegen

    def _exchange(builder, value, offset):
        """The value of the lane whose number differs in the bits of `offset`."""
        parts = [value]
        bits = 32 if isinstance(value.type, ir.FloatType) else 64
        whole = builder.bitcast(value, ir.IntType(bits))
        parts = [builder.trunc(builder.lshr(whole, ir.Constant(whole.type, at)), _INT32) for at in range(0, bits, 32)]
        if bits == 32:
            parts = [whole]
        pair = ir.LiteralStructType((_INT32, ir.IntType(1)))
        received = []
        for part in parts:
            # Arguments: all lanes, mode "butterfly", value, lanes to exchange with, and the limits of a whole warp.
            both = _call(
                builder, "llvm.nvvm.shfl.sync.i32", pair, _INT32(0xFFFFFFFF), _INT32(3), part, _INT32(offset),
                _INT32(0x1F),
            )  # fmt: skip
            received.append(builder.extract_value(both, 0))
        if bits == 32:
            return builder.bitcast(received[0], value.type)
        low, high = (builder.zext(part, _INT64) for part in received)
        return builder.bitcast(builder.or_(low, builder.shl(high, _INT64(32))), value.type)

    @intrinsic
    def reduce_lanes(typingctx, sums, lane, lanes):
        """Sum over the lanes of a warp, by the rounds of `rounds_of`; all threads of the warp must be here."""
        n_lanes = _literal(lanes)
        left = sums.count
        for _, halve in rounds_of(sums.count, n_lanes):
            left = left // 2 if halve else left
        result = types.UniTuple(sums.dtype, left)

        def codegen(context, builder, sig, args):
            values = [builder.extract_value(args[0], i) for i in range(sums.count)]
            for offset, halve in rounds_of(sums.count, n_lanes):
                if halve:
                    half = len(values) // 2
                    bit = builder.icmp_signed("!=", builder.and_(args[1], _INT64(offset)), _INT64(0))
                    pairs = list(zip(values[:half], values[half:], strict=True))
                    kept = [builder.select(bit, high, low) for low, high in pairs]
                    given = [builder.select(bit, low, high) for low, high in pairs]
                else:
                    kept = given = values
                values = [
                    builder.fadd(mine, _exchange(builder, theirs, offset))
                    for mine, theirs in zip(kept, given, strict=True)
                ]
            return context.make_tuple(builder, result, values)

        return result(sums, types.int64, lanes), codegen

    @intrinsic
    def copy_word(typingctx, target, to, source, at, width):
        """Copy a word from global to shared memory, as the second-level cache has it."""
        n_width = _literal(width)

        def codegen(context, builder, sig, args):
            target_, to_, source_, at_ = args[:4]
            real = _real(source.dtype)
            letter, suffix = ("f", "f32") if source.dtype.bitwidth == 32 else ("d", "f64")
            outputs = ", ".join(f"${i}" for i in range(n_width))
            place = _pointer(context, builder, source, source_, at_)
            kind = ir.FunctionType(ir.LiteralStructType([real] * n_width), [place.type])
            constraints = ",".join([f"={letter}"] * n_width + ["l", "~{memory}"])
            text = f"ld.global.cg.v{n_width}.{suffix} {{{outputs}}}, [${n_width}];"
            values = builder.call(ir.InlineAsm(kind, text, constraints, side_effect=True), [place])
            word = ir.Constant(ir.VectorType(real, n_width), ir.Undefined)
            for i in range(n_width):
                word = builder.insert_element(word, builder.extract_value(values, i), _INT32(i))
            goal = builder.bitcast(_pointer(context, builder, target, target_, to_), word.type.as_pointer())
            builder.store(word, goal, align=WORD_BYTES)
            return context.get_dummy_value()

        return types.void(target, types.int64, source, types.int64, width), codegen

    @intrinsic
    def load_acquire(typingctx, array, index):
        """A counter in global memory, and with it all that was written before it got that value."""

        def codegen(context, builder, sig, args):
            place = _pointer(context, builder, array, args[0], args[1])
            kind = ir.FunctionType(_INT32, [place.type])
            assembly = ir.InlineAsm(kind, "ld.acquire.gpu.global.u32 $0, [$1];", "=r,l,~{memory}", side_effect=True)
            return builder.call(assembly, [place])

        return types.int32(array, types.int64), codegen

    @intrinsic
    def launched_together(typingctx):
        """Marks a kernel all of whose blocks must run at the same time: it is launched as a cooperative one."""

        def codegen(context, builder, sig, args):
            context.active_code_library.use_cooperative = True
            return context.get_dummy_value()

        return types.void(), codegen
