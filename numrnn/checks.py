"""Checks of arrays that come from outside, done once, before any work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numrnn.buffers import read_only
from numrnn.kernels.cpu.checks import all_finite
from numrnn.kernels.simd import lane_count
from numrnn.reading import plain_array

__all__ = ["StateLayout", "finite_array", "random_state_of", "real_array"]


def real_array(array: Any, name: str, dtype: np.dtype) -> NDArray:
    """The numbers as a contiguous, writable array of that type; the caller's memory itself where it fits.

    Raises
    ------
    ValueError
        If they are not real numbers.
    """
    if type(array) is np.ndarray and array.dtype is dtype and array.flags.carray:
        return array
    result = plain_array(array, name)
    if result.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be an array of real numbers, got an array of type {result.dtype}")
    if result.dtype == dtype and result.flags.carray:
        return result
    with np.errstate(over="ignore"):
        return np.array(result, dtype=dtype, order="C")


def finite_array(array: Any, name: str, dtype: np.dtype) -> NDArray:
    """As `real_array`, and every number is finite.

    Raises
    ------
    ValueError
        If they are not real numbers, or not finite in that type.
    """
    result = real_array(array, name, dtype)
    if not all_finite(read_only(result.reshape(-1)), np.empty(lane_count(dtype), dtype=dtype)):
        kind = "NaN" if np.isnan(result).any() else "infinity"
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(result))[0])
        raise ValueError(f"{name} must be finite, got {kind} at index {where}")
    return result


def random_state_of(random_state: Any) -> np.random.RandomState:
    """A generator from a seed, or the generator itself.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if isinstance(random_state, np.random.RandomState):
        return random_state
    if random_state is None or (isinstance(random_state, (int, np.integer)) and 0 <= random_state < 2**32):
        return np.random.RandomState(random_state)
    raise ValueError(
        f"random_state must be None, an integer from 0 to 2**32 - 1 or a RandomState, got {random_state!r}"
    )


class StateLayout:
    """The public form of the states of a stack of layers, and how it becomes the engine's.

    The public form is PyTorch's: h, for an LSTM the pair (h, c), each of shape (num_layers * directions, n_sequences,
    hidden_size). Where layers differ in size, one array cannot hold their states: then h is a list with an array
    (directions, n_sequences, hidden_size) for each layer. The engine's form is a list with an array (n_states,
    n_sequences, hidden_size) for each layer and direction.

    Parameters
    ----------
    n_states : int
    n_directions : int
    hidden_sizes : sequence of int
    dtype : dtype
    """

    def __init__(self, n_states: int, n_directions: int, hidden_sizes: Sequence[int], dtype: np.dtype) -> None:
        self.n_states = n_states
        self.n_directions = n_directions
        self.hidden_sizes = tuple(hidden_sizes)
        self.dtype = dtype
        self.uniform = len(set(self.hidden_sizes)) == 1
        self._places = len(self.hidden_sizes) * n_directions
        self._resting: dict[int, list[tuple[NDArray, ...]]] = {}

    def as_it_is(self, state: Any, n_sequences: int) -> tuple[NDArray, ...] | None:
        """The arrays of h, and of c, of a state that needs no conversion at all; None if it does, or is wrong.

        This is on the path of every single time step of a stream.
        """
        given = state if self.n_states == 2 else (state,)
        if type(given) is not tuple or len(given) != self.n_states or not self.uniform:
            return None
        shape, dtype = (self._places, n_sequences, self.hidden_sizes[0]), self.dtype
        for part in given:
            if type(part) is not np.ndarray or part.shape != shape or part.dtype is not dtype or not part.flags.carray:
                return None
        return given

    def parts(self, state: Any, n_sequences: int, name: str = "state") -> list[list[NDArray]]:
        """The checked arrays of h, and of c: one for all layers if they are of one size, else one for each.

        Raises
        ------
        ValueError
            If a shape does not fit or an array does not hold real numbers.
        """
        given = (state,) if self.n_states == 1 else state
        if not isinstance(given, (tuple, list)) or len(given) != self.n_states:
            what = f"{len(given)} arrays" if isinstance(given, (tuple, list)) else type(given).__name__
            raise ValueError(f"{name} must be a pair (h, c) of arrays, got {what}")
        return [self._part(part, n_sequences, f"{'hc'[i]} of {name}") for i, part in enumerate(given)]

    def _part(self, part: Any, n_sequences: int, name: str) -> list[NDArray]:
        if self.uniform:
            return [
                self._array(part, (self._places, n_sequences, self.hidden_sizes[0]), name, "num_layers * directions")
            ]
        if not isinstance(part, (tuple, list)) or len(part) != len(self.hidden_sizes):
            what = f"{len(part)} arrays" if isinstance(part, (tuple, list)) else type(part).__name__
            raise ValueError(
                f"{name} must be a list of {len(self.hidden_sizes)} arrays, one for each layer, since the sizes of the "
                f"layers differ; got {what}"
            )
        return [
            self._array(array, (self.n_directions, n_sequences, size), f"{name}, layer {number},", "directions")
            for number, (array, size) in enumerate(zip(part, self.hidden_sizes, strict=True))
        ]

    def _array(self, array: Any, shape: tuple[int, int, int], name: str, first_axis: str) -> NDArray:
        if type(array) is np.ndarray and array.dtype == self.dtype and array.flags.carray:
            result = array
        else:
            result = real_array(array, name, self.dtype)
        if result.shape != shape:
            raise ValueError(
                f"{name} must have the shape ({first_axis}, n_sequences, hidden_size) = {shape}, got {result.shape}"
            )
        return result

    def to_engine(self, state: Any, n_sequences: int, name: str = "state") -> list[NDArray] | None:
        """The engine's form; None, which is zero, stays None.

        Raises
        ------
        ValueError
            If a shape does not fit or a number is not finite.
        """
        if state is None:
            return None
        by_place = []
        for letter, arrays in zip("hc", self.parts(state, n_sequences, name), strict=False):
            by_place.append([row for a in arrays for row in finite_array(a, f"{letter} of {name}", self.dtype)])
        return [np.stack(rows) for rows in zip(*by_place, strict=True)]

    def from_engine(self, blocks: list[NDArray]) -> Any:
        """The public form of states as `RecurrentPass.final` has them: views, nothing is copied."""
        result: list[Any] = []
        for s in range(self.n_states):
            result.append(blocks[0][s] if self.uniform else [block[s] for block in blocks])
        return result[0] if self.n_states == 1 else tuple(result)

    def resting(self, n_sequences: int) -> list[tuple[NDArray, ...]]:
        """The arrays of `zeros` for each group of layers that share them. They are kept, and not to be written.

        This is on the path of every single time step of a network without a state.
        """
        kept = self._resting.get(n_sequences)
        if kept is None:
            parts = self.parts(self.zeros(n_sequences), n_sequences)
            kept = self._resting[n_sequences] = list(zip(*parts, strict=True))
        return kept

    def zeros(self, n_sequences: int) -> Any:
        """The state of a network that has seen nothing, in the public form."""
        n = self.n_directions
        result: list[Any] = []
        for _ in range(self.n_states):
            if self.uniform:
                shape = (self._places, n_sequences, self.hidden_sizes[0])
                result.append(np.zeros(shape, dtype=self.dtype))
            else:
                result.append([np.zeros((n, n_sequences, size), dtype=self.dtype) for size in self.hidden_sizes])
        return result[0] if self.n_states == 1 else tuple(result)
