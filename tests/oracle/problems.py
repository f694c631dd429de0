"""Random parameters, sequences and states of the right names and shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray

from oracle.cells import CELLS


def parameter_shapes(
    cell: str, input_size: int, hidden_sizes: Sequence[int], bidirectional: bool = False
) -> dict[str, tuple[int, ...]]:
    """PyTorch's names and shapes, in PyTorch's order."""
    n_gates, shapes = CELLS[cell].n_gates, {}
    for layer, hidden_size in enumerate(hidden_sizes):
        for direction in ("", "_reverse") if bidirectional else ("",):
            suffix = f"_l{layer}{direction}"
            shapes["weight_ih" + suffix] = (n_gates * hidden_size, input_size)
            shapes["weight_hh" + suffix] = (n_gates * hidden_size, hidden_size)
            shapes["bias_ih" + suffix] = (n_gates * hidden_size,)
            shapes["bias_hh" + suffix] = (n_gates * hidden_size,)
        input_size = hidden_size * (2 if bidirectional else 1)
    return shapes


def random_parameters(
    rng: np.random.Generator, shapes: Mapping[str, tuple[int, ...]], dtype: DTypeLike = np.float64
) -> dict[str, NDArray]:
    """Normal values; matrices scaled so that a product has about the size of its factor, biases not zero."""
    return {
        name: (rng.normal(size=shape) * (shape[1] ** -0.5 if len(shape) == 2 else 0.3)).astype(dtype)
        for name, shape in shapes.items()
    }


def random_sequences(
    rng: np.random.Generator, lengths: Sequence[int], input_size: int, dtype: DTypeLike = np.float64
) -> list[NDArray]:
    return [rng.normal(size=(length, input_size)).astype(dtype) for length in lengths]


def random_state(
    rng: np.random.Generator,
    cell: str,
    n_sequences: int,
    hidden_sizes: Sequence[int],
    bidirectional: bool = False,
    dtype: DTypeLike = np.float64,
) -> list[NDArray]:
    """One array (n_states, N, H) per layer and direction, with values a cell could have reached."""
    n_states = CELLS[cell].n_states
    return [
        rng.uniform(-0.9, 0.9, size=(n_states, n_sequences, hidden_size)).astype(dtype)
        for hidden_size in hidden_sizes
        for _ in range(2 if bidirectional else 1)
    ]
