"""Long sequences that are read side by side, window by window."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.packing import Sequences

__all__ = ["StreamWindows", "cut_into_streams"]


class StreamWindows:
    """A `TrainingSource` whose members are windows of time: each holds the same time steps of all streams.

    They are visited in their order, one in each minibatch, and training carries the state of the streams from every
    window into the next.

    Parameters
    ----------
    streams : Sequences
        Of one length.
    targets : ndarray of int64, shape (n_steps,)
        Of all time steps, stream after stream.
    steps : int
        Time steps of a window; the last one may be shorter.
    """

    def __init__(self, streams: Sequences, targets: NDArray, steps: int) -> None:
        self._streams = streams
        self._targets = targets
        self._steps = steps
        self._places = Sequences(streams.values, np.cumsum(streams.lengths) - streams.lengths, streams.lengths)

    def __len__(self) -> int:
        return -(-self._streams.max_length // self._steps)

    @property
    def window_lengths(self) -> NDArray[np.int64]:
        """Time steps of every stream in a window."""
        return np.full(len(self._streams), min(self._steps, self._streams.max_length), dtype=np.int64)

    @property
    def n_rows(self) -> int:
        return len(self._targets)

    @property
    def total_weight(self) -> float:
        return float(len(self._targets))

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.full(len(self), self._steps, dtype=np.int64)

    def reorder(self, order: NDArray[np.int64] | None) -> StreamWindows:
        if order is not None:
            raise ValueError("the windows of streams follow one another; they cannot be shuffled")
        return self

    def part(self, begin: int, end: int) -> tuple[Sequences, NDArray, None]:
        """All streams from the beginning of window `begin` to that of window `end`."""
        window = begin * self._steps, end * self._steps
        return self._streams.window(*window), self._targets[self._places.window(*window).rows()], None


def cut_into_streams(
    ids: NDArray[np.int64], n_streams: int, shortest: int, dtype: Any
) -> tuple[Sequences, NDArray[np.int64]]:
    """Contiguous streams of one length, at most so many, if possible not shorter; and what follows every number."""
    n_pairs = len(ids) - 1
    n_streams = max(1, min(n_streams, n_pairs // shortest))
    length = n_pairs // n_streams
    values = ids[: n_streams * length].astype(np.dtype(dtype)).reshape(n_streams, length, 1)
    return Sequences.from_padded(values), ids[1 : n_streams * length + 1]
