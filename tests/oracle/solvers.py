"""Solvers as the papers and PyTorch's documentation write them: a loop over given gradients.

Each takes the initial parameters and the gradients g_1, g_2, ..., and returns the parameters after every step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from oracle.cells import Array


def sgd(
    w: Array, gradients: Sequence[Array], learning_rate: float, momentum: float = 0.0, nesterov: bool = False
) -> list[Array]:
    """v <- mu v - lr g; w <- w + v, or with Nesterov's look-ahead w <- w + mu v - lr g (Sutskever et al. 2013)."""
    w, velocity, path = w.copy(), np.zeros_like(w), []
    for g in gradients:
        velocity = momentum * velocity - learning_rate * g
        w = w + (momentum * velocity - learning_rate * g if nesterov else velocity)
        path.append(w)
    return path


def adam(
    w: Array,
    gradients: Sequence[Array],
    learning_rate: float,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
) -> list[Array]:
    """Kingma and Ba (2015), algorithm 1; `weight_decay` decoupled as Loshchilov and Hutter (2019) do (AdamW)."""
    w, m, v, path = w.copy(), np.zeros_like(w), np.zeros_like(w), []
    for t, g in enumerate(gradients, start=1):
        w = w - learning_rate * weight_decay * w
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        m_hat, v_hat = m / (1 - beta_1**t), v / (1 - beta_2**t)
        w = w - learning_rate * m_hat / (np.sqrt(v_hat) + epsilon)
        path.append(w)
    return path


def rmsprop(
    w: Array, gradients: Sequence[Array], learning_rate: float, decay: float = 0.99, epsilon: float = 1e-8
) -> list[Array]:
    """Hinton's lecture 6e (2012): divide by a running root mean square."""
    w, v, path = w.copy(), np.zeros_like(w), []
    for g in gradients:
        v = decay * v + (1 - decay) * g**2
        w = w - learning_rate * g / (np.sqrt(v) + epsilon)
        path.append(w)
    return path


def clip_by_global_norm(gradient: Array, max_norm: float) -> Array:
    """g * min(1, max_norm / |g|) (Pascanu, Mikolov and Bengio 2013)."""
    norm = np.sqrt((gradient**2).sum())
    return gradient * min(1.0, max_norm / norm) if norm > 0 else gradient
