"""The dense readout `outputs = features @ weight.T + bias` and its adjoint, in tiles.

Every output is one chain of fused multiply-adds that begins with the bias and goes through the features in their order;
every gradient of a feature one that goes through the outputs in theirs. Gradients of the weights are sums over blocks
of `SUM_ROWS` rows, added in the order of the blocks. So the results are the same for every batch and every number of
threads. A thread takes a range of rows, or of outputs, and packs for itself the part of the weights that it is about to
use: what is packed stays in its caches, and a single row costs no more than reading the weights.

features (n_rows, n_features), weight (n_outputs, n_features), bias (n_outputs,), outputs (n_rows, n_outputs), and the
gradients `d_...` of the same shapes: float, C-contiguous. identity: int64, 0, 1, 2, ... (at least `IDENTITY_ROWS`,).
panel, block, product: float, scratch of `scratch_sizes` elements, of which each thread has its own.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np

from numrnn.kernels.cpu.matmul import SUM_COLUMNS, SUM_PITCH, SUM_ROWS, multiply, transpose_into
from numrnn.kernels.jit import inline, kernel
from numrnn.kernels.simd import PANEL_VECTORS, lanes, load, load_partial, store, zeros_like

__all__ = ["IDENTITY_ROWS", "readout", "readout_input_adjoint", "readout_weight_adjoint", "scratch_sizes"]

# Rows of a result that are taken at once, and the depth of a product that is.
_BLOCK_ROWS = 384
_BLOCK_DEPTH = 256
IDENTITY_ROWS = max(_BLOCK_ROWS, _BLOCK_DEPTH, SUM_ROWS, SUM_COLUMNS)


def scratch_sizes(n_lanes: int) -> tuple[int, int, int]:
    """Elements of panel, block and product, for vectors of so many lanes."""
    width = PANEL_VECTORS * n_lanes
    return (
        width * max(_BLOCK_DEPTH, SUM_ROWS),
        max(width * (_BLOCK_ROWS + 1), SUM_PITCH * SUM_COLUMNS),
        width * SUM_COLUMNS,
    )


@inline
def _whole_vectors(count, n_lanes):
    return (count + n_lanes - 1) // n_lanes * n_lanes


@inline
def _pack(matrix, row0, n_rows, pitch, column, n_columns, width, panel):
    """panel[r * width + i] = matrix[row0 + r, column + i] for i < n_columns, and zero up to the width."""
    n_lanes = lanes(panel)
    whole = n_columns - n_columns % n_lanes
    for r in range(n_rows):
        source, target = (row0 + r) * pitch + column, r * width
        for i in range(0, whole, n_lanes):
            store(panel, target + i, load(matrix, source + i))
        if whole < width:
            store(panel, target + whole, load_partial(matrix, source + whole, n_columns - whole))


@kernel
def readout(features, weight, bias, begin, end, identity, panel, block, outputs):
    """Write rows `begin` to `end` of features @ weight.T + bias to `outputs`."""
    n_features = features.shape[1]
    n_outputs = weight.shape[0]
    x, w, y = features.reshape(-1), weight.reshape(-1), outputs.reshape(-1)
    zero = panel.dtype.type(0)
    n_lanes = lanes(panel)
    for first in range(begin, end, _BLOCK_ROWS):
        n_rows = min(_BLOCK_ROWS, end - first)
        for k in range(0, n_outputs, PANEL_VECTORS * n_lanes):
            n_own = min(PANEL_VECTORS * n_lanes, n_outputs - k)
            width = _whole_vectors(n_own, n_lanes)
            # The last vector of a row may be a part of one, which a tile cannot write.
            direct = n_own == width
            if direct:
                start, start0, start_pitch, target, target0, pitch = bias, k, 0, y, first * n_outputs + k, n_outputs
            else:
                for i in range(n_own):
                    block[i] = bias[k + i]
                for i in range(n_own, width):
                    block[i] = zero
                start, start0, start_pitch, target, target0, pitch = block, 0, 0, block, width, width
            for j in range(0, n_features, _BLOCK_DEPTH):
                depth = min(_BLOCK_DEPTH, n_features - j)
                if not direct:
                    panel[: depth * width] = zero
                for i in range(0, n_own, n_lanes):
                    source, count = (k + i) * n_features + j, min(n_lanes, n_own - i)
                    transpose_into(w, source, identity, 0, count, n_features, depth, panel, i, width)
                multiply(
                    x,
                    first * n_features + j,
                    identity,
                    0,
                    n_rows,
                    n_features,
                    panel,
                    0,
                    depth,
                    width,
                    start,
                    start0,
                    start_pitch,
                    target,
                    target0,
                    pitch,
                )
                start, start0, start_pitch = target, target0, pitch
            if not direct:
                for row in range(n_rows):
                    for i in range(n_own):
                        outputs[first + row, k + i] = block[(row + 1) * width + i]


@kernel
def readout_input_adjoint(d_outputs, weight, begin, end, is_first, identity, panel, block, d_features):
    """Write rows `begin` to `end` of d_outputs @ weight to `d_features`, or add them, unless is_first."""
    n_outputs, n_features = weight.shape
    d, w, d_x = d_outputs.reshape(-1), weight.reshape(-1), d_features.reshape(-1)
    zero = panel.dtype.type(0)
    n_lanes = lanes(panel)
    for first in range(begin, end, _BLOCK_ROWS):
        n_rows = min(_BLOCK_ROWS, end - first)
        for j in range(0, n_features, PANEL_VECTORS * n_lanes):
            n_own = min(PANEL_VECTORS * n_lanes, n_features - j)
            width = _whole_vectors(n_own, n_lanes)
            block[:width] = zero
            start, start0, start_pitch, target, target0, pitch = block, 0, 0, block, width, width
            if n_own == width:
                target, target0, pitch = d_x, first * n_features + j, n_features
            if not is_first:
                if n_own < width:
                    for row in range(n_rows):
                        for i in range(n_own):
                            block[(row + 1) * width + i] = d_features[first + row, j + i]
                start, start0, start_pitch = target, target0, pitch
            for k in range(0, n_outputs, _BLOCK_DEPTH):
                depth = min(_BLOCK_DEPTH, n_outputs - k)
                _pack(w, k, depth, n_features, j, n_own, width, panel)
                multiply(
                    d,
                    first * n_outputs + k,
                    identity,
                    0,
                    n_rows,
                    n_outputs,
                    panel,
                    0,
                    depth,
                    width,
                    start,
                    start0,
                    start_pitch,
                    target,
                    target0,
                    pitch,
                )
                start, start0, start_pitch = target, target0, pitch
            if n_own < width:
                for row in range(n_rows):
                    for i in range(n_own):
                        d_features[first + row, j + i] = block[(row + 1) * width + i]


@kernel
def readout_weight_adjoint(d_outputs, features, begin, end, identity, panel, block, product, d_weight, d_bias):
    """Add outputs `begin` to `end` of d_outputs.T @ features to `d_weight`, and sums over rows to `d_bias`."""
    n_all, n_features = features.shape
    n_outputs = d_outputs.shape[1]
    d, x, d_w = d_outputs.reshape(-1), features.reshape(-1), d_weight.reshape(-1)
    zero = panel.dtype.type(0)
    n_lanes = lanes(panel)
    for first in range(0, n_all, SUM_ROWS):
        n_rows = min(SUM_ROWS, n_all - first)
        for k in range(begin, end, SUM_COLUMNS):
            n_k = min(SUM_COLUMNS, end - k)
            transpose_into(d, first * n_outputs + k, identity, 0, n_rows, n_outputs, n_k, block, 0, SUM_PITCH)
            for i in range(n_k):
                at, whole = i * SUM_PITCH, n_rows - n_rows % n_lanes
                sums = zeros_like(load(block, at))
                for r in range(0, whole, n_lanes):
                    sums = sums + load(block, at + r)
                store(product, 0, sums)
                # Float64: over many rows the digits of a float32 sum would be lost.
                total = 0.0
                for lane in range(n_lanes):
                    total += np.float64(product[lane])
                for r in range(whole, n_rows):
                    total += np.float64(block[at + r])
                d_bias[k + i] += total
            for j in range(0, n_features, PANEL_VECTORS * n_lanes):
                n_own = min(PANEL_VECTORS * n_lanes, n_features - j)
                width = _whole_vectors(n_own, n_lanes)
                _pack(x, first, n_rows, n_features, j, n_own, width, panel)
                product[: n_k * width] = zero
                multiply(
                    block,
                    0,
                    identity,
                    0,
                    n_k,
                    SUM_PITCH,
                    panel,
                    0,
                    n_rows,
                    width,
                    product,
                    0,
                    width,
                    product,
                    0,
                    width,
                )
                n_whole = n_own - n_own % n_lanes
                for i in range(n_k):
                    source, target = i * width, (k + i) * n_features + j
                    for m in range(0, n_whole, n_lanes):
                        store(d_w, target + m, load(d_w, target + m) + load(product, source + m))
                    for m in range(n_whole, n_own):
                        d_w[target + m] += product[source + m]
