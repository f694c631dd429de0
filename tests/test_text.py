"""Text to sequences of token ids: the order of ids, what is cut, what is refused, and life within scikit-learn."""

from __future__ import annotations

import pickle
import warnings
from collections import Counter

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks

from numrnn import RNNClassifier, SequenceEncoder

DOCUMENTS = [
    "The cat sat on the mat.",
    "The dog sat!",
    "",
    "A dog, a cat and a MAT; the end",
]


def as_lists(sequences):
    return [sequence.tolist() for sequence in sequences]


def reference(documents, *, min_df=1, max_df=10**9, max_features=None):
    """Ids of token lists, by counting: most frequent first, equal ones by the alphabet."""
    counts = Counter(token for document in documents for token in document)
    in_documents = Counter(token for document in documents for token in set(document))
    kept = [token for token in counts if min_df <= in_documents[token] <= max_df]
    kept.sort(key=lambda token: (-counts[token], token))
    vocabulary = {token: number for number, token in enumerate(kept[:max_features], start=1)}
    return vocabulary, [[vocabulary.get(token, 0) for token in document] or [0] for document in documents]


# ------------------------------------------------------------------------------------------------------- what it does
def test_ids_are_by_frequency_then_alphabet_and_documents_keep_their_order():
    encoder = SequenceEncoder()
    sequences = encoder.fit_transform(DOCUMENTS)
    assert encoder.vocabulary_ == {"the": 1, "cat": 2, "dog": 3, "mat": 4, "sat": 5, "and": 6, "end": 7, "on": 8}
    assert list(encoder.vocabulary_.values()) == list(range(1, 9))
    assert encoder.vocabulary_size_ == 9
    assert as_lists(sequences) == [[1, 2, 5, 8, 1, 4], [1, 3, 5], [0], [3, 2, 6, 4, 1, 7]]
    assert all(sequence.dtype == np.int64 and sequence.ndim == 1 for sequence in sequences)


tokens = st.sampled_from(["a", "b", "c", "d", "e", "é", "Z"])


@given(
    documents=st.lists(st.lists(tokens, max_size=8), min_size=1, max_size=8),
    min_df=st.integers(1, 3),
    max_features=st.none() | st.integers(1, 8),
)
def test_any_documents_agree_with_counting(documents, min_df, max_features):
    vocabulary, expected = reference(documents, min_df=min_df, max_features=max_features)
    encoder = SequenceEncoder(min_df=min_df, max_features=max_features)
    if not vocabulary:
        with pytest.raises(ValueError, match=r"have no token|vocabulary is empty"):
            encoder.fit(documents)
        return
    assert as_lists(encoder.fit_transform(documents)) == expected
    assert encoder.vocabulary_ == vocabulary
    assert as_lists(encoder.transform(documents)) == expected
    assert as_lists(clone(encoder).fit(documents).transform(documents)) == expected


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"lowercase": False},
        {"stop_words": "english"},
        {"stop_words": ["the", "on"]},
        {"token_pattern": r"(?u)\b\w+\b"},
        {"token_pattern": r"(\w)at"},
        {"strip_accents": "unicode"},
        {"strip_accents": "ascii"},
        {"preprocessor": str.upper},
        {"tokenizer": str.split, "token_pattern": None},
        {"analyzer": "char"},
        {"analyzer": "char", "lowercase": False},
        {"analyzer": str.split},
        {"min_df": 2},
        {"min_df": 0.5},
        {"max_df": 1},
        {"max_df": 0.5},
        {"min_df": 2, "max_df": 2},
    ],
    ids=repr,
)
def test_tokens_and_counts_are_those_of_count_vectorizer(settings):
    documents = [*DOCUMENTS, "Élan  vital,\n  the cat's élan"]
    vectorizer = CountVectorizer(**settings)
    counts = vectorizer.fit_transform(documents).toarray()
    encoder = SequenceEncoder(**settings)
    sequences = encoder.fit_transform(documents)
    assert set(encoder.vocabulary_) == set(vectorizer.vocabulary_)
    for sequence, row in zip(sequences, counts, strict=True):
        found = np.bincount(sequence, minlength=encoder.vocabulary_size_)
        for token, number in encoder.vocabulary_.items():
            assert found[number] == row[vectorizer.vocabulary_[token]]


def test_tokens_that_were_not_seen_are_zero():
    encoder = SequenceEncoder(min_df=2).fit(DOCUMENTS)
    assert as_lists(encoder.transform(["the bird sat", "bird", ""])) == [[1, 0, 5], [0], [0]]
    # Also where the training documents have them.
    assert as_lists(encoder.transform(DOCUMENTS))[0] == [1, 2, 5, 0, 1, 4]


