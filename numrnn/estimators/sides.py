"""The two sides of a pair of sequences: what they hold, how it becomes rows of numbers, and how it comes back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from numbers import Integral, Number
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.estimators.subwords import SubwordPieces
from numrnn.estimators.validation import is_list_of_sequences, numeric_sequences
from numrnn.packing import Sequences
from numrnn.reading import check_readable, plain_array
from numrnn.text import UNKNOWN, SequenceEncoder

__all__ = ["ANALYZERS", "UNKNOWN_TOKEN", "Numbers", "Tokens", "check_pairs", "kind_of", "lists_of"]

ANALYZERS = ("word", "split", "char", "subword")
# What stands for a token that is not in the vocabulary, in lists of strings and of integers.
UNKNOWN_TOKEN, UNKNOWN_NUMBER = "<unknown>", -1
# Pieces of words, if `max_features` does not say.
_PIECES = 8000
# A word or a run of punctuation with the blank before it, or white space that is none.
_WORD = re.compile(r" ?\w+| ?[^\w\s]+|\s")

_NAMES = {
    "text": "texts",
    "tokens": "sequences of strings",
    "ids": "sequences of integers",
    "numbers": "sequences of measurements",
    "vectors": "feature vectors",
}


def kind_of(data: Any, name: str, *, vectors: bool) -> str:
    """What one side holds.

    ================================================  ===========================================
    data                                              kind
    ================================================  ===========================================
    list of str                                       "text"
    list of sequences of str                          "tokens"
    list of sequences of int, 2-D array of int        "ids"
    list of arrays of float, 3-D array                "numbers"
    2-D array of float                                "vectors", or "numbers" if not `vectors`
    ================================================  ===========================================

    Raises
    ------
    ValueError
        If it is none of these, or empty.
    """
    if isinstance(data, (str, bytes)):
        raise ValueError(f"{name} is one text; expected a list of texts or of sequences")
    check_readable(data, name)
    if isinstance(data, Mapping) or not hasattr(data, "__len__") or getattr(data, "ndim", 1) == 0:
        raise ValueError(f"{name} is {type(data).__name__}; expected a list of texts or of sequences, or an array")
    if len(data) == 0:
        raise ValueError(f"{name} has no sequence; expected at least one")
    if hasattr(data, "columns") and not all(kind.kind in "biuf" for kind in np.atleast_1d(data.dtypes)):
        raise ValueError(f"{name} is a table with the shape {data.shape}; expected texts, such as one column of it")
    is_table = getattr(data, "ndim", 1) > 1
    first = "" if is_table else next((item for item in data if not hasattr(item, "__len__") or len(item)), "")
    holds_strings = isinstance(first, str) or (isinstance(first, (list, tuple)) and isinstance(first[0], str))
    if is_table or not (holds_strings or is_list_of_sequences(data)):  # an array of long strings would be huge
        array = np.atleast_1d(plain_array(data, name))
        if array.dtype.kind in "biufc" and array.ndim != 1:
            return _kind_of_array(array, name, vectors)
        first = next(iter(array))
    if isinstance(first, str):
        if not isinstance(next(iter(data)), str):
            raise ValueError(f"{name} has no token: all its sequences are empty")
        return "text"
    if isinstance(first, bytes):
        raise TypeError(f"{name} holds bytes; decode them first: text.decode('utf-8')")
    if not hasattr(first, "__len__") or isinstance(first, Mapping):
        raise ValueError(
            f"{name} holds {type(first).__name__}, expected a text or a sequence for every sample, or an array with 2 "
            "or 3 dimensions"
        )
    if (first.ndim if hasattr(first, "ndim") else plain_array(first, f"a sequence of {name}").ndim) > 1:
        return "numbers"
    step = next(iter(first))
    if isinstance(step, str):
        return "tokens"
    return "ids" if isinstance(step, Integral) else "numbers"


def check_pairs(X: Any, y: Any) -> None:
    """Raise ValueError unless there are as many sources as targets, if both can be counted."""
    sides = [(X, "X"), (y, "y")]
    for data, name in sides:
        check_readable(data, name, numbers=False)
    counts = [len(data) if isinstance(data, Sized) and getattr(data, "ndim", 1) > 0 else None for data, _ in sides]
    if None not in counts and counts[0] != counts[1]:
        raise ValueError(f"X has {counts[0]} samples, but y has {counts[1]}; every source needs one target")


def _kind_of_array(array: NDArray, name: str, vectors: bool) -> str:
    if array.size == 0:
        raise ValueError(f"{name} has no token: all its sequences are empty; got an array of shape {array.shape}")
    if array.ndim == 3:
        return "numbers"
    if array.ndim != 2:
        raise ValueError(f"{name} has {array.ndim} dimensions, expected 2 or 3, or a list of sequences")
    if array.dtype.kind in "iu":
        return "ids"
    return "vectors" if vectors else "numbers"


def lists_of(data: Any, kind: str, name: str) -> list[Any]:
    """The samples of one side of a kind that has tokens: strings, or lists of tokens.

    Raises
    ------
    ValueError
        If a sample is of another kind than the others, with its number.
    """
    samples = list(data)
    if kind == "text":
        for number, sample in enumerate(samples):
            if not isinstance(sample, str):
                raise ValueError(f"sample {number} of {name} is {_short(sample)}, but others are texts")
        return samples
    lists = []
    for number, sample in enumerate(samples):
        if isinstance(sample, (str, bytes)) or not hasattr(sample, "__len__") or getattr(sample, "ndim", 1) == 0:
            raise ValueError(f"sample {number} of {name} is {_short(sample)}, but others are {_NAMES[kind]}")
        tokens = sample.tolist() if hasattr(sample, "tolist") else list(sample)
        wanted: Any = str if kind == "tokens" else Integral
        for step, token in enumerate(tokens):
            if not isinstance(token, wanted) or isinstance(token, bool):
                hint = "" if kind == "tokens" else ". For measurements make all of them floating-point numbers"
                raise ValueError(
                    f"sample {number} of {name} has {_short(token)} at step {step}, but {name} holds "
                    f"{_NAMES[kind]}{hint if isinstance(token, Number) else ''}"
                )
        lists.append(tokens)
    return lists


def _short(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) < 40 else text[:36] + ' ...'} ({type(value).__name__})"


def _words(text: str) -> list[str]:
    # With a blank before the first word, too, so that it is the same word as in the middle of a text.
    return _WORD.findall(" " + text) if text else []


def _without_first_blank(tokens: Sequence[str]) -> str:
    return "".join(tokens).removeprefix(" ")


_SPLIT: dict[str, Callable[[str], list[str]]] = {"word": _words, "split": str.split, "char": list}
_JOIN: dict[str, Callable[[Sequence[str]], str]] = {
    "word": _without_first_blank,
    "split": " ".join,
    "char": "".join,
}


@dataclass
class Tokens:
    """The vocabulary of one side.

    Attributes
    ----------
    kind : {"text", "tokens", "ids"}
    analyzer : str or callable
        How texts become tokens.
    lowercase : bool
    vocabulary : dict
        The id of each token, from 1 on; 0 is the unknown one.
    pieces : SubwordPieces or None
        For ``analyzer="subword"``.
    knows_unknown : bool
        Whether training had tokens that are not in the vocabulary.
    """

    kind: str
    analyzer: Any
    lowercase: bool
    vocabulary: dict[Any, int] = field(default_factory=dict)
    pieces: SubwordPieces | None = None
    knows_unknown: bool = False

    @classmethod
    def learn(
        cls,
        data: Any,
        kind: str,
        name: str,
        *,
        analyzer: Any,
        lowercase: bool,
        min_df: int | float,
        max_features: int | None,
    ) -> tuple[Tokens, list[NDArray[np.int64]]]:
        """The vocabulary of the tokens of one side, the most frequent first, and its samples as ids."""
        tokens = cls(kind, analyzer, lowercase)
        samples = lists_of(data, kind, name)
        if kind == "text" and analyzer == "subword":
            texts = [text.lower() for text in samples] if lowercase else samples
            if not any(text.strip() for text in texts):
                raise ValueError(f"{name} has no token: all its texts are empty")
            tokens.pieces = SubwordPieces.learn(texts, max_features or _PIECES)
        split = tokens.split(samples, name)
        if not any(split):
            raise ValueError(f"{name} has no token: all its sequences are empty")
        encoder = SequenceEncoder(analyzer=_as_they_are, min_df=min_df, max_features=max_features)
        encoded = encoder.fit_transform(split)
        tokens.vocabulary = dict(encoder.vocabulary_)
        ids = [row[: len(part)] for row, part in zip(encoded, split, strict=True)]
        tokens.knows_unknown = any((row == UNKNOWN).any() for row in ids)
        return tokens, ids

    # What the network calls it.
    form = "ids"

    @property
    def size(self) -> int:
        """Number of ids, the unknown one included."""
        return len(self.vocabulary) + 1

    @property
    def by_id(self) -> list[Any]:
        """The tokens in the order of their ids."""
        unknown = UNKNOWN_NUMBER if self.kind == "ids" else UNKNOWN_TOKEN
        return [unknown, *self.vocabulary]

    def split(self, samples: Iterable[Any], name: str) -> list[list[Any]]:
        """The tokens of every sample."""
        if self.kind == "ids":
            return list(samples)
        if self.kind == "tokens":
            return [[token.lower() for token in sample] if self.lowercase else sample for sample in samples]
        analyze = self.pieces if self.pieces is not None else _SPLIT.get(self.analyzer, self.analyzer)
        split = [list(analyze(text.lower() if self.lowercase else text)) for text in samples]
        for number, tokens in enumerate(split) if callable(self.analyzer) else ():
            for token in tokens:
                if not isinstance(token, str):
                    raise TypeError(
                        f"the analyzer made {_short(token)} of text {number} of {name}; tokens of texts are strings"
                    )
        return split

    def tokens_of(self, data: Any, name: str) -> list[list[Any]]:
        """The tokens of every sample of new data, which must be of the kind of the first."""
        check_readable(data, name)
        empty = isinstance(data, (list, tuple)) and data and not any(hasattr(s, "__len__") and len(s) for s in data)
        kind = self.kind if empty else kind_of(data, name, vectors=False)
        if kind != self.kind:
            raise ValueError(f"{name} holds {_NAMES[kind]}, but the model was fitted on {_NAMES[self.kind]}")
        return self.split(lists_of(data, self.kind, name), name)

    def encode(self, tokens: Iterable[Sequence[Any]]) -> list[NDArray[np.int64]]:
        """Ids of the tokens of every sample; 0 for those that are unknown."""
        find = self.vocabulary.get
        return [np.array([find(token, UNKNOWN) for token in sample], dtype=np.int64) for sample in tokens]

    def join(self, tokens: Sequence[Any]) -> Any:
        """One sample from its tokens: a text, a list of strings, or an array of integers."""
        if self.kind == "ids":
            return np.array(tokens, dtype=np.int64)
        if self.kind == "tokens":
            return list(tokens)
        if self.pieces is not None:
            return self.pieces.join(tokens)
        if callable(self.analyzer):
            return getattr(self.analyzer, "join", " ".join)(tokens)
        return _JOIN[self.analyzer](tokens)


def _as_they_are(tokens: list[Any]) -> list[Any]:
    return tokens


@dataclass
class Numbers:
    """Measurements on one side.

    Attributes
    ----------
    kind : {"numbers", "vectors"}
    n_features : int
        Of a time step, or of a vector.
    ndim : int
        Dimensions of what was given: 3 or 2 of an array, 2 or 1 of the arrays in a list.
    in_list : bool
    mean, scale : ndarray of shape (n_features,)
        By which they are standardised; 0 and 1 if they are not.
    """

    kind: str
    n_features: int
    ndim: int
    in_list: bool
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @property
    def form(self) -> str:
        """What the network calls it."""
        return "vector" if self.kind == "vectors" else "values"

    @property
    def size(self) -> int:
        return self.n_features

    @classmethod
    def learn(
        cls, estimator: Any, data: Any, kind: str, name: str, dtype: np.dtype, *, standardise: bool
    ) -> tuple[Numbers, Sequences]:
        """The form of the measurements, their statistics if they shall be standardised, and their rows."""
        sequences = _rows_of(estimator, data, kind, name, np.dtype(np.float64) if standardise else dtype)
        in_list = is_list_of_sequences(data)
        width = sequences.n_features
        side = cls(
            kind, width, np.ndim(data[0]) if in_list else np.ndim(data), in_list, np.zeros(width), np.ones(width)
        )
        if standardise:
            rows = sequences.values
            with np.errstate(over="ignore", invalid="ignore"):
                side.mean, scale = rows.mean(axis=0), rows.std(axis=0)
            if not np.isfinite(scale).all():
                raise ValueError(f"Input {name} contains values too large for their variance to be computed.")
            # The deviation of a constant is what rounding leaves of it.
            side.scale = np.where(scale <= 10 * np.finfo(np.float64).eps * np.abs(side.mean), 1.0, scale)
            sequences = side._standardised(sequences, dtype)
        return side, sequences

    def rows_of(self, estimator: Any, data: Any, name: str, dtype: np.dtype) -> Sequences:
        """Rows of new data, which must be of the form of the first."""
        kind = kind_of(data, name, vectors=self.kind == "vectors")
        if kind not in (self.kind, "ids"):  # whole numbers are measurements where others were
            raise ValueError(f"{name} holds {_NAMES[kind]}, but the model was fitted on {_NAMES[self.kind]}")
        sequences = _rows_of(estimator, data, self.kind, name, np.dtype(np.float64))
        if sequences.n_features != self.n_features:
            raise ValueError(
                f"{name} has {sequences.n_features} features, but {type(estimator).__name__} is expecting "
                f"{self.n_features} features as input."
            )
        return self._standardised(sequences, dtype)

    def _standardised(self, sequences: Sequences, dtype: np.dtype) -> Sequences:
        values = ((sequences.values - self.mean) / self.scale).astype(dtype)
        return Sequences(np.ascontiguousarray(values), sequences.starts, sequences.lengths)

    def restore(self, rows: list[NDArray]) -> Any:
        """Predicted rows of every sample in the form and the units of what was given."""
        arrays = [part.astype(np.float64) * self.scale + self.mean for part in rows]
        if self.ndim == (1 if self.in_list else 2):
            arrays = [part[:, 0] for part in arrays]
        return arrays if self.in_list or len({len(part) for part in arrays}) > 1 else np.stack(arrays)


def _rows_of(estimator: Any, data: Any, kind: str, name: str, dtype: np.dtype) -> Sequences:
    if kind != "vectors":
        return numeric_sequences(estimator, data, dtype, name)
    # A vector is a sequence of one time step.
    matrix = np.asarray(data)
    return numeric_sequences(estimator, matrix[:, np.newaxis, :] if matrix.ndim == 2 else matrix, dtype, name)
