"""A network: readout, pooling, loss and gradient over one vector; truncated backpropagation through time."""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import oracle
import oracle.losses
import pytest

from numrnn import backpropagation
from numrnn import network as network_module
from numrnn.network import Network
from numrnn.packing import Sequences
from numrnn.workers import Workers

LENGTHS = (4, 9, 1, 7)
N_FEATURES = 3
POOLINGS = ("last", "mean", "max", None)
LOSSES = ("cross_entropy", "squared_error", "absolute_error", "huber")
every_pooling = pytest.mark.parametrize("pooling", POOLINGS)


class Problem:
    """A small network with random parameters, and ragged sequences with targets and weights."""

    def __init__(self, pooling="last", loss="cross_entropy", lengths=LENGTHS, dtype="float64", seed=5, **options):
        rng = np.random.RandomState(seed)
        options = {"cell": "lstm", "hidden_sizes": (5, 4), "n_outputs": 3, **options}
        self.network = Network(input_size=N_FEATURES, pooling=pooling, loss=loss, dtype=dtype, **options)
        self.network.initialize(rng)
        self.network.parameters.flat[:] += 0.3 * rng.standard_normal(self.network.n_parameters)
        self.arrays = [rng.standard_normal((length, N_FEATURES)).astype(dtype) for length in lengths]
        self.sequences = Sequences.from_list(self.arrays)
        n_rows = sum(lengths) if pooling is None else len(lengths)
        n_outputs = self.network.n_outputs
        if loss == "cross_entropy":
            self.targets = rng.randint(0, n_outputs, n_rows)
        else:
            self.targets = rng.standard_normal((n_rows, n_outputs)).astype(dtype)
        self.weights = rng.uniform(0.2, 2.0, n_rows)

    def loss_and_gradient(self, **options):
        loss = self.network.loss_and_gradient(self.sequences, self.targets, self.weights, **options)
        return loss, self.network.gradient.flat.copy()

    def penalised_loss(self, alpha):
        parameters = self.network.parameters
        squares = sum((parameters[name] ** 2).sum() for name in parameters if name.startswith("weight"))
        loss = self.network.loss(self.sequences, self.targets, self.weights)
        return loss + 0.5 * alpha * squares / self.weights.sum()


def reference_outputs(problem):
    """Features and raw outputs by the oracle."""
    network = problem.network
    pass_ = oracle.forward(network.cell, network.parameters, problem.arrays)
    features = np.concatenate(pass_.outputs) if network.pooling is None else oracle.pool(pass_, network.pooling)
    return features, features @ network.parameters["weight_out"].T + network.parameters["bias_out"]


# ------------------------------------------------------------------------------------------------------------ inference
@every_pooling
@pytest.mark.parametrize("bidirectional", [False, True])
def test_outputs_are_the_readout_of_pooled_features(pooling, bidirectional):
    problem = Problem(pooling, bidirectional=bidirectional)
    features, outputs = reference_outputs(problem)
    oracle.assert_close(problem.network.features(problem.sequences), features, 1e-9)
    oracle.assert_close(problem.network.outputs(problem.sequences), outputs, 1e-9)


@every_pooling
@pytest.mark.parametrize("loss", LOSSES)
def test_loss_is_the_weighted_mean_by_the_definition(pooling, loss):
    problem = Problem(pooling, loss)
    values, derivatives = getattr(oracle.losses, loss)(reference_outputs(problem)[1], problem.targets)
    wanted, _ = oracle.losses.weighted_mean(values, derivatives, problem.weights)
    wanted *= 2 if loss == "squared_error" else 1  # the oracle's is half of the squared error
    np.testing.assert_allclose(problem.penalised_loss(0.0), wanted, rtol=1e-10)
    np.testing.assert_allclose(problem.loss_and_gradient()[0], wanted, rtol=1e-10)


