"""What pairs of sequences may hold: kinds, vocabularies, there and back, and what is refused with a reason."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

from numrnn.estimators.sides import Numbers, Tokens, kind_of
from numrnn.estimators.subwords import SubwordPieces

SETTINGS = {"analyzer": "word", "lowercase": False, "min_df": 1, "max_features": None}
FLOATS = np.arange(6.0).reshape(3, 2)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (["a b", ""], "text"),
        (["", "a"], "text"),
        (np.array(["a", "bc"]), "text"),
        (pd.Series(["a", "b"]), "text"),
        ([["a", "b"], ["c"]], "tokens"),
        ([["a", "b"], ["c", "d"]], "tokens"),
        (np.array([["a", "b"], ["c", "d"]]), "tokens"),
        ([[], ["a"]], "tokens"),
        ([[1, 2], [3]], "ids"),
        ([[1, 2], [3, 4]], "ids"),
        ([np.array([1, 2]), np.array([3])], "ids"),
        (np.array([[1, 2], [3, 4]]), "ids"),
        ([[1.0, 2.0], [3.0]], "numbers"),
        ([np.array([1.0]), np.array([3.0])], "numbers"),
        ([FLOATS, FLOATS[:1]], "numbers"),
        ([np.ones((2, 2), dtype=int)], "numbers"),
        (np.ones((2, 3, 1)), "numbers"),
        (FLOATS, "vectors"),
        (pd.DataFrame(FLOATS), "vectors"),
        ([[1.0, 2.0], [3.0, 4.0]], "vectors"),
    ],
)
def test_kinds(data, kind):
    assert kind_of(data, "X", vectors=True) == kind
    assert kind_of(data, "y", vectors=False) == ("numbers" if kind == "vectors" else kind)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("one text", "X is one text; expected a list of texts"),
        (None, "X is NoneType; expected a list"),
        ({"a": 1}, "X is dict; expected a list"),
        ([], "X has no sequence"),
        ([[], []], "X has no token: all its sequences are empty"),
        ([1, 2], "X holds int(64)?, expected a text or a sequence for every sample"),
        (np.ones(3), "X holds float64, expected a text or a sequence"),
        (np.ones((2, 2, 2, 2)), "X has 4 dimensions, expected 2 or 3"),
        ([b"bytes"], "X holds bytes; decode them first"),
        (pd.DataFrame({"text": ["a", "b"]}), r"X is a table with the shape \(2, 1\); expected texts"),
    ],
)
def test_what_is_no_side_is_refused(data, message):
    with pytest.raises((ValueError, TypeError), match=message):
        kind_of(data, "X", vectors=True)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (["a", 1], r"sample 1 of X is 1 \(int\), but others are texts"),
        (["a", ["b"]], r"sample 1 of X is \['b'\] \(list\), but others are texts"),
        ([["a"], "b"], r"sample 1 of X is 'b' \(str\), but others are sequences of strings"),
        ([["a", 1], ["b"]], r"sample 0 of X has 1 \(int\) at step 1, but X holds sequences of strings"),
        (
            [[1, 2], [3, 1.5, 2]],
            "sample 1 of X has 1.5 .* at step 1, but X holds sequences of integers. For measurements",
        ),
        ([[1], [True, 2]], "sample 1 of X has True"),
        (["", ""], "X has no token"),
    ],
)
def test_samples_of_other_kinds_are_refused_with_their_number(data, message):
    kind = kind_of(data, "X", vectors=True)
    with pytest.raises(ValueError, match=message):
        Tokens.learn(data, kind, "X", **SETTINGS)


@pytest.mark.parametrize(
    ("analyzer", "texts", "tokens"),
    [
        ("word", ["a cat, a  dog!", "", "cat"], [[" a", " cat", ",", " a", " ", " dog", "!"], [], [" cat"]]),
        ("split", ["a cat &apos;s", "", "cat"], [["a", "cat", "&apos;s"], [], ["cat"]]),
        ("char", ["ab c", "", "é"], [["a", "b", " ", "c"], [], ["é"]]),
        (lambda text: text.split("-"), ["a-b", "c"], [["a", "b"], ["c"]]),
    ],
)
def test_texts_become_tokens_and_texts_again(analyzer, texts, tokens):
    side, ids = Tokens.learn(texts, "text", "X", **{**SETTINGS, "analyzer": analyzer})
    assert side.split(texts, "X") == tokens
    assert [[side.by_id[number] for number in row] for row in ids] == tokens
    assert [row.tolist() for row in side.encode(tokens)] == [row.tolist() for row in ids]
    joined = [side.join(each) for each in tokens]
    assert joined == ([" ".join(each) for each in tokens] if callable(analyzer) else texts)


def test_a_function_may_say_how_its_tokens_are_joined():
    class Dashes:
        def __call__(self, text):
            return text.split("-")

        def join(self, tokens):
            return "-".join(tokens)

    side, _ = Tokens.learn(["a-b"], "text", "X", **{**SETTINGS, "analyzer": Dashes()})
    assert side.join(["b", "a"]) == "b-a"
    with pytest.raises(TypeError, match=r"the analyzer made 1 \(int\) of text 0 of X"):
        Tokens.learn(["ab"], "text", "X", **{**SETTINGS, "analyzer": lambda text: [1]})


def test_frequent_tokens_come_first_and_rare_ones_are_unknown():
    side, ids = Tokens.learn([["b", "a", "b"], ["b", "A"], ["c"]], "tokens", "X", **{**SETTINGS, "min_df": 1})
    assert list(side.vocabulary) == ["b", "A", "a", "c"]
    assert not side.knows_unknown
    side, ids = Tokens.learn(
        [["b", "a", "b"], ["b", "A"], ["c"]], "tokens", "X", **{**SETTINGS, "min_df": 2, "lowercase": True}
    )
    assert (list(side.vocabulary), side.size, side.knows_unknown) == (["b", "a"], 3, True)
    assert [row.tolist() for row in ids] == [[1, 2, 1], [1, 2], [0]]
    assert side.tokens_of([["B", "z"], []], "X") == [["b", "z"], []]
    assert side.tokens_of([[]], "X") == [[]]
    with pytest.raises(ValueError, match="X holds texts, but the model was fitted on sequences of strings"):
        side.tokens_of(["b"], "X")


def test_integers_come_back_as_arrays():
    side, ids = Tokens.learn(np.array([[7, -7], [7, 7]]), "ids", "X", **SETTINGS)
    assert [row.tolist() for row in ids] == [[1, 2], [1, 1]]
    assert side.join([side.by_id[number] for number in ids[0]]).tolist() == [7, -7]


@pytest.mark.parametrize(
    "data",
    [
        np.arange(12.0).reshape(2, 3, 2),
        np.arange(6.0).reshape(2, 3),
        [np.arange(4.0).reshape(2, 2), np.ones((1, 2))],
        [np.arange(3.0), np.ones(1)],
    ],
)
def test_measurements_come_back_in_their_form_and_units(data):
    side, rows = Numbers.learn(None, data, "numbers", "y", np.dtype("float64"), standardise=True)
    np.testing.assert_allclose(rows.values.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(rows.values.std(axis=0), 1)
    restored = side.restore(list(rows))
    assert type(restored) is type(data)
    for one, other in zip(restored, data, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    again = side.rows_of(None, data, "y", np.dtype("float32"))
    np.testing.assert_allclose(again.values, rows.values, rtol=1e-6, atol=1e-6)


def test_measurements_of_another_form_are_refused():
    side, _ = Numbers.learn(None, np.ones((2, 3, 2)), "numbers", "X", np.dtype("float32"), standardise=False)
    with pytest.raises(ValueError, match="X has 1 features, but NoneType is expecting 2"):
        side.rows_of(None, np.ones((2, 3, 1)), "X", np.dtype("float32"))
    with pytest.raises(ValueError, match="X holds texts, but the model was fitted on sequences of measurements"):
        side.rows_of(None, ["a"], "X", np.dtype("float32"))
    with pytest.raises(ValueError, match="sequence 1 of X has no time step"):
        side.rows_of(None, [np.ones((1, 2)), np.ones((0, 2))], "X", np.dtype("float32"))
    with pytest.raises(ValueError, match="NaN: sample 0, time step 1"):
        side.rows_of(None, np.array([[[1.0, 2.0], [np.nan, 1.0]]]), "X", np.dtype("float32"))


def test_subwords():
    pytest.importorskip("sentencepiece")
    texts = ["lower and lowest", "newer and newest", "wider, widest"] * 3
    side, ids = Tokens.learn(texts, "text", "X", **{**SETTINGS, "analyzer": "subword", "max_features": 40})
    assert side.size <= 41
    assert [side.join([side.by_id[number] for number in row]) for row in ids] == texts
    again = pickle.loads(pickle.dumps(side))
    assert again.split(["lowest"], "X") == side.split(["lowest"], "X")
    read = SubwordPieces.from_text(side.pieces.to_text())
    assert read("newer lowest") == side.pieces("newer lowest")
