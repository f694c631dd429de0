"""What follows the way back through time: gradients of a layer's weights and of its input.

Both are products with the gradients of the pre-activations, `d_z` (n_rows, n_slots * padded), which
`recurrent.backward` has left, and are the same for all cells. Every element is one chain of multiply-adds in the order
of the packed rows (for the input, of the slots and units), however the work is divided among threads.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from numrnn.kernels.cpu.matmul import (
    SUM_COLUMNS,
    SUM_PITCH,
    SUM_ROWS,
    height_of_tile,
    multiply,
    multiply_where_it_lies,
    transpose_into,
)
from numrnn.kernels.jit import ZERO, kernel
from numrnn.kernels.simd import (
    PANEL_VECTORS,
    TILE_ROWS,
    constant,
    lanes,
    load,
    load_partial,
    store,
    store_partial,
    tile,
    zeros_like,
)
from numrnn.kernels.subnormals import flush_subnormals, restore_subnormals

__all__ = ["INPUT_ROWS", "input_gradient", "weight_gradient_scratch", "weight_gradients"]

# Rows of an input's gradient that are computed at once, so that they are still in the cache when they are put in place.
INPUT_ROWS = 96


def weight_gradient_scratch(n_lanes: int) -> int:
    """Elements of the scratch of `weight_gradients`: block, panel, and the tile at a ragged edge."""
    width = PANEL_VECTORS * n_lanes
    return (SUM_COLUMNS + n_lanes) * SUM_PITCH + SUM_ROWS * width + TILE_ROWS * width


@kernel
def _add_products(
    scratch, n_block, chunk, begin, end, hidden_size, gates, slot_first, b, rows, first, b_pitch, identity, gradient
):
    """Add the products of some transposed rows of d_z with some rows of B to a gradient.

    scratch begins with the transposed gradients of pre-activations `chunk`, `chunk + 1`, ..., counted slot after slot
    without padding; begin and end say which of them belong to this product. gradient (n_gates * hidden_size, depth) is
    one-dimensional here.
    """
    n_lanes = lanes(scratch)
    step = PANEL_VECTORS * n_lanes
    depth = gradient.shape[1]
    flat = gradient.reshape(-1)
    panel = (SUM_COLUMNS + n_lanes) * SUM_PITCH
    edge = panel + SUM_ROWS * step
    for column in range(0, depth, step):
        width = min(step, depth - column)
        whole = width // n_lanes * n_lanes
        vectors = (width + n_lanes - 1) // n_lanes
        wide = vectors * n_lanes
        for row in range(n_block):
            source = rows[first + row] * b_pitch + column
            for i in range(0, whole, n_lanes):
                store(scratch, panel + row * wide + i, load(b, source + i))
            if whole < width:
                store(scratch, panel + row * wide + whole, load_partial(b, source + whole, width - whole))
        at = begin
        while at < end:
            slot = at // hidden_size
            unit = at - slot * hidden_size
            stop = min(end, at - unit + hidden_size)
            target = (gates[slot - slot_first] * hidden_size + unit) * depth + column
            while at < stop:
                height = height_of_tile(stop - at)
                # By way of scratch, since the last columns may be less than a vector.
                for r in range(height):
                    for i in range(0, whole, n_lanes):
                        store(scratch, edge + r * wide + i, load(flat, target + r * depth + i))
                    if whole < width:
                        last = load_partial(flat, target + r * depth + whole, width - whole)
                        store(scratch, edge + r * wide + whole, last)
                tile(
                    height,
                    vectors,
                    scratch,
                    0,
                    identity,
                    at - chunk,
                    SUM_PITCH,
                    scratch,
                    panel,
                    n_block,
                    scratch,
                    edge,
                    wide,
                    scratch,
                    edge,
                    wide,
                )
                for r in range(height):
                    for i in range(0, whole, n_lanes):
                        store(flat, target + r * depth + i, load(scratch, edge + r * wide + i))
                    if whole < width:
                        last = load(scratch, edge + r * wide + whole)
                        store_partial(flat, target + r * depth + whole, width - whole, last)
                target += height * depth
                at += height


@kernel
def weight_gradients(
    d_z,
    n_rows,
    slots,
    padded,
    hidden_size,
    begin,
    end,
    identity,
    input_gates,
    values,
    value_rows,
    value_pitch,
    d_weight_ih,
    d_bias_ih,
    hidden_gates,
    hidden,
    hidden_pitch,
    d_weight_hh,
    d_bias_hh,
    scratch,
):
    """Add d_z.T @ x to the gradient of weight_ih, d_z.T @ h to that of weight_hh, sums over d_z to those of the biases.

    Pre-activations begin to end are done, counted slot after slot without padding; the biases, all of them, where begin
    is 0. x is row value_rows[r] of values, h row r of hidden: what the recurrent product of packed row r has read.
    """
    before = flush_subnormals()
    n_lanes = lanes(d_z)
    n_slots = slots // padded
    n_input = len(input_gates)
    hidden_first = n_slots - len(hidden_gates)
    for first in range(0, n_rows, SUM_ROWS):
        n_block = min(SUM_ROWS, n_rows - first)
        for chunk in range(begin, end, SUM_COLUMNS):
            stop = min(end, chunk + SUM_COLUMNS)
            at = chunk
            while at < stop:
                slot = at // hidden_size
                unit = at - slot * hidden_size
                count = min(stop - at, hidden_size - unit)
                # Whole vectors of units, so that squares are transposed: what is too much is overwritten, or scratch.
                wide = min((count + n_lanes - 1) // n_lanes * n_lanes, padded - unit)
                source = first * slots + slot * padded + unit
                target = (at - chunk) * SUM_PITCH
                transpose_into(d_z, source, identity, ZERO, n_block, slots, wide, scratch, target, SUM_PITCH)
                at += count
            _add_products(
                scratch,
                n_block,
                chunk,
                chunk,
                min(stop, n_input * hidden_size),
                hidden_size,
                input_gates,
                ZERO,
                values,
                value_rows,
                first,
                value_pitch,
                identity,
                d_weight_ih,
            )
            _add_products(
                scratch,
                n_block,
                chunk,
                max(chunk, hidden_first * hidden_size),
                stop,
                hidden_size,
                hidden_gates,
                hidden_first,
                hidden,
                identity,
                first,
                hidden_pitch,
                identity,
                d_weight_hh,
            )
    # Sums over all rows, four vectors of them at once.
    column = slots if begin > 0 or n_rows == 0 else 0
    while column < slots:
        a = zeros_like(load(d_z, column))
        if slots - column >= 4 * n_lanes:
            b = c = d = a
            for row in range(n_rows):
                at = row * slots + column
                a = a + load(d_z, at)
                b = b + load(d_z, at + n_lanes)
                c = c + load(d_z, at + 2 * n_lanes)
                d = d + load(d_z, at + 3 * n_lanes)
            store(scratch, 0, a)
            store(scratch, n_lanes, b)
            store(scratch, 2 * n_lanes, c)
            store(scratch, 3 * n_lanes, d)
            width = 4 * n_lanes
        else:
            for row in range(n_rows):
                a = a + load(d_z, row * slots + column)
            store(scratch, 0, a)
            width = n_lanes
        for i in range(width):
            slot = (column + i) // padded
            unit = column + i - slot * padded
            if unit < hidden_size:
                if slot < n_input:
                    d_bias_ih[input_gates[slot] * hidden_size + unit] += scratch[i]
                if slot >= hidden_first:
                    d_bias_hh[hidden_gates[slot - hidden_first] * hidden_size + unit] += scratch[i]
        column += width
    restore_subnormals(before)


@kernel
def input_gradient(
    d_z,
    slots,
    padded,
    hidden_size,
    begin,
    end,
    identity,
    gates,
    weight,
    panels,
    scratch,
    d_input,
    d_rows,
    d_pitch,
    is_first,
):
    """d_input[d_rows[r]] = d_z[r] @ weight_ih for packed rows begin to end; added, unless is_first.

    panels is weight_ih as `pack_rows` writes it, or empty: see `multiply_where_it_lies`. d_input is one-dimensional;
    of each of its rows, d_pitch apart, as many elements are written as weight_ih has columns. scratch is for INPUT_ROWS
    rows of a whole number of vectors.
    """
    before = flush_subnormals()
    n_lanes = lanes(d_z)
    depth = weight.shape[1]
    wide = (depth + n_lanes - 1) // n_lanes * n_lanes
    whole = depth // n_lanes * n_lanes
    zero = zeros_like(load(scratch, 0))
    for first in range(begin, end, INPUT_ROWS):
        n_rows = min(INPUT_ROWS, end - first)
        for row in range(n_rows):
            target = d_rows[first + row] * d_pitch
            for i in range(0, wide, n_lanes):
                if is_first:
                    store(scratch, row * wide + i, zero)
                else:
                    store(scratch, row * wide + i, load_partial(d_input, target + i, min(n_lanes, depth - i)))
        if len(panels) > 0:
            multiply(
                constant(d_z),
                first * slots,
                identity,
                ZERO,
                n_rows,
                slots,
                panels,
                ZERO,
                len(gates) * padded,
                wide,
                scratch,
                ZERO,
                wide,
                scratch,
                ZERO,
                wide,
            )
        else:
            multiply_where_it_lies(
                constant(d_z),
                first * slots,
                identity,
                n_rows,
                slots,
                gates,
                padded,
                hidden_size,
                weight,
                ZERO,
                wide,
                scratch,
                ZERO,
                wide,
            )
        for row in range(n_rows):
            target = d_rows[first + row] * d_pitch
            for i in range(0, whole, n_lanes):
                store(d_input, target + i, load(scratch, row * wide + i))
            if whole < depth:
                store_partial(d_input, target + whole, depth - whole, load(scratch, row * wide + whole))
    restore_subnormals(before)
