"""Losses and the readout: definitions, derivatives, numerical stability."""

from __future__ import annotations

import numpy as np
import oracle
import oracle.losses
import pytest

from numrnn.kernels.cpu.losses import LOSSES, log_softmax, softmax, weight_penalty, workspace_size
from numrnn.kernels.cpu.readout import (
    IDENTITY_ROWS,
    readout,
    readout_input_adjoint,
    readout_weight_adjoint,
    scratch_sizes,
)
from numrnn.kernels.simd import lane_count

pytestmark = pytest.mark.interpreter

TOLERANCE = {"float32": 2e-6, "float64": 1e-13}
both_types = pytest.mark.parametrize("dtype", ["float32", "float64"])
every_loss = pytest.mark.parametrize("name", sorted(LOSSES))


def problem(name, rng, n_rows=7, n_outputs=3, dtype="float64", spread=2.0):
    outputs = (spread * rng.normal(size=(n_rows, n_outputs))).astype(dtype)
    if name == "cross_entropy":
        targets = rng.integers(0, n_outputs, n_rows)
    else:
        targets = (spread * rng.normal(size=(n_rows, n_outputs))).astype(dtype)
    return outputs, targets, rng.uniform(0.1, 3.0, n_rows)


def expected(name, outputs, targets):
    outputs = outputs.astype(np.float64)
    values, derivatives = getattr(oracle.losses, name)(outputs, targets)
    # Ours is the squared error itself, as in torch.nn.MSELoss; the oracle's is half of it.
    return (2 * values, 2 * derivatives) if name == "squared_error" else (values, derivatives)


def run(name, outputs, targets, weights, scale=None, smoothing=0.0):
    d_outputs = np.full_like(outputs, 99)
    workspace = np.full(workspace_size(outputs.shape[1]), np.nan)
    only_cross_entropy = (smoothing, workspace) if name == "cross_entropy" else ()
    scale = 1 / weights.sum() if scale is None else scale
    return LOSSES[name](outputs, targets, weights, *only_cross_entropy, scale, d_outputs), d_outputs


@every_loss
@both_types
def test_weighted_mean_and_its_gradient_follow_the_definition(name, dtype, rng):
    outputs, targets, weights = problem(name, rng, dtype=dtype)
    mean, gradient = oracle.losses.weighted_mean(*expected(name, outputs, targets), weights)
    total, d_outputs = run(name, outputs, targets, weights)
    assert d_outputs.dtype == dtype
    np.testing.assert_allclose(total / weights.sum(), mean, rtol=TOLERANCE[dtype])
    oracle.assert_close(d_outputs, gradient, TOLERANCE[dtype])


@every_loss
def test_gradient_is_the_derivative_of_the_value(name, rng):
    outputs, targets, weights = problem(name, rng)
    _, d_outputs = run(name, outputs, targets, weights, scale=0.7)
    numeric = oracle.central_difference(lambda: 0.7 * run(name, outputs, targets, weights)[0], outputs)
    oracle.assert_close(d_outputs, numeric, 1e-8)


@every_loss
def test_a_weight_of_two_is_two_rows_and_a_weight_of_zero_is_none(name, rng):
    outputs, targets, _ = problem(name, rng, n_rows=3)
    outputs[2] = np.nan
    total, d_outputs = run(name, outputs, targets, np.array([2.0, 1.0, 0.0]), scale=1.0)
    repeated = np.array([0, 0, 1])
    total_repeated, d_repeated = run(name, outputs[repeated], targets[repeated], np.ones(3), scale=1.0)
    np.testing.assert_allclose(total, total_repeated, rtol=1e-14)
    np.testing.assert_allclose(d_outputs, [2 * d_repeated[0], d_repeated[2], [0, 0, 0]], rtol=1e-14)


@both_types
def test_cross_entropy_of_large_outputs_neither_overflows_nor_loses_the_small_ones(dtype):
    outputs = np.array([[3e38, -3e38], [-3e38, 3e38], [1000, 999], [0, -80]], dtype=dtype)
    total, d_outputs = run("cross_entropy", outputs[:1], np.array([0]), np.ones(1))
    assert total == 0
    np.testing.assert_array_equal(d_outputs, [[0, 0]])
    total, d_outputs = run("cross_entropy", outputs[1:2], np.array([0]), np.ones(1))
    np.testing.assert_allclose(total, 6e38, rtol=1e-6)
    np.testing.assert_array_equal(d_outputs, [[-1, 1]])
    total, _ = run("cross_entropy", outputs[2:3], np.array([1]), np.ones(1))
    np.testing.assert_allclose(total, np.log1p(np.exp(1.0)), rtol=1e-12)
    total, d_outputs = run("cross_entropy", outputs[3:], np.array([1]), np.ones(1))
    np.testing.assert_allclose(total, 80, rtol=1e-12)
    np.testing.assert_allclose(d_outputs, [[1, -1]], rtol=1e-7)


