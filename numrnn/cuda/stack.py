"""Recurrent layers on the device, for every cell, size and kind of batch.

All time steps go through the input weights in one product, and so do the gradients of the weights. Between them the
recurrence is a single launch for both directions, if its weights fit into the registers of the device; else the host
launches for each step a product with the recurrent weights and a kernel with the equations.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numrnn.cuda.batches import Plan
from numrnn.cuda.layer import DeviceLayer, StackPass, States
from numrnn.cuda.persistent import Persistent
from numrnn.cuda.stepwise import StepByStep
from numrnn.direction import Dropout
from numrnn.kernels.cuda.arrays import DeviceArrays, add_vector
from numrnn.kernels.cuda.dropout import dropout
from numrnn.kernels.cuda.geometry import choose_geometry
from numrnn.kernels.cuda.recurrent import Launch, this_device
from numrnn.network import Network
from numrnn.parameters import Parameters

__all__ = ["DeviceStack", "make_stack"]


class DeviceStack:
    """What `RecurrentStack` does, on the device.

    Parameters
    ----------
    stack : RecurrentStack, or its like
        Of the host, for its form.
    names : Parameters
        Where the parameters lie in the flat vector.
    arrays : DeviceArrays
    queue
    prefix : str, default=""
        Of the names of the parameters.

    Attributes
    ----------
    step_bytes : int
        Memory for each time step of a batch in training.
    """

    def __init__(self, stack: Any, names: Parameters, arrays: DeviceArrays, queue: Any, prefix: str = "") -> None:
        self._stack = stack
        self._arrays = arrays
        self._queue = queue
        self.dtype = stack.dtype
        self._layers = [[DeviceLayer(direction, names, prefix) for direction in layer] for layer in stack.directions]
        self._turn = 0
        # For measurements: whether to launch every step by itself.
        self.step_by_step = False
        self._chosen: dict[tuple[int, int, bool], tuple[Launch, Launch | None] | None] = {}
        self._stepwise = StepByStep(self.dtype, stack.recurrent_dropout > 0, arrays, queue)
        self._persistent = Persistent(self.dtype, arrays, queue)
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
            of_batch = inputs, plan, parameters, initials, outputs
            if launches is None:
                run.state += self._stepwise.forward(layer, *of_batch, masks, training, self._turn)
            else:
                run.state += self._persistent.forward(layer, launches[0], *of_batch, masks[0], training, self._turn)
            if stack.is_residual(number):
                add_vector(queue, inputs, outputs, plan.n_rows * width)
            if run.between is not None and number < top:
                own = run.between.mask(number, dtype)
                dropout(queue, outputs, outputs, plan.n_rows, width, arrays.zeros("nothing", 0, np.int64, queue), *own)
            inputs = outputs
        run.output = inputs
        return run

    def _mask(self, one: DeviceLayer, dropout_seed: int) -> tuple[Any, ...] | None:
        probability = self._stack.recurrent_dropout
        if not probability > 0:
            return None
        return Dropout(probability, dropout_seed).mask(one.direction.mask_stream, self.dtype)

    # ------------------------------------------------------------------------------- all time steps in a single launch
    def _launches(self, number: int, plan: Plan, training: bool) -> tuple[Launch, Launch | None] | None:
        """How a layer is launched for a batch, forward and backward; None if step by step is faster."""
        key = number, plan.n_sequences, training
        if key not in self._chosen:
            self._chosen[key] = self._choose(self._layers[number], plan.n_sequences, training)
        return self._chosen[key]

    def _choose(self, layer: list[DeviceLayer], n: int, training: bool) -> tuple[Launch, Launch | None] | None:
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

    # ------------------------------------------------------------------------------------------------- step by step
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
            size = layer[0].input_size
            below = None
            if number > 0 or need_input:
                below = arrays.at_least(("d inputs", number % 2), plan.n_rows * size, dtype)
            d_finals: list[Any] = [None] * len(layer) if d_state is None else d_state[end - len(layer) : end]
            end -= len(layer)
            launches = self._launches(number, plan, True)
            of_layer = run, number, parameters, above, d_finals, gradient, below
            if launches is None or launches[1] is None:
                initial = self._stepwise.backward(layer, *of_layer)
            else:
                initial = self._persistent.backward(layer, launches[1], *of_layer)
            run.d_initial[:0] = initial
            if below is None:
                return None
            if stack.is_residual(number):
                add_vector(queue, above, below, plan.n_rows * size)
            if run.between is not None and number > 0:
                own = run.between.mask(number - 1, dtype)
                dropout(queue, below, below, plan.n_rows, size, arrays.zeros("nothing", 0, np.int64, queue), *own)
            above = below
        return above


def make_stack(network: Network, arrays: DeviceArrays, queue: Any) -> DeviceStack:
    """The recurrent layers of a network on the device."""
    return DeviceStack(network.stack, network.parameters, arrays, queue)
