"""Random decisions that are functions of where they are made: the same on every device and in every order."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np

from numrnn.kernels.jit import inline

__all__ = ["draw", "row_key"]

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


@inline
def row_key(seed, stream, row):
    """What the draws of one row have in common; seed and stream are uint32."""
    return _mix(np.uint32(_mix(np.uint32(_mix(np.uint32(seed ^ _GOLDEN)) ^ stream)) ^ np.uint32(row)))


@inline
def draw(key, column):
    """A number that is uniform in 0, ..., 2**32 - 1, from the key of a row."""
    return _mix(np.uint32(key ^ np.uint32(np.uint32(column) * _GOLDEN)))
