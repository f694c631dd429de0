"""Recurrent layers on the device, step by step: for every cell, size and kind of batch.

All time steps go through the input weights in one product, and so do the gradients of the weights. Between the steps
of the recurrence the host launches a product with the recurrent weights and a kernel with the equations.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from numrnn.cuda.batches import Plan
from numrnn.direction import Direction, Dropout
from numrnn.kernels.cuda.arrays import DeviceArrays, add_columns, add_vector, clear, gather_rows, scatter_rows
from numrnn.kernels.cuda.dropout import dropout
from numrnn.kernels.cuda.matrices import multiply
from numrnn.kernels.cuda.steps import STEPS, begin_seen, mask_gradient
from numrnn.network import Network

__all__ = ["DeviceStack", "StackPass", "make_stack"]

# The states of each layer and direction: h, for an LSTM h and c, each (n_sequences * size,) in the caller's order.
States = list[tuple[Any, ...]]


@dataclass
class StackPass:
    """What one forward pass leaves behind.

    Attributes
    ----------
    output : device array
        (n_rows * output_size,), packed rows of the top layer.
    state : list of tuple of device arrays
        Final states; valid until the pass after the next one.
    """

    plan: Plan
    output: Any
    state: States
    inputs: list[Any]
    between: Dropout | None
    masks: dict[tuple[int, bool], tuple[Any, ...]]


class _Layer:
    """One layer in one direction: sizes, and where its parameters lie in the flat vector."""

    def __init__(self, direction: Direction, network: Network) -> None:
        self.direction = direction
        self.key = direction.key
        self.cell = direction.cell
        self.input_size = direction.input_size
        self.size = direction.hidden_size
        self.gates = self.cell.n_gates * self.size
        self.slots = self.cell.n_slots * self.size
        # A GRU has gradients of its own for what comes from the hidden state.
        self.has_own_hidden = self.cell.n_slots > self.cell.n_gates
        self.column = self.size if direction.reverse else 0
        self.kernels = STEPS[self.cell.name]
        names = network.parameters
        self.weight_ih = names.span(direction.weight_ih).start
        self.weight_hh = names.span(direction.weight_hh).start
        self.bias_ih = names.span(direction.bias_ih).start
        self.bias_hh = names.span(direction.bias_hh).start


class DeviceStack:
    """What `RecurrentStack` does, on the device.

    Parameters
    ----------
    network : Network
        On the host.
    arrays : DeviceArrays
    queue

    Attributes
    ----------
    step_bytes : int
        Memory for each time step of a batch in training.
    """

    def __init__(self, network: Network, arrays: DeviceArrays, queue: Any) -> None:
        self._stack = stack = network.stack
        self._arrays = arrays
        self._queue = queue
        self.dtype = network.dtype
        self._layers = [[_Layer(direction, network) for direction in layer] for layer in stack.directions]
        self._turn = 0
        kept = transient = 0
        for layer in self._layers:
            for one in layer:
                kept += one.slots + (one.cell.n_states + (stack.recurrent_dropout > 0)) * one.size
                transient = max(transient, 3 * one.gates)
            kept += len(layer) * layer[0].size + layer[0].input_size
        self.step_bytes = self.dtype.itemsize * (kept + transient)

    # ------------------------------------------------------------------------------------------------------- forward
    def forward(
        self,
        inputs: Any,
        plan: Plan,
        *,
        parameters: Any,
        state: States | None = None,
        training: bool = False,
        dropout_seed: int = 0,
    ) -> StackPass:
        """Run over a packed batch.

        Parameters
        ----------
        inputs : device array
            (n_rows * input_size,), packed rows; kept for `backward`, not copied.
        plan : Plan
        parameters : device array
            The flat vector.
        state, training, dropout_seed
            As for `RecurrentStack.forward`.
        """
        stack, arrays, queue, dtype = self._stack, self._arrays, self._queue, self.dtype
        run = StackPass(plan, inputs, [], [], None, {})
        if training and stack.dropout > 0:
            run.between = stack.dropout_of(dropout_seed)
        self._turn ^= 1
        top = len(self._layers) - 1
        place = 0
        for number, layer in enumerate(self._layers):
            width = len(layer) * layer[0].size
            run.inputs.append(inputs)
            outputs = arrays.at_least(("outputs of layer", number), plan.n_rows * width, dtype)
            for one in layer:
                mask = self._mask(one, dropout_seed) if training else None
                if mask is not None:
                    run.masks[one.key] = mask
                initial = None if state is None else state[place]
                run.state.append(self._walk(one, inputs, plan, parameters, initial, outputs, width, mask, training))
                place += 1
            if stack.is_residual(number):
                add_vector(queue, inputs, outputs, plan.n_rows * width)
            if run.between is not None and number < top:
                own = run.between.mask(number, dtype)
                dropout(queue, outputs, outputs, plan.n_rows, width, arrays.zeros("nothing", 0, np.int64, queue), *own)
            inputs = outputs
        run.output = inputs
        return run

    def _mask(self, one: _Layer, dropout_seed: int) -> tuple[Any, ...] | None:
        probability = self._stack.recurrent_dropout
        if not probability > 0:
            return None
        return Dropout(probability, dropout_seed).mask(one.direction.mask_stream, self.dtype)

    def _walk(
        self,
        one: _Layer,
        inputs: Any,
        plan: Plan,
        parameters: Any,
        initial: tuple[Any, ...] | None,
        outputs: Any,
        pitch: int,
        mask: tuple[Any, ...] | None,
        training: bool,
    ) -> tuple[Any, ...]:
        """One layer in one direction through all time steps: the final states."""
        arrays, queue, dtype = self._arrays, self._queue, self.dtype
        n, n_rows, size = plan.n_sequences, plan.n_rows, one.size
        z_input = arrays.at_least("input gates", n_rows * one.gates, dtype)
        multiply(
            queue, arrays, (inputs, 0, False), (parameters, one.weight_ih, True), (z_input, 0),
            (n_rows, one.gates, one.input_size),
        )  # fmt: skip
        z_hidden = arrays.at_least("hidden gates", n * one.gates, dtype)
        states = [arrays.at_least(("state", s), n * size, dtype) for s in range(one.cell.n_states)]
        for s, current in enumerate(states):
            if initial is None:
                clear(queue, current, 0, n * size)
            else:
                gather_rows(queue, initial[s], current, n, size, plan.order)
        h, c = states[0], states[-1]
        before_h, before_c, before_seen, gates = self._kept(one, n_rows, training)
        numbers = mask if mask is not None else _no_mask(dtype)
        seen = h
        if mask is not None:
            seen = arrays.at_least("seen", n * size, dtype)
            begin_seen(queue, h, seen, n, size, plan.order, True, *numbers)
        for first, alive in self._steps(one, plan):
            multiply(
                queue, arrays, (seen, 0, False), (parameters, one.weight_hh, True), (z_hidden, 0),
                (alive, one.gates, size),
            )  # fmt: skip
            one.kernels.go_forward(
                queue, alive, z_input, z_hidden, parameters, one.bias_ih, one.bias_hh, first, alive, size, plan.order,
                h, c, seen, before_h, before_c, before_seen, gates, outputs, pitch, one.column, mask is not None,
                *numbers,
            )  # fmt: skip
        final = []
        for s, current in enumerate(states):
            final.append(arrays.at_least(("final", self._turn, one.key, s), n * size, dtype))
            scatter_rows(queue, current, final[s], n, size, plan.order)
        return tuple(final)

    def _kept(self, one: _Layer, n_rows: int, training: bool) -> tuple[Any, Any, Any, Any]:
        """What the way back needs of a layer: states before each step, what products have seen of them, gates."""
        arrays, dtype = self._arrays, self.dtype
        # In inference nobody asks for it later.
        key: Any = one.key if training else None
        before_h = arrays.at_least(("h before", key), n_rows * one.size, dtype)
        before_c = before_seen = before_h
        if one.cell.n_states > 1:
            before_c = arrays.at_least(("c before", key), n_rows * one.size, dtype)
        if training and self._stack.recurrent_dropout > 0:
            before_seen = arrays.at_least(("seen before", key), n_rows * one.size, dtype)
        return before_h, before_c, before_seen, arrays.at_least(("gates", key), n_rows * one.slots, dtype)

    @staticmethod
    def _steps(one: _Layer, plan: Plan, backward: bool = False) -> list[tuple[int, int]]:
        """First row and number of rows of the time steps, in the order of the walk or against it."""
        offsets = plan.packing.offsets.tolist()
        steps = [(begin, end - begin) for begin, end in pairwise(offsets)]
        return steps[::-1] if one.direction.reverse != backward else steps

    # ------------------------------------------------------------------------------------------------------ backward
    def backward(
        self, run: StackPass, parameters: Any, d_output: Any, gradient: Any, *, need_input: bool = False
    ) -> Any:
        """Add the gradients of a pass in training to the flat vector `gradient`.

        It has to be the last pass in training.

        Returns
        -------
        device array (n_rows * input_size,), or None
            If `need_input`, the gradient of the packed rows of the input.
        """
        stack, arrays, queue, dtype = self._stack, self._arrays, self._queue, self.dtype
        plan, above = run.plan, d_output
        for number in range(len(self._layers) - 1, -1, -1):
            layer = self._layers[number]
            width, size = len(layer) * layer[0].size, layer[0].input_size
            below = None
            if number > 0 or need_input:
                below = arrays.at_least(("d inputs", number % 2), plan.n_rows * size, dtype)
            for position, one in enumerate(layer):
                d_input = self._walk_back(one, run, number, parameters, above, width, gradient)
                if below is not None:
                    multiply(
                        queue, arrays, (d_input, 0, False), (parameters, one.weight_ih, False), (below, 0),
                        (plan.n_rows, size, one.gates), accumulate=position > 0,
                    )  # fmt: skip
            if below is None:
                return None
            if stack.is_residual(number):
                add_vector(queue, above, below, plan.n_rows * size)
            if run.between is not None and number > 0:
                own = run.between.mask(number - 1, dtype)
                dropout(queue, below, below, plan.n_rows, size, arrays.zeros("nothing", 0, np.int64, queue), *own)
            above = below
        return above

    def _walk_back(
        self, one: _Layer, run: StackPass, number: int, parameters: Any, d_output: Any, pitch: int, gradient: Any
    ) -> Any:
        """One layer in one direction against its order: the gradient of the gates' input side, packed rows."""
        arrays, queue, dtype, plan = self._arrays, self._queue, self.dtype, run.plan
        n, n_rows, size, gates = plan.n_sequences, plan.n_rows, one.size, one.gates
        before_h, before_c, before_seen, kept = self._kept(one, n_rows, True)
        mask = run.masks.get(one.key)
        d_states = [arrays.at_least(("d state", s), n * size, dtype) for s in range(one.cell.n_states)]
        for current in d_states:
            clear(queue, current, 0, n * size)
        d_h, d_c = d_states[0], d_states[-1]
        d_input = arrays.at_least("d input gates", n_rows * gates, dtype)
        d_hidden = arrays.at_least("d hidden gates", n_rows * gates, dtype) if one.has_own_hidden else d_input
        steps = self._steps(one, plan, backward=True)
        for place, (first, alive) in enumerate(steps):
            one.kernels.go_backward(
                queue, alive, kept, before_h, before_c, d_output, pitch, one.column, first, alive, size, d_h, d_c,
                d_input, d_hidden,
            )  # fmt: skip
            if place == len(steps) - 1:
                # Nobody asks for the gradient of the initial state.
                break
            factors = (d_hidden, first * gates, False), (parameters, one.weight_hh, False)
            if mask is None:
                multiply(queue, arrays, *factors, (d_h, 0), (alive, size, gates), accumulate=True)
            else:
                d_seen = arrays.at_least("d seen", n * size, dtype)
                multiply(queue, arrays, *factors, (d_seen, 0), (alive, size, gates))
                mask_gradient(queue, d_seen, d_h, alive, size, plan.order, *mask)
        multiply(
            queue, arrays, (d_input, 0, True), (run.inputs[number], 0, False), (gradient, one.weight_ih),
            (gates, one.input_size, n_rows), accumulate=True,
        )  # fmt: skip
        read = before_h if mask is None else before_seen
        multiply(
            queue, arrays, (d_hidden, 0, True), (read, 0, False), (gradient, one.weight_hh), (gates, size, n_rows),
            accumulate=True,
        )  # fmt: skip
        add_columns(queue, d_input, n_rows, gates, gradient, one.bias_ih)
        add_columns(queue, d_hidden, n_rows, gates, gradient, one.bias_hh)
        return d_input


def _no_mask(dtype: np.dtype) -> tuple[Any, ...]:
    return np.uint32(0), np.uint32(0), np.uint32(0), dtype.type(1)


def make_stack(network: Network, arrays: DeviceArrays, queue: Any) -> DeviceStack:
    """The recurrent layers of a network on the device."""
    return DeviceStack(network, arrays, queue)
