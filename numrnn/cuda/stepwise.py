"""A recurrent layer step by step: for each a product with the recurrent weights and a kernel with the equations."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from numrnn.cuda.batches import Plan
from numrnn.cuda.layer import DeviceLayer, StackPass, States, no_mask
from numrnn.kernels.cuda.arrays import DeviceArrays, add_columns, clear
from numrnn.kernels.cuda.matrices import multiply
from numrnn.kernels.cuda.recurrent import move_states
from numrnn.kernels.cuda.steps import begin_seen, mask_gradient

__all__ = ["StepByStep"]


class StepByStep:
    """Layers of any size, one direction after the other; the host launches every step.

    Parameters
    ----------
    dtype : dtype
    masks : bool
        Whether there is dropout of what recurrent products see, in training.
    arrays : DeviceArrays
    queue
    """

    def __init__(self, dtype: np.dtype, masks: bool, arrays: DeviceArrays, queue: Any) -> None:
        self.dtype = dtype
        self._masks = masks
        self._arrays = arrays
        self._queue = queue

    def forward(
        self,
        layer: list[DeviceLayer],
        inputs: Any,
        plan: Plan,
        parameters: Any,
        initials: list[Any],
        outputs: Any,
        masks: list[tuple[Any, ...] | None],
        training: bool,
        turn: int,
    ) -> States:
        """All directions of a layer through all time steps: the final states, in memory of one of two turns."""
        width = len(layer) * layer[0].size
        return [
            self._walk(one, inputs, plan, parameters, initial, outputs, width, mask, training, turn)
            for one, initial, mask in zip(layer, initials, masks, strict=True)
        ]

    def backward(
        self,
        layer: list[DeviceLayer],
        run: StackPass,
        number: int,
        parameters: Any,
        d_output: Any,
        d_finals: list[Any],
        gradient: Any,
        below: Any,
    ) -> States:
        """Against their order: gradients of parameters, of the input in `below` unless it is None, of first states."""
        places = []
        for position, (one, d_final) in enumerate(zip(layer, d_finals, strict=True)):
            width = len(layer) * one.size
            d_input, place = self._walk_back(one, run, number, parameters, d_output, width, d_final, gradient)
            places.append(place)
            if below is not None:
                multiply(
                    self._queue, self._arrays, (d_input, 0, False), (parameters, one.weight_ih, False), (below, 0),
                    (run.plan.n_rows, one.input_size, one.gates), accumulate=position > 0,
                )  # fmt: skip
        return places

    def _walk(
        self,
        one: DeviceLayer,
        inputs: Any,
        plan: Plan,
        parameters: Any,
        initial: tuple[Any, int] | None,
        outputs: Any,
        pitch: int,
        mask: tuple[Any, ...] | None,
        training: bool,
        turn: int,
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
        numbers = mask if mask is not None else no_mask(dtype)
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
        final = arrays.at_least(("final", turn, one.key), n * len(states) * size, dtype)
        self._end_states(states, final, n, size, plan)
        return final, 0

    def _walk_back(
        self,
        one: DeviceLayer,
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

    def _kept(self, one: DeviceLayer, n_rows: int, training: bool) -> tuple[Any, Any, Any, Any]:
        """What the way back needs of a layer: states before each step, what products have seen of them, gates."""
        arrays, dtype = self._arrays, self.dtype
        # In inference nobody asks for it later.
        key: Any = one.key if training else None
        before_h = arrays.at_least(("h before", key), n_rows * one.size, dtype)
        before_c = before_seen = before_h
        if one.cell.n_states > 1:
            before_c = arrays.at_least(("c before", key), n_rows * one.size, dtype)
        if training and self._masks:
            before_seen = arrays.at_least(("seen before", key), n_rows * one.size, dtype)
        return before_h, before_c, before_seen, arrays.at_least(("gates", key), n_rows * one.slots, dtype)

    @staticmethod
    def _steps(one: DeviceLayer, plan: Plan, backward: bool = False) -> list[tuple[int, int]]:
        """First row and number of rows of the time steps, in the order of the walk or against it."""
        offsets = plan.packing.offsets.tolist()
        steps = [(begin, end - begin) for begin, end in pairwise(offsets)]
        return steps[::-1] if one.direction.reverse != backward else steps
