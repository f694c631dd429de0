"""Epochs in one call of a kernel against the same minibatches one by one: the same bits."""

from __future__ import annotations

import numpy as np
import pytest

from numrnn.kernels.jit import COMPILED
from numrnn.network import Network
from numrnn.packing import Sequences
from numrnn.training import compiled_epochs
from numrnn.training.compiled_epochs import CompiledEpochs
from numrnn.training.data import TrainingData
from numrnn.training.loop import TrainingState, train
from numrnn.training.solvers import SGD, Adam, AdamW, RMSprop
from numrnn.workers import Workers

FORMS = {
    "classes": {"cell": "lstm", "loss": "cross_entropy", "n_outputs": 5, "hidden_sizes": (20,)},
    "smoothed classes": {"cell": "lstm", "loss": "cross_entropy", "n_outputs": 5, "label_smoothing": 0.2},
    "values": {"cell": "gru", "loss": "squared_error", "n_outputs": 2, "dtype": "float64"},
    "distributions": {"cell": "rnn_tanh", "loss": "gaussian", "n_outputs": 2},
}
SOLVERS = {
    "classes": Adam,
    "smoothed classes": lambda: AdamW(weight_decay=0.3),
    "values": lambda: SGD(momentum=0.8),
    "distributions": RMSprop,
}


@pytest.fixture(params=[False, True], ids=["equal", "ragged"])
def ragged(request):
    return request.param


def samples(form, *, ragged, n_sequences=70, seed=0):
    rng = np.random.RandomState(seed)
    dtype = form.get("dtype", "float32")
    lengths = rng.randint(0, 9, n_sequences) if ragged else np.full(n_sequences, 6)
    sequences = Sequences.from_list([rng.standard_normal((length, 3)).astype(dtype) for length in lengths])
    if form["loss"] == "cross_entropy":
        return sequences, rng.randint(0, form["n_outputs"], n_sequences)
    columns = 1 if form["loss"] == "gaussian" else form["n_outputs"]
    targets = rng.standard_normal((n_sequences, columns)).astype(dtype)
    targets[3, 0] = np.nan
    return sequences, targets


def network_of(form, workers=None):
    network = Network(**{"input_size": 3, "hidden_sizes": (9,), **form, "workers": workers})
    network.initialize(np.random.RandomState(1))
    return network


