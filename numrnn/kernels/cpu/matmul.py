"""Matrix products: one register tile, walked over the rows and columns of a result.

Matrices are one-dimensional arrays with a first element and a pitch (elements from one row to the next). The rows of
the left factor come through a table of row numbers, so that batches in any order and any layout are multiplied where
they lie. Every element of a result is one chain of fused multiply-adds in the order of the summation index: it does not
depend on the rows beside it, on the height of its tile, or on how a product is divided among threads.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np

from numrnn.kernels.jit import ZERO, inline, kernel, paste
from numrnn.kernels.simd import (
    FEW_ROWS,
    PANEL_VECTORS,
    TILE_ROWS,
    constant,
    lanes,
    load,
    load_partial,
    store,
    tile,
    tile_few,
    tile_of_two,
    transpose,
    zeros_like,
)

__all__ = [
    "SUM_COLUMNS",
    "SUM_PITCH",
    "SUM_ROWS",
    "add_rows",
    "height_of_tile",
    "multiply",
    "multiply_few",
    "multiply_kernel",
    "multiply_transposed",
    "multiply_two",
    "multiply_where_it_lies",
    "pack_columns",
    "pack_layer",
    "pack_rows",
    "transpose_into",
]

# Rows of the left factor that are taken at once, so that they stay in the caches.
BLOCK_ROWS = 192
# The same for sums over rows: rows, and columns of the left factor, of one block.
SUM_ROWS = 384
SUM_COLUMNS = 192
# The pitch of the transposed block: not a power of two, so that its rows do not compete for places in the cache.
SUM_PITCH: int = np.int64(SUM_ROWS + 16)  # type: ignore[assignment]


@inline
def height_of_tile(left):
    """Rows of the next tile, balanced: 8 rows are 4 + 4, not 6 + 2."""
    tiles = (left + TILE_ROWS - 1) // TILE_ROWS
    return (left + tiles - 1) // tiles


@kernel
def _multiply_few(
    a,
    a0,
    rows,
    row0,
    n_rows,
    pitch,
    b,
    b0,
    panel_pitch,
    b_pitch,
    depth,
    columns,
    start,
    start0,
    start_pitch,
    c,
    c0,
    c_pitch,
    backwards,
):
    """As `multiply`, for at most FEW_ROWS rows.

    B's panels begin panel_pitch apart, and its rows b_pitch apart, or, where that is 0, as close as they can. The
    latency of the multiply-adds is hidden by computing two panels at once. Panels are taken from the last one on if
    backwards.
    """
    n_lanes = lanes(c)
    step = PANEL_VECTORS * n_lanes
    pairs = columns // (2 * step)
    n_tiles = pairs + (columns - 2 * pairs * step + step - 1) // step if n_rows > 0 else 0
    for number in range(n_tiles):
        place = n_tiles - 1 - number if backwards else number
        column = (place + min(place, pairs)) * step
        width = min(step, columns - column)
        source = b0 + column // step * panel_pitch
        row_pitch = b_pitch if b_pitch > 0 else width
        if place < pairs:
            width = 2 * step
        tile_few(
            n_rows,
            width // n_lanes,
            a,
            a0,
            rows,
            row0,
            pitch,
            b,
            source,
            source + panel_pitch,
            row_pitch,
            depth,
            start,
            start0 + column,
            start_pitch,
            c,
            c0 + column,
            c_pitch,
        )


@kernel
def multiply_kernel(
    a, a0, rows, row0, n_rows, pitch, panels, panels0, depth, columns, start, start0, start_pitch, c, c0, c_pitch
):
    """C[i] = start[i] + A[rows[i]] @ B for `n_rows` rows.

    `rows[row0:row0 + n_rows]` numbers the rows of A; `panels` holds from `panels0` on B (depth, columns) as
    `pack_columns` or `pack_rows` write it; `columns` is a multiple of the vector's lanes. A start pitch of 0 adds one
    vector to every row; start may be C itself.
    """
    n_lanes = lanes(c)
    step = PANEL_VECTORS * n_lanes
    if n_rows <= FEW_ROWS:
        _multiply_few(
            a,
            a0,
            rows,
            row0,
            n_rows,
            pitch,
            panels,
            panels0,
            step * depth,
            ZERO,
            depth,
            columns,
            start,
            start0,
            start_pitch,
            c,
            c0,
            c_pitch,
            False,
        )
        return
    for first in range(0, n_rows, BLOCK_ROWS):
        last = min(n_rows, first + BLOCK_ROWS)
        for column in range(0, columns, step):
            width = min(step, columns - column)
            row = first
            while row < last:
                height = height_of_tile(last - row)
                tile(
                    height,
                    width // n_lanes,
                    a,
                    a0,
                    rows,
                    row0 + row,
                    pitch,
                    panels,
                    panels0 + column * depth,
                    depth,
                    start,
                    start0 + row * start_pitch + column,
                    start_pitch,
                    c,
                    c0 + row * c_pitch + column,
                    c_pitch,
                )
                row += height


@paste
def multiply(
    a, a0, rows, row0, n_rows, pitch, panels, panels0, depth, columns, start, start0, start_pitch, c, c0, c_pitch
):
    """`multiply_kernel`, for compiled code.

    Numba would compile the loops anew for every argument that a caller writes as a number, and for every array that
    may be written but is only read: so all of them call the same ones.
    """
    multiply_kernel(
        constant(a),
        np.int64(a0),
        rows,
        np.int64(row0),
        np.int64(n_rows),
        np.int64(pitch),
        panels,
        np.int64(panels0),
        np.int64(depth),
        np.int64(columns),
        start,
        np.int64(start0),
        np.int64(start_pitch),
        c,
        np.int64(c0),
        np.int64(c_pitch),
    )


@paste
def multiply_few(
    a,
    a0,
    rows,
    row0,
    n_rows,
    pitch,
    panels,
    panels0,
    depth,
    columns,
    start,
    start0,
    start_pitch,
    c,
    c0,
    c_pitch,
    backwards,
):
    """`multiply` for at most FEW_ROWS rows, where the same panels are wanted again and again, each time the other way.

    What was read last is then read first, from the nearest cache: of panels that are twice as large as it, half.
    """
    _multiply_few(
        constant(a),
        np.int64(a0),
        rows,
        np.int64(row0),
        np.int64(n_rows),
        np.int64(pitch),
        panels,
        np.int64(panels0),
        np.int64(PANEL_VECTORS * lanes(c) * depth),
        ZERO,
        np.int64(depth),
        np.int64(columns),
        start,
        np.int64(start0),
        np.int64(start_pitch),
        c,
        np.int64(c0),
        np.int64(c_pitch),
        backwards,
    )


@kernel
def _multiply_two(
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
    n_rows,
    panels,
    panels0,
    panels1,
    columns,
    start,
    start0,
    c,
    c0,
    c_pitch,
):
    n_lanes = lanes(c)
    step = PANEL_VECTORS * n_lanes
    for first in range(0, n_rows, BLOCK_ROWS):
        last = min(n_rows, first + BLOCK_ROWS)
        for column in range(0, columns, step):
            width = min(step, columns - column)
            row = first
            while row < last:
                height = height_of_tile(last - row)
                tile_of_two(
                    height,
                    width // n_lanes,
                    a,
                    a0,
                    a_rows,
                    a_row0 + row,
                    a_pitch,
                    a_depth,
                    d,
                    d0,
                    d_rows,
                    d_row0 + row,
                    d_pitch,
                    d_depth,
                    panels,
                    panels0 + column * a_depth,
                    panels1 + column * d_depth,
                    start,
                    start0 + column,
                    ZERO,
                    c,
                    c0 + row * c_pitch + column,
                    c_pitch,
                )
                row += height


@paste
def multiply_two(
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
    n_rows,
    panels,
    panels0,
    panels1,
    columns,
    start,
    start0,
    c,
    c0,
    c_pitch,
):
    """C[i] = start + A[a_rows[i]] @ B + D[d_rows[i]] @ E: two products, whose sums stay in registers between them.

    Arguments as of `multiply`; B is packed from panels0 on, E from panels1 on. To the bit what one product after the
    other makes.
    """
    _multiply_two(
        constant(a),
        np.int64(a0),
        a_rows,
        np.int64(a_row0),
        np.int64(a_pitch),
        np.int64(a_depth),
        constant(d),
        np.int64(d0),
        d_rows,
        np.int64(d_row0),
        np.int64(d_pitch),
        np.int64(d_depth),
        np.int64(n_rows),
        panels,
        np.int64(panels0),
        np.int64(panels1),
        np.int64(columns),
        start,
        np.int64(start0),
        c,
        np.int64(c0),
        np.int64(c_pitch),
    )


@kernel
def multiply_where_it_lies(
    a, a0, rows, n_rows, pitch, gates, padded, hidden_size, weight, column_begin, columns, c, c0, c_pitch
):
    """C += A @ some columns of weight (n_gates * hidden_size, n_columns), which was not packed for it.

    For at most FEW_ROWS rows, when packing would be most of the work. Column slot * padded + unit of A belongs to row
    gates[slot] * hidden_size + unit of the weight. The columns, a multiple of the vector's lanes, must be there.
    """
    n_columns = weight.shape[1]
    flat = weight.reshape(-1)
    for slot in range(len(gates)):
        _multiply_few(
            a,
            a0 + slot * padded,
            rows,
            ZERO,
            n_rows,
            pitch,
            flat,
            gates[slot] * hidden_size * n_columns + column_begin,
            PANEL_VECTORS * lanes(c),
            n_columns,
            hidden_size,
            columns,
            c,
            c0,
            c_pitch,
            c,
            c0,
            c_pitch,
            False,
        )


@kernel
def add_rows(source, source_pitch, source_rows, n_rows, n_columns, target, target_rows, target_pitch):
    """Add row source_rows[r] of one matrix to row target_rows[r] of another, for r < n_rows, n_columns of them."""
    for row in range(n_rows):
        source0 = source_rows[row] * source_pitch
        target0 = target_rows[row] * target_pitch
        for column in range(n_columns):
            target[target0 + column] += source[source0 + column]


@inline
def transpose_into(a, a0, rows, row0, n_rows, pitch, depth, target, target0, target_pitch):
    """target[target0 + k * target_pitch + r] = a[a0 + rows[row0 + r] * pitch + k] for r < n_rows, k < depth."""
    n_lanes = lanes(target)
    for row in range(0, n_rows, n_lanes):
        for k in range(0, depth, n_lanes):
            corner = target0 + k * target_pitch + row
            if row + n_lanes <= n_rows and k + n_lanes <= depth:
                transpose(a, a0 + k, rows, row0 + row, pitch, target, corner, target_pitch)
            else:
                for r in range(min(n_lanes, n_rows - row)):
                    source = a0 + rows[row0 + row + r] * pitch + k
                    for i in range(min(n_lanes, depth - k)):
                        target[corner + i * target_pitch + r] = a[source + i]


@kernel
def multiply_transposed(
    a, a0, rows, n_rows, pitch, k_begin, k_end, identity, b, b0, b_pitch, columns, panel, block, c, column_sums
):
    """C[k, j] = sum over r of A[rows[r], k] B[r, j] for k_begin <= k < k_end, and all columns j of C.

    If k_begin is 0 also column_sums[j] = sum over r of B[r, j], which costs nothing beside the product. The columns are
    a multiple of the vector's lanes. panel (PANEL_VECTORS vectors times SUM_ROWS) and block (SUM_PITCH * SUM_COLUMNS)
    are scratch.
    """
    n_lanes = lanes(c)
    step = PANEL_VECTORS * n_lanes
    for column in range(0, columns, n_lanes):
        zero = zeros_like(load(c, column))
        if k_begin == 0:
            store(column_sums, column, zero)
        for k in range(k_begin, k_end):
            store(c, k * columns + column, zero)
    for first in range(0, n_rows, SUM_ROWS):
        n_block = min(SUM_ROWS, n_rows - first)
        for k_first in range(k_begin, k_end, SUM_COLUMNS):
            n_k = min(k_end - k_first, SUM_COLUMNS)
            transpose_into(a, a0 + k_first, rows, first, n_block, pitch, n_k, block, ZERO, SUM_PITCH)
            for column in range(0, columns, step):
                width = min(step, columns - column)
                # B's part, made contiguous: its rows may lie a power of two apart, where they would compete for few
                # places in the cache.
                for row in range(n_block):
                    source = b0 + (first + row) * b_pitch + column
                    for i in range(0, width, n_lanes):
                        store(panel, row * width + i, load(b, source + i))
                if k_first == 0:
                    for i in range(0, width, n_lanes):
                        total = load(column_sums, column + i)
                        for row in range(n_block):
                            total = total + load(panel, row * width + i)
                        store(column_sums, column + i, total)
                k = 0
                while k < n_k:
                    height = height_of_tile(n_k - k)
                    target = (k_first + k) * columns + column
                    tile(
                        height,
                        width // n_lanes,
                        block,
                        0,
                        identity,
                        k,
                        SUM_PITCH,
                        panel,
                        0,
                        n_block,
                        c,
                        target,
                        columns,
                        c,
                        target,
                        columns,
                    )
                    k += height


@kernel
def pack_columns(weight, gates, hidden_size, unit_begin, units, identity, panels):
    """Write some units of weight (n_gates * hidden_size, depth) so that `multiply` computes a @ weight.T.

    Column slot * units + unit of the packed matrix is row gates[slot] * hidden_size + unit_begin + unit of the weight.
    What lies beyond hidden_size is padding and is not written: it must be zero already.
    """
    depth = weight.shape[1]
    flat = weight.reshape(-1)
    n_lanes = lanes(panels)
    step = PANEL_VECTORS * n_lanes
    columns = len(gates) * units
    for slot in range(len(gates)):
        for unit in range(0, min(units, hidden_size - unit_begin), n_lanes):
            column = slot * units + unit
            inside = column % step
            first = column - inside
            width = min(step, columns - first)
            row = gates[slot] * hidden_size + unit_begin + unit
            n_units = min(n_lanes, hidden_size - unit_begin - unit)
            transpose_into(
                flat, row * depth, identity, ZERO, n_units, depth, depth, panels, first * depth + inside, width
            )


@kernel
def pack_layer(
    weight_ih,
    weight_hh,
    bias_ih,
    bias_hh,
    input_gates,
    hidden_gates,
    n_slots,
    hidden_size,
    unit_begin,
    units,
    identity,
    packed,
):
    """Write all that the forward kernels want of some units: weight_ih, weight_hh, and the biases by slot.

    Where a slot has both biases, they are summed. Padding is not written, as in `pack_columns`.
    """
    hidden = len(input_gates) * units * weight_ih.shape[1]
    bias = hidden + len(hidden_gates) * units * weight_hh.shape[1]
    pack_columns(weight_ih, input_gates, hidden_size, unit_begin, units, identity, packed[:hidden])
    pack_columns(weight_hh, hidden_gates, hidden_size, unit_begin, units, identity, packed[hidden:bias])
    hidden_first = n_slots - len(hidden_gates)
    for slot in range(n_slots):
        for i in range(min(units, hidden_size - unit_begin)):
            total = packed.dtype.type(0)
            if slot < len(input_gates):
                total += bias_ih[input_gates[slot] * hidden_size + unit_begin + i]
            if slot >= hidden_first:
                total += bias_hh[hidden_gates[slot - hidden_first] * hidden_size + unit_begin + i]
            packed[bias + slot * units + i] = total


@kernel
def pack_rows(weight, gates, hidden_size, padded_size, column_begin, columns, panels):
    """Write some columns of weight (n_gates * hidden_size, n_columns) so that `multiply` computes a @ weight.

    Row slot * padded_size + unit of the packed matrix is row gates[slot] * hidden_size + unit of the weight; its
    columns begin at column_begin. Padding is not written: it must be zero already.
    """
    depth = len(gates) * padded_size
    flat = weight.reshape(-1)
    n_lanes = lanes(panels)
    step = PANEL_VECTORS * n_lanes
    pitch = weight.shape[1]
    n_columns = min(columns, pitch - column_begin)
    for first in range(0, n_columns, step):
        width = min(step, columns - first)
        stop = min(n_columns - first, width)
        whole = stop - stop % n_lanes
        for slot in range(len(gates)):
            target = first * depth + slot * padded_size * width
            source = gates[slot] * hidden_size * pitch + column_begin + first
            for unit in range(hidden_size):
                for i in range(0, whole, n_lanes):
                    store(panels, target + unit * width + i, load(flat, source + unit * pitch + i))
                if whole < stop:
                    last = load_partial(flat, source + unit * pitch + whole, stop - whole)
                    store(panels, target + unit * width + whole, last)
