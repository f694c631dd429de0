"""Ragged sequences, and their packed time-major order.

Two containers carry sequences through the package. `Sequences` is how data waits to be used: every time step of every
sequence is one row of a matrix, in sequence order. `Packing` is how a minibatch is walked: sequences sorted by length,
longest first, so that the rows alive at time step t are the first `offsets[t + 1] - offsets[t]` of them and no work is
ever done on padding. Neither copies the data: a packing is only tables of row numbers into the matrix of a `Sequences`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["Packing", "Sequences", "balanced_ranges"]

Rows = NDArray[np.int64]

# Of batches with as few time steps as this, the last table of rows is remembered: it takes long to make beside its use.
_REMEMBERED = 2**16


def _row_ranges(starts: Rows, lengths: Rows) -> Rows:
    """Row numbers `starts[i], ..., starts[i] + lengths[i] - 1` of every i, one after the other."""
    total = int(lengths.sum())
    first = np.cumsum(lengths) - lengths
    return np.arange(total, dtype=np.int64) + np.repeat(starts - first, lengths)


@lru_cache(maxsize=16)
def _equal_tables(n_sequences: int, n_timesteps: int) -> tuple[Rows, Rows]:
    """Starts and lengths of sequences of one length, one after the other."""
    starts = np.arange(n_sequences, dtype=np.int64) * n_timesteps
    return starts, np.full(n_sequences, n_timesteps, dtype=np.int64)


class Sequences:
    """Sequences of any lengths as rows of one contiguous matrix.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_features)
        The time steps, C-contiguous. Borrowed, never written.
    starts : ndarray of int64, shape (n_sequences,)
        The row of `values` that holds the first time step of each sequence.
    lengths : ndarray of int64, shape (n_sequences,)
        The number of time steps of each sequence. Zero is allowed: such a sequence has no step in this window.
    """

    __slots__ = ("lengths", "starts", "values")

    def __init__(self, values: NDArray, starts: Rows, lengths: Rows) -> None:
        self.values = values
        self.starts = starts
        self.lengths = lengths

    @classmethod
    def from_padded(cls, x: NDArray, lengths: Rows | None = None) -> Sequences:
        """Sequences of a batch-first array `(n_sequences, n_timesteps, n_features)`; no copy if it is contiguous."""
        n_sequences, n_timesteps, n_features = x.shape
        values = np.ascontiguousarray(x).reshape(n_sequences * n_timesteps, n_features)
        starts, equal = _equal_tables(n_sequences, n_timesteps)
        return cls(values, starts, equal if lengths is None else lengths)

    @classmethod
    def from_list(cls, arrays: Sequence[NDArray]) -> Sequences:
        """Sequences of a list of arrays `(n_timesteps_i, n_features)`, joined into one matrix."""
        lengths = np.array([len(array) for array in arrays], dtype=np.int64)
        return cls(np.ascontiguousarray(np.concatenate(arrays)), np.cumsum(lengths) - lengths, lengths)

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[NDArray]:
        """The sequences one by one, each a view `(n_timesteps_i, n_features)`."""
        for start, length in zip(self.starts, self.lengths, strict=True):
            yield self.values[start : start + length]

    @property
    def n_features(self) -> int:
        return int(self.values.shape[1])

    @property
    def n_steps(self) -> int:
        """Time steps of all sequences together."""
        return int(self.lengths.sum())

    @property
    def max_length(self) -> int:
        return int(self.lengths.max(initial=0))

    def take(self, indices: Rows) -> Sequences:
        """The chosen sequences, in the chosen order. The rows are shared."""
        return Sequences(self.values, self.starts[indices], self.lengths[indices])

    def window(self, begin: int | Rows, end: int | Rows) -> Sequences:
        """Time steps `begin` to `end` (exclusive) of every sequence, as far as it has them. The rows are shared."""
        first = np.minimum(begin, self.lengths)
        last = np.clip(end, first, self.lengths)
        return Sequences(self.values, self.starts + first, last - first)

    def rows(self) -> Rows:
        """Row of `values` for every time step, sequence after sequence."""
        return _row_ranges(self.starts, self.lengths)


class Packing:
    """The order in which a minibatch of ragged sequences is walked: time-major, longest sequence first.

    Parameters
    ----------
    lengths : ndarray of int64, shape (n_sequences,)
        The number of time steps of each sequence, in the caller's order.

    Attributes
    ----------
    order : ndarray of int64, shape (n_sequences,)
        The caller's number of each sequence, longest first; equal lengths keep the caller's order.
    lengths : ndarray of int64, shape (n_sequences,)
        The lengths in that order.
    offsets : ndarray of int64, shape (n_timesteps + 1,)
        Packed rows `offsets[t]:offsets[t + 1]` belong to time step t; they are the first sequences of `order`.
    """

    __slots__ = ("_last", "_steps", "lengths", "n_rows", "n_sequences", "n_timesteps", "offsets", "order")

    def __init__(self, lengths: Rows) -> None:
        lengths = np.asarray(lengths, dtype=np.int64)
        self.n_sequences = len(lengths)
        # With equal lengths the caller's order stands, and all tables are regular.
        self._steps: Rows | None = None
        self._last: tuple[bytes, Rows] | None = None
        if self.n_sequences and lengths.min() == lengths.max():
            self.n_timesteps = int(lengths[0])
            self.order = np.arange(self.n_sequences, dtype=np.int64)
            self.lengths = lengths
            self.offsets = np.arange(self.n_timesteps + 1, dtype=np.int64) * self.n_sequences
            self._steps = np.arange(self.n_timesteps, dtype=np.int64)[:, np.newaxis]
        else:
            self.order = np.argsort(-lengths, kind="stable").astype(np.int64, copy=False)
            self.lengths = np.ascontiguousarray(lengths[self.order])
            self.n_timesteps = int(self.lengths[0]) if self.n_sequences else 0
            steps = np.arange(1, self.n_timesteps + 1)
            alive = self.n_sequences - np.searchsorted(self.lengths[::-1], steps, side="left")
            self.offsets = np.concatenate([[0], np.cumsum(alive)]).astype(np.int64, copy=False)
        self.n_rows = int(self.offsets[-1])

    @property
    def in_order(self) -> bool:
        """Whether `order` is the caller's order, known without looking: all lengths are equal."""
        return self._steps is not None

    def rows(self, starts: Rows) -> Rows:
        """Where each packed row lies, if sequence i of the caller begins at row `starts[i]` of some matrix."""
        starts = np.asarray(starts, dtype=np.int64)
        if self.n_rows <= _REMEMBERED:
            key = starts.tobytes()
            if self._last is not None and self._last[0] == key:
                return self._last[1]
            rows = self._rows(starts)
            self._last = key, rows
            return rows
        return self._rows(starts)

    def _rows(self, starts: Rows) -> Rows:
        if self._steps is not None:
            return (starts + self._steps).reshape(-1)
        alive = np.diff(self.offsets)
        position = np.arange(self.n_rows, dtype=np.int64) - np.repeat(self.offsets[:-1], alive)
        step = np.repeat(np.arange(self.n_timesteps, dtype=np.int64), alive)
        return starts[self.order][position] + step


def balanced_ranges(sizes: NDArray, n_parts: int) -> list[tuple[int, int]]:
    """At most `n_parts` consecutive ranges `(begin, end)` of about equal total size; one of them may be all.

    None is empty, but for the single range of no sizes at all.
    """
    if n_parts < 2 or len(sizes) < 2:
        return [(0, len(sizes))]
    ends = np.cumsum(sizes)
    inner = np.searchsorted(ends, ends[-1] * np.arange(1, n_parts) / n_parts, side="left") + 1
    bounds = [0, *np.unique(np.minimum(inner, len(sizes))).tolist(), len(sizes)]
    return [(a, b) for a, b in pairwise(bounds) if b > a]
