"""The products of a dense readout, divided among threads."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numrnn.kernels.cpu.readout import (
    IDENTITY_ROWS,
    readout,
    readout_input_adjoint,
    readout_weight_adjoint,
    scratch_sizes,
)
from numrnn.kernels.simd import lane_count
from numrnn.workers import Workers

__all__ = ["Readout", "Weights"]


class Weights(NamedTuple):
    """Weight (n_outputs, n_features) and bias (n_outputs,) of a readout, or their gradients; C-contiguous."""

    weight: NDArray
    bias: NDArray

    def part(self, outputs: slice) -> Weights:
        """Those of some consecutive outputs; nothing is copied."""
        return Weights(self.weight[outputs], self.bias[outputs])


class Readout:
    """``outputs = features @ weight.T + bias`` and its gradients, with the scratch that the kernels want.

    The methods that take a range of rows are for one thread; the others divide the work.

    Parameters
    ----------
    dtype : dtype
    workers : Workers
    """

    def __init__(self, dtype: DTypeLike, workers: Workers) -> None:
        self.dtype = np.dtype(dtype)
        self.workers = workers
        self._identity = np.arange(IDENTITY_ROWS, dtype=np.int64)
        # Of threads that are done; panel, block and product of the kernels.
        self._scratch: list[tuple[NDArray, NDArray, NDArray]] = []

    def _take_scratch(self) -> tuple[NDArray, NDArray, NDArray]:
        try:
            return self._scratch.pop()
        except IndexError:
            panel, block, product = scratch_sizes(lane_count(self.dtype))
            return np.zeros(panel, self.dtype), np.zeros(block, self.dtype), np.zeros(product, self.dtype)

    def outputs_of_rows(self, features: NDArray, weights: Weights, outputs: NDArray) -> None:
        """Write outputs (n_rows, n_outputs) of features (n_rows, n_features)."""
        scratch = self._take_scratch()
        readout(features, *weights, 0, len(features), self._identity, *scratch[:2], outputs)
        self._scratch.append(scratch)

    def features_gradient_of_rows(
        self, d_outputs: NDArray, weights: Weights, d_features: NDArray, *, add: bool = False
    ) -> None:
        """Write, or add, the gradient of the features (n_rows, n_features)."""
        scratch = self._take_scratch()
        arguments = (d_outputs, weights.weight, 0, len(d_outputs), not add, self._identity)
        readout_input_adjoint(*arguments, *scratch[:2], d_features)
        self._scratch.append(scratch)

    def outputs(self, features: NDArray, weights: Weights) -> NDArray:
        """Outputs (n_rows, n_outputs) of features (n_rows, n_features)."""
        outputs = np.empty((len(features), len(weights.weight)), dtype=self.dtype)

        def rows(begin: int, end: int) -> None:
            self.outputs_of_rows(features[begin:end], weights, outputs[begin:end])

        self.workers.divide(len(features), 2 * features.size * len(weights.weight), rows)
        return outputs

    def features_gradient(self, d_outputs: NDArray, weights: Weights) -> NDArray:
        """Gradient of the features (n_rows, n_features) from that of the outputs."""
        d_features = np.empty((len(d_outputs), weights.weight.shape[1]), dtype=self.dtype)

        def rows(begin: int, end: int) -> None:
            self.features_gradient_of_rows(d_outputs[begin:end], weights, d_features[begin:end])

        self.workers.divide(len(d_outputs), 2 * len(d_outputs) * weights.weight.size, rows)
        return d_features

    def weights_gradient(self, features: NDArray, d_outputs: NDArray, gradient: Weights) -> None:
        """Add the gradients of weight and bias: sums over the rows in their order, whatever the threads."""

        def outputs(begin: int, end: int) -> None:
            scratch = self._take_scratch()
            readout_weight_adjoint(d_outputs, features, begin, end, self._identity, *scratch, *gradient)
            self._scratch.append(scratch)

        self.workers.divide(d_outputs.shape[1], 2 * len(features) * gradient.weight.size, outputs)
