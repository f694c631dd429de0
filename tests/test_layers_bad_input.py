"""What the public layers refuse, and what they say."""

from __future__ import annotations

import re

import numpy as np
import pytest

import numrnn
from numrnn.kernels.cuda.availability import why_unavailable

pytestmark = pytest.mark.interpreter

X = np.zeros((2, 4, 3), np.float32)
STATE = np.zeros((1, 2, 5), np.float32)


@pytest.fixture
def layer():
    return numrnn.GRU(3, 5, random_state=0)


@pytest.fixture
def lstm():
    return numrnn.LSTM(3, 5, random_state=0)


def refused(error, *fragments):
    """The error, with every fragment in its text."""
    return pytest.raises(error, match="".join(f"(?=.*{re.escape(fragment)})" for fragment in fragments))


def with_value(array, value):
    array = np.array(array, dtype=np.float64)
    array[1, 2, 1] = value
    return array


# --------------------------------------------------------------------------------------------------------- construction
@pytest.mark.parametrize("kind", [numrnn.LSTM, numrnn.GRU, numrnn.RNN])
@pytest.mark.parametrize(
    ("arguments", "options", "fragments"),
    [
        ((0, 5), {}, ("input_size must be a positive integer", "got 0")),
        ((2.5, 5), {}, ("input_size must be a positive integer", "got 2.5")),
        ((3, -1), {}, ("hidden_size must be a positive integer", "got -1")),
        ((3, (4, 0)), {}, ("hidden_size must be a positive integer", "got 0")),
        ((3, ()), {}, ("hidden_size must name at least one layer",)),
        ((3, 5, 0), {}, ("num_layers must be a positive integer", "got 0")),
        ((3, (5, 4), 3), {}, ("hidden_size names 2 layers", "num_layers is 3")),
        ((3, 5), {"dropout": 1.0}, ("dropout must be at least 0 and below 1", "got 1.0")),
        ((3, 5), {"recurrent_dropout": 1}, ("recurrent_dropout must be at least 0 and below 1", "got 1")),
        ((3, 5), {"dropout": -0.1}, ("dropout must be at least 0 and below 1", "got -0.1")),
        ((3, 5), {"dropout": float("nan")}, ("dropout must be at least 0 and below 1", "got nan")),
        ((3, 5), {"dtype": "float16"}, ("dtype must be 'float32' or 'float64'", "got 'float16'")),
        ((3, 5), {"device": "tpu"}, ("device must be", "got 'tpu'")),
        ((3, 5), {"random_state": -1}, ("random_state must be", "got -1")),
        ((3, 5), {"n_jobs": 0}, ("n_jobs must be", "got 0")),
    ],
)
def test_construction(kind, arguments, options, fragments):
    with refused(ValueError, *fragments):
        kind(*arguments, **options)


@pytest.mark.skipif(why_unavailable() is None, reason="there is a CUDA device")
def test_cuda_is_refused_loudly():
    with refused(RuntimeError, "device='cuda'"):
        numrnn.LSTM(3, 5, device="cuda")


def test_an_unknown_nonlinearity_is_refused():
    with refused(ValueError, "nonlinearity must be 'tanh' or 'relu'", "got 'swish'"):
        numrnn.RNN(3, 5, nonlinearity="swish")


