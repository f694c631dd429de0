"""The parameters of a network: one contiguous vector with named views."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["Parameters", "Reach"]


@dataclass(frozen=True)
class Reach:
    """The parts of a flat vector that a gradient reaches: a dense one, and some rows of tables.

    Attributes
    ----------
    begins, ends : ndarray of int64, shape (1 + n_rows_reached,)
        First and past-the-end element of each part, the dense one first.
    rows : ndarray of int64, shape (n_rows_reached,)
        Numbers of the rows, counted through all tables.
    n_rows : int
        Rows of all tables together.
    """

    begins: NDArray[np.int64]
    ends: NDArray[np.int64]
    rows: NDArray[np.int64]
    n_rows: int

    @classmethod
    def all_of(cls, size: int) -> Reach:
        """All of a vector without tables."""
        return cls(np.zeros(1, dtype=np.int64), np.full(1, size, dtype=np.int64), np.zeros(0, dtype=np.int64), 0)


class Parameters(Mapping[str, NDArray]):
    """Named arrays that share one contiguous vector.

    Gradients and the moments of a solver have the same form, so that a solver, a norm, a copy or a file each deal with
    one array.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        The name and the shape of every array, in the order in which they lie in the vector.
    dtype : dtype
        float32 or float64.

    Attributes
    ----------
    flat : ndarray of shape (size,)
        The vector. Views into it are writable.
    shapes : dict of str to tuple of int
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], dtype: DTypeLike) -> None:
        self.shapes = dict(shapes)
        sizes = [int(np.prod(shape, dtype=np.int64)) for shape in self.shapes.values()]
        self.flat = np.zeros(sum(sizes), dtype=dtype)
        ends = np.cumsum(sizes, dtype=np.int64)
        self._spans = {
            name: slice(int(end) - size, int(end)) for name, size, end in zip(self.shapes, sizes, ends, strict=True)
        }
        self._make_views()

    def _make_views(self) -> None:
        # Made once: a small minibatch spends a tenth of its time on making views otherwise.
        self._views = {name: self.flat[span].reshape(self.shapes[name]) for name, span in self._spans.items()}

    def __getstate__(self) -> dict[str, Any]:
        # Views would come back as arrays of their own.
        return {name: value for name, value in self.__dict__.items() if name != "_views"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_views()

    def __getitem__(self, name: str) -> NDArray:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    @property
    def dtype(self) -> np.dtype:
        return self.flat.dtype

    @property
    def size(self) -> int:
        return int(self.flat.size)

    def span(self, name: str) -> slice:
        """Where the array of that name lies in `flat`."""
        return self._spans[name]

    def zeros_like(self) -> Parameters:
        """Arrays of the same names and shapes, all zero."""
        return Parameters(self.shapes, self.dtype)

    def copy(self) -> Parameters:
        """Independent arrays with the same values."""
        other = self.zeros_like()
        other.flat[:] = self.flat
        return other
