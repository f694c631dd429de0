"""Matrices of float32 as matrices of pairs of bfloat16: see `simd`.

Rows are written in whole vectors, in order: what is written beyond the end of one is the beginning of the next, and
after the last one there must be room for a vector.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from numrnn.kernels.jit import kernel
from numrnn.kernels.simd import lanes, load, load_partial, store_factor, store_rows, zeros_like

__all__ = ["pair_columns", "pair_rows"]


@kernel
def pair_columns(matrix, pairs):
    """pairs[r, c] = matrix[r, 2c] and [r, 2c + 1], where the latter is there, else zero."""
    n_rows, n_columns = matrix.shape
    flat = matrix.reshape(-1)
    n_lanes = lanes(flat)
    pitch = n_columns + n_columns % 2
    whole = n_columns // n_lanes * n_lanes
    for row in range(n_rows):
        source, target = row * n_columns, row * pitch
        for i in range(0, whole, n_lanes):
            store_factor(pairs, target + i, load(flat, source + i))
        if whole < n_columns:
            store_factor(pairs, target + whole, load_partial(flat, source + whole, n_columns - whole))


@kernel
def pair_rows(matrix, size, pairs):
    """Of every `size` rows of a matrix the first and the second one, the third and the fourth one, ...

    pairs[b, r, c] = matrix[b * size + 2r, c] and [b * size + 2r + 1, c], or zero where that row is of the next block.
    """
    n_rows, n_columns = matrix.shape
    flat = matrix.reshape(-1)
    n_lanes = lanes(flat)
    target = 0
    for block in range(0, n_rows, size):
        for row in range(0, size, 2):
            source = (block + row) * n_columns
            for i in range(0, n_columns, n_lanes):
                n_left = min(n_lanes, n_columns - i)
                first = load_partial(flat, source + i, n_left)
                second = zeros_like(first)
                if row + 1 < size:
                    second = load_partial(flat, source + n_columns + i, n_left)
                store_rows(pairs, target + i, first, second)
            target += n_columns
