"""A recurrent layer in a single launch for all time steps and both directions."""

from __future__ import annotations

from typing import Any

import numpy as np

from numrnn.cuda.batches import Plan
from numrnn.cuda.layer import DeviceLayer, StackPass, States, whole_mask
from numrnn.kernels.cuda.arrays import DeviceArrays, clear, upload
from numrnn.kernels.cuda.matrices import multiply
from numrnn.kernels.cuda.recurrent import Launch, begin_exchange, move_states

__all__ = ["Persistent"]


class Persistent:
    """Layers whose recurrent weights the registers of the device hold.

    Parameters
    ----------
    dtype : dtype
    arrays : DeviceArrays
    queue
    """

    def __init__(self, dtype: np.dtype, arrays: DeviceArrays, queue: Any) -> None:
        self.dtype = dtype
        self._arrays = arrays
        self._queue = queue
        self._all_ones: Any = None

    def forward(
        self,
        layer: list[DeviceLayer],
        launch: Launch,
        inputs: Any,
        plan: Plan,
        parameters: Any,
        initials: list[tuple[Any, int] | None],
        outputs: Any,
        mask: tuple[Any, ...] | None,
        training: bool,
        turn: int,
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
        numbers = whole_mask(mask, dtype)
        exchange, counters = self._exchange(layer, launch, plan, state, numbers, False)
        launch.run(
            queue,
            (
                values, before, seen, state, exchange, counters, outputs, len(layer) * one.size, plan.offsets,
                plan.order, parameters, _pair(layer, "weight_hh"), _pair(layer, "bias_ih"),
                _pair(layer, "bias_hh"), n_rows, n, launch.slice_size, plan.n_timesteps,
            ),
            plan.n_timesteps,
            plan.n_timesteps,
            (training, *numbers),
        )  # fmt: skip
        final = arrays.at_least(("final", turn, one.key), len(layer) * n * of_states, dtype)
        for place in range(len(layer)):
            first = place * n * of_states
            move_states(queue, (state, first, of_states), (final, first, of_states), of_states, n, plan.order, False)
        return [(final, place * n * of_states) for place in range(len(layer))]

    def backward(
        self,
        layer: list[DeviceLayer],
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
        numbers = whole_mask(mask, dtype)
        exchange, counters = self._exchange(layer, launch, plan, state, numbers, True)
        launch.run(
            queue,
            (
                values, before, state, exchange, counters, state if d_output is None else d_output, len(layer) * size,
                d_output is not None, plan.offsets, plan.order, parameters, _pair(layer, "weight_hh"), n_rows, n,
                launch.slice_size, plan.n_timesteps,
            ),
            plan.n_timesteps,
            plan.n_timesteps + 1,
            numbers,
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

    def _memory(self, layer: list[DeviceLayer], plan: Plan, training: bool, masked: bool) -> tuple[Any, Any, Any]:
        """Gates, states before each step, and what products have seen of them: of all directions of a layer."""
        arrays, dtype, one = self._arrays, self.dtype, layer[0]
        rows = len(layer) * plan.n_rows
        key: Any = one.key if training else None
        values = arrays.at_least(("values", key), rows * one.slots, dtype)
        before = arrays.at_least(("before", key), rows * one.cell.n_states * one.size if training else 0, dtype)
        seen = arrays.at_least(("seen", key), rows * one.size, dtype) if training and masked else before
        return values, before, seen

    def _exchange(
        self, layer: list[DeviceLayer], launch: Launch, plan: Plan, state: Any, mask: tuple[Any, ...], zero: bool
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

    def _put_states(
        self, state: Any, first: int, given: tuple[Any, int] | None, n: int, of_states: int, plan: Plan
    ) -> None:
        if given is None:
            clear(self._queue, state, first, first + n * of_states)
        else:
            source, target = (*given, of_states), (state, first, of_states)
            move_states(self._queue, source, target, of_states, n, plan.order, True)

    def _ones(self, count: int) -> Any:
        if self._all_ones is None or self._all_ones.size < count:
            self._all_ones = upload(np.ones(max(2 * count, 1024), dtype=self.dtype), self._queue)
        return self._all_ones


def _pair(layer: list[DeviceLayer], name: str) -> tuple[int, int]:
    """Where the parameters of both directions begin; those of the only one twice."""
    return getattr(layer[0], name), getattr(layer[-1], name)
