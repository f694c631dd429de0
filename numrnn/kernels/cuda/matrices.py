"""Products of matrices on the device, in an order of summation that depends on nothing but the sizes.

Tiles of the result are summed in registers, from tiles of both factors in shared memory. Where the result has too few
tiles to fill a device, the summation index is divided into parts; their sums are added up by a second kernel. Where
cuBLAS can be had it does the products instead.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from typing import Any

from numba import cuda

from numrnn.kernels.cuda.arrays import DeviceArrays
from numrnn.kernels.cuda.blas import has_blas, multiply_by_blas
from numrnn.kernels.cuda.grids import SIMULATED, kernel, vector_grid

__all__ = ["multiply"]

# Threads of a block in each direction, rows and columns of the result that each of them has, depth of a tile.
_SIDE = 2 if SIMULATED else 16
_EACH = 4
_TILE = _SIDE * _EACH
_PITCH = _TILE + 1
_DEPTH = 4 if SIMULATED else 16
# Blocks that fill a device, and the least depth that is worth a part.
_ENOUGH_BLOCKS = 2 if SIMULATED else 264
_LEAST_DEPTH = 8 if SIMULATED else 256


@kernel
def _multiply(a, a_first, a_row, a_step, b, b_first, b_column, b_step, out, out_first, out_row, m, n, k, depth, add):
    """Part blockIdx.z of the sum: out[z, i, j] = sum of a[i, l] * b[l, j] over l from z * depth to (z + 1) * depth."""
    a_tile = cuda.shared.array((_DEPTH, _PITCH), a.dtype)
    b_tile = cuda.shared.array((_DEPTH, _PITCH), b.dtype)
    sums = cuda.local.array((_EACH, _EACH), a.dtype)
    zero = a.dtype.type(0)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    me = y * _SIDE + x
    first_row, first_column = cuda.blockIdx.x * _TILE, cuda.blockIdx.y * _TILE
    begin = cuda.blockIdx.z * depth
    end = min(begin + depth, k)
    for i in range(_EACH):
        for j in range(_EACH):
            sums[i, j] = zero
    # Every thread of the block goes through the same number of tiles, so that all meet at the same barriers.
    for first in range(begin, end, _DEPTH):
        for at in range(me, _DEPTH * _TILE, _SIDE * _SIDE):
            # Neighbouring threads read neighbouring elements, whichever way the factor lies.
            if a_step == 1:
                line, place = at % _DEPTH, at // _DEPTH
            else:
                line, place = at // _TILE, at % _TILE
            row, step = first_row + place, first + line
            value = zero
            if row < m and step < end:
                value = a[a_first + row * a_row + step * a_step]
            a_tile[line, place] = value
            if b_step == 1:
                line, place = at % _DEPTH, at // _DEPTH
            else:
                line, place = at // _TILE, at % _TILE
            column, step = first_column + place, first + line
            value = zero
            if column < n and step < end:
                value = b[b_first + column * b_column + step * b_step]
            b_tile[line, place] = value
        cuda.syncthreads()
        for line in range(_DEPTH):
            for i in range(_EACH):
                factor = a_tile[line, y + i * _SIDE]
                for j in range(_EACH):
                    sums[i, j] += factor * b_tile[line, x + j * _SIDE]
        cuda.syncthreads()
    for i in range(_EACH):
        row = first_row + y + i * _SIDE
        for j in range(_EACH):
            column = first_column + x + j * _SIDE
            if row < m and column < n:
                at = out_first + (cuda.blockIdx.z * m + row) * out_row + column
                if add:
                    out[at] += sums[i, j]
                else:
                    out[at] = sums[i, j]


@kernel
def _add_parts(parts, n_parts, size, out, out_first, out_row, n, add):
    for i in range(cuda.grid(1), size, cuda.gridsize(1)):
        total = parts[i]
        for part in range(1, n_parts):
            total += parts[part * size + i]
        at = out_first + i // n * out_row + i % n
        if add:
            out[at] += total
        else:
            out[at] = total


def multiply(
    queue: Any,
    arrays: DeviceArrays,
    a: tuple[Any, ...],
    b: tuple[Any, ...],
    out: tuple[Any, ...],
    sizes: tuple[int, int, int],
    accumulate: bool = False,
) -> None:
    """out (m, n) = a (m, k) @ b (k, n), all of them row-major.

    Parameters
    ----------
    queue
    arrays : DeviceArrays
        For the sums of parts.
    a, b : tuple of (device array, int, bool) or (device array, int, bool, int)
        A flat array, the element at which the matrix begins, whether it lies transposed: a as (k, m), b as (n, k), and
        the elements from row to row as it lies, if there is something between them.
    out : tuple of (device array, int) or (device array, int, int)
    sizes : tuple of int
        m, n and k.
    accumulate : bool, default=False
        Whether the product is added to what is there.
    """
    m, n, k = sizes
    if m == 0 or n == 0 or (k == 0 and accumulate):
        return
    a_pitch = a[3] if len(a) > 3 else m if a[2] else k
    b_pitch = b[3] if len(b) > 3 else k if b[2] else n
    pitch = out[2] if len(out) > 2 else n
    if has_blas() and k > 0:
        multiply_by_blas(queue, a, a_pitch, b, b_pitch, out, pitch, sizes, accumulate)
        return
    a_row, a_step = (1, a_pitch) if a[2] else (a_pitch, 1)
    b_column, b_step = (b_pitch, 1) if b[2] else (1, b_pitch)
    blocks = (-(-m // _TILE), -(-n // _TILE))
    n_parts = max(min(_ENOUGH_BLOCKS // (blocks[0] * blocks[1]), k // _LEAST_DEPTH), 1)
    depth = -(-k // n_parts)
    depth = max(-(-depth // _DEPTH) * _DEPTH, 1)
    n_parts = max(-(-k // depth), 1)
    target, first, row, add = out[0], out[1], pitch, accumulate
    if n_parts > 1:
        target, first, row, add = arrays.at_least("parts of products", n_parts * m * n, a[0].dtype), 0, n, False
    _multiply[(*blocks, n_parts), (_SIDE, _SIDE), queue](
        a[0], a[1], a_row, a_step, b[0], b[1], b_column, b_step, target, first, row, m, n, k, depth, add
    )
    if n_parts > 1:
        _add_parts[*vector_grid(m * n), queue](target, n_parts, m * n, out[0], out[1], pitch, n, accumulate)


def examples():
    """The kernels of this file with the types of their arguments."""
    for real in ("f4", "f8"):
        array = f"{real}[::1]"
        yield "_multiply", _multiply, (array, "i8", "i8", "i8") * 2 + (array, *("i8",) * 6, "b1")
        yield "_add_parts", _add_parts, (array, "i8", "i8", array, *("i8",) * 3, "b1")
