"""The experiments with encoders and decoders: their data, their scores, and a peer that computes what ours does."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from numrnn import RNNSeq2Seq
from numrnn.seq2seq import Pairs

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.experiments import encoder_decoder, experiment, pairs  # noqa: E402

sys.path.remove(str(ROOT))

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_generated_pairs_are_right_and_distinct():
    for make, right in (
        (pairs.reversals, lambda source, target: source == target[::-1] and 1 <= len(source) <= 20),
        (pairs.additions, lambda source, target: sum(map(int, source.split("+"))) == int(target)),
        (pairs.dates, lambda source, target: date.fromisoformat(target).year in range(1970, 2070)),
    ):
        found = pairs.distinct_pairs(make, 300, 0)
        assert len({source for source, _ in found}) == 300
        assert all(right(*pair) for pair in found)
        assert found == pairs.distinct_pairs(make, 300, 0)


def test_dates_are_written_in_all_forms():
    day = date(2004, 8, 3)
    forms = [write(day) for write in pairs.DATE_FORMATS]
    assert len(set(forms)) == len(forms)
    assert {"3rd of August, 2004", "8/3/2004", "3.8.2004", "20040803", "Tue Aug  3 2004"} <= set(forms)


def test_scores():
    assert encoder_decoder.exact_match(["a", "bc"], ["a", "b"]) == 0.5
    pytest.importorskip("sacrebleu")
    assert encoder_decoder.bleu(["a man is on the street ."], ["a man is on the street ."]) == pytest.approx(100)


@pytest.fixture(scope="module")
def fitted():
    found = pairs.distinct_pairs(pairs.reversals, 120, 0)
    X, y = [source for source, _ in found], [target for _, target in found]
    model = RNNSeq2Seq((10,), analyzer="char", embedding_dim=6, batch_size=32, max_iter=2, tol=0.0, random_state=0)
    return model.set_params(learning_rate_init=0.01, label_smoothing=0.1).fit(X, y), X, y


def test_the_peer_trains_as_ours_does(fitted):
    pytest.importorskip("torch")
    from benchmarks.peers.pytorch_seq2seq import TorchEncoderDecoder, train

    model, X, y = fitted
    network, rng = model._network.with_dtype("float32"), np.random.RandomState(0)
    network.initialize(rng)
    data = Pairs(network, model._sources(X, network.dtype), model._targets(y, network.dtype))
    losses = train(
        TorchEncoderDecoder(network),
        data.sources,
        data.targets,
        batch_size=32,
        n_epochs=2,
        learning_rate=lambda epoch: 0.01,
        label_smoothing=0.1,
        max_grad_norm=1.0,
        rng=rng,
    )
    np.testing.assert_allclose(losses, model.loss_curve_, rtol=1e-4)


def test_the_peer_writes_what_ours_does(fitted):
    pytest.importorskip("torch")
    from benchmarks.peers.pytorch_seq2seq import TorchEncoderDecoder, beam, greedy

    model, X, _ = fitted
    twin = TorchEncoderDecoder(model._network)
    sources = model._sources(X, model._network.dtype)
    ids = {1: greedy(twin, sources, model.max_length_), 4: beam(twin, sources, model.max_length_, 4)}
    by_id = model._target.by_id
    for width, rows in ids.items():
        ours = model.set_params(beam_width=width).predict(X)
        theirs = ["".join(by_id[i] for i in row) for row in rows]
        assert np.mean([one == other for one, other in zip(ours, theirs, strict=True)]) > 0.98


def test_the_peer_that_starts_from_a_vector():
    pytest.importorskip("torch")
    from benchmarks.peers.pytorch_seq2seq import TorchVectorDecoder, log_likelihood, run_vector_peer

    rng = np.random.default_rng(0)
    X, y = np.eye(3)[rng.integers(0, 3, 50)], ["".join(rng.choice(list("abc"), rng.integers(1, 6))) for _ in range(50)]
    model = RNNSeq2Seq((9,), analyzer="char", embedding_dim=5, batch_size=16, max_iter=2, tol=0.0, random_state=0)
    model.set_params(learning_rate_init=0.01).fit(X, y)
    network = model._network
    data = model._sources(X, network.dtype), model._targets(y, network.dtype)
    ours = model.log_likelihood(X, y).sum()
    assert log_likelihood(TorchVectorDecoder(network), *data) == pytest.approx(ours, rel=1e-5)
    found = run_vector_peer(model, X, y, X, y, n_epochs=2, seed=0, n_jobs=1)
    np.testing.assert_allclose(found["losses"], model.loss_curve_, rtol=1e-4)
    assert found["log_likelihood"] == pytest.approx(ours, rel=1e-4)


def test_a_record_has_the_speeds_of_both():
    pytest.importorskip("torch")

    def splits(data, seed):
        found = pairs.distinct_pairs(pairs.additions, 60, 0)
        X, y = [source for source, _ in found], [target for _, target in found]
        return [experiment.Split(X[20:], y[20:], X[:20], y[:20])]

    one = experiment.Experiment(
        name="toy",
        task="sums",
        network="GRU",
        literature="none",
        goal=1.0,
        score=encoder_decoder.exact_match,
        splits=splits,
        estimator=lambda: RNNSeq2Seq((6,), analyzer="char", embedding_dim=4, max_iter=1),
        needs_data=False,
        peer=encoder_decoder.peer,
        details=encoder_decoder.speeds_and_samples,
    )
    record = experiment.run(one, None, seeds=[0], n_jobs=1, peer_seeds=[0])
    for side in ("numrnn", "pytorch"):
        (details,) = record[side]["details"]
        assert set(details["sentences_per_second"]) == {"greedy", "beam 5"}
        assert len(details["loss_curve"]) == 1
    np.testing.assert_allclose(*(record[side]["details"][0]["loss_curve"] for side in ("numrnn", "pytorch")), rtol=1e-4)
