"""Tables of vectors on the device: rows chosen by the numbers in columns of the input, and the adjoint.

Matrices are one-dimensional arrays of rows with a pitch. `rows`, int64 (n_rows,), says which row of the data belongs to
each row of a batch.

Many rows of a batch may choose one row of a table, and a sum of floating-point numbers depends on their order. The
gradient of a table is therefore summed in whole numbers of 64 bits, whose sums do not: every summand is multiplied by a
power of two, as large as the largest summand and their number allow. What that rounds away is 2**-60 of the largest
summand, times their number.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np
from numba import cuda

from numrnn.kernels.cuda.grids import THREADS, device_function, kernel, matrix_grid, vector_grid

__all__ = ["MAGNITUDE_BLOCKS", "add_table_gradient", "copy_columns", "look_up"]

# Blocks that look for the largest summand, each on its own.
MAGNITUDE_BLOCKS = 64
# A sum of summands of so many bits, and a sign, fits a whole number of 64 bits.
_BITS = 61
# Powers of two that float64 holds as well as their inverses.
_LARGEST_POWER = 1000


@kernel
def _look_up(values, rows, n_rows, n_features, column, table, begins, dimension, target, pitch, first, numbers):
    begin = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for row in range(begin, n_rows, cuda.gridDim.x * cuda.blockDim.y):
        number = np.int64(values[rows[row] * n_features + column])
        if cuda.threadIdx.x == 0:
            numbers[row] = number
        for i in range(cuda.threadIdx.x, dimension, cuda.blockDim.x):
            target[row * pitch + first + i] = table[begins + number * dimension + i]


def look_up(queue, values, rows, n_rows, n_features, column, table, begins, dimension, target, pitch, first, numbers):
    """Write the row of the table at `begins` that column `column` of the data numbers to `target`, from `first` on.

    The numbers have been checked. numbers: int64 (n_rows,), receives them.
    """
    if n_rows:
        _look_up[*matrix_grid(n_rows), queue](
            values, rows, n_rows, n_features, column, table, begins, dimension, target, pitch, first, numbers
        )


@kernel
def _copy_columns(values, rows, n_rows, n_features, columns, n_columns, target, pitch, first):
    begin = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for row in range(begin, n_rows, cuda.gridDim.x * cuda.blockDim.y):
        for i in range(cuda.threadIdx.x, n_columns, cuda.blockDim.x):
            target[row * pitch + first + i] = values[rows[row] * n_features + columns[i]]


def copy_columns(queue, values, rows, n_rows, n_features, columns, n_columns, target, pitch, first):
    """Write the columns of the data that `columns`, int64 (n_columns,), names to `target`, from column `first` on."""
    if n_rows and n_columns:
        _copy_columns[*matrix_grid(n_rows), queue](
            values, rows, n_rows, n_features, columns, n_columns, target, pitch, first
        )


@device_function
def _larger(best, value):
    """The larger one of two numbers; NaN is larger than all."""
    if best != best or value <= best:
        return best
    return value


@kernel
def _magnitudes(summands, n_rows, pitch, first, dimension, largest):
    scratch = cuda.shared.array(THREADS, summands.dtype)
    best = summands.dtype.type(0)
    begin = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for row in range(begin, n_rows, cuda.gridDim.x * cuda.blockDim.y):
        for i in range(cuda.threadIdx.x, dimension, cuda.blockDim.x):
            best = _larger(best, abs(summands[row * pitch + first + i]))
    me = cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    scratch[me] = best
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if me < half:
            scratch[me] = _larger(scratch[me], scratch[me + half])
        cuda.syncthreads()
        half //= 2
    if me == 0:
        largest[cuda.blockIdx.x] = scratch[0]


@device_function
def _power_of_scale(largest, n_blocks, bits):
    """The power of two that multiplies summands; below any other if they are all zero, or one of them is no number."""
    best = largest[0]
    for block in range(1, n_blocks):
        best = _larger(best, largest[block])
    if best == 0 or not math.isfinite(best):
        return -2 * _LARGEST_POWER
    _, exponent = math.frexp(best)
    return min(_BITS - bits - exponent, _LARGEST_POWER)


@kernel
def _scatter(numbers, n_rows, summands, pitch, first, dimension, largest, n_blocks, bits, sums):
    power = _power_of_scale(largest, n_blocks, bits)
    if power < -_LARGEST_POWER - _LARGEST_POWER // 2:
        return
    scale = math.ldexp(1.0, power)
    begin = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for row in range(begin, n_rows, cuda.gridDim.x * cuda.blockDim.y):
        for i in range(cuda.threadIdx.x, dimension, cuda.blockDim.x):
            summand = np.float64(summands[row * pitch + first + i])
            cuda.atomic.add(sums, numbers[row] * dimension + i, np.int64(summand * scale))


@kernel
def _finish(largest, n_blocks, bits, sums, size, gradient, offset):
    power = _power_of_scale(largest, n_blocks, bits)
    if power < -_LARGEST_POWER - _LARGEST_POWER // 2:
        # Nothing was added, since all summands are zero, or since one of them is no number: then the sum is none.
        if cuda.grid(1) == 0:
            for block in range(n_blocks):
                gradient[offset] += largest[block]
        return
    inverse = math.ldexp(1.0, -power)
    for i in range(cuda.grid(1), size, cuda.gridsize(1)):
        if sums[i] != 0:
            gradient[offset + i] += gradient.dtype.type(np.float64(sums[i]) * inverse)
            sums[i] = 0


def add_table_gradient(
    queue, numbers, n_rows, summands, pitch, first, n_entries, dimension, largest, sums, gradient, offset
):
    """Add columns of `summands`, from `first` on, to the rows of a table's gradient that `numbers` gives.

    largest: float (MAGNITUDE_BLOCKS,), scratch. sums: int64 (n_entries * dimension,), zero, and left so. gradient: the
    flat vector, in which the table begins at `offset`; added to. A summand that is not finite makes the gradient's norm
    not finite.
    """
    if not n_rows:
        return
    bits = int(n_rows - 1).bit_length()
    grid = matrix_grid(n_rows)
    _magnitudes[*matrix_grid(n_rows, MAGNITUDE_BLOCKS), queue](summands, n_rows, pitch, first, dimension, largest)
    n_blocks = matrix_grid(n_rows, MAGNITUDE_BLOCKS)[0]
    _scatter[*grid, queue](numbers, n_rows, summands, pitch, first, dimension, largest, n_blocks, bits, sums)
    size = n_entries * dimension
    _finish[*vector_grid(size), queue](largest, n_blocks, bits, sums, size, gradient, offset)


def examples():
    """Kernels with the types of their arguments: what a check without a device compiles."""
    for f in ("f4", "f8"):
        v = f"{f}[::1]"
        yield f"look up {f}", _look_up, (v, "i8[::1]", "i8", "i8", "i8", v, "i8", "i8", v, "i8", "i8", "i8[::1]")
        yield f"copy columns {f}", _copy_columns, (v, "i8[::1]", "i8", "i8", "i8[::1]", "i8", v, "i8", "i8")
        yield f"magnitudes {f}", _magnitudes, (v, "i8", "i8", "i8", "i8", v)
        yield f"scatter {f}", _scatter, ("i8[::1]", "i8", v, "i8", "i8", "i8", v, "i8", "i8", "i8[::1]")
        yield f"finish {f}", _finish, (v, "i8", "i8", "i8[::1]", "i8", v, "i8")
