"""Networks from symbols to the logits of the next symbol: reading, judging and drawing symbols one after the other.

A draw is inversion of the distribution function: one uniform number decides, so that the same numbers give the same
text whatever else the program draws.
"""

# mypy: disable-error-code="no-untyped-def, misc, operator"
from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

from numrnn.kernels.activations import exp
from numrnn.kernels.cpu.streaming import STREAMING
from numrnn.kernels.jit import kernel, specialize
from numrnn.kernels.simd import lanes, load, load_partial, store, store_partial, where_positive, zeros_like

__all__ = ["SYMBOLS", "choose"]

step: Any = None

# Below, exponentials are zero: nothing that cannot be must ever be drawn.
_LOWEST = 708.0


@kernel
def _exponentials(logits, largest, temperature, shares):
    """shares[i] = exp((logits[i] - largest) / temperature); returns their sum, in the order of the ids."""
    n_ids, n_lanes = len(logits), lanes(shares)
    whole = n_ids - n_ids % n_lanes
    for i in range(0, whole, n_lanes):
        x = (load(logits, i) - largest) / temperature
        store(shares, i, where_positive(x + _LOWEST, exp(x), zeros_like(x)))
    if whole < n_ids:
        x = (load_partial(logits, whole, n_ids - whole) - largest) / temperature
        store_partial(shares, whole, n_ids - whole, where_positive(x + _LOWEST, exp(x), zeros_like(x)))
    total = 0.0
    for i in range(n_ids):
        total += shares[i]
    return total


@kernel
def _sift_down(logits, heap, root, size):
    """Restore the order of a heap whose root may be out of place: the largest logit on top, of equals the lowest id."""
    while True:
        child = 2 * root + 1
        if child >= size:
            return
        if child + 1 < size:
            left, right = heap[child], heap[child + 1]
            if logits[right] > logits[left] or (logits[right] == logits[left] and right < left):
                child += 1
        above, below = heap[root], heap[child]
        if logits[above] > logits[below] or (logits[above] == logits[below] and above < below):
            return
        heap[root], heap[child] = below, above
        root = child


@kernel
def choose(logits, temperature, top_k, top_p, uniform, heap, shares):
    """An id, from the logits of all: drawn with probability proportional to exp(logit / temperature).

    Of all ids only the `top_k` most probable, and of those only the fewest that together have the share `top_p` of the
    probability (Holtzman et al. 2020), can be drawn. At temperature 0 the most probable one is. uniform: in [0, 1).
    heap: int64 (n_ids,), shares: float64 (n_ids,), scratch. logits: float64.
    """
    n_ids = len(logits)
    best = 0
    for i in range(1, n_ids):
        if logits[i] > logits[best]:
            best = i
    if temperature == 0:
        return best
    largest = logits[best]
    total = _exponentials(logits, largest, temperature, shares)
    if top_k >= n_ids and top_p >= 1:
        wanted = uniform * total
        reached = 0.0
        for i in range(n_ids):
            reached += shares[i]
            if wanted < reached:
                return i
        return best
    for i in range(n_ids):
        heap[i] = i
    for root in range(n_ids // 2 - 1, -1, -1):
        _sift_down(logits, heap, root, n_ids)
    # The largest go to the end of the heap, one after the other.
    size = n_ids
    mass = 0.0
    while n_ids - size < top_k and size > 0:
        top = heap[0]
        size -= 1
        heap[0] = heap[size]
        heap[size] = top
        _sift_down(logits, heap, 0, size)
        mass += shares[top]
        if top_k >= n_ids and mass >= top_p * total:
            break
    if top_k < n_ids:
        # The share is one of the probability that is left.
        total = mass
    taken = 0.0
    last = n_ids
    while last > size and taken < top_p * total:
        last -= 1
        taken += shares[heap[last]]
    wanted = uniform * taken
    reached = 0.0
    for place in range(n_ids - 1, last - 1, -1):
        reached += shares[heap[place]]
        if wanted < reached:
            return heap[place]
    return best


def _generate(parameters, state, before, temperature, top_k, top_p, uniforms, ids, logits, heap, shares, x):
    """Read the id `before`, draw one, read it, and so on: as many as `ids` has.

    parameters, state: as for `streaming`, of a network from ids to logits. uniforms: float64 (n,). ids: int64 (n,),
    written. logits, shares: float64 (n_ids,), heap: int64 (n_ids,), x: float64 (1,), scratch.
    """
    x[0] = before
    for t in range(len(ids)):
        step(parameters, state, x, logits)
        ids[t] = choose(logits, temperature, top_k, top_p, uniforms[t], heap, shares)
        x[0] = ids[t]


def _log_likelihoods(parameters, state, ids, logits, shares, x, log_likelihoods):
    """Write the logarithm of the probability of every id but the first, given those before it.

    parameters, state, logits, shares, x: as for `_generate`. ids: int64 (n,), log_likelihoods: float64 (n - 1,).
    """
    n_ids = len(logits)
    for t in range(len(ids) - 1):
        x[0] = ids[t]
        step(parameters, state, x, logits)
        largest = logits[0]
        for i in range(1, n_ids):
            largest = max(largest, logits[i])
        total = _exponentials(logits, largest, 1.0, shares)
        log_likelihoods[t] = logits[ids[t + 1]] - largest - math.log(total)


def _read(parameters, state, ids, logits, x):
    """Read ids (int64): `state` and `logits` are afterwards those of the last of them."""
    for t in range(len(ids)):
        x[0] = ids[t]
        step(parameters, state, x, logits)


def _compile(cell: str, one_step: Any) -> SimpleNamespace:
    return SimpleNamespace(
        generate=specialize(_generate, f"generate_{cell}", step=one_step),
        log_likelihoods=specialize(_log_likelihoods, f"log_likelihoods_{cell}", step=one_step),
        read=specialize(_read, f"read_{cell}", step=one_step),
    )


# The functions for networks of each cell, by the cell's name. Compilation happens when one is first called.
SYMBOLS = {cell: _compile(cell, made.step) for cell, made in STREAMING.items()}
