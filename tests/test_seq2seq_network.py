"""Encoder, attention and decoder in training: the reference, derivatives, threads, the training loop."""

from __future__ import annotations

import pickle

import numpy as np
import oracle.seq2seq
import pytest
from seq2seq_problems import FORM, Reference, make_batch, make_network

from numrnn.packing import Sequences
from numrnn.seq2seq import EncoderDecoder, PairBatch
from numrnn.seq2seq import network as network_module
from numrnn.seq2seq import passes as passes_module
from numrnn.training.loop import train

interpreter = pytest.mark.interpreter

# Every kind of attention, of cell, of source and target, depth, and sizes that are 1 or no multiple of a vector.
FORMS = {
    "additive": {},
    "multiplicative": {"attention": "multiplicative"},
    "multihead": {"attention": "multihead", "n_heads": 3},
    "without attention": {"attention": None},
    "deep lstm": {"cell": "lstm", "encoder_sizes": (4, 3), "decoder_sizes": (3, 9), "attention_size": 5},
    "tied": {"tied_embeddings": True, "attention": "multihead", "n_heads": 2, "input_feeding": False},
    "few ids, one direction": {"bidirectional": False, "source_size": 3},
    "numbers": {
        "cell": "rnn_tanh", "source": "values", "source_size": 3, "target": "values", "target_size": 2,
        "bidirectional": False,
    },
    "vector": {"source": "vector", "source_size": 3, "encoder_sizes": (), "attention": None, "readout_size": 17},
    "size one": {
        "encoder_sizes": (1,), "decoder_sizes": (1,), "source_embedding": 1, "target_embedding": 1, "target_size": 1,
        "source_size": 1,
    },
}  # fmt: skip
SOURCE_LENGTHS, TARGET_LENGTHS = (3, 1, 5, 2, 1), (2, 4, 1, 0, 1)
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def losses(network, expected, outputs):
    """The loss of every row, by the reference."""
    if not network.takes_ids:
        return ((outputs - expected) ** 2).mean(axis=1)
    smoothing = network.label_smoothing
    log_probabilities = np.array([oracle.seq2seq.log_softmax(row) for row in outputs])
    own = log_probabilities[np.arange(len(expected)), expected]
    return -(1 - smoothing) * own - smoothing * log_probabilities.mean(axis=1)


@interpreter
@every_form
def test_loss_and_attention_equal_the_reference(form):
    network = make_network(**form)
    batch = make_batch(network, SOURCE_LENGTHS, TARGET_LENGTHS)
    expected = network.expected(batch.targets)
    weights = np.random.default_rng(4).uniform(0.5, 2, len(expected))
    reference = Reference(network)
    found = [reference.follow(*pair) for pair in zip(*batch, strict=True)]
    outputs = np.concatenate([output for output, _ in found if len(output)])
    np.testing.assert_allclose(network.outputs_of(batch), outputs, rtol=1e-10, atol=1e-12)
    wanted = np.average(losses(network, expected, outputs), weights=weights)
    np.testing.assert_allclose(network.loss(batch, expected, weights), wanted, rtol=1e-12)
    np.testing.assert_allclose(network.loss_and_gradient(batch, expected, weights), wanted, rtol=1e-12)
    if network.attention is None:
        return
    for (_, looked), own in zip(found, network.attention_weights(batch), strict=True):
        assert len(own) == len(looked)
        for one, row in zip(looked, own, strict=True):
            np.testing.assert_allclose(row, one.mean(axis=0), rtol=1e-10)


