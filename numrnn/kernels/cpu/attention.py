"""Additive attention over the time steps of each sequence, around the products with its weights.

Rows of a batch are sequence after sequence; sequence i is rows offsets[i] to offsets[i + 1]. `projected` holds
weight @ h + bias of every row with a pitch of `columns`, a multiple of a vector's lanes, and zero beyond the units;
`hidden` is read through a table of row numbers. Arrays are one-dimensional and of one floating-point type.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np

from numrnn.kernels.activations import exp, tanh
from numrnn.kernels.jit import inline, kernel
from numrnn.kernels.simd import fma, lanes, load, load_partial, store, store_partial, zeros_like

__all__ = ["attend", "attend_adjoint"]

ONE = np.float32(1)


@inline
def _sum(vector, lane):
    """Sum of the lanes, in their order."""
    store(lane, 0, vector)
    total = lane[0]
    for i in range(1, len(lane)):
        total += lane[i]
    return total


@kernel
def attend(hidden, rows, size, offsets, begin, end, columns, vector, lane, projected, weights, pooled):
    """Sequences begin to end: weights = softmax(vector . tanh(projected)), pooled = sum of weights * hidden.

    ===========  ===========================  ================================================================
    argument     shape                        meaning
    ===========  ===========================  ================================================================
    hidden       (n, size)                    read
    rows         int64 (n_rows,)              row of `hidden` of every row of the batch
    vector       (columns,)                   read, zero beyond the units
    lane         (lanes,)                     scratch
    projected    (n_rows, columns)            overwritten by its tanh, which `attend_adjoint` needs
    weights      (n_rows,)                    written
    pooled       (n_sequences, size)          written; zero for a sequence without rows
    ===========  ===========================  ================================================================
    """
    n_lanes = lanes(hidden)
    zero = zeros_like(load(lane, 0))
    for i in range(begin, end):
        first, last = offsets[i], offsets[i + 1]
        largest = -np.inf
        for row in range(first, last):
            total = zero
            for j in range(row * columns, (row + 1) * columns, n_lanes):
                u = tanh(load(projected, j))
                store(projected, j, u)
                total = fma(u, load(vector, j - row * columns), total)
            score = _sum(total, lane)
            weights[row] = score
            # The comparison keeps NaN out of `largest`; it comes back with the score itself.
            if score > largest:
                largest = score
        shift = lane.dtype.type(largest)
        denominator = 0.0
        for row in range(first, last, n_lanes):
            count = min(n_lanes, last - row)
            store_partial(weights, row, count, exp(load_partial(weights, row, count) - shift))
            for k in range(row, row + count):
                denominator += np.float64(weights[k])
        # Without rows there is nothing to divide.
        factor = lane.dtype.type(1.0 / (denominator if last > first else 1.0))
        for row in range(first, last):
            weights[row] *= factor
        for j in range(0, size, n_lanes):
            count = min(n_lanes, size - j)
            total = zero
            for row in range(first, last):
                total = fma(load_partial(hidden, rows[row] * size + j, count), weights[row], total)
            store_partial(pooled, i * size + j, count, total)


@kernel
def attend_adjoint(
    hidden, rows, size, offsets, begin, end, columns, vector, lane, weights, d_pooled, projected, d_vector, d_hidden,
    pitch,
):  # fmt: skip
    """From the gradient of `pooled` to those of its summands.

    ===========  ===========================  ================================================================
    argument     shape                        meaning
    ===========  ===========================  ================================================================
    projected    (n_rows, columns)            from `attend`; overwritten by the gradient before the tanh
    d_pooled     (n_sequences, size)          read
    d_vector     (n_sequences, columns)       written: part of each sequence in the gradient of `vector`
    d_hidden     (n_rows, pitch)              written: weights * d_pooled, to which the gradient through
                                              `projected` remains to be added; the pitch is a multiple of
                                              a vector's lanes, and beyond `size` stands zero
    ===========  ===========================  ================================================================
    """
    n_lanes = lanes(hidden)
    zero = zeros_like(load(lane, 0))
    for i in range(begin, end):
        first, last = offsets[i], offsets[i + 1]
        # The gradient of a weight is kept in the first element of d_hidden's row until it is known for all rows.
        mean = 0.0
        for row in range(first, last):
            total = zero
            for j in range(0, size, n_lanes):
                count = min(n_lanes, size - j)
                h = load_partial(hidden, rows[row] * size + j, count)
                total = fma(h, load_partial(d_pooled, i * size + j, count), total)
            d_weight = _sum(total, lane)
            d_hidden[row * pitch] = d_weight
            mean += np.float64(weights[row]) * np.float64(d_weight)
        for j in range(0, columns, n_lanes):
            store(d_vector, i * columns + j, zero)
        for row in range(first, last):
            d_score = weights[row] * lane.dtype.type(np.float64(d_hidden[row * pitch]) - mean)
            for j in range(0, columns, n_lanes):
                u = load(projected, row * columns + j)
                store(d_vector, i * columns + j, fma(u, d_score, load(d_vector, i * columns + j)))
                store(projected, row * columns + j, load(vector, j) * d_score * fma(-u, u, ONE))
            for j in range(0, size, n_lanes):
                d = load_partial(d_pooled, i * size + j, min(n_lanes, size - j))
                store(d_hidden, row * pitch + j, d * weights[row])
