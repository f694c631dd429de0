"""A decoder that reads what it is given at every step, and every loss of values: the reference and derivatives."""

from __future__ import annotations

import pickle

import numpy as np
import oracle.likelihoods
import oracle.losses
import pytest
from seq2seq_problems import Reference, make_batch, make_network

from numrnn.packing import Sequences
from numrnn.seq2seq import EncoderDecoder, PairBatch

interpreter = pytest.mark.interpreter

GIVEN = {"source": "values", "source_size": 3, "target": "values", "target_size": 2, "decoder_inputs": 4}
LEVELS = (0.1, 0.5, 0.7)
LOSSES = ("squared_error", "absolute_error", "huber", "quantile", "gaussian", "student_t", "negative_binomial")
SOURCE_LENGTHS, STEPS = (3, 1, 5, 2, 1), (2, 4, 1, 0, 1)
FORMS = {
    "additive": {},
    "multiplicative": {"attention": "multiplicative"},
    "multihead": {"attention": "multihead", "n_heads": 3},
    "without attention": {"attention": None, "cell": "lstm", "bidirectional": False},
    "deep": {"attention": None, "cell": "rnn_tanh", "encoder_sizes": (4, 3), "decoder_sizes": (3, 9)},
    "size one": {"encoder_sizes": (1,), "decoder_sizes": (1,), "source_size": 1, "target_size": 1, "decoder_inputs": 1},
}
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
every_loss = pytest.mark.parametrize("loss", LOSSES)


def given_network(loss="squared_error", **changes):
    levels = LEVELS if loss == "quantile" else ()
    return make_network(**{**GIVEN, "loss": loss, "quantile_levels": levels, **changes})


def expected_of(network, n_rows, missing=True):
    """Targets of every step, some of them missing; of the second row all."""
    rng = np.random.default_rng(7)
    expected = rng.normal(size=(n_rows, network.target_size))
    if network.loss_name == "negative_binomial":
        counts, scales = rng.poisson(3, size=expected.shape), rng.uniform(1, 3, size=expected.shape)
        expected = np.stack([counts, scales], axis=2).reshape(n_rows, -1)
    if missing:
        own = expected.reshape(n_rows, network.target_size, -1)
        own[1] = np.nan
        own[2, 0] = np.nan
        if network.loss_name == "negative_binomial":
            own[:, :, 1] = np.abs(np.nan_to_num(own[:, :, 1], nan=1.0))
    return np.ascontiguousarray(expected, dtype=network.dtype)


def reference_outputs(network, batch):
    reference = Reference(network)
    return np.concatenate([reference.follow(*pair)[0] for pair in zip(*batch, strict=True) if len(pair[1])])


def losses_of(network, outputs, expected):
    """The loss of every target (n_rows, n_targets), NaN where it is missing."""
    name = network.loss_name
    if name == "quantile":
        return oracle.likelihoods.quantile(outputs, expected, LEVELS)
    if name in ("gaussian", "student_t", "negative_binomial"):
        return getattr(oracle.likelihoods, name)(outputs, expected)
    return (2 if name == "squared_error" else 1) * getattr(oracle.losses, name)(outputs, expected)[0]


@interpreter
@every_form
@every_loss
def test_outputs_and_loss_equal_the_reference(form, loss):
    network = given_network(loss, **form)
    batch = make_batch(network, SOURCE_LENGTHS, STEPS)
    outputs = reference_outputs(network, batch)
    np.testing.assert_allclose(network.outputs_of(batch), outputs, rtol=1e-9, atol=1e-12)
    expected = expected_of(network, len(outputs))
    weights = np.random.default_rng(4).uniform(0.5, 2, len(expected))
    wanted = oracle.likelihoods.weighted_mean(losses_of(network, outputs, expected), weights)
    np.testing.assert_allclose(network.loss(batch, expected, weights), wanted, rtol=1e-9)
    np.testing.assert_allclose(network.loss_and_gradient(batch, expected, weights), wanted, rtol=1e-9)


