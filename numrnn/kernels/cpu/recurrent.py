"""One recurrent layer in one direction through time, forward and backward, for a range of the sequences of a batch.

The loops know nothing of a cell but its `step`, its `adjoint` and how many slots and states it has. Sequences lie in
the order of a `Packing`: at time step t the first `offsets[t + 1] - offsets[t]` of them are alive. A call walks
sequences `begin` to `end` of that order; calls for disjoint ranges touch disjoint memory, which is how a batch is
divided among threads.

Sizes: units are padded to a whole number of vectors (`padded`); a row of slots has n_slots * padded elements, slot
after slot. States are kept in place: `state` (n_states, n_sequences, padded) holds the newest state of every sequence,
so that a sequence which has ended keeps its last state and one which has not begun (in the reverse direction) its
first.

The factors of products are numbers, or pairs of bfloat16 (see `simd`) where weights are pairs; sums, states and all
that is kept are numbers in any case.
"""

# mypy: disable-error-code="no-untyped-def, misc, operator"
from __future__ import annotations

from types import SimpleNamespace

from numrnn.kernels.barrier import meet
from numrnn.kernels.cpu.matmul import multiply, multiply_few, multiply_two, multiply_where_it_lies
from numrnn.kernels.equations import CELLS, Cell
from numrnn.kernels.jit import ZERO, inline, specialize
from numrnn.kernels.memory import numbers_of
from numrnn.kernels.simd import (
    FEW_ROWS,
    constant,
    factors_of,
    fma,
    lanes,
    load,
    load_partial,
    load_slots,
    numbers_in,
    store,
    store_factor,
    store_factor_slots,
    store_partial,
    store_slots,
    zeros_like,
)
from numrnn.kernels.subnormals import flush_subnormals, restore_subnormals

__all__ = ["RECURRENT"]

# What the loops below know of a cell. Each of their compiled copies has its own values of these names.
N_SLOTS = N_STATES = N_INPUT_GATES = N_HIDDEN_GATES = 0
step = adjoint = None


@inline
def _read_states(given, has_given, order, begin, end, unit_begin, units, hidden_size, padded, state, state_pitch):
    """Some units of the states of some sequences, padded: given (n_states, n_sequences, hidden_size), or zero."""
    stop = min(unit_begin + units, hidden_size)
    for n in range(begin, end):
        for s in range(given.shape[0]):
            row = s * state_pitch + n * padded
            for unit in range(unit_begin, unit_begin + units):
                state[row + unit] = 0
            if has_given:
                for unit in range(unit_begin, stop):
                    state[row + unit] = given[s, order[n], unit]


@inline
def _write_states(state, state_pitch, order, begin, end, unit_begin, units, hidden_size, padded, results, place):
    """The inverse of `_read_states`, to results[:, place]."""
    stop = min(unit_begin + units, hidden_size)
    for n in range(begin, end):
        for s in range(results.shape[0]):
            row = s * state_pitch + n * padded
            for unit in range(unit_begin, stop):
                results[s, place, order[n], unit] = state[row + unit]


