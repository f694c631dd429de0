"""What encoders and decoders write: search against the reference and against all sequences, draws, numbers, threads."""

from __future__ import annotations

from itertools import product

import numpy as np
import oracle.seq2seq
import pytest
from seq2seq_problems import Reference, make_batch, make_network, make_side

from numrnn.packing import Sequences
from numrnn.seq2seq import PairBatch
from numrnn.seq2seq import decoding as decoding_module

interpreter = pytest.mark.interpreter

FORMS = {
    "additive": {},
    "multihead": {"attention": "multihead", "n_heads": 3, "decoder_sizes": (4, 6)},
    "multiplicative, no feeding": {"attention": "multiplicative", "input_feeding": False, "tied_embeddings": True},
    "vector": {"source": "vector", "source_size": 3, "encoder_sizes": (), "attention": None},
}
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
SOURCE_LENGTHS = (3, 1, 5, 2, 4, 1, 2)
MOST = np.array([4, 2, 6, 0, 5, 3, 1])


def make_sources(network, lengths=SOURCE_LENGTHS):
    lengths = [1] * len(lengths) if network.source == "vector" else lengths
    return make_side(network.source, network.source_size, lengths, network.dtype, 2)


def ids_of(found, hypothesis=0):
    return [
        row[hypothesis, : max(length, 0)].tolist()
        for row, length in zip(found.tokens, found.lengths[:, hypothesis], strict=True)
    ]


def as_targets(network, ids):
    return Sequences.from_list([np.array(own, dtype=network.dtype).reshape(-1, 1) for own in ids])


def likelihoods_of(network, sources, ids):
    """Log-likelihood of one target for every source, the end included."""
    targets = as_targets(network, ids)
    ends = np.cumsum(targets.lengths + 1)
    found = network.log_likelihoods(PairBatch(sources, targets))
    return np.add.reduceat(found, np.concatenate([[0], ends[:-1]]))


@interpreter
@every_form
def test_greedy_equals_the_reference_and_a_beam_of_one(form):
    network = make_network(spread=0.8, **form)
    sources = make_sources(network)
    reference = Reference(network)
    found = network.greedy(sources, MOST)
    wanted = [
        oracle.seq2seq.greedy(reference.form, reference.parameters, *reference.read(rows), reference.table, int(most))
        for rows, most in zip(sources, MOST, strict=True)
    ]
    assert ids_of(found) == wanted
    assert len({tuple(own) for own in wanted}) > 1
    assert ids_of(network.beam(sources, MOST, width=1)) == wanted
    assert ids_of(network.sample(sources, MOST, np.zeros((7, 6)), temperature=0.0)) == wanted
    # A target that has been cut off ends all the same.
    np.testing.assert_allclose(found.scores[:, 0], likelihoods_of(network, sources, wanted), rtol=1e-10)
    assert (found.tokens[:, 0] >= 0).sum() == found.lengths.sum()


@pytest.mark.parametrize(("exponent", "coverage"), [(0.0, 0.0), (1.0, 0.0), (0.7, 0.4)])
@every_form
def test_beam_equals_the_reference(form, exponent, coverage):
    network = make_network(spread=0.8, **form)
    sources = make_sources(network)
    reference = Reference(network)
    options = {"length_normalization": exponent, "coverage_penalty": coverage, "width": 3}
    found = network.beam(sources, MOST, n_best=3, **options)
    best = network.beam(sources, MOST, n_best=1, **options)
    for i, (rows, most) in enumerate(zip(sources, MOST, strict=True)):
        wanted = oracle.seq2seq.beam(
            reference.form, reference.parameters, *reference.read(rows), reference.table, int(most),
            width=3, exponent=exponent, coverage_weight=coverage if network.attention else 0.0,
        )[:3]  # fmt: skip
        assert [own[i] for own in (ids_of(found, j) for j in range(len(wanted)))] == [ids for _, ids in wanted]
        np.testing.assert_allclose(found.scores[i, : len(wanted)], [score for score, _ in wanted], rtol=1e-9)
        assert (found.lengths[i, len(wanted) :] == -1).all()
        assert np.isneginf(found.scores[i, len(wanted) :]).all()
        # Ending early loses nothing.
        assert ids_of(best)[i] == wanted[0][1]


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_a_wide_beam_finds_the_best_of_all_sequences(exponent):
    network = make_network(spread=0.8, target_size=3)
    sources = make_sources(network, (3, 1, 4))
    most = np.array([3, 3, 2])
    found = network.beam(sources, most, width=200, n_best=4, length_normalization=exponent)
    for i in range(3):
        all_ids = [list(ids) for length in range(most[i] + 1) for ids in product(range(3), repeat=length)]
        likelihoods = likelihoods_of(network, sources.take(np.full(len(all_ids), i)), all_ids)
        scores = likelihoods / np.array([(len(ids) + 1.0) ** exponent for ids in all_ids])
        best = np.argsort(-scores)[:4]
        np.testing.assert_allclose(found.scores[i], scores[best], rtol=1e-10)
        np.testing.assert_allclose(found.log_likelihoods[i], likelihoods[best], rtol=1e-10)
        assert [ids_of(found, j)[i] for j in range(4)] == [all_ids[k] for k in best]


