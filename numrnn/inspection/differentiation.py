"""Outputs of a network and their gradient by everything before them, in float64.

In float32 a gradient that vanishes over a few hundred time steps is soon below the smallest number there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.attention import AttentionPass
from numrnn.inspection.recurrence import Recurrence, Trace, starts_of
from numrnn.packing import Sequences
from numrnn.stages import StagePass

__all__ = ["Differentiation", "Pass", "back_through_layers", "through_layers"]


@dataclass
class Pass:
    """What a forward pass leaves for the backward pass."""

    # Of the recurrent layers.
    lengths: NDArray[np.int64]
    stages: list[StagePass]
    # Of each layer: its inputs, and the traces of its directions.
    inputs: list[NDArray]
    traces: list[list[Trace]]
    top: NDArray
    attention: AttentionPass | None
    features: NDArray
    outputs: NDArray


def through_layers(
    recurrence: Recurrence, values: NDArray, lengths: NDArray[np.int64], *, gates: bool = False
) -> tuple[list[NDArray], list[list[Trace]], NDArray]:
    """Run all layers: the inputs and the traces of each, and the outputs of the top one."""
    inputs, all_traces = [], []
    for number, layer in enumerate(recurrence.layers):
        inputs.append(values)
        traces = [one.trace(values, lengths, states=True, gates=gates) for one in layer]
        all_traces.append(traces)
        values = recurrence.outputs(number, traces, values)
    return inputs, all_traces, values


def back_through_layers(
    recurrence: Recurrence,
    inputs: list[NDArray],
    all_traces: list[list[Trace]],
    lengths: NDArray[np.int64],
    d_top: NDArray,
    norms: Sequence[Sequence[dict[str, NDArray]]] | None = None,
) -> NDArray:
    """Gradient of the input of the first layer.

    Parameters
    ----------
    recurrence, lengths
        As for `through_layers`.
    inputs, all_traces
        What it returned.
    d_top : ndarray of shape (n_steps, output size)
        Gradient of the outputs of the top layer.
    norms : sequence of sequence of dict, default=None
        For each layer and direction, where to write the norms of the gradients of the states.
    """
    d_outputs = d_top
    for number in reversed(range(len(recurrence.layers))):
        d_inputs = d_outputs.copy() if recurrence.is_residual(number) else np.zeros_like(inputs[number])
        for direction, one in enumerate(recurrence.layers[number]):
            d_inputs += one.backward(
                inputs[number],
                lengths,
                all_traces[number][direction],
                d_outputs[:, recurrence.columns(number, direction)],
                None if norms is None else norms[number][direction],
            )
        d_outputs = d_inputs
    return d_outputs


class Differentiation:
    """A network in float64 whose backward pass reaches its input.

    The input is that of the network, but with vectors in the place of ids: a function of ids has no gradient.

    Parameters
    ----------
    network : Network
    """

    def __init__(self, network: Any) -> None:
        self.network = network.with_dtype("float64")
        trunk = self.network.trunk
        self.recurrence = Recurrence(self.network.stack, self.network.parameters, np.float64)
        self._embedding = trunk.embedding
        self._stages = trunk.stages if self._embedding is None else trunk.stages[1:]
        self._attention = trunk.attention

    def embed(self, sequences: Sequences) -> NDArray[np.float64]:
        """The input, sequence after sequence, with vectors in the place of ids."""
        values = sequences.values[sequences.rows()].astype(np.float64)
        if self._embedding is None:
            return values
        joined = Sequences(values, starts_of(sequences.lengths), sequences.lengths)
        return self._embedding.forward(self.network.parameters, joined, training=False).sequences.values

    def by_column(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums over what the columns of the input were embedded in."""
        embedding = self._embedding
        if embedding is None:
            return rows
        sums = np.empty((len(rows), embedding.input_size), dtype=rows.dtype)
        first = 0
        for column, _, dimension in embedding.tables:
            sums[:, column] = rows[:, first : first + dimension].sum(axis=1)
            first += dimension
        sums[:, embedding.numeric] = rows[:, first:]
        return sums

    def forward(self, values: NDArray[np.float64], lengths: NDArray[np.int64], *, gates: bool = False) -> Pass:
        """Run over sequences; the outputs have a row for each of them, or for each time step without pooling."""
        parameters, passes = self.network.parameters, []
        sequences = Sequences(np.ascontiguousarray(values), starts_of(lengths), lengths)
        for stage in self._stages:
            passes.append(stage.forward(parameters, sequences, training=True))
            sequences = passes[-1].sequences
        lengths = sequences.lengths
        inputs, traces, top = through_layers(self.recurrence, sequences.values, lengths, gates=gates)
        attention = None
        if self._attention is not None:
            attention = self._attention.forward(parameters, top, starts_of(lengths), lengths)
        features = np.ascontiguousarray(self._pool(top, lengths) if attention is None else attention.pooled)
        outputs = self.network.head.outputs(parameters, features)
        return Pass(lengths, passes, inputs, traces, top, attention, features, outputs)

    def gradient_of_loss(self, run: Pass, targets: NDArray) -> NDArray[np.float64]:
        """Gradient of the features by the loss of every row, or with a random field of every sequence."""
        weights = np.ones(len(targets), dtype=np.float64)
        _, d_features = self.network.head.loss(
            self.network.parameters, run.features, run.lengths, targets, weights, 1.0, self.network.gradient
        )
        assert d_features is not None
        return d_features

    def gradient_of_outputs(self, d_outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Gradient of the features by that of the outputs."""
        return self.network.head.features_gradient(self.network.parameters, np.ascontiguousarray(d_outputs))

    def backward(
        self,
        run: Pass,
        d_features: NDArray[np.float64],
        norms: Sequence[Sequence[dict[str, NDArray]]] | None = None,
    ) -> NDArray[np.float64]:
        """Gradient of the input, from that of the features; for `norms` see `back_through_layers`."""
        parameters, gradient = self.network.parameters, self.network.gradient
        if run.attention is not None and self._attention is not None:
            d_top = self._attention.backward(run.attention, parameters, d_features, gradient)
        else:
            d_top = self._pool_backward(run, d_features)
        d_values = back_through_layers(self.recurrence, run.inputs, run.traces, run.lengths, d_top, norms)
        for stage, passed in zip(reversed(self._stages), reversed(run.stages), strict=True):
            d_values = stage.backward(passed, parameters, np.ascontiguousarray(d_values), gradient, need_input=True)
        return d_values

    def _pool(self, top: NDArray, lengths: NDArray[np.int64]) -> NDArray:
        pooling, starts = self.network.pooling, starts_of(lengths)
        if pooling is None:
            return top
        if pooling == "last":
            forward = self.recurrence.hidden_sizes[-1]
            # The reverse direction ends where the sequence begins.
            return np.concatenate([top[starts + lengths - 1, :forward], top[starts, forward:]], axis=1)
        if pooling == "mean":
            return np.add.reduceat(top, starts, axis=0) / lengths[:, None]
        return np.maximum.reduceat(top, starts, axis=0)

    def _pool_backward(self, run: Pass, d_features: NDArray) -> NDArray:
        pooling, starts, lengths = self.network.pooling, starts_of(run.lengths), run.lengths
        if pooling is None:
            return d_features
        d_top = np.zeros_like(run.top)
        if pooling == "last":
            forward = self.recurrence.hidden_sizes[-1]
            d_top[starts + lengths - 1, :forward] = d_features[:, :forward]
            d_top[starts, forward:] += d_features[:, forward:]
        elif pooling == "mean":
            d_top[...] = np.repeat(d_features / lengths[:, None], lengths, axis=0)
        else:
            columns = np.arange(run.top.shape[1])
            for start, length, d_feature in zip(starts, lengths, d_features, strict=True):
                d_top[start + run.top[start : start + length].argmax(axis=0), columns] = d_feature
        return d_top