@pytest.mark.parametrize(("truncation", "expected"), [("head", ["a", "b"]), ("tail", ["c", "d"])])
def test_the_part_that_is_kept(truncation, expected):
    encoder = SequenceEncoder(analyzer="char", max_length=2, truncation=truncation).fit(["abcd"])
    assert list(encoder.vocabulary_) == expected  # what is cut off is not learned
    assert encoder.inverse_transform(encoder.transform(["abcd"])) == ["".join(expected)]
    assert [len(ids) for ids in encoder.transform(["a", "ab", "abc", ""])] == [1, 2, 2, 1]


def test_documents_without_a_token_are_one_unknown():
    encoder = SequenceEncoder(stop_words=["the"], max_length=1).fit(["the cat", "dog", ""])
    assert as_lists(encoder.transform(["", "   ", "the the", "?!", [], b""])) == [[0]] * 6


def test_documents_come_in_many_forms():
    expected = as_lists(SequenceEncoder().fit_transform(DOCUMENTS))
    for documents in (
        tuple(DOCUMENTS),
        np.array(DOCUMENTS),
        np.array(DOCUMENTS, dtype=object),
        pd.Series(DOCUMENTS, index=list("wxyz")),
        [document.encode() for document in DOCUMENTS],
        iter(DOCUMENTS),
    ):
        assert as_lists(SequenceEncoder().fit_transform(documents)) == expected


def test_token_sequences_are_taken_as_they_are():
    encoder = SequenceEncoder(stop_words=["the"]).fit([["the", "a"], ("the", "the"), np.array(["a", "b c"])])
    assert encoder.vocabulary_ == {"the": 1, "a": 2, "b c": 3}
    assert as_lists(encoder.transform([pd.Series(["a", "The"]), [np.str_("the")], "the a b"])) == [[2, 0], [1], [0]]
    matrix = np.array([list("ACGT"), list("GGGA")])
    assert as_lists(SequenceEncoder().fit_transform(matrix)) == [[2, 3, 1, 4], [1, 1, 1, 2]]


def test_integers_can_be_tokens():
    encoder = SequenceEncoder().fit([[700, 5], np.array([700])])
    assert encoder.vocabulary_ == {700: 1, 5: 2}
    assert encoder.inverse_transform(encoder.transform([[5, 6, np.int64(700)]])) == [[5, "<unknown>", 700]]
    assert encoder.get_feature_names_out().tolist() == ["<unknown>", "700", "5"]


def test_an_analyzer_gets_the_document_itself():
    codons = SequenceEncoder(analyzer=lambda record: (record["dna"][i : i + 3] for i in range(0, 6, 3)))
    assert as_lists(codons.fit_transform([{"dna": "ATGTAA"}, {"dna": "ATGATG"}])) == [[1, 2], [1, 1]]


# ----------------------------------------------------------------------------------------------- a vocabulary is given
@pytest.mark.parametrize(
    "vocabulary", [["sat", "cat"], {"cat": 2, "sat": 1}, iter(["sat", "cat"]), np.array(["sat", "cat"])], ids=repr
)
def test_a_given_vocabulary_is_used_as_it_is(vocabulary):
    encoder = SequenceEncoder(vocabulary=vocabulary, max_features=1, min_df=9)
    assert as_lists(encoder.fit_transform(DOCUMENTS)) == [[0, 2, 1, 0, 0, 0], [0, 0, 1], [0], [0, 2, 0, 0, 0, 0]]
    assert encoder.vocabulary_ == {"sat": 1, "cat": 2}
    assert list(encoder.vocabulary_) == ["sat", "cat"]


def test_a_given_set_is_sorted():
    assert SequenceEncoder(vocabulary={"b", "a", "c"}).fit(["a"]).vocabulary_ == {"a": 1, "b": 2, "c": 3}


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        ({"a": 0, "b": 1}, r"must be 1 to 2, each of them once \(0 is for unknown tokens\); got \[0, 1\]$"),
        ({"a": 1, "b": 1}, r"must be 1 to 2, each of them once .* got \[1, 1\]$"),
        ({"a": 1, "b": 3}, "must be 1 to 2"),
        ({str(i): i for i in range(20)}, r"got \[0, 1, 2, 3, 4, 5, \.\.\.\]$"),
        (["a", "b", "a"], "'a' occurs more than once"),
        ([], "vocabulary is empty"),
        ({}, "vocabulary is empty"),
        ("abc", "vocabulary is the string 'abc'"),
    ],
)
def test_bad_vocabularies(vocabulary, message):
    with pytest.raises(ValueError, match=message):
        SequenceEncoder(vocabulary=vocabulary).fit(["a b"])


