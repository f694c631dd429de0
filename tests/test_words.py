"""Words as ids: vocabularies of words, of their beginnings, endings and shapes."""

from __future__ import annotations

import numpy as np
import pytest

from numrnn.estimators.words import WordEncoder, word_shape

SENTENCES = [["The", "cats", "sat"], ["the", "Dogs", "sat", "sat"], ["A", "cat", "2001"]]


def learn(sequences=SENTENCES, *, min_df=1, lowercase=True, letters=True):
    return WordEncoder.learn(sequences, min_df=min_df, lowercase=lowercase, letters=letters)


@pytest.mark.parametrize(
    ("word", "shape"),
    [
        ("cat", "x"),
        ("Cat", "Xx"),
        ("McCat", "XxXx"),
        ("CAT", "X"),
        ("1999", "d"),
        ("mid-1990s", "x-dx"),
        ("...", "."),
        ("?!?", "?!?"),
        ("Émile", "Xx"),
        ("straße", "x"),
        ("東京", "x"),
        ("a_b", "x_x"),
        ("٣", "d"),
        ("", ""),
    ],
)
def test_shapes(word, shape):
    assert word_shape(word) == shape


def test_words_are_numbered_from_one_in_alphabetical_order():
    encoder = learn(letters=False)
    assert encoder.vocabularies == {"word": {"2001": 1, "a": 2, "cat": 3, "cats": 4, "dogs": 5, "sat": 6, "the": 7}}
    assert encoder.sizes == (8,)
    np.testing.assert_array_equal(encoder.encode(["THE", "mouse", "sat", "the"]), [[7], [0], [6], [7]])


def test_capitals_matter_without_lowercase():
    encoder = learn(letters=False, lowercase=False)
    assert {"The", "the"} <= set(encoder.vocabularies["word"])
    assert encoder.encode(["THE", "the"])[:, 0].tolist() == [0, encoder.vocabularies["word"]["the"]]


@pytest.mark.parametrize(("min_df", "expected"), [(2, {"sat", "the"}), (0.5, {"sat", "the"}), (3, set()), (1.0, set())])
def test_a_word_counts_once_in_a_sequence(min_df, expected):
    assert set(learn(min_df=min_df).vocabularies["word"]) == expected


def test_letters_of_a_word():
    encoder = learn([["walked", "talked", "walking", "talking", "I", "Ik"]])
    assert list(encoder.vocabularies) == [
        "word",
        *(f"prefix_{n}" for n in (1, 2, 3)),
        *(f"suffix_{n}" for n in (1, 2, 3, 4)),
        "shape",
    ]
    names = {name: set(vocabulary) for name, vocabulary in encoder.vocabularies.items()}
    # In one word only are the beginning "i", the endings "k" and "lked" no more than are; the others are in two.
    assert names["prefix_1"] == {"w", "t"}
    assert names["prefix_2"] == {"wa", "ta"}
    assert names["suffix_2"] == {"ed", "ng"}
    assert names["suffix_4"] == {"lked", "king"}
    assert names["shape"] == {"x"}


def test_a_word_has_no_beginning_or_ending_as_long_as_itself():
    encoder = learn([["abc", "abd", "ab", "abce", "bab"]])
    ids = dict(zip(encoder.vocabularies, encoder.encode(["ab"])[0], strict=True))
    assert ids["prefix_1"] == encoder.vocabularies["prefix_1"]["a"]
    assert ids["prefix_2"] == ids["suffix_2"] == ids["suffix_3"] == 0


def test_an_unknown_word_has_known_letters():
    encoder = learn([["walking", "talking", "Sitting"]])
    ids = dict(zip(encoder.vocabularies, encoder.encode(["Balking"])[0], strict=True))
    assert ids["word"] == 0
    assert ids["suffix_3"] == encoder.vocabularies["suffix_3"]["ing"]
    assert ids["prefix_1"] == 0


def test_ids_do_not_depend_on_the_other_words():
    encoder = learn()
    words = ["The", "mouse", "sat", "2002", "The"]
    together = encoder.encode(words)
    assert together.shape == (5, len(encoder.sizes))
    np.testing.assert_array_equal(together, np.concatenate([encoder.encode([word]) for word in words]))
    assert (together.max(axis=0) < encoder.sizes).all()
