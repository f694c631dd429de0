"""Scores of entities and tokens against cases counted by hand, a plain search for entities, and seqeval."""

from __future__ import annotations

import warnings

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given
from sklearn.base import BaseEstimator
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import make_scorer

from numrnn import metrics
from numrnn.metrics import (
    entity_f1_score,
    entity_precision_score,
    entity_recall_score,
    entity_report,
    iob_entities,
    token_accuracy_score,
)

TAGS = ["O", "B-A", "I-A", "B-B", "I-B", "I-A-1"]
SCORES = {"precision": entity_precision_score, "recall": entity_recall_score, "f1": entity_f1_score}


# --------------------------------------------------------------------------------------------------------- entities
@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("", []),
        ("O O", []),
        ("B-A", [("A", 0, 1)]),
        ("B-A I-A I-A", [("A", 0, 3)]),
        ("O B-A O I-A", [("A", 1, 2), ("A", 3, 4)]),
        # IOB2: every entity begins with B.
        ("B-A B-A I-A B-B", [("A", 0, 1), ("A", 1, 3), ("B", 3, 4)]),
        # IOB1: only an entity beside one of the same type does.
        ("I-A I-A B-A I-A O I-B", [("A", 0, 2), ("A", 2, 4), ("B", 5, 6)]),
        # Neither: another type begins another entity.
        ("B-A I-B I-B I-A", [("A", 0, 1), ("B", 1, 3), ("A", 3, 4)]),
        # Types may have hyphens, and there may be only one.
        ("B-A-1 I-A-1 I-A", [("A-1", 0, 2), ("A", 2, 3)]),
        ("B I I O I", [("", 0, 3), ("", 4, 5)]),
    ],
)
def test_entities_by_hand(tags, expected):
    assert iob_entities(tags.split()) == expected
    assert iob_entities(np.array(tags.split(), dtype=str)) == expected


def begins(tags, step):
    """Whether an entity begins at a time step, by the definition."""
    tag, before = tags[step], tags[step - 1] if step else "O"
    return tag[0] == "B" or (tag[0] == "I" and (before == "O" or before[2:] != tag[2:]))


def plain_entities(tags):
    """All spans that begin where an entity begins and hold "I-" until something else comes."""
    found = []
    for start in range(len(tags)):
        if begins(tags, start):
            stop = start + 1
            while stop < len(tags) and tags[stop][0] == "I" and not begins(tags, stop):
                stop += 1
            found.append((tags[start][2:], start, stop))
    return found


sequences = st.lists(
    st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), max_size=9), min_size=1, max_size=5
)


@given(st.lists(st.sampled_from(TAGS), max_size=12))
def test_any_tags_are_read_as_the_definition_says(tags):
    assert iob_entities(tags) == plain_entities(tags)


def test_iob1_and_iob2_of_the_same_entities_agree():
    iob2 = ["B-A", "I-A", "B-A", "O", "B-B", "B-A"]
    iob1 = ["I-A", "I-A", "B-A", "O", "I-B", "I-A"]
    assert iob_entities(iob1) == iob_entities(iob2)
    assert entity_f1_score([iob2], [iob1]) == 1.0


# ----------------------------------------------------------------------------------------------------------- scores
def test_scores_by_hand():
    y_true = [["B-A", "I-A", "O", "B-B"], ["B-A", "O", "B-B", "I-B"], ["O", "B-B"]]
    y_pred = [["B-A", "I-A", "O", "B-B"], ["B-B", "O", "B-B", "O"], ["B-A", "B-B"]]
    # True: 2 A, 3 B. Predicted: 2 A, 4 B. Right: 1 A (the first), 2 B (the first and the last).
    assert entity_precision_score(y_true, y_pred) == pytest.approx(3 / 6)
    assert entity_recall_score(y_true, y_pred) == pytest.approx(3 / 5)
    assert entity_f1_score(y_true, y_pred) == pytest.approx(6 / 11)
    np.testing.assert_allclose(entity_precision_score(y_true, y_pred, average=None), [1 / 2, 2 / 4])
    np.testing.assert_allclose(entity_recall_score(y_true, y_pred, average=None), [1 / 2, 2 / 3])
    f1 = [1 / 2, 4 / 7]
    np.testing.assert_allclose(entity_f1_score(y_true, y_pred, average=None), f1)
    assert entity_f1_score(y_true, y_pred, average="macro") == pytest.approx(np.mean(f1))
    assert entity_f1_score(y_true, y_pred, average="weighted") == pytest.approx((2 * f1[0] + 3 * f1[1]) / 5)
    assert token_accuracy_score(y_true, y_pred) == pytest.approx(7 / 10)