@every_pooling
def test_an_output_depends_on_nothing_but_its_sequence(pooling):
    problem = Problem(pooling, dtype="float32", lengths=(5, 12, 1, 8, 5, 30), hidden_sizes=(19,))
    together = problem.network.outputs(problem.sequences)
    alone = [problem.network.outputs(Sequences.from_list([x])) for x in problem.arrays]
    np.testing.assert_array_equal(together, np.concatenate(alone))


@every_pooling
def test_long_inputs_are_read_in_batches_and_windows_of_bounded_memory(pooling, monkeypatch):
    problem = Problem(pooling)
    whole, features = problem.network.outputs(problem.sequences), problem.network.features(problem.sequences)
    calls = []
    forward = problem.network.stack.forward

    def counted(parameters, sequences, **options):
        calls.append(sequences.n_steps)
        return forward(parameters, sequences, **options)

    monkeypatch.setattr(problem.network.stack, "forward", counted)
    monkeypatch.setattr(network_module, "_INFERENCE_BYTES", 5 * problem.network._bytes_per_step)
    batched = problem.network.outputs(problem.sequences)
    assert len(calls) == 4
    calls.clear()
    monkeypatch.setattr(network_module, "_INFERENCE_STEPS", 3)
    windowed = problem.network.outputs(problem.sequences)
    assert max(calls) <= 5
    np.testing.assert_array_equal(batched, whole)
    np.testing.assert_allclose(windowed, whole, rtol=1e-12)
    np.testing.assert_allclose(problem.network.features(problem.sequences), features, rtol=1e-12)


def test_bidirectional_networks_are_never_read_in_windows(monkeypatch):
    problem = Problem("last", bidirectional=True)
    whole = problem.network.outputs(problem.sequences)
    monkeypatch.setattr(network_module, "_INFERENCE_STEPS", 3)
    np.testing.assert_array_equal(problem.network.outputs(problem.sequences), whole)


# ------------------------------------------------------------------------------------------------------------- gradient
@every_pooling
@pytest.mark.parametrize("loss", ["cross_entropy", "huber"])
@pytest.mark.parametrize("cell", ["gru", "rnn_tanh"])
def test_gradient_is_the_derivative_of_loss_and_penalty(pooling, loss, cell):
    problem = Problem(pooling, loss, lengths=(3, 1, 4), cell=cell, hidden_sizes=(3,))
    value, gradient = problem.loss_and_gradient(alpha=0.8)
    np.testing.assert_allclose(value, problem.penalised_loss(0.8), rtol=1e-12)
    numeric = oracle.central_difference(lambda: problem.penalised_loss(0.8), problem.network.parameters.flat)
    oracle.assert_close(gradient, numeric, 1e-7)


def test_gradient_of_a_deep_bidirectional_network():
    problem = Problem("mean", lengths=(3, 1, 4), hidden_sizes=(3, 2), bidirectional=True)
    _, gradient = problem.loss_and_gradient()
    numeric = oracle.central_difference(lambda: problem.penalised_loss(0.0), problem.network.parameters.flat)
    oracle.assert_close(gradient, numeric, 1e-7)


def test_the_penalty_spares_biases():
    problem = Problem()
    plain = problem.loss_and_gradient()[1]
    problem.loss_and_gradient(alpha=2.0)
    without = problem.network.parameters.zeros_like()
    without.flat[:] = plain
    for name, gradient in problem.network.gradient.items():
        added = 2.0 / problem.weights.sum() * problem.network.parameters[name] if "weight" in name else 0.0
        np.testing.assert_allclose(gradient, without[name] + added, rtol=1e-12, atol=1e-14)


@every_pooling
def test_a_batch_too_large_for_memory_is_divided_without_changing_the_gradient(pooling, monkeypatch):
    problem = Problem(pooling)
    loss, gradient = problem.loss_and_gradient(alpha=0.3)
    monkeypatch.setattr(network_module, "_TRAINING_BYTES", 10 * problem.network._bytes_per_step)
    divided_loss, divided = problem.loss_and_gradient(alpha=0.3)
    np.testing.assert_allclose(divided_loss, loss, rtol=1e-13)
    oracle.assert_close(divided, gradient, 1e-12)
    assert not np.array_equal(divided, gradient) or pooling is not None