@pytest.mark.parametrize("training", [False, True], ids=["plain", "dropout, smoothing, penalty"])
@every_form
def test_gradients_of_all_parameters(form, training):
    options = {"dropout": 0.3, "input_dropout": 0.2, "output_dropout": 0.25} if training else {}
    if training and form.get("target") != "values":
        options["label_smoothing"] = 0.1
    network = make_network(**form, **options)
    batch = make_batch(network, SOURCE_LENGTHS, TARGET_LENGTHS)
    expected = network.expected(batch.targets)
    weights = np.random.default_rng(4).uniform(0.5, 2, len(expected))
    arguments = (batch, expected, weights)
    keywords = {"alpha": 0.1, "dropout_seed": 5} if training else {}
    network.loss_and_gradient(*arguments, **keywords)
    gradient, parameters = network.gradient.flat.copy(), network.parameters.flat
    # One direction in all elements of each parameter: a wrong element shows as much as in a loop over elements.
    rng = np.random.default_rng(6)
    for name in network.parameters:
        span = network.parameters.span(name)
        direction = rng.normal(size=span.stop - span.start)
        before, values = parameters[span].copy(), []
        for step in (1e-5, -1e-5):
            parameters[span] = before + step * direction
            values.append(network.loss_and_gradient(*arguments, **keywords))
        parameters[span] = before
        numeric = (values[0] - values[1]) / 2e-5
        np.testing.assert_allclose(gradient[span] @ direction, numeric, rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize(
    "lengths",
    [((1,), (1,)), ((4,), (0,)), ((0, 2), (3, 2)), ((0,), (1,))],
    ids=["one", "ends at once", "one empty", "all empty"],
)
def test_shortest_pairs(lengths):
    network = make_network()
    batch = make_batch(network, *lengths)
    expected = network.expected(batch.targets)
    loss = network.loss_and_gradient(batch, expected)
    reference = Reference(network)
    outputs = np.concatenate([reference.follow(*pair)[0] for pair in zip(*batch, strict=True)])
    np.testing.assert_allclose(loss, losses(network, expected, outputs).mean(), rtol=1e-12)
    assert np.isfinite(network.gradient.flat).all()


def test_targets_of_numbers_may_all_be_empty():
    network = make_network(**FORMS["numbers"])
    batch = make_batch(network, (2, 3), (0, 0))
    assert network.loss_and_gradient(batch, network.expected(batch.targets)) == 0
    assert not network.gradient.flat.any()
    assert [own.shape for own in network.attention_weights(batch)] == [(0, 2), (0, 3)]


def test_targets_of_numbers_may_be_empty():
    network = make_network(**FORMS["numbers"])
    batch = make_batch(network, (2, 3, 1), (2, 0, 1))
    both = make_batch(network, (2, 3, 1), (2, 0, 1))
    alone = PairBatch(both.sources.take(np.array([0, 2])), both.targets.take(np.array([0, 2])))
    assert network.loss_and_gradient(batch, network.expected(batch.targets)) == pytest.approx(
        network.loss_and_gradient(alone, network.expected(alone.targets)), rel=1e-13
    )


@pytest.mark.parametrize("attention", ["additive", "multihead"])
def test_threads_change_no_bit(attention, many_threads):
    found = []
    for n_jobs in (1, 2, 3):
        network = make_network(n_jobs, attention=attention, n_heads=2, decoder_sizes=(34, 34))
        batch = make_batch(network, (5, 3, 8, 1, 2, 2, 7), (3, 9, 2, 0, 4, 1, 5))
        loss = network.loss_and_gradient(batch, network.expected(batch.targets))
        found.append((loss, network.gradient.flat.tobytes()))
        network.workers.close()
    assert many_threads.most_tasks == 3
    assert found[0] == found[1] == found[2]


def test_a_pair_does_not_depend_on_the_others():
    network = make_network(decoder_sizes=(9,))
    batch = make_batch(network, (5, 3, 8, 1), (3, 9, 2, 0))
    together = network.outputs_of(batch)
    first = 0
    for i in range(4):
        alone = PairBatch(batch.sources.take(np.array([i])), batch.targets.take(np.array([i])))
        outputs = network.outputs_of(alone)
        assert np.array_equal(outputs, together[first : first + len(outputs)])
        first += len(outputs)


@pytest.mark.parametrize("form", ["additive", "numbers", "tied"])
def test_batches_are_cut_to_fit_into_memory(form, monkeypatch):
    network = make_network(**FORMS[form])
    batch = make_batch(network, SOURCE_LENGTHS, TARGET_LENGTHS)
    expected = network.expected(batch.targets)
    weights = np.random.default_rng(4).uniform(0.5, 2, len(expected))
    whole = network.loss_and_gradient(batch, expected, weights, alpha=0.1)
    gradient, loss = network.gradient.flat.copy(), network.loss(batch, expected, weights)
    states, outputs = network.encode(batch.sources)[0], network.outputs_of(batch)
    monkeypatch.setattr(network_module, "_TRAINING_BYTES", 2000)
    monkeypatch.setattr(passes_module, "_INFERENCE_BYTES", 2000)
    assert len(list(network._chunks(batch.sources.lengths, batch.targets.lengths, 2000))) > 2
    assert network.loss_and_gradient(batch, expected, weights, alpha=0.1) == pytest.approx(whole, rel=1e-13)
    np.testing.assert_allclose(network.gradient.flat, gradient, rtol=1e-10, atol=1e-14)
    assert network.loss(batch, expected, weights) == pytest.approx(loss, rel=1e-13)
    assert np.array_equal(network.encode(batch.sources)[0], states)
    assert np.array_equal(network.outputs_of(batch), outputs)


class Pairs:
    """A source of minibatches."""

    def __init__(self, network, batch):
        self.network, self.batch = network, batch
        self.n_rows = len(network.expected(batch.targets))
        self.total_weight = float(self.n_rows)

    @property
    def lengths(self):
        return self.batch.sources.lengths

    def __len__(self):
        return len(self.batch.sources)

    def reorder(self, order):
        if order is None:
            return self
        return Pairs(self.network, PairBatch(*(side.take(order) for side in self.batch)))

    def part(self, begin, end):
        part = PairBatch(*(side.take(np.arange(begin, end)) for side in self.batch))
        return part, self.network.expected(part.targets), None


@pytest.mark.parametrize("form", [{}, {"tied_embeddings": True}], ids=["sparse tables", "tied"])
def test_the_training_loop_learns_and_updates_tables_as_if_they_were_dense(form, monkeypatch):
    curves, flats = [], []
    for dense in (False, True):
        network = make_network(spread=0.0, **form)
        if dense:
            # Every row in every update.
            monkeypatch.setattr(EncoderDecoder, "reach", lambda self, batch=None: self.whole_reach())
        data = Pairs(network, make_batch(network, [3, 2, 4, 1] * 8, [2, 3, 1, 0] * 8))
        state = train(network, data, batch_size=4, max_iter=6, learning_rate_init=0.02, rng=np.random.RandomState(0))
        curves.append(state.loss_curve)
        flats.append(network.parameters.flat.copy())
    assert curves[0][-1] < 0.8 * curves[0][0]
    # Updates that a row has missed are made at once, to a few digits less than one by one.
    np.testing.assert_allclose(flats[0], flats[1], rtol=1e-5, atol=1e-7)


def test_learns_to_reverse():
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 5, (rng.integers(1, 6), 1)).astype(np.float64) for _ in range(600)]
    form = {"source_size": 5, "encoder_sizes": (24,), "decoder_sizes": (24,), "source_embedding": 8}
    network = make_network(spread=0.0, target_embedding=8, **form)
    batch = PairBatch(Sequences.from_list(rows), Sequences.from_list([row[::-1] for row in rows]))
    train(
        network,
        Pairs(network, batch),
        batch_size=32,
        max_iter=15,
        learning_rate_init=0.01,
        rng=np.random.RandomState(0),
    )
    found = network.greedy(batch.sources, np.full(600, 8))
    exact = [
        found.tokens[i, 0, : found.lengths[i, 0]].tolist() == row[::-1, 0].astype(int).tolist()
        for i, row in enumerate(rows)
    ]
    assert np.mean(exact) > 0.9