def test_forbidden_ids_are_not_written_and_cost_nothing():
    network = make_network(spread=0.8)
    sources = make_sources(network)
    written = network.greedy(sources, MOST).tokens
    forbidden = [0, int(written[written > 0][0])]
    for found in (
        network.greedy(sources, MOST, forbidden=forbidden),
        network.beam(sources, MOST, width=3, length_normalization=0.0, forbidden=forbidden),
        network.sample(sources, MOST, np.random.default_rng(0).random((7, 6)), forbidden=forbidden),
    ):
        assert not np.isin(found.tokens, forbidden).any()
        np.testing.assert_allclose(found.scores[:, 0], likelihoods_of(network, sources, ids_of(found)), rtol=1e-10)
    everything = network.greedy(sources, MOST, forbidden=range(5))
    assert (everything.lengths == 0).all()


@pytest.mark.parametrize("method", ["greedy", "beam", "sample"])
@pytest.mark.parametrize("form", ["additive", "multihead"])
def test_attention_is_that_of_forced_targets(form, method):
    network = make_network(spread=0.8, **FORMS[form])
    sources = make_sources(network)
    options = {"beam": {"width": 3, "n_best": 2}, "sample": {"uniforms": np.random.default_rng(0).random((7, 6))}}
    found = getattr(network, method)(sources, MOST, return_attention=True, **options.get(method, {}))
    for hypothesis in range(found.lengths.shape[1]):
        ids = ids_of(found, hypothesis)
        forced = network.attention_weights(PairBatch(sources, as_targets(network, ids)))
        for i, length in enumerate(found.lengths[:, hypothesis]):
            if length >= 0:
                assert found.attention[i][hypothesis].shape == (length, SOURCE_LENGTHS[i])
                np.testing.assert_allclose(found.attention[i][hypothesis], forced[i][:length], rtol=1e-9)


def test_draws_have_the_probabilities_of_the_model():
    network = make_network(spread=0.8, target_size=2)
    n, most = 4000, 2
    sources = make_sources(network, (3,)).take(np.zeros(n, dtype=np.int64))
    found = network.sample(sources, np.full(n, most), np.random.default_rng(0).random((n, most)))
    ids = [tuple(own) for own in ids_of(found)]
    every = [own for length in range(most + 1) for own in product(range(2), repeat=length)]
    # After `most` tokens the end is not a draw.
    targets = as_targets(network, every)
    likelihoods = network.log_likelihoods(PairBatch(sources.take(np.arange(len(every))), targets))
    ends = np.cumsum(targets.lengths + 1)
    for own, end in zip(every, ends, strict=True):
        probability = np.exp(likelihoods[end - len(own) - 1 : end - (len(own) == most)].sum())
        share = np.mean([other == own for other in ids])
        assert abs(share - probability) < 4 * np.sqrt(probability * (1 - probability) / n) + 1e-9


def test_draws_from_few_ids():
    network = make_network(spread=0.8)
    sources = make_sources(network)
    uniforms = np.random.default_rng(0).random((7, 6))
    greedy = ids_of(network.greedy(sources, MOST))
    assert ids_of(network.sample(sources, MOST, uniforms, top_k=1)) == greedy
    assert ids_of(network.sample(sources, MOST, uniforms, top_p=1e-9)) == greedy
    assert ids_of(network.sample(sources, MOST, uniforms, temperature=50.0)) != greedy


@interpreter
@pytest.mark.parametrize("source", ["values", "vector"])
def test_numbers_follow_their_own_outputs(source):
    form = {"encoder_sizes": (), "attention": None} if source == "vector" else {"encoder_sizes": (5,)}
    network = make_network(source=source, source_size=3, target="values", target_size=2, **form)
    sources = make_sources(network)
    values, attention = network.predict_values(sources, MOST, return_attention=True)
    batch = PairBatch(sources, Sequences(values, np.cumsum(MOST) - MOST, MOST))
    np.testing.assert_allclose(network.outputs_of(batch), values, rtol=1e-12)
    if source == "vector":
        assert attention is None
        return
    for own, forced in zip(attention, network.attention_weights(batch), strict=True):
        np.testing.assert_allclose(own, forced, rtol=1e-12)


