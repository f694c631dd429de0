"""A stack of recurrent layers that looks at the rows of an encoder after every step: forward, and back through time.

One step of some rows: the context of the step before and the input make the pre-activations of the first layer, each
layer feeds the next, and the hidden state of the last one is the query of the attention, whose result is the new
context.

States, attended rows and contexts are matrices of `total` rows. First come the initial ones of every sequence, then
those after each packed row of a batch, so that the table `previous` gives for every packed row where the step before
lies, and nothing is moved from step to step. A search points this table at the hypotheses that it has kept.

`layout` (n_layers, 8) says where each layer has its part of the arrays that all layers share:

====  =====================================================
0, 1  units, and units padded to whole vectors
2     states: (n_states, total, padded)
3     saved: (n_rows, n_slots * padded)
4     inputs, of all layers but the first: (n_rows, padded of the layer below)
5, 6  panels of the hidden state's weights, and of the input's
7     biases by slot
====  =====================================================
"""

# mypy: disable-error-code="no-untyped-def, misc, operator"
from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

from numrnn.kernels.activations import ONE, tanh
from numrnn.kernels.cpu.cross_attention import cross_attend, cross_attend_adjoint
from numrnn.kernels.cpu.matmul import multiply
from numrnn.kernels.equations import CELLS, Cell
from numrnn.kernels.jit import ZERO, kernel, specialize
from numrnn.kernels.simd import fma, lanes, load, load_slots, store, store_slots

__all__ = ["DECODER", "Attention", "Memory", "Panels", "squash", "squash_adjoint"]

# What the loops below know of a cell. Each of their compiled copies has its own values of these names.
N_SLOTS = N_STATES = N_INPUT_GATES = N_HIDDEN_GATES = 0
step = adjoint = None
advance: Any = None


class Attention(NamedTuple):
    """The form of the attention, see `cross_attention`; how its result becomes the context, and where that goes."""

    attends: bool
    additive: bool
    feeds: bool
    projects_query: bool
    projects_output: bool
    n_heads: int
    key_width: int
    head_size: int
    value_pitch: int
    context_size: int
    context_pitch: int
    longest: int
    scale: Any


class Panels(NamedTuple):
    """Weights as `multiply` wants them: one array for all layers, and those of the attention."""

    hidden: Any
    inputs: Any
    bias: Any
    context: Any
    query: Any
    query_bias: Any
    output: Any
    output_bias: Any
    vector: Any


class Memory(NamedTuple):
    """What a decoder reads of the encoder, and what steps leave behind.

    keys, values, firsts, lasts, queries, attended, weights: see `cross_attention`; firsts and lasts of every sequence.
    masks: of the shape of inputs, or empty. contexts (total, context_pitch), `attended` itself if nothing is projected.
    """

    states: Any
    saved: Any
    inputs: Any
    masks: Any
    keys: Any
    values: Any
    firsts: Any
    lasts: Any
    queries: Any
    attended: Any
    weights: Any
    contexts: Any
    total: int


