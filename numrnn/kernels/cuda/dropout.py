"""Dropout on the device: the masks are those of the CPU, see `numrnn.kernels.random`."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from numba import cuda

from numrnn.kernels.cuda.grids import kernel, matrix_grid
from numrnn.kernels.random import draw, row_key

__all__ = ["dropout"]


@kernel
def _dropout(source, target, first, n_rows, n_columns, numbers, seed, stream, threshold, scale):
    zero = target.dtype.type(0)
    begin = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for row in range(first + begin, first + n_rows, cuda.gridDim.x * cuda.blockDim.y):
        key = row_key(seed, stream, numbers[row] if numbers.size > 0 else row)
        for column in range(cuda.threadIdx.x, n_columns, cuda.blockDim.x):
            at = row * n_columns + column
            target[at] = source[at] * scale if draw(key, column) >= threshold else zero


def dropout(queue, source, target, n_rows, n_columns, numbers, seed, stream, threshold, scale, first=0):
    """Zero an element with probability threshold / 2**32 and multiply the others by scale.

    source, target: one-dimensional; they may be one array. numbers: int64 (n_rows,), the row of the mask for every row
    of the matrix, or of length 0 if they are the same. seed, stream and threshold are uint32, scale is of the type of
    the values. Rows `first` to ``first + n_rows`` of source, target and numbers are those that count.
    """
    if n_rows:
        _dropout[*matrix_grid(n_rows), queue](
            source, target, first, n_rows, n_columns, numbers, seed, stream, threshold, scale
        )


def examples():
    """Kernels with the types of their arguments: what a check without a device compiles."""
    for f in ("f4", "f8"):
        v = f"{f}[::1]"
        yield f"dropout {f}", _dropout, (v, v, "i8", "i8", "i8", "i8[::1]", "u4", "u4", "u4", f)
