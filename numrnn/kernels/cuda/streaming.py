"""One time step of a whole network in one thread: for kernels that have a network in every thread.

The arrays are those of the CPU's step (`numrnn.kernels.stream_layout`), so that networks and streams go from one to the
other as they are. All threads read the same weight at the same time, which is one access for a warp; streams should lie
in the columns of a matrix, so that what a warp reads of its states is contiguous.
"""

# mypy: disable-error-code="no-untyped-def, operator"
from __future__ import annotations

import math
from functools import cache
from types import FunctionType
from typing import Any

import numpy as np
from numba import cuda

from numrnn.kernels.cuda.grids import SIMULATED, device_function, kernel
from numrnn.kernels.cuda.scalars import step_of
from numrnn.kernels.equations import CELLS
from numrnn.kernels.simd import lane_count
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
    SUMS,
    StreamParameters,
    panel_width,
)

__all__ = ["device_step", "to_device"]

_MEAN, _MAX = POOLINGS["mean"], POOLINGS["max"]
_NONE, _LINEAR = HEADS["none"], HEADS["linear"]

# What the loops below know of a cell and of the numbers. Each compiled copy has its own values of these names.
N_SLOTS = N_INPUT_GATES = N_HIDDEN_GATES = PANEL = LANES = 0
ONE: Any = 1
cell_step: Any = None
place = add_three = slots_of = add_input = add_hidden = states_of = keep_states = cell_step


def _place(column, columns, depth):
    """Where a column of a matrix begins in its panels, and how far it is from one of its rows to the next."""
    inside = column % PANEL
    first = column - inside
    return first * depth + inside, min(PANEL, columns - first)


# The pre-activations of one unit, in slots: read where they lie side by side, and products with weights added.
def _one_slot(weights, at, padded):
    return (weights[at],)


def _four_slots(weights, at, padded):
    return weights[at], weights[at + padded], weights[at + 2 * padded], weights[at + 3 * padded]


def _add_one(z, weights, begin, columns, depth, unit, padded, state, source):
    a = z[0]
    p, step_p = place(unit, columns, depth)
    for k in range(depth):
        a += weights[begin + p + k * step_p] * state[source + k]
    return (a,)


def _add_three(a, b, c, weights, begin, columns, depth, unit, padded, state, source):
    p, step_p = place(unit, columns, depth)
    q, step_q = place(padded + unit, columns, depth)
    r, step_r = place(2 * padded + unit, columns, depth)
    for k in range(depth):
        value = state[source + k]
        a += weights[begin + p + k * step_p] * value
        b += weights[begin + q + k * step_q] * value
        c += weights[begin + r + k * step_r] * value
    return a, b, c


def _add_first_three(z, weights, begin, columns, depth, unit, padded, state, source):
    a, b, c = add_three(z[0], z[1], z[2], weights, begin, columns, depth, unit, padded, state, source)
    return a, b, c, z[3]


def _add_last_three(z, weights, begin, columns, depth, unit, padded, state, source):
    a, b, c = add_three(z[1], z[2], z[3], weights, begin, columns, depth, unit, padded, state, source)
    return z[0], a, b, c


def _add_four(z, weights, begin, columns, depth, unit, padded, state, source):
    a, b, c, d = z
    p, step_p = place(unit, columns, depth)
    q, step_q = place(padded + unit, columns, depth)
    r, step_r = place(2 * padded + unit, columns, depth)
    s, step_s = place(3 * padded + unit, columns, depth)
    for k in range(depth):
        value = state[source + k]
        a += weights[begin + p + k * step_p] * value
        b += weights[begin + q + k * step_q] * value
        c += weights[begin + r + k * step_r] * value
        d += weights[begin + s + k * step_s] * value
    return a, b, c, d


# The states of one unit. The new hidden state is written elsewhere, since other units are still to read the old one.
def _one_state(state, at, padded):
    return (state[at],)


def _two_states(state, at, padded):
    return state[at], state[at + padded]


def _keep_one(state, hidden, at, padded, new):
    state[hidden] = new[0]


def _keep_two(state, hidden, at, padded, new):
    state[hidden] = new[0]
    state[at + padded] = new[1]


