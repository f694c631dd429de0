"""Between the oracle's states and PyTorch's form of them, which the public layers take and give.

The oracle has a list with one array (n_states, N, H) for each layer and direction. PyTorch has h, or (h, c), each
(layers * directions, N, H); where layers differ in width, that array becomes a list of one (directions, N, H) each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_layer(state: Sequence[NDArray], hidden_sizes: Sequence[int]) -> Any:
    n_directions = len(state) // len(hidden_sizes)
    parts = []
    for index in range(len(state[0])):
        arrays = [one[index] for one in state]
        if len(set(hidden_sizes)) == 1:
            parts.append(np.stack(arrays))
        else:
            parts.append([np.stack(arrays[i : i + n_directions]) for i in range(0, len(arrays), n_directions)])
    return parts[0] if len(parts) == 1 else tuple(parts)


def from_layer(state: Any, n_states: int, hidden_sizes: Sequence[int]) -> list[NDArray]:
    parts = (state,) if n_states == 1 else state
    assert len(parts) == n_states
    flat = []
    for part in parts:
        if len(set(hidden_sizes)) == 1:
            assert isinstance(part, np.ndarray)
            flat.append(list(part))
        else:
            assert [one.shape[2] for one in part] == list(hidden_sizes)
            flat.append([array for one in part for array in one])
    return [np.stack(arrays) for arrays in zip(*flat, strict=True)]


def pad(sequences: Sequence[NDArray], n_timesteps: int | None = None, fill: float = 0.0) -> NDArray:
    """(N, T, D) with `fill` past the end of each."""
    n_timesteps = max(len(x) for x in sequences) if n_timesteps is None else n_timesteps
    padded = np.full((len(sequences), n_timesteps, sequences[0].shape[1]), fill, dtype=sequences[0].dtype)
    for i, x in enumerate(sequences):
        padded[i, : len(x)] = x
    return padded