def result(form, data, solver, weights=None, n_jobs=1, **options):
    """Everything that training leaves behind, in arrays."""
    with Workers(n_jobs) as workers:
        network = network_of(form, workers)
        options = {"batch_size": 16, "max_iter": 3, "learning_rate_init": 0.01, "tol": 0.0, **options}
        state = train(network, *data, weights, solver=solver, rng=np.random.RandomState(5), **options)
    assert solver.n_updates == 3 * -(-len(data[0]) // options["batch_size"])
    left = [network.parameters.flat, network.gradient.flat, np.array(state.loss_curve), *solver.moments.values()]
    assert all(np.isfinite(array).all() for array in left)
    return left


def check_equal(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def calls(monkeypatch):
    """How many epochs went through the kernel."""
    seen = []
    epoch = CompiledEpochs.epoch

    def counted(self, *arguments):
        seen.append(self)
        return epoch(self, *arguments)

    monkeypatch.setattr(CompiledEpochs, "epoch", counted)
    return seen


def one_by_one(monkeypatch):
    monkeypatch.setattr(CompiledEpochs, "takes", lambda *arguments: False)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("is_weighted", [False, True])
def test_the_bits_are_those_of_minibatches_one_by_one(monkeypatch, calls, name, ragged, is_weighted):
    form, solver = FORMS[name], SOLVERS[name]
    data = samples(form, ragged=ragged)
    weights = np.random.RandomState(2).uniform(0, 2, len(data[0])) if is_weighted else None
    if is_weighted:
        weights[5] = 0.0
    options = {"alpha": 0.1 if is_weighted else 0.0, "max_grad_norm": 0.5}
    compiled = result(form, data, solver(), weights, **options)
    assert len(calls) == 3
    one_by_one(monkeypatch)
    check_equal(compiled, result(form, data, solver(), weights, **options))
    assert len(calls) == 3


@pytest.mark.skipif(not COMPILED, reason="interpreted kernels run in one thread")
@pytest.mark.parametrize("name", ["classes", "values"])
@pytest.mark.parametrize("batch_size", [1, 16, 70])
def test_the_bits_do_not_depend_on_the_threads(many_threads, calls, name, ragged, batch_size):
    form, solver = FORMS[name], SOLVERS[name]
    data = samples(form, ragged=ragged)
    weights = np.random.RandomState(2).uniform(0, 2, len(data[0]))
    results = [result(form, data, solver(), weights, n_jobs, alpha=0.1, batch_size=batch_size) for n_jobs in (1, 2, 3)]
    check_equal(results[0], results[1])
    check_equal(results[0], results[2])
    assert many_threads.most_tasks == min(batch_size, 3)
    assert len(calls) == 9


def test_neither_parts_of_a_minibatch_nor_of_an_epoch_change_a_bit(monkeypatch):
    form, data = FORMS["classes"], samples(FORMS["classes"], ragged=False)
    whole = result(form, data, Adam())
    monkeypatch.setattr(compiled_epochs, "_AT_ONCE_BYTES", 1)
    monkeypatch.setattr(compiled_epochs, "_FLOPS_OF_CALL", 1)
    check_equal(whole, result(form, data, Adam()))


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_not_finite_ends_training_as_it_does_one_by_one(monkeypatch, calls, what):
    form = {"cell": "gru", "loss": "squared_error", "n_outputs": 2}
    sequences, targets = samples(form, ragged=False)
    # A loss is computed in float64, a gradient is one of float32.
    targets[40] = np.inf if what == "loss" else 1e38
    left = []
    for compiled in (True, False):
        if not compiled:
            one_by_one(monkeypatch)
        network, state, solver = network_of(form), TrainingState(), SGD()
        scale = 1.0 if what == "loss" else 10.0
        network.parameters.flat[:] *= scale
        with pytest.raises(FloatingPointError) as error:
            train(
                network, sequences, targets, solver=solver, rng=np.random.RandomState(5), batch_size=16, max_iter=3,
                max_grad_norm=None, learning_rate_init=1.0, state=state,
            )  # fmt: skip
        left.append((str(error.value), network.parameters.flat.copy(), solver.n_updates, state.n_iter))
    assert left[0][0] == left[1][0]
    np.testing.assert_array_equal(left[0][1], left[1][1])
    assert left[0][2:] == left[1][2:]
    assert len(calls) >= 1


def test_an_interrupt_counts_the_updates_that_were_made(monkeypatch):
    form, data = FORMS["classes"], samples(FORMS["classes"], ragged=False)
    monkeypatch.setattr(compiled_epochs, "_FLOPS_OF_CALL", 1)
    run, seen = Workers.run, []

    def interrupted(self, tasks, *, counters=()):
        run(self, tasks, counters=counters)
        seen.append(None)
        if len(seen) == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(Workers, "run", interrupted)
    network, solver = network_of(form), Adam()
    with pytest.warns(UserWarning, match="interrupted by user"):
        state = train(network, *data, solver=solver, batch_size=16, rng=np.random.RandomState(5))
    assert state.interrupted
    assert (solver.n_updates, state.n_iter) == (7, 1)


class OtherAdam(Adam):
    """A solver that the kernels do not know."""


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ({"hidden_sizes": (9, 9)}, {}),
        ({"bidirectional": True}, {}),
        ({"pooling": "mean"}, {}),
        ({"pooling": None}, {}),
        ({"dropout": 0.1}, {}),
        ({"input_dropout": 0.1}, {}),
        ({"embeddings": ((0, 4, 2),)}, {}),
        ({"convolutions": ({"kind": "1d", "filters": 4, "kernel_size": 3},)}, {}),
        ({"loss": "quantile", "n_outputs": 1, "quantile_levels": (0.5,)}, {}),
        ({"n_outputs": 513}, {}),
        ({"n_samples": 2}, {}),
        ({}, {"solver": OtherAdam}),
        ({}, {"bptt_steps": 5}),
        ({}, {"batch_size": 10**7}),
    ],
    ids=str,
)
def test_what_the_kernel_does_not_know_is_left_to_others(form, options):
    def takes(form, solver=Adam, bptt_steps=None, batch_size=16):
        network = network_of({**FORMS["classes"], **form})
        sequences, targets = samples(FORMS["classes"], ragged=False)
        data = TrainingData(sequences, targets, None, None)
        return CompiledEpochs.takes(network, data, solver(), bptt_steps, batch_size)

    assert takes({})
    assert takes({}, bptt_steps=6)
    assert not takes(form, **options)
