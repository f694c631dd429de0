"""The dense readout `outputs = features @ weight.T + bias` and its adjoint.

A row of the outputs is computed by the same operations in the same order whatever the other rows are, which a matrix
product of a general library does not promise; and sums over rows run in row order, on one thread. The results are
therefore the same for every batch and every number of threads.

features (n_rows, n_features), weight (n_outputs, n_features), bias (n_outputs,), outputs (n_rows, n_outputs), and the
gradients `d_...` of the same shapes: float, C-contiguous.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np

from numrnn.kernels.jit import kernel
from numrnn.kernels.simd import fma, lanes, load, store, zeros_like

__all__ = ["readout", "readout_adjoint"]


@kernel
def readout(features, weight, bias, lane, outputs):
    """Write features @ weight.T + bias to `outputs`.

    lane: float (at least as many elements as a vector has lanes,), scratch.
    """
    n_rows, n_features = features.shape
    n_outputs = weight.shape[0]
    x, w = features.reshape(features.size), weight.reshape(weight.size)
    width = lanes(x)
    paired = n_features - n_features % (2 * width)
    whole = n_features - n_features % width
    zero = zeros_like(load(lane, 0))
    for row in range(n_rows):
        x_row = row * n_features
        for k in range(n_outputs):
            w_row = k * n_features
            # Two sums, so that one product need not wait for the one before.
            even, odd = zero, zero
            for j in range(0, paired, 2 * width):
                even = fma(load(x, x_row + j), load(w, w_row + j), even)
                odd = fma(load(x, x_row + j + width), load(w, w_row + j + width), odd)
            for j in range(paired, whole, width):
                even = fma(load(x, x_row + j), load(w, w_row + j), even)
            store(lane, 0, even + odd)
            total = bias[k]
            for i in range(width):
                total += lane[i]
            for j in range(whole, n_features):
                total += x[x_row + j] * w[w_row + j]
            outputs[row, k] = total


@kernel
def readout_adjoint(d_outputs, features, weight, d_weight, d_bias, d_features):
    """Write d_outputs @ weight to `d_features`; add d_outputs.T @ features to `d_weight`, sums of rows to `d_bias`."""
    n_rows, n_features = features.shape
    n_outputs = weight.shape[0]
    for row in range(n_rows):
        for j in range(n_features):
            d_features[row, j] = d_outputs[row, 0] * weight[0, j]
        for k in range(1, n_outputs):
            factor = d_outputs[row, k]
            for j in range(n_features):
                d_features[row, j] += factor * weight[k, j]
    whole = n_rows - n_rows % 4
    for k in range(n_outputs):
        # Float64: over many rows the digits of a float32 sum would be lost.
        total = np.float64(d_bias[k])
        for row in range(n_rows):
            total += np.float64(d_outputs[row, k])
        d_bias[k] = total
        for row in range(0, whole, 4):
            d0, d1, d2, d3 = d_outputs[row, k], d_outputs[row + 1, k], d_outputs[row + 2, k], d_outputs[row + 3, k]
            for j in range(n_features):
                first = d0 * features[row, j] + d1 * features[row + 1, j]
                d_weight[k, j] += first + (d2 * features[row + 2, j] + d3 * features[row + 3, j])
        for row in range(whole, n_rows):
            factor = d_outputs[row, k]
            for j in range(n_features):
                d_weight[k, j] += factor * features[row, j]
