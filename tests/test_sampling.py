"""Draws from a distribution of symbols: against a plain reference, and by counting."""

from __future__ import annotations

import numpy as np
import pytest

from numrnn.kernels.cpu.sampling import choose

rng = np.random.default_rng(0)


def reference(logits, temperature, top_k, top_p):
    """Probability of each id, by sorting."""
    order = np.lexsort((np.arange(len(logits)), -logits))
    if temperature == 0:
        return np.eye(len(logits))[order[0]], order
    p = np.exp((logits - logits.max()) / temperature)
    kept = order[:top_k]
    share = np.cumsum(p[kept]) / p[kept].sum()
    kept = kept[: np.searchsorted(share, top_p * (1 - 1e-12)) + 1]
    probabilities = np.zeros_like(p)
    probabilities[kept] = p[kept] / p[kept].sum()
    return probabilities, order


@pytest.mark.parametrize("n_ids", [1, 2, 7, 65, 300])
@pytest.mark.parametrize("temperature", [0, 0.3, 1.0, 5.0])
@pytest.mark.parametrize(("top_k", "top_p"), [(10**9, 1.0), (1, 1.0), (3, 1.0), (10**9, 0.6), (20, 0.5), (10**9, 1e-9)])
def test_draws_invert_the_distribution_function(n_ids, temperature, top_k, top_p):
    logits = rng.normal(size=n_ids) * 3
    logits[rng.integers(0, n_ids, n_ids // 4)] = logits[0]  # equal ones
    probabilities, order = reference(logits, float(temperature), top_k, top_p)
    everything = top_k >= n_ids and top_p >= 1 and temperature > 0
    ranks = np.arange(n_ids) if everything else order
    borders = np.cumsum(probabilities[ranks])
    heap, shares = np.zeros(n_ids, dtype=np.int64), np.empty(n_ids)
    for uniform in rng.random(50):
        if np.abs(borders - uniform).min() < 1e-9:
            continue
        expected = ranks[np.searchsorted(borders, uniform, side="right")]
        assert choose(logits, float(temperature), top_k, top_p, uniform, heap, shares) == expected


def test_extreme_logits():
    heap, shares = np.zeros(3, dtype=np.int64), np.empty(3)
    assert choose(np.array([-1e300, 0.0, 1e300]), 1.0, 3, 1.0, 0.999999, heap, shares) == 2
    assert choose(np.array([0.0, 0.0, -np.inf]), 1.0, 3, 0.9, 0.9999, heap, shares) == 1
    # What cannot be is not drawn by the smallest number either.
    assert choose(np.array([-1e30, 0.0, 1.0]), 1.0, 3, 1.0, 0.0, heap, shares) == 1
    # The last number below one.
    assert choose(np.zeros(3), 1.0, 3, 1.0, np.nextafter(1.0, 0.0), heap, shares) == 2
