"""Transformers applied to time steps: equal to the transformer on stacked rows, in the container of the input."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA, IncrementalPCA
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    PolynomialFeatures,
    QuantileTransformer,
    StandardScaler,
)
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from numrnn import PerStep, RNNClassifier

TRANSFORMERS = [
    StandardScaler(),
    MinMaxScaler(),
    PCA(2),
    QuantileTransformer(n_quantiles=10),
    PolynomialFeatures(2),
    VarianceThreshold(),
    FunctionTransformer(np.sinh, np.arcsinh),
    make_pipeline(StandardScaler(), PCA(1)),
    ColumnTransformer([("scaled", StandardScaler(), [0, 2])], remainder="passthrough"),
]


def ragged(rng, n_features=3, lengths=(4, 1, 7, 2), dtype=np.float64):
    shape = () if n_features is None else (n_features,)
    return [rng.normal(2.0, 3.0, size=(length, *shape)).astype(dtype) for length in lengths]


# ------------------------------------------------------------------------------------------- equals the transformer
@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=lambda transformer: type(transformer).__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_the_transformer_on_all_time_steps(transformer, dtype, rng):
    train, test = ragged(rng, dtype=dtype), ragged(rng, lengths=(3, 1), dtype=dtype)
    inner = clone(transformer).fit(np.concatenate(train))
    per_step = PerStep(transformer).fit(train)
    for sequences in (train, test):
        found = per_step.transform(sequences)
        assert isinstance(found, list)
        for result, sequence in zip(found, sequences, strict=True):
            expected = inner.transform(sequence)
            assert result.dtype == expected.dtype
            assert result.shape == expected.shape
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    for a, b in zip(PerStep(transformer).fit_transform(train), per_step.transform(train), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    if hasattr(inner, "inverse_transform"):
        back = per_step.inverse_transform(per_step.transform(test))
        for result, sequence in zip(back, test, strict=True):
            assert result.shape == sequence.shape
            expected = inner.inverse_transform(inner.transform(sequence))
            np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["array", "nested", "list", "tuple", "objects"])
def test_containers_of_several_features(form, rng):
    cube = rng.normal(size=(5, 4, 3))
    objects = np.empty(5, dtype=object)
    objects[:] = list(cube)
    X = {"array": cube, "nested": cube.tolist(), "list": list(cube), "tuple": tuple(cube), "objects": objects}[form]
    scaler = PerStep(StandardScaler()).fit(X)
    for found, expected in (
        (scaler.transform(X), StandardScaler().fit_transform(cube.reshape(-1, 3)).reshape(cube.shape)),
        (scaler.inverse_transform(scaler.transform(X)), cube),
    ):
        assert type(found) is (np.ndarray if form in ("array", "nested") else list)
        np.testing.assert_allclose(np.array(found), expected, atol=1e-12)


@pytest.mark.parametrize("form", ["array", "nested", "frame", "list"])
def test_containers_of_univariate_sequences(form, rng):
    matrix = rng.normal(3.0, 2.0, size=(6, 5))
    X = {"array": matrix, "nested": matrix.tolist(), "frame": pd.DataFrame(matrix), "list": list(matrix)}[form]
    scaler = PerStep(MinMaxScaler()).fit(X)
    found = scaler.transform(X)
    assert type(found) is (list if form == "list" else np.ndarray)
    expected = (matrix - matrix.min()) / (matrix.max() - matrix.min())  # one feature: all numbers are of one scale
    np.testing.assert_allclose(np.array(found), expected, atol=1e-12)
    np.testing.assert_allclose(np.array(scaler.inverse_transform(found)), matrix, atol=1e-12)
    several = PerStep(PolynomialFeatures(2, include_bias=False)).fit_transform(X)
    np.testing.assert_allclose(np.array(several), np.stack([matrix, matrix**2], axis=2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_types(dtype, rng):
    X = rng.integers(0, 9, size=(3, 4, 2)).astype(dtype)
    expected = np.float32 if dtype == np.float32 else np.float64
    assert PerStep(StandardScaler()).fit_transform(X).dtype == expected
    assert all(part.dtype == expected for part in PerStep(StandardScaler()).fit_transform(list(X)))
    mixed = [X[0].astype(np.float32), X[1].astype(np.float64)]
    assert PerStep(StandardScaler()).fit_transform(mixed)[0].dtype == np.float64


def test_neither_the_input_nor_the_given_transformer_is_changed(rng):
    X = ragged(rng)
    before = [part.copy() for part in X]
    inner = StandardScaler()
    result = PerStep(inner).fit_transform(X)
    result[0][:] = 0
    assert not hasattr(inner, "mean_")
    for part, copy in zip(X, before, strict=True):
        np.testing.assert_array_equal(part, copy)


def test_sparse_and_integer_results_become_dense_floats(rng):
    X = [np.array([[0], [2]]), np.array([[1]])]
    found = PerStep(OneHotEncoder()).fit_transform(X)
    np.testing.assert_array_equal(found[0], [[1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(found[1], [[0, 1, 0]])
    counts = PerStep(FunctionTransformer(lambda rows: rows.astype(int))).fit_transform(ragged(rng))
    assert counts[0].dtype == np.float64


def test_data_frames_from_the_transformer_are_no_trouble(rng):
    X = ragged(rng)
    with config_context(transform_output="pandas"):
        found = PerStep(StandardScaler()).fit_transform(X)
    np.testing.assert_allclose(found[2], StandardScaler().fit(np.concatenate(X)).transform(X[2]))


def test_missing_values_reach_those_who_fill_them():
    X = [np.array([[1.0, np.nan], [3.0, 4.0]]), np.array([[np.nan, 8.0]])]
    filled = PerStep(SimpleImputer()).fit_transform(X)
    np.testing.assert_array_equal(filled[0], [[1, 6], [3, 4]])
    np.testing.assert_array_equal(filled[1], [[2, 8]])
    with pytest.raises(ValueError, match="NaN: sample 0, time step 0, feature 1"):
        PerStep(PCA(1)).fit(X)
    X[1][0, 0] = np.inf
    with pytest.raises(ValueError, match=r"infinity .*: sample 1, time step 0, feature 0"):
        PerStep(SimpleImputer()).fit(X)


def test_targets_reach_those_who_need_them(rng):
    y = rng.integers(0, 2, size=30)
    X = [
        rng.normal(size=(length, 3)) + np.array([0, 5 * label, 0])
        for length, label in zip(rng.integers(1, 5, 30), y, strict=True)
    ]
    selector = PerStep(SelectKBest(k=1)).fit(X, y)
    assert selector.get_feature_names_out(["a", "b", "c"]).tolist() == ["b"]
    np.testing.assert_array_equal(selector.transform(X)[4], X[4][:, 1:2])
    back = selector.inverse_transform(selector.transform(X))
    np.testing.assert_array_equal(back[4], X[4] * [0, 1, 0])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        PerStep(SelectKBest(k=1)).fit(X, y[:-1])
    with pytest.raises(ValueError, match="requires y to be passed"):
        PerStep(SelectKBest(k=1)).fit(X)


def test_targets_of_time_steps(rng):
    y = [rng.choice(["b", "a"], size=length) for length in (4, 1, 7, 2)]
    X = [rng.normal(size=(len(labels), 3)) + 5 * (labels == "a")[:, None] * np.array([0, 0, 1]) for labels in y]
    assert PerStep(SelectKBest(k=1)).fit(X, y).get_feature_names_out().tolist() == ["x2"]
    with pytest.raises(ValueError, match="sequence 2 has 7 time steps in X, but 6 targets in y"):
        PerStep(SelectKBest(k=1)).fit(X, [*y[:2], y[2][1:], y[3]])
    values = rng.normal(size=(6, 5, 1))
    cube = np.concatenate([rng.normal(size=(6, 5, 2)), values], axis=2)
    best = PerStep(PLSRegression(1)).fit(cube, values)
    assert np.argmax(np.abs(best.transformer_.x_weights_[:, 0])) == 2
    with pytest.raises(ValueError, match=r"targets of 5 time steps for every sequence, but .* have 4 to 4 time steps"):
        PerStep(PLSRegression(1)).fit(cube[:, 1:], values)


# ---------------------------------------------------------------------------------------------------- fit in parts
def test_partial_fit(rng):
    parts = [ragged(rng), ragged(rng, lengths=(9, 3))]
    whole = PerStep(StandardScaler()).fit([*parts[0], *parts[1]])
    scaler = PerStep(StandardScaler())
    for part in parts:
        assert scaler.partial_fit(part) is scaler
    np.testing.assert_allclose(scaler.transformer_.mean_, whole.transformer_.mean_)
    np.testing.assert_allclose(scaler.transform(parts[1])[0], whole.transform(parts[1])[0])
    with pytest.raises(ValueError, match="X has 2 features, but PerStep is expecting 3 features"):
        scaler.partial_fit(ragged(rng, n_features=2))
    scaler.fit(parts[0])  # from the beginning
    np.testing.assert_allclose(scaler.transformer_.mean_, np.concatenate(parts[0]).mean(axis=0))
    assert PerStep(IncrementalPCA(2)).partial_fit(parts[0]).transform(parts[0])[0].shape == (4, 2)


def test_methods_are_those_of_the_transformer():
    assert hasattr(PerStep(StandardScaler()), "partial_fit")
    assert hasattr(PerStep(StandardScaler()), "inverse_transform")
    assert not hasattr(PerStep(PCA()), "partial_fit")
    assert not hasattr(PerStep(PolynomialFeatures()), "inverse_transform")


# ----------------------------------------------------------------------------------------------------------- names
def test_feature_names(rng):
    cube = rng.normal(size=(5, 4, 2))
    polynomial = PerStep(PolynomialFeatures(2, include_bias=False)).fit(cube)
    assert polynomial.get_feature_names_out().tolist() == ["x0", "x1", "x0^2", "x0 x1", "x1^2"]
    assert polynomial.get_feature_names_out(["a", "b"]).tolist() == ["a", "b", "a^2", "a b", "b^2"]
    frame = pd.DataFrame(cube[:, :, 0], columns=list("wxyz"))
    assert PerStep(StandardScaler()).fit(frame).get_feature_names_out().tolist() == list("wxyz")
    steps = PerStep(StandardScaler()).fit([frame, frame[:2]])
    assert steps.get_feature_names_out().tolist() == list("wxyz")
    with pytest.raises(ValueError, match="input_features is not equal to feature_names_in_"):
        steps.get_feature_names_out(list("abcd"))
    assert PerStep(PolynomialFeatures(2)).fit(frame).get_feature_names_out().tolist() == ["1", "x0", "x0^2"]
    with pytest.raises(ValueError, match="input_features"):
        PerStep(StandardScaler()).fit(frame).get_feature_names_out(["a"])


# ------------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([np.ones((2, 3)), np.ones((2, 2))], "sequence 1 of X has 2 features, but sequence 0 has 3"),
        ([np.ones((2, 3)), np.ones((0, 3))], "sequence 1 of X has no time step"),
        ([np.ones((2, 3)), np.ones(3)], "sequence 1 of X has 1 dimensions, but sequence 0 has 2"),
        ([np.ones((2, 3)), "text"], "sequence 1 of X cannot be converted"),
        ([], "0 sequences"),
        (np.ones((2, 2, 2, 2)), "X has 4 dimensions, but PerStep expects sequences"),
    ],
)
def test_bad_sequences(X, message, rng):
    scaler = PerStep(StandardScaler()).fit(ragged(rng))
    for method in (scaler.transform, scaler.inverse_transform, scaler.fit):
        with pytest.raises(ValueError, match=message):
            method(X)


def test_bad_numbers_of_features(rng):
    scaler = PerStep(PCA(2)).fit(ragged(rng))
    with pytest.raises(ValueError, match="X has 2 features, but PerStep is expecting 3 features"):
        scaler.transform(ragged(rng, n_features=2))
    with pytest.raises(ValueError, match="X has 3 features, but PerStep makes time steps of 2 features"):
        scaler.inverse_transform(ragged(rng))


class DropsTheLast(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return X[: max(len(X) - 1, 1)]


def test_a_transformer_must_keep_the_time_steps(rng):
    with pytest.raises(ValueError, match=r"DropsTheLast returned an array of shape \(13, 3\) for 14 time steps"):
        PerStep(DropsTheLast()).fit_transform(ragged(rng))


@pytest.mark.parametrize("transformer", [None, "scale", RNNClassifier, object()], ids=repr)
def test_bad_transformers(transformer, rng):
    with pytest.raises((ValueError, TypeError, AttributeError)):
        PerStep(transformer).fit(ragged(rng))


def test_not_fitted(rng):
    for method in ("transform", "inverse_transform"):
        with pytest.raises(NotFittedError):
            getattr(PerStep(StandardScaler()), method)(ragged(rng))


# ---------------------------------------------------------------------------------------------- within scikit-learn
@parametrize_with_checks([PerStep(StandardScaler()), PerStep(PCA(1))])
@pytest.mark.filterwarnings("ignore")
def test_check_estimator(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "check",
    [
        "check_param_validation",
        "check_dataframe_column_names_consistency",
        "check_transformer_get_feature_names_out",
        "check_transformer_get_feature_names_out_pandas",
        "check_inplace_ensure_writeable",
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_checks_of_scikit_learn_itself(check):
    if not hasattr(estimator_checks, check):
        pytest.skip(f"this version of scikit-learn has no {check}")
    getattr(estimator_checks, check)("PerStep", PerStep(StandardScaler()))


def test_parameters_of_the_transformer_are_reached(rng):
    scaler = PerStep(StandardScaler()).set_params(transformer__with_mean=False)
    assert scaler.get_params()["transformer__with_mean"] is False
    X = ragged(rng)
    np.testing.assert_allclose(clone(scaler).fit_transform(X)[0], X[0] / np.concatenate(X).std(axis=0))
    again = pickle.loads(pickle.dumps(scaler.fit(X)))
    np.testing.assert_array_equal(again.transform(X)[1], scaler.transform(X)[1])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_in_a_pipeline_with_an_estimator(rng):
    y = rng.integers(0, 2, size=24)
    X = [
        np.cumsum(rng.normal(200 * label - 100, 50, size=(length, 2)), axis=0)
        for length, label in zip(rng.integers(3, 9, 24), y, strict=True)
    ]
    model = make_pipeline(
        PerStep(StandardScaler()), RNNClassifier((4,), max_iter=40, learning_rate_init=0.05, random_state=0, n_jobs=1)
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The inputs are not scaled")
        assert model.fit(X, y).score(X, y) > 0.9
    grid = {"perstep__transformer__with_mean": [True, False], "rnnclassifier__max_iter": [1]}
    search = GridSearchCV(model, grid, cv=2).fit(X, y)
    assert len(search.cv_results_["params"]) == 2
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
