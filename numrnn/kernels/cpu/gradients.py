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
    numbers_in,
    store,
    store_partial,
    store_rows,
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


def weight_gradient_scratch(n_lanes: int) -> tuple[int, int]:
    """Numbers in `factors` of `weight_gradients`, block and panel, and in its scratch."""
    width = PANEL_VECTORS * n_lanes
    return _ROWS * (_VECTORS + 1) * n_lanes + _ROWS * width, max(TILE_ROWS * width, _VECTORS * n_lanes)


@kernel
def _add_products(
    factors,
    n_block,
    base,
    begin,
    end,
    padded,
    hidden_size,
    gates,
    slot_first,
    b,
    rows,
    first,
    b_pitch,
    gradient,
    scratch,
):
    """Add the products of some columns of d_z with some rows of B to a gradient.

    factors begins with a block of d_z, from its column `base` on; begin and end say which columns, padding among them,
    belong to this product. gradient (n_gates * hidden_size, depth).
    """
    per_element = numbers_in(factors)
    n_lanes = lanes(scratch)
    step = PANEL_VECTORS * n_lanes
    depth = gradient.shape[1]
    flat = gradient.reshape(-1)
    pitch = (_VECTORS + 1) * n_lanes
    panel = _ROWS // per_element * pitch
    for column in range(0, depth, step):
        width = min(step, depth - column)
        whole = width // n_lanes * n_lanes
        vectors = (width + n_lanes - 1) // n_lanes
        wide = vectors * n_lanes
        for row in range(0, n_block, per_element):
            source = rows[first + row] * b_pitch + column
            target = panel + row // per_element * wide
            # What goes with it into a pair, if anything does.
            partner = row + per_element - 1
            other = rows[first + min(partner, n_block - 1)] * b_pitch + column
            for i in range(0, whole, n_lanes):
                value = load(b, source + i)
                store_rows(factors, target + i, value, load(b, other + i) if partner < n_block else zeros_like(value))
            if whole < width:
                value = load_partial(b, source + whole, width - whole)
                second = load_partial(b, other + whole, width - whole) if partner < n_block else zeros_like(value)
                store_rows(factors, target + whole, value, second)
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
                c0 = target if direct else 0
                if not direct:
                    for r in range(height):
                        for i in range(0, whole, n_lanes):
                            store(scratch, r * wide + i, load(flat, target + r * depth + i))
                        last = load_partial(flat, target + r * depth + whole, width - whole)
                        store(scratch, r * wide + whole, last)
                tile_transposed(
                    height,
                    vectors,
                    factors,
                    at - base,
                    pitch,
                    factors,
                    panel,
                    (n_block + per_element - 1) // per_element,
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
                            store(flat, target + r * depth + i, load(scratch, r * wide + i))
                        last = load(scratch, r * wide + whole)
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
    factors,
    scratch,
):
    """Add d_z.T @ x to the gradient of weight_ih, d_z.T @ h to that of weight_hh, sums over d_z to those of the biases.

    Pre-activations begin to end are done, counted slot after slot without padding. x is row value_rows[r] of values, h
    row r of hidden: what the recurrent product of packed row r has read. A bias gets the sums over `_ROWS` rows each.

    factors, scratch too, is of numbers, or of pairs: then the factors are rounded to bfloat16.
    """
    if begin >= end:
        return
    before = flush_subnormals()
    n_lanes = lanes(d_z)
    n_input = len(input_gates)
    hidden_first = slots // padded - len(hidden_gates)
    per_element = numbers_in(factors)
    pitch = (_VECTORS + 1) * n_lanes
    # The same columns with padding.
    column_begin = begin + begin // hidden_size * (padded - hidden_size)
    column_end = end + (end - 1) // hidden_size * (padded - hidden_size)
    for first in range(0, n_rows, _ROWS):
        n_block = min(_ROWS, n_rows - first)
        for base in range(column_begin - column_begin % n_lanes, column_end, _VECTORS * n_lanes):
            own, stop = max(base, column_begin), min(base + _VECTORS * n_lanes, column_end)
            # A copy, whose rows do not compete for places in the cache as rows do that lie a power of two apart.
            for i in range(0, stop - base, n_lanes):
                store(scratch, i, zeros_like(load(scratch, i)))
            for row in range(0, n_block, per_element):
                source = (first + row) * slots + base
                target = row // per_element * pitch
                is_pair = per_element > 1 and row + 1 < n_block
                for i in range(0, stop - base, n_lanes):
                    value = load(d_z, source + i)
                    total = load(scratch, i) + value
                    second = zeros_like(value)
                    if is_pair:
                        second = load(d_z, source + slots + i)
                        total = total + second
                    store_rows(factors, target + i, value, second)
                    store(scratch, i, total)
            for column in range(0, stop - base, n_lanes):
                for i in range(max(column, own - base), min(column + n_lanes, stop - base)):
                    slot = (base + i) // padded
                    unit = base + i - slot * padded
                    if unit < hidden_size:
                        if slot < n_input:
                            d_bias_ih[input_gates[slot] * hidden_size + unit] += scratch[i]
                        if slot >= hidden_first:
                            gate = hidden_gates[slot - hidden_first]
                            d_bias_hh[gate * hidden_size + unit] += scratch[i]
            _add_products(
                factors,
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
                scratch,
            )
            _add_products(
                factors,
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
                scratch,
            )
    restore_subnormals(before)


@kernel
def input_gradient(
    d_z,
    factors,
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

    panels is weight_ih as `pack_rows` writes it, or empty: see `multiply_where_it_lies`. factors is d_z, or d_z in
    pairs if panels are. d_input is one-dimensional; of each of its rows, d_pitch apart, as many elements are written as
    weight_ih has columns. scratch is for INPUT_ROWS rows of a whole number of vectors.
    """
    before = flush_subnormals()
    n_lanes = lanes(scratch)
    per_element = numbers_in(factors)
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
                constant(factors),
                first * slots // per_element,
                identity,
                ZERO,
                n_rows,
                slots // per_element,
                panels,
                ZERO,
                len(gates) * padded // per_element,
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