# -------------------------------------------------------------------------------------------------------- and back
def test_inverse_transform():
    encoder = SequenceEncoder(max_features=3).fit(DOCUMENTS)
    assert encoder.inverse_transform(encoder.transform(DOCUMENTS[:3])) == [
        ["the", "cat", "<unknown>", "<unknown>", "the", "<unknown>"],
        ["the", "dog", "<unknown>"],
        ["<unknown>"],
    ]
    assert encoder.inverse_transform(np.array([[1, 2], [3, 0]])) == [["the", "cat"], ["dog", "<unknown>"]]
    assert encoder.inverse_transform([[], np.array([], dtype=float)]) == [[], []]


@given(st.lists(st.text(alphabet="ab Ü", min_size=1, max_size=6).filter(lambda text: "  " not in text), min_size=1))
def test_characters_come_back_as_strings(documents):
    encoder = SequenceEncoder(analyzer="char", lowercase=False)
    assert encoder.inverse_transform(encoder.fit_transform(documents)) == documents


def test_unknown_token_can_be_chosen():
    encoder = SequenceEncoder(analyzer="char", unknown_token="?").fit(["ab"])
    assert encoder.inverse_transform(encoder.transform(["axb"])) == ["a?b"]
    assert encoder.get_feature_names_out().tolist() == ["?", "a", "b"]


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([[1], [1, 9]], "sequence 1 of X has the id 9 at position 1; ids are from 0 to 8"),
        ([[-1]], "sequence 0 of X has the id -1 at position 0"),
        ([[0.5]], "sequence 0 of X has the shape .* and the type float64"),
        ([1, 2], r"sequence 0 of X has the shape \(\)"),
        ([["the"]], "the type <U3"),
    ],
)
def test_bad_ids(X, message):
    with pytest.raises(ValueError, match=message):
        SequenceEncoder().fit(DOCUMENTS).inverse_transform(X)


# --------------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ("a string", ValueError, "Iterable over raw text documents expected, string object received"),
        (b"a string", ValueError, "string object received"),
        (7, ValueError, r"X is 7 \(int\)"),
        (None, ValueError, "X is None"),
        ({"a": "text"}, ValueError, r"X is {'a': 'text'} \(dict\); expected an iterable"),
        (pd.DataFrame({"text": DOCUMENTS}), ValueError, r"X is a table with the shape \(4, 1\).* one column of it"),
        (np.array(DOCUMENTS)[:, None], ValueError, r"X is a table with the shape \(4, 1\)"),
        ([], ValueError, "X has no document"),
        (["", "?"], ValueError, "the 2 documents of X have no token"),
        (["text", None], TypeError, r"document 1 of X is None \(NoneType\); expected a string or a sequence"),
        (["text", np.nan], TypeError, r"document 1 of X is nan \(float\)"),
        ([{"text": 1}], TypeError, r"document 0 of X is {'text': 1} \(dict\)"),
        ([{"text"}], TypeError, r"\(set\)"),
        (
            [["a"], ["a", 0.5]],
            TypeError,
            r"token 1 of document 1 of X is 0.5 \(float\); tokens are strings or integers",
        ),
        ([[["a"]]], TypeError, r"token 0 of document 0 of X is \['a'\] \(list\)"),
        (np.ones((2, 3)), TypeError, r"token 0 of document 0 of X is 1.0 \(float\)"),
        ([["a", 1]], TypeError, "tokens must all be strings or all be integers"),
    ],
    ids=repr,
)
def test_bad_documents(X, error, message):
    with pytest.raises(error, match=message):
        SequenceEncoder().fit(X)


