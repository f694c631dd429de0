"""Training with some of many outputs."""

from __future__ import annotations

import numpy as np
import pytest

import numrnn
from numrnn import RNNLanguageModel
from numrnn.heads import OutputSampler
from numrnn.network import Network
from numrnn.packing import Sequences
from numrnn.workers import Workers

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def make_network(n_samples, n_outputs=30, **options):
    form = {"cell": "gru", "input_size": 1, "hidden_sizes": (7,), "n_outputs": n_outputs, "pooling": None}
    form |= {"embeddings": ((0, n_outputs, 4),), "dtype": "float64", "workers": Workers(1)}
    network = Network(**{**form, **options}, n_samples=n_samples)
    network.initialize(np.random.RandomState(0))
    return network


def batch(n_outputs=30, dtype=np.float64):
    rng = np.random.default_rng(0)
    x = [rng.integers(0, n_outputs, (length, 1)).astype(dtype) for length in (15, 11)]
    return Sequences.from_list(x), rng.integers(0, n_outputs, 26)


def by_hand(network, sequences, targets, seed):
    """The loss from the definition, row by row, in NumPy."""
    chosen, offsets, own = OutputSampler(network.n_outputs, network.n_samples).draw(targets, seed)
    outputs, total = network.outputs(sequences), 0.0
    drawn = np.setdiff1d(chosen, chosen[own])
    for row, target in enumerate(targets):
        compete = np.union1d(drawn, [target])
        logits = outputs[row, compete] - offsets[np.searchsorted(chosen, compete)]
        total += np.log(np.exp(logits).sum()) - logits[compete.tolist().index(target)]
    return total / len(targets)


@pytest.mark.parametrize("tied", [False, True])
def test_loss_and_gradient_of_one_draw(tied):
    network = make_network(8, tied_weights=tied)
    sequences, targets = batch()
    options = {"dropout_seed": 3}
    loss = network.loss_and_gradient(sequences, targets, **options)
    assert loss == pytest.approx(by_hand(network, sequences, targets, 3), rel=1e-12)
    gradient, flat = network.gradient.flat.copy(), network.parameters.flat
    for i in range(0, network.n_parameters, 3):
        before, losses = flat[i], []
        for shift in (1e-5, -1e-5):
            flat[i] = before + shift
            losses.append(network.loss_and_gradient(sequences, targets, **options))
        flat[i] = before
        assert gradient[i] == pytest.approx((losses[0] - losses[1]) / 2e-5, abs=1e-8)
    assert network.loss_and_gradient(sequences, targets, dropout_seed=4) != loss


def test_with_all_outputs_drawn_it_is_the_softmax():
    sequences, targets = batch()
    exact, sampled = make_network(None), make_network(100_000)
    assert sampled.loss_and_gradient(sequences, targets) == pytest.approx(exact.loss_and_gradient(sequences, targets))
    np.testing.assert_allclose(sampled.gradient.flat, exact.gradient.flat, rtol=1e-9, atol=1e-14)
    # What a model is judged by is always the softmax of all outputs.
    few = make_network(3)
    assert few.loss(sequences, targets) == exact.loss(sequences, targets)


def test_frequent_outputs_are_drawn_often():
    sampler, n = OutputSampler(50, 20), 4000
    counts = np.zeros(50)
    for seed in range(n):
        chosen, _, own = sampler.draw(np.array([49, 49, 7]), seed)
        counts[np.setdiff1d(chosen, chosen[own])] += 1
        assert {7, 49} <= set(chosen.tolist())
    expected = np.exp(sampler.draw(np.arange(50), 0)[1])
    assert np.abs(counts / n - expected).max() < 5 * np.sqrt(0.25 / n)
    assert (np.diff(expected) < 0).all()


def test_threads_and_what_is_not_drawn():
    sequences, targets = batch(2000, np.float32)
    gradients = []
    for n in (1, 2):
        network = make_network(500, 2000, dtype="float32", workers=Workers(n), hidden_sizes=(200,))
        network.loss_and_gradient(sequences, targets, dropout_seed=1)
        gradients.append(network.gradient.flat.copy())
        network.workers.close()
    np.testing.assert_array_equal(*gradients)
    reached = np.flatnonzero(network.gradient["weight_out"].any(axis=1))
    assert len(reached) <= 500 + 26
    assert set(targets.tolist()) <= set(reached.tolist())


@pytest.mark.parametrize(
    ("n_samples", "options", "message"),
    [
        (0, {}, "n_samples must be at least 1, got 0"),
        (5, {"label_smoothing": 0.1}, "without label smoothing, got 'cross_entropy' and 0.1"),
        (5, {"loss": "squared_error"}, "for the loss 'cross_entropy'"),
    ],
)
def test_what_cannot_be_sampled(n_samples, options, message):
    with pytest.raises(ValueError, match=message):
        make_network(n_samples, **options)


def test_a_language_model(tmp_path):
    words = list("peter piper picked a peck of pickled peppers. ")
    options = {"batch_size": 4, "bptt_steps": 20, "tol": 0.0, "learning_rate_init": 0.02, "random_state": 0}
    model = RNNLanguageModel((16,), sampled_softmax=6, max_iter=30, **options).fit([words * 30])
    assert model.perplexity([words * 2]) < 1.6
    model.save(tmp_path / "model")
    read = numrnn.load(tmp_path / "model")
    for each in (model, read):
        each.partial_fit([words * 30])
    np.testing.assert_array_equal(read._network.parameters.flat, model._network.parameters.flat)
    with pytest.raises(ValueError, match="'sampled_softmax' parameter"):
        RNNLanguageModel(sampled_softmax=0).fit("ab")
