"""From the outputs of the top layer over time to one vector per sequence, and back.

"last" is the output at the last time step of each direction, for the reverse one the first. A sequence without a time
step pools to its initial hidden state ("last") or to zeros ("mean", "max").
"""

from __future__ import annotations

import numpy as np

from oracle.cells import Array
from oracle.recurrent import StackPass, suffixes


def pool(pass_: StackPass, pooling: str) -> Array:
    """Features of shape (N, H * directions)."""
    if pooling == "last":
        n_directions = len(suffixes(pass_.parameters)[0])
        features = np.concatenate([after[0] for after in pass_.state[-n_directions:]], axis=1)
        for i, y in enumerate(pass_.outputs):
            if len(y):
                size = y.shape[1] // n_directions
                features[i] = np.concatenate([y[-1, :size], y[0, size:]])
        return features
    features = np.zeros((len(pass_.outputs), pass_.outputs[0].shape[1]))
    for i, y in enumerate(pass_.outputs):
        if len(y):
            features[i] = y.mean(axis=0) if pooling == "mean" else y.max(axis=0)
    return features


def pool_backward(pass_: StackPass, pooling: str, d_features: Array) -> tuple[list[Array], list[Array]]:
    """Gradients of the outputs and of the final state, as `recurrent.backward` takes them."""
    d_outputs = [np.zeros_like(y) for y in pass_.outputs]
    d_state = [np.zeros_like(after) for after in pass_.state]
    if pooling == "last":
        n_directions = len(suffixes(pass_.parameters)[0])
        size = d_features.shape[1] // n_directions
        for direction in range(n_directions):
            columns = slice(direction * size, (direction + 1) * size)
            for i, d_y in enumerate(d_outputs):
                if len(d_y):
                    d_y[-1 if direction == 0 else 0, columns] += d_features[i, columns]
                else:
                    d_state[len(d_state) - n_directions + direction][0, i] += d_features[i, columns]
        return d_outputs, d_state
    for i, y in enumerate(pass_.outputs):
        for column in range(y.shape[1] if len(y) else 0):
            if pooling == "mean":
                d_outputs[i][:, column] += d_features[i, column] / len(y)
            else:
                d_outputs[i][y[:, column].argmax(), column] += d_features[i, column]
    return d_outputs, d_state
