"""Dropout masks from a counter: the same whatever the order in which, and the device on which, they are computed."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np

from numrnn.kernels.jit import inline, kernel

__all__ = ["dropout"]

_MULTIPLIER_1 = np.uint32(0x7FEB352D)
_MULTIPLIER_2 = np.uint32(0x846CA68B)
_GOLDEN = np.uint32(0x9E3779B9)


@inline
def _mix(x):
    """A bijection of 32-bit integers whose every output bit depends on every input bit (Wellons' lowbias32).

    Numba computes with 64 bits unless told otherwise after every operation.
    """
    x = np.uint32(x ^ (x >> np.uint32(16)))
    x = np.uint32(x * _MULTIPLIER_1)
    x = np.uint32(x ^ (x >> np.uint32(15)))
    x = np.uint32(x * _MULTIPLIER_2)
    return np.uint32(x ^ (x >> np.uint32(16)))


@kernel
def dropout(values, n_rows, n_columns, pitch, seed, stream, threshold, scale):
    """Zero an element with probability threshold / 2**32 and multiply the others by scale, in place.

    The decision is a function of (seed, stream, row, column) alone, so that the backward pass draws the same mask
    again. values is one-dimensional; seed, stream and threshold are uint32.
    """
    zero = values.dtype.type(0)
    for row in range(n_rows):
        key = _mix(np.uint32(_mix(np.uint32(_mix(np.uint32(seed ^ _GOLDEN)) ^ stream)) ^ np.uint32(row)))
        # A view of its own, whose index begins at 0: else the loop is not computed in vectors.
        own = values[row * pitch : row * pitch + n_columns]
        for column in range(n_columns):
            draw = _mix(np.uint32(key ^ np.uint32(np.uint32(column) * _GOLDEN)))
            own[column] = own[column] * scale if draw >= threshold else zero
