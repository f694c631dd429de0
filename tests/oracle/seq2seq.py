"""An encoder and a decoder with attention, one sequence and one step after the other; greedy and beam search.

Parameters are a mapping by the names of `numrnn`'s network: those of a recurrent stack for the encoder, and
`bridge_...`, `decoder_...`, `attention_...`, `readout_...`, `weight_out` and `bias_out`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from oracle.cells import CELLS, Array
from oracle.recurrent import forward as encode_stack

Parameters = Mapping[str, NDArray]


class Form(NamedTuple):
    cell: str
    attention: str | None
    n_heads: int = 1
    input_feeding: bool = True


class State(NamedTuple):
    states: list[Array]  # (n_states, H) of every layer
    context: Array


def encode(cell: str, parameters: Parameters, rows: Array) -> tuple[Array, Array]:
    """States of all steps of one source (T, E), and its summary: the last hidden states of the top layer."""
    own = {name: value for name, value in parameters.items() if name.startswith(("weight_ih", "weight_hh", "bias_ih"))}
    own |= {name: value for name, value in parameters.items() if name.startswith("bias_hh")}
    run = encode_stack(cell, own, [rows])
    n_directions = 2 if "weight_hh_l0_reverse" in own else 1
    return run.outputs[0], np.concatenate([state[0, 0] for state in run.state[-n_directions:]])


def begin(form: Form, parameters: Parameters, summary: Array) -> State:
    """The state before the first step."""
    states = []
    while f"bridge_weight_l{len(states)}" in parameters:
        layer = len(states)
        state = np.tanh(parameters[f"bridge_weight_l{layer}"] @ summary + parameters[f"bridge_bias_l{layer}"])
        states.append(state.reshape(CELLS[form.cell].n_states, -1))
    width = parameters["readout_weight_context"].shape[1] if form.attention else 0
    return State(states, np.zeros(width))


def softmax(scores: Array) -> Array:
    e = np.exp(scores - scores.max())
    return e / e.sum()


def attend(form: Form, p: Parameters, query: Array, memory: Array) -> tuple[Array, Array]:
    """The context of one query (H,), and the weights (n_heads, T)."""
    if len(memory) == 0:
        attended = np.zeros(p["attention_value_weight"].shape[0] if form.attention == "multihead" else memory.shape[1])
        weights = np.zeros((form.n_heads, 0))
    elif form.attention == "additive":
        hidden = np.tanh(
            memory @ p["attention_key_weight"].T + p["attention_key_bias"] + p["attention_query_weight"] @ query
        )
        weights = softmax(hidden @ p["attention_vector"])[np.newaxis]
        attended = weights[0] @ memory
    elif form.attention == "multiplicative":
        weights = softmax(memory @ p["attention_key_weight"].T @ query)[np.newaxis]
        attended = weights[0] @ memory
    else:
        keys = (memory @ p["attention_key_weight"].T + p["attention_key_bias"]).reshape(len(memory), form.n_heads, -1)
        values = (memory @ p["attention_value_weight"].T + p["attention_value_bias"]).reshape(keys.shape)
        queries = (p["attention_query_weight"] @ query + p["attention_query_bias"]).reshape(form.n_heads, -1)
        scale = np.sqrt(queries.shape[1])
        weights = np.array([softmax(keys[:, h] @ queries[h] / scale) for h in range(form.n_heads)])
        attended = np.concatenate([weights[h] @ values[:, h] for h in range(form.n_heads)])
    if form.attention == "multihead":
        return p["attention_output_weight"] @ attended + p["attention_output_bias"], weights
    return attended, weights


def step(form: Form, p: Parameters, state: State, y: Array, memory: Array | None) -> tuple[Array, State, Array | None]:
    """One input further: raw outputs, the new state, and the weights of the attention."""
    cell, x, states = CELLS[form.cell], y, []
    for layer, before in enumerate(state.states):
        projection = p[f"decoder_weight_ih_l{layer}"] @ x + p[f"decoder_bias_ih_l{layer}"]
        if layer == 0 and form.attention and form.input_feeding:
            projection = projection + p["decoder_weight_context"] @ state.context
        recurrent = p[f"decoder_weight_hh_l{layer}"] @ before[0] + p[f"decoder_bias_hh_l{layer}"]
        after, _ = cell.step(projection, recurrent, before)
        states.append(after)
        x = after[0]
    known = p["readout_weight_state"] @ x + p["readout_weight_input"] @ y + p["readout_bias"]
    context, weights = state.context, None
    if form.attention:
        assert memory is not None
        context, weights = attend(form, p, x, memory)
        known = known + p["readout_weight_context"] @ context
    outputs = p["weight_out"] @ np.tanh(known) + p["bias_out"]
    return outputs, State(states, context), weights


def log_softmax(outputs: Array) -> Array:
    shifted = outputs - outputs.max()
    return shifted - np.log(np.exp(shifted).sum())


def follow(
    form: Form, p: Parameters, summary: Array, memory: Array | None, inputs: Sequence[Array]
) -> tuple[Array, list[Array | None]]:
    """Raw outputs (T, n_outputs) with given inputs, and the weights of every step."""
    state, outputs, looked = begin(form, p, summary), [], []
    for y in inputs:
        output, state, weights = step(form, p, state, y, memory)
        outputs.append(output)
        looked.append(weights)
    return np.array(outputs), looked


def greedy(form: Form, p: Parameters, summary: Array, memory: Array | None, table: Array, most: int) -> list[int]:
    """The most probable id after those before it; the last one of the table is the end."""
    end_id, state, ids = len(table) - 1, begin(form, p, summary), []
    while len(ids) < most:
        outputs, state, _ = step(form, p, state, table[ids[-1] if ids else end_id], memory)
        best = int(outputs.argmax())
        if best == end_id:
            break
        ids.append(best)
    return ids


def beam(
    form: Form,
    p: Parameters,
    summary: Array,
    memory: Array | None,
    table: Array,
    most: int,
    *,
    width: int,
    exponent: float = 1.0,
    coverage_weight: float = 0.0,
) -> list[tuple[float, list[int]]]:
    """All hypotheses that end before the search is done, the best first: (score, ids)."""
    end_id = len(table) - 1
    alive = [(0.0, [], begin(form, p, summary), np.zeros(0 if memory is None else len(memory)))]
    ended: list[tuple[float, list[int]]] = []
    while alive and len(ended) < width:
        continued = []
        for likelihood, ids, state, covered in alive:
            outputs, after, weights = step(form, p, state, table[ids[-1] if ids else end_id], memory)
            own = covered if weights is None else covered + weights.mean(axis=0)
            log_probabilities = log_softmax(outputs)
            for token in [end_id] if len(ids) == most else range(len(table)):
                continued.append((likelihood + log_probabilities[token], token, ids, after, own))
        continued.sort(key=lambda one: -one[0])
        alive = []
        for rank, (likelihood, token, ids, after, own) in enumerate(continued):
            if token == end_id and rank < width:
                score = likelihood / (len(ids) + 1) ** exponent + coverage_weight * np.log(np.minimum(own, 1)).sum()
                ended.append((score, ids))
            elif token != end_id and len(alive) < width:
                alive.append((likelihood, [*ids, token], after, own))
    return sorted(ended, key=lambda one: -one[0])
