"""Embedding and input weights as one table of pre-activations: the numbers of the general way."""

from __future__ import annotations

import numpy as np
import pytest

from numrnn.network import Network
from numrnn.packing import Sequences
from numrnn.workers import Workers


def make_network(**options):
    form = {"cell": "lstm", "input_size": 1, "hidden_sizes": (5, 4), "n_outputs": 3, "pooling": None, **options}
    network = Network(**{"embeddings": ((0, 7, 3),), "dtype": "float64", "workers": Workers(1), **form})
    network.initialize(np.random.RandomState(0))
    for name in ("bias_ih_l0", "bias_hh_l0"):
        network.parameters[name][...] = np.random.RandomState(1).normal(size=network.parameters[name].shape)
    return network


def ids(lengths, dtype, n_entries=7, seed=0):
    rng = np.random.default_rng(seed)
    # Row 2 is never looked up.
    numbers = rng.integers(0, n_entries - 1, sum(lengths))
    numbers[numbers >= 2] += 1
    values = numbers.astype(dtype)[:, np.newaxis]
    return Sequences(values, np.cumsum(lengths) - lengths, np.array(lengths, dtype=np.int64))


def both_ways(network, sequences, targets, **options):
    """Outputs, loss and gradient, through the table and without it."""
    found = []
    projection = network.trunk._projection
    for way in (projection, None):
        network.trunk._projection = way
        outputs = network.outputs(sequences)
        loss = network.loss_and_gradient(sequences, targets, **options)
        reached = [rows.tolist() for rows in network.trunk.embedding.reached]
        found.append((outputs, loss, {name: value.copy() for name, value in network.gradient.items()}, reached))
    network.trunk._projection = projection
    return found


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_relu"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_forward_is_the_same_and_the_gradient_but_for_rounding(cell, dtype):
    network = make_network(cell=cell, dtype=dtype)
    lengths = [9, 1, 4, 9, 0, 6]
    sequences = ids(lengths, dtype)
    targets = np.random.default_rng(1).integers(0, 3, sum(lengths))
    through, without = both_ways(network, sequences, targets, alpha=0.01, dropout_seed=3)
    np.testing.assert_array_equal(through[0], without[0])
    assert through[1] == without[1]
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    for name, expected in without[2].items():
        scale = np.abs(expected).max()
        np.testing.assert_allclose(through[2][name], expected, rtol=0, atol=tolerance * scale, err_msg=name)
    assert (through[2]["embedding_0"][2] == 0).all()
    assert sorted(through[3][0]) == sorted(without[3][0]) == [0, 1, 3, 4, 5, 6]


@pytest.mark.parametrize(("pooling", "bptt_steps"), [("max", None), ("last", 3), (None, 4), ("attention", None)])
def test_with_pooling_and_windows(pooling, bptt_steps):
    network = make_network(pooling=pooling, dropout=0.3, recurrent_dropout=0.2)
    sequences = ids([12, 7, 10], "float64")
    targets = np.random.default_rng(1).integers(0, 3, 29 if pooling is None else 3)
    through, without = both_ways(network, sequences, targets, bptt_steps=bptt_steps, dropout_seed=3)
    np.testing.assert_array_equal(through[0], without[0])
    assert through[1] == without[1]
    for name, expected in without[2].items():
        np.testing.assert_allclose(through[2][name], expected, rtol=1e-11, atol=1e-14, err_msg=name)


def test_the_gradient_is_that_of_finite_differences():
    network = make_network(hidden_sizes=(4,))
    sequences = ids([8, 5], "float64")
    targets = np.random.default_rng(1).integers(0, 3, 13)
    network.loss_and_gradient(sequences, targets)
    gradient = network.gradient.flat.copy()
    flat = network.parameters.flat
    for i in range(network.n_parameters):
        before, losses = flat[i], []
        for shift in (1e-5, -1e-5):
            flat[i] = before + shift
            losses.append(network.loss(sequences, targets))
        flat[i] = before
        assert gradient[i] == pytest.approx((losses[0] - losses[1]) / 2e-5, abs=1e-8)


@pytest.mark.parametrize("hidden_size", [33, 256])
def test_threads_change_nothing(hidden_size):
    """33 units: threads share the sequences. 256 units: they share the units, and the products of 1000 symbols."""
    lengths = [60] * 50
    sequences = ids(lengths, "float32", n_entries=1000)
    targets = np.random.default_rng(1).integers(0, 3, sum(lengths))
    gradients = []
    for n in (1, 2):
        network = make_network(
            hidden_sizes=(hidden_size,), embeddings=((0, 1000, 20),), dtype="float32", workers=Workers(n)
        )
        loss = network.loss_and_gradient(sequences, targets)
        gradients.append((loss, network.gradient.flat.copy()))
        network.workers.close()
    assert gradients[0][0] == gradients[1][0]
    np.testing.assert_array_equal(gradients[0][1], gradients[1][1])


@pytest.mark.interpreter
def test_where_it_does_not_pay_or_cannot_be():
    network = make_network(embeddings=((0, 100, 3),))
    few = Sequences(np.arange(8.0)[:, np.newaxis], np.array([0]), np.array([8]))
    options = {"pooling": None, "training": False}
    assert network.trunk._projection.forward(network.parameters, few, **options) is None
    assert network.trunk._projection.forward(network.parameters, ids([40], "float64"), **options) is not None
    assert make_network(input_size=2).trunk._projection is None
    assert make_network(bidirectional=True).trunk._projection is None
    # Dropout of the embedded symbols takes other elements at every time step.
    network = make_network(input_dropout=0.5, hidden_sizes=(4,))
    sequences, targets = ids([30, 20], "float64"), np.zeros(50, dtype=np.int64)
    through, without = both_ways(network, sequences, targets, dropout_seed=5)
    np.testing.assert_array_equal(through[2]["weight_ih_l0"], without[2]["weight_ih_l0"])


@pytest.mark.interpreter
@pytest.mark.parametrize("value", [7.0, -1.0, 2.5, np.nan])
def test_what_is_no_number_of_a_row(value):
    network = make_network()
    sequences = ids([9, 8], "float64")
    sequences.values[11] = value
    with pytest.raises(ValueError, match=f"whole numbers from 0 to 6.* got {value} in step 2 of sequence 1"):
        network.outputs(sequences)
    sequences.values[11] = 0
    assert np.isfinite(network.outputs(sequences)).all()
