"""What users pass as X, y and sample_weight: conversion without needless copies, and the errors."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from numrnn import RNNClassifier, RNNRegressor
from numrnn.estimators.targets import Targets
from numrnn.estimators.validation import check_sample_weight, merge_equal_samples, to_sequences, warn_if_unscaled
from numrnn.packing import Sequences

F32, F64 = np.dtype("float32"), np.dtype("float64")


def convert(X, dtype=F64, fitted_on=None):
    """Sequences of X as an estimator would see them, as a new one or as one that was fitted on something else."""
    model = RNNClassifier()
    if fitted_on is not None:
        to_sequences(model, fitted_on, dtype, reset=True)
    return to_sequences(model, X, dtype, reset=fitted_on is None), model


# ------------------------------------------------------------------------------------------------------ conversion
@pytest.mark.parametrize("dtype", [F32, F64])
def test_three_dimensional_array_is_not_copied(rng, dtype):
    X = rng.normal(size=(4, 5, 3)).astype(dtype)
    sequences, model = convert(X, dtype)
    assert np.shares_memory(sequences.values, X)
    assert sequences.lengths.tolist() == [5] * 4
    assert model.n_features_in_ == 3
    for steps, expected in zip(sequences, X, strict=True):
        np.testing.assert_array_equal(steps, expected)


def test_matrix_is_univariate_and_not_copied(rng):
    X = rng.normal(size=(4, 5))
    sequences, model = convert(X)
    assert np.shares_memory(sequences.values, X)
    assert model.n_features_in_ == 5
    assert sequences.values.shape == (20, 1)
    np.testing.assert_array_equal(next(iter(sequences))[:, 0], X[0])


@pytest.mark.parametrize("layout", ["fortran", "transposed", "other dtype", "integers", "nested lists", "objects"])
def test_other_layouts_have_the_same_values(rng, layout):
    X = rng.integers(-9, 9, size=(4, 5, 3)).astype(float)
    given = {
        "fortran": np.asfortranarray(X),
        "transposed": np.ascontiguousarray(X.transpose(2, 1, 0)).transpose(2, 1, 0),
        "other dtype": X.astype(np.float32),
        "integers": X.astype(np.int16),
        "nested lists": X.tolist(),
        "objects": X.astype(object),
    }[layout]
    sequences, model = convert(given)
    assert model.n_features_in_ == 3
    assert sequences.values.dtype == F64
    np.testing.assert_array_equal(sequences.values, X.reshape(20, 3))


@pytest.mark.parametrize("container", ["list", "tuple", "object array", "series", "nested lists", "data frames"])
def test_ragged_sequences(rng, container):
    arrays = [rng.normal(size=(length, 2)) for length in (3, 1, 4)]
    given = {
        "list": lambda: arrays,
        "tuple": lambda: tuple(arrays),
        "object array": lambda: np.array(arrays, dtype=object),
        "series": lambda: pd.Series(arrays),
        "nested lists": lambda: [array.tolist() for array in arrays],
        "data frames": lambda: [pd.DataFrame(array) for array in arrays],
    }[container]()
    sequences, model = convert(given)
    assert sequences.lengths.tolist() == [3, 1, 4]
    assert model.n_features_in_ == 2
    np.testing.assert_array_equal(sequences.values, np.concatenate(arrays))


def test_ragged_univariate_sequences(rng):
    arrays = [rng.normal(size=length) for length in (3, 1, 4)]
    for given in (arrays, [array.tolist() for array in arrays]):
        sequences, model = convert(given)
        assert model.n_features_in_ == 1
        np.testing.assert_array_equal(sequences.values[:, 0], np.concatenate(arrays))


def test_list_of_equally_long_arrays_is_a_list_of_sequences(rng):
    """Whether lengths happen to be equal, as in a small fold of a cross-validation, must not change the meaning."""
    _, model = convert([np.zeros(3), np.ones(3)])
    assert model.n_features_in_ == 1
    sequences, _ = convert([np.zeros(5)], fitted_on=[np.zeros(3), np.ones(3)])
    assert sequences.lengths.tolist() == [5]


def test_lengths_may_differ_from_those_of_fit(rng):
    cube = rng.normal(size=(2, 4, 3))
    for X in (rng.normal(size=(3, 9, 3)), [np.zeros((2, 3)), np.zeros((7, 3))]):
        assert len(convert(X, fitted_on=cube)[0]) == len(X)


def test_univariate_forms_can_be_mixed_where_that_is_unambiguous(rng):
    ragged = [np.zeros(3), np.zeros(4)]
    assert convert(np.zeros((2, 7)), fitted_on=ragged)[0].lengths.tolist() == [7, 7]
    assert convert(np.zeros((2, 7, 1)), fitted_on=np.zeros((2, 5)))[0].lengths.tolist() == [7, 7]


def test_feature_names():
    frame = pd.DataFrame(np.zeros((3, 2)), columns=["a", "b"])
    _, model = convert(frame)
    assert model.feature_names_in_.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="feature names should match"):
        to_sequences(model, frame[["b", "a"]], F64, reset=False)
    to_sequences(model, np.zeros((3, 2, 4)), F64, reset=True)
    assert not hasattr(model, "feature_names_in_")


def test_feature_names_of_time_steps():
    frames = [pd.DataFrame(np.zeros((n, 2)), columns=["a", "b"]) for n in (3, 1)]
    _, model = convert(frames)
    assert model.feature_names_in_.tolist() == ["a", "b"]
    assert model.n_features_in_ == 2
    with pytest.raises(ValueError, match="feature names should match"):
        to_sequences(model, [frame[["b", "a"]] for frame in frames], F64, reset=False)
    with pytest.raises(ValueError, match="sequence 1 of X has other columns than sequence 0"):
        convert([frames[0], frames[1][["b", "a"]]])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        to_sequences(model, [frame.to_numpy() for frame in frames], F64, reset=False)
    to_sequences(model, [frame.to_numpy() for frame in frames], F64, reset=True)
    assert not hasattr(model, "feature_names_in_")


# ---------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros(3), "Expected 2D array, got 1D array instead"),
        (np.float64(3.0), "Expected 2D array, got scalar array instead"),
        (np.zeros((2, 3, 4, 5)), r"X has 4 dimensions, but RNNClassifier expects sequences"),
        (np.zeros((0, 3)), r"Found array with 0 sample\(s\)"),
        (np.zeros((0, 3, 2)), r"Found array with 0 sample\(s\)"),
        (np.zeros((3, 0)), r"Found array with 0 feature\(s\)"),
        (np.zeros((3, 0, 2)), r"shape=\(3, 0, 2\) while a minimum of 1 sample, 1 time step and 1 feature"),
        (np.zeros((3, 2, 0)), r"shape=\(3, 2, 0\) while a minimum of 1 sample, 1 time step and 1 feature"),
        ([], "Found list with 0 sequences"),
        ([np.zeros((2, 1)), np.zeros((0, 1))], "sequence 1 of X has no time step"),
        ([np.zeros((2, 3)), np.zeros((2, 2))], "sequence 1 of X has 2 features, but sequence 0 has 3"),
        ([np.zeros((2, 3)), np.zeros(3)], "sequence 1 of X has 1 dimensions, but sequence 0 has 2"),
        ([np.zeros((2, 3, 1)), np.zeros((3, 3, 1))], "sequence 0 of X has 3 dimensions, expected"),
        ([np.zeros((2, 0)), np.zeros((3, 0))], "the sequences of X have 0 features"),
        ([np.zeros(2), np.array(["a", "b"])], "sequence 1 of X cannot be converted to an array of numbers"),
        ([np.zeros(2), np.zeros(3, dtype=complex)], "Complex data not supported"),
        (np.zeros((2, 2), dtype=complex), "Complex data not supported"),
        (np.array([["a", "b"]]), "could not convert string to float"),
        (["good film", "bad film"], "X holds texts, but RNNClassifier expects .* numrnn.SequenceEncoder makes"),
        (np.array(["good", "bad"], dtype=object), "X holds texts, but RNNClassifier expects sequences of numbers"),
        ([["a", "b"], ["c"]], "sequence 0 of X cannot be converted .* numrnn.SequenceEncoder makes sequences of ids"),
        ([pd.DataFrame({"a": ["b"]})], r"sequence 0 of X cannot be converted(?!.*SequenceEncoder)"),
    ],
)
def test_bad_arrays(X, message):
    with pytest.raises(ValueError, match=message):
        convert(X)


def test_sparse_data():
    matrix = sparse.csr_array(np.eye(3))
    for X in (matrix, [matrix, matrix]):
        with pytest.raises(TypeError, match="Sparse data was passed"):
            convert(X)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_located(rng, value):
    ragged = [rng.normal(size=(length, 2)) for length in (3, 1, 4)]
    ragged[2][1, 1] = value
    cube = np.zeros((3, 4, 2))
    cube[2, 1, 1] = value
    what = "NaN" if np.isnan(value) else "infinity"
    for X in (ragged, cube):
        with pytest.raises(ValueError, match=rf"Input X contains {what}.*: sample 2, time step 1, feature 1\."):
            convert(X)
    with pytest.raises(ValueError, match=rf"contains {what}.*: sample 2, time step 1, feature 0"):
        convert(cube[:, :, 1])


def test_too_large_for_float32():
    with (
        warnings.catch_warnings(),
        pytest.raises(ValueError, match=r"too large for dtype\('float32'\): sample 0, time step 1"),
    ):
        warnings.simplefilter("error")
        convert(np.array([[0.0, 1e300]]), F32)


def test_large_finite_values_are_accepted():
    X = np.full((4, 3), np.finfo(np.float32).max, dtype=np.float32)
    assert convert(X, F32)[0].n_steps == 12


@pytest.mark.parametrize(
    ("fitted_on", "X", "message"),
    [
        (np.zeros((2, 5)), np.zeros((2, 4)), "X has 4 features, but RNNClassifier is expecting 5 features as input"),
        (np.zeros((2, 5)), np.zeros((2, 5, 2)), "X has 2 features, but RNNClassifier is expecting 1 features as input"),
        (np.zeros((2, 5, 3)), np.zeros((2, 5, 2)), "X has 2 features, but RNNClassifier is expecting 3 features"),
        (
            np.zeros((2, 5, 3)),
            np.zeros((2, 5)),
            r"expecting 3 features as input \(shape=\(2, 5\) is read as univariate",
        ),
        (
            np.zeros((2, 5, 3)),
            [np.zeros((2, 4)), np.zeros((3, 4))],
            "X has 4 features, but RNNClassifier is expecting 3",
        ),
    ],
)
def test_other_number_of_features_than_in_fit(fitted_on, X, message):
    with pytest.raises(ValueError, match=message):
        convert(X, fitted_on=fitted_on)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(2), r"sample_weight.shape == \(2,\), expected \(3,\)"),
        (np.ones((3, 1)), r"sample_weight.shape == \(3, 1\), expected \(3,\)"),
        ([1.0, -1.0, 1.0], "Negative values in data passed to `sample_weight`: the smallest is -1"),
        ([0.0, 0.0, 0.0], "Sample weights must contain at least one non-zero number"),
        ([1.0, np.nan, 1.0], "Input sample_weight contains NaN"),
        (0.0, "all of them are zero"),
        ([1.0, 1e-310, 1.0], "numbers as small as 1e-310; .*multiply all of them by one number"),
        (1e308, r"numbers as large as 1e\+308; .*multiply all of them by one number"),
    ],
)
def test_bad_sample_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        check_sample_weight(weights, 3)


def test_sample_weights():
    assert check_sample_weight(None, 3) is None
    np.testing.assert_array_equal(check_sample_weight(2, 3), [2.0, 2.0, 2.0])
    np.testing.assert_array_equal(check_sample_weight([0.0, 1e-307, 1e300], 3), [0.0, 1e-307, 1e300])
    np.testing.assert_array_equal(check_sample_weight(pd.Series([1, 0, 2]), 3), [1.0, 0.0, 2.0])


@pytest.mark.parametrize("estimator", [RNNClassifier(), RNNRegressor()])
def test_numbers_of_samples_must_agree(estimator):
    X = [np.zeros((2, 1)), np.zeros((3, 1)), np.zeros((1, 1))]
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[3, 2\]"):
        estimator.fit(X, [0, 1])


# ------------------------------------------------------------------------------------------------- canonical order
def test_merging_depends_neither_on_order_nor_on_repetition(rng):
    base = [rng.normal(size=(length, 2)) for length in (3, 1, 4, 3)]
    y = np.array([1, 0, 1, 0])
    weights = np.array([2.0, 1.0, 3.0, 1.0])
    once = merge_equal_samples(Sequences.from_list(base), Targets.of_samples(y), weights, limit=4)
    numbers = rng.permutation(np.repeat(np.arange(4), [2, 1, 3, 1]))
    again = Sequences.from_list([base[i] for i in numbers])
    repeated = merge_equal_samples(again, Targets.of_samples(y[numbers]), None, limit=4)
    assert once is not None and repeated is not None
    for a, b in zip(once[0], repeated[0], strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(once[1].rows(), repeated[1].rows())
    np.testing.assert_array_equal(once[2], repeated[2])
    assert once[2].sum() == 7


def test_samples_with_different_targets_or_lengths_stay_apart():
    zeros = [np.zeros((2, 1)), np.zeros((2, 1)), np.zeros((1, 1))]
    merged = merge_equal_samples(Sequences.from_list(zeros), Targets.of_samples(np.array([0, 1, 0])), None, limit=9)
    assert merged is not None
    assert len(merged[0]) == 3
    steps = Targets(Sequences.from_list([np.zeros((2, 1)), np.array([[0.0], [1.0]]), np.zeros((1, 1))]), True)
    merged = merge_equal_samples(Sequences.from_list(zeros), steps, None, limit=9)
    assert merged is not None
    assert len(merged[0]) == 3


def test_more_distinct_samples_than_the_limit():
    sequences = Sequences.from_padded(np.arange(4.0).reshape(4, 1, 1))
    assert merge_equal_samples(sequences, Targets.of_samples(np.zeros(4)), None, limit=3) is None


# ----------------------------------------------------------------------------------------------------------- scale
@pytest.mark.parametrize(
    ("feature", "mean"),
    [
        (lambda rng: rng.normal(size=400) * 50, ""),
        (lambda rng: rng.normal(size=400) * 1e-4, ""),
        (lambda rng: 1013 + rng.normal(size=400), "1013 and"),
        (lambda rng: 1.0 + 0.005 * rng.normal(size=400), "(1|1.00[0-9]*|0.999[0-9]*) and"),
    ],
)
def test_unscaled_feature_is_named(rng, feature, mean):
    values = np.column_stack([rng.normal(size=400), feature(rng), rng.normal(size=400)])
    sequences, model = convert(values.reshape(20, 20, 3))
    with pytest.warns(UserWarning, match=rf"feature 1 of X has mean {mean}.*StandardScaler"):
        warn_if_unscaled(model, sequences)


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(1).normal(size=(30, 9)),
        3 * np.random.default_rng(1).uniform(size=(30, 9)),
        np.random.default_rng(1).integers(0, 2, size=(30, 9)),
        (np.arange(3000) % 1000 == 0).reshape(30, 100),
        np.zeros((30, 9)),
        np.ones((30, 9)),
    ],
)
def test_scaled_features_are_not_complained_of(values):
    sequences, model = convert(values)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_unscaled(model, sequences)


def test_fit_warns_of_unscaled_input(rng):
    X = 200 + rng.normal(size=(12, 4))
    model = RNNRegressor((3,), max_iter=1, random_state=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, rng.normal(size=12))
        model.predict(X)
    assert (
        sum(re.search(r"not scaled: the values of X have mean (199|200)", str(w.message)) is not None for w in caught)
        == 1
    )