def _advance(attention, layout, panels, memory, previous, p0, new0, row0, f0, count, identity, lane):
    """One step of `count` rows.

    Row i comes from row previous[p0 + i] of the states and contexts and goes to row new0 + i of them. saved[row0 + i]
    of the first layer holds the pre-activations so far as they come from the input; it becomes the activated gates, as
    those of the other layers do. What the row reads is that of sequence f0 + i.
    """
    n_lanes = lanes(memory.states)
    states, saved, inputs, masks = memory.states, memory.saved, memory.inputs, memory.masks
    has_mask = len(masks) > 0
    n_layers = layout.shape[0]
    for layer in range(n_layers):
        size, padded = layout[layer, 0], layout[layer, 1]
        state0 = layout[layer, 2]
        slots = N_SLOTS * padded
        state_pitch = memory.total * padded
        z0 = layout[layer, 3] + row0 * slots
        input_columns = N_INPUT_GATES * padded
        hidden_columns = N_HIDDEN_GATES * padded
        hidden_first = slots - hidden_columns
        if layer == 0:
            if attention.feeds:
                multiply(
                    memory.contexts, ZERO, previous, p0, count, attention.context_pitch,
                    panels.context, ZERO, attention.context_size, input_columns,
                    saved, z0, slots, saved, z0, slots,
                )  # fmt: skip
        else:
            below = layout[layer - 1, 1]
            bias0 = layout[layer, 7]
            multiply(
                inputs, layout[layer, 4] + row0 * below, identity, ZERO, count, below,
                panels.inputs, layout[layer, 6], layout[layer - 1, 0], input_columns,
                panels.bias, bias0, ZERO, saved, z0, slots,
            )  # fmt: skip
            for i in range(count):
                for column in range(input_columns, slots, n_lanes):
                    store(saved, z0 + i * slots + column, load(panels.bias, bias0 + column))
        multiply(
            states, state0, previous, p0, count, padded,
            panels.hidden, layout[layer, 5], size, hidden_columns,
            saved, z0 + hidden_first, slots, saved, z0 + hidden_first, slots,
        )  # fmt: skip
        is_top = layer == n_layers - 1
        for i in range(count):
            before = state0 + previous[p0 + i] * padded
            after = state0 + (new0 + i) * padded
            above = 0
            if not is_top:
                above = layout[layer + 1, 4] + (row0 + i) * padded
            for unit in range(0, padded, n_lanes):
                at = z0 + i * slots + unit
                old = load_slots(states, before + unit, state_pitch, N_STATES)
                gates, new = step(load_slots(saved, at, padded, N_SLOTS), old)
                store_slots(saved, at, padded, gates)
                store_slots(states, after + unit, state_pitch, new)
                if not is_top:
                    if has_mask:
                        store(inputs, above + unit, new[0] * load(masks, above + unit))
                    else:
                        store(inputs, above + unit, new[0])
    if not attention.attends:
        return
    size, padded, state0 = layout[n_layers - 1, 0], layout[n_layers - 1, 1], layout[n_layers - 1, 2]
    key_pitch = attention.n_heads * attention.key_width
    if attention.projects_query:
        multiply(
            states, state0 + new0 * padded, identity, ZERO, count, padded,
            panels.query, ZERO, size, key_pitch,
            panels.query_bias, ZERO, ZERO, memory.queries, row0 * key_pitch, key_pitch,
        )  # fmt: skip
    else:
        for i in range(count):
            for unit in range(0, padded, n_lanes):
                store(memory.queries, (row0 + i) * padded + unit, load(states, state0 + (new0 + i) * padded + unit))
    cross_attend(
        attention.additive, memory.keys, memory.values, attention.value_pitch, panels.vector,
        memory.firsts, memory.lasts, f0, count, attention.n_heads, attention.key_width, attention.head_size,
        attention.scale, memory.queries, row0, memory.attended, new0, memory.weights, row0, attention.longest, lane,
    )  # fmt: skip
    if attention.projects_output:
        pitch = attention.context_pitch
        multiply(
            memory.attended, new0 * attention.value_pitch, identity, ZERO, count, attention.value_pitch,
            panels.output, ZERO, attention.n_heads * attention.head_size, pitch,
            panels.output_bias, ZERO, ZERO, memory.contexts, new0 * pitch, pitch,
        )  # fmt: skip


def forward(attention, layout, panels, memory, offsets, previous, identity, begin, end, lane):
    """Sequences begin to end of a packed batch through all time steps; see `advance`."""
    n_sequences = offsets[1] if len(offsets) > 1 else 0
    for t in range(len(offsets) - 1):
        first = offsets[t] + begin
        alive = min(end, offsets[t + 1] - offsets[t]) - begin
        if alive > 0:
            new0 = n_sequences + first
            advance(attention, layout, panels, memory, previous, first, new0, first, begin, alive, identity, lane)


