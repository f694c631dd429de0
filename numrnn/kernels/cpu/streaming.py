"""One time step of a whole network, and one whole sequence: for the inner loops of other compiled code.

How network and stream lie in arrays is described in `numrnn.kernels.stream_layout`. No function here allocates, and
calls with different states may run side by side.
"""

# mypy: disable-error-code="no-untyped-def, misc, operator"
from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np

from numrnn.kernels.cpu.matmul import multiply
from numrnn.kernels.equations import CELLS, Cell
from numrnn.kernels.jit import specialize
from numrnn.kernels.memory import numbers_of, stack_array
from numrnn.kernels.simd import lanes, load, load_slots, store, store_slots
from numrnn.kernels.stream_layout import (
    HEAD,
    HEADER,
    HEADS,
    INPUT,
    N_FEATURES,
    N_IDS,
    N_LAYERS,
    N_OUTPUTS,
    OUTPUTS,
    PER_ID,
    PER_LAYER,
    POOLED,
    POOLING,
    POOLINGS,
    PRE_ACTIVATIONS,
    PROJECTED,
    READOUT,
    RESIDUAL,
    STATE_SIZE,
    SUMS,
    ZERO,
)
from numrnn.kernels.subnormals import flush_subnormals, restore_subnormals

__all__ = ["STREAMING"]


_LAST, _MEAN, _MAX = POOLINGS.values()
_NONE, _LINEAR, _SOFTMAX = HEADS.values()

# What the loops below know of a cell. Each of their compiled copies has its own values of these names.
N_SLOTS = N_STATES = N_INPUT_GATES = N_HIDDEN_GATES = 0
cell_step = step = None


