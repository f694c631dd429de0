"""Readouts whose weights are the embedding."""

from __future__ import annotations

import numpy as np
import pytest

import numrnn
from numrnn import RNNLanguageModel
from numrnn.network import Network
from numrnn.packing import Sequences
from numrnn.training.loop import train

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def make_network(hidden_size, **options):
    form = {"cell": "gru", "input_size": 1, "hidden_sizes": (hidden_size,), "n_outputs": 6, "pooling": None}
    network = Network(**{**form, "embeddings": ((0, 6, 4),), "tied_weights": True, "dtype": "float64", **options})
    network.initialize(np.random.RandomState(0))
    return network


def batch(lengths=(9, 7), n=5):
    """Row 5 of the table is never looked up, and is an output all the same."""
    rng = np.random.default_rng(0)
    x = [rng.integers(0, n, (length, 1)).astype(np.float64) for length in lengths]
    return Sequences.from_list(x), rng.integers(0, 6, sum(lengths))


@pytest.mark.interpreter
@pytest.mark.parametrize(("hidden_size", "projected"), [(4, False), (7, True)])
def test_outputs_are_products_with_the_table(hidden_size, projected):
    network = make_network(hidden_size)
    p = network.parameters
    assert "weight_out" not in p
    assert ("weight_projection" in p) is projected
    if projected:
        p["bias_projection"][...] = np.random.RandomState(1).normal(size=4)
    sequences, _ = batch()
    hidden = network.trunk.forward(p, sequences).output
    seen = hidden @ p["weight_projection"].T + p["bias_projection"] if projected else hidden
    np.testing.assert_allclose(network.outputs(sequences), seen @ p["embedding_0"].T + p["bias_out"], rtol=1e-12)
    weight, bias = network.readout_parameters()
    np.testing.assert_allclose(network.outputs(sequences), hidden @ weight.T + bias, rtol=1e-12)


@pytest.mark.parametrize("hidden_size", [4, 7])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_gradient_is_that_of_finite_differences(hidden_size, smoothing):
    network = make_network(hidden_size, label_smoothing=smoothing)
    sequences, targets = batch()
    # Twice: what the first call has left must not be added to.
    network.loss_and_gradient(sequences, targets)
    network.loss_and_gradient(sequences, targets)
    gradient, flat = network.gradient.flat.copy(), network.parameters.flat
    for i in range(network.n_parameters):
        before, losses = flat[i], []
        for shift in (1e-5, -1e-5):
            flat[i] = before + shift
            losses.append(network.loss(sequences, targets))
        flat[i] = before
        assert gradient[i] == pytest.approx((losses[0] - losses[1]) / 2e-5, abs=1e-8)
    d_outputs = np.random.default_rng(2).normal(size=(16, 6))
    hidden = network.trunk.forward(network.parameters, sequences).output
    expected = d_outputs @ network.readout_parameters()[0]
    assert network.head.features_gradient(network.parameters, d_outputs) == pytest.approx(expected, rel=1e-12)
    assert expected.shape == hidden.shape


def test_every_row_of_the_table_learns():
    network = make_network(7)
    sequences, targets = batch()
    before = network.parameters["embedding_0"].copy()
    train(network, sequences, targets, max_iter=2, tol=0.0, rng=np.random.RandomState(0))
    assert (network.parameters["embedding_0"] != before).all()


def test_what_cannot_be_tied():
    with pytest.raises(ValueError, match="one embedding with a row for each output, got 'cross_entropy', 5 outputs"):
        make_network(4, n_outputs=5)
    with pytest.raises(ValueError, match="tied_weights needs the loss 'cross_entropy'"):
        make_network(4, loss="squared_error")


@pytest.mark.parametrize("units", [16, 24])
def test_a_language_model(tmp_path, units):
    rhyme = "peter piper picked a peck of pickled peppers. "
    model = RNNLanguageModel((units,), embedding_dim=16, tied_weights=True, batch_size=4, bptt_steps=20, tol=0.0)
    model.set_params(max_iter=30, learning_rate_init=0.02, random_state=0).fit(rhyme * 30)
    plain = RNNLanguageModel((units,), embedding_dim=16, batch_size=4, max_iter=1, tol=0.0).fit(rhyme * 30)
    n_symbols = len(model.symbols_)
    projection = 0 if units == 16 else 16 * units + 16
    assert model.n_parameters_ == plain.n_parameters_ - units * n_symbols + projection
    assert model.generate("peter p", 39, temperature=0) == rhyme[7:46]
    # The compiled network and the one that was trained agree, but for the unknown symbol that the former never expects.
    ids = model._vocabulary.ids_of(rhyme)
    sequences = Sequences.from_padded(ids[:-1].astype(np.float32).reshape(1, -1, 1))
    assert model.score(rhyme) == pytest.approx(-model._network.loss(sequences, ids[1:]), abs=1e-4)
    model.save(tmp_path / "model")
    read = numrnn.load(tmp_path / "model")
    assert read.get_params()["tied_weights"]
    read.partial_fit(rhyme * 30)
    model.partial_fit(rhyme * 30)
    np.testing.assert_array_equal(read._network.parameters.flat, model._network.parameters.flat)
