"""The vectors of `simd` in plain NumPy, for runs without a compiler (``NUMBA_DISABLE_JIT=1``).

A vector is a small array. Slow, but every access is checked: reading or writing outside an array, which compiled code
would do silently, is an IndexError here.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from typing import Any

import numpy as np

from numrnn.kernels.jit import VECTOR_BITS

_SHIFTS = {np.dtype(np.float32): (np.uint32, 23), np.dtype(np.float64): (np.uint64, 52)}


def _span(array: Any, index: Any, count: int) -> slice:
    """The elements from index on, if the one-dimensional array has them all."""
    index = int(index)
    assert array.ndim == 1, f"expected a one-dimensional array, got {array.ndim} dimensions"
    if count < 0 or index < 0 or index + count > len(array):
        raise IndexError(f"elements {index} to {index + count} of an array of {len(array)}")
    return slice(index, index + count)


def lanes(array):
    return VECTOR_BITS // (8 * array.dtype.itemsize)


def constant(array):
    return array


def load(array, index):
    return array[_span(array, index, lanes(array))].copy()


def store(array, index, value):
    array[_span(array, index, lanes(array))] = value


def load_partial(array, index, count):
    vector = np.zeros(lanes(array), dtype=array.dtype)
    vector[:count] = array[_span(array, index, count)]
    return vector


def store_partial(array, index, count, value):
    array[_span(array, index, count)] = value[:count]


def load_slots(array, index, stride, count):
    return tuple(load(array, index + i * stride) for i in range(count))


def store_slots(array, index, stride, values):
    for i, value in enumerate(values):
        store(array, index + i * stride, value)


def fma(x, y, z):
    vectors = [v for v in (x, y, z) if getattr(v, "ndim", 0)]
    result = np.result_type(*(vectors or (x, y, z)))
    with np.errstate(all="ignore"):
        # In float32 the product is exact in float64; in float64 this rounds twice.
        wide = np.multiply(x, y, dtype=np.float64) + np.asarray(z, dtype=np.float64)
        return wide.astype(result)


def minimum(x, limit):
    return np.where(limit < x, limit, x).astype(x.dtype)


def clamp(x, low, high):
    return np.where(low > minimum(x, high), low, minimum(x, high)).astype(x.dtype)


def where_below(x, limit, y, z):
    return np.where(x < limit, y, z).astype(z.dtype)


def where_positive(condition, x, y):
    vectors = [v for v in (condition, x, y) if getattr(v, "ndim", 0)]
    return np.where(condition > 0, x, y).astype(np.result_type(*vectors))


def absolute(x):
    return np.abs(x)


def copy_sign(magnitude, sign):
    return np.copysign(magnitude, sign)


def zeros_like(x):
    return np.zeros_like(x)


def power_of_two(shifted):
    integer, fraction_bits = _SHIFTS[shifted.dtype]
    return (shifted.view(integer) << integer(fraction_bits)).view(shifted.dtype)


def reciprocal_estimate(x):
    return x.dtype.type(1) / x


def _narrow(x):
    """Rounded to bfloat16: whole numbers of 16 bits."""
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(x), (bits >> np.uint32(16)) | np.uint32(0x40), rounded).astype(np.uint16)


def _numbers(pairs, axis):
    """Both numbers of every pair of a matrix, one after the other along an axis; a matrix of numbers as it is."""
    if pairs.dtype != np.uint32:
        return pairs
    both = [(pairs << np.uint32(16)).view(np.float32), (pairs & np.uint32(0xFFFF0000)).view(np.float32)]
    shape = list(pairs.shape)
    shape[axis] *= 2
    return np.stack(both, axis=axis + 1).reshape(shape)


def numbers_in(array):
    return 2 if array.dtype.kind == "u" else 1


def factors_of(numbers, pairs):
    return pairs if pairs.dtype.kind == "u" else numbers


def store_factor(array, index, value):
    if array.dtype.kind == "f":
        store(array, index, value)
    else:
        array[_span(array, index // 2, len(value) // 2)] = _narrow(value).view(np.uint32)


def store_factor_slots(array, index, stride, values):
    for i, value in enumerate(values):
        store_factor(array, index + i * stride, value)


def store_rows(array, index, first, second):
    if array.dtype.kind == "f":
        store(array, index, first)
        return
    pairs = _narrow(first).astype(np.uint32) | _narrow(second).astype(np.uint32) << np.uint32(16)
    array[_span(array, index, len(first))] = pairs


def transpose(source, source0, rows, row0, pitch, target, target0, target_pitch):
    count = lanes(source)
    square = [load(source, source0 + rows[row0 + r] * pitch) for r in range(count)]
    for k, column in enumerate(np.array(square).T):
        store(target, target0 + k * target_pitch, column)


def _panel(b, b0, pitch, depth, width, n_lanes):
    """Rows of a panel, `width` vectors of numbers or of pairs of bfloat16 (see `stream_layout`), as they are summed."""
    columns = width * n_lanes
    rows = np.array([b[_span(b, b0 + k * pitch, columns)] for k in range(depth)]).reshape(depth, columns)
    if b.dtype != np.uint16:
        return _numbers(rows, 0)
    paired = width // 2 * 2 * n_lanes
    made = rows.astype(np.uint32) << np.uint32(16)
    made[:, :paired] = made[:, :paired].reshape(depth, -1, n_lanes, 2).swapaxes(2, 3).reshape(depth, paired)
    return made.view(np.float32)


def tile(height, width, a, a0, rows, row0, pitch, b, b0, depth, start, start0, start_pitch, c, c0, c_pitch):
    columns = width * lanes(c)
    factor = _panel(b, b0, columns, depth, width, lanes(c))
    for r in range(height):
        left = _numbers(a[_span(a, a0 + rows[row0 + r] * pitch, depth)], 0)
        total = start[_span(start, start0 + r * start_pitch, columns)].astype(np.float64)
        with np.errstate(all="ignore"):
            c[_span(c, c0 + r * c_pitch, columns)] = total + left.astype(np.float64) @ factor


def tile_of_two(
    height,
    width,
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
    b,
    b0,
    b1,
    start,
    start0,
    start_pitch,
    c,
    c0,
    c_pitch,
):
    tile(height, width, a, a0, a_rows, a_row0, a_pitch, b, b0, a_depth, start, start0, start_pitch, c, c0, c_pitch)
    tile(height, width, d, d0, d_rows, d_row0, d_pitch, b, b1, d_depth, c, c0, c_pitch, c, c0, c_pitch)


def tile_transposed(height, width, a, a0, pitch, b, b0, depth, start, start0, start_pitch, c, c0, c_pitch):
    columns = width * lanes(c)
    factor = _panel(b, b0, columns, depth, width, lanes(c))
    left = _numbers(np.array([a[_span(a, a0 + k * pitch, height)] for k in range(depth)]), 0).astype(np.float64).T
    for r in range(height):
        total = start[_span(start, start0 + r * start_pitch, columns)].astype(np.float64)
        with np.errstate(all="ignore"):
            c[_span(c, c0 + r * c_pitch, columns)] = total + left[r] @ factor


def tile_few(
    height, width, a, a0, rows, row0, pitch, b, b0, b1, b_pitch, depth, start, start0, start_pitch, c, c0, c_pitch
):
    from numrnn.kernels.simd import PANEL_VECTORS

    columns, first = width * lanes(c), min(width, PANEL_VECTORS)
    factor = _panel(b, b0, b_pitch, depth, first, lanes(c)).astype(np.float64)
    if first < width:
        factor = np.hstack([factor, _panel(b, b1, b_pitch, depth, width - first, lanes(c))])
    for r in range(height):
        left = _numbers(a[_span(a, a0 + rows[row0 + r] * pitch, depth)], 0).astype(np.float64)
        total = start[_span(start, start0 + r * start_pitch, columns)].astype(np.float64)
        with np.errstate(all="ignore"):
            c[_span(c, c0 + r * c_pitch, columns)] = total + left @ factor
