"""Recurrent layers on the device, for every cell, size and kind of batch.

All time steps go through the input weights in one product, and so do the gradients of the weights. Between them the
recurrence is a single launch for both directions, if its weights fit into the registers of the device; else the host
launches for each step a product with the recurrent weights and a kernel with the equations.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from numrnn.cuda.batches import Plan
from numrnn.direction import Direction, Dropout
from numrnn.kernels.cuda.arrays import DeviceArrays, add_columns, add_vector, clear, upload
from numrnn.kernels.cuda.dropout import dropout
from numrnn.kernels.cuda.geometry import choose_geometry
from numrnn.kernels.cuda.matrices import multiply
from numrnn.kernels.cuda.recurrent import Launch, begin_exchange, columns_of, move_states, this_device
from numrnn.kernels.cuda.steps import STEPS, begin_seen, mask_gradient
from numrnn.network import Network
from numrnn.parameters import Parameters
from numrnn.stack import RecurrentStack

__all__ = ["DeviceStack", "StackPass", "make_stack"]

# The states of each layer and direction: a device array and the element at which they begin in it, (n_sequences,
# n_states, size) in the caller's order of the sequences.
States = list[tuple[Any, int]]


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
    d_initial: States | None = None


class _Layer:
    """One layer in one direction: sizes, and where its parameters lie in the flat vector."""

    def __init__(self, direction: Direction, names: Parameters) -> None:
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
        self.weight_ih = names.span(direction.weight_ih).start
        self.weight_hh = names.span(direction.weight_hh).start
        self.bias_ih = names.span(direction.bias_ih).start
        self.bias_hh = names.span(direction.bias_hh).start
        # Of weight_hh the first gate, the block of columns of its gradients, and how many follow in both.
        columns = columns_of(self.cell)[-len(self.cell.hidden_gates) :]
        self.hidden_runs: list[tuple[int, int, int]] = []
        for gate, column in sorted(zip(self.cell.hidden_gates, columns, strict=True)):
            if self.hidden_runs:
                first, block, count = self.hidden_runs[-1]
                if (gate, column) == (first + count, block + count):
                    self.hidden_runs[-1] = first, block, count + 1
                    continue
            self.hidden_runs.append((gate, column, 1))


class DeviceStack:
    """What `RecurrentStack` does, on the device.

    Parameters
    ----------
    stack : RecurrentStack
        Of the host, for its form.
    names : Parameters
        Where the parameters lie in the flat vector.
    arrays : DeviceArrays
    queue

    Attributes
    ----------
    step_bytes : int
        Memory for each time step of a batch in training.
    """

    def __init__(self, stack: RecurrentStack, names: Parameters, arrays: DeviceArrays, queue: Any) -> None:
        self._stack = stack
        self._arrays = arrays
        self._queue = queue
        self.dtype = stack.dtype
        self._layers = [[_Layer(direction, names) for direction in layer] for layer in stack.directions]
        self._turn = 0
        # For measurements: whether to launch every step by itself.
        self.step_by_step = False
        self._chosen: dict[tuple[int, int, bool], tuple[Launch, Launch | None] | None] = {}
        self._all_ones: Any = None
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
            launches = self._launches(number, plan, training)
            initials: list[Any] = [None] * len(layer) if state is None else state[place : place + len(layer)]
            place += len(layer)
            masks = [self._mask(one, dropout_seed) if training else None for one in layer]
            for one, mask in zip(layer, masks, strict=True):
                if mask is not None:
                    run.masks[one.key] = mask
            if launches is not None:
                forward = launches[0]
                run.state += self._run(layer, forward, inputs, plan, parameters, initials, outputs, masks[0], training)
            else:
                for one, initial, mask in zip(layer, initials, masks, strict=True):
                    final = self._walk(one, inputs, plan, parameters, initial, outputs, width, mask, training)
                    run.state.append(final)
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
        initial: tuple[Any, int] | None,
        outputs: Any,
        pitch: int,
        mask: tuple[Any, ...] | None,
        training: bool,
    ) -> tuple[Any, int]:
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
        self._begin_states(states, initial, n, size, plan)
        h, c = states[0], states[-1]
        before_h, before_c, before_seen, gates = self._kept(one, n_rows, training)
        numbers = mask if mask is not None else _no_mask(dtype)
        seen = h
        if mask is not None:
            seen = arrays.at_least("seen", n * size, dtype)
            begin_seen(queue, h, seen, n, size, plan.order, *numbers)
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
        final = arrays.at_least(("final", self._turn, one.key), n * len(states) * size, dtype)
        self._end_states(states, final, n, size, plan)
        return final, 0

    def _begin_states(self, states: list[Any], given: tuple[Any, int] | None, n: int, size: int, plan: Plan) -> None:
        """States by position, each in an array of its own, from those in the caller's order, or zero."""
        for s, current in enumerate(states):
            if given is None:
                clear(self._queue, current, 0, n * size)
            else:
                source = given[0], given[1] + s * size, len(states) * size
                move_states(self._queue, source, (current, 0, size), size, n, plan.order, True)

    def _end_states(self, states: list[Any], final: Any, n: int, size: int, plan: Plan) -> None:
        for s, current in enumerate(states):
            target = final, s * size, len(states) * size
            move_states(self._queue, (current, 0, size), target, size, n, plan.order, False)

    # ------------------------------------------------------------------------------- all time steps in a single launch
    def _launches(self, number: int, plan: Plan, training: bool) -> tuple[Launch, Launch | None] | None:
        """How a layer is launched for a batch, forward and backward; None if step by step is faster."""
        key = number, plan.n_sequences, training
        if key not in self._chosen:
            self._chosen[key] = self._choose(self._layers[number], plan.n_sequences, training)
        return self._chosen[key]

    def _choose(self, layer: list[_Layer], n: int, training: bool) -> tuple[Launch, Launch | None] | None:
        if self.step_by_step or n == 0:
            return None
        one, launches = layer[0], []
        for backward in (False, True)[: 1 + training]:
            of_batch = n, len(layer)
            choice = choose_geometry(one.cell.name, backward, one.size, self.dtype.itemsize, *of_batch, this_device())
            if choice is None:
                return None
            launches.append(Launch(one.cell.name, one.size, self.dtype, backward, *of_batch, *choice))
        return launches[0], launches[1] if training else None

    def _memory(self, layer: list[_Layer], plan: Plan, training: bool, masked: bool) -> tuple[Any, Any, Any]:
        """Gates, states before each step, and what products have seen of them: of all directions of a layer."""
        arrays, dtype, one = self._arrays, self.dtype, layer[0]
        rows = len(layer) * plan.n_rows
        key: Any = one.key if training else None
        values = arrays.at_least(("values", key), rows * one.slots, dtype)
        before = arrays.at_least(("before", key), rows * one.cell.n_states * one.size if training else 0, dtype)
        seen = arrays.at_least(("seen", key), rows * one.size, dtype) if training and masked else before
        return values, before, seen

    def _exchange(
        self, layer: list[_Layer], launch: Launch, plan: Plan, state: Any, mask: tuple[Any, ...], zero: bool
    ) -> tuple[Any, Any]:
        """The buffer through which blocks tell each other their vectors, and the counters at which they meet."""
        arrays, queue, one = self._arrays, self._queue, layer[0]
        n = plan.n_sequences
        size = 2 * len(layer) * n * launch.vector_pitch
        exchange = arrays.at_least("exchange", size, self.dtype)
        counters = arrays.at_least("counters", launch.n_counters, np.int32)
        begin_exchange(
            queue, exchange, launch.vector_pitch, state, len(layer), one.cell.n_states, n, one.size, plan.order, mask,
            zero,
        )  # fmt: skip
        clear(queue, counters, 0, launch.n_counters)
        return exchange, counters

    def _run(
        self,
        layer: list[_Layer],
        launch: Launch,
        inputs: Any,
        plan: Plan,
        parameters: Any,
        initials: list[tuple[Any, int] | None],
        outputs: Any,
        mask: tuple[Any, ...] | None,
        training: bool,
    ) -> States:
        """All directions of a layer through all time steps: the final states."""
        arrays, queue, dtype, one = self._arrays, self._queue, self.dtype, layer[0]
        n, n_rows = plan.n_sequences, plan.n_rows
        values, before, seen = self._memory(layer, plan, training, mask is not None)
        for place, each in enumerate(layer):
            multiply(
                queue, arrays, (inputs, 0, False), (parameters, each.weight_ih, True),
                (values, place * n_rows * one.slots, one.slots), (n_rows, one.gates, one.input_size),
            )  # fmt: skip
        of_states = one.cell.n_states * one.size
        state = arrays.at_least("state", len(layer) * n * of_states, dtype)
        for place, initial in enumerate(initials):
            self._put_states(state, place * n * of_states, initial, n, of_states, plan)
        whole_mask = _whole_mask(mask, dtype)
        exchange, counters = self._exchange(layer, launch, plan, state, whole_mask, False)
        launch.run(
            queue,
            (
                values, before, seen, state, exchange, counters, outputs, len(layer) * one.size, plan.offsets,
                plan.order, parameters, _pair(layer, "weight_hh"), _pair(layer, "bias_ih"), _pair(layer, "bias_hh"),
                n_rows, n, launch.slice_size, plan.n_timesteps,
            ),
            plan.n_timesteps,
            plan.n_timesteps,
            (training, *whole_mask),
        )  # fmt: skip
        final = arrays.at_least(("final", self._turn, one.key), len(layer) * n * of_states, dtype)
        for place in range(len(layer)):
            first = place * n * of_states
            move_states(queue, (state, first, of_states), (final, first, of_states), of_states, n, plan.order, False)
        return [(final, place * n * of_states) for place in range(len(layer))]

    def _put_states(
        self, state: Any, first: int, given: tuple[Any, int] | None, n: int, of_states: int, plan: Plan
    ) -> None:
        if given is None:
            clear(self._queue, state, first, first + n * of_states)
        else:
            source, target = (*given, of_states), (state, first, of_states)
            move_states(self._queue, source, target, of_states, n, plan.order, True)

    def _run_back(
        self,
        layer: list[_Layer],
        launch: Launch,
        run: StackPass,
        number: int,
        parameters: Any,
        d_output: Any,
        d_finals: list[tuple[Any, int] | None],
        gradient: Any,
        below: Any,
    ) -> States:
        """All directions of a layer against their order: gradients of parameters, input and first states."""
        arrays, queue, dtype, plan, one = self._arrays, self._queue, self.dtype, run.plan, layer[0]
        n, n_rows, size, gates, slots = plan.n_sequences, plan.n_rows, one.size, one.gates, one.slots
        mask = run.masks.get(one.key)
        values, before, seen = self._memory(layer, plan, True, mask is not None)
        of_states = one.cell.n_states * size
        state = arrays.at_least("state", len(layer) * n * of_states, dtype)
        for place, d_final in enumerate(d_finals):
            self._put_states(state, place * n * of_states, d_final, n, of_states, plan)
        whole_mask = _whole_mask(mask, dtype)
        exchange, counters = self._exchange(layer, launch, plan, state, whole_mask, True)
        launch.run(
            queue,
            (
                values, before, state, exchange, counters, state if d_output is None else d_output, len(layer) * size,
                d_output is not None, plan.offsets, plan.order, parameters, _pair(layer, "weight_hh"), n_rows, n,
                launch.slice_size, plan.n_timesteps,
            ),
            plan.n_timesteps,
            plan.n_timesteps + 1,
            whole_mask,
        )  # fmt: skip
        ones = self._ones(n_rows)
        for place, each in enumerate(layer):
            first = place * n_rows * slots
            multiply(
                queue, arrays, (values, first, True, slots), (run.inputs[number], 0, False),
                (gradient, each.weight_ih), (gates, one.input_size, n_rows), accumulate=True,
            )  # fmt: skip
            multiply(
                queue, arrays, (ones, 0, False), (values, first, False, slots), (gradient, each.bias_ih),
                (1, gates, n_rows), accumulate=True,
            )  # fmt: skip
            read = (before, place * n_rows * of_states, False, of_states)
            if mask is not None:
                read = (seen, place * n_rows * size, False, size)
            for gate, column, count in one.hidden_runs:
                d_z = values, first + column * size
                multiply(
                    queue, arrays, (*d_z, True, slots), read, (gradient, each.weight_hh + gate * size * size),
                    (count * size, size, n_rows), accumulate=True,
                )  # fmt: skip
                multiply(
                    queue, arrays, (ones, 0, False), (*d_z, False, slots), (gradient, each.bias_hh + gate * size),
                    (1, count * size, n_rows), accumulate=True,
                )  # fmt: skip
            if below is not None:
                multiply(
                    queue, arrays, (values, first, False, slots), (parameters, each.weight_ih, False), (below, 0),
                    (n_rows, one.input_size, gates), accumulate=place > 0,
                )  # fmt: skip
        final = arrays.at_least(("d initial", one.key), len(layer) * n * of_states, dtype)
        for place in range(len(layer)):
            at = place * n * of_states
            move_states(queue, (state, at, of_states), (final, at, of_states), of_states, n, plan.order, False)
        return [(final, place * n * of_states) for place in range(len(layer))]

    def _ones(self, count: int) -> Any:
        if self._all_ones is None or self._all_ones.size < count:
            self._all_ones = upload(np.ones(max(2 * count, 1024), dtype=self.dtype), self._queue)
        return self._all_ones

    # ------------------------------------------------------------------------------------------------- step by step
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
        self,
        run: StackPass,
        parameters: Any,
        d_output: Any,
        gradient: Any,
        *,
        d_state: States | None = None,
        need_input: bool = False,
    ) -> Any:
        """Add the gradients of a pass in training to the flat vector `gradient`.

        It has to be the last pass in training. d_state is the gradient of its final states, zero if it is None; that of
        the first states is `run.d_initial` afterwards.

        Returns
        -------
        device array (n_rows * input_size,), or None
            If `need_input`, the gradient of the packed rows of the input.
        """
        stack, arrays, queue, dtype = self._stack, self._arrays, self._queue, self.dtype
        plan, above = run.plan, d_output
        run.d_initial = []
        end = len(self._layers) * len(self._layers[0])
        for number in range(len(self._layers) - 1, -1, -1):
            layer = self._layers[number]
            width, size = len(layer) * layer[0].size, layer[0].input_size
            below = None
            if number > 0 or need_input:
                below = arrays.at_least(("d inputs", number % 2), plan.n_rows * size, dtype)
            d_finals: list[Any] = [None] * len(layer) if d_state is None else d_state[end - len(layer) : end]
            end -= len(layer)
            launches = self._launches(number, plan, True)
            if launches is not None and launches[1] is not None:
                back = launches[1]
                initial = self._run_back(layer, back, run, number, parameters, above, d_finals, gradient, below)
                run.d_initial[:0] = initial
            else:
                places = []
                for position, one in enumerate(layer):
                    d_final = d_finals[position]
                    d_input, place = self._walk_back(one, run, number, parameters, above, width, d_final, gradient)
                    places.append(place)
                    if below is not None:
                        multiply(
                            queue, arrays, (d_input, 0, False), (parameters, one.weight_ih, False), (below, 0),
                            (plan.n_rows, size, one.gates), accumulate=position > 0,
                        )  # fmt: skip
                run.d_initial[:0] = places
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
        self,
        one: _Layer,
        run: StackPass,
        number: int,
        parameters: Any,
        d_output: Any,
        pitch: int,
        d_final: tuple[Any, int] | None,
        gradient: Any,
    ) -> tuple[Any, tuple[Any, int]]:
        """One layer in one direction against its order: gradients of the gates' input side, and of the first states."""
        arrays, queue, dtype, plan = self._arrays, self._queue, self.dtype, run.plan
        n, n_rows, size, gates = plan.n_sequences, plan.n_rows, one.size, one.gates
        before_h, before_c, before_seen, kept = self._kept(one, n_rows, True)
        mask = run.masks.get(one.key)
        d_states = [arrays.at_least(("d state", s), n * size, dtype) for s in range(one.cell.n_states)]
        self._begin_states(d_states, d_final, n, size, plan)
        d_h, d_c = d_states[0], d_states[-1]
        d_input = arrays.at_least("d input gates", n_rows * gates, dtype)
        d_hidden = arrays.at_least("d hidden gates", n_rows * gates, dtype) if one.has_own_hidden else d_input
        steps = self._steps(one, plan, backward=True)
        for first, alive in steps:
            one.kernels.go_backward(
                queue, alive, kept, before_h, before_c, d_output, pitch, one.column, first, alive, size, d_h, d_c,
                d_input, d_hidden,
            )  # fmt: skip
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
        initial = arrays.at_least(("d initial", one.key), n * len(d_states) * size, dtype)
        self._end_states(d_states, initial, n, size, plan)
        return d_input, (initial, 0)


def _pair(layer: list[_Layer], name: str) -> tuple[int, int]:
    """Where the parameters of both directions begin; those of the only one twice."""
    return getattr(layer[0], name), getattr(layer[-1], name)


def _whole_mask(mask: tuple[Any, ...] | None, dtype: np.dtype) -> tuple[Any, ...]:
    return (False, *_no_mask(dtype)) if mask is None else (True, *mask)


def _no_mask(dtype: np.dtype) -> tuple[Any, ...]:
    return np.uint32(0), np.uint32(0), np.uint32(0), dtype.type(1)


def make_stack(network: Network, arrays: DeviceArrays, queue: Any) -> DeviceStack:
    """The recurrent layers of a network on the device."""
    return DeviceStack(network.stack, network.parameters, arrays, queue)
