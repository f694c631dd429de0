"""Recurrent layers whose input at every step contains what the attention found at the step before, on the device."""

from __future__ import annotations

from typing import Any

import numpy as np

from numrnn.cuda.batches import Plan
from numrnn.cuda.cross_attention import CrossAttention
from numrnn.cuda.layer import DeviceLayer, no_mask
from numrnn.cuda.projection import DeviceProjection
from numrnn.cuda.stepwise import StepByStep
from numrnn.direction import Dropout
from numrnn.kernels.cuda.arrays import DeviceArrays, add_columns, gather_rows
from numrnn.kernels.cuda.dropout import dropout
from numrnn.kernels.cuda.matrices import multiply

__all__ = ["Feeding"]


class Feeding(StepByStep):
    """All layers and the attention together, time step after time step, launched by the host.

    Parameters
    ----------
    layers : list of DeviceLayer
    context : DeviceProjection
        From a context into the pre-activations of the first layer.
    attention : CrossAttention
    dtype : dtype
    arrays : DeviceArrays
    queue

    Attributes
    ----------
    step_bytes : int
        Memory for each time step of a batch in training.
    """

    def __init__(
        self,
        layers: list[DeviceLayer],
        context: DeviceProjection,
        attention: CrossAttention,
        dtype: np.dtype,
        arrays: DeviceArrays,
        queue: Any,
    ) -> None:
        super().__init__(dtype, False, arrays, queue)
        self.layers = layers
        self.context = context
        self.attention = attention
        kept = sum(one.slots + (one.cell.n_states + 2) * one.size + 3 * one.gates for one in layers)
        self.step_bytes = dtype.itemsize * kept

    def through(
        self,
        inputs: Any,
        plan: Plan,
        parameters: Any,
        initials: list[tuple[Any, int]],
        between: Dropout | None,
        training: bool,
    ) -> Any:
        """Forward through all steps; the hidden states of the top layer.

        Parameters
        ----------
        inputs : device array
            (n_rows * input_size,), packed rows.
        plan, parameters, training
            As for `DeviceStack.forward`.
        initials : list of (device array, int)
            The first states of each layer.
        between : Dropout or None
            Of what the layers but the top one put out.
        """
        queue, arrays, layers = self._queue, self._arrays, self.layers
        n, n_rows, size_of_context = plan.n_sequences, plan.n_rows, self.attention.context_size
        z_inputs = self._of_layers("input gates", n_rows, [one.gates for one in layers])
        z_hidden = self._of_layers("hidden gates", n, [one.gates for one in layers])
        self._outputs = outputs = self._of_layers("outputs of layer", n_rows, [one.size for one in layers])
        self._inputs, self._between = inputs, between
        one = layers[0]
        multiply(
            queue, arrays, (inputs, 0, False), (parameters, one.weight_ih, True), (z_inputs[0], 0),
            (n_rows, one.gates, one.input_size),
        )  # fmt: skip
        states = [self._states("state", number, n) for number in range(len(layers))]
        for one, own, initial in zip(layers, states, initials, strict=True):
            self._begin_states(own, initial, n, one.size, plan)
        no_numbers, nothing = no_mask(self.dtype), arrays.zeros("nothing", 0, np.int64, queue)
        kept = [self._kept(one, n_rows, training) for one in layers]
        previous = 0
        for first, alive in self._steps(layers[0], plan):
            for number, one in enumerate(layers):
                z = z_inputs[number]
                if number:
                    multiply(
                        queue, arrays, (outputs[number - 1], first * one.input_size, False),
                        (parameters, one.weight_ih, True), (z, first * one.gates), (alive, one.gates, one.input_size),
                    )  # fmt: skip
                elif first:
                    contexts = self.attention.contexts, previous * size_of_context, size_of_context
                    self.context.add(parameters, contexts, alive, (z, first * one.gates, one.gates))
                h, c = states[number][0], states[number][-1]
                before_h, before_c, before_seen, gates = kept[number]
                multiply(
                    queue, arrays, (h, 0, False), (parameters, one.weight_hh, True), (z_hidden[number], 0),
                    (alive, one.gates, one.size),
                )  # fmt: skip
                one.kernels.go_forward(
                    queue, alive, z, z_hidden[number], parameters, one.bias_ih, one.bias_hh, first, alive, one.size,
                    plan.order, h, c, h, before_h, before_c, before_seen, gates, outputs[number], one.size, 0, False,
                    *no_numbers,
                )  # fmt: skip
                if between is not None and number < len(layers) - 1:
                    own = outputs[number]
                    dropout(queue, own, own, alive, one.size, nothing, *between.mask(number, self.dtype), first=first)
            self.attention.attend(parameters, outputs[-1], first, alive)
            previous = first
        return outputs[-1]

    def back(self, plan: Plan, parameters: Any, d_top: Any, gradient: Any) -> tuple[Any, list[tuple[Any, int]]]:
        """Back through all steps, after the forward pass in training.

        Parameters
        ----------
        d_top : device array
            Gradient of the top layer's hidden states from outside; becomes the whole one, as do the attention's
            `d_contexts`.

        Returns
        -------
        d_inputs : device array
        d_initial : list of (device array, int)
        """
        queue, arrays, layers, attention = self._queue, self._arrays, self.layers, self.attention
        n, n_rows, size_of_context = plan.n_sequences, plan.n_rows, attention.context_size
        d_outputs = [*self._of_layers("d outputs of layer", n_rows, [one.size for one in layers[:-1]]), d_top]
        d_inputs = self._of_layers("d input gates", n_rows, [one.gates for one in layers])
        d_hidden = [
            arrays.at_least(("d hidden gates", number), n_rows * one.gates, self.dtype)
            if one.has_own_hidden
            else d_inputs[number]
            for number, one in enumerate(layers)
        ]
        kept = [self._kept(one, n_rows, True) for one in layers]
        d_states = [self._states("d state", number, n) for number in range(len(layers))]
        for one, own in zip(layers, d_states, strict=True):
            self._begin_states(own, None, n, one.size, plan)
        nothing = arrays.zeros("nothing", 0, np.int64, queue)
        steps = self._steps(layers[0], plan)
        for t in range(len(steps) - 1, -1, -1):
            first, alive = steps[t]
            attention.backward(parameters, d_top, t, 1)
            for number in range(len(layers) - 1, -1, -1):
                one, (before_h, before_c, _, gates) = layers[number], kept[number]
                d_h, d_c = d_states[number][0], d_states[number][-1]
                own = d_inputs[number]
                one.kernels.go_backward(
                    queue, alive, gates, before_h, before_c, d_outputs[number], one.size, 0, first, alive, one.size,
                    d_h, d_c, own, d_hidden[number],
                )  # fmt: skip
                multiply(
                    queue, arrays, (d_hidden[number], first * one.gates, False), (parameters, one.weight_hh, False),
                    (d_h, 0), (alive, one.size, one.gates), accumulate=True,
                )  # fmt: skip
                if number:
                    below = d_outputs[number - 1]
                    multiply(
                        queue, arrays, (own, first * one.gates, False), (parameters, one.weight_ih, False),
                        (below, first * one.input_size), (alive, one.input_size, one.gates),
                    )  # fmt: skip
                    if self._between is not None:
                        mask = self._between.mask(number - 1, self.dtype)
                        dropout(queue, below, below, alive, one.input_size, nothing, *mask, first=first)
                elif t:
                    d_contexts = attention.d_contexts, steps[t - 1][0] * size_of_context, size_of_context
                    d_z = own, first * one.gates, one.gates
                    self.context.input_gradient(parameters, d_z, alive, d_contexts, add=True)
        self._add_weight_gradients(plan, d_inputs, d_hidden, [own[0] for own in kept], gradient)
        one = layers[0]
        d_given = arrays.at_least("d inputs", n_rows * one.input_size, self.dtype)
        multiply(
            queue, arrays, (d_inputs[0], 0, False), (parameters, one.weight_ih, False), (d_given, 0),
            (n_rows, one.input_size, one.gates),
        )  # fmt: skip
        d_initial = []
        for number, (one, own_states) in enumerate(zip(layers, d_states, strict=True)):
            initial = arrays.at_least(("d initial", number), n * len(own_states) * one.size, self.dtype)
            self._end_states(own_states, initial, n, one.size, plan)
            d_initial.append((initial, 0))
        return d_given, d_initial

    def _add_weight_gradients(
        self, plan: Plan, d_inputs: list[Any], d_hidden: list[Any], before: list[Any], gradient: Any
    ) -> None:
        """Products of all steps together."""
        queue, arrays, n_rows = self._queue, self._arrays, plan.n_rows
        for number, one in enumerate(self.layers):
            x = self._outputs[number - 1] if number else self._inputs
            for d_z, read, width, weight in (
                (d_inputs[number], x, one.input_size, one.weight_ih),
                (d_hidden[number], before[number], one.size, one.weight_hh),
            ):
                multiply(
                    queue, arrays, (d_z, 0, True), (read, 0, False), (gradient, weight), (one.gates, width, n_rows),
                    accumulate=True,
                )  # fmt: skip
            add_columns(queue, d_inputs[number], n_rows, one.gates, gradient, one.bias_ih)
            add_columns(queue, d_hidden[number], n_rows, one.gates, gradient, one.bias_hh)
        # Where each row after the first step finds the context that it has read.
        offsets = plan.packing.offsets
        if plan.n_timesteps < 2:
            return
        count, size = int(offsets[1]), self.attention.context_size
        alive = np.diff(offsets)
        rows = np.arange(count, n_rows, dtype=np.int64) - np.repeat(alive[:-1], alive[1:])
        table = arrays.put("rows of contexts", rows, queue)
        contexts = arrays.at_least("contexts before", len(rows) * size, self.dtype)
        gather_rows(queue, self.attention.contexts, contexts, len(rows), size, table)
        gates = self.layers[0].gates
        self.context.weight_gradient((d_inputs[0], count * gates, gates), len(rows), (contexts, 0, size), gradient)

    def _of_layers(self, purpose: str, n_rows: int, widths: list[int]) -> list[Any]:
        arrays = self._arrays
        return [arrays.at_least((purpose, i), n_rows * width, self.dtype) for i, width in enumerate(widths)]

    def _states(self, purpose: str, number: int, n: int) -> list[Any]:
        one = self.layers[number]
        size = n * one.size
        return [self._arrays.at_least((purpose, number, s), size, self.dtype) for s in range(one.cell.n_states)]
