"""Losses on the device: what every row of raw outputs contributes, and its gradient.

The loss of a row of values is that of the CPU, `numrnn.kernels.losses`: one thread for a row, in float64. The
cross-entropy is computed in the type of the outputs, by one thread for a row, or by a block where there are many
outputs; only what the row contributes to the sum is float64. All kernels have the signature::

    loss(queue, outputs, n_rows, answers, targets, weights, option, scale, d_outputs, losses, first)

===========  ==============================  ==========================================================================
argument     type and shape                  meaning
===========  ==============================  ==========================================================================
queue        stream                          where the kernel is launched
outputs      float (n_rows, n_outputs)       read
answers      int64 (n_rows,)                 the row of `targets` and `weights` that belongs to each row
targets      int64 (n,) or float (n, m)      class numbers for the cross-entropy, else values; NaN is a missing one
weights      float64 (n,), or of length 0    weights of the rows; none is 1
option       float64 or float64 (n_levels,)  label smoothing for the cross-entropy, levels for the quantiles
scale        float64                         factor of the gradient
d_outputs    float (n_rows, n_outputs)       written: scale * weight * (derivative of the row's loss)
losses       float64 (n,)                    element ``first + row`` is written: weight * loss of the row
first        int
===========  ==============================  ==========================================================================

`d_outputs` may be `outputs` for the cross-entropy, and for no other loss.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np
from numba import cuda

from numrnn.kernels.cuda.grids import (
    THREADS,
    block_grid,
    block_largest,
    block_sum,
    kernel,
    plain,
    specialized,
    vector_grid,
)
from numrnn.kernels.losses import (
    absolute_error_of_row,
    gaussian_of_row,
    huber_of_row,
    negative_binomial_of_row,
    quantile_of_row,
    squared_error_of_row,
    student_t_of_row,
)

__all__ = ["LOSSES", "cross_entropy"]

# From so many outputs on, a block works on every row.
_MANY_OUTPUTS = 64


def _over_rows(outputs, n_rows, answers, targets, weights, scale, d_outputs, losses, first):
    for row in range(cuda.grid(1), n_rows, cuda.gridsize(1)):
        answer = answers[row]
        weight = weights[answer] if weights.size > 0 else 1.0
        losses[first + row] = loss_of_row(outputs, row, targets, answer, weight, scale, d_outputs)


def loss_of_row(outputs, row, targets, answer, weight, scale, d_outputs):
    """Stands for the loss of one row, see `numrnn.kernels.losses`."""
    raise NotImplementedError


@kernel
def _quantile(outputs, n_rows, answers, targets, weights, levels, scale, d_outputs, losses, first):
    for row in range(cuda.grid(1), n_rows, cuda.gridsize(1)):
        answer = answers[row]
        weight = weights[answer] if weights.size > 0 else 1.0
        losses[first + row] = _quantile_of_row(outputs, row, targets, answer, weight, levels, scale, d_outputs)


_quantile_of_row = plain(quantile_of_row)


@kernel
def _few_classes(outputs, n_rows, answers, targets, weights, smoothing, scale, d_outputs, losses, first):
    n_outputs = outputs.shape[1]
    number = outputs.dtype.type
    for row in range(cuda.grid(1), n_rows, cuda.gridsize(1)):
        answer = answers[row]
        target = targets[answer]
        weight = weights[answer] if weights.size > 0 else 1.0
        if weight == 0.0:
            for k in range(n_outputs):
                d_outputs[row, k] = number(0)
            losses[first + row] = 0.0
            continue
        largest = outputs[row, 0]
        total = number(0)
        for k in range(n_outputs):
            y = outputs[row, k]
            total += y
            if not y <= largest:
                largest = y
        own = outputs[row, target]
        denominator = number(0)
        for k in range(n_outputs):
            denominator += math.exp(outputs[row, k] - largest)
        share = number(smoothing / n_outputs)
        value = math.log(denominator) + (largest - own)
        if smoothing > 0.0:
            value += number(smoothing) * own - share * total
        factor, inverse = number(scale * weight), number(1) / denominator
        for k in range(n_outputs):
            probability = math.exp(outputs[row, k] - largest) * inverse
            wanted = share + (number(1.0 - smoothing) if k == target else number(0))
            d_outputs[row, k] = factor * (probability - wanted)
        losses[first + row] = weight * np.float64(value)


@kernel
def _many_classes(outputs, n_rows, answers, targets, weights, smoothing, scale, d_outputs, losses, first):
    scratch = cuda.shared.array(THREADS, outputs.dtype)
    n_outputs = outputs.shape[1]
    number = outputs.dtype.type
    me = cuda.threadIdx.x
    # All threads of a block work on the same row, so that they meet at the same barriers.
    for row in range(cuda.blockIdx.x, n_rows, cuda.gridDim.x):
        answer = answers[row]
        target = targets[answer]
        weight = weights[answer] if weights.size > 0 else 1.0
        largest = outputs[row, 0]
        total = number(0)
        for k in range(me, n_outputs, THREADS):
            y = outputs[row, k]
            total += y
            if not y <= largest:
                largest = y
        own = outputs[row, target]
        largest = block_largest(largest, scratch)
        denominator = number(0)
        for k in range(me, n_outputs, THREADS):
            denominator += math.exp(outputs[row, k] - largest)
        denominator = block_sum(denominator, scratch)
        share = number(smoothing / n_outputs)
        value = math.log(denominator) + (largest - own)
        if smoothing > 0.0:
            value += number(smoothing) * own - share * block_sum(total, scratch)
        factor, inverse = number(scale * weight), number(1) / denominator
        for k in range(me, n_outputs, THREADS):
            probability = math.exp(outputs[row, k] - largest) * inverse
            wanted = share + (number(1.0 - smoothing) if k == target else number(0))
            d_outputs[row, k] = number(0) if weight == 0.0 else factor * (probability - wanted)
        if me == 0:
            losses[first + row] = 0.0 if weight == 0.0 else weight * np.float64(value)


def cross_entropy(queue, outputs, n_rows, answers, targets, weights, smoothing, scale, d_outputs, losses, first):
    """Softmax cross-entropy with smoothed labels, see `numrnn.kernels.cpu.losses.cross_entropy`."""
    if outputs.shape[1] < _MANY_OUTPUTS:
        _few_classes[*vector_grid(n_rows), queue](
            outputs, n_rows, answers, targets, weights, smoothing, scale, d_outputs, losses, first
        )
    else:
        _many_classes[*block_grid(n_rows), queue](
            outputs, n_rows, answers, targets, weights, smoothing, scale, d_outputs, losses, first
        )


def quantile(queue, outputs, n_rows, answers, targets, weights, levels, scale, d_outputs, losses, first):
    """Pinball losses, see `numrnn.kernels.losses.quantile_of_row`."""
    _quantile[*vector_grid(n_rows), queue](
        outputs, n_rows, answers, targets, weights, levels, scale, d_outputs, losses, first
    )


_KERNELS_OF_VALUES = []


def _of_values(of_row):
    kernel_ = specialized(_over_rows, loss_of_row=plain(of_row))
    _KERNELS_OF_VALUES.append((of_row.__name__, kernel_))

    def loss(queue, outputs, n_rows, answers, targets, weights, option, scale, d_outputs, losses, first):
        kernel_[*vector_grid(n_rows), queue](
            outputs, n_rows, answers, targets, weights, scale, d_outputs, losses, first
        )

    return loss


LOSSES = {
    "cross_entropy": cross_entropy,
    "squared_error": _of_values(squared_error_of_row),
    "absolute_error": _of_values(absolute_error_of_row),
    "huber": _of_values(huber_of_row),
    "quantile": quantile,
    "gaussian": _of_values(gaussian_of_row),
    "student_t": _of_values(student_t_of_row),
    "negative_binomial": _of_values(negative_binomial_of_row),
}


def examples():
    """Kernels with the types of their arguments: what a check without a device compiles."""
    for f in ("f4", "f8"):
        m = f"{f}[:, ::1]"
        ends = (m, "f8[::1]", "i8")
        for name, one in (("few classes", _few_classes), ("many classes", _many_classes)):
            yield f"{name} {f}", one, (m, "i8", "i8[::1]", "i8[::1]", "f8[::1]", "f8", "f8", *ends)
        yield f"quantile {f}", _quantile, (m, "i8", "i8[::1]", m, "f8[::1]", "f8[::1]", "f8", *ends)
        for name, one in _KERNELS_OF_VALUES:
            yield f"{name} {f}", one, (m, "i8", "i8[::1]", m, "f8[::1]", "f8", *ends)
