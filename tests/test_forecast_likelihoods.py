"""Losses of probabilistic forecasts: definitions, exact gradients, missing targets, extremes; and in a network."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import oracle
import oracle.likelihoods
import pytest
from scipy.special import digamma as exact_digamma

from numrnn.kernels.cpu.likelihoods import LIKELIHOODS, digamma
from numrnn.kernels.cpu.losses import LOSSES
from numrnn.network import Network
from numrnn.packing import Sequences

LEVELS = (0.1, 0.25, 0.6, 0.9)
every_likelihood = pytest.mark.parametrize("name", sorted(LIKELIHOODS))
both_types = pytest.mark.parametrize("dtype", ["float32", "float64"])
TOLERANCE = {"float32": 4e-6, "float64": 1e-11}


def outputs_per_target(name, levels=LEVELS):
    return LIKELIHOODS[name].outputs_per_target or len(levels)


def problem(name, rng, n_rows=7, n_targets=3, dtype="float64", levels=LEVELS, spread=1.5):
    outputs = spread * rng.normal(size=(n_rows, n_targets * outputs_per_target(name, levels)))
    targets = spread * rng.normal(size=(n_rows, n_targets))
    if name == "negative_binomial":
        scales = rng.uniform(0.5, 40, (n_rows, n_targets))
        counts = rng.poisson(scales)
        targets = np.stack([counts, scales], axis=2).reshape(n_rows, -1)
    return outputs.astype(dtype), targets.astype(dtype), rng.uniform(0.1, 3, n_rows)


def run(name, outputs, targets, weights, scale, levels=LEVELS):
    d_outputs = np.full_like(outputs, 99)
    extra = (np.array(levels),) if name == "quantile" else ()
    return LIKELIHOODS[name].kernel(outputs, targets, weights, *extra, scale, d_outputs), d_outputs


def expected(name, outputs, targets, weights, levels=LEVELS):
    extra = (levels,) if name == "quantile" else ()
    values = getattr(oracle.likelihoods, name)(outputs.astype(float), targets.astype(float), *extra)
    return oracle.likelihoods.weighted_mean(values, weights)


@pytest.mark.interpreter
@every_likelihood
@both_types
def test_value_follows_the_definition(name, dtype, rng):
    outputs, targets, weights = problem(name, rng, dtype=dtype)
    total, _ = run(name, outputs, targets, weights, 1.0)
    np.testing.assert_allclose(total / weights.sum(), expected(name, outputs, targets, weights), rtol=TOLERANCE[dtype])


@pytest.mark.interpreter
@every_likelihood
@pytest.mark.parametrize("n_targets", [1, 3])
def test_gradient_is_the_derivative_of_the_value(name, n_targets, rng):
    outputs, targets, weights = problem(name, rng, n_targets=n_targets)
    targets[2, 0] = np.nan
    targets[4] = np.nan
    _, d_outputs = run(name, outputs, targets, weights, scale=0.7)
    numeric = oracle.central_difference(lambda: 0.7 * run(name, outputs, targets, weights, 0.7)[0], outputs)
    oracle.assert_close(d_outputs, numeric, 1e-8)


@every_likelihood
def test_float32_gradient_is_that_of_float64(name, rng):
    outputs, targets, weights = problem(name, rng, dtype="float32")
    _, single = run(name, outputs, targets, weights, scale=0.3)
    _, double = run(name, outputs.astype("d"), targets.astype("d"), weights, scale=0.3)
    assert single.dtype == np.float32
    oracle.assert_close(single, double, 1e-6)


@pytest.mark.parametrize("levels", [(0.5,), (0.9,), (0.05, 0.1), (0.01, 0.25, 0.5, 0.75, 0.99), (0.4, 0.6)])
def test_any_quantile_levels(levels, rng):
    outputs, targets, weights = problem("quantile", rng, levels=levels)
    total, d_outputs = run("quantile", outputs, targets, weights, 1.0, levels)
    np.testing.assert_allclose(
        total / weights.sum(), expected("quantile", outputs, targets, weights, levels), rtol=1e-12
    )
    numeric = oracle.central_difference(lambda: run("quantile", outputs, targets, weights, 1.0, levels)[0], outputs)
    oracle.assert_close(d_outputs, numeric, 1e-8)


@pytest.mark.parametrize("name", [*sorted(LIKELIHOODS), "squared_error", "absolute_error", "huber"])
def test_missing_targets_and_rows_of_weight_zero_count_for_nothing(name, rng):
    if name in LIKELIHOODS:
        outputs, targets, _ = problem(name, rng, n_rows=4)
        loss, width, columns = run, outputs_per_target(name), LIKELIHOODS[name].columns_per_target
    else:
        outputs, targets, width, columns = rng.normal(size=(4, 3)), rng.normal(size=(4, 3)), 1, 1

        def loss(name, outputs, targets, weights, scale):
            d_outputs = np.full_like(outputs, 99)
            return LOSSES[name](outputs, targets, weights, scale, d_outputs), d_outputs

    targets[0, columns] = np.nan  # the second of three
    targets[1] = np.nan
    outputs[2] = np.nan
    weights = np.array([2.0, 1.0, 0.0, 1.0])
    total, d_outputs = loss(name, outputs, targets, weights, 1.0)
    there = [*range(width), *range(2 * width, 3 * width)]
    there_targets = [*range(columns), *range(2 * columns, 3 * columns)]
    total_0, d_0 = loss(name, outputs[:1, there], targets[:1, there_targets], weights[:1], 1.0)
    total_3, d_3 = loss(name, outputs[3:], targets[3:], weights[3:], 1.0)
    np.testing.assert_allclose(total, total_0 + total_3, rtol=1e-13)
    np.testing.assert_allclose(d_outputs[0, there], d_0[0], rtol=1e-13)
    np.testing.assert_array_equal(d_outputs[0, width : 2 * width], 0)
    np.testing.assert_array_equal(d_outputs[1:3], 0)
    np.testing.assert_array_equal(d_outputs[3], d_3[0])


@every_likelihood
def test_an_output_that_is_not_a_number_shows_in_the_loss(name, rng):
    outputs, targets, weights = problem(name, rng, n_rows=2)
    for column in range(outputs_per_target(name)):
        broken = outputs.copy()
        broken[1, column] = np.nan
        total, d_outputs = run(name, broken, targets, weights, 1.0)
        assert np.isnan(total)
        assert np.isfinite(d_outputs[0]).all()


@every_likelihood
@both_types
@pytest.mark.parametrize("size", [-1e4, -100, 100, 1e4])
def test_extreme_outputs_give_finite_losses_and_gradients(name, dtype, size, rng):
    outputs, targets, weights = problem(name, rng, dtype=dtype)
    outputs[:] = size
    total, d_outputs = run(name, outputs, targets, weights, 1.0)
    assert np.isfinite(total)
    assert np.isfinite(d_outputs).all()


def test_negative_binomial_of_huge_counts_and_no_counts(rng):
    targets = np.array([[0.0, 1.0, 1e7, 1e6, 0.0, 1e4]])
    outputs = rng.normal(size=(1, 6))
    total, d_outputs = run("negative_binomial", outputs, targets, np.ones(1), 1.0)
    np.testing.assert_allclose(total, expected("negative_binomial", outputs, targets, np.ones(1)), rtol=1e-9)
    numeric = oracle.central_difference(lambda: run("negative_binomial", outputs, targets, np.ones(1), 1.0)[0], outputs)
    oracle.assert_close(d_outputs, numeric, 5e-5)  # the logarithms are about 1e8: differences lose digits


def test_digamma():
    x = np.concatenate([np.geomspace(1e-3, 1e8, 200), [0.5, 1.0, 9.999, 10.0]])
    np.testing.assert_allclose([digamma(value) for value in x], exact_digamma(x), rtol=1e-13, atol=1e-14)


# ----------------------------------------------------------------------------------------------------------- a network
def network_for(name, **options):
    levels = LEVELS if name == "quantile" else ()
    return Network(
        cell="gru",
        input_size=2,
        hidden_sizes=(5,),
        n_outputs=3 * outputs_per_target(name),
        loss=name,
        quantile_levels=levels,
        dtype="float64",
        **options,
    )


@every_likelihood
def test_a_network_takes_the_loss_and_its_gradient_is_exact(name, rng):
    network = network_for(name)
    network.initialize(np.random.RandomState(0))
    sequences = Sequences.from_padded(rng.normal(size=(4, 6, 2)))
    _, targets, weights = problem(name, rng, n_rows=4)
    targets[1, 0] = np.nan
    assert targets.shape[1] == network.n_target_columns
    value = network.loss_and_gradient(sequences, targets, weights)
    np.testing.assert_allclose(value, expected(name, network.outputs(sequences), targets, weights), rtol=1e-10)
    np.testing.assert_allclose(value, network.loss(sequences, targets, weights), rtol=1e-12)
    gradient = network.gradient.flat.copy()
    numeric = oracle.central_difference(lambda: network.loss(sequences, targets, weights), network.parameters.flat)
    oracle.assert_close(gradient, numeric, 1e-7)


def test_quantile_levels_are_part_of_a_networks_form(rng):
    network = network_for("quantile")
    network.initialize(np.random.RandomState(0))
    sequences = Sequences.from_padded(rng.normal(size=(4, 6, 2)))
    _, targets, _ = problem("quantile", rng, n_rows=4)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network)), network.with_dtype("float64")):
        assert other.quantile_levels == LEVELS
        assert other.loss(sequences, targets) == network.loss(sequences, targets)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "gaussian", "n_outputs": 3}, "n_outputs must be a multiple of 2"),
        ({"loss": "quantile", "n_outputs": 4}, "quantile_levels are for the loss 'quantile' alone"),
        ({"loss": "huber", "n_outputs": 4, "quantile_levels": (0.5,)}, "quantile_levels are for"),
        ({"loss": "quantile", "n_outputs": 2, "quantile_levels": (0.5, 0.4)}, "between 0 and 1 and increase"),
        ({"loss": "quantile", "n_outputs": 2, "quantile_levels": (0.0, 0.4)}, "between 0 and 1 and increase"),
        ({"loss": "quantile", "n_outputs": 3, "quantile_levels": (0.1, 0.4)}, "multiple of 2"),
        ({"loss": "poisson", "n_outputs": 3}, "loss must be one of .*negative_binomial"),
    ],
)
def test_networks_refuse_what_does_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        Network(cell="gru", input_size=2, hidden_sizes=(5,), **options)