def _step(parameters, state, x, out):
    """The step of `numrnn.kernels.cpu.streaming`, with the same arguments, in one thread."""
    weights, layout, units = parameters
    n_layers, n_ids, n_features = layout[N_LAYERS], layout[N_IDS], layout[N_FEATURES]
    ids = HEADER + n_layers * PER_LAYER
    projected = layout[PROJECTED]
    source = layout[INPUT]
    target = source
    row = 0
    for entry in range(ids, ids + n_ids * PER_ID, PER_ID):
        row = int(x[layout[entry]])
        # Ids that are not in the table count as unknown, which is the first row.
        row = row if 0 <= row < layout[entry + 1] else 0
        if projected == 0:
            size = layout[entry + 2]
            for i in range(size):
                state[target + i] = weights[layout[entry + 3] + row * size + i]
            target += size
    for i in range(n_features):
        is_id = False
        for entry in range(ids, ids + n_ids * PER_ID, PER_ID):
            is_id |= layout[entry] == i
        if not is_id:
            state[target] = x[i]
            target += 1

    scratch = layout[PRE_ACTIVATIONS]
    hidden_size = 0
    for layer in range(n_layers):
        entry = HEADER + layer * PER_LAYER
        input_size, hidden_size, padded = layout[entry], layout[entry + 1], layout[entry + 2]
        input_panels, states = layout[entry + 3], layout[entry + 4]
        input_columns, hidden_columns = N_INPUT_GATES * padded, N_HIDDEN_GATES * padded
        hidden_panels = input_panels + input_columns * input_size
        # Where a unit's sum begins: the bias, or what the id of the time step stands for.
        start, reads_input = hidden_panels + hidden_columns * hidden_size, True
        if layer == 0 and projected > 0:
            start, reads_input = projected + row * (N_SLOTS * padded), False
        for unit in range(hidden_size):
            z = slots_of(weights, start + unit, padded)
            if reads_input:
                z = add_input(z, weights, input_panels, input_columns, input_size, unit, padded, state, source)
            z = add_hidden(z, weights, hidden_panels, hidden_columns, hidden_size, unit, padded, state, states)
            _, new = cell_step(z, states_of(state, states + unit, padded))
            keep_states(state, scratch + unit, states + unit, padded, new)
        for unit in range(hidden_size):
            state[states + unit] = state[scratch + unit]
        if layout[RESIDUAL] != 0 and layer > 0 and input_size == hidden_size:
            # Two places in turn: one may be the input.
            total = layout[SUMS] + layer % 2 * padded
            for unit in range(hidden_size):
                state[total + unit] = state[states + unit] + state[source + unit]
            source = total
        else:
            source = states

    pooled = layout[POOLED]
    if layout[POOLING] == _MEAN:
        # The sum in two numbers, the second of them what the first has lost by rounding; then the number of steps.
        count = pooled + 2 * hidden_size
        steps = state[count] + ONE
        state[count] = steps
        for i in range(hidden_size):
            before = state[pooled + i]
            more = state[source + i] + state[pooled + hidden_size + i]
            after = before + more
            state[pooled + hidden_size + i] = more - (after - before)
            state[pooled + i] = after
            state[count + 1 + i] = after / steps
        source = count + 1
    elif layout[POOLING] == _MAX:
        begun = state[pooled + hidden_size] != 0
        state[pooled + hidden_size] = ONE
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
    columns = (n_outputs + LANES - 1) // LANES * LANES
    bias = readout + columns * hidden_size
    for i in range(n_outputs):
        p, step_p = place(i, columns, hidden_size)
        total = weights[bias + i]
        for k in range(hidden_size):
            total += weights[readout + p + k * step_p] * state[source + k]
        state[outputs + i] = total
    if head == _LINEAR:
        for i in range(n_outputs):
            out[i] = state[outputs + i] * units[0, i] + units[1, i]
        return
    largest = state[outputs]
    for i in range(1, n_outputs):
        largest = max(largest, state[outputs + i])
    denominator = state[outputs] - state[outputs]
    for i in range(n_outputs):
        one = math.exp(state[outputs + i] - largest)
        state[outputs + i] = one
        denominator += one
    for i in range(n_outputs):
        out[i] = state[outputs + i] / denominator


def _copy(function: FunctionType, name: str, names: dict[str, Any]) -> Any:
    copy = FunctionType(function.__code__, {**function.__globals__, **names}, name, function.__defaults__)
    copy.__doc__ = function.__doc__
    copy.__module__ = function.__module__
    return device_function(copy)


@cache
def device_step(cell_name: str, dtype: Any) -> Any:
    """The step for a cell and a type of numbers: a device function (parameters, state, x, out).

    Parameters
    ----------
    cell_name : str
    dtype : dtype
        Of the weights, the units and the state. x and out may be of any floating-point type.
    """
    cell, dtype = CELLS[cell_name], np.dtype(dtype)
    # In NumPy's arithmetic, which the simulator has, numbers of Python take the type of the others.
    names: dict[str, Any] = {
        "N_SLOTS": cell.n_slots,
        "N_INPUT_GATES": len(cell.input_gates),
        "N_HIDDEN_GATES": len(cell.hidden_gates),
        "PANEL": panel_width(dtype),
        "LANES": lane_count(dtype),
        "ONE": 1.0 if SIMULATED else dtype.type(1),
        "cell_step": step_of(cell),
    }
    names["place"] = _copy(_place, "place", names)
    names["add_three"] = _copy(_add_three, "add_three", names)
    inputs, hidden = {
        (1, 1): (_add_one, _add_one),
        (4, 4): (_add_four, _add_four),
        (3, 3): (_add_first_three, _add_last_three),
    }[len(cell.input_gates), len(cell.hidden_gates)]
    for name, function in {
        "slots_of": _one_slot if cell.n_slots == 1 else _four_slots,
        "add_input": inputs,
        "add_hidden": hidden,
        "states_of": _one_state if cell.n_states == 1 else _two_states,
        "keep_states": _keep_one if cell.n_states == 1 else _keep_two,
    }.items():
        names[name] = _copy(function, name, names)
    return _copy(_step, f"step_{cell.name}", names)


def to_device(parameters: StreamParameters) -> StreamParameters:
    """The arrays of a network on the device, all numbers in the type of its weights."""
    units = np.ascontiguousarray(parameters.units, dtype=parameters.weights.dtype)
    return StreamParameters(*map(cuda.to_device, (parameters.weights, parameters.layout, units)))


def _example(step: Any) -> Any:
    @kernel
    def walk(parameters, states, x, out):
        stream = cuda.grid(1)
        if stream < x.shape[0]:
            step(parameters, states[:, stream], x[stream], out[stream])

    return walk


def examples():
    """A kernel with a network in every thread, with the types of its arguments."""
    from numba.cuda import types

    for name in ("float32", "float64"):
        real = getattr(types, name)
        matrix = types.Array(real, 2, "C")
        arrays = types.Array(real, 1, "C"), types.Array(types.int64, 1, "C"), matrix
        for cell in CELLS:
            walk = _example(device_step(cell, np.dtype(name)))
            yield (
                f"step of a thread, {cell}",
                walk,
                (types.NamedTuple(arrays, StreamParameters), matrix, matrix, matrix),
            )
