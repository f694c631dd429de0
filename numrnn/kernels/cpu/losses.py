"""Losses of a network's raw outputs: the value and the gradient in one pass.

Every loss has the same signature::

    total = loss(outputs, targets, weights, scale, d_outputs)

with what the cross-entropy needs besides, label smoothing and scratch, after the weights.

===========  ==============================  ==========================================================================
argument     type and shape                  meaning
===========  ==============================  ==========================================================================
outputs      float (n_rows, n_outputs)       raw outputs of the network; read
targets      int64 (n_rows,) or              class numbers for the cross-entropy, read;
             float (n_rows, n_outputs)       values for the others, read
weights      float64 (n_rows,)               weight of each row, sample and class weights multiplied; read
scale        float                           factor of the gradient: 1 / sum of the weights makes it that of a mean
d_outputs    float (n_rows, n_outputs)       written: scale * weight * (derivative of the row's loss)
total        float64                         sum over the rows of weight * loss, not scaled
===========  ==============================  ==========================================================================

Arrays are C-contiguous. Values are computed and summed in float64, row after row, whatever the type of the arrays, so
that a total does not lose digits over many rows. A row's gradient depends on nothing but that row and `scale`. A row of
weight 0 counts for nothing, whatever its outputs are. A value that is NaN among the targets is missing: the loss of a
row is the mean over those that are there. What a row of values contributes is in `numrnn.kernels.losses`.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

import numpy as np

from numrnn.kernels.activations import exp
from numrnn.kernels.cpu.reductions import sum_of_squares
from numrnn.kernels.jit import kernel, specialize
from numrnn.kernels.losses import absolute_error_of_row, huber_of_row, squared_error_of_row
from numrnn.kernels.simd import lane_count, lanes, load, store, where_positive, zeros_like

__all__ = [
    "LOSSES",
    "absolute_error",
    "cross_entropy",
    "huber",
    "log_softmax",
    "rows_kernel",
    "softmax",
    "squared_error",
    "weight_penalty",
    "workspace_size",
]


def workspace_size(n_outputs: int) -> int:
    """Elements of the scratch for so many outputs: whole vectors of them."""
    n_lanes = lane_count(np.dtype(np.float64))
    return -(-n_outputs // n_lanes) * n_lanes


@kernel
def cross_entropy(outputs, targets, weights, smoothing, workspace, scale, d_outputs):
    """Softmax cross-entropy with smoothed labels [1]_.

    ``-sum_k q_k log p_k`` with p = softmax(y), q_k = (1 - smoothing) [k = t] + smoothing / n_outputs for the class
    number t; d_y_k = p_k - q_k. Without smoothing it is log(sum_k exp(y_k)) - y_t. The largest output is subtracted
    before exponentials are taken, so that nothing overflows. Raises IndexError for a class number outside
    0, ..., n_outputs - 1.

    smoothing: float, from 0 (none) to 1. workspace: float64, scratch of `workspace_size` elements.

    .. [1] Szegedy, C. et al. (2016). Rethinking the Inception architecture for computer vision. CVPR.
    """
    total = 0.0
    n_rows, n_outputs = outputs.shape
    n_lanes = lanes(workspace)
    padded = (n_outputs + n_lanes - 1) // n_lanes * n_lanes
    share = smoothing / n_outputs
    for row in range(n_rows):
        target = targets[row]
        if target < 0 or target >= n_outputs:
            raise IndexError("a class number is negative or not below the number of outputs")
        weight = weights[row]
        if weight == 0.0:
            d_outputs[row] = 0.0
            continue
        own = np.float64(outputs[row, target])
        for k in range(n_outputs):
            workspace[k] = outputs[row, k]
        for k in range(n_outputs, padded):
            workspace[k] = -np.inf
        maxima = load(workspace, 0)
        for k in range(n_lanes, padded, n_lanes):
            y = load(workspace, k)
            maxima = where_positive(y - maxima, y, maxima)
        # The lanes of a register, through memory that is about to be written anyway.
        first = load(workspace, 0)
        store(workspace, 0, maxima)
        largest = workspace[0]
        for i in range(1, n_lanes):
            largest = max(largest, workspace[i])
        store(workspace, 0, first)
        sums = zeros_like(maxima)
        for k in range(0, padded, n_lanes):
            e = exp(load(workspace, k) - largest)
            store(workspace, k, e)
            sums = sums + e
        first = load(workspace, 0)
        store(workspace, 0, sums)
        denominator = 0.0
        for i in range(n_lanes):
            denominator += workspace[i]
        store(workspace, 0, first)
        loss = math.log(denominator) + (largest - own)
        if smoothing > 0.0:
            sum_of_outputs = 0.0
            for k in range(n_outputs):
                sum_of_outputs += np.float64(outputs[row, k])
            loss += smoothing * own - share * sum_of_outputs
        total += weight * loss
        factor, inverse = scale * weight, 1.0 / denominator
        own_share = workspace[target] * inverse - (1.0 - smoothing) - share
        for k in range(n_outputs):
            d_outputs[row, k] = factor * (workspace[k] * inverse - share)
        d_outputs[row, target] = factor * own_share
    return total


def loss_of_row(outputs, row, targets, answer, weight, scale, d_outputs):
    """Stands for the loss of one row, see `numrnn.kernels.losses`."""
    raise NotImplementedError


def _over_rows(outputs, targets, weights, scale, d_outputs):
    total = 0.0
    for row in range(len(outputs)):
        total += loss_of_row(outputs, row, targets, row, weights[row], scale, d_outputs)
    return total


def rows_kernel(name, loss_of_row):
    """The loss of many rows from that of one."""
    return specialize(_over_rows, name, loss_of_row=loss_of_row)


squared_error = rows_kernel("squared_error", squared_error_of_row)
absolute_error = rows_kernel("absolute_error", absolute_error_of_row)
huber = rows_kernel("huber", huber_of_row)


LOSSES = {
    "cross_entropy": cross_entropy,
    "squared_error": squared_error,
    "absolute_error": absolute_error,
    "huber": huber,
}


@kernel
def softmax(outputs, probabilities):
    """Write exp(y_k) / sum_j exp(y_j) of every row to `probabilities`, of the same shape (may be `outputs`)."""
    n_rows, n_outputs = outputs.shape
    for row in range(n_rows):
        largest = outputs[row, 0]
        for k in range(1, n_outputs):
            largest = max(largest, outputs[row, k])
        denominator = 0.0
        for k in range(n_outputs):
            denominator += math.exp(np.float64(outputs[row, k]) - np.float64(largest))
        for k in range(n_outputs):
            probabilities[row, k] = math.exp(np.float64(outputs[row, k]) - np.float64(largest)) / denominator


@kernel
def log_softmax(outputs, log_probabilities):
    """Write y_k - log(sum_j exp(y_j)) of every row to `log_probabilities`, of the same shape (may be `outputs`)."""
    n_rows, n_outputs = outputs.shape
    for row in range(n_rows):
        largest = outputs[row, 0]
        for k in range(1, n_outputs):
            largest = max(largest, outputs[row, k])
        denominator = 0.0
        for k in range(n_outputs):
            denominator += math.exp(np.float64(outputs[row, k]) - np.float64(largest))
        log_denominator = math.log(denominator)
        for k in range(n_outputs):
            shifted = np.float64(outputs[row, k]) - np.float64(largest)
            log_probabilities[row, k] = shifted - log_denominator


@kernel
def weight_penalty(parameters, gradient, begins, ends, strength):
    """The L2 penalty of some parts of a flat vector, and its gradient.

    parameters, gradient: float (size,), gradient is added to. begins, ends: int64 (n_parts,), the parts
    `begins[i]:ends[i]`. Returns strength / 2 * (sum of squares of the parts), float64; adds strength * parameter to
    the gradient of each.
    """
    total = 0.0
    factor = parameters.dtype.type(strength)
    for part in range(begins.size):
        total += sum_of_squares(parameters, begins[part], ends[part])
        for i in range(begins[part], ends[part]):
            gradient[i] += factor * parameters[i]
    return 0.5 * strength * total
