"""A conditional random field by its definition: every sequence of tags is looked at."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from oracle.cells import Array


def path_score(logits: Array, tags: NDArray[np.int64], transitions: Array, start: Array, end: Array) -> float:
    score = start[tags[0]] + end[tags[-1]]
    for t, tag in enumerate(tags):
        score += logits[t, tag]
        if t > 0:
            score += transitions[tags[t - 1], tag]
    return float(score)


def all_paths(logits: Array, transitions: Array, start: Array, end: Array) -> tuple[list[tuple[int, ...]], Array]:
    """Every sequence of tags, and its probability's logarithm."""
    n_steps, n_tags = logits.shape
    paths = list(product(range(n_tags), repeat=n_steps))
    scores = np.array([path_score(logits, path, transitions, start, end) for path in paths])
    top = scores.max()
    return paths, scores - top - np.log(np.exp(scores - top).sum())


def negative_log_likelihood(logits: Array, tags, transitions: Array, start: Array, end: Array) -> float:
    paths, log_probabilities = all_paths(logits, transitions, start, end)
    return -float(log_probabilities[paths.index(tuple(tags))])


def marginals(logits: Array, transitions: Array, start: Array, end: Array) -> Array:
    paths, log_probabilities = all_paths(logits, transitions, start, end)
    result = np.zeros(logits.shape)
    for path, log_probability in zip(paths, log_probabilities, strict=True):
        for t, tag in enumerate(path):
            result[t, tag] += np.exp(log_probability)
    return result


def expected_transitions(logits: Array, transitions: Array, start: Array, end: Array) -> Array:
    """Expected number of transitions from the row's tag to the column's."""
    paths, log_probabilities = all_paths(logits, transitions, start, end)
    result = np.zeros(transitions.shape)
    for path, log_probability in zip(paths, log_probabilities, strict=True):
        for before, after in pairwise(path):
            result[before, after] += np.exp(log_probability)
    return result


def best_path(logits: Array, transitions: Array, start: Array, end: Array) -> list[int]:
    """Of equally good paths the one whose last tag is the lowest, then the one before it, and so on."""
    paths = list(product(range(logits.shape[1]), repeat=len(logits)))
    scores = [path_score(logits, path, transitions, start, end) for path in paths]
    best = max(scores)
    return list(min((path for path, score in zip(paths, scores, strict=True) if score == best), key=lambda p: p[::-1]))


def log_forward(logits: Array, transitions: Array, start: Array, end: Array) -> float:
    """log Z by the forward recursion in logarithms, for lengths at which paths cannot be listed."""
    alpha = start + logits[0]
    for row in logits[1:]:
        alpha = row + np.logaddexp.reduce(alpha[:, None] + transitions, axis=0)
    return float(np.logaddexp.reduce(alpha + end))