def forward(
    values,
    value_rows,
    value_pitch,
    weights,
    initial,
    has_initial,
    final,
    place,
    output,
    output_rows,
    output_column,
    output_pitch,
    has_output,
    input_size,
    hidden_size,
    padded,
    state,
    hidden,
    mask,
    has_mask,
    n_sequences,
    offsets,
    order,
    identity,
    reverse,
    begin,
    end,
    unit_begin,
    units,
    counter,
    n_threads,
    z,
    chunk_rows,
    saved,
    previous,
    previous_hidden,
    training,
    factors,
):
    """Walk sequences begin to end through all time steps.

    Reads values (input of packed row r in row value_rows[r]) and weights, those of the units of this call, as
    `pack_layer` writes them. Where input_size is 0 there are no input weights: a row of values is then what the product
    of the input with them, and the biases, would have written, n_input_gates * padded elements.

    The states begin with initial (n_states, n_sequences, hidden_size) if has_initial, else with zero, and the last ones
    are written to final[:, place]; there sequence n of the batch is number order[n].
    Writes output[output_rows[r], output_column:+hidden_size] if has_output, and if training, for the backward pass,
    saved (n_rows, n_slots * padded): the activated gates, and previous (n_rows, n_states * padded): the states before
    the step. state, z and chunk_rows are scratch, the latter for as many rows as chunk_rows has, at least end - begin.

    The recurrent product reads hidden, which is state itself or, if has_mask, h * mask (n_sequences, padded), kept
    there from step to step; then, if training, previous_hidden (n_rows, padded) receives what the product read.

    Where weights are pairs, hidden is an array of pairs of its own in any case, and factors is scratch for the rows of
    chunk_rows: their values as pairs, each row a whole number of vectors of numbers.
    """
    before = flush_subnormals()
    per_element = numbers_in(weights)
    numbers = numbers_of(weights)
    n_lanes = lanes(state)
    slots = N_SLOTS * units
    state_pitch = n_sequences * padded
    n_steps = len(offsets) - 1
    input_columns = N_INPUT_GATES * units
    hidden_columns = N_HIDDEN_GATES * units
    hidden_first = slots - hidden_columns
    input_depth = (input_size + per_element - 1) // per_element
    hidden_depth = (hidden_size + per_element - 1) // per_element
    hidden_panels = input_columns * input_depth
    bias = hidden_panels + hidden_columns * hidden_depth
    _read_states(initial, has_initial, order, begin, end, unit_begin, units, hidden_size, padded, state, state_pitch)
    if has_mask or per_element > 1:
        for n in range(begin, end):
            for at in range(n * padded + unit_begin, n * padded + unit_begin + units, n_lanes):
                h = load(state, at)
                if has_mask:
                    h = h * load(mask, at)
                store_factor(hidden, at, h)
    read, hidden_pitch = constant(hidden), padded // per_element
    # The input as the products read it: rows of values, or what becomes of them in factors.
    wide = (input_size + n_lanes - 1) // n_lanes * n_lanes
    inputs = factors_of(values, constant(factors))
    input_rows, input_pitch = chunk_rows, value_pitch
    if per_element > 1:
        input_rows, input_pitch = identity, wide // per_element
    meetings = 0
    if n_threads > 1:
        meetings += 1
        meet(counter, n_threads, meetings)
    done = 0
    while done < n_steps:
        # As many time steps as the scratch holds: their inputs go through the input weights in one product.
        chunk_end = done
        n_rows = 0
        # Where all slots take both products, and rows are enough to use a weight several times, a tile makes both.
        at_once = input_size > 0 and N_INPUT_GATES == N_SLOTS and N_HIDDEN_GATES == N_SLOTS
        while chunk_end < n_steps:
            t = n_steps - 1 - chunk_end if reverse else chunk_end
            first = offsets[t]
            alive = min(end, offsets[t + 1] - first) - begin
            if alive > 0:
                if n_rows + alive > len(chunk_rows):
                    break
                for i in range(alive):
                    chunk_rows[n_rows + i] = value_rows[first + begin + i]
                n_rows += alive
                at_once = at_once and alive > FEW_ROWS
            chunk_end += 1
        if per_element > 1:
            whole = input_size // n_lanes * n_lanes
            for row in range(n_rows):
                source, target = chunk_rows[row] * value_pitch, row * wide
                for i in range(0, whole, n_lanes):
                    store_factor(factors, target + i, load(values, source + i))
                if whole < input_size:
                    store_factor(factors, target + whole, load_partial(values, source + whole, input_size - whole))
        if at_once:
            # The products with the inputs are made with those of the hidden states.
            pass
        elif input_size > 0:
            multiply(
                inputs,
                ZERO,
                input_rows,
                ZERO,
                n_rows,
                input_pitch,
                weights,
                ZERO,
                input_depth,
                input_columns,
                numbers,
                bias,
                ZERO,
                z,
                ZERO,
                slots,
            )
        else:
            # What the input adds to the pre-activations has been given as it is, with the biases.
            for row in range(n_rows):
                source = chunk_rows[row] * value_pitch + unit_begin
                for slot in range(N_INPUT_GATES):
                    target = row * slots + slot * units
                    for own in range(0, units, n_lanes):
                        store(z, target + own, load(values, source + slot * padded + own))
        for row in range(n_rows):
            for column in range(input_columns, slots, n_lanes):
                store(z, row * slots + column, load(numbers, bias + column))

        row = 0
        for s in range(done, chunk_end):
            t = n_steps - 1 - s if reverse else s
            first = offsets[t]
            alive = min(end, offsets[t + 1] - first) - begin
            if alive <= 0:
                continue
            at = 0 if at_once else row * slots
            if at_once:
                multiply_two(
                    inputs,
                    ZERO,
                    input_rows,
                    row,
                    input_pitch,
                    input_depth,
                    read,
                    ZERO,
                    identity,
                    begin,
                    hidden_pitch,
                    hidden_depth,
                    alive,
                    weights,
                    ZERO,
                    hidden_panels,
                    slots,
                    numbers,
                    bias,
                    z,
                    at,
                    slots,
                )
            elif alive <= FEW_ROWS:
                multiply_few(
                    read,
                    ZERO,
                    identity,
                    begin,
                    alive,
                    hidden_pitch,
                    weights,
                    hidden_panels,
                    hidden_depth,
                    hidden_columns,
                    z,
                    at + hidden_first,
                    slots,
                    z,
                    at + hidden_first,
                    slots,
                    s % 2 == 1,
                )
            else:
                multiply(
                    read,
                    ZERO,
                    identity,
                    begin,
                    alive,
                    hidden_pitch,
                    weights,
                    hidden_panels,
                    hidden_depth,
                    hidden_columns,
                    z,
                    at + hidden_first,
                    slots,
                    z,
                    at + hidden_first,
                    slots,
                )
            if n_threads > 1:
                # Nobody may change the hidden state that others still read.
                meetings += 1
                meet(counter, n_threads, meetings)
            for i in range(alive):
                packed = first + begin + i
                z_row = at + i * slots
                state_row = (begin + i) * padded
                out = 0
                if has_output:
                    out = output_rows[packed] * output_pitch + output_column
                for own in range(0, units, n_lanes):
                    unit = unit_begin + own
                    old = load_slots(state, state_row + unit, state_pitch, N_STATES)
                    gates, new = step(load_slots(z, z_row + own, units, N_SLOTS), old)
                    store_slots(state, state_row + unit, state_pitch, new)
                    if training:
                        store_slots(saved, packed * N_SLOTS * padded + unit, padded, gates)
                        store_slots(previous, packed * N_STATES * padded + unit, padded, old)
                    h = new[0]
                    if has_mask:
                        kept = load(mask, state_row + unit)
                        if training:
                            store(previous_hidden, packed * padded + unit, old[0] * kept)
                        h = h * kept
                    if has_mask or per_element > 1:
                        store_factor(hidden, state_row + unit, h)
                    if has_output:
                        if unit + n_lanes <= hidden_size:
                            store(output, out + unit, new[0])
                        else:
                            store_partial(output, out + unit, hidden_size - unit, new[0])
            if n_threads > 1:
                # Nor read one that others have not written yet.
                meetings += 1
                meet(counter, n_threads, meetings)
            row += alive
        done = chunk_end
    _write_states(state, state_pitch, order, begin, end, unit_begin, units, hidden_size, padded, final, place)
    restore_subnormals(before)