@pytest.mark.parametrize(
    "predicted",
    ["B-A I-A O O", "B-A I-A I-A I-A", "O B-A I-A O", "B-B I-B I-B O", "B-A I-A B-A O", "O O O O"],
    ids=["too short", "too long", "too late", "wrong type", "in two", "none"],
)
def test_a_part_of_an_entity_is_nothing(predicted):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        assert entity_f1_score([["B-A", "I-A", "I-A", "O"]], [predicted.split()]) == 0.0


def test_equal_spans_in_different_sequences_are_different_entities():
    assert entity_recall_score([["B-A"], ["B-A"]], [["B-A"], ["O"]]) == 0.5


@given(sequences)
def test_scores_agree_with_counting(pairs):
    y_true = [[a for a, _ in sequence] for sequence in pairs]
    y_pred = [[b for _, b in sequence] for sequence in pairs]
    true = {(i, *entity) for i, tags in enumerate(y_true) for entity in plain_entities(tags)}
    predicted = {(i, *entity) for i, tags in enumerate(y_pred) for entity in plain_entities(tags)}
    assume(true and predicted)
    right = len(true & predicted)
    precision, recall = right / len(predicted), right / len(true)
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    assert entity_precision_score(y_true, y_pred) == pytest.approx(precision)
    assert entity_recall_score(y_true, y_pred) == pytest.approx(recall)
    assert entity_f1_score(y_true, y_pred) == pytest.approx(f1)
    flat = [pair for sequence in pairs for pair in sequence]
    assert token_accuracy_score(y_true, y_pred) == pytest.approx(np.mean([a == b for a, b in flat]))


@pytest.mark.parametrize("average", ["micro", "macro", "weighted", None])
def test_scores_agree_with_seqeval(average, rng):
    seqeval = pytest.importorskip("seqeval.metrics")
    for _ in range(20):
        y_true = [rng.choice(TAGS, size=length).tolist() for length in rng.integers(1, 20, 6)]
        y_pred = [[tag if rng.random() < 0.7 else str(rng.choice(TAGS)) for tag in tags] for tags in y_true]
        for name, score in SCORES.items():
            expected = getattr(seqeval, f"{name}_score")(y_true, y_pred, average=average, zero_division=0)
            np.testing.assert_allclose(score(y_true, y_pred, average=average, zero_division=0), expected)


# --------------------------------------------------------------------------------------------- nothing to divide by
@pytest.mark.parametrize(("name", "lack"), [("precision", "no predicted"), ("recall", "no true"), ("f1", "neither")])
def test_no_entities(name, lack):
    score, nothing = SCORES[name], [["O", "O"]]
    with pytest.warns(
        UndefinedMetricWarning, match=f"{name} is ill-defined and set to 0.0: there are {lack}"
    ) as caught:
        assert score(nothing, nothing) == 0.0
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for average in ("micro", "macro", "weighted"):
            assert score(nothing, nothing, average=average, zero_division=0) == 0.0
            assert score(nothing, nothing, average=average, zero_division=1) == 1.0
        assert score(nothing, nothing, average=None, zero_division=1).shape == (0,)
        assert score([], [], zero_division=1) == 1.0


def test_types_that_nobody_predicted():
    y_true, y_pred = [["B-A", "B-B"]], [["B-A", "O"]]
    with pytest.warns(UndefinedMetricWarning, match=r"no predicted entities of \['B'\]"):
        assert entity_precision_score(y_true, y_pred, average="macro") == 0.5
    assert entity_precision_score(y_true, y_pred, average="macro", zero_division=1) == 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(entity_f1_score(y_true, y_pred, average=None), [1.0, 0.0])


