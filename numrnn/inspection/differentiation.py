"""Outputs of a network and their gradient by everything before them, in float64.

In float32 a gradient that vanishes over a few hundred time steps is soon below the smallest number there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.inspection.recurrence import Recurrence, Trace, starts_of

__all__ = ["Differentiation", "Pass", "back_through_layers", "through_layers"]


@dataclass
class Pass:
    """What a forward pass leaves for the backward pass."""

    lengths: NDArray[np.int64]
    # Of each layer: its inputs, and the traces of its directions.
    inputs: list[NDArray]
    traces: list[list[Trace]]
    top: NDArray
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

    Parameters
    ----------
    network : Network
    """

    def __init__(self, network: Any) -> None:
        self.network = network.with_dtype("float64")
        self.recurrence = Recurrence(self.network.stack, self.network.parameters, np.float64)

    def forward(self, values: NDArray[np.float64], lengths: NDArray[np.int64], *, gates: bool = False) -> Pass:
        """Run over sequences; the outputs have a row for each of them, or for each time step without pooling."""
        inputs, traces, top = through_layers(self.recurrence, values, lengths, gates=gates)
        parameters = self.network.parameters
        outputs = self._pool(top, lengths) @ parameters["weight_out"].T + parameters["bias_out"]
        return Pass(lengths, inputs, traces, top, outputs)

    def backward(
        self, run: Pass, d_outputs: NDArray[np.float64], norms: Sequence[Sequence[dict[str, NDArray]]] | None = None
    ) -> NDArray[np.float64]:
        """Gradient of the input, from that of the outputs; see `back_through_layers`."""
        d_top = self._pool_backward(run, d_outputs @ self.network.parameters["weight_out"])
        return back_through_layers(self.recurrence, run.inputs, run.traces, run.lengths, d_top, norms)

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