# ---------------------------------------------------------------------------------------------------------------- input
@pytest.mark.parametrize(
    ("x", "fragments"),
    [
        (np.zeros((4, 3)), ("x must have the shape", "(4, 3)")),
        (np.zeros(3), ("x must have the shape", "(3,)")),
        (np.zeros((2, 4, 3, 1)), ("x must have the shape", "(2, 4, 3, 1)")),
        (np.zeros((2, 4, 2)), ("input_size = 3", "(2, 4, 2)")),
        (np.zeros((0, 4, 3)), ("at least one sequence", "(0, 4, 3)")),
        (np.zeros((2, 0, 3)), ("one time step", "(2, 0, 3)")),
        (with_value(X, np.nan), ("x must be finite", "NaN", "(1, 2, 1)")),
        (with_value(X, np.inf), ("x must be finite", "infinity", "(1, 2, 1)")),
        (with_value(X, -np.inf), ("x must be finite", "infinity", "(1, 2, 1)")),
        (np.full((2, 4, 3), "a"), ("x must be an array of real numbers",)),
        (np.zeros((2, 4, 3), complex), ("x must be an array of real numbers", "complex128")),
        (np.full((2, 4, 3), None), ("x must be an array of real numbers", "object")),
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_x(layer, x, fragments, training):
    with refused(ValueError, *fragments):
        layer.forward(x, training=training)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_numbers_that_do_not_fit_the_type(layer):
    with refused(ValueError, "x must be finite", "infinity"):
        layer.forward(with_value(X, 1e300))


@pytest.mark.filterwarnings("error")
def test_large_finite_numbers_are_not_refused(layer):
    y, _ = layer.forward(np.full((2, 4, 3), 3e38, np.float32))  # their sum overflows
    assert np.isfinite(y).all()


def test_a_ragged_list_is_refused(layer):
    with pytest.raises(ValueError, match="inhomogeneous"):
        layer.forward([np.zeros((4, 3)), np.zeros((2, 3))])


@pytest.mark.parametrize(
    ("lengths", "fragments"),
    [
        ([4], ("lengths must have one entry for each of the 2 sequences", "(1,)")),
        ([4, 4, 4], ("lengths must have one entry for each of the 2 sequences", "(3,)")),
        ([[4, 4]], ("lengths must have one entry", "(1, 2)")),
        (4, ("lengths must have one entry", "()")),
        ([4, 0], ("lengths must be from 1 to 4", "got 0 for sequence 1")),
        ([-1, 4], ("lengths must be from 1 to 4", "got -1 for sequence 0")),
        ([4, 5], ("lengths must be from 1 to 4", "got 5 for sequence 1")),
        ([4.0, 2.0], ("lengths must be integers", "float64")),
        ([True, True], ("lengths must be integers", "bool")),
    ],
)
def test_lengths(layer, lengths, fragments):
    with refused(ValueError, *fragments):
        layer.forward(X, lengths=lengths)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint64"])
def test_lengths_of_any_integer_type(layer, dtype):
    expected, _ = layer.forward(X + 1, lengths=[2, 4])
    np.testing.assert_array_equal(layer.forward(X + 1, lengths=np.array([2, 4], dtype))[0], expected)


# ---------------------------------------------------------------------------------------------------------------- state
@pytest.mark.parametrize(
    ("state", "fragments"),
    [
        (np.zeros((1, 3, 5)), ("h of state must have the shape", "(1, 2, 5)", "got (1, 3, 5)")),
        (np.zeros((2, 5)), ("h of state must have the shape", "got (2, 5)")),
        (np.zeros((1, 2, 6)), ("h of state must have the shape", "got (1, 2, 6)")),
        (np.zeros((2, 2, 5)), ("h of state must have the shape", "got (2, 2, 5)")),
        (np.full((1, 2, 5), np.nan), ("h of state must be finite", "NaN")),
        ("state", ("h of state must be an array of real numbers",)),
    ],
)
def test_state_of_a_gru(layer, state, fragments):
    with refused(ValueError, *fragments):
        layer.forward(X, state)
    with refused(ValueError, *fragments):
        layer.step(X[:, 0], state)


@pytest.mark.parametrize(
    ("state", "fragments"),
    [
        ((STATE,), ("state must be a pair (h, c)", "got 1")),
        ((STATE, STATE, STATE), ("state must be a pair (h, c)", "got 3")),
        ((STATE, STATE[..., :4]), ("c of state must have the shape", "got (1, 2, 4)")),
        ((STATE, STATE + np.inf), ("c of state must be finite", "infinity")),
    ],
)
def test_state_of_an_lstm(lstm, state, fragments):
    with refused(ValueError, *fragments):
        lstm.forward(X, state)
    with refused(ValueError, *fragments):
        lstm.step(X[:, 0], state)


def test_state_of_layers_that_differ_in_size():
    layer = numrnn.GRU(3, (5, 4), random_state=0)
    with refused(ValueError, "list of 2 arrays", "got 1"):
        layer.forward(X, [STATE])
    with refused(ValueError, "layer 1", "(1, 2, 4)", "got (1, 2, 5)"):
        layer.forward(X, [STATE, STATE])


# ------------------------------------------------------------------------------------------------------------- backward
def test_backward_needs_a_forward_pass_in_training_mode(layer):
    d_y = np.zeros((2, 4, 5))
    with refused(RuntimeError, "backward needs forward(x, training=True)"):
        layer.backward(d_y)
    layer.forward(X)
    with refused(RuntimeError, "backward needs forward(x, training=True)"):
        layer.backward(d_y)
    layer.forward(X, training=True)
    layer.backward(d_y)
    with refused(RuntimeError, "backward needs forward(x, training=True)"):
        layer.backward(d_y)


@pytest.mark.parametrize(
    ("d_y", "fragments"),
    [
        (np.zeros((2, 4)), ("d_y must have the shape", "(2, 4)")),
        (np.zeros((2, 4, 6)), ("d_y must have the shape", "(2, 4, 6)")),
        (np.zeros((2, 3, 5)), ("d_y must have the shape", "(2, 4, 5)", "(2, 3, 5)")),
        (np.zeros((1, 4, 5)), ("d_y must have the shape", "(2, 4, 5)", "(1, 4, 5)")),
        (with_value(np.zeros((2, 4, 5)), np.nan), ("d_y must be finite", "NaN", "(1, 2, 1)")),
    ],
)
def test_d_y(layer, d_y, fragments):
    layer.forward(X + 1, training=True)
    with refused(ValueError, *fragments):
        layer.backward(d_y)
    layer.backward(np.ones((2, 4, 5)))  # the forward pass is still there
    assert layer.gradients["weight_ih_l0"].any()


def test_d_state(layer):
    layer.forward(X, training=True)
    with refused(ValueError, "h of d_state must have the shape", "got (1, 2, 4)"):
        layer.backward(np.zeros((2, 4, 5)), STATE[..., :4])


# ----------------------------------------------------------------------------------------------------------------- step
@pytest.mark.parametrize(
    ("x_t", "fragments"),
    [
        (np.zeros(3), ("x_t must have the shape", "(3,)")),
        (np.zeros((2, 4)), ("x_t must have the shape", "(2, 4)")),
        (np.zeros((2, 1, 3)), ("x_t must have the shape", "(2, 1, 3)")),
        (np.full((2, 3), np.nan), ("must be finite", "NaN")),
        (np.zeros((2, 3), complex), ("must be an array of real numbers",)),
    ],
)
def test_x_t(layer, x_t, fragments):
    with refused(ValueError, *fragments):
        layer.step(x_t, None)


def test_a_step_of_nothing(layer):
    with refused(ValueError, "at least one sequence"):
        layer.step(np.zeros((0, 3)), None)


# ----------------------------------------------------------------------------------------------------------- after that
def test_a_refusal_leaves_the_layer_as_it_was(layer):
    before = layer.forward(X + 1)[0]
    for x, options in ((np.zeros((2, 4, 2)), {}), (X, {"lengths": [9, 9]}), (X, {"state": np.zeros(3)})):
        with pytest.raises(ValueError):
            layer.forward(x, training=True, **options)
    np.testing.assert_array_equal(layer.forward(X + 1)[0], before)
    with pytest.raises(RuntimeError):
        layer.backward(np.zeros((2, 4, 5)))


def test_masked_values_are_refused(layer):
    masked = np.ma.masked_array(np.zeros((2, 4, 3), np.float32), mask=False)
    layer.forward(masked)
    masked[0, 1, 2] = np.ma.masked
    with pytest.raises(ValueError, match=r"x must not have masked values"):
        layer.forward(masked)


def test_parameters_cannot_be_replaced_without_effect(layer):
    for views in (layer.parameters, layer.gradients):
        with pytest.raises(TypeError, match=r"write into the array .*\['bias_ih_l0'\]\[\.\.\.\] = values"):
            views["bias_ih_l0"] = np.zeros(5)
