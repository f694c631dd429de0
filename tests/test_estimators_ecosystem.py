"""The estimators inside scikit-learn's tools, as copies, in several processes and threads; ragged lists included."""

from __future__ import annotations

import copy
import io
import pickle
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from numrnn import RNNClassifier, RNNRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def ragged(rng):
    """Sequences whose values lie on one side of zero or the other."""
    lengths = rng.integers(2, 8, size=36)
    sign = rng.choice([-1.0, 1.0], 36)
    return [s * rng.uniform(0.5, 1.5, size=(n, 2)) for s, n in zip(sign, lengths, strict=True)], sign


@pytest.fixture
def cube(rng):
    X = rng.normal(size=(36, 6, 2)) + rng.choice([-1.0, 1.0], 36)[:, None, None]
    return X, X.mean(axis=(1, 2)) > 0


def quick(**parameters):
    return RNNClassifier((6,), **{"max_iter": 20, "learning_rate_init": 0.01, "random_state": 0, **parameters})


def in_all_forms(X):
    return {"list": X, "tuple": tuple(X), "object array": np.array(X, dtype=object), "series": pd.Series(X)}


@pytest.mark.parametrize("form", ["list", "object array", "series"])
def test_cross_validation_of_ragged_sequences(ragged, form):
    X, y = ragged
    scores = cross_val_score(quick(), in_all_forms(X)[form], y, cv=3)
    assert scores.shape == (3,)
    assert scores.min() > 0.9
    numbers = cross_val_predict(RNNRegressor((6,), max_iter=5), in_all_forms(X)[form], y, cv=3)
    assert numbers.shape == (36,)


@pytest.mark.parametrize("data", ["ragged", "cube"])
def test_grid_search_in_two_processes(request, data):
    X, y = request.getfixturevalue(data)
    grid = {"hidden_layer_sizes": [(3,), (4, 3)], "cell": ["lstm", "gru"]}
    serial = GridSearchCV(quick(max_iter=5), grid, cv=2).fit(X, y)
    search = GridSearchCV(quick(max_iter=5), grid, cv=2, n_jobs=2).fit(X, y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], serial.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(search.predict_proba(X), serial.predict_proba(X))
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_last_step_of_a_pipeline(ragged, cube):
    X, y = ragged
    pipeline = Pipeline([("scale", "passthrough"), ("network", quick())]).fit(X, y)
    assert pipeline.score(X, y) == 1.0
    assert pipeline.predict_proba(X).shape == (36, 2)

    def scaled(sequences):
        return [StandardScaler().fit_transform(steps) + np.sign(steps.mean()) for steps in sequences]

    pipeline.set_params(scale=FunctionTransformer(scaled))
    assert pipeline.fit(X, y, network__sample_weight=np.ones(36)).score(X, y) == 1.0
    matrix = cube[0][:, :, 0]
    assert make_pipeline(StandardScaler(), quick()).fit(matrix, cube[1]).predict(matrix).shape == (36,)


def test_features_for_another_estimator(ragged):
    X, y = ragged
    pipeline = make_pipeline(quick(), LogisticRegression()).fit(X, y)
    assert pipeline.score(X, y) == 1.0
    frame = quick().set_output(transform="pandas").fit(X, y).transform(X)
    assert list(frame.columns) == [f"rnnclassifier{unit}" for unit in range(6)]


@pytest.mark.parametrize(
    "X",
    [
        pd.DataFrame(np.eye(6), columns=list("abcdef")),
        np.eye(6, dtype=np.float32),
        np.eye(6).tolist(),
    ],
)
def test_forms_of_a_matrix_give_the_same_model(X):
    y = [0, 1, 0, 1, 0, 1]
    expected = quick().fit(np.eye(6), y).predict_proba(np.eye(6))
    model = quick().fit(X, pd.Series(y) if isinstance(X, pd.DataFrame) else y)
    np.testing.assert_array_equal(model.predict_proba(X), expected)
    assert hasattr(model, "feature_names_in_") == isinstance(X, pd.DataFrame)


def test_clone(ragged):
    X, y = ragged
    model = quick(class_weight="balanced").set_params(hidden_layer_sizes=[3, 2]).fit(X, y)
    copied = clone(model)
    assert copied.get_params() == model.get_params()
    assert not hasattr(copied, "classes_")
    np.testing.assert_array_equal(copied.fit(X, y).predict_proba(X), model.predict_proba(X))


def joblib_copy(model):
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


@pytest.mark.parametrize("copied", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy, joblib_copy])
def test_copies_predict_the_same_and_go_on_the_same(ragged, copied):
    X, y = ragged
    model = quick(bidirectional=True, warm_start=True, n_jobs=2, max_iter=3).fit(X, y)
    other = copied(model)
    np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(other.fit(X, y).predict_proba(X), model.fit(X, y).predict_proba(X))
    assert other.loss_curve_ == model.loss_curve_
    assert len(other.loss_curve_) == 6
    # The copy is independent.
    before = model.predict_proba(X)
    other.fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), before)


def test_pickles_are_small(rng):
    X = rng.normal(size=(200, 50))
    model = RNNClassifier((32,), max_iter=1, n_jobs=2, random_state=0).fit(X, X[:, 0] > 0)
    model.predict(X)
    # Weights and the two moments of the solver, each four bytes, the random generator, and little else.
    assert len(pickle.dumps(model)) < 3 * 4 * model.n_parameters_ + 8000


def test_pickle_of_a_model_whose_parameters_were_changed_after_the_fit(ragged):
    X, y = ragged
    model = quick(max_iter=2).fit(X, y)
    expected = model.predict_proba(X)
    model.set_params(hidden_layer_sizes=(99,), cell="gru", dtype="float64")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(X), expected)


def test_unfitted_models_can_be_pickled():
    assert pickle.loads(pickle.dumps(RNNRegressor((3,)))).get_params() == RNNRegressor((3,)).get_params()


def test_concurrent_predictions(rng):
    X = rng.normal(size=(300, 10, 3))
    model = RNNClassifier((16,), max_iter=1, n_jobs=2, random_state=0).fit(X, X[:, 0, 0] > 0)
    expected = model.predict_proba(X)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: model.predict_proba(X), range(12)):
            np.testing.assert_array_equal(result, expected)


def test_concurrent_fits(ragged):
    X, y = ragged
    expected = quick(max_iter=5).fit(X, y).predict_proba(X)
    with ThreadPoolExecutor(3) as pool:
        for model in pool.map(lambda _: quick(max_iter=5, n_jobs=2).fit(X, y), range(6)):
            np.testing.assert_array_equal(model.predict_proba(X), expected)