@every_loss
def test_an_output_that_is_not_a_number_shows_in_the_loss(name, rng):
    outputs, targets, weights = problem(name, rng, n_rows=2)
    outputs[1, 0] = np.nan
    total, d_outputs = run(name, outputs, targets, weights)
    assert np.isnan(total)
    assert np.isnan(d_outputs[1, 0])
    assert np.isfinite(d_outputs[0]).all()


@pytest.mark.parametrize("wrong", [-1, 3])
def test_class_numbers_outside_the_outputs_are_refused(wrong, rng):
    outputs, targets, weights = problem("cross_entropy", rng)
    targets[4] = wrong
    with pytest.raises(IndexError, match="class number"):
        run("cross_entropy", outputs, targets, weights)


def test_huber_meets_the_squared_and_the_absolute_error_at_one():
    outputs, targets = np.array([[1.0], [1.0 + 1e-9], [0.5], [-4.0], [0.0]]), np.zeros((5, 1))
    for row, (value, derivative) in enumerate([(0.5, 1), (0.5, 1), (0.125, 0.5), (3.5, -1), (0, 0)]):
        total, d_outputs = run("huber", outputs[row : row + 1], targets[:1], np.ones(1))
        np.testing.assert_allclose([total, d_outputs[0, 0]], [value, derivative], atol=1e-8)


def test_absolute_error_has_no_slope_at_the_target():
    _, d_outputs = run("absolute_error", np.array([[2.0, -1.0, 0.0]]), np.array([[2.0, 0.0, -1.0]]), np.ones(1))
    np.testing.assert_allclose(d_outputs, [[0, -1 / 3, 1 / 3]])


def test_float32_totals_do_not_lose_digits_over_many_rows():
    outputs = np.full((200_000, 1), 0.1, dtype=np.float32)
    total, _ = run("absolute_error", outputs, np.zeros_like(outputs), np.ones(len(outputs)))
    np.testing.assert_allclose(total, 200_000 * float(np.float32(0.1)), rtol=1e-12)


@every_loss
def test_agrees_with_torch(name, rng):
    torch = pytest.importorskip("torch")
    outputs, targets, _ = problem(name, rng)
    module = {
        "cross_entropy": torch.nn.CrossEntropyLoss,
        "squared_error": torch.nn.MSELoss,
        "absolute_error": torch.nn.L1Loss,
        "huber": torch.nn.HuberLoss,
    }[name]()
    theirs = torch.from_numpy(outputs).requires_grad_()
    loss = module(theirs, torch.from_numpy(targets))
    loss.backward()
    total, d_outputs = run(name, outputs, targets, np.ones(len(outputs)))
    np.testing.assert_allclose(total / len(outputs), loss.item(), rtol=1e-12)
    np.testing.assert_allclose(d_outputs, theirs.grad.numpy(), rtol=1e-12)


