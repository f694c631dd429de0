"""The public layers on the device: batch-first arrays of the host or of the device, to and from packed rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.cuda.batches import Plans
from numrnn.cuda.faults import device_errors
from numrnn.cuda.layer import StackPass
from numrnn.cuda.stack import DeviceStack
from numrnn.kernels.cuda.arrays import (
    DeviceArrays,
    clear,
    download,
    free_bytes,
    gather_rows,
    new_queue,
    scatter_rows,
    step_rows,
    upload,
)
from numrnn.kernels.cuda.interop import adopt, is_device_array, new_array
from numrnn.parameters import Parameters
from numrnn.stack import RecurrentStack

__all__ = ["DeviceLayer"]

States = list[NDArray]


class DeviceLayer:
    """Passes of a stack of layers over batches on the device.

    Parameters
    ----------
    stack : RecurrentStack
    parameters : Parameters
        On the host; every pass forward takes them from there.
    """

    def __init__(self, stack: RecurrentStack, parameters: Parameters) -> None:
        self._host = stack
        self._parameters = parameters
        self.dtype = stack.dtype
        self._arrays = DeviceArrays()
        self._plans = Plans()
        with device_errors("the preparation of a layer"):
            self._queue = new_queue()
            self._stack = DeviceStack(stack, parameters, self._arrays, self._queue)
        self._pass: StackPass | None = None

    def forward(
        self, x: Any, lengths: NDArray, state: States | None, training: bool, dropout_seed: int
    ) -> tuple[Any, States]:
        """Outputs, on the device if x is, and the final states.

        x is of shape (n_sequences, n_timesteps, input_size), as large as the longest of the lengths or larger.
        """
        with device_errors("the pass forward of a layer"):
            queue, arrays = self._queue, self._arrays
            n_sequences, n_timesteps, size = x.shape
            self._check_memory(int(lengths.sum()))
            plan = self._plans.of(lengths, queue)
            rows = self._rows(plan, n_sequences, n_timesteps)
            values = self._device_rows(x, "x", "batch")
            inputs = arrays.at_least("inputs", plan.n_rows * size, self.dtype)
            gather_rows(queue, values, inputs, plan.n_rows, size, rows)
            parameters = arrays.at_least("parameters", self._parameters.size, self.dtype)
            arrays.put("parameters", self._parameters.flat, queue)
            initial = None if state is None else [self._put_state(array) for array in state]
            run = self._stack.forward(
                inputs, plan, parameters=parameters, state=initial, training=training, dropout_seed=dropout_seed
            )
            self._pass = run if training else None
            y = self._spread(run.output, plan, rows, (n_sequences, n_timesteps, self._host.output_size), x)
            return y, self._states(run.state, n_sequences)

    def backward(self, d_y: Any, d_state: States | None, gradient: Parameters) -> tuple[Any, States]:
        """Gradients of x, on the device if d_y is, and of the first states; `gradient` gets those of the parameters."""
        with device_errors("the pass back of a layer"):
            queue, arrays, run = self._queue, self._arrays, self._pass
            assert run is not None
            self._pass = None
            plan = run.plan
            n_sequences, n_timesteps, size = d_y.shape
            rows = self._rows(plan, n_sequences, n_timesteps)
            values = self._device_rows(d_y, "d_y", "d batch")
            d_output = arrays.at_least("d output", plan.n_rows * size, self.dtype)
            gather_rows(queue, values, d_output, plan.n_rows, size, rows)
            parameters = arrays.at_least("parameters", self._parameters.size, self.dtype)
            total = arrays.at_least("gradient", self._parameters.size, self.dtype)
            clear(queue, total, 0, self._parameters.size)
            final = None if d_state is None else [self._put_state(array) for array in d_state]
            d_inputs = self._stack.backward(run, parameters, d_output, total, d_state=final, need_input=True)
            gradient.flat[:] = download(total, queue)[: gradient.size]
            shape = n_sequences, n_timesteps, self._host.input_size
            d_x = self._spread(d_inputs, plan, rows, shape, d_y)
            assert run.d_initial is not None
            return d_x, self._states(run.d_initial, n_sequences)

    def _check_memory(self, n_rows: int) -> None:
        # What this layer has already serves again.
        needed = n_rows * (self._stack.step_bytes + self.dtype.itemsize * 2 * self._host.output_size)
        available = 0.9 * free_bytes() + self._arrays.n_bytes
        if needed > available:
            raise MemoryError(
                f"the batch needs about {needed / 2**20:.0f} MiB on the CUDA device, but {available / 2**20:.0f} MiB "
                f"are available; fewer sequences at a time, or windows of time, would fit"
            )

    def _rows(self, plan: Any, n_sequences: int, n_timesteps: int) -> Any:
        """Where each packed row lies in a batch-first array."""
        starts = self._arrays.put("starts", np.arange(n_sequences, dtype=np.int64) * n_timesteps, self._queue)
        rows = self._arrays.at_least("rows", plan.n_rows, np.int64)
        step_rows(self._queue, plan.offsets, plan.n_timesteps, plan.order, starts, 0, 1, rows)
        return rows

    def _device_rows(self, x: Any, name: str, purpose: str) -> Any:
        if is_device_array(x):
            return adopt(x, name, tuple(x.shape), self.dtype)
        return self._arrays.put(purpose, x.reshape(-1), self._queue)

    def _spread(self, packed: Any, plan: Any, rows: Any, shape: tuple[int, int, int], like: Any) -> Any:
        """Packed rows in a batch-first array, zero where a sequence has ended."""
        size = int(np.prod(shape))
        on_device = is_device_array(like)
        result = new_array((size,), self.dtype) if on_device else self._arrays.at_least("result", size, self.dtype)
        if plan.n_rows * shape[2] < size:
            clear(self._queue, result, 0, size)
        scatter_rows(self._queue, packed, result, plan.n_rows, shape[2], rows)
        if on_device:
            # Others do not know of our queue.
            self._queue.synchronize()
            return result.reshape(shape)
        return download(result, self._queue)[:size].reshape(shape)

    def _put_state(self, state: NDArray) -> tuple[Any, int]:
        return upload(np.ascontiguousarray(state.swapaxes(0, 1)).reshape(-1), self._queue), 0

    def _states(self, states: list[tuple[Any, int]], n_sequences: int) -> States:
        n_states = self._host.n_states
        results = []
        for place, (array, first) in enumerate(states):
            size = self._host.hidden_sizes[place // self._host.n_directions]
            flat = download(array, self._queue)[first : first + n_states * n_sequences * size]
            results.append(np.ascontiguousarray(flat.reshape(n_sequences, n_states, size).swapaxes(0, 1)))
        return results
