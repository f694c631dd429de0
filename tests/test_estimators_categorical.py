"""Ids in X: which columns, vocabularies, padding, pretrained vectors, errors with their place."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import numrnn
from numrnn import Convolution, RNNClassifier, RNNRegressor
from numrnn.estimators import categorical
from numrnn.packing import Sequences

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def small(**parameters):
    return RNNClassifier((5,), **{"embedding_dim": 3, "max_iter": 3, "random_state": 0, "n_jobs": 1, **parameters})


@pytest.fixture
def tokens(rng):
    """Ragged sequences of ids 0 to 19, and whether the id 7 is among them."""
    X = [rng.integers(0, 20, size=length) for length in rng.integers(1, 12, size=60)]
    return X, np.array([7 in ids for ids in X])


@pytest.fixture
def mixed(rng):
    """An id, a measurement and another id in every step, and targets that depend on all of them."""
    X = [
        np.column_stack([rng.integers(0, 4, n), rng.normal(size=n), rng.integers(0, 3, n)])
        for n in rng.integers(1, 6, size=50)
    ]
    return X, np.array([(steps[:, 0] == 2).sum() + steps[:, 1].sum() - (steps[:, 2] == 1).sum() for steps in X])


def padded(X, padding_id, *, before=0, after=2):
    matrix = np.full((len(X), before + max(map(len, X)) + after), padding_id)
    for row, ids in zip(matrix, X, strict=True):
        row[before : before + len(ids)] = ids
    return matrix


# --------------------------------------------------------------------------------------------------------- learning
def test_the_presence_of_a_token_is_learned(rng):
    X = [rng.integers(0, 30, size=length) for length in rng.integers(3, 15, size=400)]
    y = np.where([7 in ids for ids in X], "yes", "no")
    model = RNNClassifier(
        (16,), embedding_dim=8, pooling="max", learning_rate_init=0.01, max_iter=25, random_state=0, n_jobs=1
    )
    assert model.fit(X[:300], y[:300]).score(X[300:], y[300:]) > 0.97


def test_ids_and_measurements_together_are_learned(rng):
    n = 300
    X = [
        np.column_stack([rng.integers(0, 5, length), rng.normal(size=length)]) for length in rng.integers(2, 6, size=n)
    ]
    worth = np.array([-1.0, 0.5, 2.0, 0.0, -0.5])
    y = np.array([(worth[steps[:, 0].astype(int)] + steps[:, 1]).sum() for steps in X])
    model = RNNRegressor(
        (16,),
        embedding_dim=4,
        categorical_features=[0],
        learning_rate_init=0.01,
        max_iter=60,
        random_state=0,
        n_jobs=1,
    )
    assert model.fit(X[:240], y[:240]).score(X[240:], y[240:]) > 0.95


def test_predictions_are_those_of_the_embedded_sequences(tokens):
    """The same recurrent weights on vectors that were looked up by hand."""
    X, y = tokens
    model = small(dtype="float64").fit(X, y)
    parameters = dict(model._network.parameters.items())
    table = parameters.pop("embedding_0")
    vectors = [table[ids] for ids in X]
    plain = RNNClassifier((5,), max_iter=1, dtype="float64", n_jobs=1).fit(vectors, y)
    for name, values in parameters.items():
        plain._network.parameters[name][...] = values
    np.testing.assert_allclose(model.predict_proba(X), plain.predict_proba(vectors), rtol=1e-12)


def test_order_of_embedded_features(mixed):
    """Vectors in the order of categorical_features, then the measurements."""
    X, y = mixed
    model = RNNRegressor(
        (4,),
        embedding_dim=(2, 3),
        categorical_features=[2, 0],
        max_iter=2,
        dtype="float64",
        random_state=0,
        n_jobs=1,
    ).fit(X, y)
    parameters = dict(model._network.parameters.items())
    of_third, of_first = parameters.pop("embedding_0"), parameters.pop("embedding_1")
    assert of_third.shape == (3, 2)
    assert of_first.shape == (4, 3)
    vectors = [np.column_stack([of_third[x[:, 2].astype(int)], of_first[x[:, 0].astype(int)], x[:, 1]]) for x in X]
    plain = RNNRegressor((4,), max_iter=1, dtype="float64", n_jobs=1).fit(vectors, y)
    for name, values in parameters.items():
        plain._network.parameters[name][...] = values
    plain.target_mean_, plain.target_scale_ = model.target_mean_, model.target_scale_
    np.testing.assert_allclose(model.predict(X), plain.predict(vectors), rtol=1e-12)


# ------------------------------------------------------------------------------------------------------------- forms
@pytest.mark.parametrize("form", ["list", "lists", "int8", "floats", "columns", "object array", "series"])
def test_forms_of_ids(tokens, form):
    X, y = tokens
    given = {
        "list": lambda: X,
        "lists": lambda: [ids.tolist() for ids in X],
        "int8": lambda: [ids.astype(np.int8) for ids in X],
        "floats": lambda: [ids.astype(float) for ids in X],
        "columns": lambda: [ids[:, None] for ids in X],
        "object array": lambda: np.array([*X, None], dtype=object)[:-1],
        "series": lambda: pd.Series(X),
    }[form]()
    expected = small().fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(small().fit(given, y).predict_proba(given), expected)


@pytest.mark.parametrize("padding_id", [0, 20, -1])
@pytest.mark.parametrize("before", [0, 3])
def test_padded_matrix_is_the_ragged_list(tokens, padding_id, before):
    X, y = tokens
    if padding_id == 0:
        X = [ids + 1 for ids in X]
    matrix = padded(X, padding_id, before=before)
    settings = {"vocabulary_size": 21, "padding_id": padding_id}
    model = small(**settings).fit(matrix, y)
    ragged = small(**settings).fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(matrix), ragged.predict_proba(X))
    np.testing.assert_array_equal(model.predict_proba(padded(X, padding_id, after=9)), model.predict_proba(X))
    assert model.n_features_in_ == 1


@pytest.mark.parametrize("steps", [1, 7, 50])
def test_padding_is_found_part_by_part(tokens, monkeypatch, steps):
    sequences = Sequences.from_list([ids[:, None].astype(np.float32) for ids in tokens[0]])
    whole = categorical.without_padding(sequences, (0,), 7)
    monkeypatch.setattr(categorical, "_STEPS_AT_A_TIME", steps)
    parts = categorical.without_padding(sequences, (0,), 7)
    np.testing.assert_array_equal(parts.starts, whole.starts)
    np.testing.assert_array_equal(parts.lengths, whole.lengths)
    for ids, content in zip(tokens[0], whole, strict=True):
        expected = ids[np.flatnonzero(ids != 7)[0] : np.flatnonzero(ids != 7)[-1] + 1] if (ids != 7).any() else [7]
        np.testing.assert_array_equal(content[:, 0], expected)


def test_padding_within_a_sequence_is_an_id():
    X = [np.array([0, 3, 0, 4, 0]), np.array([3, 0, 4])]
    model = small(padding_id=0, max_iter=1).fit(X, [0, 1])
    probabilities = model.predict_proba([X[0], X[1], np.array([3, 4])])
    np.testing.assert_array_equal(probabilities[0], probabilities[1])
    assert not np.array_equal(probabilities[0], probabilities[2])


def test_a_sequence_of_padding_alone_keeps_one_step(tokens):
    X, y = tokens
    model = small(padding_id=0).fit(X, y)
    probabilities = model.predict_proba([np.zeros(5, int), np.zeros(1, int)])
    np.testing.assert_array_equal(probabilities[0], probabilities[1])


def test_padding_of_several_columns_needs_all_of_them():
    X = [np.array([[0, 0, 0.5], [0, 1, 0.5], [1, 1, 0.5], [0, 0, 0.5]]), np.array([[0, 1, 0.5], [1, 1, 0.5]])]
    model = RNNClassifier((3,), embedding_dim=2, categorical_features=[0, 1], padding_id=0, max_iter=1, n_jobs=1)
    probabilities = model.fit(X, [0, 1]).predict_proba(X)
    np.testing.assert_array_equal(probabilities[0], probabilities[1])


def test_names_of_categorical_features(mixed):
    X, y = mixed
    frames = [pd.DataFrame(steps, columns=["color", "size", "kind"]) for steps in X]
    settings = {"embedding_dim": 2, "max_iter": 2, "random_state": 0, "n_jobs": 1}
    named = RNNRegressor((4,), categorical_features=["color", "kind"], **settings).fit(frames, y)
    numbered = RNNRegressor((4,), categorical_features=[0, 2], **settings).fit(X, y)
    np.testing.assert_array_equal(named.predict(frames), numbered.predict(X))
    assert named.feature_names_in_.tolist() == ["color", "size", "kind"]
    with pytest.raises(ValueError, match=r"names 'kind', but X has \['color', 'size', 'sort'\]"):
        clone(named).fit([frame.set_axis(["color", "size", "sort"], axis=1) for frame in frames], y)
    with pytest.raises(ValueError, match="feature names should match"):
        named.predict([frame[["kind", "size", "color"]] for frame in frames])
    with pytest.raises(ValueError, match="were other columns in fit"):
        clone(named).fit(frames, y).set_params(categorical_features=["kind", "color"]).predict(frames)
    with pytest.raises(ValueError, match="sequence 1 of X has other columns than sequence 0"):
        named.predict([frames[0], frames[1][["kind", "size", "color"]]])
    with (
        pytest.warns(UserWarning, match="does not have valid feature names"),
        pytest.raises(ValueError, match="names 'color', but X is no list of DataFrames"),
    ):
        named.predict(X)


def test_ids_are_not_called_unscaled(rng):
    X = [np.column_stack([rng.integers(0, 5000, 8), rng.normal(size=8)]) for _ in range(10)]
    settings = {"embedding_dim": 2, "max_iter": 1, "categorical_features": [0], "n_jobs": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        RNNClassifier((3,), **settings).fit(X, np.arange(10) % 2)
        small(max_iter=1).fit([steps[:, 0] for steps in X], np.arange(10) % 2)
    with pytest.warns(UserWarning, match="feature 1 of X has mean"):
        RNNClassifier((3,), **settings).fit([steps * [1, 1000] for steps in X], np.arange(10) % 2)


# --------------------------------------------------------------------------------------------------------- vocabulary
def test_vocabulary_is_the_largest_id_and_one_or_what_was_said(tokens):
    X, y = tokens
    assert small().fit(X, y)._network.embeddings == ((0, 20, 3),)
    assert small(vocabulary_size=50).fit(X, y)._network.embeddings == ((0, 50, 3),)
    assert small(embedding_weights=np.zeros((30, 3))).fit(X, y)._network.embeddings == ((0, 30, 3),)


def test_pretrained_vectors_are_where_training_starts(tokens, rng):
    X, y = tokens
    weights = rng.normal(size=(25, 3))
    model = small(embedding_weights=weights, learning_rate_init=1e-12, max_iter=1, dtype="float64").fit(X, y)
    np.testing.assert_allclose(model._network.parameters["embedding_0"], weights, atol=1e-9)
    trained = small(embedding_weights=weights, dtype="float64").fit(X, y)._network.parameters["embedding_0"]
    assert not np.allclose(trained[:20], weights[:20], atol=1e-4)
    # What no sequence holds stays.
    np.testing.assert_array_equal(trained[20:], weights[20:])


def test_pretrained_vectors_of_one_of_two_features(mixed, rng):
    X, y = mixed
    weights = rng.normal(size=(4, 2))
    model = RNNRegressor(
        (4,),
        embedding_dim=(2, 3),
        categorical_features=[0, 2],
        embedding_weights=[weights, None],
        learning_rate_init=1e-12,
        max_iter=1,
        dtype="float64",
        n_jobs=1,
    ).fit(X, y)
    np.testing.assert_allclose(model._network.parameters["embedding_0"], weights, atol=1e-9)


def test_warm_start_and_partial_fit_keep_the_vocabulary(tokens):
    X, y = tokens
    twice = small(warm_start=True).fit(X, y).fit(X[:30], y[:30])
    assert twice._network.embeddings == ((0, 20, 3),)
    parts = small().partial_fit(X, y, classes=[False, True])
    before = parts.predict_proba(X)
    for model in (twice, parts):
        with pytest.raises(
            ValueError, match=r"contains 20, outside the vocabulary: sample 1, time step 2, feature 0\."
        ):
            act = model.fit if model is twice else model.partial_fit
            act([np.array([1, 2]), np.array([1, 2, 20])], [False, True])
    np.testing.assert_array_equal(parts.predict_proba(X), before)


# ------------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (20, r"Input X contains 20, outside the vocabulary: sample 2, time step 1, feature 0\. .*20 ids, 0 to 19"),
        (-1, r"Input X contains -1, no id \(a whole number from 0 on\): sample 2, time step 1"),
        (2.5, r"Input X contains 2\.5, no id"),
        (1e30, "Input X contains 1000000015047466219876688855040, outside the vocabulary"),
    ],
)
def test_what_is_no_id_is_located(tokens, ids, message):
    X, y = tokens
    model = small().fit(X, y)
    bad = [np.array([1.0]), np.array([2.0, 3.0]), np.array([0.0, ids])]
    with pytest.raises(ValueError, match=message):
        model.predict(bad)
    # The place is told in terms of what was passed, padding included.
    shifted = padded(bad, 0.0, before=0)
    with pytest.raises(ValueError, match="sample 2, time step 1"):
        model.set_params(padding_id=0).predict(shifted)


def test_ids_of_training_data_must_be_ids_too(tokens):
    X, y = tokens
    with pytest.raises(ValueError, match=r"contains 25, outside the vocabulary: sample 3, .* 20 ids, 0 to 19"):
        small(vocabulary_size=20).fit([*X[:3], np.array([25]), *X[4:]], y)
    with pytest.raises(ValueError, match=r"contains -1, no id \(a whole number from 0 on\): sample 3, time step 0"):
        small().fit([*X[:3], np.array([-1]), *X[4:]], y)
    with pytest.raises(ValueError, match=r"contains 0\.5, no id"):
        small().fit([*X[:3], np.array([0.5]), *X[4:]], y)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        small().fit([*X[:3], np.array([np.nan]), *X[4:]], y)


def test_more_ids_than_float32_can_tell():
    with pytest.raises(ValueError, match="ids up to 16777216, but a vocabulary has at most 16777216 ids"):
        small().fit([np.array([0, 2**24]), np.array([1])], [0, 1])
    with pytest.raises(ValueError, match="a vocabulary has at most 16777216 ids"):
        small(vocabulary_size=2**24 + 1).fit([np.array([0, 2]), np.array([1])], [0, 1])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"embedding_dim": None, "vocabulary_size": 5}, "'vocabulary_size' parameter of RNNClassifier must be None if"),
        ({"embedding_dim": None, "padding_id": 0}, "'padding_id' parameter of RNNClassifier must be None if"),
        (
            {"embedding_dim": None, "categorical_features": [0]},
            "'categorical_features' parameter of RNNClassifier must",
        ),
        (
            {"embedding_dim": None, "embedding_weights": np.zeros((3, 2))},
            r"'embedding_weights' parameter .* must be None if 'embedding_dim' is None.* an array of shape \(3, 2\)",
        ),
        ({"embedding_dim": 0}, "'embedding_dim' parameter of RNNClassifier must be"),
        (
            {"embedding_dim": (2, 3)},
            r"must be one number, or 1 numbers, one for each categorical feature. Got \(2, 3\)",
        ),
        ({"embedding_dim": (2.5,)}, "'embedding_dim' parameter of RNNClassifier must be None, a positive integer or a"),
        ({"vocabulary_size": (20, 20)}, "'vocabulary_size' parameter .* must be one number, or 1 numbers"),
        ({"vocabulary_size": 0}, "'vocabulary_size' parameter of RNNClassifier must be"),
        ({"categorical_features": [1]}, "must hold names or numbers of features, 0 to 0. Got 1 instead"),
        ({"categorical_features": [True]}, "must hold names or numbers of features, 0 to 0. Got True instead"),
        ({"categorical_features": []}, "must name at least one feature"),
        ({"categorical_features": [0, 0]}, "none twice"),
        ({"categorical_features": ["word"]}, "names 'word', but X is no list of DataFrames"),
        ({"embedding_weights": np.zeros((30, 4))}, r"must have the shape \(vocabulary_size, 3\) .* shape \(30, 4\)"),
        ({"embedding_weights": np.zeros((30, 3)), "vocabulary_size": 40}, r"must have the shape \(40, 3\)"),
        ({"embedding_weights": np.zeros(3)}, r"must be of shape \(vocabulary_size, embedding_dim\)"),
        ({"embedding_weights": np.full((30, 3), np.nan)}, "finite numbers"),
        ({"embedding_weights": [np.zeros((30, 3)), None]}, "must be a list of 1 arrays or None"),
        ({"embedding_weights": np.zeros((10, 3))}, "outside the vocabulary"),
        ({"embedding_weights": [["a", "b", "c"]]}, "'embedding_weights' parameter of RNNClassifier must hold numbers"),
        ({"padding_id": 1.5}, "'padding_id' parameter of RNNClassifier must be"),
        ({"padding_id": -1, "vocabulary_size": 30}, None),
    ],
)
def test_parameters_that_do_not_fit(tokens, parameters, message):
    X, y = tokens
    if message is None:
        with pytest.raises(
            ValueError, match="sample 0 of X is nothing but padding, and padding_id=-1 has no embedding"
        ):
            small(**parameters).fit([np.full(3, -1), *X[1:]], y)
        return
    with pytest.raises(ValueError, match=message):
        small(**parameters).fit(X, y)


def test_padding_does_not_go_with_targets_of_time_steps(rng):
    X = rng.integers(0, 5, size=(8, 4))
    model = RNNRegressor((3,), embedding_dim=2, padding_id=0)
    with pytest.raises(ValueError, match="'padding_id' parameter of RNNRegressor must be None with a target for every"):
        model.fit(X, rng.normal(size=(8, 4, 1)))


# ------------------------------------------------------------------------------------------------------------ keeping
@pytest.mark.parametrize("weights", ["none", "array", "list", "nested lists"])
def test_copies_and_files(tokens, tmp_path, weights, rng):
    X, y = tokens
    matrix = rng.normal(size=(25, 3))
    given = {"none": None, "array": matrix, "list": [matrix], "nested lists": matrix.tolist()}[weights]
    model = small(embedding_weights=given, padding_id=0, warm_start=True, n_jobs=1).fit(X, y)
    expected = model.predict_proba(X)
    model.save(tmp_path / "m")
    loaded = numrnn.load(tmp_path / "m")
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), loaded):
        np.testing.assert_array_equal(other.predict_proba(X), expected)
        with pytest.raises(ValueError, match="outside the vocabulary"):
            other.predict([np.array([3, 25])])
        other.fit(X, y)
    np.testing.assert_equal(loaded.get_params(), model.get_params())
    np.testing.assert_array_equal(clone(model).fit(X, y).predict_proba(X), expected)


def test_file_of_mixed_features(mixed, tmp_path):
    X, y = mixed
    model = RNNRegressor(
        (4,), embedding_dim=[2, 3], vocabulary_size=[4, 9], categorical_features=[2, 0], max_iter=2, n_jobs=1
    ).fit(X, y)
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(numrnn.load(tmp_path / "m").predict(X), model.predict(X))


def test_text_in_a_pipeline(rng):
    from numrnn import SequenceEncoder

    good, bad = ["fine", "great", "lovely"], ["awful", "poor", "sad"]
    y = np.arange(40) % 2
    texts = [
        " ".join([*rng.choice(["the", "film", "was"], rng.integers(1, 4)), rng.choice(good if label else bad)])
        for label in y
    ]
    model = make_pipeline(SequenceEncoder(), small(max_iter=30, learning_rate_init=0.02))
    search = GridSearchCV(model, {"sequenceencoder__min_df": [1, 2], "rnnclassifier__embedding_dim": [4]}, cv=2)
    search.fit(texts, y)
    assert search.score(texts, y) > 0.9


def test_threads_do_not_matter(tokens, many_threads):
    X, y = tokens
    one = small(n_jobs=1).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(small(n_jobs=2).fit(X, y).predict_proba(X), one)


# -------------------------------------------------------------------------------------------------- convolutions etc.
def test_convolution_is_reached_through_the_estimator():
    model = RNNClassifier((3,), convolution=Convolution(filters=4))
    assert model.get_params()["convolution__filters"] == 4
    assert clone(model.set_params(convolution__kernel_size=5)).convolution.kernel_size == 5
    several = clone(RNNClassifier(convolution=[Convolution(), Convolution(filters=8)]))
    assert [part.filters for part in several.convolution] == [32, 8]


@pytest.mark.parametrize(
    ("convolution", "error", "message"),
    [
        (Convolution(filters=0), ValueError, "The 'filters' parameter of Convolution must be"),
        (Convolution(kind="3d"), ValueError, "The 'kind' parameter of Convolution must be"),
        (Convolution(channels=2), ValueError, "channels is for kind '2d'"),
        (
            Convolution(kind="2d", channels=4),
            ValueError,
            "multiple of the number of channels, got rows of 2 numbers and",
        ),
        ([Convolution(), "2d"], TypeError, "'convolution' parameter of RNNClassifier must be a numrnn.Convolution"),
        (RNNClassifier(), TypeError, "'convolution' parameter of RNNClassifier must be a numrnn.Convolution"),
    ],
)
def test_convolutions_that_do_not_fit(convolution, error, message):
    with pytest.raises(error, match=message):
        RNNClassifier((3,), convolution=convolution).fit(np.zeros((4, 3, 2)), [0, 1, 0, 1])


def test_pooling_over_time_does_not_go_with_targets_of_time_steps():
    model = RNNRegressor((3,), convolution=[Convolution(pool_size=1), Convolution(pool_size=2)])
    with pytest.raises(ValueError, match="'convolution' parameter of RNNRegressor must have pool_size=1 with a target"):
        model.fit(np.zeros((4, 3, 2)), np.zeros((4, 3, 1)))


@pytest.mark.parametrize(
    "parameters",
    [
        {"convolution": Convolution(filters=4, kernel_size=3)},
        {"convolution": [Convolution(kind="2d", filters=2), Convolution(filters=3, pool_size=1)]},
        {"convolution": Convolution(kind="2d", filters=2, channels=3)},
        {"pooling": "attention"},
        {"residual": True, "hidden_layer_sizes": (4, 4, 4)},
        {"input_dropout": 0.2, "recurrent_dropout": 0.3, "output_dropout": 0.4},
        {"label_smoothing": 0.1},
    ],
)
def test_what_a_network_can_be_told_is_kept_everywhere(rng, tmp_path, parameters):
    X = [rng.normal(size=(length, 6)) for length in rng.integers(1, 9, size=30)]
    y = np.arange(30) % 3
    settings = {"hidden_layer_sizes": (4,), "max_iter": 2, "random_state": 0, "n_jobs": 1, **parameters}
    model = RNNClassifier(**settings).fit(X, y)
    plain = RNNClassifier(**{**settings, **{key: getattr(RNNClassifier(), key) for key in parameters}}).fit(X, y)
    assert not np.array_equal(model.predict_proba(X), plain.predict_proba(X))
    alone = np.concatenate([model.predict_proba([steps]) for steps in X])
    np.testing.assert_array_equal(model.predict_proba(X), alone)
    model.save(tmp_path / "m")
    for other in (pickle.loads(pickle.dumps(model)), numrnn.load(tmp_path / "m")):
        np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))
    form = model._network._form()
    for key in set(parameters) - {"convolution", "hidden_layer_sizes"}:
        assert form[key] == parameters[key]
