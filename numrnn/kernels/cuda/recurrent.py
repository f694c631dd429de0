"""The recurrence of one layer, in one or both directions, in a single launch: weights stay in registers.

A block has `UNITS` units and a slice of the batch, a thread the weights of a few units for a part of the summation
index (see `registers`), read once. In every time step the blocks multiply a vector for each sequence of the slice (on
the way forward the hidden state, on the way back the gradients of the pre-activations) with their weights, add up the
parts, and apply the equations of the cell to the sums, one unit of one sequence in a thread. Directions are the third
axis of the grid, the second of which always walks from the end.

Where one block has all units (`MULTI` is False) the vectors never leave its shared memory. Else the blocks of a slice
exchange them through global memory, which the second-level cache holds, and meet after every step at a counter; the
launch is a cooperative one, so that all of them run at the same time. For launches of one step each nobody meets
(`TOGETHER` is False): that serves grids larger than the device, and the simulator, which runs block after block.

Buffers for the exchange are two, used in turn: what is written in a step is read in the next one.

===========  ================================================  =========================================================
argument     shape                                             meaning
===========  ================================================  =========================================================
values       (n_directions, n_rows, N_SLOTS * size)            forward: x @ weight_ih.T, overwritten by activated gates
                                                               if training; backward: these, overwritten by gradients of
                                                               the pre-activations. Blocks of columns: the gates of
                                                               weight_ih as PyTorch has them, then the other slots
before       (n_directions, n_rows, N_STATES, size)            states before each step, written forward if training
seen         (n_directions, n_rows, size)                      likewise what the recurrent product saw of h, if masked
state        (n_directions, n_sequences, N_STATES, size)       by position: forward the first states, then the last;
                                                               backward their gradients, last ones and then first ones
exchange     (n_directions, 2, n_sequences, vector pitch)      both halves begin with the same vectors
counters     int32 (n_slices * n_directions * 32)              zero
outputs      (n_rows, pitch)                                   written, or their gradients are read
===========  ================================================  =========================================================

Rows are packed; sequences `begin` to `begin + slice_size` by position belong to a block. `parameters` is the flat
vector of the network; weight_hh, bias_ih and bias_hh are (forward, reverse) pairs of places in it.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import warnings
from functools import cache
from types import FunctionType
from typing import Any

import numpy as np
from numba import boolean, cuda, float32, float64, int32, int64, types, uint32, void

from numrnn.kernels.cuda.geometry import Device, Geometry
from numrnn.kernels.cuda.grids import SIMULATED, device_function, kernel, matrix_grid
from numrnn.kernels.cuda.registers import (
    WARP,
    WORD_BYTES,
    copy_word,
    launched_together,
    load_acquire,
    load_weights,
    multiply,
    reduce_lanes,
    rounds_of,
    width_of,
)
from numrnn.kernels.cuda.scalars import adjoint_of, masked, step_of
from numrnn.kernels.equations import CELLS, Cell

__all__ = [
    "Launch",
    "begin_exchange",
    "columns_of",
    "kernel_function",
    "kernel_types",
    "move_states",
    "recurrent_kernel",
    "register_budget",
    "this_device",
]

# Counters of different slices lie in different lines of the cache.
COUNTER_PITCH = 32

# Words are read whole; the simulator takes no alignment.
ALIGNMENT = None if SIMULATED else WORD_BYTES

# What the kernels below know of a cell and of their launch. Each of their copies has its own values of these names.
FLOAT: Any = float32
N_SLOTS = N_STATES = N_GATES = 1
UNITS = UNITS_EACH = LANES = WORDS = WIDTH = SEQUENCES = CHUNK = THREADS = PARTS = DEPTH_PITCH = 1
ROW_GATES = ROWS = WARP_LANES = LEFT = SIZE = 1
MULTI = False
step: Any = None
adjoint = read_slots = write_slots = read_states = write_states = join = publish_all = total = step
multiply_all = fetch = lane_base_of = meet = add_biases = places_of = move_own_states = step


def columns_of(cell: Cell) -> tuple[int, ...]:
    """The block of columns of every slot: gates of the input as in weight_ih, then what only the state adds to."""
    return tuple(cell.input_gates) + tuple(range(len(cell.input_gates), cell.n_slots))


# --------------------------------------------------------------------------------------- tuples of slots and of states
def _read_1(array, at, pitch):
    return (array[at],)


def _read_2(array, at, pitch):
    return array[at], array[at + pitch]


def _read_4(array, at, pitch):
    return array[at], array[at + pitch], array[at + 2 * pitch], array[at + 3 * pitch]


def _read_gru(array, at, pitch):
    # Columns are r, z and n from the input, and n from the hidden state; slots begin with n from the input.
    return array[at + 2 * pitch], array[at], array[at + pitch], array[at + 3 * pitch]


def _write_1(array, at, pitch, values):
    array[at] = values[0]


def _write_2(array, at, pitch, values):
    array[at] = values[0]
    array[at + pitch] = values[1]


def _write_4(array, at, pitch, values):
    array[at] = values[0]
    array[at + pitch] = values[1]
    array[at + 2 * pitch] = values[2]
    array[at + 3 * pitch] = values[3]


def _write_gru(array, at, pitch, values):
    array[at + 2 * pitch] = values[0]
    array[at] = values[1]
    array[at + pitch] = values[2]
    array[at + 3 * pitch] = values[3]


def _total(shared, at, part_pitch):
    total = shared[at]
    for part in range(1, PARTS):
        total += shared[at + part * part_pitch]
    return total


def _join_1(z, shared, bias, parts, part_pitch):
    return (z[0] + shared[bias] + total(shared, parts, part_pitch),)


def _join_4(z, shared, bias, parts, part_pitch):
    return (
        z[0] + shared[bias] + total(shared, parts, part_pitch),
        z[1] + shared[bias + UNITS] + total(shared, parts + UNITS, part_pitch),
        z[2] + shared[bias + 2 * UNITS] + total(shared, parts + 2 * UNITS, part_pitch),
        z[3] + shared[bias + 3 * UNITS] + total(shared, parts + 3 * UNITS, part_pitch),
    )


def _join_gru(z, shared, bias, parts, part_pitch):
    # No input reaches the last slot, whatever its column holds.
    return (
        z[0] + shared[bias],
        z[1] + shared[bias + UNITS] + total(shared, parts, part_pitch),
        z[2] + shared[bias + 2 * UNITS] + total(shared, parts + UNITS, part_pitch),
        shared[bias + 3 * UNITS] + total(shared, parts + 2 * UNITS, part_pitch),
    )


def _publish_1(target, at, size, slots):
    target[at] = slots[0]


def _publish_4(target, at, size, slots):
    target[at] = slots[0]
    target[at + size] = slots[1]
    target[at + 2 * size] = slots[2]
    target[at + 3 * size] = slots[3]


def _publish_gru(target, at, size, slots):
    target[at] = slots[1]
    target[at + size] = slots[2]
    target[at + 2 * size] = slots[3]


# ------------------------------------------------------------------------------------------------ parts of the kernels
def _fetch(exchange, source, shared, count, me):
    """Copy the vectors of `count` sequences to shared memory."""
    words = DEPTH_PITCH // WIDTH
    for i in range(me, count * words, THREADS):
        copy_word(shared, i * WIDTH, exchange, source + i * WIDTH, WIDTH)


def _lane_base(lane):
    """The first of the sums that a lane has after `reduce_lanes`, or -1 if another lane has them as well.

    The rounds are those of `registers.rounds_of`.
    """
    count, base, offset = ROWS * SEQUENCES, 0, WARP_LANES // 2
    while offset > 0:
        bit = (lane & offset) != 0
        if count % 2 == 0:
            count = count // 2
            if bit:
                base += count
        elif bit:
            base = -_NOBODY
        offset = offset // 2
    return base if base >= 0 else -1


# More than there can be sums.
_NOBODY = 2**30


def _multiply_all(weights, shared, parts, count, lane, group, part, base):
    """Products of the vectors of `count` sequences with the weights of all threads: their parts, in shared memory.

    parts[part, sequence, gate, unit], with CHUNK sequences.
    """
    for first in range(0, count, SEQUENCES):
        sums = multiply(
            weights, shared, first * DEPTH_PITCH + lane * WIDTH, DEPTH_PITCH, ROWS, WORDS, LANES,
            WIDTH, SEQUENCES,
        )  # fmt: skip
        sums = reduce_lanes(sums, lane % WARP_LANES, LANES)
        if base >= 0:
            for i in range(LEFT):
                number = base + i
                sequence = number // ROWS
                row = number % ROWS
                unit = group * UNITS_EACH + row // ROW_GATES
                at = ((part * CHUNK + first + sequence) * ROW_GATES + row % ROW_GATES) * UNITS + unit
                shared[parts + at] = sums[i]


def _meet_alone(counters, place, n_blocks, meetings):
    cuda.syncthreads()


def _meet_together(counters, place, n_blocks, meetings):
    """Wait until all blocks of a slice are here, and see what they have written.

    The barrier of the block orders its writes before the fence and the addition of its first thread, which is what
    the others wait for; the fence after that and the second barrier order their writes before what is read from here.
    """
    launched_together()
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        cuda.threadfence()
        cuda.atomic.add(counters, place, 1)
        while load_acquire(counters, place) < n_blocks * meetings:
            pass
        cuda.threadfence()
    cuda.syncthreads()


def _places(direction, begin, n_rows, n_sequences):
    """Where a block's part begins in values, states before each step, states and exchange, and its counter."""
    return (
        direction * n_rows * N_SLOTS * SIZE,
        direction * N_STATES * n_rows * SIZE,
        (direction * n_sequences + begin) * N_STATES * SIZE,
        (direction * 2 * n_sequences + begin) * DEPTH_PITCH,
        (direction * cuda.gridDim.y + cuda.blockIdx.y) * COUNTER_PITCH,
    )


