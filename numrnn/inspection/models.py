"""What can be looked into, and what it is given: estimators and layers, arrays and lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numrnn.checks import finite_array
from numrnn.estimators.base import RecurrentEstimator
from numrnn.estimators.validation import is_list_of_sequences, words_of
from numrnn.inspection.recurrence import Recurrence
from numrnn.layers import _RecurrentLayer
from numrnn.packing import Sequences

__all__ = [
    "Container",
    "check_direction",
    "check_layer",
    "fitted_estimator",
    "input_of_layers",
    "is_layer",
    "prepared",
    "recurrence_of",
]


@dataclass(frozen=True)
class Container:
    """How the sequences were given, and so how results about their time steps are returned.

    Attributes
    ----------
    is_list : bool
        A list of sequences, as opposed to one array.
    has_features : bool
        Whether a time step was given as a vector and not as one number or word.
    lengths : ndarray of int64, shape (n_sequences,)
        Time steps of the sequences, without those that are padding.
    begins : ndarray of int64, shape (n_sequences,)
        The place of their first time step in the array.
    n_timesteps : int
        Of the array.
    """

    is_list: bool
    has_features: bool
    lengths: NDArray[np.int64]
    begins: NDArray[np.int64]
    n_timesteps: int

    def of_layers(self, lengths: NDArray[np.int64]) -> Container:
        """For results about the time steps of the recurrent layers, which may be fewer."""
        if np.array_equal(lengths, self.lengths):
            return self
        return replace(self, lengths=lengths, begins=np.zeros_like(lengths), n_timesteps=int(lengths.max()))

    def fill(self, rows: NDArray) -> Any:
        """Rows of time steps, sequence after sequence, as an array for an array and as a list for a list.

        In an array, what belongs to padding is zero.
        """
        if self.is_list:
            return [np.array(part) for part in np.split(rows, np.cumsum(self.lengths)[:-1])]
        n_sequences = len(self.lengths)
        if len(rows) == n_sequences * self.n_timesteps:
            return rows.reshape(n_sequences, self.n_timesteps, *rows.shape[1:])
        array = np.zeros((n_sequences * self.n_timesteps, *rows.shape[1:]), dtype=rows.dtype)
        starts = self.begins + np.arange(n_sequences) * self.n_timesteps
        array[Sequences(array, starts, self.lengths).rows()] = rows
        return array.reshape(n_sequences, self.n_timesteps, *rows.shape[1:])

    def fill_like_input(self, rows: NDArray) -> Any:
        """Rows with one column for each column of the input, in the shape of the input."""
        return self.fill(rows if self.has_features else rows.sum(axis=1))


def is_layer(model: Any) -> bool:
    return isinstance(model, _RecurrentLayer)


def fitted_estimator(model: Any, what: str) -> Any:
    """The model itself, if it is a fitted estimator.

    Raises
    ------
    TypeError
        If it is something else.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    """
    if not isinstance(model, RecurrentEstimator):
        raise _not_ours(model, f"{what} needs an estimator of numrnn, such as RNNClassifier")
    model._check_fitted()
    return model


def _not_ours(model: Any, message: str) -> TypeError:
    hint = " (of a pipeline, pass the last step, and X as the other steps transform it)" * hasattr(model, "steps")
    return TypeError(f"{message}, got {type(model).__name__}{hint}")


def prepared(model: Any, X: Any, what: str) -> tuple[Sequences, Container]:
    """X as the model reads it, and how it was given.

    Raises
    ------
    ValueError
        If X is not what the model takes.
    TypeError
        If the model is neither an estimator of this package nor a layer.
    """
    is_list = is_list_of_sequences(X)
    if is_layer(model):
        return _prepared_for_layer(model, X, is_list)
    if not isinstance(model, RecurrentEstimator):
        raise _not_ours(model, f"{what} needs an estimator of numrnn, such as RNNClassifier, or a layer, such as LSTM")
    sequences = model._sequences(X)
    lengths = sequences.lengths
    words = words_of(X) is not None
    if is_list or words:
        has_features = not words and np.ndim(X[0]) == 2
        return sequences, Container(True, has_features, lengths, np.zeros_like(lengths), 0)
    n_timesteps = np.shape(X)[1]
    begins = sequences.starts - np.arange(len(lengths)) * n_timesteps
    return sequences, Container(False, np.ndim(X) == 3, lengths, begins, n_timesteps)


def _prepared_for_layer(layer: _RecurrentLayer, X: Any, is_list: bool) -> tuple[Sequences, Container]:
    if not is_list:
        sequences = Sequences.from_padded(layer._as_batch(X, "X", layer.input_size, "input_size"))
    else:
        if not len(X):
            raise ValueError("X must have at least one sequence, got an empty list")
        arrays = [finite_array(array, f"sequence {number} of X", layer.dtype) for number, array in enumerate(X)]
        for number, array in enumerate(arrays):
            if array.ndim != 2 or array.shape[1] != layer.input_size or not len(array):
                raise ValueError(
                    f"sequence {number} of X must have the shape (n_timesteps, {layer.input_size}) with at least one "
                    f"time step, got {array.shape}"
                )
        sequences = Sequences.from_list(arrays)
    lengths = sequences.lengths
    return sequences, Container(is_list, True, lengths, np.zeros_like(lengths), 0 if is_list else int(lengths[0]))


def input_of_layers(model: Any, sequences: Sequences) -> tuple[NDArray, NDArray[np.int64]]:
    """What the first recurrent layer sees, sequence after sequence, and the lengths."""
    if is_layer(model):
        return sequences.values[sequences.rows()], sequences.lengths
    embedded = model._network.embedded(sequences)
    return embedded.values, embedded.lengths


def recurrence_of(model: Any, dtype: DTypeLike | None = None) -> Recurrence:
    """The recurrent layers of an estimator or a layer, to compute in that type or their own."""
    if is_layer(model):
        return Recurrence(model._stack, model._parameters, dtype or model.dtype)
    network = model._network
    return Recurrence(network.stack, network.parameters, dtype or network.dtype)


def check_layer(layer: Any, n_layers: int) -> int:
    """The number of a layer, counted from the input, of one that may be counted from the top.

    Raises
    ------
    ValueError
        If there is no such layer.
    """
    if isinstance(layer, bool) or not isinstance(layer, (int, np.integer)) or not -n_layers <= layer < n_layers:
        raise ValueError(
            f"layer must be an integer from {-n_layers} to {n_layers - 1}, since the model has {n_layers} recurrent "
            f"layer{'s' if n_layers > 1 else ''}, got {layer!r}"
        )
    return int(layer) % n_layers


def check_direction(direction: Any, n_directions: int) -> Sequence[int]:
    """The directions that are meant: 0 for forward and 1 for reverse.

    Raises
    ------
    ValueError
        If there is no such direction.
    """
    if direction not in (None, "forward", "reverse"):
        raise ValueError(f"direction must be 'forward', 'reverse' or None, got {direction!r}")
    if direction == "reverse" and n_directions == 1:
        raise ValueError("direction='reverse' needs a bidirectional model; this one reads its sequences forward only")
    return range(n_directions) if direction is None else [("forward", "reverse").index(direction)]