def backward(
    weight,
    hidden_panels,
    d_final,
    has_final,
    d_last,
    has_last,
    d_initial,
    place,
    d_output,
    output_rows,
    output_column,
    output_pitch,
    has_output,
    gates_of_slots,
    hidden_size,
    padded,
    d_state,
    d_hidden,
    mask,
    has_mask,
    n_sequences,
    offsets,
    order,
    identity,
    reverse,
    begin,
    end,
    unit_begin,
    units,
    counter,
    n_threads,
    saved,
    previous,
    factors,
):
    """Walk sequences begin to end back through all time steps.

    Reads saved and previous as `forward` left them, hidden_panels (as `pack_rows` writes the columns of weight_hh for
    the units of this call; if empty, weight_hh itself, see `multiply_where_it_lies`) and, if has_output,
    d_output[output_rows[r], output_column:+hidden_size]. Overwrites saved with the gradients of the pre-activations.
    The gradients of the final states are d_final (n_states, n_sequences, hidden_size) if has_final, to which d_last
    (n_sequences, ...) from output_column on is added for the hidden state if has_last; those of the initial states are
    written to d_initial[:, place]. d_state (n_states, n_sequences, padded) is scratch. If has_mask, the recurrent
    product read h * mask (n_sequences, padded); then d_hidden is scratch of the shape of mask.

    The recurrent product reads the gradients of the pre-activations from factors, of the shape of saved: that array
    itself, or where hidden_panels are pairs one of pairs, which it writes.
    """
    before = flush_subnormals()
    per_element = numbers_in(factors)
    n_lanes = lanes(d_state)
    slots = N_SLOTS * padded
    state_pitch = n_sequences * padded
    hidden_columns = N_HIDDEN_GATES * padded
    hidden_first = slots - hidden_columns
    n_steps = len(offsets) - 1
    d_z = constant(factors)
    # Where there is no mask the product is added in place.
    target = d_hidden if has_mask else d_state
    # Of the states nobody reads the units of others.
    _read_states(d_final, has_final, order, begin, end, unit_begin, units, hidden_size, padded, d_state, state_pitch)
    if has_last:
        for n in range(begin, end):
            for unit in range(unit_begin, min(unit_begin + units, hidden_size)):
                d_state[n * padded + unit] += d_last[order[n], output_column + unit]
    meetings = 0
    for s in range(n_steps):
        t = s if reverse else n_steps - 1 - s
        first = offsets[t]
        alive = min(end, offsets[t + 1] - first) - begin
        if alive <= 0:
            continue
        for i in range(alive):
            packed = first + begin + i
            state_row = (begin + i) * padded
            out = 0
            if has_output:
                out = output_rows[packed] * output_pitch + output_column
            for unit in range(unit_begin, unit_begin + units, n_lanes):
                if has_output:
                    # The hidden state's gradient: what comes from later steps, and what comes from this step's output.
                    if unit + n_lanes <= hidden_size:
                        d_h = load(d_output, out + unit)
                    else:
                        d_h = load_partial(d_output, out + unit, hidden_size - unit)
                    store(d_state, state_row + unit, load(d_state, state_row + unit) + d_h)
                gates = load_slots(saved, packed * slots + unit, padded, N_SLOTS)
                old = load_slots(previous, packed * N_STATES * padded + unit, padded, N_STATES)
                d_new = load_slots(d_state, state_row + unit, state_pitch, N_STATES)
                d_gates, d_old = adjoint(gates, old, d_new)
                store_slots(saved, packed * slots + unit, padded, d_gates)
                if per_element > 1:
                    store_factor_slots(factors, packed * slots + unit, padded, d_gates)
                store_slots(d_state, state_row + unit, state_pitch, d_old)
        if n_threads > 1:
            # The product takes the gradients of all units.
            meetings += 1
            meet(counter, n_threads, meetings)
        corner = begin * padded + unit_begin
        if has_mask:
            for i in range(alive):
                for at in range(corner + i * padded, corner + i * padded + units, n_lanes):
                    store(d_hidden, at, zeros_like(load(d_hidden, at)))
        d_z0 = (first + begin) * slots + hidden_first
        if len(hidden_panels) > 0:
            multiply(
                d_z,
                d_z0 // per_element,
                identity,
                ZERO,
                alive,
                slots // per_element,
                hidden_panels,
                ZERO,
                hidden_columns // per_element,
                units,
                target,
                corner,
                padded,
                target,
                corner,
                padded,
            )
        else:
            multiply_where_it_lies(
                constant(saved),
                d_z0,
                identity,
                alive,
                slots,
                gates_of_slots,
                padded,
                hidden_size,
                weight,
                unit_begin,
                units,
                target,
                corner,
                padded,
            )
        if has_mask:
            for i in range(alive):
                for at in range(corner + i * padded, corner + i * padded + units, n_lanes):
                    store(d_state, at, fma(load(d_hidden, at), load(mask, at), load(d_state, at)))
    _write_states(d_state, state_pitch, order, begin, end, unit_begin, units, hidden_size, padded, d_initial, place)
    restore_subnormals(before)