def test_bad_documents_are_found_in_transform_too_and_nothing_learned_is_lost():
    encoder = SequenceEncoder().fit(DOCUMENTS)
    vocabulary = dict(encoder.vocabulary_)
    with pytest.raises(ValueError, match="string object received"):
        encoder.transform("the cat")
    with pytest.raises(TypeError, match="document 1 of X is None"):
        encoder.transform(["the", None])
    with pytest.raises(TypeError, match="document 1 of X is None"):
        encoder.fit(["other", None])
    assert encoder.vocabulary_ == vocabulary
    assert encoder.transform([]) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"analyzer": "words"}, "'analyzer' parameter"),
        ({"max_length": 0}, "'max_length' parameter"),
        ({"truncation": "left"}, "'truncation' parameter"),
        ({"max_features": 0}, "'max_features' parameter"),
        ({"min_df": -1}, "'min_df' parameter"),
        ({"min_df": 1.5}, "'min_df' parameter"),
        ({"vocabulary": 3}, "'vocabulary' parameter"),
        ({"stop_words": "klingon"}, "'stop_words' parameter"),
        ({"unknown_token": None}, "'unknown_token' parameter"),
        ({"token_pattern": None}, "token_pattern and tokenizer are both None"),
        ({"min_df": 5}, "no token is in at least min_df=5 and at most max_df=1.0 of the 4 documents"),
        ({"min_df": 3, "max_df": 2}, "no token is in at least min_df=3 and at most max_df=2"),
    ],
    ids=repr,
)
def test_bad_parameters(settings, message):
    encoder = SequenceEncoder(**settings)
    with pytest.raises(ValueError, match=message):
        encoder.fit(DOCUMENTS)
    assert not hasattr(encoder, "vocabulary_")


@pytest.mark.parametrize("method", ["transform", "inverse_transform", "get_feature_names_out"])
def test_not_fitted(method):
    with pytest.raises(NotFittedError):
        getattr(SequenceEncoder(), method)(["text"])


# ---------------------------------------------------------------------------------------------- within scikit-learn
@pytest.mark.parametrize(
    "check",
    [
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_get_params_invariance",
        "check_set_params",
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_estimator_tags_renamed",
        "check_valid_tag_types",
        "check_do_not_raise_errors_in_init_or_set_param",
        "check_param_validation",
        "check_mixin_order",
    ],
)
def test_checks_of_scikit_learn(check):
    if not hasattr(estimator_checks, check):
        pytest.skip(f"this version of scikit-learn has no {check}")
    getattr(estimator_checks, check)("SequenceEncoder", SequenceEncoder())


def test_pickle_and_clone():
    encoder = SequenceEncoder(max_features=3, max_length=4, truncation="tail").fit(DOCUMENTS)
    again = pickle.loads(pickle.dumps(encoder))
    assert as_lists(again.transform(DOCUMENTS)) == as_lists(encoder.transform(DOCUMENTS))
    assert clone(encoder).get_params() == encoder.get_params()
    assert not hasattr(clone(encoder), "vocabulary_")


def test_tags_say_that_it_reads_strings():
    tags = SequenceEncoder().__sklearn_tags__()
    assert tags.input_tags.string
    assert not tags.input_tags.two_d_array
    assert tags.requires_fit


def test_default_output_of_pandas_leaves_sequences_alone():
    from sklearn import config_context

    with config_context(transform_output="pandas"):
        assert as_lists(SequenceEncoder().fit_transform(["a cat", "cat"])) == [[1], [1]]


class MostlyEven(ClassifierMixin, BaseEstimator):
    """Says whether most ids of a sequence are even: needs nothing but ids, and no training."""

    def fit(self, X, y):
        assert all(ids.dtype == np.int64 for ids in X)
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.array([np.mean(ids % 2 == 0) > 0.5 for ids in X])


def test_grid_search_reaches_through_a_pipeline():
    documents = ["b" + "a" * i + "b" * j for i in range(4) for j in range(4)]
    y = [document.count("a") > len(document) / 2 for document in documents]  # "b" is id 1, "a" id 2
    pipeline = make_pipeline(SequenceEncoder(analyzer="char"), MostlyEven())
    search = GridSearchCV(pipeline, {"sequenceencoder__max_length": [1, None]}, cv=2).fit(documents, y)
    assert search.best_params_ == {"sequenceencoder__max_length": None}
    assert search.best_score_ == 1.0
    assert search.best_estimator_[0].vocabulary_ == {"b": 1, "a": 2}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore:The inputs are not scaled")
def test_sequences_are_what_the_estimators_take():
    documents = ["ab" * 3 + "c", "ba", "aab", "bba"] * 5
    y = [document.startswith("a") for document in documents]
    model = RNNClassifier((4,), max_iter=1, random_state=0, n_jobs=1)
    scores = cross_val_score(make_pipeline(SequenceEncoder(analyzer="char"), model), documents, y, cv=2)
    assert np.isfinite(scores).all()


def test_no_warnings_of_the_machinery_underneath():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SequenceEncoder(tokenizer=str.split).fit(DOCUMENTS)
        SequenceEncoder(analyzer="char", stop_words=["a"]).fit(DOCUMENTS)
