"""Losses as definitions: the value of each row or element, and its derivative with respect to the output."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from oracle.cells import Array


def softmax(logits: Array) -> Array:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def cross_entropy(logits: Array, classes: NDArray[np.int64]) -> tuple[Array, Array]:
    """-log softmax(logits)[class] of every row (N,), and y - t of every row (N, K)."""
    top = logits.max(axis=1)
    log_sum = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    rows = np.arange(len(logits))
    one_hot = np.zeros(logits.shape)
    one_hot[rows, classes] = 1
    return log_sum - logits[rows, classes], softmax(logits) - one_hot


def squared_error(outputs: Array, targets: Array) -> tuple[Array, Array]:
    """(output - target)^2 / 2 of every element."""
    error = outputs - targets
    return error**2 / 2, error


def absolute_error(outputs: Array, targets: Array) -> tuple[Array, Array]:
    """|output - target| of every element; the derivative at 0 is 0."""
    error = outputs - targets
    return np.abs(error), np.sign(error)


def huber(outputs: Array, targets: Array, delta: float = 1.0) -> tuple[Array, Array]:
    """Squared error / 2 within delta of the target, linear outside (Huber 1964)."""
    error = outputs - targets
    near = np.abs(error) <= delta
    return np.where(near, error**2 / 2, delta * (np.abs(error) - delta / 2)), np.clip(error, -delta, delta)


def weighted_mean(values: Array, derivatives: Array, weights: Array | None = None) -> tuple[float, Array]:
    """sum(w * loss) / sum(w) over rows, where the loss of a row is the mean of its elements; and its gradient."""
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    share = weights / weights.sum()
    if values.ndim == 1:
        return float(share @ values), share[:, None] * derivatives
    return float(share @ values.mean(axis=1)), share[:, None] * derivatives / values.shape[1]
