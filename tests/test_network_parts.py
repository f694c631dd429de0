"""Parts of a network together: stages, residual layers, every dropout, attention, random field, label smoothing."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import oracle
import pytest

from numrnn import backpropagation
from numrnn import network as network_module
from numrnn.dropout import INPUT_STREAM, OUTPUT_STREAM, drop
from numrnn.network import Network
from numrnn.packing import Sequences
from numrnn.training.loop import train
from numrnn.workers import Workers

LENGTHS = (3, 1, 5, 0, 4)
N_COLUMNS = 4

PARTS = {
    "embedding": {"embeddings": ((1, 3, 2), (3, 2, 1))},
    "bidirectional": {"bidirectional": True},
    "residual": {"residual": True, "hidden_sizes": (3, 3)},
    "dropout": {"dropout": 0.3, "hidden_sizes": (3, 3)},
    "recurrent dropout": {"recurrent_dropout": 0.3},
    "input dropout": {"input_dropout": 0.3},
    "output dropout": {"output_dropout": 0.3},
    "label smoothing": {"label_smoothing": 0.2},
    "convolution": {"convolutions": ({"kind": "1d", "filters": 3, "kernel_size": 3},)},
    "pooled images": {"convolutions": ({"kind": "2d", "filters": 2, "kernel_size": 2, "pool_size": 2},)},
    "attention": {"pooling": "attention"},
    "mean": {"pooling": "mean"},
    "every step": {"pooling": None},
    "random field": {"loss": "crf", "pooling": None},
}


def together(*names):
    """Options of several parts, or None if they exclude each other."""
    options: dict = {}
    for name in names:
        for key, value in PARTS[name].items():
            if key in options and options[key] != value:
                return None
            options[key] = value
    per_step = "pooling" in options and options["pooling"] is None
    if (per_step and "pooled images" in names) or (options.get("loss") == "crf" and "label_smoothing" in options):
        return None
    return options


PAIRS = {f"{a}, {b}": together(a, b) for a, b in itertools.combinations(PARTS, 2) if together(a, b) is not None}
ALONE = {name: together(name) for name in PARTS}


class Problem:
    """A small network with random parameters, and ragged sequences, one of them empty, with targets and weights."""

    def __init__(self, lengths=LENGTHS, dtype="float64", seed=11, **options):
        rng = np.random.RandomState(seed)
        options = {"cell": "gru", "hidden_sizes": (3,), "n_outputs": 3, "pooling": "last", **options}
        self.network = Network(input_size=N_COLUMNS, dtype=dtype, **options)
        self.network.initialize(rng)
        self.network.parameters.flat[:] += 0.3 * rng.standard_normal(self.network.n_parameters)
        lengths = np.array(lengths, dtype=np.int64)
        values = rng.standard_normal((lengths.sum(), N_COLUMNS))
        for column, n_rows, _ in self.network.embeddings:
            values[:, column] = rng.randint(0, n_rows, len(values))
        self.sequences = Sequences(values.astype(dtype), np.cumsum(lengths) - lengths, lengths)
        per_step = self.network.pooling is None
        self.targets = rng.randint(0, 3, lengths.sum() if per_step else len(lengths))
        self.weights = rng.uniform(0.2, 2.0, len(lengths))
        if per_step:
            self.weights = np.repeat(self.weights, lengths)

    @property
    def arguments(self):
        return self.sequences, self.targets, self.weights

    def loss_and_gradient(self, **options):
        loss = self.network.loss_and_gradient(*self.arguments, **options)
        return loss, self.network.gradient.flat.copy()


# ------------------------------------------------------------------------------------------------------------ gradients
@pytest.mark.parametrize("options", (ALONE | PAIRS).values(), ids=ALONE | PAIRS)
def test_gradient_is_the_derivative_of_the_loss(options):
    problem = Problem(**options)
    network = problem.network
    _, gradient = problem.loss_and_gradient(dropout_seed=5)
    numeric = oracle.central_difference(
        lambda: network.loss_and_gradient(*problem.arguments, dropout_seed=5), network.parameters.flat
    )
    oracle.assert_close(gradient, numeric, 1e-7)


@pytest.mark.parametrize("name", [name for name in PARTS if name != "bidirectional" and "dropout" not in name])
@pytest.mark.parametrize("embedded", [False, True])
def test_truncation_leaves_the_gradient_where_no_state_flows_on(name, embedded):
    """Without recurrent weights the truncated gradient is exact, that of these weights included."""
    options = {"cell": "rnn_tanh"} | PARTS[name] | (PARTS["embedding"] if embedded else {})
    problem = Problem(lengths=(7, 1, 9, 0, 4), **options)
    for parameter in problem.network.parameters:
        if parameter.startswith("weight_hh"):
            problem.network.parameters[parameter][...] = 0
    loss, gradient = problem.loss_and_gradient()
    for steps in (1, 2, 4):
        truncated_loss, truncated = problem.loss_and_gradient(bptt_steps=steps)
        np.testing.assert_allclose(truncated_loss, loss, rtol=1e-12)
        oracle.assert_close(truncated, gradient, 1e-11)


@pytest.mark.parametrize("options", [PARTS["attention"], PARTS["random field"]], ids=["attention", "random field"])
def test_truncation_of_what_sees_whole_sequences_cuts_the_recurrence_only(options):
    """With recurrent weights, one window gives the exact gradient, and the loss never depends on windows."""
    problem = Problem(lengths=(7, 1, 9, 0, 4), **options)
    loss, gradient = problem.loss_and_gradient()
    np.testing.assert_array_equal(problem.loss_and_gradient(bptt_steps=9)[1], gradient)
    truncated_loss, truncated = problem.loss_and_gradient(bptt_steps=2)
    np.testing.assert_allclose(truncated_loss, loss, rtol=1e-12)
    assert np.abs(truncated - gradient).max() > 1e-4
    heads = [name for name in problem.network.parameters if "_l0" not in name]
    problem.loss_and_gradient(bptt_steps=2)
    exact = problem.network.parameters.zeros_like()
    exact.flat[:] = gradient
    for name in heads:
        oracle.assert_close(problem.network.gradient[name], exact[name], 1e-11, name)


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention", None])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_input_gradient_is_the_derivative_by_the_input(pooling, bidirectional, rng):
    problem = Problem(pooling=pooling, bidirectional=bidirectional, hidden_sizes=(3, 2))
    network = problem.network
    d_outputs = rng.normal(size=network.outputs(problem.sequences).shape)
    numeric = oracle.central_difference(
        lambda: (d_outputs * network.outputs(problem.sequences)).sum(), problem.sequences.values
    )
    oracle.assert_close(network.input_gradient(problem.sequences, d_outputs), numeric, 1e-7)


@pytest.mark.parametrize(
    "options",
    [
        PARTS["embedding"],
        PARTS["pooled images"] | PARTS["attention"],
        PARTS["embedding"] | PARTS["convolution"] | PARTS["every step"],
        PARTS["random field"] | PARTS["dropout"] | PARTS["input dropout"] | PARTS["recurrent dropout"],
    ],
    ids=["embedding", "pooled images", "embedding and convolution", "dropout"],
)
def test_input_gradient_is_that_of_a_network_fed_what_the_layers_see(options, rng, monkeypatch):
    problem = Problem(**options)
    network = problem.network
    embedded = network.embedded(problem.sequences)
    without = {**network._form(), "embeddings": (), "convolutions": ()}
    without |= dict.fromkeys(("dropout", "input_dropout", "recurrent_dropout"), 0.0)
    other = Network(**{**without, "input_size": embedded.n_features})
    for name in other.parameters:
        other.parameters[name][...] = network.parameters[name]
    outputs = network.outputs(problem.sequences)
    oracle.assert_close(other.outputs(embedded), outputs, 1e-12)
    d_outputs = rng.normal(size=outputs.shape)
    problem.loss_and_gradient()
    kept = network.gradient.flat.copy()
    gradient = network.input_gradient(problem.sequences, d_outputs)
    assert gradient.shape == embedded.values.shape
    oracle.assert_close(gradient, other.input_gradient(embedded, d_outputs), 1e-12)
    np.testing.assert_array_equal(network.gradient.flat, kept)
    monkeypatch.setattr(network_module, "_TRAINING_BYTES", 1)
    oracle.assert_close(network.input_gradient(problem.sequences, d_outputs), gradient, 1e-12)


def test_input_gradient_refuses_another_shape():
    problem = Problem()
    with pytest.raises(ValueError, match=r"expected d_outputs of shape \(5, 3\), got \(4, 3\)"):
        problem.network.input_gradient(problem.sequences, np.zeros((4, 3)))


# ------------------------------------------------------------------------------------------ memory, windows and threads
@pytest.mark.parametrize("options", ALONE.values(), ids=ALONE)
def test_division_for_memory_and_windows_of_inference_change_nothing(options, monkeypatch):
    problem = Problem(lengths=(7, 1, 9, 0, 4), **options)
    network = problem.network
    outputs, loss = network.outputs(problem.sequences), network.loss(*problem.arguments)
    training = problem.loss_and_gradient(alpha=0.1)
    monkeypatch.setattr(network_module, "_INFERENCE_BYTES", 1)
    monkeypatch.setattr(network_module, "_INFERENCE_STEPS", 3)
    oracle.assert_close(network.outputs(problem.sequences), outputs, 1e-12)
    np.testing.assert_allclose(network.loss(*problem.arguments), loss, rtol=1e-12)
    if not network.uses_random_numbers:
        np.testing.assert_allclose(training[0] - problem.loss_and_gradient()[0], training[0] - loss, rtol=1e-9)
        monkeypatch.setattr(network_module, "_TRAINING_BYTES", 1)
        divided = problem.loss_and_gradient(alpha=0.1)
        np.testing.assert_allclose(divided[0], training[0], rtol=1e-12)
        oracle.assert_close(divided[1], training[1], 1e-11)


@pytest.mark.parametrize("options", ALONE.values(), ids=ALONE)
def test_results_are_the_same_bits_for_every_number_of_threads(options):
    results = []
    options = {"hidden_sizes": (40, 40), **options, "n_outputs": 70}
    for n_jobs in (1, 2, 3):
        with Workers(n_jobs) as workers:
            problem = Problem(lengths=(300, 33, 0, 280), dtype="float32", workers=workers, **options)
            outputs = problem.network.outputs(problem.sequences)
            loss, gradient = problem.loss_and_gradient(dropout_seed=3)
            results.append((outputs, np.array(loss), gradient))
    for others in results[1:]:
        for one, other in zip(results[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("options", ALONE.values(), ids=ALONE)
def test_an_output_depends_on_nothing_but_its_sequence(options):
    problem = Problem(lengths=(30, 5, 1, 17), dtype="float32", **{"hidden_sizes": (19, 19), **options})
    whole = problem.network.outputs(problem.sequences)
    alone = [problem.network.outputs(problem.sequences.take(np.array([i]))) for i in range(4)]
    np.testing.assert_array_equal(whole, np.concatenate(alone))


def test_the_readout_of_many_classes_is_divided_without_changing_a_bit(monkeypatch):
    from numrnn import softmax

    results = []
    for n_jobs, whole in ((1, 2**22), (2, 2**22), (2, 1)):
        monkeypatch.setattr(softmax, "_WHOLE_BYTES", whole)
        with Workers(n_jobs) as workers:
            problem = Problem(lengths=(200, 150), dtype="float32", pooling=None, n_outputs=900, workers=workers)
            loss, gradient = problem.loss_and_gradient()
            results.append((np.array(loss), gradient))
    for one, other in zip(results[0], results[1], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(results[2][0], results[0][0], rtol=1e-6)
    oracle.assert_close(results[2][1], results[0][1], 1e-5)


# -------------------------------------------------------------------------------------------------------------- dropout
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dropped_elements_are_zero_and_the_others_keep_the_mean(dtype):
    values = np.ones((200, 300), dtype=dtype)
    drop(values, 0.25, 7, INPUT_STREAM)
    assert set(np.unique(values)) == {0, np.array(4 / 3, dtype=dtype)[()]}
    assert abs((values == 0).mean() - 0.25) < 0.01
    assert np.ptp((values == 0).mean(axis=0)) < 0.25
    masks = {values.tobytes()}
    for seed, stream in ((7, OUTPUT_STREAM), (8, INPUT_STREAM), (7 + (1 << 32), INPUT_STREAM)):
        other = np.ones((200, 300), dtype=dtype)
        drop(other, 0.25, seed, stream)
        masks.add(other.tobytes())
    assert len(masks) == 4
    again = np.ones((200, 300), dtype=dtype)
    drop(again, 0.25, 7, INPUT_STREAM)
    np.testing.assert_array_equal(again, values)


@pytest.mark.parametrize("name", ["dropout", "recurrent dropout", "input dropout", "output dropout"])
@pytest.mark.parametrize("bptt_steps", [None, 2])
def test_dropout_is_for_training_only_and_repeats_with_its_seed(name, bptt_steps):
    problem = Problem(**PARTS[name])
    assert problem.network.uses_random_numbers
    before = problem.sequences.values.copy()
    assert problem.network.loss(*problem.arguments) == problem.network.loss(*problem.arguments)
    first, second, other = (problem.loss_and_gradient(dropout_seed=s, bptt_steps=bptt_steps) for s in (1, 1, 2))
    assert first[0] == second[0] != other[0]
    np.testing.assert_array_equal(first[1], second[1])
    assert first[0] != problem.network.loss(*problem.arguments)
    np.testing.assert_array_equal(problem.sequences.values, before)


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention", None])
@pytest.mark.parametrize("name", ["dropout", "recurrent dropout", "input dropout", "output dropout"])
def test_all_passes_over_a_window_draw_the_same_masks(pooling, name, monkeypatch):
    """The bias of the readout is a parameter whose exact gradient no truncation changes."""
    problem = Problem(**{**PARTS[name], "pooling": pooling}, lengths=(7, 1, 9))
    network, arguments = problem.network, {"bptt_steps": 2, "dropout_seed": 4}
    monkeypatch.setattr(backpropagation, "_PREFIX_STEPS", 1)
    problem.loss_and_gradient(**arguments)
    gradient = network.gradient["bias_out"].copy()
    numeric = oracle.central_difference(
        lambda: network.loss_and_gradient(*problem.arguments, **arguments), network.parameters["bias_out"]
    )
    oracle.assert_close(gradient, numeric, 1e-8)


# ------------------------------------------------------------------------------------------------------ label smoothing
def test_smoothing_is_part_of_the_loss_everywhere():
    problem = Problem(label_smoothing=0.3)
    plain = Network(**{**problem.network._form(), "label_smoothing": 0.0})
    plain.parameters.flat[:] = problem.network.parameters.flat
    mixed = 0.7 * plain.loss(*problem.arguments)
    for label in range(3):
        mixed += 0.1 * plain.loss(problem.sequences, np.full_like(problem.targets, label), problem.weights)
    np.testing.assert_allclose(problem.network.loss(*problem.arguments), mixed, rtol=1e-12)
    np.testing.assert_allclose(problem.loss_and_gradient()[0], mixed, rtol=1e-12)


# ------------------------------------------------------------------------------------------------------------ attention
def test_attention_pools_the_outputs_of_time_steps_by_its_weights(monkeypatch):
    problem = Problem(pooling="attention", hidden_sizes=(3, 4), lengths=(7, 1, 9, 4))
    network = problem.network
    per_step = Network(**{**network._form(), "pooling": None})
    for name in per_step.parameters:
        per_step.parameters[name][...] = network.parameters[name]
    hidden, weights = per_step.features(problem.sequences), network.attention_weights(problem.sequences)
    scores = np.tanh(hidden @ network.parameters["attention_weight"].T + network.parameters["attention_bias"])
    scores = scores @ network.parameters["attention_vector"]
    first = 0
    for number, length in enumerate(problem.sequences.lengths):
        rows = slice(first, first + length)
        shares = np.exp(scores[rows]) / np.exp(scores[rows]).sum()
        oracle.assert_close(weights[rows], shares, 1e-12)
        oracle.assert_close(network.features(problem.sequences)[number], shares @ hidden[rows], 1e-12)
        first += length
    monkeypatch.setattr(network_module, "_INFERENCE_STEPS", 3)
    monkeypatch.setattr(network_module, "_INFERENCE_BYTES", 1)
    oracle.assert_close(network.attention_weights(problem.sequences), weights, 1e-12)


def test_attention_weights_need_attention():
    problem = Problem()
    with pytest.raises(ValueError, match="needs a network with pooling='attention', got 'last'"):
        problem.network.attention_weights(problem.sequences)


# --------------------------------------------------------------------------------------------------------- random field
def test_the_loss_of_the_random_field_is_a_mean_over_time_steps():
    """By all sequences of tags, one by one."""
    problem = Problem(loss="crf", pooling=None)
    network, parameters = problem.network, problem.network.parameters
    logits = network.outputs(problem.sequences)
    total, best, first = 0.0, [], 0
    marginals = np.zeros_like(logits)
    for length in problem.sequences.lengths[problem.sequences.lengths > 0]:
        own = slice(first, first + length)
        scores = {}
        for tags in itertools.product(range(3), repeat=length):
            steps = logits[own][np.arange(length), list(tags)].sum()
            between = sum(parameters["crf_transitions"][a, b] for a, b in itertools.pairwise(tags))
            scores[tags] = steps + between + parameters["crf_start"][tags[0]] + parameters["crf_end"][tags[-1]]
        log_z = np.log(np.exp(list(scores.values())).sum())
        total += problem.weights[first] * (log_z - scores[tuple(problem.targets[own])])
        best += max(scores, key=scores.get)
        for tags, score in scores.items():
            marginals[np.arange(first, first + length), list(tags)] += np.exp(score - log_z)
        first += length
    wanted = total / problem.weights.sum()
    np.testing.assert_allclose(network.loss(*problem.arguments), wanted, rtol=1e-12)
    np.testing.assert_allclose(problem.loss_and_gradient()[0], wanted, rtol=1e-12)
    np.testing.assert_array_equal(network.decode(problem.sequences), best)
    oracle.assert_close(network.marginals(problem.sequences), marginals, 1e-10)


def test_the_random_field_refuses_what_it_cannot_do():
    problem = Problem(loss="crf", pooling=None)
    problem.weights[1] += 1
    for call in (problem.network.loss, problem.network.loss_and_gradient):
        with pytest.raises(ValueError, match="time steps of which must have one weight"):
            call(*problem.arguments)
    problem.weights[1] -= 1
    problem.targets[2] = 3
    with pytest.raises(IndexError):
        problem.loss_and_gradient()
    other = Problem()
    for method in (other.network.decode, other.network.marginals):
        with pytest.raises(ValueError, match="need a network with loss='crf', got 'cross_entropy'"):
            method(other.sequences)


# ----------------------------------------------------------------------------------------------- training, form, errors
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize(
    "options",
    [
        PARTS["random field"] | PARTS["embedding"],
        PARTS["attention"] | PARTS["residual"] | PARTS["pooled images"],
        PARTS["every step"] | PARTS["recurrent dropout"] | PARTS["input dropout"] | PARTS["label smoothing"],
    ],
    ids=["random field", "attention", "every step"],
)
def test_training_lowers_the_loss_and_repeats(options, solver):
    curves = []
    for _ in range(2):
        problem = Problem(dtype="float32", lengths=(5, 3, 8, 2, 6, 4), **options)
        before = problem.network.loss(*problem.arguments)
        state = train(
            problem.network,
            *problem.arguments,
            solver=solver,
            learning_rate_init=0.01,
            batch_size=2,
            max_iter=15,
            alpha=1e-4,
            tol=0.0,
            rng=np.random.RandomState(0),
        )
        assert problem.network.loss(*problem.arguments) < before
        assert min(state.loss_curve) < 0.9 * state.loss_curve[0]
        curves.append(state.loss_curve)
    assert curves[0] == curves[1]


@pytest.mark.parametrize("options", ALONE.values(), ids=ALONE)
def test_form_survives_pickling(options):
    problem = Problem(**options)
    other = pickle.loads(pickle.dumps(problem.network))
    assert other._form() == problem.network._form()
    np.testing.assert_array_equal(other.outputs(problem.sequences), problem.network.outputs(problem.sequences))


def test_penalty_is_for_weights_of_every_part():
    problem = Problem(
        **(PARTS["embedding"] | PARTS["convolution"] | PARTS["random field"]), bidirectional=True, hidden_sizes=(2, 2)
    )
    network = problem.network
    spans = set(itertools.chain.from_iterable(range(a, b) for a, b in zip(*network.weight_spans, strict=True)))
    for name in network.parameters:
        free = name.startswith(("embedding", "bias", "conv_bias", "crf_start", "crf_end"))
        span = network.parameters.span(name)
        assert set(range(span.start, span.stop)).isdisjoint(spans) == free, name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "mean", "loss": "crf"}, "pooling must be None for the loss 'crf'"),
        ({"label_smoothing": 1.0}, "label_smoothing must be at least 0 and below 1"),
        ({"label_smoothing": 0.1, "loss": "huber"}, "0 for every loss but 'cross_entropy', got 0.1 for 'huber'"),
        ({"input_dropout": 1.0}, "input_dropout must be at least 0 and below 1, got 1.0"),
        ({"output_dropout": -0.1}, "output_dropout must be at least 0 and below 1, got -0.1"),
        ({"recurrent_dropout": 1.0}, "recurrent_dropout must be at least 0 and below 1"),
        (PARTS["pooled images"] | {"pooling": None}, "pool_size must be 1 in all convolutions if pooling is None"),
    ],
)
def test_impossible_networks_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Problem(**options)