@pytest.mark.parametrize(
    ("form", "loss"),
    [*((form, "squared_error") for form in FORMS.values()), *(({"attention": None}, loss) for loss in LOSSES)],
)
@pytest.mark.parametrize("training", [False, True], ids=["plain", "dropout, penalty"])
def test_gradients_of_all_parameters(form, loss, training):
    options = {"dropout": 0.3, "input_dropout": 0.2, "output_dropout": 0.25} if training else {}
    network = given_network(loss, **form, **options)
    batch = make_batch(network, SOURCE_LENGTHS, STEPS)
    given = batch.targets.values.copy()
    expected = expected_of(network, sum(STEPS))
    weights = np.random.default_rng(4).uniform(0.5, 2, len(expected))
    keywords = {"alpha": 0.1, "dropout_seed": 5} if training else {}
    network.loss_and_gradient(batch, expected, weights, **keywords)
    gradient, parameters = network.gradient.flat.copy(), network.parameters.flat
    rng = np.random.default_rng(6)
    for name in network.parameters:
        span = network.parameters.span(name)
        direction = rng.normal(size=span.stop - span.start)
        before, values = parameters[span].copy(), []
        for step in (1e-5, -1e-5):
            parameters[span] = before + step * direction
            values.append(network.loss_and_gradient(batch, expected, weights, **keywords))
        parameters[span] = before
        numeric = (values[0] - values[1]) / 2e-5
        np.testing.assert_allclose(gradient[span] @ direction, numeric, rtol=2e-6, atol=1e-9, err_msg=name)
    np.testing.assert_array_equal(batch.targets.values, given)  # what is given is not written to


def test_a_step_reads_nothing_of_later_steps_and_of_other_pairs():
    network = given_network(attention="multihead", n_heads=2)
    batch = make_batch(network, (4, 4), (5, 5))
    outputs = network.outputs_of(batch).reshape(2, 5, -1)
    later = batch.targets.values.copy()
    later[batch.targets.starts[0] + 3] += 1
    changed = network.outputs_of(
        PairBatch(batch.sources, Sequences(later, batch.targets.starts, batch.targets.lengths))
    ).reshape(2, 5, -1)
    np.testing.assert_array_equal(changed[0, :3], outputs[0, :3])
    np.testing.assert_array_equal(changed[1], outputs[1])
    assert (changed[0, 3:] != outputs[0, 3:]).all()


def test_threads_change_no_bit(many_threads):
    found = []
    for n_jobs in (1, 2, 3):
        network = given_network("gaussian", n_jobs=n_jobs, decoder_sizes=(34, 34), attention=None)
        batch = make_batch(network, (5, 3, 8, 1, 2, 2, 7), (3, 9, 2, 0, 4, 1, 5))
        loss = network.loss_and_gradient(batch, expected_of(network, 24))
        found.append((loss, network.gradient.flat.tobytes()))
        network.workers.close()
    assert many_threads.most_tasks == 3
    assert found[0] == found[1] == found[2]


def test_copies_and_forms():
    network = given_network("quantile")
    batch = make_batch(network, SOURCE_LENGTHS, STEPS)
    expected = expected_of(network, sum(STEPS))
    assert pickle.loads(pickle.dumps(network)).loss(batch, expected) == network.loss(batch, expected)
    assert EncoderDecoder(**network._form())._form() == network._form()
    single = network.with_dtype("float32")
    assert (single.decoder_inputs, single.loss_name, single.quantile_levels) == (4, "quantile", LEVELS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder_inputs": 0}, "decoder_inputs must be at least 1 or None, got 0"),
        ({"target": "ids"}, "decoder_inputs are for targets that are values, got 4 for ids"),
        ({"loss": "cross_entropy"}, "loss must be one of .* for targets that are values, got 'cross_entropy'"),
        (
            {"loss": "gaussian", "decoder_inputs": None},
            "loss='gaussian' has several raw outputs .* needs decoder_inputs",
        ),
        ({"loss": "quantile"}, "quantile_levels are for the loss 'quantile'"),
        ({"quantile_levels": (0.5,)}, "quantile_levels are for the loss 'quantile' alone"),
    ],
)
def test_impossible_forms_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_network(**{**GIVEN, **changes})


def test_impossible_uses_are_refused():
    network = given_network()
    batch = make_batch(network, (2, 3), (1, 2))
    with pytest.raises(ValueError, match="should put out is not in its targets"):
        network.expected(batch.targets)
    with pytest.raises(ValueError, match="does not read what it writes"):
        network.predict_values(batch.sources, np.array([1, 2]))
    with pytest.raises(ValueError, match=r"expected outputs of shape \(3, 2\) in float64, got \(3, 4\)"):
        network.loss(batch, np.ones((3, 4)))
    wrong = Sequences(batch.targets.values[:, :3].copy(), batch.targets.starts, batch.targets.lengths)
    with pytest.raises(ValueError, match="expected targets of 4 columns in float64"):
        network.outputs_of(PairBatch(batch.sources, wrong))
