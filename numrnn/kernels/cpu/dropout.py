"""Dropout masks from a counter: the same whatever the order in which, and the device on which, they are computed."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from numrnn.kernels.jit import kernel
from numrnn.kernels.random import draw, row_key

__all__ = ["dropout"]


@kernel
def dropout(values, n_rows, n_columns, pitch, seed, stream, threshold, scale):
    """Zero an element with probability threshold / 2**32 and multiply the others by scale, in place.

    The decision is a function of (seed, stream, row, column) alone, so that the backward pass draws the same mask
    again. values is one-dimensional; seed, stream and threshold are uint32.
    """
    zero = values.dtype.type(0)
    for row in range(n_rows):
        key = row_key(seed, stream, row)
        # A view of its own, whose index begins at 0: else the loop is not computed in vectors.
        own = values[row * pitch : row * pitch + n_columns]
        for column in range(n_columns):
            own[column] = own[column] * scale if draw(key, column) >= threshold else zero
