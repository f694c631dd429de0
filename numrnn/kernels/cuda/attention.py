"""Additive attention over the time steps of each sequence, on the device, around the products with its weights.

Rows are packed: row ``offsets[t] + n`` is step t of the sequence at position n, whose number is ``order[n]`` and which
has ``steps[n]`` of them. `projected` holds weight @ h + bias of every row. A block works on a row, or on a sequence;
all its threads meet at every barrier. Sums are in an order that depends on nothing but the sizes.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

from numba import cuda

from numrnn.kernels.cuda.grids import THREADS, block_grid, block_largest, block_sum, kernel

__all__ = ["attend", "attend_adjoint"]


@kernel
def _scores(projected, n_rows, n_units, vector, scores):
    """scores = vector . tanh(projected); projected is overwritten by its tanh."""
    scratch = cuda.shared.array(THREADS, projected.dtype)
    me = cuda.threadIdx.x
    for row in range(cuda.blockIdx.x, n_rows, cuda.gridDim.x):
        total = projected.dtype.type(0)
        for j in range(me, n_units, THREADS):
            u = math.tanh(projected[row * n_units + j])
            projected[row * n_units + j] = u
            total += u * vector[j]
        total = block_sum(total, scratch)
        if me == 0:
            scores[row] = total


@kernel
def _pool(hidden, size, offsets, steps, order, n_sequences, weights, pooled):
    """From the scores in `weights` to the weights, and the weighted sum."""
    scratch = cuda.shared.array(THREADS, hidden.dtype)
    me = cuda.threadIdx.x
    one = hidden.dtype.type(1)
    for n in range(cuda.blockIdx.x, n_sequences, cuda.gridDim.x):
        count, number = steps[n], order[n]
        largest = hidden.dtype.type(-math.inf)
        for t in range(me, count, THREADS):
            score = weights[offsets[t] + n]
            if not score <= largest:
                largest = score
        largest = block_largest(largest, scratch)
        total = hidden.dtype.type(0)
        for t in range(me, count, THREADS):
            e = math.exp(weights[offsets[t] + n] - largest)
            weights[offsets[t] + n] = e
            total += e
        total = block_sum(total, scratch)
        # Without rows there is nothing to divide.
        factor = one / total if count > 0 else one
        for t in range(me, count, THREADS):
            weights[offsets[t] + n] *= factor
        cuda.syncthreads()
        for i in range(me, size, THREADS):
            total = hidden.dtype.type(0)
            for t in range(count):
                row = offsets[t] + n
                total += weights[row] * hidden[row * size + i]
            pooled[number * size + i] = total


@kernel
def _weight_gradients(hidden, n_rows, size, numbers, d_pooled, d_weights):
    """d_weights[row] = hidden[row] . d_pooled[numbers[row]]."""
    scratch = cuda.shared.array(THREADS, hidden.dtype)
    me = cuda.threadIdx.x
    for row in range(cuda.blockIdx.x, n_rows, cuda.gridDim.x):
        number = numbers[row]
        total = hidden.dtype.type(0)
        for i in range(me, size, THREADS):
            total += hidden[row * size + i] * d_pooled[number * size + i]
        total = block_sum(total, scratch)
        if me == 0:
            d_weights[row] = total


@kernel
def _score_gradients(
    size,
    n_units,
    offsets,
    steps,
    order,
    n_sequences,
    vector,
    weights,
    d_weights,
    d_pooled,
    projected,
    d_vector,
    d_hidden,
):
    """From the gradients of the weights to those of their scores, and from these to all others."""
    scratch = cuda.shared.array(THREADS, weights.dtype)
    me = cuda.threadIdx.x
    one = weights.dtype.type(1)
    for n in range(cuda.blockIdx.x, n_sequences, cuda.gridDim.x):
        count, number = steps[n], order[n]
        total = weights.dtype.type(0)
        for t in range(me, count, THREADS):
            row = offsets[t] + n
            total += weights[row] * d_weights[row]
        mean = block_sum(total, scratch)
        for j in range(me, n_units, THREADS):
            total = weights.dtype.type(0)
            for t in range(count):
                row = offsets[t] + n
                d_score = weights[row] * (d_weights[row] - mean)
                u = projected[row * n_units + j]
                total += u * d_score
                projected[row * n_units + j] = vector[j] * d_score * (one - u * u)
            d_vector[n * n_units + j] = total
        for i in range(me, size, THREADS):
            d = d_pooled[number * size + i]
            for t in range(count):
                row = offsets[t] + n
                d_hidden[row * size + i] = d * weights[row]


def attend(
    queue, hidden, n_rows, size, n_units, offsets, steps, order, n_sequences, vector, projected, weights, pooled
):
    """weights = softmax(vector . tanh(projected)) over the steps of each sequence, pooled = sum of weights * hidden.

    ===========  ===========================  ================================================================
    argument     shape                        meaning
    ===========  ===========================  ================================================================
    hidden       (n_rows * size,)             read
    vector       (n_units,)                   read
    projected    (n_rows * n_units,)          overwritten by its tanh, which `attend_adjoint` needs
    weights      (n_rows,)                    written
    pooled       (n_sequences * size,)        written, by number; zero for a sequence without rows
    ===========  ===========================  ================================================================
    """
    if n_rows:
        _scores[*block_grid(n_rows), queue](projected, n_rows, n_units, vector, weights)
    _pool[*block_grid(n_sequences), queue](hidden, size, offsets, steps, order, n_sequences, weights, pooled)


def attend_adjoint(
    queue, hidden, n_rows, size, n_units, offsets, steps, order, numbers, n_sequences, vector, weights, d_pooled,
    d_weights, projected, d_vector, d_hidden,
):  # fmt: skip
    """From the gradient of `pooled` to those of its summands.

    ===========  ===========================  ================================================================
    argument     shape                        meaning
    ===========  ===========================  ================================================================
    numbers      int64 (n_rows,)              the number of the sequence of every row
    projected    (n_rows * n_units,)          from `attend`; overwritten by the gradient before the tanh
    d_pooled     (n_sequences * size,)        read, by number
    d_weights    (n_rows,)                    scratch
    d_vector     (n_sequences * n_units,)     written: part of each sequence in the gradient of `vector`
    d_hidden     (n_rows * size,)             written: weights * d_pooled, to which the gradient through
                                              `projected` remains to be added
    ===========  ===========================  ================================================================
    """
    if n_rows:
        _weight_gradients[*block_grid(n_rows), queue](hidden, n_rows, size, numbers, d_pooled, d_weights)
    _score_gradients[*block_grid(n_sequences), queue](
        size, n_units, offsets, steps, order, n_sequences, vector, weights, d_weights, d_pooled, projected, d_vector,
        d_hidden,
    )  # fmt: skip


def examples():
    """Kernels with the types of their arguments: what a check without a device compiles."""
    for f in ("f4", "f8"):
        v = f"{f}[::1]"
        tables = ("i8[::1]", "i8[::1]", "i8[::1]", "i8")
        yield f"attention scores {f}", _scores, (v, "i8", "i8", v, v)
        yield f"attention {f}", _pool, (v, "i8", *tables, v, v)
        yield f"gradients of weights {f}", _weight_gradients, (v, "i8", "i8", "i8[::1]", v, v)
        yield f"gradients of scores {f}", _score_gradients, ("i8", "i8", *tables, *7 * (v,))
