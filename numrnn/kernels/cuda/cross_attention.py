"""Attention of a decoder's rows over an encoder's rows, on the device, around the products with its weights.

The equations are those of `numrnn.kernels.cpu.cross_attention`; nothing is padded here. Rows of the encoder lie one
sequence after the other: those of sequence i are ``firsts[i]`` to ``firsts[i] + counts[i]``. Rows of the decoder are
packed: row ``offsets[t] + n`` is step t of the sequence at position n, whose number is ``order[n]``; ``owner`` has the
number of the sequence of every row.

===========  =================================  =====================================================================
argument     shape                              meaning
===========  =================================  =====================================================================
keys         (n_source, n_heads * key_width)
values       (n_source, n_heads * head_size)
vector       flat                               for additive attention, `key_width` elements from `vector0` on
queries      (n_rows, n_heads * key_width)
attended     (n_rows, n_heads * head_size)      the result
weights      (n_rows, n_heads, longest)         written as far as a row reads
===========  =================================  =====================================================================

On the way there a block works on one head of a row. On the way back it works on one head of a sequence, through some
steps from the last to the first: nobody else adds to the gradients of the sequence's keys and values, so that the order
of every sum depends on nothing but the sizes.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import math

from numba import cuda

from numrnn.kernels.cuda.grids import (
    SIMULATED,
    THREADS,
    block_grid,
    block_largest,
    block_sum,
    device_function,
    kernel,
)

__all__ = ["cross_attend", "cross_attend_adjoint"]

# Threads that share a row of the encoder, and how many rows a block reads at a time.
_LANES = 2 if SIMULATED else 32
_LINES = THREADS // _LANES


@device_function
def _line_sum(value, lane, scratch):
    """The sum over the threads of a line, for each of them; all threads of the block have to come."""
    me = cuda.threadIdx.x
    scratch[me] = value
    cuda.syncthreads()
    half = _LANES // 2
    while half > 0:
        if lane < half:
            scratch[me] += scratch[me + half]
        cuda.syncthreads()
        half //= 2
    total = scratch[me - lane]
    cuda.syncthreads()
    return total


@kernel
def _attend(
    additive, keys, values, vector, vector0, firsts, counts, owner, row0, n_rows, n_heads, key_width, head_size, scale,
    queries, attended, weights, longest,
):  # fmt: skip
    scratch = cuda.shared.array(THREADS, keys.dtype)
    me = cuda.threadIdx.x
    line, lane = me // _LANES, me % _LANES
    one = keys.dtype.type(1)
    for job in range(cuda.blockIdx.x, n_rows * n_heads, cuda.gridDim.x):
        row, head = row0 + job // n_heads, job % n_heads
        source, n_read = firsts[owner[row]], counts[owner[row]]
        query = (row * n_heads + head) * key_width
        mine = (row * n_heads + head) * longest
        # Every thread goes through the same number of rounds, so that all meet at the same barriers.
        for begin in range(0, n_read, _LINES):
            at = begin + line
            total = keys.dtype.type(0)
            if at < n_read:
                key = ((source + at) * n_heads + head) * key_width
                if additive:
                    for j in range(lane, key_width, _LANES):
                        total += math.tanh(keys[key + j] + queries[query + j]) * vector[vector0 + j]
                else:
                    for j in range(lane, key_width, _LANES):
                        total += keys[key + j] * queries[query + j]
            total = _line_sum(total, lane, scratch)
            if lane == 0 and at < n_read:
                weights[mine + at] = total * scale
        cuda.syncthreads()
        largest = keys.dtype.type(-math.inf)
        for at in range(me, n_read, THREADS):
            score = weights[mine + at]
            if not score <= largest:
                largest = score
        largest = block_largest(largest, scratch)
        total = keys.dtype.type(0)
        for at in range(me, n_read, THREADS):
            e = math.exp(weights[mine + at] - largest)
            weights[mine + at] = e
            total += e
        total = block_sum(total, scratch)
        # Where nothing is read there is nothing to divide.
        factor = one / total if n_read > 0 else one
        for at in range(me, n_read, THREADS):
            weights[mine + at] *= factor
        cuda.syncthreads()
        for i in range(me, head_size, THREADS):
            total = keys.dtype.type(0)
            for at in range(n_read):
                total += weights[mine + at] * values[((source + at) * n_heads + head) * head_size + i]
            attended[(row * n_heads + head) * head_size + i] = total


def cross_attend(
    queue, additive, keys, values, vector, vector0, firsts, counts, owner, row0, n_rows, n_heads, key_width, head_size,
    scale, queries, attended, weights, longest,
):  # fmt: skip
    """Attend with rows `row0` to ``row0 + n_rows``."""
    if n_rows:
        _attend[*block_grid(n_rows * n_heads), queue](
            additive, keys, values, vector, vector0, firsts, counts, owner, row0, n_rows, n_heads, key_width,
            head_size, scale, queries, attended, weights, longest,
        )  # fmt: skip


@kernel
def _attend_adjoint(
    additive, keys, values, vector, vector0, firsts, counts, order, offsets, step0, n_steps, n_sequences, n_heads,
    key_width, head_size, scale, queries, d_attended, weights, longest, d_scores, d_keys, d_values, d_vectors,
    d_queries, adds,
):  # fmt: skip
    scratch = cuda.shared.array(THREADS, keys.dtype)
    me = cuda.threadIdx.x
    line, lane = me // _LANES, me % _LANES
    one = keys.dtype.type(1)
    for job in range(cuda.blockIdx.x, n_sequences * n_heads, cuda.gridDim.x):
        n, head = job // n_heads, job % n_heads
        source, n_read = firsts[order[n]], counts[order[n]]
        own = job * longest
        for back in range(n_steps):
            step = step0 + n_steps - 1 - back
            if n >= offsets[step + 1] - offsets[step]:
                continue
            place = (offsets[step] + n) * n_heads + head
            mine, query, out = place * longest, place * key_width, place * head_size
            # The weights' gradients, and those of the values, of which an element always belongs to the same thread.
            for begin in range(0, n_read, _LINES):
                at = begin + line
                total = keys.dtype.type(0)
                if at < n_read:
                    value = ((source + at) * n_heads + head) * head_size
                    weight = weights[mine + at]
                    for i in range(lane, head_size, _LANES):
                        d = d_attended[out + i]
                        total += values[value + i] * d
                        d_values[value + i] += weight * d
                total = _line_sum(total, lane, scratch)
                if lane == 0 and at < n_read:
                    d_scores[own + at] = total
            cuda.syncthreads()
            total = keys.dtype.type(0)
            for at in range(me, n_read, THREADS):
                total += weights[mine + at] * d_scores[own + at]
            mean = block_sum(total, scratch)
            for j in range(me, key_width, THREADS):
                total = keys.dtype.type(0)
                d_vector = keys.dtype.type(0)
                q = queries[query + j]
                for at in range(n_read):
                    key = ((source + at) * n_heads + head) * key_width + j
                    d_score = weights[mine + at] * (d_scores[own + at] - mean) * scale
                    if additive:
                        u = math.tanh(keys[key] + q)
                        d_vector += u * d_score
                        d = vector[vector0 + j] * d_score * (one - u * u)
                        d_keys[key] += d
                        total += d
                    else:
                        d_keys[key] += q * d_score
                        total += keys[key] * d_score
                if additive:
                    d_vectors[n * key_width + j] += d_vector
                if adds:
                    d_queries[query + j] += total
                else:
                    d_queries[query + j] = total
            # The step before writes d_scores again.
            cuda.syncthreads()


def cross_attend_adjoint(
    queue, additive, keys, values, vector, vector0, firsts, counts, order, offsets, step0, n_steps, n_sequences,
    n_heads, key_width, head_size, scale, queries, d_attended, weights, longest, d_scores, d_keys, d_values, d_vectors,
    d_queries, adds,
):  # fmt: skip
    """From the gradient of `attended` to those of what was read, for the rows of steps `step0` to ``step0 + n_steps``.

    ===========  =================================  =================================================================
    argument     shape                              meaning
    ===========  =================================  =================================================================
    n_sequences  int                                that have such a step
    d_scores     (n_sequences, n_heads, longest)    scratch
    d_keys, ...  as keys and values                 added to
    d_vectors    (n_sequences, key_width)           by position: added to, for additive attention, which has one head
    d_queries    as queries                         written, or added to if `adds`
    ===========  =================================  =================================================================
    """
    if n_sequences and n_steps:
        _attend_adjoint[*block_grid(n_sequences * n_heads), queue](
            additive, keys, values, vector, vector0, firsts, counts, order, offsets, step0, n_steps, n_sequences,
            n_heads, key_width, head_size, scale, queries, d_attended, weights, longest, d_scores, d_keys, d_values,
            d_vectors, d_queries, adds,
        )  # fmt: skip


def examples():
    """Kernels with the types of their arguments: what a check without a device compiles."""
    for f in ("f4", "f8"):
        v, i = f"{f}[::1]", "i8[::1]"
        read = ("b1", v, v, v, "i8", i, i, i)
        forms = ("i8", "i8", "i8", f)
        yield f"attend {f}", _attend, (*read, "i8", "i8", *forms, v, v, v, "i8")
        back = (v, v, v, "i8", *5 * (v,), "b1")
        yield f"attend back {f}", _attend_adjoint, (*read, i, "i8", "i8", "i8", *forms, *back)
