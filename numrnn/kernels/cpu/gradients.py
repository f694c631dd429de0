"""What follows the way back through time: gradients of a layer's weights and of its input.

Both are products with the gradients of the pre-activations, `d_z` (n_rows, n_slots * padded), which
`recurrent.backward` has left, and are the same for all cells. Every element is one chain of multiply-adds in the order
of the packed rows (for the input, of the slots and units), however the work is divided among threads.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from numrnn.kernels.cpu.matmul import height_of_tile, multiply, multiply_where_it_lies
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
    tile_transposed,
    zeros_like,
)
from numrnn.kernels.subnormals import flush_subnormals, restore_subnormals

__all__ = ["INPUT_ROWS", "input_gradient", "weight_gradient_scratch", "weight_gradients"]

# Rows of an input's gradient that are computed at once, so that they are still in the cache when they are put in place.
INPUT_ROWS = 96
# Rows, and vectors of each row, of the gradients of pre-activations that are taken at once, so that they stay in the
# second-level cache. The vectors between rows are odd in number, see `weight_gradients`.
_ROWS = 384
_VECTORS = 32


def weight_gradient_scratch(n_lanes: int) -> int:
    """Elements of the scratch of `weight_gradients`: block, panel, and the tile at a ragged edge."""
    width = PANEL_VECTORS * n_lanes
    return _ROWS * (_VECTORS + 1) * n_lanes + _ROWS * width + TILE_ROWS * width


@kernel
def _add_products(
    scratch, n_block, base, begin, end, padded, hidden_size, gates, slot_first, b, rows, first, b_pitch, gradient
):
    """Add the products of some columns of d_z with some rows of B to a gradient.

    scratch begins with a block of d_z, from its column `base` on; begin and end say which columns, padding among them,
    belong to this product. gradient (n_gates * hidden_size, depth).
    """
    n_lanes = lanes(scratch)
    step = PANEL_VECTORS * n_lanes
    depth = gradient.shape[1]
    flat = gradient.reshape(-1)
    pitch = (_VECTORS + 1) * n_lanes
    panel = _ROWS * pitch
    edge = panel + _ROWS * step
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
        # By way of scratch where the last columns are less than a vector.
        direct = whole == width
        c = flat if direct else scratch
        c_pitch = depth if direct else wide
        at = begin
        while at < end:
            slot = at // padded
            unit = at - slot * padded
            stop = min(end, slot * padded + hidden_size)
            target = (gates[slot - slot_first] * hidden_size + unit) * depth + column
            while at < stop:
                height = height_of_tile(stop - at)
                c0 = target if direct else edge
                if not direct:
                    for r in range(height):
                        for i in range(0, whole, n_lanes):
                            store(scratch, edge + r * wide + i, load(flat, target + r * depth + i))
                        last = load_partial(flat, target + r * depth + whole, width - whole)
                        store(scratch, edge + r * wide + whole, last)
                tile_transposed(
                    height,
                    vectors,
                    scratch,
                    at - base,
                    pitch,
                    scratch,
                    panel,
                    n_block,
                    c,
                    c0,
                    c_pitch,
                    c,
                    c0,
                    c_pitch,
                )
                if not direct:
                    for r in range(height):
                        for i in range(0, whole, n_lanes):
                            store(flat, target + r * depth + i, load(scratch, edge + r * wide + i))
                        last = load(scratch, edge + r * wide + whole)
                        store_partial(flat, target + r * depth + whole, width - whole, last)
                target += height * depth
                at += height
            at = (slot + 1) * padded


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

    Pre-activations begin to end are done, counted slot after slot without padding. x is row value_rows[r] of values, h
    row r of hidden: what the recurrent product of packed row r has read. A bias gets the sums over `_ROWS` rows each.
    """
    if begin >= end:
        return
    before = flush_subnormals()
    n_lanes = lanes(d_z)
    n_input = len(input_gates)
    hidden_first = slots // padded - len(hidden_gates)
    pitch = (_VECTORS + 1) * n_lanes
    sums = _ROWS * (pitch + PANEL_VECTORS * n_lanes)
    # The same columns with padding.
    column_begin = begin + begin // hidden_size * (padded - hidden_size)
    column_end = end + (end - 1) // hidden_size * (padded - hidden_size)
    for first in range(0, n_rows, _ROWS):
        n_block = min(_ROWS, n_rows - first)
        for base in range(column_begin - column_begin % n_lanes, column_end, _VECTORS * n_lanes):
            own, stop = max(base, column_begin), min(base + _VECTORS * n_lanes, column_end)
            # A copy, whose rows do not compete for places in the cache as rows do that lie a power of two apart.
            for row in range(n_block):
                source = (first + row) * slots + base
                for i in range(0, stop - base, n_lanes):
                    store(scratch, row * pitch + i, load(d_z, source + i))
            for column in range(0, stop - base, n_lanes):
                total = load(scratch, column)
                for row in range(1, n_block):
                    total = total + load(scratch, row * pitch + column)
                store(scratch, sums, total)
                for i in range(max(column, own - base), min(column + n_lanes, stop - base)):
                    slot = (base + i) // padded
                    unit = base + i - slot * padded
                    if unit < hidden_size:
                        if slot < n_input:
                            d_bias_ih[input_gates[slot] * hidden_size + unit] += scratch[sums + i - column]
                        if slot >= hidden_first:
                            gate = hidden_gates[slot - hidden_first]
                            d_bias_hh[gate * hidden_size + unit] += scratch[sums + i - column]
            _add_products(
                scratch,
                n_block,
                base,
                own,
                min(stop, n_input * padded),
                padded,
                hidden_size,
                input_gates,
                ZERO,
                values,
                value_rows,
                first,
                value_pitch,
                d_weight_ih,
            )
            _add_products(
                scratch,
                n_block,
                base,
                max(own, hidden_first * padded),
                stop,
                padded,
                hidden_size,
                hidden_gates,
                hidden_first,
                hidden,
                identity,
                first,
                hidden_pitch,
                d_weight_hh,
            )
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
