"""RNNRegressor: scaling of the targets, several outputs, losses, and that it learns with default parameters."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score

from numrnn import RNNRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def sums(n, rng):
    X = rng.normal(size=(n, 8, 2))
    return X, X[:, :, 0].sum(axis=1)


def small(**parameters):
    return RNNRegressor((4,), **{"max_iter": 3, "random_state": 0, **parameters})


@pytest.mark.parametrize("n_samples", [50, 200])
def test_defaults_learn_a_sum(rng, n_samples):
    X, y = sums(n_samples, rng)
    X_test, y_test = sums(300, rng)
    model = RNNRegressor(random_state=0).fit(X, y)
    assert model.score(X, y) > 0.98
    assert model.score(X_test, y_test) > 0.9


def test_predictions_follow_the_unit_of_the_targets(rng):
    X, y = sums(60, rng)
    model = small(max_iter=10, dtype="float64").fit(X, y)
    other = small(max_iter=10, dtype="float64").fit(X, 1e4 * y + 1e5)
    np.testing.assert_allclose(other.predict(X), 1e4 * model.predict(X) + 1e5, rtol=1e-7)
    np.testing.assert_allclose(other.loss_curve_, model.loss_curve_, rtol=1e-7)
    np.testing.assert_allclose(other.target_mean_, [1e4 * y.mean() + 1e5])
    np.testing.assert_allclose(other.target_scale_, [1e4 * y.std()])


def test_loss_is_in_standardised_units(rng):
    X, y = sums(16, rng)
    model = small(max_iter=1, learning_rate_init=1e-12).fit(X, 50 * y)
    errors = (50 * y - model.predict(X)) / (50 * y).std()
    np.testing.assert_allclose(model.loss_curve_[0], np.mean(errors**2), rtol=1e-5)


def test_constant_target(rng):
    X, _ = sums(20, rng)
    model = small(max_iter=40, learning_rate_init=0.01).fit(X, np.full(20, 0.1))
    assert model.target_scale_.tolist() == [1.0]
    np.testing.assert_allclose(model.target_mean_, 0.1)
    np.testing.assert_allclose(model.predict(X), 0.1, atol=0.1)


def test_several_outputs(rng):
    X, y = sums(150, rng)
    targets = np.column_stack([y, 1000 * X[:, -1, 1], np.zeros(150)])
    model = RNNRegressor((16,), max_iter=60, learning_rate_init=5e-3, random_state=0).fit(X, targets)
    prediction = model.predict(X)
    assert prediction.shape == (150, 3)
    assert prediction.dtype == np.float64
    assert min(r2_score(targets[:, :2], prediction[:, :2], multioutput="raw_values")) > 0.95
    assert model.n_outputs_ == 3


def test_form_of_one_output_is_kept(rng):
    X, y = sums(20, rng)
    flat, column = small().fit(X, y), small().fit(X, y[:, None])
    assert flat.predict(X).shape == (20,)
    assert column.predict(X).shape == (20, 1)
    np.testing.assert_array_equal(flat.predict(X), column.predict(X)[:, 0])


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber"])
def test_losses(rng, loss):
    X, y = sums(16, rng)
    model = small(loss=loss, max_iter=1, learning_rate_init=1e-12, dtype="float64").fit(X, y)
    error = np.abs(y - model.predict(X)) / y.std()
    expected = {
        "squared_error": error**2,
        "absolute_error": error,
        "huber": np.where(error <= 1, error**2 / 2, error - 0.5),
    }[loss]
    np.testing.assert_allclose(model.loss_curve_[0], expected.mean(), rtol=1e-6)


def test_absolute_error_finds_the_median():
    X = np.zeros((60, 3))
    y = np.where(np.arange(60) < 40, 1.0, 10.0)
    settings = {"max_iter": 150, "learning_rate_init": 0.02, "tol": 0.0, "random_state": 0}
    np.testing.assert_allclose(RNNRegressor((4,), loss="absolute_error", **settings).fit(X, y).predict(X), 1, atol=0.4)
    np.testing.assert_allclose(RNNRegressor((4,), loss="squared_error", **settings).fit(X, y).predict(X), 4, atol=0.8)


def test_weights_are_repetitions_in_any_order(rng):
    X, y = sums(14, rng)
    weights = rng.integers(0, 4, 14)
    numbers = rng.permutation(np.repeat(np.arange(14), weights))
    weighted = small(max_iter=20).fit(X, y, sample_weight=weights)
    repeated = small(max_iter=20).fit(X[numbers], y[numbers])
    np.testing.assert_array_equal(weighted.predict(X), repeated.predict(X))
    np.testing.assert_allclose(weighted.target_mean_, np.average(y, weights=weights))


def test_ragged_sequences(rng):
    X = [rng.normal(size=(length, 1)) for length in rng.integers(1, 9, size=120)]
    y = np.array([steps.sum() for steps in X])
    model = RNNRegressor((16,), max_iter=60, learning_rate_init=5e-3, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.95
    alone = np.array([model.predict([steps])[0] for steps in X])
    np.testing.assert_array_equal(model.predict(X), alone)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array([0, 1, np.nan, 0, 1, 0]), "Input y contains NaN"),
        (np.array([0, 1, np.inf, 0, 1, 0]), "Input y contains infinity"),
        (np.zeros((6, 3, 2, 2)), r"y should be a 1d array, a 2d array .* got shape \(6, 3, 2, 2\)"),
        (np.zeros((6, 0)), r"Found array with 0 feature\(s\)"),
        (np.array(list("abcdef")), "could not convert string to float"),
        (1e200 * np.arange(6), "too large for their variance"),
        (None, "requires y to be passed, but the target y is None"),
    ],
)
def test_bad_targets(y, message):
    with pytest.raises(ValueError, match=message):
        small().fit(np.zeros((6, 3)), y)


@pytest.mark.parametrize("method", ["predict", "transform", "save"])
def test_unfitted(method):
    with pytest.raises(NotFittedError, match="This RNNRegressor instance is not fitted yet"):
        getattr(RNNRegressor(), method)(np.eye(3))


def test_loss_must_be_known():
    with pytest.raises(ValueError, match="The 'loss' parameter of RNNRegressor must be a str among"):
        small(loss="cross_entropy").fit(np.eye(3), [1, 2, 3])
