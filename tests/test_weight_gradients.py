"""Gradients of weights from those of pre-activations, and packing for the way back: kernels beside plain products."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from numrnn.kernels.cpu.gradients import weight_gradient_scratch, weight_gradients
from numrnn.kernels.cpu.matmul import pack_rows
from numrnn.kernels.jit import COMPILED
from numrnn.kernels.simd import PANEL_VECTORS, lane_count

# Gates of the slots that the input fills, and of those of the hidden state, as in an LSTM and in a GRU.
GATES = {"lstm": ((0, 1, 2, 3), (0, 1, 2, 3)), "gru": ((2, 0, 1), (0, 1, 2))}
# Rows, units, inputs: one, vectors and tiles that are not full, more than one block of rows and of columns, no inputs.
SIZES = [
    (1, 1, 1),
    (7, 5, 3),
    (3, 16, 16),
    (5, 150, 20),
    (2, 33, 70),
    *([(390, 9, 0), (770, 140, 2)] if COMPILED else []),
]


def read_only(array):
    array = array.reshape(-1).copy()
    array.flags.writeable = False
    return array


class Problem:
    """Numbers between garbage: what is padding is NaN."""

    def __init__(self, cell, n_rows, hidden_size, input_size, dtype):
        rng = np.random.default_rng(n_rows)
        self.lanes = lane_count(dtype)
        self.padded = -(-hidden_size // self.lanes) * self.lanes
        self.input_gates, self.hidden_gates = (np.array(gates, dtype=np.int64) for gates in GATES[cell])
        self.n_rows, self.hidden_size, self.input_size, self.dtype = n_rows, hidden_size, input_size, dtype
        self.d_z = np.full((n_rows, 4, self.padded), np.nan, dtype)
        self.d_z[:, :, :hidden_size] = rng.standard_normal((n_rows, 4, hidden_size))
        self.x = rng.standard_normal((n_rows, input_size)).astype(dtype)
        self.x_rows = rng.permutation(n_rows).astype(np.int64)
        self.h = np.full((n_rows, self.padded), np.nan, dtype)
        self.h[:, :hidden_size] = rng.standard_normal((n_rows, hidden_size))

    def gradients(self, bounds):
        """Added to ones, in parts."""
        rows = (max(self.hidden_gates) + 1) * self.hidden_size
        shapes = ((rows, self.input_size), (rows,), (rows, self.hidden_size), (rows,))
        d_weight_ih, d_bias_ih, d_weight_hh, d_bias_hh = results = [np.ones(shape, self.dtype) for shape in shapes]
        scratch = [np.full(size, np.nan, self.dtype) for size in weight_gradient_scratch(self.lanes)]
        for begin, end in pairwise(bounds):
            weight_gradients(
                self.d_z.reshape(-1), self.n_rows, 4 * self.padded, self.padded, self.hidden_size, begin, end,
                np.arange(1024), self.input_gates, read_only(self.x), self.x_rows, self.input_size,
                d_weight_ih, d_bias_ih, self.hidden_gates, read_only(self.h), self.padded, d_weight_hh, d_bias_hh,
                *scratch,
            )  # fmt: skip
        return results

    def expected(self):
        size, d_z = self.hidden_size, self.d_z[:, :, : self.hidden_size].astype(np.float64)
        results = []
        first = 4 - len(self.hidden_gates)
        for gates, slots, read in (
            (self.input_gates, d_z[:, : len(self.input_gates)], self.x[self.x_rows]),
            (self.hidden_gates, d_z[:, first:], self.h[:, :size]),
        ):
            by_gate = d_z[:, : len(gates)].copy()
            by_gate[:, gates] = slots
            by_gate = by_gate.reshape(self.n_rows, -1)
            results += [1 + by_gate.T @ read, 1 + by_gate.sum(axis=0)]
        return results


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", GATES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_weight_gradients(cell, size, dtype):
    problem = Problem(cell, *size, np.dtype(dtype))
    total = 4 * problem.hidden_size
    whole = problem.gradients([0, total])
    for ours, expected in zip(whole, problem.expected(), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=2e-3 if dtype == "float32" else 1e-11)
    # However they are divided, to the last bit.
    parts = problem.gradients([0, min(6, total), total // 3, total // 3, total] if total > 18 else [0, 1, total])
    for ours, again in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(ours, again)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("begin", [0, 2])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_rows_are_packed_panel_by_panel(size, begin, dtype):
    problem = Problem("gru", *size, np.dtype(dtype))
    hidden_size, padded, lanes, gates = problem.hidden_size, problem.padded, problem.lanes, problem.input_gates
    weight = np.random.default_rng(0).standard_normal((3 * hidden_size, problem.input_size + 3)).astype(dtype)
    n_own = weight.shape[1] - begin
    columns = -(-n_own // lanes) * lanes
    panels = np.zeros(len(gates) * padded * columns, dtype)
    pack_rows(weight, gates, hidden_size, padded, begin, columns, panels)
    matrix = np.zeros((len(gates), padded, columns), dtype)
    matrix[:, :hidden_size, :n_own] = weight.reshape(3, hidden_size, -1)[gates, :, begin:]
    step = PANEL_VECTORS * lanes
    expected = [matrix.reshape(-1, columns)[:, first : first + step].reshape(-1) for first in range(0, columns, step)]
    np.testing.assert_array_equal(panels, np.concatenate(expected))