def backward(
    attention, layout, panels, memory, offsets, previous, identity, begin, end, lane, d_states, d_layout, d_feed,
    d_below, d_top, d_contexts, d_attended, d_queries, d_keys, d_values, d_vectors, d_scores, zeros,
):  # fmt: skip
    """Sequences begin to end back through all time steps.

    panels are those of `pack_rows`, and memory is as `forward` left it. Overwrites saved with the gradients of the
    pre-activations.

    ===========  =====================================  =============================================================
    argument     shape                                  meaning
    ===========  =====================================  =============================================================
    d_states     (n_states, n_sequences, padded)        zero; becomes the gradient of the initial states. The part of
                 of each layer, from d_layout[layer]    a layer begins at d_layout[layer]
    d_feed       (n_sequences, context_pitch)           zero; scratch
    d_below      (n_sequences, widest padded)           scratch
    d_top        (n_rows, padded of the last layer)     gradient of its hidden states from outside
    d_contexts   (n_rows, context_pitch)                gradient of the contexts from outside; becomes the whole one
    d_attended   (n_rows, value_pitch)                  written; d_contexts itself if nothing is projected
    d_queries    (n_rows, n_heads * key_width)          written
    d_keys, ...                                         see `cross_attend_adjoint`
    zeros        (widest row of all,)                   zero
    ===========  =====================================  =============================================================
    """
    n_lanes = lanes(d_states)
    n_layers = layout.shape[0]
    n_sequences = offsets[1] if len(offsets) > 1 else 0
    saved, states = memory.saved, memory.states
    has_mask = len(memory.masks) > 0
    top = n_layers - 1
    top_padded = layout[top, 1]
    key_pitch = attention.n_heads * attention.key_width
    pitch = attention.context_pitch
    for t in range(len(offsets) - 2, -1, -1):
        first = offsets[t] + begin
        alive = min(end, offsets[t + 1] - offsets[t]) - begin
        if alive <= 0:
            continue
        d_h = d_layout[top] + begin * top_padded
        for i in range(alive):
            for unit in range(0, top_padded, n_lanes):
                at = d_h + i * top_padded + unit
                store(d_states, at, load(d_states, at) + load(d_top, (first + i) * top_padded + unit))
        if attention.attends:
            if attention.feeds:
                for i in range(alive):
                    for j in range(0, pitch, n_lanes):
                        at = (first + i) * pitch + j
                        store(d_contexts, at, load(d_contexts, at) + load(d_feed, (begin + i) * pitch + j))
            if attention.projects_output:
                multiply(
                    d_contexts, first * pitch, identity, ZERO, alive, pitch,
                    panels.output, ZERO, pitch, attention.value_pitch,
                    zeros, ZERO, ZERO, d_attended, first * attention.value_pitch, attention.value_pitch,
                )  # fmt: skip
            cross_attend_adjoint(
                attention.additive, memory.keys, memory.values, attention.value_pitch, panels.vector,
                memory.firsts, memory.lasts, begin, alive, attention.n_heads, attention.key_width,
                attention.head_size, attention.scale, memory.queries, first, d_attended, first, memory.weights, first,
                attention.longest, d_keys, d_values, d_vectors, d_queries, d_scores, lane,
            )  # fmt: skip
            if attention.projects_query:
                multiply(
                    d_queries, first * key_pitch, identity, ZERO, alive, key_pitch,
                    panels.query, ZERO, key_pitch, top_padded,
                    d_states, d_h, top_padded, d_states, d_h, top_padded,
                )  # fmt: skip
            else:
                for i in range(alive):
                    for unit in range(0, top_padded, n_lanes):
                        at = d_h + i * top_padded + unit
                        store(d_states, at, load(d_states, at) + load(d_queries, (first + i) * top_padded + unit))
        for layer in range(n_layers - 1, -1, -1):
            padded, state0 = layout[layer, 1], layout[layer, 2]
            slots = N_SLOTS * padded
            z0 = layout[layer, 3] + first * slots
            hidden_first = slots - N_HIDDEN_GATES * padded
            d_state0 = d_layout[layer] + begin * padded
            d_pitch = n_sequences * padded
            for i in range(alive):
                before = state0 + previous[first + i] * padded
                for unit in range(0, padded, n_lanes):
                    at = z0 + i * slots + unit
                    d_at = d_state0 + i * padded + unit
                    gates = load_slots(saved, at, padded, N_SLOTS)
                    old = load_slots(states, before + unit, memory.total * padded, N_STATES)
                    d_gates, d_old = adjoint(gates, old, load_slots(d_states, d_at, d_pitch, N_STATES))
                    store_slots(saved, at, padded, d_gates)
                    store_slots(d_states, d_at, d_pitch, d_old)
            multiply(
                saved, z0 + hidden_first, identity, ZERO, alive, slots,
                panels.hidden, layout[layer, 5], N_HIDDEN_GATES * padded, padded,
                d_states, d_state0, padded, d_states, d_state0, padded,
            )  # fmt: skip
            if layer > 0:
                below = layout[layer - 1, 1]
                multiply(
                    saved, z0, identity, ZERO, alive, slots,
                    panels.inputs, layout[layer, 6], N_INPUT_GATES * padded, below,
                    zeros, ZERO, ZERO, d_below, begin * below, below,
                )  # fmt: skip
                for i in range(alive):
                    for unit in range(0, below, n_lanes):
                        at = d_layout[layer - 1] + (begin + i) * below + unit
                        d = load(d_below, (begin + i) * below + unit)
                        if has_mask:
                            d = d * load(memory.masks, layout[layer, 4] + (first + i) * below + unit)
                        store(d_states, at, load(d_states, at) + d)
            elif attention.feeds:
                multiply(
                    saved, z0, identity, ZERO, alive, slots,
                    panels.context, ZERO, N_INPUT_GATES * padded, pitch,
                    zeros, ZERO, ZERO, d_feed, begin * pitch, pitch,
                )  # fmt: skip


@kernel
def squash(values, begin, end):
    """Replace elements by their tanh; begin and end are multiples of a vector's lanes."""
    for i in range(begin, end, lanes(values)):
        store(values, i, tanh(load(values, i)))


@kernel
def squash_adjoint(values, d_values, begin, end):
    """From the gradient of the results of `squash` to that of what it was given, in place."""
    for i in range(begin, end, lanes(values)):
        y = load(values, i)
        store(d_values, i, load(d_values, i) * fma(-y, y, ONE))


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
    one_step = specialize(_advance, f"advance_decoder_{cell.name}", **names)
    return SimpleNamespace(
        advance=one_step,
        forward=specialize(forward, f"forward_decoder_{cell.name}", advance=one_step, **names),
        backward=specialize(backward, f"backward_decoder_{cell.name}", **names),
    )


# The compiled loops of every cell, by the cell's name. Compilation happens when one is first called.
DECODER = {name: _compile(cell) for name, cell in CELLS.items()}
