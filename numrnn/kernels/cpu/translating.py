"""An encoder and a decoder for one source, within other compiled code.

The network is a `TranslatorParameters`, which Numba takes as it is. The encoder walks each direction of each layer with
`streaming.step`; what the decoder does is in `decoding`. Scratch is allocated in every call, some of it as long as the
source and the target are; calls may run side by side.
"""

# mypy: disable-error-code="no-untyped-def, misc, operator, attr-defined, index, arg-type"
from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from numrnn.kernels.cpu import streaming
from numrnn.kernels.cpu.decoder import Attention, Memory, squash
from numrnn.kernels.cpu.decoding import DECODING, Hypotheses
from numrnn.kernels.cpu.matmul import multiply
from numrnn.kernels.equations import CELLS, Cell
from numrnn.kernels.jit import ZERO, kernel, specialize
from numrnn.kernels.simd import lanes
from numrnn.kernels.stream_layout import N_OUTPUTS, STATE_SIZE

__all__ = ["TRANSLATING", "TranslatorParameters"]

# What the loops below know of a cell. Each of their compiled copies has its own values of these names.
N_STATES = 0
step: Any = None
encode: Any = None
read: Any = None
scratch: Any = None
search: Any = None
unroll: Any = None


class TranslatorParameters(NamedTuple):
    """An encoder and a decoder for compiled code.

    Attributes
    ----------
    directions : tuple of StreamParameters
        The directions of the encoder, layer by layer; of a decoder without an encoder one that is not used.
    n_directions, n_layers : int
        Of each layer, and of the encoder, which may be 0.
    state_size, source_size : int
        Of the encoder's top layer, both directions; and columns of a source.
    attention, layout, panels, readout
        Of the decoder, see `decoder` and `decoding`.
    sizes : ndarray of int64, shape (3,)
        Elements of the decoder's states, saved pre-activations and inputs.
    key, key_bias, value, value_bias : ndarray
        Packed weights that make keys and values of the encoder's states; `value` is empty if these are the states.
    key_pitch : int
    bridge, bridge_bias : ndarray
        Packed weights that make the first states of the decoder's layers, one after the other.
    table : ndarray
        Vectors of the ids of a target.
    forbidden : ndarray of int64
        Ids that are not written.
    end_id, width, longest : int
        The mark around a target, the hypotheses that are kept, and the tokens at most.
    exponent, coverage : float
        See `decoding`.
    units : ndarray of float64, shape (2, n_columns)
        By what measurements are multiplied, and what is then added.
    """

    directions: Any
    n_directions: int
    n_layers: int
    state_size: int
    source_size: int
    attention: Any
    layout: Any
    panels: Any
    readout: Any
    sizes: Any
    key: Any
    key_bias: Any
    value: Any
    value_bias: Any
    key_pitch: int
    bridge: Any
    bridge_bias: Any
    table: Any
    forbidden: Any
    end_id: int
    width: int
    longest: int
    exponent: float
    coverage: float
    units: Any


def _encode(p, source, n_steps, states, summary):
    """The states of the top layer (n_steps, state_size), and of the last steps of its directions."""
    width = p.source_size
    x = np.zeros(n_steps * width, dtype=states.dtype)
    for i in range(len(source)):
        x[i] = source[i]
    for layer in range(p.n_layers):
        is_top = layer == p.n_layers - 1
        size = p.directions[layer * p.n_directions].layout[N_OUTPUTS]
        pitch = p.n_directions * size
        found = states if is_top else np.empty(n_steps * pitch, dtype=states.dtype)
        for direction in range(p.n_directions):
            own = p.directions[layer * p.n_directions + direction]
            state = np.zeros(own.layout[STATE_SIZE], dtype=states.dtype)
            for i in range(n_steps):
                t = n_steps - 1 - i if direction == 1 else i
                at = t * pitch + direction * size
                step(own, state, x[t * width : (t + 1) * width], found[at : at + size])
                if is_top and i == n_steps - 1:
                    summary[direction * size : (direction + 1) * size] = found[at : at + size]
        x, width = found, pitch


