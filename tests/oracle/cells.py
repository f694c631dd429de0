"""One time step of every cell, and its derivative by hand.

A step sees the two products already made, `x_projection = W_ih x + b_ih` and `h_projection = W_hh h + b_hh`, each of
shape (G * H,), and the state, an array (n_states, H) whose first row is h. Gates lie one after the other in PyTorch's
order. The adjoint is the transposed derivative of the step: from the gradient of the new state to the gradients of the
two projections and of the old state (not counting its way through W_hh).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Cell(NamedTuple):
    n_gates: int
    n_states: int
    step: Callable[[Array, Array, Array], tuple[Array, Any]]
    adjoint: Callable[[Any, Array], tuple[Array, Array, Array]]


def sigmoid(a: Array) -> Array:
    # Both branches avoid the exponential of a large positive number.
    e = np.exp(-np.abs(a))
    return np.where(a >= 0, 1 / (1 + e), e / (1 + e))


def rnn_tanh_step(x_projection: Array, h_projection: Array, state: Array) -> tuple[Array, Any]:
    h = np.tanh(x_projection + h_projection)
    return np.stack([h]), h


def rnn_tanh_adjoint(tape: Any, d_state: Array) -> tuple[Array, Array, Array]:
    h = tape
    d_a = d_state[0] * (1 - h**2)
    return d_a, d_a, np.zeros_like(d_state)


def rnn_relu_step(x_projection: Array, h_projection: Array, state: Array) -> tuple[Array, Any]:
    a = x_projection + h_projection
    return np.stack([np.maximum(a, 0)]), a


def rnn_relu_adjoint(tape: Any, d_state: Array) -> tuple[Array, Array, Array]:
    a = tape
    d_a = d_state[0] * (a > 0)
    return d_a, d_a, np.zeros_like(d_state)


def lstm_step(x_projection: Array, h_projection: Array, state: Array) -> tuple[Array, Any]:
    c_before = state[1]
    a_i, a_f, a_g, a_o = np.split(x_projection + h_projection, 4)
    i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)
    c = f * c_before + i * g
    h = o * np.tanh(c)
    return np.stack([h, c]), (i, f, g, o, c_before, c)


def lstm_adjoint(tape: Any, d_state: Array) -> tuple[Array, Array, Array]:
    i, f, g, o, c_before, c = tape
    d_h, d_c = d_state
    d_o = d_h * np.tanh(c)
    d_c = d_c + d_h * o * (1 - np.tanh(c) ** 2)
    d_i, d_f, d_g = d_c * g, d_c * c_before, d_c * i
    d_a = np.concatenate([d_i * i * (1 - i), d_f * f * (1 - f), d_g * (1 - g**2), d_o * o * (1 - o)])
    return d_a, d_a, np.stack([np.zeros_like(d_h), d_c * f])


def gru_step(x_projection: Array, h_projection: Array, state: Array) -> tuple[Array, Any]:
    h_before = state[0]
    x_r, x_z, x_n = np.split(x_projection, 3)
    h_r, h_z, h_n = np.split(h_projection, 3)
    r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    n = np.tanh(x_n + r * h_n)
    h = (1 - z) * n + z * h_before
    return np.stack([h]), (r, z, n, h_n, h_before)


def gru_adjoint(tape: Any, d_state: Array) -> tuple[Array, Array, Array]:
    r, z, n, h_n, h_before = tape
    d_h = d_state[0]
    d_z = d_h * (h_before - n)
    d_a_n = d_h * (1 - z) * (1 - n**2)
    d_r = d_a_n * h_n
    d_a_r, d_a_z = d_r * r * (1 - r), d_z * z * (1 - z)
    return np.concatenate([d_a_r, d_a_z, d_a_n]), np.concatenate([d_a_r, d_a_z, d_a_n * r]), np.stack([d_h * z])


CELLS = {
    "rnn_tanh": Cell(1, 1, rnn_tanh_step, rnn_tanh_adjoint),
    "rnn_relu": Cell(1, 1, rnn_relu_step, rnn_relu_adjoint),
    "lstm": Cell(4, 2, lstm_step, lstm_adjoint),
    "gru": Cell(3, 1, gru_step, gru_adjoint),
}