def advance(x, states, layer, weights, workspace, identity, padded, results):
    """One time step of one layer, for few sequences at a time: nothing but this step's arrays, unpadded.

    Reads x (n_sequences, input_size), states (a tuple of n_states arrays (n_layers, n_sequences, hidden_size)) and
    weights as `forward`. Writes results[s, layer] (n_sequences, hidden_size): the new states, and for s = n_states the
    output once more. workspace is scratch of n_sequences * ((n_slots + n_states) * padded + input_size) elements.
    Returns whether the input, and whether the state is finite.
    """
    before = flush_subnormals()
    n_lanes = lanes(workspace)
    n_sequences, input_size = x.shape
    hidden_size = results.shape[3]
    slots = N_SLOTS * padded
    state_pitch = n_sequences * padded
    z0 = N_STATES * state_pitch
    x0 = z0 + n_sequences * slots
    input_columns = N_INPUT_GATES * padded
    hidden_columns = N_HIDDEN_GATES * padded
    hidden_panels = input_columns * input_size
    bias = hidden_panels + hidden_columns * hidden_size
    # A finite number minus itself is zero, any other is NaN.
    bad_input = weights.dtype.type(0)
    bad_state = weights.dtype.type(0)
    for n in range(n_sequences):
        for i in range(input_size):
            workspace[x0 + n * input_size + i] = x[n, i]
            bad_input += x[n, i] - x[n, i]
        for s in range(N_STATES):
            at = s * state_pitch + n * padded
            for i in range(hidden_size):
                value = states[s][layer, n, i]
                workspace[at + i] = value
                bad_state += value - value
            for i in range(hidden_size, padded):
                workspace[at + i] = 0
    multiply(
        constant(workspace),
        x0,
        identity,
        ZERO,
        n_sequences,
        input_size,
        weights,
        ZERO,
        input_size,
        input_columns,
        weights,
        bias,
        ZERO,
        workspace,
        z0,
        slots,
    )
    first = z0 + slots - hidden_columns
    for n in range(n_sequences):
        for column in range(input_columns, slots, n_lanes):
            store(workspace, z0 + n * slots + column, load(weights, bias + column))
    multiply(
        constant(workspace),
        ZERO,
        identity,
        ZERO,
        n_sequences,
        padded,
        weights,
        hidden_panels,
        hidden_size,
        hidden_columns,
        workspace,
        first,
        slots,
        workspace,
        first,
        slots,
    )
    for n in range(n_sequences):
        for unit in range(0, padded, n_lanes):
            at = n * padded + unit
            old = load_slots(workspace, at, state_pitch, N_STATES)
            _, new = step(load_slots(workspace, z0 + n * slots + unit, padded, N_SLOTS), old)
            store_slots(workspace, at, state_pitch, new)
        for i in range(hidden_size):
            results[N_STATES, layer, n, i] = workspace[n * padded + i]
        for s in range(N_STATES):
            for i in range(hidden_size):
                results[s, layer, n, i] = workspace[s * state_pitch + n * padded + i]
    restore_subnormals(before)
    return bad_input == 0, bad_state == 0


def _compile(cell: Cell) -> SimpleNamespace:
    """The loops for one cell."""
    names = {
        "step": cell.equations.step,
        "adjoint": cell.equations.adjoint,
        "N_SLOTS": cell.n_slots,
        "N_STATES": cell.n_states,
        "N_INPUT_GATES": len(cell.input_gates),
        "N_HIDDEN_GATES": len(cell.hidden_gates),
    }
    return SimpleNamespace(
        forward=specialize(forward, f"forward_{cell.name}", **names),
        backward=specialize(backward, f"backward_{cell.name}", **names),
        advance=specialize(advance, f"advance_{cell.name}", **names),
    )


# The compiled loops of every cell, by the cell's name. Compilation happens when one is first called.
RECURRENT = {name: _compile(cell) for name, cell in CELLS.items()}