def _read(p, source, max_rows):
    """Read a source, a row of numbers after the other: the attention, and what a decoder of `max_rows` rows needs."""
    dtype = p.bridge.dtype
    n_steps = max(len(source) // p.source_size, 1) if p.n_layers > 0 else 0
    identity = np.arange(max(n_steps, 2 * max_rows))
    states = np.empty(n_steps * p.state_size, dtype=dtype)
    summary = np.zeros(p.state_size if p.n_layers > 0 else p.source_size, dtype=dtype)
    if p.n_layers > 0:
        encode(p, source, n_steps, states, summary)
    else:
        for i in range(len(source)):
            summary[i] = source[i]
    a = p.attention
    keys = values = np.zeros(1, dtype=dtype)
    if a.attends:
        keys = np.empty(n_steps * p.key_pitch, dtype=dtype)
        multiply(
            states, ZERO, identity, ZERO, n_steps, p.state_size, p.key, ZERO, p.state_size, p.key_pitch,
            p.key_bias, ZERO, ZERO, keys, ZERO, p.key_pitch,
        )  # fmt: skip
        values = np.zeros(n_steps * a.value_pitch, dtype=dtype)
        if len(p.value) > 0:
            multiply(
                states, ZERO, identity, ZERO, n_steps, p.state_size, p.value, ZERO, p.state_size, a.value_pitch,
                p.value_bias, ZERO, ZERO, values, ZERO, a.value_pitch,
            )  # fmt: skip
        else:
            for t in range(n_steps):
                for i in range(p.state_size):
                    values[t * a.value_pitch + i] = states[t * p.state_size + i]
    attention = Attention(
        a.attends, a.additive, a.feeds, a.projects_query, a.projects_output, a.n_heads, a.key_width, a.head_size,
        a.value_pitch, a.context_size, a.context_pitch, max(n_steps, 1), a.scale,
    )  # fmt: skip
    total = 2 * max_rows
    attended = np.zeros(max(total * a.value_pitch, 1), dtype=dtype)
    contexts = attended
    if a.projects_output:
        contexts = np.zeros(max(total * a.context_pitch, 1), dtype=dtype)
    memory = Memory(
        np.zeros(p.sizes[0], dtype=dtype),
        np.zeros(p.sizes[1], dtype=dtype),
        np.zeros(p.sizes[2], dtype=dtype),
        np.zeros(0, dtype=dtype),
        keys,
        values,
        np.zeros(max_rows, dtype=np.int64),
        np.zeros(max_rows, dtype=np.int64),
        np.zeros(max_rows * a.n_heads * a.key_width, dtype=dtype),
        attended,
        np.zeros(max_rows * a.n_heads * attention.longest, dtype=dtype),
        contexts,
        total,
    )
    # The first states of all layers, each of them padded to whole vectors.
    panels = bias = ZERO
    for layer in range(p.layout.shape[0]):
        padded = p.layout[layer, 1]
        pitch = N_STATES * padded
        found = np.empty(pitch, dtype=dtype)
        multiply(
            summary, ZERO, identity, ZERO, 1, len(summary), p.bridge, panels, len(summary), pitch,
            p.bridge_bias, bias, ZERO, found, ZERO, pitch,
        )  # fmt: skip
        squash(found, ZERO, pitch)
        for state in range(N_STATES):
            first = p.layout[layer, 2] + state * total * padded
            memory.states[first : first + padded] = found[state * padded : (state + 1) * padded]
        panels += pitch * len(summary)
        bias += pitch
    return attention, memory, identity, n_steps


def _scratch(p, max_rows, longest):
    """See `decoding`."""
    k = min(max_rows + 1, p.readout.n_outputs)
    rows = Hypotheses(
        np.zeros(max_rows, dtype=np.int64),
        np.zeros(max_rows, dtype=np.int64),
        np.zeros(max_rows),
        np.zeros(max_rows),
        np.zeros(max_rows, dtype=np.int64),
        np.zeros(max_rows * k),
        np.zeros(max_rows * k, dtype=np.int64),
        np.zeros((2, max_rows, longest)),
        np.zeros(max_rows, dtype=np.int64),
        np.zeros(1, dtype=np.int64),
        np.zeros(1, dtype=np.int64),
    )
    squashed = np.zeros(max_rows * p.readout.read_pitch, dtype=p.bridge.dtype)
    outputs = np.zeros(max_rows * p.readout.out_pitch, dtype=p.bridge.dtype)
    return rows, squashed, outputs, np.zeros(max_rows, dtype=np.int64), np.zeros(lanes(p.bridge), dtype=p.bridge.dtype)


def _write_ids(p, source, out):
    """Write the ids of the target of `source` to `out` and return how many there are.

    p: a `TranslatorParameters` of a decoder of ids. source: ids (n_timesteps,), measurements (n_timesteps, n_columns)
    or a vector (n_features,); one without time steps is read as one unknown id. out: whole numbers, of at least
    `longest` elements.
    """
    attention, memory, identity, n_steps = read(p, source.reshape(-1), p.width)
    rows, squashed, outputs, previous, lane = scratch(p, p.width, attention.longest)
    firsts, lasts, most = np.zeros(1, dtype=np.int64), np.full(1, n_steps), np.full(1, p.longest)
    tokens = np.zeros((1, 1, p.longest), dtype=np.int64)
    lengths = np.zeros((1, 1), dtype=np.int64)
    scores, likelihoods = np.zeros((1, 1)), np.zeros((1, 1))
    search(
        attention, p.layout, p.panels, memory, p.readout, p.table, previous, rows, squashed, outputs, identity, lane,
        firsts, lasts, most, p.width, 1, p.exponent, p.coverage, p.forbidden, p.end_id, tokens, lengths, scores,
        likelihoods, np.zeros((0, p.longest, 1)), np.zeros((2, p.longest + 1, p.width), dtype=np.int64),
        np.zeros((1, p.width, attention.longest)),
    )  # fmt: skip
    for i in range(lengths[0, 0]):
        out[i] = tokens[0, 0, i]
    return lengths[0, 0]


def _write_values(p, source, out):
    """Write the measurements that follow `source` to every row of `out` (n_timesteps, n_columns); return its length.

    The other arguments are those of `write_ids`.
    """
    n_rows = len(out)
    attention, memory, identity, n_steps = read(p, source.reshape(-1), 1)
    rows, squashed, outputs, previous, lane = scratch(p, 1, attention.longest)
    found = np.zeros((n_rows, p.readout.n_outputs), dtype=p.bridge.dtype)
    unroll(
        attention, p.layout, p.panels, memory, p.readout, np.zeros(p.readout.n_outputs, dtype=p.bridge.dtype), previous,
        rows, squashed, outputs, identity, lane, np.zeros(1, dtype=np.int64), np.full(1, n_steps), np.full(1, n_rows),
        np.zeros(1, dtype=np.int64), found, np.zeros(n_rows, dtype=np.uint8), found, np.zeros((0, 1)),
    )  # fmt: skip
    for t in range(n_rows):
        for i in range(found.shape[1]):
            out[t, i] = np.float64(found[t, i]) * p.units[0, i] + p.units[1, i]
    return n_rows


def _compile(cell: Cell) -> SimpleNamespace:
    """The functions for one cell."""
    encode = specialize(_encode, f"encode_{cell.name}", allocates=True, step=streaming.STREAMING[cell.name].step)
    read = specialize(_read, f"read_{cell.name}", allocates=True, encode=encode, N_STATES=cell.n_states)
    common = {"allocates": True, "read": read, "scratch": kernel(_scratch, allocates=True)}
    loops = DECODING[cell.name]
    return SimpleNamespace(
        ids=specialize(_write_ids, f"write_ids_{cell.name}", search=loops.search, **common),
        values=specialize(_write_values, f"write_values_{cell.name}", unroll=loops.unroll, **common),
    )


# The functions of every cell, by the cell's name. Compilation happens when one is first called.
TRANSLATING = {name: _compile(cell) for name, cell in CELLS.items()}