def test_copies_and_forms():
    network = make_network(attention="multihead", n_heads=2, tied_embeddings=True)
    batch = make_batch(network, SOURCE_LENGTHS, TARGET_LENGTHS)
    expected = network.expected(batch.targets)
    loss = network.loss(batch, expected)
    assert pickle.loads(pickle.dumps(network)).loss(batch, expected) == loss
    assert EncoderDecoder(**network._form())._form() == network._form()
    single = network.with_dtype("float32")
    assert np.array_equal(single.parameters.flat, network.parameters.flat.astype(np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": "elman"}, "cell must be one of"),
        ({"source": "text"}, "source must be"),
        ({"target": "text"}, "target must be"),
        ({"attention": "dot"}, "attention must be"),
        ({"source": "vector"}, "no encoder"),
        ({"target": "values", "tied_embeddings": True}, "tied_embeddings"),
        ({"tied_embeddings": True, "readout_size": 5}, "readout_size must be target_embedding"),
        ({"attention": "multihead", "n_heads": 4}, "n_heads must divide"),
        ({"decoder_sizes": ()}, "decoder_sizes"),
        ({"encoder_sizes": (0,)}, "encoder_sizes"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"dtype": "int32"}, "dtype must be"),
    ],
)
def test_impossible_forms_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        EncoderDecoder(**{**FORM, **change})


def test_impossible_batches_are_refused():
    network = make_network()
    batch = make_batch(network, (2, 3), (1, 2))
    expected = network.expected(batch.targets)
    single = Sequences(batch.sources.values.astype(np.float32), batch.sources.starts, batch.sources.lengths)
    with pytest.raises(ValueError, match="expected sources of 1 columns in float64"):
        network.loss(PairBatch(single, batch.targets), expected)
    with pytest.raises(ValueError, match="got 1 sources, but 2 targets"):
        network.loss(PairBatch(batch.sources.take(np.array([0])), batch.targets), expected)
    with pytest.raises(ValueError, match="expected outputs of shape"):
        network.loss(batch, expected[:-1])
    with pytest.raises(ValueError, match="weights in float64"):
        network.loss(batch, expected, np.ones(1))
    with pytest.raises(ValueError, match="bptt_steps and state must be None"):
        network.loss_and_gradient(batch, expected, bptt_steps=3)
    wrong = Sequences(np.full_like(batch.targets.values, 99), batch.targets.starts, batch.targets.lengths)
    with pytest.raises(ValueError, match="whole numbers from 0 to 5"):
        network.loss_and_gradient(PairBatch(batch.sources, wrong), expected)
