"""Matrix products: one register tile, walked over the rows and columns of a result.

Matrices are one-dimensional arrays with a first element and a pitch (elements from one row to the next). The rows of the
left factor come through a table of row numbers, so that batches in any order and any layout are multiplied where they
lie. Every element of a result is one chain of fused multiply-adds in the order of the summation index: it does not depend
on the rows beside it, on the height of its tile, or on how a product is divided among threads.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from numrnn.kernels.jit import inline, kernel
from numrnn.kernels.simd import PANEL_VECTORS, TILE_ROWS, lanes, tile, tile_transposed

__all__ = ["multiply", "multiply_transposed", "pack_columns", "pack_rows", "unpack_columns"]

# Rows of the left factor that are taken at once, so that they stay in the caches.
BLOCK_ROWS = 192


@inline
def _height(left):
    """Rows of the next tile, balanced: 8 rows are 4 + 4, not 6 + 2."""
    tiles = (left + TILE_ROWS - 1) // TILE_ROWS
    return (left + tiles - 1) // tiles


@kernel
def multiply(
    a, a0, rows, row0, n_rows, pitch, panels, depth, columns, start, start0, start_pitch, c, c0, c_pitch
):
    """C[i] = start[i] + A[rows[i]] @ B for `n_rows` rows.

    `rows[row0:row0 + n_rows]` numbers the rows of A; `panels` holds B (depth, columns) as `pack_columns` or `pack_rows`
    write it; `columns` is a multiple of the vector's lanes. A start pitch of 0 adds one vector to every row; start may be
    C itself.
    """
    n_lanes = lanes(c)
    step = PANEL_VECTORS * n_lanes
    for first in range(0, n_rows, BLOCK_ROWS):
        last = min(n_rows, first + BLOCK_ROWS)
        for column in range(0, columns, step):
            width = min(step, columns - column)
            row = first
            while row < last:
                height = _height(last - row)
                tile(
                    height,
                    width // n_lanes,
                    a,
                    a0,
                    rows,
                    row0 + row,
                    pitch,
                    panels,
                    column * depth,
                    width,
                    depth,
                    start,
                    start0 + row * start_pitch + column,
                    start_pitch,
                    c,
                    c0 + row * c_pitch + column,
                    c_pitch,
                )
                row += height


@kernel
def multiply_transposed(
    a, a0, rows, n_rows, pitch, k_begin, k_end, b, b0, b_pitch, column_begin, column_end, c, c_pitch
):
    """C[k, j] += sum over r of A[rows[r], k] B[r, j] for k_begin <= k < k_end, column_begin <= j < column_end.

    The columns are multiples of the vector's lanes.
    """
    n_lanes = lanes(c)
    step = PANEL_VECTORS * n_lanes
    for first in range(0, n_rows, BLOCK_ROWS):
        depth = min(BLOCK_ROWS, n_rows - first)
        for column in range(column_begin, column_end, step):
            width = min(step, column_end - column)
            k = k_begin
            while k < k_end:
                height = _height(k_end - k)
                target = k * c_pitch + column
                tile_transposed(
                    height,
                    width // n_lanes,
                    a,
                    a0 + k,
                    rows,
                    first,
                    pitch,
                    b,
                    b0 + first * b_pitch + column,
                    b_pitch,
                    depth,
                    c,
                    target,
                    c_pitch,
                    c,
                    target,
                    c_pitch,
                )
                k += height


@kernel
def pack_columns(weight, gates, hidden_size, padded_size, panels):
    """Write weight (n_gates * hidden_size, depth) so that `multiply` computes a @ weight.T.

    Column slot * padded_size + unit of the packed matrix is row gates[slot] * hidden_size + unit of the weight. Padding is
    not written: it must be zero already.
    """
    depth = weight.shape[1]
    step = PANEL_VECTORS * lanes(panels)
    columns = len(gates) * padded_size
    for slot in range(len(gates)):
        for unit in range(hidden_size):
            column = slot * padded_size + unit
            inside = column % step
            first = column - inside
            width = min(step, columns - first)
            row = gates[slot] * hidden_size + unit
            for k in range(depth):
                panels[first * depth + k * width + inside] = weight[row, k]


@kernel
def pack_rows(weight, gates, hidden_size, padded_size, padded_columns, panels):
    """Write weight (n_gates * hidden_size, columns) so that `multiply` computes a @ weight.

    Row slot * padded_size + unit of the packed matrix is row gates[slot] * hidden_size + unit of the weight. Padding is
    not written: it must be zero already.
    """
    depth = len(gates) * padded_size
    step = PANEL_VECTORS * lanes(panels)
    n_columns = weight.shape[1]
    for first in range(0, n_columns, step):
        width = min(step, padded_columns - first)
        stop = min(n_columns - first, width)
        for slot in range(len(gates)):
            for unit in range(hidden_size):
                target = first * depth + (slot * padded_size + unit) * width
                row = gates[slot] * hidden_size + unit
                for i in range(stop):
                    panels[target + i] = weight[row, first + i]


@kernel
def unpack_columns(product, pitch, gates, hidden_size, padded_size, weight):
    """Add a product (depth, columns), columns as in `pack_columns`, to weight (n_gates * hidden_size, depth)."""
    depth = weight.shape[1]
    for slot in range(len(gates)):
        for unit in range(hidden_size):
            column = slot * padded_size + unit
            row = gates[slot] * hidden_size + unit
            for k in range(depth):
                weight[row, k] += product[k * pitch + column]
