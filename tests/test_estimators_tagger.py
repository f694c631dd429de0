"""RNNTagger: words, ids and measurements, labels, probabilities, the random field, unknown words, errors, keeping."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise, product

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split

import numrnn
from numrnn import RNNClassifier, RNNTagger
from numrnn.estimators import base

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

WORDS = {
    "DET": ["the", "a", "every"],
    "NOUN": ["dog", "cat", "house", "garden", "tree"],
    "VERB": ["sees", "likes", "finds", "takes"],
    "PROPN": ["Anna", "Berlin", "Otto"],
    "NUM": ["1984", "12", "7"],
}
PATTERNS = [["DET", "NOUN", "VERB", "PROPN"], ["PROPN", "VERB", "DET", "NOUN"], ["NUM", "NOUN", "VERB"], ["PROPN"]]


def sentences(n, seed=0):
    """Sentences of a few words and what kinds of words they are."""
    rng = np.random.default_rng(seed)
    y = [PATTERNS[k] for k in rng.integers(0, len(PATTERNS), n)]
    return [[str(rng.choice(WORDS[tag])) for tag in tags] for tags in y], y


def small(**parameters):
    settings = {"bidirectional": True, "embedding_dim": 6, "word_feature_dim": 3, "learning_rate_init": 0.02}
    return RNNTagger((6,), **{**settings, "max_iter": 4, "random_state": 0, "n_jobs": 1, **parameters})


@pytest.fixture
def vectors(rng):
    """Ragged measurements, and whether the sum so far is positive."""
    X = [rng.normal(size=(length, 2)) for length in rng.integers(1, 8, size=40)]
    return X, [np.where(np.cumsum(steps[:, 0]) > 0, "up", "down") for steps in X]


def together(arrays):
    return np.concatenate([np.asarray(array) for array in arrays])


# ------------------------------------------------------------------------------------------------------------ learning
@pytest.mark.parametrize("output", ["softmax", "crf"])
def test_kinds_of_words_are_learned(output):
    X, y = sentences(120)
    model = small(output=output, max_iter=12).fit(X, y)
    X_test, y_test = sentences(60, seed=1)
    assert model.score(X_test, y_test) > 0.99
    assert together(model.predict([["the", "cat", "likes", "Otto"]])).tolist() == ["DET", "NOUN", "VERB", "PROPN"]


def test_letters_tell_the_kind_of_a_word_that_was_never_seen():
    rng = np.random.default_rng(0)
    stems = ["".join(rng.choice(list("bdfgklmnprstaeiou"), 5)) for _ in range(200)]
    X = [[stem + "ing" if k else stem + "ness"] for stem, k in zip(stems, rng.integers(0, 2, 200), strict=True)]
    y = [["VERB" if words[0].endswith("ing") else "NOUN"] for words in X]
    model = small(max_iter=12).fit(X[:150], y[:150])
    assert not set(model.vocabulary_) & {words[0] for words in X[150:]}
    assert model.score(X[150:], y[150:]) > 0.97
    without = small(max_iter=12, word_features=False).fit(X[:150], y[:150])
    assert without.score(X[150:], y[150:]) < 0.8


def test_running_sums_are_learned(rng):
    X = [rng.normal(size=(length, 1)) for length in rng.integers(1, 12, size=200)]
    y = [(np.cumsum(steps[:, 0]) > 0).astype(int) for steps in X]
    model = RNNTagger((16,), learning_rate_init=0.02, max_iter=30, random_state=0, n_jobs=1).fit(X[:150], y[:150])
    assert model.score(X[150:], y[150:]) > 0.9


def test_ids_with_an_embedding_are_learned(rng):
    X = [rng.integers(0, 12, size=length) for length in rng.integers(1, 9, size=150)]
    y = [ids % 3 for ids in X]
    model = RNNTagger((8,), embedding_dim=6, learning_rate_init=0.02, max_iter=15, random_state=0, n_jobs=1).fit(X, y)
    assert model.score(X, y) > 0.99
    with pytest.raises(ValueError, match=r"contains 12, outside the vocabulary: sample 1, time step 1, feature 0"):
        model.predict([np.array([1]), np.array([1, 12])])


# --------------------------------------------------------------------------------------------------------------- forms
def test_predictions_have_the_lengths_of_the_sequences_and_the_type_of_the_labels(vectors):
    X, y = vectors
    model = small(embedding_dim=None).fit(X, y)
    assert model.classes_.tolist() == ["down", "up"]
    labels, probabilities = model.predict(X), model.predict_proba(X)
    assert isinstance(labels, list) and isinstance(probabilities, list)
    for steps, tags, rows in zip(X, labels, probabilities, strict=True):
        assert tags.shape == (len(steps),)
        assert tags.dtype == model.classes_.dtype
        assert rows.shape == (len(steps), 2)
        assert rows.dtype == np.float64
        np.testing.assert_allclose(rows.sum(axis=1), 1.0, rtol=1e-12)
        np.testing.assert_array_equal(model.classes_[rows.argmax(axis=1)], tags)
    assert [len(rows) for rows in model.transform(X)] == [len(steps) for steps in X]


@pytest.mark.parametrize("dtype", [int, np.int8, bool, "<U3", object, float])
def test_labels(vectors, dtype):
    X, y = vectors
    labels = np.array([3, 7]).astype(dtype) if dtype is not bool else np.array([False, True])
    model = small(embedding_dim=None, max_iter=1).fit(X, [labels[(tags == "up").astype(int)] for tags in y])
    assert model.classes_.tolist() == labels.tolist()
    assert set(together(model.predict(X)).tolist()) <= set(labels.tolist())


@pytest.mark.parametrize("form", ["lists", "tuples", "object arrays", "arrays of strings", "series"])
def test_forms_of_sentences(form):
    X, y = sentences(30)
    make = {
        "lists": list,
        "tuples": tuple,
        "object arrays": lambda part: np.array([np.array(part_i, dtype=object) for part_i in part] + [0], dtype=object)[
            :-1
        ],
        "arrays of strings": lambda part: [np.array(words) for words in part],
        "series": pd.Series,
    }[form]
    expected = small().fit(X, y)
    model = small().fit(make(X), make(y))
    np.testing.assert_array_equal(together(model.predict_proba(make(X))), together(expected.predict_proba(X)))
    assert model.score(make(X), make(y)) == expected.score(X, y)


def test_sentences_of_one_length_and_their_labels_may_be_tables():
    X = np.array([["the", "dog"], ["a", "cat"], ["the", "tree"]])
    y = np.array([["DET", "NOUN"]] * 3)
    model = small().fit(X, y)
    assert [tags.tolist() for tags in model.predict(X)] == [tags.tolist() for tags in model.predict(X.tolist())]
    assert isinstance(model.predict(X), list)
    assert isinstance(model.transform(X), list)
    cube = np.random.default_rng(0).normal(size=(3, 2, 4))
    assert [tags.shape for tags in small(embedding_dim=None).fit(cube, y).predict(cube)] == [(2,)] * 3


@pytest.mark.parametrize("output", ["softmax", "crf"])
def test_predictions_do_not_depend_on_the_other_sentences_or_on_threads(output, many_threads):
    X, y = sentences(40)
    model = small(output=output).fit(X, y)
    expected = model.predict_proba(X)
    for sentence, rows, tags in zip(X, expected, model.predict(X), strict=True):
        np.testing.assert_array_equal(model.predict_proba([sentence])[0], rows)
        np.testing.assert_array_equal(model.predict([sentence])[0], tags)
    other = small(output=output, n_jobs=2).fit(X, y)
    np.testing.assert_array_equal(together(other.predict_proba(X)), together(expected))


# --------------------------------------------------------------------------------------------------------------- words
def test_vocabulary():
    X, y = sentences(60)
    model = small(min_df=3).fit(X, y)
    in_sentences = {word.lower(): sum(word.lower() in map(str.lower, s) for s in X) for s in X for word in s}
    assert set(model.vocabulary_) == {word for word, count in in_sentences.items() if count >= 3}
    assert sorted(model.vocabulary_.values()) == list(range(1, len(model.vocabulary_) + 1))
    assert "Otto" in small(lowercase=False).fit(X, y).vocabulary_
    assert model.n_features_in_ == 1
    assert not hasattr(small(), "vocabulary_")
    assert not hasattr(small(embedding_dim=None).fit([np.zeros(2), np.ones(1)], [[0, 1], [1]]), "vocabulary_")


def test_size_of_the_vectors():
    X, y = sentences(20)
    model = small().fit(X, y)
    assert [dim for _, _, dim in model._network.embeddings] == [6] + [3] * 8
    assert model._network.embeddings[0][1] == len(model.vocabulary_) + 1
    assert [dim for _, _, dim in small(word_features=False, embedding_dim=None).fit(X, y)._network.embeddings] == [64]


def test_rare_words_are_now_and_then_unknown_in_training(monkeypatch):
    seen = {}

    def spy(network, sequences, *arguments, **kw):
        seen["train"], seen["validation"] = sequences, kw["validation"]
        return train(network, sequences, *arguments, **kw)

    train = base.train
    monkeypatch.setattr(base, "train", spy)
    common, rare = ["common"] * 4000, [f"rare{number}" for number in range(4000)]
    X = [[word] for word in common + rare]
    y = [["a"], ["b"]] * 4000
    settings = {"early_stopping": True, "word_dropout": 1.0, "max_iter": 1, "batch_size": 4000}
    model = small(**settings).fit(X, y)
    words = np.array([steps[0, 0] for steps in seen["train"]])
    letters = np.array([steps[0, 1] for steps in seen["train"]])
    is_rare = letters == model._words.vocabularies["prefix_1"]["r"]
    # With the probability 1 / (1 + n): a half of those that occur once, next to none of the frequent one.
    assert abs((words[is_rare] == 0).mean() - 0.5) < 0.03
    assert (words[~is_rare] == 0).mean() < 0.005
    assert all(steps[0, 0] > 0 for steps in seen["validation"][0])
    small(**{**settings, "word_dropout": 0}).fit(X, y)
    assert all(steps[0, 0] > 0 for steps in seen["train"])


def test_the_vector_of_unknown_words_is_trained():
    X, y = sentences(40)
    vectors = {}
    for word_dropout, rate in ((5.0, 0.02), (5.0, 1e-12), (0.0, 0.02), (0.0, 1e-12)):
        model = small(word_dropout=word_dropout, learning_rate_init=rate).fit(X, y)
        vectors[word_dropout, rate] = model._network.parameters["embedding_0"][0]
    assert np.abs(vectors[5.0, 0.02] - vectors[5.0, 1e-12]).min() > 1e-4
    np.testing.assert_array_equal(vectors[0.0, 0.02], vectors[0.0, 1e-12])


def test_words_with_pretrained_vectors(rng):
    X, y = sentences(20)
    weights = {"the": rng.normal(size=6), "cat": np.ones(6, dtype=np.float32), "zebra": np.zeros(6)}
    settings = {"learning_rate_init": 1e-12, "max_iter": 1, "dtype": "float64"}
    model = small(embedding_weights=weights, **settings).fit(X, y)
    plain = small(**settings).fit(X, y)
    table, other = model._network.parameters["embedding_0"], plain._network.parameters["embedding_0"]
    for word, number in model.vocabulary_.items():
        np.testing.assert_allclose(table[number], weights.get(word, other[number]), atol=1e-9)
    of_their_size = small(embedding_weights=weights, embedding_dim=None, **settings).fit(X, y)
    np.testing.assert_array_equal(of_their_size._network.parameters["embedding_0"], table)


# --------------------------------------------------------------------------------------------------- labels and scores
def test_score_is_the_share_of_right_labels(vectors):
    X, y = vectors
    model = small(embedding_dim=None).fit(X, y)
    right = [np.mean(tags == truth) for tags, truth in zip(model.predict(X), y, strict=True)]
    lengths = np.array([len(tags) for tags in y])
    np.testing.assert_allclose(model.score(X, y), np.average(right, weights=lengths))
    weights = np.arange(40)
    np.testing.assert_allclose(
        model.score(X, y, sample_weight=weights), np.average(right, weights=lengths * weights), rtol=1e-12
    )


def test_a_label_that_was_not_trained_is_not_found(vectors):
    X, y = vectors
    model = small(embedding_dim=None).fit(X, y)
    assert model.score(X, [np.full(len(tags), "sideways") for tags in y]) == 0.0


@pytest.mark.parametrize("output", ["softmax", "crf"])
def test_weights_are_repetitions_in_any_order(output, rng):
    X, y = sentences(10)
    weights = rng.integers(1, 4, 10)
    numbers = rng.permutation(np.repeat(np.arange(10), weights))
    settings = {"output": output, "word_dropout": 0, "dtype": "float64"}
    weighted = small(**settings).fit(X, y, sample_weight=weights)
    repeated = small(**settings).fit([X[i] for i in numbers], [y[i] for i in numbers])
    np.testing.assert_allclose(together(weighted.predict_proba(X)), together(repeated.predict_proba(X)), rtol=1e-9)
    unweighted = small(**settings).fit(X, y)
    assert np.abs(together(weighted.predict_proba(X)) - together(unweighted.predict_proba(X))).max() > 1e-4


@pytest.mark.parametrize("output", ["softmax", "crf"])
def test_early_stopping_judges_by_the_score_of_held_out_sequences(output):
    X, y = sentences(60)
    model = small(output=output, early_stopping=True, validation_fraction=0.25, max_iter=3).fit(X, y)
    assert len(model.validation_scores_) == model.n_iter_
    _, held_out = train_test_split(np.arange(60), test_size=0.25, random_state=np.random.RandomState(0))
    score = model.score([X[i] for i in held_out], [y[i] for i in held_out])
    np.testing.assert_allclose(score, model.best_validation_score_, rtol=1e-12)


def test_a_label_may_occur_in_held_out_sequences_alone():
    X, y = sentences(20)
    for number in range(20):
        tags = [[*row] for row in y]
        tags[number] = ["ODD"] * len(tags[number])
        model = small(early_stopping=True, validation_fraction=0.4, max_iter=1).fit(X, tags)
        assert "ODD" in model.classes_


# ------------------------------------------------------------------------------------------------------- random field
def test_random_field_agrees_with_all_sequences_of_labels():
    """Marginals and best sequence by enumeration of every sequence of labels."""
    rng = np.random.default_rng(1)
    X = [rng.normal(size=(length, 2)) for length in (1, 2, 4, 3) for _ in range(5)]
    y = [rng.integers(0, 3, size=len(steps)) for steps in X]
    settings = {"output": "crf", "embedding_dim": None, "dtype": "float64", "learning_rate_init": 0.1, "max_iter": 20}
    model = small(**settings).fit(X, y)
    parameters = model._network.parameters
    for steps, hidden, tags, marginals in zip(
        X, model.transform(X), model.predict(X), model.predict_proba(X), strict=True
    ):
        logits = hidden @ parameters["weight_out"].T + parameters["bias_out"]
        paths = list(product(range(3), repeat=len(steps)))
        scores = np.array(
            [
                logits[np.arange(len(path)), path].sum()
                + parameters["crf_start"][path[0]]
                + parameters["crf_end"][path[-1]]
                + sum(parameters["crf_transitions"][a, b] for a, b in pairwise(path))
                for path in paths
            ]
        )
        assert tuple(tags) == paths[int(scores.argmax())]
        probabilities = np.exp(scores - scores.max())
        probabilities /= probabilities.sum()
        expected = np.zeros((len(steps), 3))
        for path, probability in zip(paths, probabilities, strict=True):
            expected[np.arange(len(path)), path] += probability
        np.testing.assert_allclose(marginals, expected, rtol=1e-9, atol=1e-12)


def test_random_field_learns_which_label_may_follow():
    """The steps say nothing; the labels alternate, from either beginning."""
    X = [np.zeros((length, 1)) for length in (2, 3, 4, 5) * 10]
    y = [np.arange(len(steps)) % 2 for steps in X]
    y = [tags if number % 2 else 1 - tags for number, tags in enumerate(y)]
    settings = {"embedding_dim": None, "bidirectional": False, "learning_rate_init": 0.05, "max_iter": 40}
    model = small(output="crf", **settings).fit(X, y)
    assert all((np.diff(tags) != 0).all() for tags in model.predict(X))


# -------------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        ([["a", "b"], ["c"]], [["X"], ["Y"]], "y of sample 0 has 1 time step, X of sample 0 has 2 time steps"),
        ([["a", "b"], ["c"]], [["X", "Y"]], r"inconsistent numbers of samples: \[2, 1\]"),
        ([["a", "b"], []], [["X", "Y"], []], "sequence 1 of X has no time step; every sequence needs at least one"),
        ([["a"], ["c"]], [["X"], []], "y of sample 1 has 0 time steps, X of sample 1 has 1 time step"),
        ([["a"], ["c"]], [["X"], ["X"]], "at least 2 classes, but the data contains only 1 class: 'X'"),
        ([["a"], None], [["X"], ["Y"]], "sequence 1 of X is None, expected a list of words"),
        (["a b", "c"], [["X", "Y"], ["X"]], "sequence 0 of X is a string, expected a list of words: split it"),
        ([["a"], "c"], [["X"], ["Y"]], "sequence 1 of X is a string, expected a list of words"),
        (
            [["a", 1], ["b"]],
            [["X", "Y"], ["X"]],
            "sequence 0 of X holds words, but at time step 1 1, which is not a str",
        ),
        ([["a"], ["b", None]], [["X"], ["X", "Y"]], "sequence 1 of X holds words, but at time step 1 None"),
        ([["a"], ["c"]], [["X"], "Y"], "y of sample 1 is 'Y', expected a sequence of labels, one for each time step"),
        ([["a"], ["c"]], ["X", "Y"], "y of sample 0 is 'X', expected a sequence of labels"),
        ([["a"], ["c"]], [1, 2], "y of sample 0 is 1, expected a sequence of labels"),
        ([["a"], ["c"]], "XY", "y must be a list of sequences of labels"),
        ([["a"], ["c"]], None, "requires y to be passed, but the target y is None"),
        ([["a"], ["c"]], [[["X"]], [["Y"]]], "y of sample 0 has 2 dimensions, expected a sequence of labels"),
        ([["a"], ["c"]], [["X"], [1]], "y of sample 1 holds labels of type int64, but others are strings"),
        ([["a", "b"], ["c"]], [["X", 1], ["Y"]], "y of sample 0 holds strings and other labels"),
        ([["a"], ["c"]], [[0.5], [1.5]], "Unknown label type: continuous"),
        ([["a"], ["c"]], [[np.nan], [1.0]], "Input y contains NaN"),
        ([], [], "0 sequences"),
        ([np.zeros((2, 1)), np.zeros((0, 1))], [[0, 1], []], "sequence 1 of X has no time step"),
    ],
)
def test_what_does_not_fit(X, y, message):
    with pytest.raises(ValueError, match=message):
        small(embedding_dim=None).fit(X, y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"output": "argmax"}, "The 'output' parameter of RNNTagger must be"),
        ({"output": "crf", "label_smoothing": 0.1}, "'label_smoothing' parameter of RNNTagger must be 0 if 'output'"),
        (
            {"output": "crf", "bptt_steps": 3, "bidirectional": False},
            "'bptt_steps' parameter of RNNTagger must be None",
        ),
        ({"vocabulary_size": 9}, "'vocabulary_size' parameter of RNNTagger must be None if X holds words"),
        ({"padding_id": 0}, "'padding_id' parameter of RNNTagger must be None if X holds words"),
        ({"categorical_features": [0]}, "'categorical_features' parameter of RNNTagger must be None if X holds words"),
        ({"embedding_dim": (3, 4)}, "'embedding_dim' parameter of RNNTagger must be one number if X holds words"),
        ({"embedding_weights": np.zeros((5, 6))}, "must be a dict of words and vectors, or None, if X holds words"),
        ({"embedding_weights": {"the": np.zeros(5)}}, r"every word 6 finite numbers, .* shape \(5,\) for 'the'"),
        ({"embedding_weights": {"the": np.full(6, np.inf)}}, "every word 6 finite numbers"),
        (
            {"embedding_weights": {"the": np.zeros(6), "cat": np.zeros(5)}, "embedding_dim": None},
            r"every word 6 finite numbers, by embedding_dim=None. Got an array of shape \(5,\) for 'cat'",
        ),
        ({"min_df": 0}, "The .min_df. parameter of RNNTagger must be"),
        ({"min_df": 0.0}, None),
        ({"min_df": -1}, "The 'min_df' parameter of RNNTagger must be"),
        ({"min_df": 1.5}, "The 'min_df' parameter of RNNTagger must be"),
        ({"word_dropout": -0.1}, "The 'word_dropout' parameter of RNNTagger must be"),
        ({"word_feature_dim": 0}, "The 'word_feature_dim' parameter of RNNTagger must be"),
        ({"pooling": "mean"}, None),
    ],
)
def test_parameters_that_do_not_fit(parameters, message):
    X, y = sentences(8)
    if "pooling" in parameters:
        with pytest.raises(TypeError, match="unexpected keyword argument 'pooling'"):
            small(**parameters)
        return
    if message is None:
        small(**parameters).fit(X, y)
        return
    with pytest.raises(ValueError, match=message):
        small(**parameters).fit(X, y)


def test_words_and_numbers_cannot_be_exchanged():
    X, y = sentences(8)
    model = small(warm_start=True).fit(X, y)
    before = model.predict(X)
    numbers = [np.zeros((len(words), 2)) for words in X]
    for act in (model.predict, lambda X: model.fit(X, y), lambda X: model.score(X, y)):
        with pytest.raises(ValueError, match="X holds arrays of numbers, but RNNTagger was first fitted on words"):
            act(numbers)
    np.testing.assert_array_equal(together(model.predict(X)), together(before))
    with pytest.raises(ValueError, match="Found list with 0 sequences"):
        model.predict([])
    with pytest.raises(ValueError, match="X holds words, but RNNTagger was first fitted on arrays of numbers"):
        small(embedding_dim=None).fit(numbers, y).predict(X)
    with pytest.raises(ValueError, match="can only be a dict if X holds words"):
        small(embedding_weights={"the": np.zeros(6)}).fit([np.zeros(2), np.ones(1)], [[0, 1], [1]])
    with pytest.raises(ValueError, match="parameter of RNNClassifier can only be a dict if X holds words"):
        RNNClassifier(embedding_weights={"the": np.zeros(6)}).fit(np.zeros((2, 3)), [0, 1])
    # A new fit may be on either.
    again = small().fit(X, y).set_params(embedding_dim=None).fit(numbers, y)
    assert len(again.predict(numbers)) == 8
    assert again.n_features_in_ == 2


def test_labels_that_came_later():
    X, y = sentences(20)
    with pytest.raises(ValueError, match="labels that are not among the classes"):
        small(warm_start=True).fit(X, y).fit(X, [["ODD"] * len(tags) for tags in y])
    with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
        small().partial_fit(X, y)
    with pytest.raises(ValueError, match="labels that are not among the classes"):
        small().partial_fit(X, y, classes=["DET", "NOUN"])
    model = small().partial_fit(X[:10], y[:10], classes=[*WORDS, "ODD"])
    vocabulary = model.vocabulary_
    model.partial_fit([["zebra"], ["Otto"]], [["ODD"], ["PROPN"]])
    assert model.vocabulary_ == vocabulary
    assert "ODD" in model.classes_


@pytest.mark.parametrize("method", ["predict", "predict_proba", "transform", "score", "save"])
def test_unfitted(method):
    arguments = ([["a"]], [["X"]]) if method == "score" else ([["a"]],)
    with pytest.raises(NotFittedError, match="This RNNTagger instance is not fitted yet"):
        getattr(RNNTagger(), method)(*arguments)


# ------------------------------------------------------------------------------------------------------------- keeping
@pytest.mark.parametrize("kind", ["words", "words without letters", "vectors", "ids"])
@pytest.mark.parametrize("output", ["softmax", "crf"])
def test_copies_and_files(tmp_path, vectors, kind, output):
    X, y = sentences(25)
    settings = {"output": output, "warm_start": True, "embedding_weights": {"the": np.ones(6), "cat": np.zeros(6)}}
    if kind == "words without letters":
        settings |= {"word_features": False, "lowercase": False, "min_df": 2}
    elif kind == "vectors":
        (X, y), settings = vectors, {"output": output, "embedding_dim": None, "warm_start": True}
    elif kind == "ids":
        X, settings = [np.arange(len(tags)) for tags in y], {"output": output, "warm_start": True}
    model = small(**settings).fit(X, y)
    expected = together(model.predict_proba(X))
    model.save(tmp_path / "m")
    loaded = numrnn.load(tmp_path / "m")
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), loaded):
        np.testing.assert_array_equal(together(other.predict_proba(X)), expected)
        np.testing.assert_array_equal(together(other.predict(X)), together(model.predict(X)))
        if kind.startswith("words"):
            assert other.vocabulary_ == model.vocabulary_
            np.testing.assert_array_equal(
                other.predict_proba([["Zebras", "the"]])[0], model.predict_proba([["Zebras", "the"]])[0]
            )
        assert len(other.fit(X, y).loss_curve_) == 8
    np.testing.assert_equal(loaded.get_params(), model.get_params())
    np.testing.assert_array_equal(together(clone(model).fit(X, y).predict_proba(X)), expected)


def test_vocabularies_stay_those_of_the_fit_when_parameters_change(tmp_path):
    X, y = sentences(20)
    model = small().fit(X, y)
    expected = together(model.predict_proba(X))
    model.set_params(lowercase=False, min_df=5, word_features=False, output="crf", embedding_dim=9)
    np.testing.assert_array_equal(together(model.predict_proba(X)), expected)
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(together(numrnn.load(tmp_path / "m").predict_proba(X)), expected)


def test_cross_validation_and_grid_search():
    X, y = sentences(45)
    assert cross_val_score(small(max_iter=8), X, y, cv=3, error_score="raise").min() > 0.8
    search = GridSearchCV(small(max_iter=2), {"min_df": [1, 2], "word_feature_dim": [2]}, cv=2, error_score="raise")
    assert 0 < search.fit(X, y).score(X, y) <= 1


def test_fits_continue():
    X, y = sentences(30)
    settings = {"word_dropout": 0}
    twice = small(max_iter=2, warm_start=True, **settings).fit(X, y).fit(X, y)
    parts = small(**settings)
    for _ in range(4):
        parts.partial_fit(X, y, classes=list(WORDS))
    expected = together(small(max_iter=4, **settings).fit(X, y).predict_proba(X))
    np.testing.assert_array_equal(together(twice.predict_proba(X)), expected)
    np.testing.assert_array_equal(together(parts.predict_proba(X)), expected)