@both_types
def test_softmax_and_its_logarithm(dtype, rng):
    outputs = (30 * rng.normal(size=(6, 4))).astype(dtype)
    outputs[0] = [1e30, 0, -1e30, 1e30]
    reference = oracle.losses.softmax(outputs.astype(np.float64))
    probabilities, logarithms = np.empty_like(outputs), np.empty_like(outputs)
    softmax(outputs, probabilities)
    log_softmax(outputs, logarithms)
    np.testing.assert_allclose(probabilities, reference, rtol=TOLERANCE[dtype], atol=1e-40)
    np.testing.assert_allclose(logarithms[1:], np.log(reference[1:]), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    np.testing.assert_allclose(logarithms[0, [0, 3]], -np.log(2), rtol=TOLERANCE[dtype])
    softmax(outputs, outputs)
    np.testing.assert_array_equal(outputs, probabilities)


def test_weight_penalty_touches_its_parts_only(rng):
    parameters, gradient = rng.normal(size=10), np.ones(10)
    value = weight_penalty(parameters, gradient, np.array([1, 6]), np.array([4, 8]), 0.3)
    chosen = np.array([1, 2, 3, 6, 7])
    np.testing.assert_allclose(value, 0.15 * (parameters[chosen] ** 2).sum(), rtol=1e-14)
    wanted = np.ones(10)
    wanted[chosen] += 0.3 * parameters[chosen]
    np.testing.assert_allclose(gradient, wanted, rtol=1e-14)


# ------------------------------------------------------------------------------------------------------ label smoothing
@both_types
@pytest.mark.parametrize("n_outputs", [2, 3, 8, 9, 40])
def test_smoothed_labels_are_a_mixture_with_the_uniform_distribution(n_outputs, dtype, rng):
    outputs, targets, weights = problem("cross_entropy", rng, n_outputs=n_outputs, dtype=dtype)
    total, d_outputs = run("cross_entropy", outputs, targets, weights, scale=1.0, smoothing=0.3)
    wanted, d_wanted = 0.0, np.zeros(outputs.shape)
    for label in range(n_outputs):
        share = np.where(targets == label, 0.7, 0.0) + 0.3 / n_outputs
        values, derivatives = oracle.losses.cross_entropy(outputs.astype(np.float64), np.full_like(targets, label))
        wanted += (weights * share * values).sum()
        d_wanted += (weights * share)[:, None] * derivatives
    np.testing.assert_allclose(total, wanted, rtol=TOLERANCE[dtype])
    oracle.assert_close(d_outputs, d_wanted, TOLERANCE[dtype])


def test_smoothing_agrees_with_torch(rng):
    torch = pytest.importorskip("torch")
    outputs, targets, _ = problem("cross_entropy", rng, n_outputs=5)
    theirs = torch.from_numpy(outputs).requires_grad_()
    loss = torch.nn.CrossEntropyLoss(label_smoothing=0.2)(theirs, torch.from_numpy(targets))
    loss.backward()
    total, d_outputs = run("cross_entropy", outputs, targets, np.ones(len(outputs)), smoothing=0.2)
    np.testing.assert_allclose(total / len(outputs), loss.item(), rtol=1e-12)
    np.testing.assert_allclose(d_outputs, theirs.grad.numpy(), rtol=1e-11, atol=1e-15)


# ---------------------------------------------------------------------------------------------------------- the readout
class Readout:
    """The kernels with memory that is no larger than they say they need."""

    def __init__(self, dtype):
        self.identity = np.arange(IDENTITY_ROWS)
        self.panel, self.block, self.product = (
            np.full(size, np.nan, dtype=dtype) for size in scratch_sizes(lane_count(dtype))
        )

    def outputs(self, features, weight, bias):
        outputs = np.full((len(features), len(weight)), np.nan, dtype=features.dtype)
        middle = len(features) // 2
        for rows in ((0, middle), (middle, len(features))):
            readout(features, weight, bias, *rows, self.identity, self.panel, self.block, outputs)
        return outputs

    def d_features(self, d_outputs, weight):
        d_features = np.full((len(d_outputs), weight.shape[1]), np.nan, dtype=weight.dtype)
        readout_input_adjoint(
            d_outputs, weight, 0, len(d_outputs), True, self.identity, self.panel, self.block, d_features
        )
        return d_features

    def add(self, d_outputs, features, d_weight, d_bias):
        middle = len(d_weight) // 2
        for outputs in ((0, middle), (middle, len(d_weight))):
            readout_weight_adjoint(
                d_outputs,
                features,
                *outputs,
                self.identity,
                self.panel,
                self.block,
                self.product,
                d_weight,
                d_bias,
            )


@both_types
@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1), (5, 16, 2), (9, 37, 3), (4, 131, 1), (3, 64, 7), (2, 3, 70), (387, 5, 2), (2, 260, 259), (0, 3, 2)],
)
def test_readout_and_adjoint_are_matrix_products(shape, dtype, rng):
    n_rows, n_features, n_outputs = shape
    features = rng.normal(size=(n_rows, n_features)).astype(dtype)
    weight = rng.normal(size=(n_outputs, n_features)).astype(dtype)
    bias, d_outputs = rng.normal(size=n_outputs).astype(dtype), rng.normal(size=(n_rows, n_outputs)).astype(dtype)
    kernels = Readout(dtype)
    x, w, d = (array.astype(np.float64) for array in (features, weight, d_outputs))
    tolerance = 4 * TOLERANCE[dtype]
    oracle.assert_close(kernels.outputs(features, weight, bias), x @ w.T + bias, tolerance)
    oracle.assert_close(kernels.d_features(d_outputs, weight), d @ w, tolerance)
    d_weight, d_bias = np.ones_like(weight), np.ones_like(bias)
    kernels.add(d_outputs, features, d_weight, d_bias)
    oracle.assert_close(d_weight, 1 + d.T @ x, tolerance)
    oracle.assert_close(d_bias, 1 + d.sum(axis=0), tolerance)


def test_a_row_of_the_readout_does_not_depend_on_the_others(rng):
    features, weight = rng.normal(size=(40, 53)).astype("f"), rng.normal(size=(3, 53)).astype("f")
    bias, kernels = rng.normal(size=3).astype("f"), Readout("f")
    together = kernels.outputs(features, weight, bias)
    d_together = kernels.d_features(together, weight)
    for row in range(40):
        alone = kernels.outputs(features[row : row + 1], weight, bias)
        np.testing.assert_array_equal(alone[0], together[row])
        np.testing.assert_array_equal(kernels.d_features(alone, weight)[0], d_together[row])
