"""Pooling over time on the device: from the outputs of all time steps to features of sequences, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from numrnn.cuda.batches import Plan
from numrnn.kernels.cuda.arrays import DeviceArrays, add_columns, clear, spread
from numrnn.kernels.cuda.attention import attend, attend_adjoint
from numrnn.kernels.cuda.matrices import multiply
from numrnn.kernels.cuda.pooling import (
    pool_last,
    pool_last_adjoint,
    pool_max,
    pool_max_adjoint,
    pool_mean,
    pool_mean_adjoint,
)
from numrnn.network import Network

__all__ = ["AttentionOnDevice", "Pooling"]


class Pooling:
    """Features of sequences from the outputs of their time steps: "last", "mean" or "max".

    Sequences may be read in several windows of time, one after the other: `begin`, `add` for every window, `features`;
    and for the way back `gradient` for every window.

    Parameters
    ----------
    kind : {"last", "mean", "max"}
    network : Network
    arrays : DeviceArrays
    queue
    """

    def __init__(self, kind: str, network: Network, arrays: DeviceArrays, queue: Any) -> None:
        self.kind = kind
        self.size = network.stack.output_size
        self.n_forward = network.hidden_sizes[-1]
        self.dtype = network.dtype
        self._arrays = arrays
        self._queue = queue

    def begin(self, lengths: Any) -> None:
        """A new batch, of sequences of these lengths."""
        count = len(lengths) * self.size
        self.features = self._arrays.at_least("pooled", count, self.dtype)
        self._lengths = self._arrays.put("lengths of sequences", lengths, self._queue)
        clear(self._queue, self.features, 0, count)
        if self.kind == "max":
            self._winners = self._arrays.at_least("winners", count, np.int64)
            clear(self._queue, self._winners, 0, count)

    def add(self, outputs: Any, plan: Plan, first: int) -> None:
        """The outputs of a window that begins with time step `first`."""
        queue, n = self._queue, plan.n_sequences
        if self.kind == "last":
            pool_last(queue, outputs, self.size, self.n_forward, plan.offsets, plan.steps, plan.order, n, self.features)
        elif self.kind == "mean":
            pool_mean(queue, outputs, self.size, plan.offsets, plan.steps, self._lengths, plan.order, n, self.features)
        else:
            pool_max(
                queue, outputs, self.size, plan.offsets, plan.steps, plan.order, n, first, self.features, self._winners
            )

    def gradient(self, d_features: Any, plan: Plan, first: int) -> Any:
        """The gradient of the outputs of a window."""
        queue, n, size = self._queue, plan.n_sequences, self.size
        d_outputs = self._arrays.at_least("d outputs of steps", plan.n_rows * size, self.dtype)
        if self.kind == "last":
            pool_last_adjoint(
                queue, d_features, size, self.n_forward, plan.offsets, plan.steps, plan.order, n, d_outputs
            )
        elif self.kind == "mean":
            pool_mean_adjoint(
                queue, d_features, size, plan.offsets, plan.steps, self._lengths, plan.order, n, d_outputs
            )
        else:
            pool_max_adjoint(
                queue, d_features, size, plan.offsets, plan.steps, plan.order, n, first, self._winners, d_outputs
            )
        return d_outputs


class AttentionOnDevice:
    """Additive attention, see `numrnn.attention`, over the outputs of whole sequences.

    Parameters
    ----------
    network : Network
    arrays : DeviceArrays
    queue
    """

    def __init__(self, network: Network, arrays: DeviceArrays, queue: Any) -> None:
        attention = network.trunk.attention
        assert attention is not None
        self.size = attention.input_size
        self.n_units = attention.attention_size
        self.dtype = network.dtype
        self._arrays = arrays
        self._queue = queue
        names = network.parameters
        self._weight = names.span("attention_weight").start
        self._bias = names.span("attention_bias").start
        self._vector = names.span("attention_vector")

    @property
    def row_bytes(self) -> int:
        """Bytes for a time step."""
        return (self.n_units + 2) * self.dtype.itemsize

    def forward(self, parameters: Any, hidden: Any, plan: Plan) -> Any:
        """Pooled outputs, by number of the sequence; `weights` are those of the packed rows."""
        arrays, queue, dtype = self._arrays, self._queue, self.dtype
        projected = arrays.at_least("attention units", plan.n_rows * self.n_units, dtype)
        spread(queue, parameters, self._bias, self.n_units, projected, plan.n_rows)
        multiply(
            queue, arrays, (hidden, 0, False), (parameters, self._weight, True), (projected, 0),
            (plan.n_rows, self.n_units, self.size), accumulate=True,
        )  # fmt: skip
        self.weights = arrays.at_least("attention weights", plan.n_rows, dtype)
        pooled = arrays.at_least("pooled", plan.n_sequences * self.size, dtype)
        attend(
            queue, hidden, plan.n_rows, self.size, self.n_units, plan.offsets, plan.steps, plan.order,
            plan.n_sequences, parameters[self._vector], projected, self.weights, pooled,
        )  # fmt: skip
        self._projected = projected
        return pooled

    def backward(self, parameters: Any, hidden: Any, plan: Plan, d_pooled: Any, gradient: Any) -> Any:
        """The gradient of the outputs; those of the parameters are added to the flat vector `gradient`."""
        arrays, queue, dtype = self._arrays, self._queue, self.dtype
        n_rows, n, size, n_units = plan.n_rows, plan.n_sequences, self.size, self.n_units
        d_hidden = arrays.at_least("d outputs of steps", n_rows * size, dtype)
        d_vector = arrays.at_least("d attention vector", n * n_units, dtype)
        attend_adjoint(
            queue, hidden, n_rows, size, n_units, plan.offsets, plan.steps, plan.order, plan.owner, n,
            parameters[self._vector], self.weights, d_pooled, arrays.at_least("d attention weights", n_rows, dtype),
            self._projected, d_vector, d_hidden,
        )  # fmt: skip
        d_projected = self._projected
        multiply(
            queue, arrays, (d_projected, 0, False), (parameters, self._weight, False), (d_hidden, 0),
            (n_rows, size, n_units), accumulate=True,
        )  # fmt: skip
        multiply(
            queue, arrays, (d_projected, 0, True), (hidden, 0, False), (gradient, self._weight),
            (n_units, size, n_rows), accumulate=True,
        )  # fmt: skip
        add_columns(queue, d_projected, n_rows, n_units, gradient, self._bias)
        add_columns(queue, d_vector, n, n_units, gradient, self._vector.start)
        return d_hidden
