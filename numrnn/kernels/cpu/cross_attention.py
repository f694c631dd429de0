"""Attention of the rows of a decoder over the rows of an encoder, ragged on both sides, in one step and back.

A decoder row reads encoder rows `firsts[n]` to `lasts[n]`. Scores are sums over the columns of the keys, which lie head
after head, each padded with zeros to `key_width`, a multiple of a vector's lanes:

* additive: ``vector . tanh(key + query)``, with one head,
* otherwise ``scale * key . query``.

``weights = softmax(scores)`` over the encoder rows of each head, and the result is ``sum weights * values``, the
columns of head h being h * head_size to (h + 1) * head_size of the values. A row that reads nothing has the result
zero.

===========  =================================  =====================================================================
argument     shape                              meaning
===========  =================================  =====================================================================
keys         (n_source, n_heads * key_width)
values       (n_source, value_pitch)            the pitch is a multiple of the lanes, zero beyond n_heads * head_size
vector       (key_width,)                       for additive attention, zero beyond its units
queries      (n_rows, n_heads * key_width)
attended     (n_rows, value_pitch)              the result
weights      (n_rows, n_heads, longest)         written as far as a row reads
firsts       int64                              of row i of this call in element f0 + i, as are `lasts`
lane         (lanes,)                           scratch
===========  =================================  =====================================================================

Arrays are one-dimensional, of one floating-point type. Rows of `queries`, `attended` and `weights` count from `query0`,
`attended0` and `weight0`.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np

from numrnn.kernels.activations import exp, tanh
from numrnn.kernels.jit import inline, kernel
from numrnn.kernels.simd import fma, lanes, load, load_partial, store, store_partial, zeros_like

__all__ = ["cross_attend", "cross_attend_adjoint"]

ONE = np.float32(1)


@inline
def _sum(vector, lane):
    """Sum of the lanes, in their order."""
    store(lane, 0, vector)
    total = lane[0]
    for i in range(1, len(lane)):
        total += lane[i]
    return total


@kernel
def cross_attend(
    additive, keys, values, value_pitch, vector, firsts, lasts, f0, count, n_heads, key_width, head_size, scale,
    queries, query0, attended, attended0, weights, weight0, longest, lane,
):  # fmt: skip
    """Attend with `count` rows."""
    n_lanes = lanes(keys)
    zero = zeros_like(load(lane, 0))
    key_pitch = n_heads * key_width
    for i in range(count):
        first, n_read = firsts[f0 + i], lasts[f0 + i] - firsts[f0 + i]
        out = (attended0 + i) * value_pitch
        for j in range(0, value_pitch, n_lanes):
            store(attended, out + j, zero)
        if n_read == 0:
            continue
        for head in range(n_heads):
            query = (query0 + i) * key_pitch + head * key_width
            mine = ((weight0 + i) * n_heads + head) * longest
            largest = -np.inf
            for row in range(n_read):
                key = (first + row) * key_pitch + head * key_width
                total = zero
                if additive:
                    for j in range(0, key_width, n_lanes):
                        total = fma(tanh(load(keys, key + j) + load(queries, query + j)), load(vector, j), total)
                else:
                    for j in range(0, key_width, n_lanes):
                        total = fma(load(keys, key + j), load(queries, query + j), total)
                score = _sum(total, lane) * scale
                weights[mine + row] = score
                # The comparison keeps NaN out of `largest`; it comes back with the score itself.
                if score > largest:
                    largest = score
            shift = lane.dtype.type(largest)
            denominator = 0.0
            for row in range(0, n_read, n_lanes):
                part = min(n_lanes, n_read - row)
                store_partial(weights, mine + row, part, exp(load_partial(weights, mine + row, part) - shift))
                for k in range(row, row + part):
                    denominator += np.float64(weights[mine + k])
            factor = lane.dtype.type(1.0 / denominator)
            for row in range(n_read):
                weights[mine + row] *= factor
            column = head * head_size
            for j in range(0, head_size, n_lanes):
                width = min(n_lanes, head_size - j)
                total = zero
                if width == n_lanes:
                    for row in range(n_read):
                        value = load(values, (first + row) * value_pitch + column + j)
                        total = fma(value, weights[mine + row], total)
                    store(attended, out + column + j, total)
                else:
                    for row in range(n_read):
                        value = load_partial(values, (first + row) * value_pitch + column + j, width)
                        total = fma(value, weights[mine + row], total)
                    store_partial(attended, out + column + j, width, total)


@kernel
def cross_attend_adjoint(
    additive, keys, values, value_pitch, vector, firsts, lasts, f0, count, n_heads, key_width, head_size, scale,
    queries, query0, d_attended, attended0, weights, weight0, longest, d_keys, d_values, d_vectors, d_queries,
    d_scores, lane,
):  # fmt: skip
    """From the gradient of `attended` to those of what was read.

    Adds to d_keys and d_values, of the shapes of keys and values, and to row f0 + i of d_vectors (n_sequences,
    key_width) for row i of the call; writes d_queries, of the shape of queries. d_scores (longest,) is scratch.
    """
    n_lanes = lanes(keys)
    zero = zeros_like(load(lane, 0))
    key_pitch = n_heads * key_width
    for i in range(count):
        first, n_read = firsts[f0 + i], lasts[f0 + i] - firsts[f0 + i]
        out = (attended0 + i) * value_pitch
        for head in range(n_heads):
            query = (query0 + i) * key_pitch + head * key_width
            mine = ((weight0 + i) * n_heads + head) * longest
            column = head * head_size
            mean = 0.0
            for row in range(n_read):
                source = (first + row) * value_pitch + column
                total = zero
                weight = weights[mine + row]
                for j in range(0, head_size, n_lanes):
                    width = min(n_lanes, head_size - j)
                    if width == n_lanes:
                        d = load(d_attended, out + column + j)
                        total = fma(load(values, source + j), d, total)
                        store(d_values, source + j, fma(d, weight, load(d_values, source + j)))
                    else:
                        d = load_partial(d_attended, out + column + j, width)
                        total = fma(load_partial(values, source + j, width), d, total)
                        before = load_partial(d_values, source + j, width)
                        store_partial(d_values, source + j, width, fma(d, weight, before))
                d_weight = _sum(total, lane)
                d_scores[row] = d_weight
                mean += np.float64(weight) * np.float64(d_weight)
            for j in range(0, key_width, n_lanes):
                store(d_queries, query + j, zero)
            for row in range(n_read):
                key = (first + row) * key_pitch + head * key_width
                d_score = weights[mine + row] * lane.dtype.type(np.float64(d_scores[row]) - mean) * scale
                if additive:
                    own = (f0 + i) * key_width
                    for j in range(0, key_width, n_lanes):
                        u = tanh(load(keys, key + j) + load(queries, query + j))
                        store(d_vectors, own + j, fma(u, d_score, load(d_vectors, own + j)))
                        d = load(vector, j) * d_score * fma(-u, u, ONE)
                        store(d_keys, key + j, load(d_keys, key + j) + d)
                        store(d_queries, query + j, load(d_queries, query + j) + d)
                else:
                    for j in range(0, key_width, n_lanes):
                        k, q = load(keys, key + j), load(queries, query + j)
                        store(d_keys, key + j, fma(q, d_score, load(d_keys, key + j)))
                        store(d_queries, query + j, fma(k, d_score, load(d_queries, query + j)))
