"""Estimators on the device: the same as on the CPU, from one to the other, and what is refused."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import numrnn
from numrnn import RNNClassifier, RNNLanguageModel, RNNRegressor, RNNTagger, devices

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SMALL = {"hidden_layer_sizes": (3,), "max_iter": 2, "batch_size": 3, "random_state": 0, "dtype": "float64"}


@pytest.fixture
def sequences(rng):
    return [rng.normal(size=(length, 2)) for length in (3, 2, 4, 1, 3, 2)]


def both(make, *data, **options):
    """The same estimator, fitted on either device."""
    return [make(**{**SMALL, **options}, device=device).fit(*data) for device in ("cpu", "cuda")]


def test_classifier(sequences, tmp_path):
    y = ["a", "b", "a", "b", "c", "c"]
    options = {"class_weight": "balanced", "pooling": "mean", "alpha": 0.1, "label_smoothing": 0.1}
    cpu, cuda = both(RNNClassifier, sequences, y, **options)
    assert (cpu.device_, cuda.device_) == ("cpu", "cuda")
    np.testing.assert_allclose(cuda.predict_proba(sequences), cpu.predict_proba(sequences), rtol=1e-6)
    np.testing.assert_allclose(cuda.transform(sequences), cpu.transform(sequences), rtol=1e-6)
    # Pickled, saved and loaded it predicts on either device.
    cuda.save(tmp_path / "model.safetensors")
    for model in (pickle.loads(pickle.dumps(cuda)), numrnn.load(tmp_path / "model.safetensors")):
        on_cpu = model.set_params(device="cpu").predict_proba(sequences)
        np.testing.assert_allclose(cuda.predict_proba(sequences), on_cpu, rtol=1e-9)


def test_classifier_goes_on(sequences):
    """A warm start and partial_fit take parameters and moments to the other device."""
    y = [0, 1, 0, 1, 1, 0]
    models = [RNNClassifier(**SMALL, device=device, warm_start=True) for device in ("cpu", "cuda")]
    for model, other in zip(models, ("cuda", "cpu"), strict=True):
        model.fit(sequences, y, sample_weight=[1, 2, 1, 0.5, 1, 0])
        model.set_params(device=other).partial_fit(sequences, y)
        model.fit(sequences, y)
    np.testing.assert_allclose(*(model.predict_proba(sequences) for model in models), rtol=1e-5)
    np.testing.assert_allclose(*(model.loss_curve_ for model in models), rtol=1e-5)


def test_regressor_with_targets_of_time_steps_and_truncation(sequences):
    y = [np.cumsum(steps[:, 0]) for steps in sequences]
    cpu, cuda = both(RNNRegressor, sequences, y, loss="huber", bptt_steps=2, solver="rmsprop", cell="gru")
    for one, other in zip(cpu.predict(sequences), cuda.predict(sequences), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-6)
    assert cuda.score(sequences, y) == pytest.approx(cpu.score(sequences, y), rel=1e-6)


def test_early_stopping(rng):
    X, y = rng.normal(size=(12, 3, 1)), np.arange(12) % 2
    cpu, cuda = both(RNNClassifier, X, y, early_stopping=True, validation_fraction=0.25, cell="rnn")
    np.testing.assert_allclose(cuda.validation_scores_, cpu.validation_scores_)
    np.testing.assert_allclose(cuda.predict_proba(X), cpu.predict_proba(X), rtol=1e-6)


def test_tagger_of_words():
    X = [["the", "dog", "barks"], ["a", "cat"], ["dogs", "sleep"]]
    y = [["D", "N", "V"], ["D", "N"], ["N", "V"]]
    cpu, cuda = both(RNNTagger, X, y, bidirectional=True, embedding_dim=2, word_features=False, cell="rnn")
    for one, other in zip(cpu.predict_proba(X), cuda.predict_proba(X), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-6)


def test_tagger_with_a_random_field(sequences):
    y = [[str(int(10 * step[0]) % 3) for step in steps] for steps in sequences]
    cpu, cuda = both(RNNTagger, sequences, y, output="crf", max_iter=3, cell="gru", learning_rate_init=0.05)
    np.testing.assert_allclose(cuda.loss_curve_, cpu.loss_curve_, rtol=1e-7)
    assert [list(tags) for tags in cuda.predict(sequences)] == [list(tags) for tags in cpu.predict(sequences)]
    for one, other in zip(cpu.predict_proba(sequences), cuda.predict_proba(sequences), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-6)
    assert cuda.score(sequences, y) == cpu.score(sequences, y)


@pytest.mark.parametrize("free", [None, 6000.0])
def test_lbfgs(sequences, free, monkeypatch):
    """The gradient is the device's; where little memory is left, from a few sequences at a time."""
    from numrnn.cuda import engine

    if free is not None:
        monkeypatch.setattr(engine, "free_bytes", lambda: free)
        chunks = []
        made = engine._LossOfAll.__init__

        def remember(self, *arguments):
            made(self, *arguments)
            chunks.extend(self._chunks)

        monkeypatch.setattr(engine._LossOfAll, "__init__", remember)
    options = {"solver": "lbfgs", "alpha": 0.1, "cell": "rnn", "max_iter": 3}
    cpu, cuda = both(RNNClassifier, sequences, list("ababcc"), **options)
    assert cuda.device_ == "cuda"
    assert free is None or len(chunks) > 1
    np.testing.assert_allclose(cuda.loss_curve_, cpu.loss_curve_, rtol=1e-9)
    np.testing.assert_allclose(cuda.predict_proba(sequences), cpu.predict_proba(sequences), rtol=1e-6)


