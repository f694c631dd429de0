"""Words as rows of ids: the word itself, and what its letters say about it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

__all__ = ["WordEncoder", "word_shape"]

# Lengths of the beginnings and endings of a word that are features of it.
_PREFIXES = (1, 2, 3)
_SUFFIXES = (1, 2, 3, 4)
# A beginning, an ending or a shape must occur in so many different words: seen in one, it says no more than the word.
_FEWEST_WORDS = 2
_LETTERS = re.compile(r"[^\W\d_]")


def word_shape(word: str) -> str:
    """Capitals as ``X``, other letters as ``x``, digits as ``d``, everything else as it is; of repetitions one.

    Examples
    --------
    >>> [word_shape(word) for word in ("Tokyo", "NASA", "mid-1990s", "U.S.", "3.14")]
    ['Xx', 'X', 'x-dx', 'X.X.', 'd.d']
    """
    kinds = ["d" if c.isdigit() else "X" if c.isupper() else "x" if _LETTERS.match(c) else c for c in word]
    return "".join(kind for number, kind in enumerate(kinds) if number == 0 or kind != kinds[number - 1])


class WordEncoder:
    """Vocabularies of words and of their beginnings, endings and shapes; id 0 is what is in none of them.

    Parameters
    ----------
    vocabularies : dict of str to dict of str to int
        For each column its name and the ids, from 1 on. The first one is ``"word"``.
    lowercase : bool
        Whether words, beginnings and endings do not tell capitals from other letters. Shapes do.
    """

    def __init__(self, vocabularies: dict[str, dict[str, int]], lowercase: bool) -> None:
        self.vocabularies = vocabularies
        self.lowercase = lowercase

    @classmethod
    def learn(cls, sequences: Sequence[Sequence[str]], *, min_df: float, lowercase: bool, letters: bool) -> WordEncoder:
        """Vocabularies of the words of these sequences.

        Parameters
        ----------
        sequences : list of list of str
        min_df : int or float
            A word has an id of its own if at least so many sequences (a float: this share of them) contain it.
        lowercase : bool
        letters : bool
            Whether beginnings, endings and shapes are columns too.
        """
        fewest = min_df if isinstance(min_df, Integral) else min_df * len(sequences)
        known = Counter(chain.from_iterable({_folded(word, lowercase) for word in words} for words in sequences))
        vocabularies = {"word": _numbered(word for word, count in known.items() if count >= fewest)}
        if letters:
            different = set(chain.from_iterable(sequences))
            for name in _letter_features("", lowercase):
                vocabularies[name] = {}
            counts = {name: Counter[str]() for name in vocabularies if name != "word"}
            for word in different:
                for name, feature in _letter_features(word, lowercase).items():
                    if feature:
                        counts[name][feature] += 1
            for name, count in counts.items():
                vocabularies[name] = _numbered(feature for feature, n in count.items() if n >= _FEWEST_WORDS)
        return cls(vocabularies, lowercase)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of ids of each column, the one for what is unknown included."""
        return tuple(len(vocabulary) + 1 for vocabulary in self.vocabularies.values())

    def encode(self, words: Iterable[str]) -> NDArray[np.int64]:
        """Ids of words, one row for each and one column for each vocabulary."""
        rows: dict[str, int] = {}
        ids: list[list[int]] = []
        numbers = []
        for word in words:
            row = rows.get(word)
            if row is None:
                row = rows[word] = len(ids)
                ids.append(self._ids(word))
            numbers.append(row)
        return np.array(ids, dtype=np.int64).reshape(-1, len(self.vocabularies))[np.array(numbers, dtype=np.int64)]

    def _ids(self, word: str) -> list[int]:
        features = {"word": _folded(word, self.lowercase)}
        if len(self.vocabularies) > 1:
            features |= _letter_features(word, self.lowercase)
        return [vocabulary.get(features[name], 0) for name, vocabulary in self.vocabularies.items()]


def _folded(word: str, lowercase: bool) -> str:
    return word.lower() if lowercase else word


def _letter_features(word: str, lowercase: bool) -> dict[str, str]:
    """Beginnings and endings, empty where the word is not longer than they would be, and the shape."""
    folded = _folded(word, lowercase)
    features = {f"prefix_{n}": folded[:n] if len(folded) > n else "" for n in _PREFIXES}
    features |= {f"suffix_{n}": folded[-n:] if len(folded) > n else "" for n in _SUFFIXES}
    return features | {"shape": word_shape(word)}


def _numbered(names: Iterable[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(sorted(names), start=1)}
