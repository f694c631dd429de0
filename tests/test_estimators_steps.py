"""RNNRegressor with a target for every time step: forms of y, what predict returns, weights, scores, errors."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_score

import numrnn
from numrnn import RNNRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def small(**parameters):
    return RNNRegressor((5,), **{"max_iter": 3, "random_state": 0, "n_jobs": 1, **parameters})


@pytest.fixture
def cube(rng):
    """Sequences of six steps, with the running mean of each feature as targets."""
    X = rng.normal(size=(40, 6, 2))
    return X, np.cumsum(X, axis=1) / np.arange(1, 7)[:, None]


@pytest.fixture
def ragged(rng):
    """Sequences of one to seven steps, with the running mean of the first feature as targets."""
    X = [rng.normal(size=(length, 2)) for length in rng.integers(1, 8, size=40)]
    return X, [np.cumsum(steps[:, 0]) / np.arange(1, len(steps) + 1) for steps in X]


def test_running_mean_is_learned(rng):
    X = [rng.normal(size=(length, 1)) for length in rng.integers(1, 12, size=250)]
    y = [100 + 10 * np.cumsum(steps[:, 0]) / np.arange(1, len(steps) + 1) for steps in X]
    model = RNNRegressor((24,), max_iter=60, learning_rate_init=0.01, random_state=0, n_jobs=1).fit(X[:200], y[:200])
    assert model.score(X[200:], y[200:]) > 0.95
    late = np.array([[prediction[-1], target[-1]] for prediction, target in zip(model.predict(X), y, strict=True)])
    assert r2_score(late[200:, 1], late[200:, 0]) > 0.85


def test_predictions_are_the_readout_of_every_hidden_state(ragged):
    X, y = ragged
    model = small(dtype="float64", bidirectional=True).fit(X, y)
    parameters = model._network.parameters
    states = model.transform(X)
    for steps, prediction, hidden in zip(X, model.predict(X), states, strict=True):
        assert hidden.shape == (len(steps), 10)
        expected = hidden @ parameters["weight_out"].T + parameters["bias_out"]
        np.testing.assert_allclose(prediction, (expected * model.target_scale_ + model.target_mean_)[:, 0], rtol=1e-12)


def test_a_later_step_does_not_change_an_earlier_prediction(cube):
    X, y = cube
    model = small().fit(X, y)
    changed = X.copy()
    changed[:, 4:] += 1
    np.testing.assert_array_equal(model.predict(changed)[:, :4], model.predict(X)[:, :4])
    assert not np.array_equal(model.predict(changed)[:, 4:], model.predict(X)[:, 4:])


@pytest.mark.parametrize("outputs", [1, 2])
def test_array_in_array_out_and_list_in_list_out(cube, outputs):
    X, y = cube
    model = small().fit(X, y[:, :, :outputs])
    array, arrays = model.predict(X), model.predict(list(X))
    assert array.shape == (40, 6, outputs)
    assert array.dtype == np.float64
    assert isinstance(arrays, list)
    np.testing.assert_array_equal(np.stack(arrays), array)
    # The form of y does not matter to the model.
    again = small().fit(list(X), list(y[:, :, :outputs]))
    np.testing.assert_array_equal(again.predict(X), array)


def test_numbers_without_an_axis_of_outputs(ragged):
    X, y = ragged
    flat, column = small().fit(X, y), small().fit(X, [values[:, None] for values in y])
    assert [values.shape for values in flat.predict(X)] == [(len(steps),) for steps in X]
    assert [values.shape for values in column.predict(X)] == [(len(steps), 1) for steps in X]
    for one, other in zip(flat.predict(X), column.predict(X), strict=True):
        np.testing.assert_array_equal(one, other[:, 0])
    assert flat.predict(np.zeros((3, 4, 2))).shape == (3, 4)


def test_univariate_matrix(rng):
    X = rng.normal(size=(20, 5))
    y = np.cumsum(X, axis=1)[:, :, None]
    model = small().fit(X, y)
    assert model.predict(X).shape == (20, 5, 1)
    assert model.predict(list(X))[3].shape == (5, 1)


@pytest.mark.parametrize("form", ["list", "tuple", "object array", "series", "nested lists"])
def test_forms_of_ragged_targets(ragged, form):
    X, y = ragged
    given = {
        "list": lambda: y,
        "tuple": lambda: tuple(y),
        "object array": lambda: np.array(y, dtype=object),
        "series": lambda: pd.Series(y),
        "nested lists": lambda: [values.tolist() for values in y],
    }[form]()
    model = small().fit(X, given)
    expected = small().fit(X, y)
    np.testing.assert_array_equal(np.concatenate(model.predict(X)), np.concatenate(expected.predict(X)))
    assert model.score(X, given) == expected.score(X, y)


def test_a_matrix_of_targets_is_several_outputs_even_if_it_is_as_wide_as_the_sequences_are_long(cube):
    X, y = cube
    assert small().fit(X, y[:, :, 0]).predict(X).shape == (40, 6)
    assert small().fit(X, y[:, :, 0]).predict(list(X)).shape == (40, 6)
    assert small().fit(X, y[:, :, 0]).predict(X[:, :3]).shape == (40, 6)
    assert small().fit(X, y[:, :, :1]).predict(X[:, :3]).shape == (40, 3, 1)


def test_statistics_are_those_of_the_steps(ragged):
    X, y = ragged
    weights = np.arange(40) % 3
    model = small().fit(X, y, sample_weight=weights)
    of_steps = np.repeat(weights, [len(steps) for steps in X])
    np.testing.assert_allclose(model.target_mean_, [np.average(np.concatenate(y), weights=of_steps)])


def test_loss_is_the_mean_over_steps(ragged):
    X, y = ragged
    model = small(max_iter=1, learning_rate_init=1e-12, batch_size=40, dtype="float64").fit(X, y)
    errors = (np.concatenate(y) - np.concatenate(model.predict(X))) / np.concatenate(y).std()
    np.testing.assert_allclose(model.loss_curve_, [np.mean(errors**2)], rtol=1e-7)


def test_weights_are_repetitions_in_any_order(ragged, rng):
    X, y = [values[:14] for values in ragged]
    weights = rng.integers(0, 4, 14)
    numbers = rng.permutation(np.repeat(np.arange(14), weights))
    weighted = small(max_iter=8).fit(X, y, sample_weight=weights)
    repeated = small(max_iter=8).fit([X[i] for i in numbers], [y[i] for i in numbers])
    np.testing.assert_array_equal(np.concatenate(weighted.predict(X)), np.concatenate(repeated.predict(X)))


def test_score_is_r2_of_all_steps(ragged, cube):
    X, y = ragged
    weights = np.arange(1, 41)
    model = small().fit(X, y)
    lengths = [len(steps) for steps in X]
    expected = r2_score(np.concatenate(y), np.concatenate(model.predict(X)), sample_weight=np.repeat(weights, lengths))
    np.testing.assert_allclose(model.score(X, y, sample_weight=weights), expected, rtol=1e-12)
    X, y = cube
    model = small().fit(X, y)
    np.testing.assert_allclose(model.score(X, y), r2_score(y.reshape(-1, 2), model.predict(X).reshape(-1, 2)))


def test_early_stopping_judges_the_steps_of_held_out_sequences(ragged):
    X, y = ragged
    model = small(early_stopping=True, validation_fraction=0.25, max_iter=6, learning_rate_init=0.02).fit(X, y)
    assert len(model.validation_scores_) == model.n_iter_
    assert model.best_validation_score_ == max(model.validation_scores_)
    # Among 40 sequences chosen with this seed, the held-out ones are those that scikit-learn's own split sets aside.
    from sklearn.model_selection import train_test_split

    random = np.random.RandomState(0)
    _, held_out = train_test_split(np.arange(40), test_size=0.25, random_state=random)
    score = model.score([X[i] for i in held_out], [y[i] for i in held_out])
    np.testing.assert_allclose(score, model.best_validation_score_, rtol=1e-5)


def test_warm_start_partial_fit_pickle_and_file(ragged, tmp_path):
    X, y = ragged
    model = small(max_iter=2, warm_start=True).fit(X, y).fit(X, y)
    parts = small()
    for _ in range(4):
        parts.partial_fit(X, y)
    expected = np.concatenate(small(max_iter=4).fit(X, y).predict(X))
    np.testing.assert_array_equal(np.concatenate(model.predict(X)), expected)
    np.testing.assert_array_equal(np.concatenate(parts.predict(X)), expected)
    model.save(tmp_path / "m")
    for copy in (pickle.loads(pickle.dumps(model)), numrnn.load(tmp_path / "m")):
        np.testing.assert_array_equal(np.concatenate(copy.predict(X)), expected)
        assert copy.score(X, y) == model.score(X, y)


def test_cross_validation_of_ragged_targets(ragged):
    X, y = ragged
    assert np.isfinite(cross_val_score(small(), X, y, cv=3, error_score="raise")).all()


def test_truncated_windows_reach_every_step(ragged):
    X, y = ragged
    whole = np.concatenate(small(dtype="float64").fit(X, y).predict(X))
    np.testing.assert_array_equal(np.concatenate(small(dtype="float64", bptt_steps=7).fit(X, y).predict(X)), whole)
    assert not np.array_equal(np.concatenate(small(dtype="float64", bptt_steps=2).fit(X, y).predict(X)), whole)


# ---------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.zeros((3, 4, 2)), np.zeros((3, 5, 1)), "y of sample 0 has 5 time steps, X of sample 0 has 4 time steps"),
        (
            [np.zeros((2, 1)), np.zeros((3, 1))],
            [np.zeros(2), np.zeros(1)],
            "y of sample 1 has 1 time step, X of sample 1 has 3 time steps",
        ),
        (np.zeros((3, 4, 2)), [np.zeros(2)] * 3, "one row for each time step of X: y of sample 0 has 2"),
        ([np.zeros(2), np.zeros(3)], [np.zeros(2)], r"inconsistent numbers of samples: \[2, 1\]"),
        (
            [np.zeros(2), np.zeros(3)],
            [np.zeros(2), np.zeros((3, 2))],
            "sequence 1 of y has 2 dimensions, but sequence 0",
        ),
        (
            [np.zeros(2), np.zeros(3)],
            [np.zeros((2, 3)), np.zeros((3, 2))],
            "sequence 1 of y has 2 outputs, but sequence 0 has 3",
        ),
        ([np.zeros(2), np.zeros(3)], [np.zeros(2), np.zeros(0)], "sequence 1 of y has no time step"),
        ([np.zeros(2), np.zeros(3)], [np.zeros(2), np.array([0, np.nan, 0])], "y contains NaN: sample 1, time step 1"),
        ([np.zeros(2), np.zeros(3)], [np.zeros(2), list("abc")], "sequence 1 of y cannot be converted to an array"),
        (np.zeros((3, 4, 2)), np.zeros((3, 4, 0)), r"shape=\(3, 4, 0\) while a minimum of 1 sample, 1 time step"),
        (np.zeros((3, 4, 2)), np.full((3, 4, 2), np.inf), "Input y contains infinity"),
    ],
)
def test_targets_that_do_not_fit(X, y, message):
    with pytest.raises(ValueError, match=message):
        small().fit(X, y)


def test_targets_cannot_change_their_kind(cube):
    X, y = cube
    model = small(warm_start=True).fit(X, y)
    before = model.predict(X)
    for act in (model.fit, model.partial_fit, model.score):
        with pytest.raises(
            ValueError, match="one target for every sequence, but RNNRegressor was first fitted with on"
        ):
            act(X, y[:, 0])
    with pytest.raises(ValueError, match="y has 1 outputs, but RNNRegressor was first fitted with 2"):
        model.fit(X, y[:, :, :1])
    np.testing.assert_array_equal(model.predict(X), before)
    with pytest.raises(ValueError, match="one target for every time step, but"):
        small().fit(X, y[:, 0]).score(X, y)


def test_data_that_cannot_be_used_leaves_a_fitted_model_as_it_was(cube):
    X, y = cube
    model = small().fit(X, y)
    before = model.predict(X)
    for bad_X, bad_y in ((X[:, :, :1], y[:, :4]), (X[:, :, :1], 1e200 * y), (X[0], y)):
        with pytest.raises(ValueError):
            model.fit(bad_X, bad_y)
        assert model.n_features_in_ == 2
        np.testing.assert_array_equal(model.predict(X), before)