@pytest.mark.parametrize("text", ["abcabcabca", ["ab", "abc", "b"]])
def test_language_model(text):
    options = {**SMALL, "batch_size": 2, "embedding_dim": 2, "bptt_steps": 2, "cell": "gru"}
    models = [RNNLanguageModel(**options, device=device).fit(text) for device in ("cpu", "cuda")]
    np.testing.assert_allclose(*(model.loss_curve_ for model in models), rtol=1e-7)
    np.testing.assert_allclose(*(model._network.parameters.flat for model in models), rtol=1e-6, atol=1e-9)


def test_convolutions(sequences):
    y = ["a", "b", "a", "b", "c", "c"]
    front = [numrnn.Convolution(filters=2, kernel_size=3, pool_size=2), numrnn.Convolution(filters=3, kernel_size=2)]
    cpu, cuda = both(RNNClassifier, sequences, y, convolution=front, cell="gru")
    np.testing.assert_allclose(cuda.loss_curve_, cpu.loss_curve_, rtol=1e-7)
    np.testing.assert_allclose(cuda.predict_proba(sequences), cpu.predict_proba(sequences), rtol=1e-6)


def test_auto_takes_the_device_where_there_is_enough_work(sequences, monkeypatch):
    y = [0, 1, 0, 1, 1, 0]
    assert RNNClassifier(**SMALL, device="auto").fit(sequences, y).device_ == "cpu"
    monkeypatch.setitem(devices.WORTH_A_DEVICE, "training", 0.0)
    assert RNNClassifier(**SMALL, device="auto").fit(sequences, y).device_ == "cuda"


def test_without_a_device(sequences, monkeypatch):
    monkeypatch.setattr(devices, "_why_unavailable", lambda: "there is none")
    y = [0, 1, 0, 1, 1, 0]
    with pytest.raises(RuntimeError, match="device='cuda' is not available: there is none"):
        RNNClassifier(**SMALL, device="cuda").fit(sequences, y)
    monkeypatch.setitem(devices.WORTH_A_DEVICE, "training", 0.0)
    model = RNNClassifier(**SMALL, device="auto").fit(sequences, y)
    assert model.device_ == "cpu"
    with pytest.raises(RuntimeError, match="device='cuda' is not available: there is none"):
        model.set_params(device="cuda").predict(sequences)


def test_memory_that_is_not_there_leaves_the_estimator_as_it_was(sequences, monkeypatch):
    from numrnn.cuda import engine

    monkeypatch.setattr(engine, "free_bytes", lambda: 1000.0)
    model = RNNClassifier(**SMALL, device="cuda")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        with pytest.raises(MemoryError, match="needs about"):
            model.fit(sequences, [0, 1, 0, 1, 1, 0])
    assert not hasattr(model, "classes_")
