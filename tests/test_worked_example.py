"""Two time steps of a vanilla network with a softmax at each, by hand.

    a_t = W x_t + U h_{t-1} + b,   h_t = tanh(a_t),   o_t = V h_t + c,   y_t = softmax(o_t)
    E = -sum_t log y_t[target_t]

    dE/do_t = y_t - t_t
    dE/dh_2 = V^T dE/do_2
    dE/dh_1 = V^T dE/do_1 + U^T dE/da_2

One input, two hidden units, two classes; every number below is written out as one would on paper.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

import numrnn
from numrnn.network import Network
from numrnn.packing import Sequences

pytestmark = pytest.mark.interpreter

X = (0.5, -1.0)
TARGETS = (0, 1)
W = ((0.8,), (-0.4,))
U = ((0.3, -0.6), (0.5, 0.2))
B = (0.1, -0.2)
V = ((1.0, -0.5), (0.25, 0.75))
C = (0.05, -0.15)


@pytest.fixture(scope="module")
def by_hand():
    # Step 1, from h_0 = 0.
    a_11 = W[0][0] * X[0] + B[0]
    a_12 = W[1][0] * X[0] + B[1]
    h_11, h_12 = math.tanh(a_11), math.tanh(a_12)
    o_11 = V[0][0] * h_11 + V[0][1] * h_12 + C[0]
    o_12 = V[1][0] * h_11 + V[1][1] * h_12 + C[1]
    y_11 = math.exp(o_11) / (math.exp(o_11) + math.exp(o_12))
    y_12 = 1 - y_11
    # Step 2.
    a_21 = W[0][0] * X[1] + U[0][0] * h_11 + U[0][1] * h_12 + B[0]
    a_22 = W[1][0] * X[1] + U[1][0] * h_11 + U[1][1] * h_12 + B[1]
    h_21, h_22 = math.tanh(a_21), math.tanh(a_22)
    o_21 = V[0][0] * h_21 + V[0][1] * h_22 + C[0]
    o_22 = V[1][0] * h_21 + V[1][1] * h_22 + C[1]
    y_21 = math.exp(o_21) / (math.exp(o_21) + math.exp(o_22))
    y_22 = 1 - y_21
    # The targets are class 0 at step 1 and class 1 at step 2.
    error = -math.log(y_11) - math.log(y_22)
    # dE/do_t = y_t - t_t
    do_11, do_12 = y_11 - 1, y_12 - 0
    do_21, do_22 = y_21 - 0, y_22 - 1
    # dE/dh_2 = V^T dE/do_2;  dE/da_2 = dE/dh_2 (1 - h_2^2)
    dh_21 = V[0][0] * do_21 + V[1][0] * do_22
    dh_22 = V[0][1] * do_21 + V[1][1] * do_22
    da_21, da_22 = dh_21 * (1 - h_21**2), dh_22 * (1 - h_22**2)
    # dE/dh_1 = V^T dE/do_1 + U^T dE/da_2
    dh_11 = V[0][0] * do_11 + V[1][0] * do_12 + U[0][0] * da_21 + U[1][0] * da_22
    dh_12 = V[0][1] * do_11 + V[1][1] * do_12 + U[0][1] * da_21 + U[1][1] * da_22
    da_11, da_12 = dh_11 * (1 - h_11**2), dh_12 * (1 - h_12**2)
    return SimpleNamespace(
        h=np.array([[h_11, h_12], [h_21, h_22]]),
        o=np.array([[o_11, o_12], [o_21, o_22]]),
        y=np.array([[y_11, y_12], [y_21, y_22]]),
        error=error,
        d_o=np.array([[do_11, do_12], [do_21, do_22]]),
        d_h_from_outputs=np.array(
            [
                [V[0][0] * do_11 + V[1][0] * do_12, V[0][1] * do_11 + V[1][1] * do_12],
                [dh_21, dh_22],
            ]
        ),
        d_h_1=np.array([dh_11, dh_12]),
        d_h_2=np.array([dh_21, dh_22]),
        d_x=np.array([[W[0][0] * da_11 + W[1][0] * da_12], [W[0][0] * da_21 + W[1][0] * da_22]]),
        d_W=np.array([[da_11 * X[0] + da_21 * X[1]], [da_12 * X[0] + da_22 * X[1]]]),
        d_U=np.array([[da_21 * h_11, da_21 * h_12], [da_22 * h_11, da_22 * h_12]]),
        d_b=np.array([da_11 + da_21, da_12 + da_22]),
        d_V=np.array(
            [
                [do_11 * h_11 + do_21 * h_21, do_11 * h_12 + do_21 * h_22],
                [do_12 * h_11 + do_22 * h_21, do_12 * h_12 + do_22 * h_22],
            ]
        ),
        d_c=np.array([do_11 + do_21, do_12 + do_22]),
    )


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-15)


@pytest.fixture
def layer():
    layer = numrnn.RNN(1, 2, dtype="float64", random_state=0)
    layer.parameters["weight_ih_l0"][...] = W
    layer.parameters["weight_hh_l0"][...] = U
    layer.parameters["bias_ih_l0"][...] = B
    layer.parameters["bias_hh_l0"][...] = 0
    return layer


X_BATCH = np.array(X).reshape(1, 2, 1)


def test_the_arithmetic_itself(by_hand):
    """Some of the numbers, so that the paper and this file cannot drift together."""
    close(by_hand.h[0], [math.tanh(0.5), math.tanh(-0.4)])
    close(by_hand.y.sum(axis=1), 1)
    close(by_hand.d_o.sum(axis=1), 0)
    # Reference values with another tool's hands: a finite difference of E with respect to U[0][1].
    assert by_hand.d_U[0, 1] == pytest.approx(_error_with_u01(1e-6, -1e-6), abs=1e-9)


def _error_with_u01(up: float, down: float) -> float:
    def error(shift: float) -> float:
        u = np.array(((U[0][0], U[0][1] + shift), U[1]))
        h, total = np.zeros(2), 0.0
        for x, target in zip(X, TARGETS, strict=True):
            h = np.tanh(np.array(W)[:, 0] * x + u @ h + B)
            o = np.array(V) @ h + C
            total -= o[target] - math.log(np.exp(o).sum())
        return total

    return (error(up) - error(down)) / (up - down)


def test_the_layer_forward_and_backward(by_hand, layer):
    h, h_2 = layer.forward(X_BATCH, training=True)
    close(h[0], by_hand.h)
    close(np.ravel(h_2), by_hand.h[1])
    d_x, _ = layer.backward(by_hand.d_h_from_outputs[None])
    close(d_x[0], by_hand.d_x)
    close(layer.gradients["weight_ih_l0"], by_hand.d_W)
    close(layer.gradients["weight_hh_l0"], by_hand.d_U)
    close(layer.gradients["bias_ih_l0"], by_hand.d_b)
    close(layer.gradients["bias_hh_l0"], by_hand.d_b)


def test_the_gradient_of_the_first_hidden_state(by_hand, layer):
    """dE/dh_1 = V^T dE/do_1 + U^T dE/da_2: the second part is what the second step hands back to its initial state."""
    layer.forward(X_BATCH[:, 1:], by_hand.h[0].reshape(1, 1, 2), training=True)
    _, from_step_2 = layer.backward(by_hand.d_h_2.reshape(1, 1, 2))
    close(by_hand.d_h_from_outputs[0] + np.ravel(from_step_2), by_hand.d_h_1)


def test_the_network_with_a_softmax_at_every_step(by_hand):
    network = Network(
        cell="rnn_tanh",
        input_size=1,
        hidden_sizes=(2,),
        n_outputs=2,
        pooling=None,
        loss="cross_entropy",
        dtype="float64",
    )
    values = {
        "weight_ih_l0": W, "weight_hh_l0": U, "bias_ih_l0": B, "bias_hh_l0": 0, "weight_out": V, "bias_out": C,
    }  # fmt: skip
    assert set(network.parameters) == set(values)
    for name, value in values.items():
        network.parameters[name][...] = value
    sequences, targets = Sequences.from_padded(X_BATCH), np.array(TARGETS)
    close(network.outputs(sequences), by_hand.o)
    # The network's loss is the mean over the two steps, the example's their sum.
    close(2 * network.loss(sequences, targets, None), by_hand.error)
    close(2 * network.loss_and_gradient(sequences, targets, None), by_hand.error)
    close(2 * network.gradient["weight_ih_l0"], by_hand.d_W)
    close(2 * network.gradient["weight_hh_l0"], by_hand.d_U)
    close(2 * network.gradient["bias_ih_l0"], by_hand.d_b)
    close(2 * network.gradient["bias_hh_l0"], by_hand.d_b)
    close(2 * network.gradient["weight_out"], by_hand.d_V)
    close(2 * network.gradient["bias_out"], by_hand.d_c)