def _move_own_states(state, first, shared, own, mine, unit_begin, me, begins):
    """The states of a block's units and sequences: to shared memory where a walk begins, and back where it ends."""
    for i in range(me, mine * UNITS, THREADS):
        unit = unit_begin + i % UNITS
        if unit < SIZE:
            there = first + i // UNITS * N_STATES * SIZE + unit
            here = own + i // UNITS * N_STATES * UNITS + i % UNITS
            if begins:
                write_states(shared, here, UNITS, read_states(state, there, SIZE))
            else:
                write_states(state, there, SIZE, read_states(shared, here, UNITS))


# ------------------------------------------------------------------------------------------------------- the two loops
def _forward(
    values, before, seen, state, exchange, counters, outputs, pitch, offsets, order, parameters, weight_hh, bias_ih,
    bias_hh, n_rows, n_sequences, slice_size, n_steps, first_step, last_step, training, is_masked, seed, stream,
    threshold, scale,
):  # fmt: skip
    shared = cuda.shared.array(0, FLOAT, ALIGNMENT)
    me, direction, unit_begin = cuda.threadIdx.x, cuda.blockIdx.z, cuda.blockIdx.x * UNITS
    reverse = direction == 1
    begin = cuda.blockIdx.y * slice_size
    mine = min(slice_size, n_sequences - begin)
    stream = np.uint32(stream + direction)
    # Shared memory: vectors, parts of sums, biases, states.
    parts = CHUNK * DEPTH_PITCH
    part_pitch = CHUNK * N_GATES * UNITS
    bias = parts + PARTS * part_pitch
    own = bias + N_SLOTS * UNITS
    values_first, before_first, state_first, exchange_first, place = places_of(direction, begin, n_rows, n_sequences)
    exchange_pitch = n_sequences * DEPTH_PITCH
    lane, group = me % LANES, me // LANES
    part, base = lane // WARP_LANES, lane_base_of(lane % WARP_LANES)
    own_unit = unit_begin + group * UNITS_EACH
    weights = load_weights(
        parameters, weight_hh[direction] + own_unit * SIZE, SIZE - own_unit, SIZE, SIZE, SIZE * SIZE, 1, lane,
        UNITS_EACH, N_GATES, WORDS, LANES, WIDTH,
    )  # fmt: skip
    for i in range(me, UNITS, THREADS):
        unit = unit_begin + i
        if unit < SIZE:
            add_biases(parameters, bias_ih[direction] + unit, bias_hh[direction] + unit, SIZE, shared, bias + i)
    move_own_states(state, state_first, shared, own, mine, unit_begin, me, True)
    if not MULTI:
        fetch(exchange, exchange_first, shared, mine, me)
    cuda.syncthreads()

    # The pre-activations of a thread's first unit of the next step are read while the others of this step are computed.
    my_unit = unit_begin + me % UNITS
    my_sequence = me // UNITS
    t = n_steps - 1 - first_step if reverse else first_step
    row = offsets[t]
    end = offsets[t + 1] - row - begin
    reads = my_unit < SIZE and my_sequence < end
    pending = read_slots(
        values, values_first + ((row + begin + my_sequence) * N_SLOTS * SIZE + my_unit if reads else 0), SIZE
    )
    for s in range(first_step, last_step):
        alive = min(end, mine)
        first_row = row + begin
        if s + 1 < last_step:
            t = n_steps - 2 - s if reverse else s + 1
            row = offsets[t]
            end = offsets[t + 1] - row - begin
        for chunk in range(0, alive, CHUNK):
            count = min(CHUNK, alive - chunk)
            if MULTI:
                half = exchange_first + (s % 2) * exchange_pitch
                fetch(exchange, half + chunk * DEPTH_PITCH, shared, count, me)
                cuda.syncthreads()
            multiply_all(weights, shared, parts, count, lane, group, part, base)
            cuda.syncthreads()
            for i in range(me, count * UNITS, THREADS):
                number = chunk + i // UNITS
                column = i % UNITS
                unit = unit_begin + column
                if unit < SIZE:
                    at = values_first + (first_row + number) * N_SLOTS * SIZE + unit
                    z = pending if i == me and chunk == 0 else read_slots(values, at, SIZE)
                    z = join(z, shared, bias + column, parts + (i // UNITS) * N_GATES * UNITS + column, part_pitch)
                    here = own + number * N_STATES * UNITS + column
                    old = read_states(shared, here, UNITS)
                    kept, new = step(z, old)
                    write_states(shared, here, UNITS, new)
                    outputs[(first_row + number) * pitch + direction * SIZE + unit] = new[0]
                    vector = number * DEPTH_PITCH + unit
                    value = new[0]
                    if is_masked:
                        value = masked(value, seed, stream, threshold, scale, order[begin + number], unit)
                    if training:
                        write_slots(values, at, SIZE, kept)
                        there = before_first + (first_row + number) * N_STATES * SIZE + unit
                        write_states(before, there, SIZE, old)
                        if is_masked:
                            saw = masked(old[0], seed, stream, threshold, scale, order[begin + number], unit)
                            seen[(direction * n_rows + first_row + number) * SIZE + unit] = saw
                    if MULTI:
                        exchange[exchange_first + ((s + 1) % 2) * exchange_pitch + vector] = value
                    else:
                        shared[vector] = value
        reads = my_unit < SIZE and my_sequence < end
        pending = read_slots(
            values, values_first + ((row + begin + my_sequence) * N_SLOTS * SIZE + my_unit if reads else 0), SIZE
        )
        if s + 1 < last_step:
            meet(counters, place, cuda.gridDim.x, s + 1 - first_step)
    cuda.syncthreads()
    move_own_states(state, state_first, shared, own, mine, unit_begin, me, False)


def _backward(
    values, before, state, exchange, counters, d_outputs, pitch, has_output, offsets, order, parameters, weight_hh,
    n_rows, n_sequences, slice_size, n_steps, first_step, last_step, is_masked, seed, stream, threshold, scale,
):  # fmt: skip
    shared = cuda.shared.array(0, FLOAT, ALIGNMENT)
    me, direction, unit_begin = cuda.threadIdx.x, cuda.blockIdx.z, cuda.blockIdx.x * UNITS
    reverse = direction == 1
    begin = cuda.blockIdx.y * slice_size
    mine = min(slice_size, n_sequences - begin)
    stream = np.uint32(stream + direction)
    parts = CHUNK * DEPTH_PITCH
    part_pitch = CHUNK * UNITS
    own = parts + PARTS * part_pitch
    values_first, before_first, state_first, exchange_first, place = places_of(direction, begin, n_rows, n_sequences)
    exchange_pitch = n_sequences * DEPTH_PITCH
    lane, group = me % LANES, me // LANES
    part, base = lane // WARP_LANES, lane_base_of(lane % WARP_LANES)
    own_unit = unit_begin + group * UNITS_EACH
    weights = load_weights(
        parameters, weight_hh[direction] + own_unit, SIZE - own_unit, N_GATES * SIZE, 1, 0, SIZE, lane, UNITS_EACH, 1,
        WORDS, LANES, WIDTH,
    )  # fmt: skip
    move_own_states(state, state_first, shared, own, mine, unit_begin, me, True)
    if not MULTI:
        fetch(exchange, exchange_first, shared, mine, me)
    cuda.syncthreads()

    # The last step of all is a product without equations: it gives the gradient of the first states.
    for s in range(first_step, last_step):
        alive = 0
        first_row = 0
        if s < n_steps:
            t = s if reverse else n_steps - 1 - s
            first_row = offsets[t] + begin
            alive = min(offsets[t + 1] - first_row, mine)
        # The sequences that have published gradients in the step before.
        count_all = alive
        if s > 0:
            t = s - 1 if reverse else n_steps - s
            count_all = max(alive, min(offsets[t + 1] - offsets[t] - begin, mine))
        for chunk in range(0, count_all, CHUNK):
            count = min(CHUNK, count_all - chunk)
            if MULTI:
                half = exchange_first + (s % 2) * exchange_pitch
                fetch(exchange, half + chunk * DEPTH_PITCH, shared, count, me)
                cuda.syncthreads()
            multiply_all(weights, shared, parts, count, lane, group, part, base)
            cuda.syncthreads()
            for i in range(me, count * UNITS, THREADS):
                number = chunk + i // UNITS
                column = i % UNITS
                unit = unit_begin + column
                if unit < SIZE:
                    product = total(shared, parts + (i // UNITS) * UNITS + column, part_pitch)
                    if is_masked:
                        product = masked(product, seed, stream, threshold, scale, order[begin + number], unit)
                    here = own + number * N_STATES * UNITS + column
                    shared[here] += product
                    if number < alive:
                        row = first_row + number
                        if has_output:
                            shared[here] += d_outputs[row * pitch + direction * SIZE + unit]
                        at = values_first + row * N_SLOTS * SIZE + unit
                        kept = read_slots(values, at, SIZE)
                        old = read_states(before, before_first + row * N_STATES * SIZE + unit, SIZE)
                        d_z, d_old = adjoint(kept, old, read_states(shared, here, UNITS))
                        write_slots(values, at, SIZE, d_z)
                        write_states(shared, here, UNITS, d_old)
                        vector = number * DEPTH_PITCH + unit
                        if MULTI:
                            target = exchange_first + ((s + 1) % 2) * exchange_pitch + vector
                            publish_all(exchange, target, SIZE, d_z)
                        else:
                            publish_all(shared, vector, SIZE, d_z)
        if s + 1 < last_step:
            meet(counters, place, cuda.gridDim.x, s + 1 - first_step)
    cuda.syncthreads()
    move_own_states(state, state_first, shared, own, mine, unit_begin, me, False)


def _biases_1(parameters, ih, hh, size, shared, at):
    shared[at] = parameters[ih] + parameters[hh]


def _biases_4(parameters, ih, hh, size, shared, at):
    for gate in range(4):
        shared[at + gate * UNITS] = parameters[ih + gate * size] + parameters[hh + gate * size]


def _biases_gru(parameters, ih, hh, size, shared, at):
    shared[at] = parameters[ih + 2 * size]
    shared[at + UNITS] = parameters[ih] + parameters[hh]
    shared[at + 2 * UNITS] = parameters[ih + size] + parameters[hh + size]
    shared[at + 3 * UNITS] = parameters[hh + 2 * size]


@kernel
def _begin_exchange(exchange, vector_pitch, state, n_states, n_sequences, size, order, is_masked, seed, stream,
                    threshold, scale, zero):  # fmt: skip
    begin = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    direction = cuda.blockIdx.z
    own_stream = np.uint32(stream + direction)
    for n in range(begin, n_sequences, cuda.gridDim.x * cuda.blockDim.y):
        for i in range(cuda.threadIdx.x, vector_pitch, cuda.blockDim.x):
            value = exchange.dtype.type(0)
            if not zero and i < size:
                value = state[(direction * n_sequences + n) * n_states * size + i]
                if is_masked:
                    value = masked(value, seed, own_stream, threshold, scale, order[n], i)
            for half in range(2):
                exchange[((direction * 2 + half) * n_sequences + n) * vector_pitch + i] = value


def begin_exchange(queue, exchange, vector_pitch, state, n_directions, n_states, n_sequences, size, order, mask, zero):
    """Write both halves of the buffer for the exchange: hidden states as the product sees them, or zero."""
    is_masked, *numbers = mask
    blocks, threads = matrix_grid(n_sequences)
    _begin_exchange[(blocks, 1, n_directions), (*threads, 1), queue](
        exchange, vector_pitch, state, n_states, n_sequences, size, order, is_masked, *numbers, zero
    )


# By gates, slots and states: the functions above that belong to a cell.
_OF_ONE = (_read_1, _write_1, _join_1, _publish_1, _biases_1)
_OF_FOUR = (_read_4, _write_4, _join_4, _publish_4, _biases_4)
_OF_GRU = (_read_gru, _write_gru, _join_gru, _publish_gru, _biases_gru)


def _slot_functions(cell: Cell) -> tuple[Any, ...]:
    shape = (tuple(cell.input_gates), tuple(cell.hidden_gates), cell.n_slots)
    return {
        ((0,), (0,), 1): _OF_ONE,
        ((0, 1, 2, 3), (0, 1, 2, 3), 4): _OF_FOUR,
        ((2, 0, 1), (0, 1, 2), 4): _OF_GRU,
    }[shape]


def _copy(function: FunctionType, name: str, names: dict[str, Any]) -> FunctionType:
    copy = FunctionType(function.__code__, {**function.__globals__, **names}, name, function.__defaults__)
    copy.__module__ = function.__module__
    copy.__qualname__ = name
    return copy


def kernel_function(
    cell_name: str, hidden_size: int, dtype_name: str, backward: bool, geometry: Geometry
) -> FunctionType:
    """The loop of a cell of some size for a geometry, not compiled yet."""
    cell = CELLS[cell_name]
    dtype = np.dtype(dtype_name)
    read, write, join_, publish, biases = _slot_functions(cell)
    row_gates = 1 if backward else cell.n_gates
    warp_lanes = min(geometry.lanes, WARP)
    count = geometry.units_each * row_gates * geometry.sequences
    left = count
    for _, halve in rounds_of(count, geometry.lanes):
        left = left // 2 if halve else left
    constants: dict[str, Any] = {
        "FLOAT": dtype if SIMULATED else float32 if dtype == np.float32 else float64,
        "SIZE": hidden_size,
        "N_SLOTS": cell.n_slots,
        "N_STATES": cell.n_states,
        "N_GATES": cell.n_gates,
        "ROW_GATES": row_gates,
        "ROWS": geometry.units_each * row_gates,
        "UNITS": geometry.units,
        "UNITS_EACH": geometry.units_each,
        "LANES": geometry.lanes,
        "WARP_LANES": warp_lanes,
        "WORDS": geometry.words,
        "WIDTH": width_of(dtype),
        "SEQUENCES": geometry.sequences,
        "CHUNK": geometry.chunk,
        "THREADS": geometry.threads,
        "PARTS": geometry.lanes // warp_lanes,
        "DEPTH_PITCH": geometry.vector_pitch,
        "LEFT": left,
        "MULTI": geometry.n_unit_blocks > 1,
    }

    def made(function: FunctionType, **names: Any) -> Any:
        return device_function(_copy(function, function.__name__, {**constants, **names}))

    constants["total"] = made(_total)
    of_states = (_read_1, _write_1) if cell.n_states == 1 else (_read_2, _write_2)
    constants["read_states"], constants["write_states"] = map(made, of_states)
    names = {
        **constants,
        "step": step_of(cell),
        "adjoint": adjoint_of(cell),
        "read_slots": made(read),
        "write_slots": made(write),
        "join": made(join_),
        "publish_all": made(publish),
        "add_biases": made(biases),
        "fetch": made(_fetch),
        "multiply_all": made(_multiply_all),
        "lane_base_of": made(_lane_base),
        "places_of": made(_places),
        "move_own_states": made(_move_own_states),
        "meet": made(_meet_together if geometry.together else _meet_alone),
    }
    loop = _backward if backward else _forward
    name = f"{'backward' if backward else 'forward'}_{cell_name}_{hidden_size}_{dtype.name}_{geometry.label}"
    return _copy(loop, name, names)


def kernel_types(dtype: np.dtype, backward: bool) -> tuple[Any, ...]:
    """Of the arguments."""
    real, index = float32 if dtype == np.float32 else float64, int64
    reals, indices, pair = real[::1], index[::1], types.UniTuple(index, 2)
    mask = (boolean, uint32, uint32, uint32, real)
    if backward:
        of_back = (reals, reals, reals, reals, int32[::1], reals, index, boolean, indices, indices, reals, pair)
        return *of_back, *(index,) * 6, *mask
    arrays = (reals, reals, reals, reals, reals, int32[::1], reals, index, indices, indices, reals, pair, pair, pair)
    return *arrays, *(index,) * 6, boolean, *mask


@cache
def recurrent_kernel(cell_name: str, hidden_size: int, dtype_name: str, backward: bool, geometry: Geometry) -> Any:
    """The compiled kernel."""
    function = kernel_function(cell_name, hidden_size, dtype_name, backward, geometry)
    if SIMULATED:
        return cuda.jit(function)
    signature = void(*kernel_types(np.dtype(dtype_name), backward))
    return cuda.jit(signature, launch_bounds=(geometry.threads, 1))(function)


def register_budget(capability: Any) -> tuple[int, int]:
    """Weights of a thread and threads of a block up to which kernels compile without spills; see docs/gpu.md."""
    return (96, 512) if tuple(capability) >= (9, 0) else (32, 256)


def this_device() -> Device:
    """The device of the present context; in the simulator one on which several blocks share the units."""
    if SIMULATED:
        return Device(4, 4096)
    device = cuda.get_current_device()
    most = getattr(device, "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN", None) or 48 * 1024
    return Device(device.MULTIPROCESSOR_COUNT, int(most) - 1024, *register_budget(device.compute_capability))


@cache
def _allow_shared_memory(kernel_: Any) -> None:
    """A block has more than 48 KiB of shared memory only if the driver was told so before: as much as there is."""
    from numba.cuda.cudadrv import driver

    attribute = driver.binding.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    for compiled in kernel_.overloads.values():
        function = compiled._codelibrary.get_cufunc()
        driver.driver.cuKernelSetAttribute(attribute, this_device().shared_bytes, function.handle, function.device.id)


class Launch:
    """The recurrence of one layer for batches of some size: which kernel, over which blocks.

    Parameters
    ----------
    cell_name : str
    hidden_size : int
    dtype : dtype
    backward : bool
    n_sequences, n_directions : int
    geometry : Geometry
    slice_size : int

    Attributes
    ----------
    vector_pitch : int
        Elements of a vector in the exchange.
    n_counters : int
    """

    def __init__(
        self,
        cell_name: str,
        hidden_size: int,
        dtype: np.dtype,
        backward: bool,
        n_sequences: int,
        n_directions: int,
        geometry: Geometry,
        slice_size: int,
    ) -> None:
        cell = CELLS[cell_name]
        n_slices = -(-n_sequences // slice_size)
        self.geometry = geometry
        self.slice_size = slice_size
        self.vector_pitch = geometry.vector_pitch
        self.n_counters = n_slices * n_directions * COUNTER_PITCH
        self._kernel = recurrent_kernel(cell_name, hidden_size, dtype.name, backward, geometry)
        row_gates = 1 if backward else cell.n_gates
        size = geometry.shared_size(slice_size, row_gates, cell.n_states, cell.n_slots)
        self._shared_bytes = size * dtype.itemsize
        self._grid = (geometry.n_unit_blocks, n_slices, n_directions)
        self._configured: Any = None
        self._queue: Any = None
        if not SIMULATED and self._shared_bytes > 48 * 1024:
            _allow_shared_memory(self._kernel)

    def run(
        self,
        queue: Any,
        before_steps: tuple[Any, ...],
        n_timesteps: int,
        n_steps: int,
        after_steps: tuple[Any, ...],
    ) -> None:
        """Launch for `n_steps` steps of a batch; the arguments are those before and after the range of steps."""
        if not n_timesteps:
            # The kernels read the first of the steps.
            return
        if self._queue is not queue or SIMULATED:
            with warnings.catch_warnings():
                # Of grids that do not fill a device.
                warnings.simplefilter("ignore")
                self._configured = self._kernel[self._grid, self.geometry.threads, queue, self._shared_bytes]
            self._queue = queue
        kernel_ = self._configured
        if self.geometry.together or self.geometry.n_unit_blocks == 1:
            kernel_(*before_steps, 0, n_steps, *after_steps)
            return
        for s in range(n_steps):
            kernel_(*before_steps, s, s + 1, *after_steps)


@kernel
def _move_states(
    source, source_first, source_pitch, target, target_first, target_pitch, n_columns, count, order, gather
):
    begin = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    for n in range(begin, count, cuda.gridDim.x * cuda.blockDim.y):
        there, here = (order[n], n) if gather else (n, order[n])
        for i in range(cuda.threadIdx.x, n_columns, cuda.blockDim.x):
            target[target_first + here * target_pitch + i] = source[source_first + there * source_pitch + i]


def move_states(queue, source, target, n_columns, count, order, gather):
    """Bring rows into the order of the packing (`gather`), or back.

    source, target: (device array, first element, elements from row to row).
    """
    if count:
        _move_states[*matrix_grid(count), queue](*source, *target, n_columns, count, order, gather)


def examples():
    """Kernels of this file that do not depend on a geometry, with the types of their arguments."""
    for real in ("f4", "f8"):
        array, mask = f"{real}[::1]", ("b1", "u4", "u4", "u4", real)
        yield "_begin_exchange", _begin_exchange, (array, "i8", array, "i8", "i8", "i8", "i8[::1]", *mask, "b1")
        yield "_move_states", _move_states, (array, *("i8",) * 2, array, *("i8",) * 4, "i8[::1]", "b1")
