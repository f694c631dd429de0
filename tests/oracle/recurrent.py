"""A stack of recurrent layers over ragged sequences, forward and backward through time, one sequence after another.

Parameters are a mapping with PyTorch's names (`weight_ih_l0`, ..., `bias_hh_l1_reverse`); how many layers there are,
how wide each is and whether there are two directions is read from the names and shapes. States are a list with one
array (n_states, N, H_layer) per layer and direction, in PyTorch's order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from oracle.cells import CELLS, Array, Cell


class StackPass(NamedTuple):
    outputs: list[Array]  # (T_i, H * directions) of every sequence
    state: list[Array]  # the final states
    cell: str
    parameters: Mapping[str, NDArray]
    layers: list[list[tuple[list[Array], list[list[Any]]]]]  # [layer][direction]: inputs and tapes of every sequence
    dropout_factors: Sequence[Sequence[Array]] | None
    recurrent_factors: Sequence[Array] | None
    residual: list[bool]  # of every layer
    rounded: Callable[[Array], Array]  # what products make of their factors


def exactly(x: Array) -> Array:
    return x


def to_bfloat16(x: Array) -> Array:
    """The nearest numbers with eight significant bits, of two equally near ones the even one."""
    fraction, exponent = np.frexp(x)
    return np.ldexp(np.rint(fraction * 256) / 256, exponent)


def suffixes(parameters: Mapping[str, NDArray]) -> list[list[str]]:
    """The endings of the names, `[layer][direction]`."""
    directions = ["", "_reverse"] if "weight_hh_l0_reverse" in parameters else [""]
    n_layers = sum(name.startswith("weight_hh") for name in parameters) // len(directions)
    return [[f"_l{layer}{direction}" for direction in directions] for layer in range(n_layers)]


def run_sequence(
    cell: Cell,
    weights: Mapping[str, Array],
    x: Array,
    state: Array,
    factor: Array | float = 1.0,
    rounded: Callable[[Array], Array] = exactly,
) -> tuple[Array, Array, list[tuple[Array, Array, Any]]]:
    """One direction of one layer over one sequence (T, D): outputs (T, H), final state, what the adjoint needs.

    `factor` (H,) multiplies the hidden state on its way into the recurrent product, and nowhere else.
    """
    outputs, tape = np.zeros((len(x), state.shape[1])), []
    weight_ih, weight_hh = rounded(weights["weight_ih"]), rounded(weights["weight_hh"])
    for t in range(len(x)):
        x_projection = weight_ih @ rounded(x[t]) + weights["bias_ih"]
        h_before = state[0] * factor
        h_projection = weight_hh @ rounded(h_before) + weights["bias_hh"]
        state, kept = cell.step(x_projection, h_projection, state)
        outputs[t] = state[0]
        tape.append((x[t], h_before, kept))
    return outputs, state, tape


def run_sequence_backward(
    cell: Cell,
    weights: Mapping[str, Array],
    tape: list[tuple[Array, Array, Any]],
    d_outputs: Array,
    d_state: Array,
    factor: Array | float = 1.0,
    rounded: Callable[[Array], Array] = exactly,
) -> tuple[dict[str, Array], Array, Array]:
    """The adjoint of `run_sequence`: gradient of the weights, of the sequence, of the initial state."""
    gradient = {name: np.zeros_like(weight) for name, weight in weights.items()}
    d_x = np.zeros((len(tape), weights["weight_ih"].shape[1]))
    weight_ih, weight_hh = rounded(weights["weight_ih"]), rounded(weights["weight_hh"])
    for t in reversed(range(len(tape))):
        x, h_before, kept = tape[t]
        d_state = d_state.copy()
        d_state[0] += d_outputs[t]
        d_x_projection, d_h_projection, d_state = cell.adjoint(kept, d_state)
        d_x_factor, d_h_factor = rounded(d_x_projection), rounded(d_h_projection)
        gradient["weight_ih"] += np.outer(d_x_factor, rounded(x))
        gradient["bias_ih"] += d_x_projection
        gradient["weight_hh"] += np.outer(d_h_factor, rounded(h_before))
        gradient["bias_hh"] += d_h_projection
        d_x[t] = weight_ih.T @ d_x_factor
        d_state = d_state.copy()
        d_state[0] += factor * (weight_hh.T @ d_h_factor)
    return gradient, d_x, d_state


def _weights(parameters: Mapping[str, NDArray], suffix: str) -> dict[str, Array]:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return {name: np.asarray(parameters[name + suffix], dtype=np.float64) for name in names}


def forward(
    cell: str,
    parameters: Mapping[str, NDArray],
    sequences: Sequence[NDArray],
    state: Sequence[NDArray] | None = None,
    dropout_factors: Sequence[Sequence[Array]] | None = None,
    recurrent_factors: Sequence[Array] | None = None,
    residual: bool = False,
    rounded: Callable[[Array], Array] = exactly,
) -> StackPass:
    """Run the stack.

    `dropout_factors[l][i]`, of the shape of the output of layer l for sequence i, multiplies that output on its way to
    layer l + 1. `recurrent_factors[k][i]` (H,) multiplies the hidden state of sequence i in the recurrent product of
    layer and direction k. With `residual` every layer but the first adds its input to its output, if they are equally
    wide. `rounded` is what products, also those of the way back, make of their factors, such as `to_bfloat16`.
    """
    kind = CELLS[cell]
    inputs = [np.asarray(x, dtype=np.float64) for x in sequences]
    final, layers, residuals = [], [], []
    for layer, directions in enumerate(suffixes(parameters)):
        per_direction, kept = [], []
        for suffix in directions:
            weights = _weights(parameters, suffix)
            hidden_size = weights["weight_hh"].shape[1]
            if state is None:
                before = np.zeros((kind.n_states, len(inputs), hidden_size))
            else:
                before = np.asarray(state[len(final)], dtype=np.float64)
            after, outputs, tapes = before.copy(), [], []
            reverse = suffix.endswith("_reverse")
            for i, x in enumerate(inputs):
                factor = 1.0 if recurrent_factors is None else recurrent_factors[len(final)][i]
                y, after[:, i], tape = run_sequence(
                    kind, weights, x[::-1] if reverse else x, before[:, i], factor, rounded
                )
                outputs.append(y[::-1] if reverse else y)
                tapes.append(tape)
            final.append(after)
            per_direction.append(outputs)
            kept.append((inputs, tapes))
        layers.append(kept)
        below = inputs
        inputs = [np.concatenate(parts, axis=1) for parts in zip(*per_direction, strict=True)]
        residuals.append(residual and layer > 0 and inputs[0].shape[1] == below[0].shape[1])
        if residuals[-1]:
            inputs = [y + x for y, x in zip(inputs, below, strict=True)]
        if dropout_factors is not None and layer < len(dropout_factors):
            inputs = [y * factor for y, factor in zip(inputs, dropout_factors[layer], strict=True)]
    return StackPass(inputs, final, cell, parameters, layers, dropout_factors, recurrent_factors, residuals, rounded)


def backward(
    pass_: StackPass, d_outputs: Sequence[NDArray] | None = None, d_state: Sequence[NDArray] | None = None
) -> tuple[dict[str, Array], list[Array], list[Array]]:
    """Gradients of the parameters, of every sequence, and of the initial state."""
    kind = CELLS[pass_.cell]
    if d_outputs is None:
        d_outputs = [np.zeros_like(y) for y in pass_.outputs]
    d_outputs = [np.asarray(d_y, dtype=np.float64) for d_y in d_outputs]
    if d_state is None:
        d_state = [np.zeros_like(after) for after in pass_.state]
    d_initial = [np.array(d_after, dtype=np.float64) for d_after in d_state]
    gradient: dict[str, Array] = {}
    names = suffixes(pass_.parameters)
    n_directions = len(names[0])
    for layer in reversed(range(len(names))):
        if pass_.dropout_factors is not None and layer < len(pass_.dropout_factors):
            d_outputs = [d_y * factor for d_y, factor in zip(d_outputs, pass_.dropout_factors[layer], strict=True)]
        inputs = pass_.layers[layer][0][0]
        d_inputs = [np.zeros_like(x) for x in inputs]
        for direction, suffix in enumerate(names[layer]):
            weights = _weights(pass_.parameters, suffix)
            hidden_size = weights["weight_hh"].shape[1]
            columns = slice(direction * hidden_size, (direction + 1) * hidden_size)
            total = {name: np.zeros_like(weight) for name, weight in weights.items()}
            d_before = d_initial[layer * n_directions + direction]
            for i, tape in enumerate(pass_.layers[layer][direction][1]):
                d_y = d_outputs[i][:, columns]
                reverse = suffix.endswith("_reverse")
                place = layer * n_directions + direction
                factor = 1.0 if pass_.recurrent_factors is None else pass_.recurrent_factors[place][i]
                one, d_x, d_before[:, i] = run_sequence_backward(
                    kind, weights, tape, d_y[::-1] if reverse else d_y, d_before[:, i], factor, pass_.rounded
                )
                for name in total:
                    total[name] += one[name]
                d_inputs[i] += d_x[::-1] if reverse else d_x
            gradient.update({name + suffix: value for name, value in total.items()})
        if pass_.residual[layer]:
            d_inputs = [d_x + d_y for d_x, d_y in zip(d_inputs, d_outputs, strict=True)]
        d_outputs = d_inputs
    return gradient, list(d_outputs), d_initial
