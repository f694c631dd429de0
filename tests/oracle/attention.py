"""Additive attention over time by its definition, one sequence at a time."""

from __future__ import annotations

import numpy as np

from oracle.cells import Array


def attention(hidden: Array, weight: Array, bias: Array, vector: Array) -> tuple[Array, Array]:
    """The pooled vector and the weights of the steps of one sequence; zeros if there are none."""
    if not len(hidden):
        return np.zeros(hidden.shape[1]), np.zeros(0)
    scores = np.array([vector @ np.tanh(weight @ h + bias) for h in hidden])
    weights = np.exp(scores - scores.max())
    weights /= weights.sum()
    return weights @ hidden, weights


def attention_backward(hidden: Array, weight: Array, bias: Array, vector: Array, d_pooled: Array):
    """Gradients of hidden, weight, bias and vector."""
    d_hidden, d_weight = np.zeros(hidden.shape), np.zeros(weight.shape)
    d_bias, d_vector = np.zeros(bias.shape), np.zeros(vector.shape)
    _, weights = attention(hidden, weight, bias, vector)
    d_weights = hidden @ d_pooled
    # The Jacobian of the softmax.
    d_scores = (np.diag(weights) - np.outer(weights, weights)) @ d_weights
    for t, h in enumerate(hidden):
        u = np.tanh(weight @ h + bias)
        d_vector += d_scores[t] * u
        d_before = d_scores[t] * vector * (1 - u**2)
        d_weight += np.outer(d_before, h)
        d_bias += d_before
        d_hidden[t] = weights[t] * d_pooled + weight.T @ d_before
    return d_hidden, d_weight, d_bias, d_vector