def _step(parameters, state, x, out):
    """Read the features of the next time step, `x` (n_features,), and write the network's output to `out` (n_outputs,).

    parameters: a `StreamParameters`. state (layout[STATE_SIZE],): zeros at the beginning of a sequence, afterwards what
    the step before has left in it.
    """
    weights, layout, units = parameters
    # Biases, tables and what is projected are numbers of the state's type, of which each takes two elements of weights
    # in bfloat16.
    numbers = numbers_of(weights)
    n_lanes = lanes(state)
    per_number = lanes(weights) // n_lanes
    n_layers, n_ids, n_features = layout[N_LAYERS], layout[N_IDS], layout[N_FEATURES]
    source = layout[INPUT]
    target = source
    ids = HEADER + n_layers * PER_LAYER
    row = 0
    for entry in range(ids, ids + n_ids * PER_ID, PER_ID):
        size = layout[entry + 2]
        row = np.int64(x[layout[entry]])
        # Ids that are not in the table count as unknown, which is the first row.
        row = row if 0 <= row < layout[entry + 1] else 0
        if layout[PROJECTED] > 0:
            break
        for i in range(size):
            state[target + i] = numbers[layout[entry + 3] // per_number + row * size + i]
        target += size
    for i in range(n_features):
        is_id = False
        for entry in range(ids, ids + n_ids * PER_ID, PER_ID):
            is_id |= layout[entry] == i
        if not is_id:
            state[target] = x[i]
            target += 1
    before = flush_subnormals()
    z = layout[PRE_ACTIVATIONS]
    hidden_size = 0
    for layer in range(n_layers):
        entry = HEADER + layer * PER_LAYER
        input_size, hidden_size, padded = layout[entry], layout[entry + 1], layout[entry + 2]
        input_panels, states = layout[entry + 3], layout[entry + 4]
        slots = N_SLOTS * padded
        input_columns = N_INPUT_GATES * padded
        hidden_columns = N_HIDDEN_GATES * padded
        hidden_panels = input_panels + input_columns * input_size
        bias = (hidden_panels + hidden_columns * hidden_size) // per_number
        first = z + slots - hidden_columns
        if layer == 0 and layout[PROJECTED] > 0:
            ready = layout[PROJECTED] // per_number + row * slots
            for column in range(0, slots, n_lanes):
                store(state, z + column, load(numbers, ready + column))
        else:
            multiply(
                state,
                source,
                layout,
                ZERO,
                1,
                input_size,
                weights,
                input_panels,
                input_size,
                input_columns,
                numbers,
                bias,
                0,
                state,
                z,
                slots,
            )
            for column in range(input_columns, slots, n_lanes):
                store(state, z + column, load(numbers, bias + column))
        multiply(
            state,
            states,
            layout,
            ZERO,
            1,
            padded,
            weights,
            hidden_panels,
            hidden_size,
            hidden_columns,
            state,
            first,
            slots,
            state,
            first,
            slots,
        )
        for unit in range(0, padded, n_lanes):
            old = load_slots(state, states + unit, padded, N_STATES)
            _, new = cell_step(load_slots(state, z + unit, padded, N_SLOTS), old)
            store_slots(state, states + unit, padded, new)
        if layout[RESIDUAL] != 0 and layer > 0 and input_size == hidden_size:
            # Two places in turn: one may be the input.
            total = layout[SUMS] + layer % 2 * padded
            for unit in range(0, padded, n_lanes):
                store(state, total + unit, load(state, states + unit) + load(state, source + unit))
            source = total
        else:
            source = states
    restore_subnormals(before)

    pooling, pooled = layout[POOLING], layout[POOLED]
    if pooling == _MEAN:
        # The sum in two numbers, the second of them what the first has lost by rounding; then the number of steps.
        count = pooled + 2 * hidden_size
        steps = state[count] + state.dtype.type(1)
        state[count] = steps
        for i in range(hidden_size):
            total = state[pooled + i]
            more = state[source + i] + state[pooled + hidden_size + i]
            new_total = total + more
            state[pooled + hidden_size + i] = more - (new_total - total)
            state[pooled + i] = new_total
            state[count + 1 + i] = new_total / steps
        source = count + 1
    elif pooling == _MAX:
        begun = state[pooled + hidden_size] != 0
        state[pooled + hidden_size] = 1
        for i in range(hidden_size):
            h = state[source + i]
            if not begun or h > state[pooled + i]:
                state[pooled + i] = h
        source = pooled

    head, n_outputs = layout[HEAD], layout[N_OUTPUTS]
    if head == _NONE:
        for i in range(n_outputs):
            out[i] = state[source + i]
        return
    readout, outputs = layout[READOUT], layout[OUTPUTS]
    padded_outputs = (n_outputs + n_lanes - 1) // n_lanes * n_lanes
    multiply(
        state,
        source,
        layout,
        ZERO,
        1,
        hidden_size,
        weights,
        readout,
        hidden_size,
        padded_outputs,
        numbers,
        (readout + padded_outputs * hidden_size) // per_number,
        0,
        state,
        outputs,
        padded_outputs,
    )
    if head == _LINEAR:
        for i in range(n_outputs):
            out[i] = np.float64(state[outputs + i]) * units[0, i] + units[1, i]
        return
    largest = state[outputs]
    for i in range(1, n_outputs):
        largest = max(largest, state[outputs + i])
    denominator = 0.0
    for i in range(n_outputs):
        denominator += math.exp(np.float64(state[outputs + i]) - np.float64(largest))
    for i in range(n_outputs):
        out[i] = math.exp(np.float64(state[outputs + i]) - np.float64(largest)) / denominator


def _predict(parameters, x, out):
    """Walk one sequence `x` (n_timesteps, n_features) from its beginning.

    out (n_outputs,) receives the output after the last step, out (n_timesteps, n_outputs) those of all steps.
    """
    state = stack_array(numbers_of(parameters.weights), parameters.layout[STATE_SIZE])
    state[:] = 0
    for t in range(len(x)):
        if out.ndim == 2:
            step(parameters, state, x[t], out[t])
        else:
            step(parameters, state, x[t], out)


def _step_many(parameters, states, x, out):
    """One step of many streams: states (n_streams, layout[STATE_SIZE]), x (n_streams, n_features), out likewise."""
    for stream in range(len(states)):
        step(parameters, states[stream], x[stream], out[stream])


def _compile(cell: Cell) -> SimpleNamespace:
    """The functions for one cell."""
    names = {
        "cell_step": cell.equations.step,
        "N_SLOTS": cell.n_slots,
        "N_STATES": cell.n_states,
        "N_INPUT_GATES": len(cell.input_gates),
        "N_HIDDEN_GATES": len(cell.hidden_gates),
    }
    one = specialize(_step, f"step_{cell.name}", **names)
    return SimpleNamespace(
        step=one,
        step_many=specialize(_step_many, f"step_many_{cell.name}", step=one),
        predict=specialize(_predict, f"predict_{cell.name}", step=one),
    )


# The functions of every cell, by the cell's name. Compilation happens when one is first called.
STREAMING = {name: _compile(cell) for name, cell in CELLS.items()}