# ----------------------------------------------------------------------------------------------------------- report
def test_report_holds_the_scores():
    y_true = [["B-A", "I-A", "O", "B-LONGTYPE"], ["B-A", "O", "B-LONGTYPE", "I-LONGTYPE"]]
    y_pred = [["B-A", "I-A", "O", "B-LONGTYPE"], ["B-A", "I-A", "O", "O"]]
    report = entity_report(y_true, y_pred, output_dict=True)
    assert list(report) == ["A", "LONGTYPE", "micro avg", "macro avg", "weighted avg"]
    assert [row["support"] for row in report.values()] == [2, 2, 4, 4, 4]
    for name, column in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
        of_types = SCORES[name](y_true, y_pred, average=None)
        assert [report["A"][column], report["LONGTYPE"][column]] == of_types.tolist()
        for average in ("micro", "macro", "weighted"):
            assert report[f"{average} avg"][column] == SCORES[name](y_true, y_pred, average=average)
    lines = entity_report(y_true, y_pred, digits=2).splitlines()
    assert len(lines) == 7
    assert lines[1].split() == ["A", "0.50", "0.50", "0.50", "2"]
    assert len({len(line) for line in lines if line}) == 1  # columns line up


def test_report_without_entities():
    with pytest.warns(UndefinedMetricWarning):
        report = entity_report([["O"]], [["O"]])
    assert [line.split()[0] for line in report.splitlines()] == ["precision", "micro", "macro", "weighted"]


# -------------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("y_true", "y_pred", "message"),
    [
        ([["O"]], [["O"], ["O"]], "y_true has 1 sequences, but y_pred has 2"),
        ([["O"], ["O", "O"]], [["O"], ["O"]], "sequence 1 has 2 labels in y_true, but 1 in y_pred"),
        ("O O", [["O"]], "y_true is 'O O'; expected a list of sequences"),
        ([["O"]], None, "y_pred is None"),
        (["O", "O"], ["O", "O"], "sequence 0 of y_true is 'O'; expected a sequence of labels"),
        ([1, 2], [1, 2], "sequence 0 of y_true is 1; expected a sequence of labels"),
    ],
)
@pytest.mark.parametrize("score", [entity_f1_score, entity_report, token_accuracy_score])
def test_sequences_that_do_not_fit(score, y_true, y_pred, message):
    with pytest.raises(ValueError, match=message):
        score(y_true, y_pred)


@pytest.mark.parametrize("tag", ["PER", "E-PER", "b-PER", "B-", "BPER", "", "OO", "O-PER", None, 3])
def test_tags_that_are_not_iob(tag):
    with pytest.raises(
        ValueError, match=r"time step 1 of sequence 1 of y_pred is .*; expected 'O', 'B-TYPE' or 'I-TYPE'"
    ):
        entity_f1_score([["O"], ["O", "O"]], [["O"], ["O", tag]])


def test_other_bad_arguments():
    with pytest.raises(ValueError, match="'average' parameter"):
        entity_f1_score([["O"]], [["O"]], average="mean")
    with pytest.raises(ValueError, match="'zero_division' parameter"):
        entity_report([["O"]], [["O"]], zero_division=2)
    with pytest.raises(ValueError, match="tags is 'O'"):
        iob_entities("O")
    with pytest.raises(ValueError, match="the 2 sequences of y_true have no label"):
        token_accuracy_score([[], []], [[], []])


# ------------------------------------------------------------------------------------------------------------ others
def test_labels_of_any_kind_have_an_accuracy():
    assert token_accuracy_score([np.array([1, 2]), [3]], [np.array([1, 0]), (3,)]) == pytest.approx(2 / 3)
    assert token_accuracy_score(np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]) == 1.0


def test_scores_make_scorers():
    class Tagger(BaseEstimator):
        def fit(self, X, y):
            return self

        def predict(self, X):
            return [["B-A"] * len(x) for x in X]

    scorer = make_scorer(entity_f1_score, average="micro")
    assert scorer(Tagger(), [[1, 2]], [["B-A", "O"]]) == pytest.approx(2 / 3)


def test_public_names():
    assert all(hasattr(metrics, name) for name in metrics.__all__)