def test_weights_of_zero_leave_out_a_sequence_and_all_zero_gives_nothing():
    problem = Problem()
    problem.weights[1] = 0
    loss, gradient = problem.loss_and_gradient()
    rest = np.array([0, 2, 3])
    rest_loss = problem.network.loss_and_gradient(
        problem.sequences.take(rest), problem.targets[rest], problem.weights[rest]
    )
    np.testing.assert_allclose(loss, rest_loss, rtol=1e-13)
    oracle.assert_close(gradient, problem.network.gradient.flat, 1e-12)
    problem.weights[:] = 0
    loss, gradient = problem.loss_and_gradient(alpha=1.0)
    assert loss == 0
    assert not gradient.any()


@pytest.mark.parametrize("bptt_steps", [None, 2])
def test_results_are_the_same_bits_for_every_number_of_threads(bptt_steps):
    results = []
    for n_jobs in (1, 2, 3):
        with Workers(n_jobs) as workers:
            problem = Problem(
                "mean", dtype="float32", lengths=(40, 33, 7, 28, 40, 12), hidden_sizes=(70,), workers=workers
            )
            outputs = problem.network.outputs(problem.sequences)
            loss, gradient = problem.loss_and_gradient(bptt_steps=bptt_steps)
            results.append((outputs, np.array(loss), gradient))
    for others in results[1:]:
        for one, other in zip(results[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


def test_dropout_changes_training_only_and_repeats_with_its_seed():
    problem = Problem(dropout=0.5)
    assert problem.penalised_loss(0.0) == problem.penalised_loss(0.0)
    first, second, other = (problem.loss_and_gradient(dropout_seed=seed) for seed in (1, 1, 2))
    assert first[0] == second[0] != other[0]
    np.testing.assert_array_equal(first[1], second[1])
    assert first[0] != problem.penalised_loss(0.0)


# --------------------------------------------------------------------------- truncated backpropagation through time
@every_pooling
@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
@pytest.mark.parametrize("k", [9, 10, 1000])
def test_a_window_that_covers_the_longest_sequence_gives_the_exact_gradient(pooling, loss, k):
    problem = Problem(pooling, loss)
    full_loss, full = problem.loss_and_gradient(alpha=0.1)
    loss_value, gradient = problem.loss_and_gradient(alpha=0.1, bptt_steps=k)
    assert loss_value == full_loss
    np.testing.assert_array_equal(gradient, full)


def truncated_by_the_oracle(problem, k):
    """Truncated gradient of the recurrent parameters: windows of k steps, the entering state held constant."""
    network, parameters = problem.network, problem.network.parameters
    features, outputs = reference_outputs(problem)
    values, derivatives = oracle.losses.cross_entropy(outputs, problem.targets)
    loss, d_outputs = oracle.losses.weighted_mean(values, derivatives, problem.weights)
    d_features = d_outputs @ parameters["weight_out"]
    total = {name: np.zeros(shape) for name, shape in parameters.shapes.items()}
    total["weight_out"], total["bias_out"] = d_outputs.T @ features, d_outputs.sum(axis=0)
    row = 0
    for number, x in enumerate(problem.arrays):
        top = oracle.forward(network.cell, parameters, [x]).outputs[0]
        d_top = np.zeros_like(top)
        if network.pooling is None:
            d_top[:] = d_features[row : row + len(x)]
            row += len(x)
        elif network.pooling == "last":
            d_top[-1] = d_features[number]
        elif network.pooling == "mean":
            d_top[:] = d_features[number] / len(x)
        else:
            d_top[top.argmax(axis=0), np.arange(top.shape[1])] = d_features[number]
        begins = list(range(0, len(x), k))
        if network.pooling == "last":
            begins = [0, len(x) - k] if len(x) > k else [0]
        state = None
        for begin, end in zip(begins, [*begins[1:], len(x)], strict=True):
            pass_ = oracle.forward(network.cell, parameters, [x[begin:end]], state)
            gradient, _, _ = oracle.backward(pass_, [d_top[begin:end]])
            state = pass_.state
            for name, value in gradient.items():
                total[name] += value
    return loss, total


@every_pooling
@pytest.mark.parametrize("k", [1, 2, 4, 8])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_truncated_gradient_equals_the_oracle_window_by_window(pooling, k, cell):
    problem = Problem(pooling, cell=cell)
    loss, wanted = truncated_by_the_oracle(problem, k)
    value, gradient = problem.loss_and_gradient(bptt_steps=k)
    np.testing.assert_allclose(value, loss, rtol=1e-10)
    for name in wanted:
        oracle.assert_close(problem.network.gradient[name], wanted[name], 1e-9, name)
    full = problem.loss_and_gradient()[1]
    assert np.abs(full - gradient).max() > 1e-4, "the window cuts nothing, so that this test shows nothing"


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_a_long_prefix_is_read_in_windows(pooling, monkeypatch):
    problem = Problem(pooling)
    want = problem.loss_and_gradient(bptt_steps=2)
    monkeypatch.setattr(backpropagation, "_PREFIX_STEPS", 1)
    got = problem.loss_and_gradient(bptt_steps=2)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-13)
    oracle.assert_close(got[1], want[1], 1e-12)


@every_pooling
def test_truncated_training_with_dropout_uses_one_mask_per_window_in_all_its_passes(pooling):
    problem = Problem(pooling, dropout=0.4)
    first, second = (problem.loss_and_gradient(bptt_steps=3, dropout_seed=11) for _ in range(2))
    assert first[0] == second[0]
    np.testing.assert_array_equal(first[1], second[1])
    # The bias of the readout is the one parameter whose exact gradient the truncation leaves alone.
    parameters = problem.network.parameters
    numeric = oracle.central_difference(
        lambda: problem.network.loss_and_gradient(
            problem.sequences, problem.targets, problem.weights, bptt_steps=3, dropout_seed=11
        ),
        parameters["bias_out"],
    )
    problem.loss_and_gradient(bptt_steps=3, dropout_seed=11)
    oracle.assert_close(problem.network.gradient["bias_out"], numeric, 1e-8)


def peak_memory(problem, bptt_steps):
    problem.loss_and_gradient(bptt_steps=bptt_steps)
    tracemalloc.start()
    try:
        problem.network.loss_and_gradient(problem.sequences, problem.targets, problem.weights, bptt_steps=bptt_steps)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_memory_of_truncated_training_does_not_grow_with_the_length(pooling, monkeypatch):
    monkeypatch.setattr(backpropagation, "_PREFIX_STEPS", 32)
    options = {"hidden_sizes": (24, 24), "dtype": "float32"}
    kept = []
    for length in (400, 3200):
        problem = Problem(pooling, lengths=(length, length // 2, length), **options)
        stack, forward = problem.network.stack, problem.network.stack.forward
        rows = []

        def counted(parameters, sequences, *, forward=forward, rows=rows, **options):
            rows.append(sequences.n_steps)
            return forward(parameters, sequences, **options)

        monkeypatch.setattr(stack, "forward", counted)
        # A new store of scratch memory for the measured call, so that its peak holds everything.
        problem.loss_and_gradient(bptt_steps=16)
        assert max(rows) <= 3 * 32
        stack._buffers.__init__()
        tracemalloc.start()
        problem.loss_and_gradient(bptt_steps=16)
        kept.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        rows.clear()
    assert kept[1] < 1.2 * kept[0]


@every_pooling
def test_bidirectional_networks_refuse_truncation(pooling):
    problem = Problem(pooling, bidirectional=True)
    with pytest.raises(ValueError, match="bptt_steps must be None for a bidirectional network"):
        problem.loss_and_gradient(bptt_steps=100)


# ------------------------------------------------------------------------------------------------- form, pickle, errors
def test_parameters_carry_pytorchs_names_and_count():
    problem = Problem(hidden_sizes=(5,))
    assert list(problem.network.parameters) == [
        "weight_ih_l0",
        "weight_hh_l0",
        "bias_ih_l0",
        "bias_hh_l0",
        "weight_out",
        "bias_out",
    ]
    assert problem.network.n_parameters == 4 * 5 * (3 + 5 + 2) + 3 * 5 + 3


def test_initial_readout_is_glorot_uniform_and_repeats_with_its_seed():
    networks = [
        Network(cell="rnn_tanh", input_size=2, hidden_sizes=(300,), n_outputs=20, dtype="float64") for _ in "ab"
    ]
    for one in networks:
        one.initialize(np.random.RandomState(3))
    np.testing.assert_array_equal(networks[0].parameters.flat, networks[1].parameters.flat)
    weight, bound = networks[0].parameters["weight_out"], np.sqrt(6 / 320)
    assert 0.95 * bound < np.abs(weight).max() <= bound
    np.testing.assert_allclose(weight.std(), bound / np.sqrt(3), rtol=0.05)
    assert not networks[0].parameters["bias_out"].any()


def test_pickling_and_change_of_type_keep_the_function():
    problem = Problem("mean", bidirectional=True)
    outputs = problem.network.outputs(problem.sequences)
    copy = pickle.loads(pickle.dumps(problem.network))
    np.testing.assert_array_equal(copy.outputs(problem.sequences), outputs)
    single = problem.network.with_dtype("float32")
    sequences = Sequences.from_list([x.astype(np.float32) for x in problem.arrays])
    assert single.outputs(sequences).dtype == np.float32
    oracle.assert_close(single.outputs(sequences), outputs, 1e-5)
    single.parameters.flat[:] = 0
    np.testing.assert_array_equal(problem.network.outputs(problem.sequences), outputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hinge"}, "loss must be one of .*cross_entropy.*got 'hinge'"),
        ({"pooling": "first"}, "pooling must be 'last', 'mean', 'max', 'attention' or None, got 'first'"),
        ({"n_outputs": 1}, "n_outputs must be at least 2 for the loss 'cross_entropy', got 1"),
        ({"n_outputs": 0, "loss": "huber"}, "n_outputs must be at least 1"),
        ({"dtype": "float16"}, "dtype must be float32 or float64, got float16"),
    ],
)
def test_impossible_networks_are_refused(options, message):
    arguments = {"cell": "lstm", "input_size": 2, "hidden_sizes": (3,), "n_outputs": 2, **options}
    with pytest.raises(ValueError, match=message):
        Network(**arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": np.zeros(3, dtype=np.int64)}, r"expected targets of shape \(4,\) in int64"),
        ({"targets": np.zeros(4)}, "expected targets .*got .* in float64"),
        ({"weights": np.ones(3)}, "expected 4 weights"),
        ({"sequences": Sequences.from_list([np.zeros((2, 5))] * 4)}, "expected sequences of 3 features in float64"),
        ({"sequences": Sequences.from_list([np.zeros((2, 3), dtype="f")] * 4)}, "got .* in float32"),
        ({"bptt_steps": 0}, "bptt_steps must be a positive number"),
    ],
)
def test_data_that_do_not_fit_are_refused(change, message):
    problem = Problem()
    arguments = {"sequences": problem.sequences, "targets": problem.targets, "weights": problem.weights, **change}
    with pytest.raises(ValueError, match=message):
        problem.network.loss_and_gradient(**arguments)


def test_class_numbers_out_of_range_are_refused():
    problem = Problem()
    problem.targets[0] = 3
    with pytest.raises(IndexError, match="class number"):
        problem.loss_and_gradient()
