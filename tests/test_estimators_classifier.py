"""RNNClassifier: labels, weights, probabilities, and that it learns with default parameters."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.preprocessing import StandardScaler

from numrnn import RNNClassifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def slopes(n, rng, length=12):
    """Noisy sequences that go up or down, and which."""
    sign = rng.choice([-1.0, 1.0], n)
    return sign[:, None] * np.linspace(-1, 1, length) + rng.normal(scale=0.4, size=(n, length)), sign > 0


def small(**parameters):
    return RNNClassifier((4,), **{"max_iter": 3, "random_state": 0, **parameters})


@pytest.mark.parametrize("n_samples", [16, 40, 120])
def test_defaults_learn_a_small_clean_problem(rng, n_samples):
    X, y = slopes(n_samples, rng)
    X_test, y_test = slopes(300, rng)
    model = RNNClassifier(random_state=0).fit(X, y)
    assert model.score(X, y) > 0.97
    assert model.score(X_test, y_test) > 0.95


def test_defaults_learn_blobs():
    X, y = make_blobs(n_samples=150, random_state=0)
    X = StandardScaler().fit_transform(X)
    assert RNNClassifier(random_state=0).fit(X, y).score(X, y) > 0.9


def test_defaults_remember_the_first_of_many_time_steps(rng):
    X = rng.normal(size=(300, 15))
    y = np.where(X[:, 0] > 0, "positive", "negative")
    assert RNNClassifier(random_state=0).fit(X[:200], y[:200]).score(X[200:], y[200:]) > 0.85


@pytest.mark.parametrize("cell", ["gru", "rnn"])
@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_other_cells_and_poolings_learn(rng, cell, pooling):
    lengths = rng.integers(4, 12, size=60)
    sign = rng.choice([-1.0, 1.0], 60)
    X = [s * rng.uniform(0.5, 1.5, size=(length, 2)) for s, length in zip(sign, lengths, strict=True)]
    model = RNNClassifier((8,), cell=cell, pooling=pooling, learning_rate_init=5e-3, max_iter=40, random_state=0)
    assert model.fit(X, sign).score(X, sign) == 1.0


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["no", "yes"]),
        np.array(["no", "yes"], dtype=object),
        np.array([False, True]),
        np.array([-1, 7]),
        np.array([0.0, 2.0]),
        np.array(["a", "b", "c"]),
    ],
)
def test_labels(rng, labels):
    X, _ = slopes(30, rng)
    y = labels[np.arange(30) % len(labels)]
    model = small().fit(X, y)
    np.testing.assert_array_equal(model.classes_, labels)
    prediction = model.predict(X)
    assert prediction.dtype == labels.dtype
    probabilities = model.predict_proba(X)
    assert probabilities.shape == (30, len(labels))
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-14)
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(probabilities), rtol=1e-12)
    np.testing.assert_array_equal(labels[probabilities.argmax(axis=1)], prediction)


def test_probabilities_are_the_softmax_of_the_readout_of_the_features(rng):
    X, y = slopes(20, rng)
    model = small(dtype="float64").fit(X, y)
    parameters = model._network.parameters
    logits = model.transform(X) @ parameters["weight_out"].T + parameters["bias_out"]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(X), expected, rtol=1e-12)


def test_transform_is_the_last_hidden_state(rng):
    X, y = slopes(20, rng)
    model = small(bidirectional=True).fit(X, y)
    features = model.transform(X)
    assert features.shape == (20, 8)
    assert features.dtype == np.float32
    assert len(model.get_feature_names_out()) == 8
    assert model.get_feature_names_out()[0] == "rnnclassifier0"
    steps = model._network.stack.forward(model._network.parameters, model._sequences(X)).output.reshape(20, 12, 8)
    np.testing.assert_allclose(features[:, :4], steps[:, -1, :4], rtol=1e-6)
    np.testing.assert_allclose(features[:, 4:], steps[:, 0, 4:], rtol=1e-6)


# --------------------------------------------------------------------------------------------------------- weights
def test_weights_are_repetitions_in_any_order(rng):
    X, y = slopes(14, rng)
    weights = rng.integers(0, 4, 14)
    numbers = rng.permutation(np.repeat(np.arange(14), weights))
    weighted = RNNClassifier((5,), max_iter=20, random_state=0).fit(X, y, sample_weight=weights)
    repeated = RNNClassifier((5,), max_iter=20, random_state=0).fit(X[numbers], y[numbers])
    np.testing.assert_array_equal(weighted.predict_proba(X), repeated.predict_proba(X))
    unweighted = RNNClassifier((5,), max_iter=20, random_state=0).fit(X, y)
    assert not np.array_equal(weighted.predict_proba(X), unweighted.predict_proba(X))


def test_samples_of_weight_zero_are_ignored(rng):
    X, y = slopes(60, rng)
    weights = np.ones(60)
    weights[40:] = 0
    labels = np.where(np.arange(60) < 40, y.astype(int), 2)
    model = small().fit(X, labels, sample_weight=weights)
    assert model.classes_.tolist() == [0, 1]
    without = small().fit(X[:40], labels[:40], sample_weight=weights[:40])
    np.testing.assert_array_equal(model.predict_proba(X), without.predict_proba(X))


def test_balanced_class_weight_is_the_dict_of_inverse_frequencies(rng):
    X, _ = slopes(16, rng)
    y = np.array([0] * 12 + [1] * 4)
    balanced = small(class_weight="balanced").fit(X, y).predict_proba(X)
    explicit = small(class_weight={0: 16 / 24, 1: 16 / 8}).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(balanced, explicit, rtol=1e-6)
    assert np.abs(balanced - small().fit(X, y).predict_proba(X)).max() > 1e-4


def test_balanced_class_weight_counts_sample_weights(rng):
    X, _ = slopes(12, rng)
    y = np.array([0] * 8 + [1] * 4)
    weights = np.where(y == 0, 1.0, 2.0)
    weighted = small(class_weight="balanced").fit(X, y, sample_weight=weights).predict_proba(X)
    numbers = np.repeat(np.arange(12), weights.astype(int))
    np.testing.assert_array_equal(weighted, small(class_weight="balanced").fit(X[numbers], y[numbers]).predict_proba(X))


def test_class_weight_of_one_label(rng):
    X, _ = slopes(200, rng)
    y = rng.choice(["rare", "usual"], 200)
    favoured = RNNClassifier((4,), max_iter=30, random_state=0, class_weight={"rare": 50.0}).fit(X, y)
    assert np.mean(favoured.predict(X) == "rare") > 0.95


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [({"a": 2.0, "z": 1.0}, "not in class_weight"), ({"a": 0.0, "b": 0.0}, "must leave at least one sample")],
)
def test_class_weights_that_fit_no_class(rng, class_weight, message):
    X, y = slopes(20, rng)
    with pytest.raises(ValueError, match=message):
        small(class_weight=class_weight).fit(X, np.where(y, "a", "b"))


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf, "2"])
def test_class_weights_that_are_none_leave_a_fitted_model_as_it_was(rng, weight):
    X, y = slopes(20, rng)
    model = small().fit(X, y)
    before = model.predict_proba(X)
    model.set_params(class_weight={1: weight})
    with pytest.raises(ValueError, match=f"a finite number that is not negative. Got {weight!r} for 1 instead"):
        model.fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), before)


# ---------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.ones(6), r"at least 2 classes, but the data contains only 1 class: .*1\.0"),
        (np.linspace(0, 1, 6), "Unknown label type: continuous"),
        (np.array([0, 1, np.nan, 0, 1, 0]), "Input y contains NaN"),
        (np.zeros((6, 2)), "should be a 1d array"),
        (None, "requires y to be passed, but the target y is None"),
    ],
)
def test_bad_targets(y, message):
    with pytest.raises(ValueError, match=message):
        small().fit(np.zeros((6, 3)), y)


def test_one_class_is_left_when_zero_weights_are_dropped():
    y = np.arange(6) % 2
    with pytest.raises(ValueError, match="at least 2 classes"):
        small().fit(np.eye(6), y, sample_weight=y)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba", "transform", "score", "save"])
def test_unfitted(method):
    arguments = (np.eye(3), [0, 1, 1]) if method == "score" else (np.eye(3),)
    with pytest.raises(NotFittedError, match="This RNNClassifier instance is not fitted yet"):
        getattr(RNNClassifier(), method)(*arguments)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"cell": "transformer"}, "The 'cell' parameter of RNNClassifier must be a str among"),
        ({"pooling": None}, "The 'pooling' parameter of RNNClassifier must be a str among"),
        ({"dropout": 1.0}, r"The 'dropout' parameter of RNNClassifier must be a float in the range \[0\.?0?, 1"),
        ({"hidden_layer_sizes": ()}, "The 'hidden_layer_sizes' parameter of RNNClassifier must be a positive integer"),
        ({"hidden_layer_sizes": (4, 0)}, r"must be a positive integer or a sequence of them. Got \(4, 0\) instead"),
        ({"hidden_layer_sizes": (4.5,)}, "The 'hidden_layer_sizes' parameter"),
        ({"hidden_layer_sizes": 0}, "The 'hidden_layer_sizes' parameter"),
        ({"n_jobs": 0}, "The 'n_jobs' parameter of RNNClassifier must be None or a nonzero integer"),
        ({"bptt_steps": 2, "bidirectional": True}, "The 'bptt_steps' parameter of RNNClassifier must be None if"),
        ({"solver": "lbfgs", "early_stopping": True}, "The 'early_stopping' parameter of RNNClassifier"),
        ({"learning_rate": "fast"}, "The 'learning_rate' parameter of RNNClassifier"),
        ({"class_weight": "fair"}, "The 'class_weight' parameter of RNNClassifier"),
        ({"dtype": "float16"}, "The 'dtype' parameter of RNNClassifier"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        RNNClassifier(**parameters).fit(np.eye(4), [0, 1, 0, 1])


def test_device():
    X, y = np.eye(4), [0, 1, 0, 1]
    with pytest.raises(RuntimeError, match="device='cuda' is not available"):
        small(device="cuda").fit(X, y)
    np.testing.assert_array_equal(
        small(device="auto").fit(X, y).predict_proba(X), small(device="cpu").fit(X, y).predict_proba(X)
    )


@pytest.mark.parametrize("sizes", [5, (5,), [5], np.array([5]), np.int64(5)])
def test_forms_of_hidden_layer_sizes(sizes):
    model = RNNClassifier(sizes, max_iter=1, random_state=0).fit(np.eye(4), [0, 1, 0, 1])
    # Four gates of an LSTM with two biases, and the readout of two classes.
    assert model.n_parameters_ == 4 * 5 * (1 + 5 + 2) + 2 * (5 + 1)


@pytest.mark.parametrize("dtype", ["float32", "float64", np.float32, np.float64])
def test_dtype(dtype):
    model = small(dtype=dtype).fit(np.eye(4), [0, 1, 0, 1])
    assert model.transform(np.eye(4)).dtype == np.dtype(dtype)


def test_convergence_warning(rng):
    X, y = slopes(30, rng)
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(3\) reached") as caught:
        small().fit(X, y)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model = small(max_iter=60, tol=10.0, n_iter_no_change=2).fit(X, y)
    assert model.n_iter_ < 60