@pytest.mark.parametrize("target", ["ids", "values"])
def test_scheduled_sampling_feeds_predictions(target):
    network = make_network(spread=0.8, target=target)
    network.sampling_share = 1.0
    batch = make_batch(network, SOURCE_LENGTHS, (3, 2, 4, 0, 3, 1, 2))
    expected = network.expected(batch.targets)
    loss = network.loss_and_gradient(batch, expected, dropout_seed=3)
    if target == "values":
        values, _ = network.predict_values(batch.sources, batch.targets.lengths)
        assert loss == pytest.approx(((values - expected) ** 2).mean(), rel=1e-12)
        return
    # By the reference: whatever has been predicted, be it the end, is read next.
    reference, total = Reference(network), 0.0
    for rows, target_rows in zip(batch.sources, batch.targets, strict=True):
        summary, memory = reference.read(rows)
        state, read = oracle.seq2seq.begin(reference.form, reference.parameters, summary), network.end_id
        for own in [*target_rows[:, 0].astype(int), network.end_id]:
            outputs, state, _ = oracle.seq2seq.step(
                reference.form, reference.parameters, state, reference.table[read], memory
            )
            total -= oracle.seq2seq.log_softmax(outputs)[own]
            read = int(outputs.argmax())
    assert loss == pytest.approx(total / len(expected), rel=1e-10)


def test_a_share_of_the_inputs_is_sampled():
    network = make_network(spread=0.8)
    batch = make_batch(network, [3] * 40, [5] * 40)
    inputs = network._inputs(batch.targets)
    network.sampling_share = 0.3
    sampled = network._sampled_inputs(batch, inputs, seed=1)
    changed = (sampled.values != inputs.values).reshape(40, 6)
    assert not changed[:, 0].any()
    # Some predictions happen to be right.
    assert 0.1 < changed[:, 1:].mean() <= 0.35
    assert network.uses_random_numbers
    expected = network.expected(batch.targets)
    losses = [network.loss_and_gradient(batch, expected, dropout_seed=seed) for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_neither_threads_nor_chunks_change_a_bit(monkeypatch):
    found = []
    for n_jobs, rows, source_rows in ((1, 384, 16384), (2, 7, 16384), (3, 4, 6)):
        monkeypatch.setattr(decoding_module, "_ROWS", rows)
        monkeypatch.setattr(decoding_module, "_SOURCE_ROWS", source_rows)
        monkeypatch.setattr(decoding_module, "_UNIT_ROWS", rows // 2)
        network = make_network(n_jobs, spread=0.8, decoder_sizes=(9, 6))
        sources = make_sources(network)
        best = network.beam(sources, MOST, width=3, n_best=2, coverage_penalty=0.2, return_attention=True)
        drawn = network.sample(sources, MOST, np.random.default_rng(0).random((7, 6)))
        maps = [own.tobytes() for of_source in best.attention for own in of_source]
        found.append((best.tokens.tolist(), best.scores.tobytes(), maps, drawn.tokens.tolist()))
        network.workers.close()
    assert found[0] == found[1] == found[2]


def test_encode_gives_states_and_summaries():
    network = make_network()
    sources = make_sources(network)
    states, summaries = network.encode(sources)
    reference, first = Reference(network), 0
    for rows, summary in zip(sources, summaries, strict=True):
        wanted, memory = reference.read(rows)
        np.testing.assert_allclose(summary, wanted, rtol=1e-10)
        np.testing.assert_allclose(states[first : first + len(rows)], memory, rtol=1e-10)
        first += len(rows)
    vector = make_network(**FORMS["vector"])
    states, summaries = vector.encode(make_sources(vector))
    assert states.shape == (0, 0)
    assert summaries.shape == (7, 3)


def test_nothing_to_decode():
    network = make_network()
    none = make_sources(network).take(np.zeros(0, dtype=np.int64))
    found = network.beam(none, np.zeros(0, dtype=np.int64), width=2)
    assert found.tokens.shape == (0, 1, 0)
    assert network.encode(none)[0].shape == (0, 10)


def test_impossible_searches_are_refused():
    network = make_network()
    sources = make_sources(network)
    for keywords, message in (
        ({"width": 0}, "width must be at least 1"),
        ({"width": 2, "n_best": 3}, "n_best from 1 to width"),
        ({"length_normalization": -1.0}, "must not be negative"),
        ({"coverage_penalty": -1.0}, "must not be negative"),
        ({"forbidden": [network.end_id]}, "forbidden ids must lie between 0 and 4"),
    ):
        with pytest.raises(ValueError, match=message):
            network.beam(sources, MOST, **keywords)
    uniforms = np.zeros((7, 6))
    for keywords, message in (
        ({"uniforms": uniforms[:, :5]}, "expected uniforms"),
        ({"uniforms": uniforms, "temperature": -1.0}, "temperature must not be negative"),
        ({"uniforms": uniforms, "top_k": 0}, "top_k at least 1"),
        ({"uniforms": uniforms, "top_p": 0.0}, "top_p above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            network.sample(sources, MOST, **keywords)
    with pytest.raises(ValueError, match="expected one length"):
        network.greedy(sources, MOST[:-1])
    with pytest.raises(ValueError, match="expected one length"):
        network.greedy(sources, MOST - 1)
    with pytest.raises(ValueError, match="targets that are values"):
        network.predict_values(sources, MOST)
    with pytest.raises(ValueError, match="targets that are ids"):
        make_network(target="values").greedy(sources, MOST)
