"""Columns of X that hold ids, not measurements: which they are, what they may hold, and the steps that are padding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.packing import Sequences
from numrnn.reading import plain_array

__all__ = ["LARGEST_VOCABULARY", "check_ids", "embedding_matrices", "learn_embeddings", "without_padding"]

# Column of X, rows and columns of its embedding.
Embeddings = tuple[tuple[int, int, int], ...]

# Ids travel in the floating-point type of the network; in float32 whole numbers are exact up to here.
LARGEST_VOCABULARY = 2**24
# So many time steps are searched for padding at a time.
_STEPS_AT_A_TIME = 2**20


def learn_embeddings(estimator: Any, sequences: Sequences, columns: Sequence[int]) -> Embeddings:
    """The embeddings that the parameters of an estimator ask for.

    Parameters
    ----------
    estimator : RecurrentEstimator
        With `embedding_dim`, `vocabulary_size` and `embedding_weights`.
    sequences : Sequences
        What it is fitted on.
    columns : sequence of int
        Those that hold ids.

    Raises
    ------
    ValueError
        If the parameters contradict one another or do not fit the features.
    """
    dims = _for_each(estimator, "embedding_dim", estimator.embedding_dim, len(columns))
    sizes = _for_each(estimator, "vocabulary_size", estimator.vocabulary_size, len(columns))
    matrices = embedding_matrices(estimator, len(columns))
    embeddings = []
    for column, dim, size, matrix in zip(columns, dims, sizes, matrices, strict=True):
        if matrix is not None and (matrix.shape[1] != dim or size not in (None, len(matrix))):
            rows = "vocabulary_size" if size is None else size
            raise ValueError(
                f"The 'embedding_weights' parameter of {_name(estimator)} must have the shape ({rows}, {dim}) for "
                f"feature {column}, by vocabulary_size={estimator.vocabulary_size!r} and "
                f"embedding_dim={estimator.embedding_dim!r}. Got an array of shape {matrix.shape} instead."
            )
        if size is None and matrix is not None:
            size = len(matrix)
        if size is None:
            size = max(int(sequences.values[sequences.rows(), column].max()), 0) + 1
        if size > LARGEST_VOCABULARY:
            raise ValueError(
                f"feature {column} of X has ids up to {size - 1}, but a vocabulary has at most {LARGEST_VOCABULARY} "
                "ids, numbered from 0. Number those that occur, for example with sklearn.preprocessing.OrdinalEncoder."
            )
        embeddings.append((column, int(size), int(dim)))
    return tuple(embeddings)


def categorical_columns(estimator: Any, n_features: int, names: Sequence[str] | None) -> tuple[int, ...]:
    """The columns of X that hold ids, in the order of `categorical_features`."""
    given = estimator.categorical_features
    if given is None:
        return tuple(range(n_features))
    columns = []
    for feature in given:
        if isinstance(feature, str):
            if names is None or feature not in names:
                known = "X is no list of DataFrames with names" if names is None else f"X has {list(names)}"
                raise ValueError(
                    f"The 'categorical_features' parameter of {_name(estimator)} names {feature!r}, but {known}."
                )
            columns.append(list(names).index(feature))
        elif isinstance(feature, Integral) and not isinstance(feature, bool) and 0 <= int(feature) < n_features:
            columns.append(int(feature))
        else:
            raise ValueError(
                f"The 'categorical_features' parameter of {_name(estimator)} must hold names or numbers of features, "
                f"0 to {n_features - 1}. Got {feature!r} instead."
            )
    if not columns or len(set(columns)) < len(columns):
        raise ValueError(
            f"The 'categorical_features' parameter of {_name(estimator)} must name at least one feature, and none "
            f"twice. Got {given!r} instead."
        )
    return tuple(columns)


def embedding_matrices(estimator: Any, n_columns: int) -> list[NDArray | None]:
    """The pretrained embedding of each categorical column, None where there is none."""
    given = estimator.embedding_weights
    if given is None:
        return [None] * n_columns
    name = f"The 'embedding_weights' parameter of {_name(estimator)}"
    several = isinstance(given, (list, tuple)) and any(weights is None or _is_matrix(weights) for weights in given)
    matrices = list(given) if several else [given]
    if len(matrices) != n_columns:
        raise ValueError(
            f"{name} must be a list of {n_columns} arrays or None, one for each categorical feature. Got "
            f"{len(matrices)} instead."
        )
    result: list[NDArray | None] = []
    for weights in matrices:
        matrix = None if weights is None else _as_numbers(weights, name, np.dtype(estimator.dtype))
        if matrix is not None and (matrix.ndim != 2 or not np.isfinite(matrix).all()):
            raise ValueError(
                f"{name} must be of shape (vocabulary_size, embedding_dim) and hold finite numbers. Got an array of "
                f"shape {matrix.shape} instead."
            )
        result.append(matrix)
    return result


def _as_numbers(weights: Any, name: str, dtype: np.dtype) -> NDArray:
    given = plain_array(weights, name)
    try:
        if given.dtype.kind not in "fiubO":
            raise TypeError(f"got an array of type {given.dtype}")
        with np.errstate(over="ignore"):
            return given.astype(dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} must hold numbers: {error}") from error


def _is_matrix(weights: Any) -> bool:
    """Whether an element of a list is a matrix by itself, not a row of one."""
    if isinstance(weights, (list, tuple)):
        return len(weights) > 0 and isinstance(weights[0], (list, tuple, np.ndarray))
    return getattr(weights, "ndim", 0) == 2


def _for_each(estimator: Any, parameter: str, value: Any, n_columns: int) -> list[Any]:
    """One value for each categorical column, from one for all of them or a sequence."""
    if value is None or isinstance(value, Integral):
        return [value] * n_columns
    values = list(value)
    if len(values) != n_columns:
        raise ValueError(
            f"The '{parameter}' parameter of {_name(estimator)} must be one number, or {n_columns} numbers, one for "
            f"each categorical feature. Got {value!r} instead."
        )
    return values


def check_ids(sequences: Sequences, embeddings: Embeddings, everything: Sequences) -> None:
    """Raise ValueError, with the place, if a categorical column holds something else than ids of its vocabulary.

    Parameters
    ----------
    sequences : Sequences
        The time steps that matter.
    embeddings : tuple of (column, n_ids, dimension)
    everything : Sequences
        The same with all time steps, those too that were padding: places are told in terms of these.
    """
    rows = None if sequences is everything else sequences.rows()
    for column, n_ids, _ in embeddings:
        ids = sequences.values[:, column] if rows is None else sequences.values[rows, column]
        bad = (ids < 0) | (ids >= n_ids) | (ids != np.floor(ids))
        if not bad.any():
            continue
        number = int(np.argmax(bad))
        row = number if rows is None else int(rows[number])
        sample = int(np.searchsorted(everything.starts, row, side="right")) - 1
        step = row - int(everything.starts[sample])
        found = float(ids[number])
        shown = repr(found) if found != int(found) else str(int(found))
        kind = "no id (a whole number from 0 on)" if found < 0 or found != int(found) else "outside the vocabulary"
        raise ValueError(
            f"Input X contains {shown}, {kind}: sample {sample}, time step {step}, feature {column}. The vocabulary of "
            f"this feature has {n_ids} ids, 0 to {n_ids - 1}."
        )


def without_padding(sequences: Sequences, columns: Sequence[int], padding_id: int) -> Sequences:
    """The sequences without the steps at their beginning and end whose ids all are `padding_id`.

    A sequence that is nothing but padding keeps its first step.
    """
    begin, end = np.empty_like(sequences.lengths), np.empty_like(sequences.lengths)
    # So many sequences at a time that the tables of their steps stay small.
    bounds = np.searchsorted(np.cumsum(sequences.lengths), np.arange(0, sequences.n_steps, _STEPS_AT_A_TIME))
    for first, last in pairwise([*np.unique(bounds).tolist(), len(sequences)]):
        part = slice(first, last)
        begin[part], end[part] = _ends_of_content(
            Sequences(sequences.values, sequences.starts[part], sequences.lengths[part]), list(columns), padding_id
        )
    empty = end == 0
    begin, end = np.where(empty, 0, begin), np.where(empty, 1, end)
    if padding_id < 0 and empty.any():
        raise ValueError(
            f"sample {int(np.argmax(empty))} of X is nothing but padding, and padding_id={padding_id} has no embedding "
            "that could stand for it. Leave such samples out, or pad with an id of the vocabulary."
        )
    if not begin.any() and (end == sequences.lengths).all():
        return sequences
    return sequences.window(begin, end)


def _ends_of_content(sequences: Sequences, columns: list[int], padding_id: int) -> tuple[NDArray, NDArray]:
    """The first step of each sequence that is not padding and the one after the last; 0 is after the last of none."""
    lengths = sequences.lengths
    content = (sequences.values[sequences.rows()][:, columns] != padding_id).any(axis=1)
    first = np.cumsum(lengths) - lengths
    step = np.arange(len(content)) - np.repeat(first, lengths)
    begin = np.minimum.reduceat(np.where(content, step, len(content)), first)
    return begin, np.maximum.reduceat(np.where(content, step + 1, 0), first)


def _name(estimator: Any) -> str:
    return type(estimator).__name__
