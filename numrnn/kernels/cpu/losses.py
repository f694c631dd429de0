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
    "add_to_softmax",
    "cross_entropy",
    "huber",
    "log_softmax",
    "rows_kernel",
    "softmax",
    "softmax_gradient",
    "softmax_loss",
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


@kernel
def add_to_softmax(outputs, first, targets, weights, smoothing, lanes_of_sum, state):
    """Take a block of every row's outputs into account, for a cross-entropy whose outputs are never all there.

    outputs (n_rows, n_columns): all outputs from `first` to `first + n_columns`; read. lanes_of_sum: one vector of
    scratch. state: float64 (n_rows, 4), added to: the largest output (at first the lowest number there is), the sum of
    exp(output - largest), the target's output, and, where labels are smoothed, the sum of the outputs. The other
    arguments are those of `cross_entropy`. Exponentials are those of the outputs' type; within a block they are summed
    in it, lane by lane.
    """
    n_rows, n_columns = outputs.shape
    flat = outputs.reshape(-1)
    n_lanes = lanes(flat)
    whole = n_columns - n_columns % n_lanes
    for row in range(n_rows):
        if weights[row] == 0.0:
            continue
        at = row * n_columns
        target = targets[row] - first
        if target >= 0 and target < n_columns:
            state[row, 2] = np.float64(flat[at + target])
        if smoothing > 0.0:
            for k in range(n_columns):
                state[row, 3] += np.float64(flat[at + k])
        largest = flat.dtype.type(state[row, 0])
        if whole > 0:
            maxima = load(flat, at)
            for k in range(n_lanes, whole, n_lanes):
                y = load(flat, at + k)
                maxima = where_positive(y - maxima, y, maxima)
            store(lanes_of_sum, 0, maxima)
            for i in range(n_lanes):
                largest = max(largest, lanes_of_sum[i])
        for k in range(whole, n_columns):
            largest = max(largest, flat[at + k])
        total = state[row, 1] * math.exp(state[row, 0] - np.float64(largest))
        state[row, 0] = np.float64(largest)
        if whole > 0:
            sums = zeros_like(load(flat, at))
            for k in range(0, whole, n_lanes):
                sums = sums + exp(load(flat, at + k) - largest)
            store(lanes_of_sum, 0, sums)
            for i in range(n_lanes):
                total += np.float64(lanes_of_sum[i])
        for k in range(whole, n_columns):
            total += math.exp(np.float64(flat[at + k]) - np.float64(largest))
        state[row, 1] = total


@kernel
def softmax_loss(state, n_outputs, weights, smoothing):
    """The cross-entropy's total, once `add_to_softmax` has seen all outputs."""
    total = 0.0
    for row in range(len(weights)):
        if weights[row] != 0.0:
            loss = math.log(state[row, 1]) + (state[row, 0] - state[row, 2])
            if smoothing > 0.0:
                loss += smoothing * state[row, 2] - smoothing / n_outputs * state[row, 3]
            total += weights[row] * loss
    return total


@kernel
def softmax_gradient(outputs, first, n_outputs, targets, weights, smoothing, scale, state):
    """Overwrite the block of outputs that begins at output `first` of `n_outputs` by the cross-entropy's gradient.

    state is what `add_to_softmax` has left after all outputs; it is read.
    """
    n_rows, n_columns = outputs.shape
    flat = outputs.reshape(-1)
    n_lanes = lanes(flat)
    whole = n_columns - n_columns % n_lanes
    share = smoothing / n_outputs
    as_float = flat.dtype.type
    for row in range(n_rows):
        at = row * n_columns
        if weights[row] == 0.0:
            outputs[row] = 0.0
            continue
        factor = scale * weights[row]
        target = targets[row] - first
        is_here = target >= 0 and target < n_columns
        of_target = np.float64(flat[at + target]) if is_here else 0.0
        largest, over_sum, less = as_float(state[row, 0]), as_float(factor / state[row, 1]), as_float(factor * share)
        for k in range(0, whole, n_lanes):
            store(flat, at + k, exp(load(flat, at + k) - largest) * over_sum - less)
        for k in range(whole, n_columns):
            shifted = np.float64(flat[at + k]) - state[row, 0]
            flat[at + k] = factor * (math.exp(shifted) / state[row, 1] - share)
        if is_here:
            probability = math.exp(of_target - state[row, 0]) / state[row, 1]
            flat[at + target] = factor * (probability - (1.0 - smoothing) - share)


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
